"""What the clients cost and how they compare, as tables and as JSON."""

import json
import os
from statistics import median

from cases import GIB
from clients import OURS

METRICS = {
    "cpu": lambda sample: sample.cpu,
    "wall": lambda sample: sample.wall,
    "rss": lambda sample: sample.rss,
    "cpu-machine": lambda sample: sample.machine,
}


def ratios(case, runs):
    """One row for each peer and metric: ours divided by the peer's of the same round."""
    ours = runs[OURS]
    for peer, theirs in runs.items():
        if peer == OURS:
            continue
        for metric, value in METRICS.items():
            paired = [value(mine) / value(other) for (mine, _), (other, _) in zip(ours, theirs) if value(other)]
            if paired:
                yield {"case": case, "peer": peer, "metric": metric, **spread(paired), "runs": len(paired)}


def figures(case, runs):
    """One row for each client: seconds per GiB of data, MiB, and counts for the whole copy."""
    scale = GIB / case.moved
    for client, pairs in runs.items():
        samples, counted = [sample for sample, _ in pairs], [counts for _, counts in pairs]
        row = {
            "case": case.name, "client": client,
            "cpu": spread([sample.cpu * scale for sample in samples]),
            "wall": spread([sample.wall * scale for sample in samples]),
            "rss": spread([sample.rss / (1 << 20) for sample in samples]),
            "cpu-machine": spread([sample.machine * scale for sample in samples]),
            "requests": spread([each.requests for each in counted]),
            "data-requests": spread([each.data for each in counted]),
        }
        if counted[0].validations is not None:
            row["validations"] = spread([each.validations for each in counted])
        yield row | {"runs": len(pairs)}


def show_figures(rows):
    print(f"\n{'case':22} {'client':18} {'CPU s/GiB':>18} {'wall s/GiB':>20} {'peak MiB':>20} "
          f"{'machine s/GiB':>20} {'requests':>14} {'of data':>14} {'validations':>12}")
    for row in rows:
        print(f"{row['case']:22} {row['client']:18} {shown(row['cpu']):>18} {shown(row['wall']):>20} "
              f"{shown(row['rss'], 1):>20} {shown(row['cpu-machine']):>20} {brief(row['requests']):>14} "
              f"{brief(row['data-requests']):>14} {validations_of(row):>12}")
    print("(median (low-high); seconds for a GiB of data that is not a hole; requests at the front end or at imageio, those "
          "of them for data, and validations of a token at Keystone, for one copy)")


def show_ratios(rows):
    print(f"\n{'case':22} {'ours / peer':18} {'metric':12} {'median':>7} {'low':>7} {'high':>7} {'runs':>5}")
    for row in rows:
        print(f"{row['case']:22} {row['peer']:18} {row['metric']:12} {row['median']:7.2f} "
              f"{row['low']:7.2f} {row['high']:7.2f} {row['runs']:5}")


def show_own_cost(results):
    """The share of one core that measuring took, in all runs together and in the worst one."""
    samples = [sample for runs in results.values() for pairs in runs.values() for sample, _ in pairs]
    share = sum(sample.own for sample in samples) / sum(sample.wall for sample in samples)
    worst = max(sample.own / sample.wall for sample in samples)
    print(f"\nmeasuring took {share:.2%} of a core, {worst:.2%} in the worst run")


def markdown(ratio_rows, figure_rows):
    """The table of docs/performance.md: a line for each case and peer, ratios first, then what ours costs."""
    yield ("| case | peer | CPU | wall | memory | our CPU s/GiB | our peak MiB | requests (of data), ours / peer's "
           "| validations | runs |")
    yield "| --- " * 10 + "|"
    by_metric = {(row["case"], row["peer"], row["metric"]): row for row in ratio_rows}
    ours = {row["case"]: row for row in figure_rows if row["client"] == OURS}
    for theirs in figure_rows:
        case, peer = theirs["case"], theirs["client"]
        if peer == OURS:
            continue
        mine = ours[case]
        compared = [shown(row) if (row := by_metric.get((case, peer, metric))) else "-"
                    for metric in ("cpu", "wall", "rss")]
        requests, validations = (
            " / ".join(show(row) for row in (mine, theirs)) for show in (requests_of, validations_of))
        cells = [f"`{case}`", f"`{peer}`", *compared, f"{mine['cpu']['median']:.2f}", f"{mine['rss']['median']:.1f}",
                 requests, validations, str(theirs["runs"])]
        yield f"| {' | '.join(cells)} |"


def requests_of(row):
    return f"{brief(row['requests'])} ({brief(row['data-requests'])})"


def validations_of(row):
    return brief(row["validations"]) if "validations" in row else "-"


def write(ratio_rows, figure_rows, path):
    replace(path, json.dumps({"ratios": ratio_rows, "figures": figure_rows}, indent=1) + "\n")


def replace(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


def spread(values):
    return {"median": round(median(values), 4), "low": round(min(values), 4), "high": round(max(values), 4)}


def shown(row, digits=2):
    return f"{row['median']:.{digits}f} ({row['low']:.{digits}f}-{row['high']:.{digits}f})"


def brief(row):
    """Counts are mostly the same in every run."""
    return f"{row['median']:g}" if row["low"] == row["high"] else f"{row['median']:g} ({row['low']}-{row['high']})"
