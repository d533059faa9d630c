"""How much of the overhead a choice by hand needs for the loss of a search's winner.

python benchmarks/search_equal_loss.py FILE [FILE ...] [--json]

Each FILE is the output of `benchmarks/search.py --json`. A share is the predicted overhead (upper end) over that of the
largest rank everywhere. Losses of each placement by hand are interpolated linearly between the shares that were judged,
and the placement that reaches the winner's loss with the least overhead counts. `ratio` is the winner's share over its
share; `null` where no placement by hand reaches that loss, with the largest rank everywhere among them. Losses are of
test examples. A ratio is of one training and has no interval.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from search import BY_HAND

# Overhead as a share of the largest rank's, and loss.
Place = tuple[float, float]


def main() -> None:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("files", type=Path, nargs="+")
    found.add_argument("--json", action="store_true")
    options = found.parse_args()
    results = {file.stem: json.loads(file.read_text()) for file in options.files}
    rows = [row for name, result in results.items() for row in compared(name, result)]
    print(json.dumps(rows) if options.json else "\n".join(map(line, rows)))


def compared(name: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each training and each part of the overhead, the winner beside the best choice by hand."""
    trainings = zip(result["seeds"], result["by_seed"], strict=True)
    return [
        {"search": name, "device": result["device"], "seed": seed, **row}
        for seed, rows in trainings
        for row in of_training(rows)
    ]


def of_training(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The winner of each part beside the choice by hand that reaches its loss with the least overhead."""
    places = shares(rows)
    curves = {name: sorted(place for (_, each), place in places.items() if each == name) for name in BY_HAND}
    curves["all linears"].append(next(place for (_, name), place in places.items() if name == "rank 16 everywhere"))
    found = []
    for (part, name), (share, loss) in places.items():
        if name == "winner":
            reached = [(reaches(curve, loss), each) for each, curve in curves.items()]
            needs, by_hand = min(((at, each) for at, each in reached if at is not None), default=(None, None))
            row = {"part": part, "share": share, "loss": loss, "by_hand": by_hand, "needs": needs}
            found.append(row | {"ratio": needs and share / needs})
    return found


def shares(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[float, str], Place]:
    """Overhead as a share of that of the largest rank everywhere, and loss, of each placement in each part."""
    limits = {row["part"]: row["limit_s"] for row in rows}
    (low, low_s), *_, (high, high_s) = sorted(limits.items())
    whole_s = (high_s - low_s) / (high - low)
    base_s = low_s - low * whole_s
    return {(row["part"], row["name"]): ((row["predicted_upper_s"] - base_s) / whole_s, row["loss"]) for row in rows}


def reaches(curve: Sequence[Place], loss: float) -> float | None:
    """The least share at which a line through points has a loss; the first point's if it is lower there."""
    if curve[0][1] <= loss:
        return curve[0][0]
    for (left, above), (right, below) in pairwise(curve):
        if below <= loss < above:
            return left + (right - left) * (above - loss) / (above - below)
    return None


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    needs = f"{row['by_hand']} needs {row['needs']:.2f}" if row["by_hand"] else "no choice by hand reaches it"
    return f"{row['search']} seed {row['seed']}: loss {row['loss']:.3f} at {row['share']:.2f} of the overhead; {needs}"


if __name__ == "__main__":
    main()
