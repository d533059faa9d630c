import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from adaptare.devices import AgentWorker, Feed, Link, Program, ProgramFile, Work, canonical_json
from adaptare.devices.agent_worker import opened

OpenWorker = Callable[..., AgentWorker]
MakeProgram = Callable[..., Program]


@pytest.fixture
def make_program() -> MakeProgram:
    """A program out of `worker_programs`, with one feed named `only`."""

    def make(factory: str, **arguments: int | float | str | list[float]) -> Program:
        feed = Feed("only", "{}", Work(1, 1, 1))
        return Program(factory, f"worker_programs:{factory}", canonical_json(arguments), (feed,))

    return make


@pytest.fixture
def open_worker(worker_modules: Path, tmp_path: Path) -> Iterator[OpenWorker]:
    """Agents in processes of their own, without torch; all are closed after the test."""
    with ExitStack() as stack:

        def open_one(
            *, timeout_s: float = 60, memory_bytes: int = 0, root: str = "/", pin: bool = False, **options: bool
        ) -> AgentWorker:
            command = [
                sys.executable,
                "-m",
                "adaptare.devices.agent",
                "plain_runtime:PlainRuntime",
                str(tmp_path),
                root,
            ]
            link = Link(command, bring_nothing, os.environ)
            worker = stack.enter_context(opened(AgentWorker(link, timeout_s=timeout_s)))
            worker.hello(threads=1, pin=pin, gap_s=None, options=options, memory_bytes=memory_bytes)
            return worker

        yield open_one


def bring_nothing(file: ProgramFile) -> None:
    """Programs out of `worker_programs` have no files."""
    raise AssertionError(f"{file} was asked for")
