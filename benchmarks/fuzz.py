"""Damaged content for each parser: it is read, or refused with a clear error, and nothing else happens.

Usage:
    python benchmarks/fuzz.py --minutes 10 [--parser NAME] [--json]

Hypothesis damages the files that adaptare writes: values of JSON are replaced, removed or nested, and bytes are
changed, cut or inserted. One input for each different answer is kept in `tests/fuzzed/NAME.json`, which the tests read
again.
"""

import argparse
import base64
import json
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fuzz_parsers import PARSERS, Parser
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from adaptare.core import AdaptareError

ROOT: Final = Path(__file__).resolve().parents[1]
KEPT: Final = ROOT / "tests" / "fuzzed"
# Inputs that are kept of one parser, and bytes of each.
MOST_KEPT, LARGEST = 80, 4096
CHUNK: Final = 100
ODD: Final = (
    None,
    True,
    False,
    0,
    -1,
    10**30,
    1e308,
    -0.0,
    float("nan"),
    float("inf"),
    "",
    "junk",
    "\x00",
    [],
    {},
    [[]],
)
BYTES: Final = (
    b"",
    b"\x00" * 8,
    b"\xff" * 8,
    b"NaN",
    b"-1",
    b"1e999",
    b"\\u0000",
    b'"',
    b"{",
    b"[" * 200,
    b"\n",
    b"\xef",
)
# What differs from run to run in a message.
VARIABLE: Final = re.compile(r"'[^']*'|\"[^\"]*\"|[-\d.]+|/\S+|0x\w+")


def main() -> None:
    """Fuzzes parsers for some minutes each, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="Of processor time, each; see `Parser.waits`.")
    parser.add_argument("--parser", choices=sorted(PARSERS), action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    results = []
    for name in chosen.parser or PARSERS:
        found = fuzzed(PARSERS[name], chosen.minutes, chosen.seed)
        print(
            "{parser}: {inputs:,} inputs in {minutes} min, {answers} answers, {crashes} crashes".format(**found),
            *found["found"],
            sep="\n  ",
            file=sys.stderr,
            flush=True,
        )
        results.append(found)
    if chosen.json:
        print(json.dumps(results, indent=1))


def fuzzed(parser: Parser, minutes: float, first_seed: int) -> dict[str, Any]:
    """Fuzzes one parser for minutes of processor time, and keeps an input of each new answer."""
    clock = time.monotonic if parser.waits else time.process_time
    answers, inputs, crashes, began, number = known(parser.name), 0, list[str](), clock(), first_seed
    with made(parser) as (folder, seeds):
        while clock() - began < 60 * minutes:
            counted = [0]

            def note(content: bytes, answer: str) -> None:
                counted[0] += 1  # noqa: B023
                if answer not in answers and len(answers) < MOST_KEPT and len(content) <= LARGEST:
                    answers[answer] = content

            try:
                explore(parser, folder, seeds, examples=CHUNK, number=number, note=note)
            except Exception as error:  # what is looked for
                crashes.append(f"{type(error).__name__}: {error}"[:2000])
                if len(crashes) > 20:
                    break
            inputs, number = inputs + counted[0], number + 1
    keep(parser.name, answers)
    spent = round((clock() - began) / 60, 2)
    return {
        "parser": parser.name,
        "minutes": spent,
        "inputs": inputs,
        "answers": len(answers),
        "crashes": len(crashes),
        "found": crashes,
    }


def explore(
    parser: Parser,
    folder: Path,
    seeds: list[bytes],
    *,
    examples: int,
    number: int,
    note: Callable[[bytes, str], None] = lambda content, answer: None,
) -> None:
    """Reads damaged content; raises the first error that is none of adaptare's, with the shortest content.

    Args:
        seeds: Content that is not damaged.
        examples: Number of inputs.
        number: Seed of the random choices.
        note: Called with each input and its answer.
    """

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @seed(number)
    @given(damaged(seeds))
    def read(content: bytes) -> None:
        note(content, answer_to(parser, folder, content))

    read()


def answer_to(parser: Parser, folder: Path, content: bytes) -> str:
    """`read`, or the kind of the refusal. Raises any error that is none of adaptare's."""
    (folder / parser.file).write_bytes(content)
    try:
        parser.read(folder)
    except AdaptareError as error:
        return f"{type(error).__name__}: {VARIABLE.sub('_', str(error))[:120]}"
    return "read"


@contextmanager
def made(parser: Parser) -> Iterator[tuple[Path, list[bytes]]]:
    """A folder with what the parser reads beside its file, and content that is not damaged."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), parser.make(Path(folder))


def known(name: str) -> dict[str, bytes]:
    """Kept inputs of a parser, by answer."""
    file = KEPT / f"{name}.json"
    if not file.exists():
        return {}
    kept: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return {answer: zlib.decompress(base64.b64decode(text)) for answer, text in kept.items()}


def keep(name: str, answers: dict[str, bytes]) -> None:
    """Writes the kept inputs of a parser."""
    KEPT.mkdir(exist_ok=True)
    packed = {answer: base64.b64encode(zlib.compress(answers[answer], 9)).decode() for answer in sorted(answers)}
    (KEPT / f"{name}.json").write_text(json.dumps(packed, indent=1) + "\n", encoding="utf-8")


def damaged(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Content with one to four damages."""

    @st.composite
    def draw(draw: st.DrawFn) -> bytes:
        content = draw(st.sampled_from(seeds))
        for _ in range(draw(st.integers(1, 4))):
            content = draw(st.sampled_from(DAMAGES))(draw, content)
        return content

    return draw()


def _value(draw: st.DrawFn, content: bytes) -> bytes:
    """Replaces, removes or copies a value of JSON; other content is changed by bytes."""
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return _inserted(draw, content)
    inner, key = whole, None
    for _ in range(draw(st.integers(1, 6))):
        keys: Any = sorted(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else []
        if not len(keys):
            break
        outer, key = inner, draw(st.sampled_from(keys))
        inner = outer[key]
    if key is None:
        return _inserted(draw, content)
    if draw(st.booleans()):
        outer[key] = draw(st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=8)))
    else:
        del outer[key]
    return json.dumps(whole).encode("utf-8", "surrogatepass")


def _inserted(draw: st.DrawFn, content: bytes) -> bytes:
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.one_of(st.sampled_from(BYTES), st.binary(max_size=6))) + content[at:]


def _overwritten(draw: st.DrawFn, content: bytes) -> bytes:
    at, new = draw(st.integers(0, max(0, len(content) - 1))), draw(st.binary(min_size=1, max_size=8))
    return content[:at] + new + content[at + len(new) :]


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    start = draw(st.integers(0, len(content)))
    return content[:start] + content[draw(st.integers(start, len(content))) :]


def _ended(draw: st.DrawFn, content: bytes) -> bytes:
    return content[: draw(st.integers(0, len(content)))]


DAMAGES: Final = (_value, _value, _value, _inserted, _overwritten, _overwritten, _cut, _ended)


if __name__ == "__main__":
    main()
