"""The README's table: unmerged adapters in PyTorch and in ONNX Runtime, by rank and placement, as the command tells it.

python benchmarks/overhead_table.py [--json] [--out FILE] [--seconds 240] [--figures FOLDER] [--only DEVICE ...]

Runs `adaptare overhead` for each device, in a store of its own, and prints its rows as a Markdown table with processor,
versions and date. `--out` keeps all rows; those behind the README are in `measured/overhead_table.json`.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from adaptare.devices import connect

MODEL = "smollm2-135m"
RANKS = (1, 8, 16, 64)
PLACEMENTS = {"all": "all 210 linears", "q_proj,v_proj": "q and v"}
DEVICES = {
    "torch-cpu:threads=1": "PyTorch fp32",
    "ort-cpu:threads=1": "ONNX Runtime fp32",
    "ort-cpu:int4,threads=1": "ONNX Runtime 4-bit",
}


def measured(device: str, seconds: float, figures: Path | None) -> dict[str, Any]:
    """Rows of one device, with the facts that make them comparable."""
    words = ["overhead", MODEL, "--device", device, "--rank", ",".join(map(str, RANKS)), "-p", "0", "--json"]
    words += [word for sites in PLACEMENTS for word in ("--sites", sites)]
    words += ["--half-width", "0.4%", "--seconds", f"{seconds:g}"]
    if figures:
        words += ["--figure", str(figures / f"overhead-{device.split(':')[0]}{'-int4' * ('int4' in device)}.png")]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "adaptare", *words, "--store", str(Path(folder) / "store.db")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    info = connect(device.replace("int4,", "")).info()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    facts = {"hardware": info.hardware, "runtime": info.runtime, "options": list(info.options), "date": today}
    return {"device": device, **facts, "rows": json.loads(done.stdout)["rows"]}


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, one line for each device and placement."""
    lines = [f"| base, adapter | {' | '.join(f'rank {rank}' for rank in RANKS)} |", "|---" * (1 + len(RANKS)) + "|"]
    for each in found:
        for placement in dict.fromkeys(row["placement"] for row in each["rows"]):
            cells = {row["rank"]: cell(row) for row in each["rows"] if row["placement"] == placement and _unmerged(row)}
            words = PLACEMENTS[placement]
            lines.append(f"| {DEVICES[each['device']]}, {words} | {' | '.join(cells[rank] for rank in RANKS)} |")
    return "\n".join(lines)


def cell(row: dict[str, Any]) -> str:
    """Overhead with its interval."""
    middle, lower, upper = (100 * row["over_base"][name] for name in ("middle", "lower", "upper"))
    return f"{middle:+.1f} % [{lower:.1f}, {upper:.1f}]"


def _unmerged(row: dict[str, Any]) -> bool:
    return bool(row["mode"] == "swappable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0, help="for each device, loading included")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--only", nargs="+", choices=DEVICES, default=list(DEVICES))
    options = parser.parse_args()

    found = [measured(device, options.seconds, options.figures) for device in options.only]
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.json:
        print(json.dumps(found))
        return
    for facts in dict.fromkeys((each["hardware"], each["runtime"], each["date"]) for each in found):
        print("; ".join(facts))
    print(table(found))


if __name__ == "__main__":
    main()
