"""The figures of a run as an SVG chart: for each case, wall and processor time of every client."""

from html import escape

from clients import OURS

LABELS, PLOT, VALUES = 180, 560, 150
ROW, HEADER, GAP, TOP = 22, 26, 12, 74
BAR = 8
STYLE = """
  text { font: 12px sans-serif; fill: #24292f } .case { font-weight: bold } .note { fill: #57606a }
  .wall { fill: #a8c7e8 } .cpu { fill: #2f6db3 } .ours .wall { fill: #f3c98b } .ours .cpu { fill: #c8700c }
  line { stroke: #24292f; stroke-width: 1 }
"""


def draw(figures):
    """The text of an SVG image. `figures` are rows as report.figures makes them. Every case has a scale of its own,
    from 0 to its slowest client; lines show the lowest and the highest run."""
    cases = {}
    for row in figures:
        cases.setdefault(row["case"], []).append(row)
    parts, y = [], TOP
    for case, rows in cases.items():
        most = max(max(row["wall"]["high"], row["cpu"]["high"]) for row in rows)
        parts.append(f'<text class="case" x="8" y="{y + 16}">{escape(case)}</text>')
        y += HEADER
        for row in rows:
            parts.append(client(row, y, PLOT / most if most else 0))
            y += ROW
        y += GAP
    width = LABELS + PLOT + VALUES
    legend = ('<rect class="wall" x="8" y="32" width="12" height="8"/><text x="26" y="40">wall</text>'
              '<rect class="cpu" x="72" y="32" width="12" height="8"/><text x="90" y="40">processor time of the client</text>'
              '<g class="ours"><rect class="wall" x="272" y="32" width="12" height="8"/>'
              f'<rect class="cpu" x="286" y="32" width="12" height="8"/></g><text x="304" y="40">{OURS}</text>'
              '<text class="note" x="8" y="60">Medians, with a line from the lowest to the highest run. '
              'The cases have different scales. go is not durable at its end; curl-sha512sum stores nothing.</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}">\n'
            f'<style>{STYLE}</style>\n<rect width="{width}" height="{y}" fill="#ffffff"/>\n'
            f'<text class="case" x="8" y="20">Seconds for 1 GiB of data; shorter is better</text>\n{legend}\n'
            + "\n".join(parts) + "\n</svg>\n")


def client(row, y, scale):
    """Two bars with their spread, and the medians."""
    bars = "".join(bar(kind, row[kind], top, scale) for kind, top in (("wall", y), ("cpu", y + BAR + 1)))
    group = "client ours" if row["client"] == OURS else "client"
    return (f'<g class="{group}"><text x="24" y="{y + 13}">{escape(row["client"])}</text>{bars}'
            f'<text x="{LABELS + PLOT + 12}" y="{y + 13}">{row["wall"]["median"]:.2f} / {row["cpu"]["median"]:.2f}</text></g>')


def bar(kind, value, y, scale):
    middle = y + BAR / 2
    low, high = (LABELS + value[end] * scale for end in ("low", "high"))
    return (f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{value["median"] * scale:.1f}" height="{BAR}"/>'
            f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>')
