"""Seconds from a change of the adapter to the first right token, by runtime and length of the context.

python benchmarks/swap_cost.py [--json] [--out FILE] [--device DEVICE ...] [--context 64 1024 4096] [--openings 4]

Keys and values depend on the adapter, so the cache of the context is computed again with the new one: the adapter is
read from a file in the page cache (torch makes it without a file), set, and all tokens are decoded once (`Swap`, of a
prefill). SmolLM2-135M, rank 16 on all linears, swappable; each opening is a fresh process that has run another adapter
before. `--out` keeps the rows, beside those of other devices in the same file.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from adaptare.profiler import Configuration, Workload, open_model, programs_for
from adaptare.profiler.measuring import Session, Swap
from adaptare.workflows.target import target_of

MODEL, RANK = "smollm2-135m", 16
DEVICES = ("torch-cpu:threads=1", "ort-cpu:threads=1", "ort-cpu:int4,threads=1", "llama-cpu:int4,threads=1")


def rows_of(spelling: str, contexts: list[int], openings: int) -> list[dict[str, Any]]:
    """One row for each length of the context."""
    target = target_of(spelling)
    config = Configuration.uniform(open_model(MODEL).shape, RANK)
    info = target.device.info()
    session = Session(target.device, programs=programs_for(info))
    rows = []
    for tokens in contexts:
        workload = Workload(open_model(MODEL).shape, config, phase="prefill", tokens=tokens, **target.weights)
        (found,) = session.measure([workload], reference=workload.base, probes=[Swap(openings=openings)])
        quantity = found.quantities["swap"]
        row: dict[str, Any] = {"device": spelling, "runtime": info.runtime, "context": tokens}
        if quantity.failure:
            rows.append({**row, "failure": quantity.failure})
            continue
        seconds = found.value("swap")
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        rows.append({**row, "swap_s": seconds.middle, "lower": seconds.lower, "upper": seconds.upper, "date": today})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one line for each device."""
    contexts = sorted({row["context"] for row in rows})
    lines = [f"| seconds | {' | '.join(f'{each:,} tokens' for each in contexts)} |", "|---" * (1 + len(contexts)) + "|"]
    for device in dict.fromkeys(row["device"] for row in rows):
        own = {row["context"]: row for row in rows if row["device"] == device}
        cells = [
            "{swap_s:.2f} [{lower:.2f}, {upper:.2f}]".format(**own[each]) if "swap_s" in own.get(each, {}) else ""
            for each in contexts
        ]
        lines.append(f"| {device} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", nargs="+", default=list(DEVICES))
    parser.add_argument("--context", nargs="+", type=int, default=[64, 1024, 4096])
    parser.add_argument("--openings", type=int, default=4)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text(encoding="utf-8")) if options.out and options.out.exists() else []
    for device in options.device:
        fresh = rows_of(device, options.context, options.openings)
        replaced = {(row["device"], row["context"]) for row in fresh}
        rows = [row for row in rows if (row["device"], row["context"]) not in replaced] + fresh
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(json.dumps({"rows": rows}) if options.json else table(rows))


if __name__ == "__main__":
    main()
