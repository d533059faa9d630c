"""What the winners of searches gain at equal measured overhead.

python benchmarks/search_equal_latency.py FILE [--json]

FILE is the output of `benchmarks/search_latency.py --json`. The loss of each placement is compared with that of the
winners of the same training and of the largest rank everywhere, interpolated linearly at the placement's own measured
overhead. Beyond the least and the largest of these there is no comparison. Differences are in nats per token, positive
where the winners are better: means over trainings, with 95 % intervals: of Student's t over them, and of the overheads
that trainings share, which were measured once. Between winners that are nearer than the errors of their overheads,
intervals are too narrow.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search_costs import LARGEST, summary

WINNER = "winner"


def main() -> None:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("file", type=Path)
    found.add_argument("--json", action="store_true")
    options = found.parse_args()
    result = json.loads(options.file.read_text())
    rows = compared(result["rows"])
    kept = {name: result[name] for name in ("processor", "versions", "date", "device")}
    print(json.dumps({**kept, "rows": rows}) if options.json else "\n".join(map(line, rows)))


def compared(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Difference of each placement (`cost`) to the winners, for each part and over all parts."""
    named = [{**row, "cost": LARGEST if row["name"] == "rank 16 everywhere" else row["name"]} for row in rows]
    return summary(named, curve=WINNER)


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    part = "all parts" if row["part"] is None else f"{row['part']:.0%}"
    counts = f"{row['compared']} of {row['placements']} compared"
    if row["difference"] is None:
        return f"{row['cost']:28} {part:9}  {counts}"
    lower, middle, upper = row["difference"]
    return f"{row['cost']:28} {part:9} {middle:+.3f} [{lower:+.3f}, {upper:+.3f}]  {counts}"


if __name__ == "__main__":
    main()
