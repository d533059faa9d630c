"""Memory with an adapter, and seconds from a change of the adapter to the first right token, by runtime and context.

python benchmarks/swap_cost.py [--json] [--out FILE] [--device DEVICE ...] [--context 64 1024 4096] [--openings 4]

SmolLM2-135M, rank 16 on all linears, swappable. Keys and values depend on the adapter, so the cache of the context is
computed again with the new one: the adapter is set, and all tokens are decoded once (`Swap`, of a prefill). ONNX
Runtime and llama.cpp read it from a file in the page cache; torch and OpenVINO draw its weights. Memory is that of a
process which has decoded after 64 tokens: of the base alone, and with the adapter. Each opening is a fresh process; for
a change it has run another adapter before. Intervals are of 95 %. `--out` replaces the devices measured now, and keeps
the others.
"""

import argparse
import datetime
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from adaptare.profiler import Configuration, Workload, open_model, programs_for
from adaptare.profiler.measuring import Memory, Session, Swap
from adaptare.workflows.target import target_of

MODEL, RANK = "smollm2-135m", 16
DEVICES = (
    "torch-cpu:threads=1",
    "ort-cpu:threads=1",
    "ort-cpu:int4,threads=1",
    "llama-cpu:int4,threads=1",
    "openvino-cpu:int4,threads=1",
)


def costs_of(spelling: str, contexts: list[int], openings: int) -> dict[str, Any]:
    """Memory of a device, and seconds to the first right token for each length of the context."""
    target = target_of(spelling)
    shape = open_model(MODEL).shape
    adapted = Workload(shape, Configuration.uniform(shape, RANK), phase="decode", tokens=64, **target.weights)
    info = target.device.info()
    session = Session(target.device, programs=programs_for(info))
    memory = session.measure([adapted.base, adapted], reference=adapted.base, probes=[Memory(openings=openings)])
    swaps = []
    for tokens in contexts:
        (found,) = session.measure(
            [replace(adapted, phase="prefill", tokens=tokens)],
            reference=replace(adapted.base, phase="prefill", tokens=tokens),
            probes=[Swap(openings=openings)],
        )
        swaps.append({"context": tokens, **quantity(found, "swap")})
    return {
        "device": spelling,
        "hardware": info.hardware,
        "runtime": info.runtime,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "openings": openings,
        "base_bytes": quantity(memory[0], "memory"),
        "adapted_bytes": quantity(memory[1], "memory"),
        "swap_s": swaps,
    }


def quantity(row: Any, name: str) -> dict[str, Any]:
    """A measured quantity, or why there is none."""
    failure = row.quantities[name].failure
    return {"failure": failure} if failure else asdict(row.value(name))


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, one line for each device."""
    contexts = sorted({each["context"] for device in found for each in device["swap_s"]})
    lines = [
        f"| device | base MB | with adapter MB | {' | '.join(f'{each:,} tokens, s' for each in contexts)} |",
        "|---" * (3 + len(contexts)) + "|",
    ]
    for device in found:
        seconds = {each["context"]: each for each in device["swap_s"]}
        cells = [
            *(cell(device[name], 1e-6, 0) for name in ("base_bytes", "adapted_bytes")),
            *(cell(seconds[each], 1, 2) if each in seconds else "" for each in contexts),
        ]
        lines.append(f"| {device['device']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(found: dict[str, Any], factor: float, digits: int) -> str:
    """A quantity with its interval, or that it failed."""
    if "failure" in found:
        return "failed"
    middle, lower, upper = (f"{factor * found[name]:,.{digits}f}" for name in ("middle", "lower", "upper"))
    return f"{middle} [{lower}, {upper}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", nargs="+", default=list(DEVICES))
    parser.add_argument("--context", nargs="+", type=int, default=[64, 1024, 4096])
    parser.add_argument("--openings", type=int, default=4)
    options = parser.parse_args()
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out and options.out.exists() else []
    for device in options.device:
        fresh = costs_of(device, options.context, options.openings)
        found = [each for each in found if each["device"] != device] + [fresh]
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found) if options.json else table(found))


if __name__ == "__main__":
    main()
