"""Replies with the right number and a wrong content: the worker is stopped, with what was wrong."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import ProgramError, WorkerDiedError
from adaptare.devices import Feed, Link, Program, Work
from adaptare.devices.agent_worker import AgentWorker
from adaptare.profiler.measuring.probe import seconds_of

PROGRAM = Program("p", "m:f", "{}", (Feed("only", "{}", Work(1, 1, 1)),))
LOADED = '"load_s": 0.1, "providers": {}, "bind_s": {}, "first_call_s": {}, "peak_bytes": 0'
WITH_OUTPUTS = f'{LOADED}, "outputs": {{"only": [0.5]}}, "resident_bytes": 1'
# Sends a file line by line, one for each request, and ends.
AGENT = """while IFS= read -r reply && read -r request <&3; do printf '%s\\n' "$reply"; done 3<&0 <"$0" """
Replies = Callable[..., AgentWorker]


pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh here")


@pytest.fixture
def replying(tmp_path: Path) -> Iterator[Replies]:
    """A worker whose agent sends these replies, with the right numbers, whatever it is asked, and ends."""
    with ExitStack() as stack:

        def make(*contents: str) -> AgentWorker:
            lines = [f'{{"seq": {seq}, "ok": true, {content}}}\n' for seq, content in enumerate(contents, 1)]
            (tmp_path / "replies").write_text("".join(lines))
            command = [str(shutil.which("sh")), "-c", AGENT, str(tmp_path / "replies")]
            return stack.enter_context(closing(AgentWorker(Link(command, print, os.environ), timeout_s=60)))

        yield make


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LOADED, "KeyError: 'outputs'"),
        (f'{LOADED}, "outputs": {{"only": ["x"]}}, "resident_bytes": 1', r"reply.outputs.only\[0\] must be a number"),
        (f'{LOADED}, "outputs": {{}}, "resident_bytes": "much"', "reply.resident_bytes must be a whole number"),
    ],
)
def test_facts_about_a_program(replying: Replies, content: str, reason: str) -> None:
    with pytest.raises(WorkerDiedError, match=f"the reply to 'load' is malformed .*{reason}"):
        replying(content).load(PROGRAM)


@pytest.mark.parametrize("seconds", ["7", "null", '["x"]', "[null]"])
def test_seconds(replying: Replies, seconds: str) -> None:
    worker = replying(WITH_OUTPUTS, f'"count": 1, "seconds": {seconds}')
    loaded = worker.load(PROGRAM)
    assert loaded.outputs == {"only": (0.5,)}
    with pytest.raises(WorkerDiedError, match="the reply to 'run' is malformed"):
        worker.run(loaded.program_id, "only", 1)


def test_operators(replying: Replies) -> None:
    with pytest.raises(WorkerDiedError, match="the reply to 'attribute' is malformed"):
        replying('"count": 1, "seconds": [0.1], "operators": [{"MatMul": [1, 2, 3]}]').attribute(PROGRAM, "only", 1)


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({}, ""),
        ({"files": {"proc/meminfo": "MemAvailable: junk kB"}}, "ValueError"),
        ({"files": {"proc/stat": "cpu 1 2 3 4 5 6 7 8 9"}, "ticks_s": 0}, "ZeroDivisionError"),
        ({"files": {"proc/cpuinfo": "cpu MHz"}}, "IndexError"),
        ({"files": ["proc/stat"]}, "AttributeError"),
        ({"processors": [-1]}, "ValueError: processors"),
        ({"at_s": 1e300}, "OverflowError"),
        ({"known": {"free_bytes": math.nan}}, "ValueError"),
    ],
)
def test_facts_about_a_machine(replying: Replies, machine: dict[str, Any], reason: str) -> None:
    content = json.dumps({"machine": machine} if machine else {})[1:-1] or '"no": 1'
    with pytest.raises(WorkerDiedError, match=rf"the reply to 'machine' is malformed \({reason}"):
        replying(content).environment()


class Lying:
    """A worker that reports these seconds."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = seconds

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        return self.seconds


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 0.0])
def test_seconds_that_no_call_can_take(seconds: float) -> None:
    with pytest.raises(ProgramError, match=f"the worker reported calls of {seconds!r} seconds"):
        seconds_of(Lying([0.1, seconds]), "p", "f", 2)  # type: ignore[arg-type]
