"""Damaged content of each parser, drawn by Hypothesis and found earlier: it is read, or clearly refused."""

import pytest

pytest.importorskip("hypothesis")
from fuzz import answer_to, explore, known, made
from fuzz_parsers import PARSERS

# Of each parser; `benchmarks/fuzz.py` draws for as long as it is told.
EXAMPLES, OF_PROCESSES = 40, 12
OF_PACKAGES = {"gguf": "gguf"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "agent-replies" else []) for name in PARSERS]
)
def test_damaged_content_is_read_or_refused(name: str) -> None:
    if name in OF_PACKAGES:
        pytest.importorskip(OF_PACKAGES[name])
    parser = PARSERS[name]
    with made(parser) as (folder, seeds):
        for content in known(name).values():
            answer_to(parser, folder, content)
        examples = OF_PROCESSES if name in ("agent-replies", "gguf") else EXAMPLES
        explore(parser, folder, seeds, examples=examples, number=0)


@pytest.mark.parametrize("name", sorted(set(PARSERS) - {"agent-requests"}))
def test_content_that_is_not_damaged_is_read(name: str) -> None:
    parser = PARSERS[name]
    with made(parser) as (folder, seeds):
        assert [answer_to(parser, folder, content) for content in seeds] == ["read"] * len(seeds)
