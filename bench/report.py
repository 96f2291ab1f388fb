"""Ratios of paired runs, as a table and as JSON."""

import json
import os
from statistics import median

from cases import GIB, OURS

METRICS = {
    "cpu": lambda sample: sample.cpu,
    "wall": lambda sample: sample.wall,
    "rss": lambda sample: sample.rss,
    "cpu-machine": lambda sample: sample.machine,
}


def ratios(case, samples):
    """One row for each peer and metric: ours divided by the peer's of the same round."""
    ours = samples[OURS]
    for peer, theirs in samples.items():
        if peer == OURS:
            continue
        for metric, value in METRICS.items():
            paired = [value(mine) / value(other) for mine, other in zip(ours, theirs) if value(other)]
            if paired:
                yield {"case": case, "peer": peer, "metric": metric, "median": round(median(paired), 4),
                       "low": round(min(paired), 4), "high": round(max(paired), 4), "runs": len(paired)}


def show_figures(cases, results):
    print(f"\n{'case':20} {'client':10} {'CPU s/GiB':>22} {'wall s/GiB':>22} {'peak MiB':>20} "
          f"{'machine s/GiB':>22}")
    for case in cases:
        scale = GIB / case.moved
        for client, samples in results[case.name].items():
            columns = (spread([sample.cpu * scale for sample in samples]),
                       spread([sample.wall * scale for sample in samples]),
                       spread([sample.rss / (1 << 20) for sample in samples], 1),
                       spread([sample.machine * scale for sample in samples]))
            print(f"{case.name:20} {client:10} {columns[0]:>22} {columns[1]:>22} {columns[2]:>20} "
                  f"{columns[3]:>22}")
    print("(median (low-high); GiB of data that is not a hole)")


def show_ratios(rows):
    print(f"\n{'case':20} {'ours / peer':12} {'metric':12} {'median':>7} {'low':>7} {'high':>7} {'runs':>5}")
    for row in rows:
        print(f"{row['case']:20} {row['peer']:12} {row['metric']:12} {row['median']:7.2f} "
              f"{row['low']:7.2f} {row['high']:7.2f} {row['runs']:5}")


def write(rows, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as file:
        json.dump({"ratios": rows}, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


def spread(values, digits=2):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
