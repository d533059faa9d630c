"""Bad inputs and faults: is every answer clear, and is nothing lost that was saved?

Usage:
    python benchmarks/robustness.py --json > robustness.json
    python benchmarks/robustness.py --seconds 270 --json > first.json
    python benchmarks/robustness.py --seconds 270 --after first.json --json > second.json, and so on, then
    python benchmarks/robustness.py --join first.json second.json ...

A bad input is a call of the command line with a wrong value or a damaged file; its answer is clear if the exit code is
2 and the message names what came. A fault is a kill, a full disk, a read-only folder, a jump of the clock, a dead or
lying worker, a lost device, or a damaged file, while a command runs; afterwards every earlier measurement must be
there, and each result must be the earlier or the new one, complete. Each runs in a process of its own.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from robustness_bench import Bench, Chooser, Found
from robustness_cases import Case, cases
from robustness_faults import inject_all
from robustness_runs import Outcome, copied, import_everything, prepare, run

LISTS: Final = ("inputs", "faults", "lost", "half", "unclear", "crashed", "skipped")


def main() -> None:
    """Prints counts, and the names of all cases and of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="", help="inputs, or one kind of faults: steps, times, disk, ...")
    parser.add_argument("--only", default="", help="Cases whose name has this text.")
    parser.add_argument("--seconds", type=float, default=1e9, help="Begin no further case after so long.")
    parser.add_argument("--after", nargs="+", type=Path, default=[], help="Files with cases that are left out.")
    parser.add_argument("--join", nargs="+", type=Path, help="Files of parts of a run, whose sum is printed.")
    parser.add_argument("--json", action="store_true", help="Print everything, not the counts alone.")
    chosen = parser.parse_args()
    began = time.monotonic()
    if chosen.join:
        found = joined([json.loads(file.read_text()) for file in chosen.join])
    else:
        done = {name for file in chosen.after for name in names(json.loads(file.read_text()))}
        chooser = Chooser(chosen.only, done, began + chosen.seconds)
        found = measured(chosen.part, chooser)
        found["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(found if chosen.json or chosen.join else counts(found), indent=1))


def names(found: Mapping[str, Any]) -> list[str]:
    """Names of all cases."""
    return [*found["inputs"], *found["faults"]]


def measured(part: str, chooser: Chooser) -> dict[str, Any]:
    """Cases and failures of one part."""
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        place.chmod(0o755)
        prepare(place / "work", cache=place / "cache")
        copied(place / "work", place / "prepared")  # files name the folder that they were made in
        found = {name: list[str]() for name in LISTS}
        if part in ("", "inputs"):
            ask(place, [case for case in cases() if chooser.wanted(case.name)], chooser, found)
        if part != "inputs":
            of_faults: Found = inject_all(Bench(place, chooser), part)
            for name in LISTS[1:]:
                found[name] += getattr(of_faults, name)
    return {**counts(found), **found}


def counts(found: Mapping[str, Any]) -> dict[str, int]:
    """Numbers of cases and failures."""
    return {
        "faults_injected": len(found["faults"]),
        "records_lost": len(found["lost"]),
        "half_written": len(found["half"]),
        "bad_inputs": len(found["inputs"]),
        "unclear_errors": len(found["unclear"]),
        "tracebacks": len(found["crashed"]),
    }


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Several parts as one."""
    found = {name: [each for part in parts for each in part[name]] for name in LISTS}
    return {**counts(found), **found, "seconds": round(sum(part["seconds"] for part in parts), 1)}


def ask(place: Path, chosen: list[Case], chooser: Chooser, found: dict[str, list[str]]) -> None:
    """Runs bad inputs, and adds their names and failures to `found`."""
    for case in chosen:
        if chooser.late:
            return
        copied(place / "prepared", place / "work")
        if case.change:
            case.change(place / "work")
        outcome = run(case.words, place / "work", cache=place / "cache")
        found["inputs"].append(case.name)
        said = f"{case.name}: exit {outcome.code}, {outcome.message[-500:]}"
        if outcome.traceback:
            found["crashed"].append(said)
        elif not clear(case, outcome):
            found["unclear"].append(said)


def clear(case: Case, outcome: Outcome) -> bool:
    """True if the exit code is a documented one, and the message names what came."""
    return outcome.code in case.codes and any(each in outcome.message for each in case.shows)


if __name__ == "__main__":
    main()
