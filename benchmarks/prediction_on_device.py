"""Errors of predictions for a new session of a device, beside those of measuring twice.

python benchmarks/prediction_on_device.py [--json] [--cell CELL ...] [--out DIR] [--kept DIR] [--by-rows]
python benchmarks/prediction_on_device.py --lengths

A cell is a device, a base, a phase and an application mode of SmolLM2-135M. Its first session measures the adapters
that the predictor learns from, spread over what they cost, and others, drawn by chance, that it never sees. The
second, in another process and at least ten minutes later (one minute in a `-quick` cell, of about half as many
adapters), measures those others again, and that is what counts: the prediction is compared with it, and so are one
repeated measurement (`retest`: the first session's) and a constant (the mean of the training rows). Where the constant
passes the goal of the error too, `constant_passes` is true and the cell says nothing for the predictor. Overheads are
in points: hundredths of the latency of the base.

`mae_points_relevelled` is the error after 9 to 19 training adapters were measured again in the new session, evenly
spread over it. Coverage of intervals is judged by `decisions.py`.

`--kept DIR` pools sessions that were measured before, of this or an earlier version, and measures nothing unless cells
are named; those of one machine are in `measured/prediction` and `measured/widths`, to be unpacked with `xz -dk`.
`--lengths` needs no device: it simulates one, and compares one predictor of several lengths with one for each.
`--cell` measures cells now, all full ones without `--kept`; `--out` keeps their sessions, and goes on with what is
there.
"""

import argparse
import json
import tempfile
from pathlib import Path

from prediction_cells import CELLS, FULL, SESSIONS, kept, measure, measured
from prediction_rows import LEFT_OUT, lengths_of
from prediction_scores import Sessions, judge


def sessions_in(folder: Path) -> list[Sessions]:
    """Cells of which both sessions are kept."""
    found = []
    for name, cell in CELLS.items():
        first, second = (kept(name, which, folder) for which in SESSIONS)
        if first and second:
            found.append(Sessions(name, cell, first, second))
    if not found:
        raise SystemExit(f"{folder} has no cell of two sessions; unpack its files first: xz -dk {folder}/*.xz")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cell", nargs="+", choices=CELLS, metavar="CELL", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--out", type=Path, help="folder that keeps the sessions that are measured")
    parser.add_argument("--kept", type=Path, help="folder of sessions that were measured before")
    parser.add_argument("--by-rows", action="store_true", help="also errors after 10 to 40 rows; takes minutes a cell")
    parser.add_argument("--lengths", action="store_true", help="only errors at lengths left out, simulated; minutes")
    parser.add_argument("--session", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        measure(*options.session, options.out)
        return
    if options.lengths:
        for case in LEFT_OUT:
            print(json.dumps(lengths_of(case)), flush=True)
        return
    cells = sessions_in(options.kept) if options.kept else []
    with tempfile.TemporaryDirectory() as place:
        folder = options.out or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.cell or ([] if options.kept else FULL):
            fresh = Sessions(f"{name} (measured now)" if options.kept else name, CELLS[name], *measured(name, folder))
            cells.append(fresh)
    rows = [judge(cell, by_rows=options.by_rows) for cell in cells]
    if options.json:
        print(json.dumps({"cells": rows}))
        return
    for row in rows:
        too = ": a constant passes too, so this cell says nothing for the predictor" if row["constant_passes"] else ""
        print(f"{row.pop('cell')}{too}")
        for key, value in row.items():
            print(f"  {key:40} {value}")


if __name__ == "__main__":
    main()
