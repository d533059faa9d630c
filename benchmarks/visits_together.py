"""Whether visiting ranks of one program right after each other changes what they are said to cost, and what it gains.

python benchmarks/visits_together.py [--json] [--openings 8] [--rounds 24]

A campaign (SmolLM2-135M, decode, ONNX Runtime, five placements with four ranks each), in which every
other round visits all candidates one by one. Both kinds of rounds share their openings, so their difference is fair.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from profiling_models import ORT, placements

from adaptare.devices import connect
from adaptare.profiler import Measurement, profile
from adaptare.profiler.measuring import group_run
from adaptare.profiler.measuring.stopping import Progress

Array = NDArray[np.float64]
TOGETHER = group_run.MOST_TOGETHER


class Alternating:
    """Ends an opening after so many rounds; the first round of each and every other one visit ranks together."""

    openings = None

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    def reason(self, progress: Progress) -> str:
        return ""

    def opening_reason(self, progress: Progress) -> str:
        """Settles how the next round goes."""
        group_run.MOST_TOGETHER = 1 if progress.rounds % 2 else TOGETHER
        return "rounds" if progress.rounds >= self._rounds else ""


def compared(measured: Sequence[Measurement], ranks: int) -> dict[str, Any]:
    """Points by which the ratio to the base, and a rank's to the first rank of its placement, differ; their spreads."""
    first = measured[0]
    openings = np.array([visit.opening for visit in first.visits])
    together = np.array([visit.round for visit in first.visits]) % 2 == first.visits[0].round % 2
    logs = np.log([[visit.median_s for visit in each.visits] for each in measured])
    base = np.log([visit.median_s for visit in first.reference_visits])
    steps = [logs[each] - logs[each - each % ranks] for each in range(len(logs)) if each % ranks]
    found: dict[str, Any] = {}
    for name, rows in (("over_base", logs - base), ("step", np.array(steps))):
        by_kind = [_medians(rows[:, kind], openings[kind]) for kind in (together, ~together)]
        off = 100 * (by_kind[0] - by_kind[1]).mean(axis=0)
        found[f"{name}_points"] = float(off.mean())
        found[f"{name}_standard_error"] = float(off.std(ddof=1) / np.sqrt(len(off)))
        spreads = [_spread(rows[:, kind], openings[kind]) for kind in (together, ~together)]
        found[f"{name}_spread_over_one_by_one"] = spreads[0] / spreads[1]
    return found


def _medians(rows: Array, openings: NDArray[np.int64]) -> Array:
    """Shape (n, n_openings)."""
    return np.stack([np.median(rows[:, openings == each], axis=1) for each in np.unique(openings)], axis=1)


def _spread(rows: Array, openings: NDArray[np.int64]) -> float:
    """Median absolute deviation within openings."""
    own = [rows[:, openings == each] for each in np.unique(openings)]
    return float(np.median(np.abs(np.hstack([each - np.median(each, axis=1, keepdims=True) for each in own]))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--openings", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=24, help="in each opening; even")
    options = parser.parse_args()
    if options.openings < 2 or options.rounds < 2 or options.rounds % 2:
        parser.error("--openings must be at least 2, and --rounds even: half of them go one by one")

    some = placements()
    measured = profile(
        [each for own in some for each in own],
        reference=some[0][0].base,
        device=connect(ORT),
        stop=Alternating(options.rounds),
        seed=0,
        openings=options.openings,
    )
    if failures := [each.failure for each in measured if each.failure]:
        raise SystemExit(f"not measured on {ORT}: {failures[0]}")
    result = compared(measured, len(some[0]))
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:34} {value:.3g}")


if __name__ == "__main__":
    main()
