"""Damaged content that `benchmarks/fuzz.py` has kept for each parser: it is read, or clearly refused."""

import pytest

pytest.importorskip("hypothesis")
from fuzz import answer_to, known, made
from fuzz_parsers import PARSERS

# Each input takes a process of its own there.
PROCESSES = {"agent-replies", "gguf"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in PROCESSES else []) for name in PARSERS]
)
def test_damaged_content_is_read_or_refused(name: str) -> None:
    parser = PARSERS[name]
    with made(parser) as (folder, seeds):
        for content in known(name).values():
            answer_to(parser, folder, content)
        if name != "agent-requests":
            assert [answer_to(parser, folder, content) for content in seeds] == ["read"] * len(seeds)
