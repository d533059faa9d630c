"""Fuzzing that is guided by coverage: libFuzzer, by Atheris, damages the content of each parser.

Usage:
    pip install atheris
    python benchmarks/fuzz_guided.py --seconds 60 [--parser NAME] [--json]

Input that reaches lines of adaptare which no input before has reached is kept and damaged further, in a folder that is
removed at the end. Any exception that is none of adaptare's ends the process of a parser.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

# Last line of libFuzzer: inputs, and branches of Python that they reached.
END: Final = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+)")


def main() -> None:
    """Fuzzes parsers for some seconds each, each in a process of its own, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="For each parser.")
    parser.add_argument("--parser", action="append", default=[])
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.inner:
        fuzz(chosen.parser[0], chosen.inner, chosen.seconds)
    from fuzz_parsers import PARSERS

    if unknown := set(chosen.parser) - set(PARSERS):
        parser.error(f"parsers are {', '.join(PARSERS)}, not {', '.join(unknown)}")
    results = [outer(name, chosen.seconds) for name in chosen.parser or PARSERS]
    print(json.dumps(results, indent=1) if chosen.json else "\n".join(map(str, results)))


def outer(name: str, seconds: int) -> dict[str, Any]:
    """Fuzzes one parser in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--parser", name, "--seconds", str(seconds), "--inner", folder]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = END.search(ended.stderr)
    inputs, branches = (int(found[1]), int(found[2])) if found else (0, 0)
    crash = "" if found and not ended.returncode else ended.stderr[-2000:]
    print(f"{name}: {inputs:,} inputs, {branches} branches{', crash' * bool(crash)}", file=sys.stderr, flush=True)
    return {"parser": name, "seconds": seconds, "inputs": inputs, "branches": branches, "crash": crash}


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzzes one parser in this process, which then ends."""
    import atheris

    with atheris.instrument_imports(include=["adaptare"]):
        from fuzz import BYTES, answer_to, known, made
        from fuzz_parsers import PARSERS
    parser = PARSERS[name]
    with made(parser) as (place, seeds):
        corpus, words = folder / "corpus", folder / "words"
        corpus.mkdir()
        for number, content in enumerate([*seeds, *known(name).values()]):
            (corpus / str(number)).write_bytes(content)
        quoted = ("".join(f"\\x{byte:02x}" for byte in each) for each in BYTES if each)
        words.write_text("".join(f'"{each}"\n' for each in quoted))
        limits = [f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=8192", "-max_len=65536"]
        os.chdir(folder)

        def read(content: bytes) -> None:
            answer_to(parser, place, content)

        atheris.Setup([name, str(corpus), f"-dict={words}", *limits], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
