"""The agent in a process of its own, with programs in every kind of trouble."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from adaptare.core import DeviceError, ProgramError, WorkerDiedError
from adaptare.devices import AgentDevice, Feed, Program, Work
from adaptare.devices.agent_worker import AgentWorker

OpenWorker = Callable[..., AgentWorker]
MakeProgram = Callable[..., Program]

MEBIBYTE = 2**20
LIMIT_BYTES = 256 * MEBIBYTE


@pytest.fixture(scope="module")
def worker(shared_worker_modules: None) -> Iterator[AgentWorker]:
    """A worker for programs that it outlives."""
    device = AgentDevice(name="plain", runtime="plain_runtime:PlainRuntime", threads=1, timeout_s=60)
    with device.open() as opened:
        yield opened


@pytest.fixture(params=["first process", "fork"])
def worker_or_fork(request: pytest.FixtureRequest, open_worker: OpenWorker) -> AgentWorker:
    """A worker as opened, or after a fork: memory and deaths of programs are the same."""
    opened = open_worker(memory_bytes=LIMIT_BYTES)
    assert request.param != "fork" or opened.fork(Program("any", "worker_programs:echo", "{}", ()))
    return opened


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("when", ["load", "first"])
def test_a_program_that_raises_while_loading_is_answered_with_its_words(
    worker: AgentWorker, make_program: MakeProgram, when: str
) -> None:
    with pytest.raises(ProgramError, match=r"^ValueError: no such thing$"):
        worker.load(make_program("raising", message="no such thing", when=when))


def test_a_program_that_raises_while_running_is_answered_with_its_words(
    worker: AgentWorker, make_program: MakeProgram
) -> None:
    loaded = worker.load(make_program("raising", message="no such thing", when="run"))
    with pytest.raises(ProgramError, match=r"^ValueError: no such thing$"):
        worker.run(loaded.program_id, "only", 1)


def test_an_unknown_factory_is_the_fault_of_the_program(worker: AgentWorker, make_program: MakeProgram) -> None:
    with pytest.raises(ProgramError, match="has no attribute 'absent'"):
        worker.load(make_program("absent"))


def test_outputs_of_every_feed_come_back_in_order(worker: AgentWorker, make_program: MakeProgram) -> None:
    feeds = tuple(Feed(str(n), f'{{"values":[{n},0.5]}}', Work(1, 1, 1)) for n in (3, 4))
    loaded = worker.load(replace(make_program("echo"), feeds=feeds))
    assert loaded.outputs == {"3": (3.0, 0.5), "4": (4.0, 0.5)}


def test_what_a_program_prints_does_not_break_the_protocol(worker: AgentWorker, make_program: MakeProgram) -> None:
    loaded = worker.load(make_program("printing", lines=3))
    assert len(worker.run(loaded.program_id, "only", 2)) == 2


def test_loading_may_take_as_long_as_all_the_first_calls_in_it(
    worker: AgentWorker, make_program: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = make_program("constant", values=[1.0])
    waited: list[float] = []
    replies = worker._replies
    noted = SimpleNamespace(put=replies.put, get=lambda timeout: waited.append(timeout) or replies.get(timeout=timeout))
    monkeypatch.setattr(worker, "_replies", noted)
    worker.load(replace(program, feeds=tuple(replace(program.feeds[0], name=name) for name in "abc")))
    worker.load(program)
    assert waited == [180, 60]


@pytest.mark.parametrize("code", [41, 0])
def test_a_hard_exit_is_told_with_its_code_and_is_no_success(
    open_worker: OpenWorker, make_program: MakeProgram, code: int
) -> None:
    worker = open_worker()
    loaded = worker.load(make_program("exiting", code=code))
    with pytest.raises(WorkerDiedError, match=f"ended during 'run' with exit code {code};"):
        worker.run(loaded.program_id, "only", 1)


def test_a_crash_is_told_with_its_signal_and_the_worker_stays_dead(
    worker_or_fork: AgentWorker, make_program: MakeProgram
) -> None:
    loaded = worker_or_fork.load(make_program("crashing"))
    with pytest.raises(WorkerDiedError, match="during 'run' with signal SIGSEGV;"):
        worker_or_fork.run(loaded.program_id, "only", 1)
    with pytest.raises(WorkerDiedError, match="during 'load' with signal SIGSEGV"):
        worker_or_fork.load(make_program("constant", values=[1.0]))


def test_a_hanging_program_is_stopped(worker_or_fork: AgentWorker, make_program: MakeProgram) -> None:
    loaded = worker_or_fork.load(make_program("hanging"))
    worker_or_fork._timeout_s = 0.2
    with pytest.raises(WorkerDiedError, match=r"no answer to 'run' within 0.2 s; the worker was stopped"):
        worker_or_fork.run(loaded.program_id, "only", 1)
    assert not is_running(worker_or_fork.process_id)


@pytest.mark.parametrize("chunk_bytes", [16 * MEBIBYTE, 1000], ids=["large chunks", "small chunks"])
def test_a_program_beyond_its_memory_fails_and_the_worker_lives(
    worker_or_fork: AgentWorker, make_program: MakeProgram, chunk_bytes: int
) -> None:
    loaded = worker_or_fork.load(make_program("hungry", chunk_bytes=chunk_bytes))
    with pytest.raises(ProgramError, match=r"^out of memory"):
        worker_or_fork.run(loaded.program_id, "only", 1)
    assert worker_or_fork.load(make_program("constant", values=[2.0])).outputs == {"only": (2.0,)}


def test_the_last_words_of_a_worker_are_in_the_message(open_worker: OpenWorker, make_program: MakeProgram) -> None:
    worker = open_worker()
    loaded = worker.load(make_program("flooding", lines=3))
    with pytest.raises(WorkerDiedError, match=r"exit code 7; its last output: line 0 x+ \| line 1 x+ \| line 2 x+$"):
        worker.run(loaded.program_id, "only", 1)


def test_a_flood_of_words_is_kept_short(open_worker: OpenWorker, make_program: MakeProgram) -> None:
    worker = open_worker()
    loaded = worker.load(make_program("flooding", lines=1000))
    with pytest.raises(WorkerDiedError, match="line 999") as caught:
        worker.run(loaded.program_id, "only", 1)
    assert len(str(caught.value)) < 3 * 500 + 100
    assert len(worker._stderr) == 50


def test_memory_of_a_program_is_seen_and_its_peak_stays_when_it_is_unloaded(
    worker_or_fork: AgentWorker, make_program: MakeProgram
) -> None:
    small = make_program("constant", values=[1.0])
    before = worker_or_fork.load(small).peak_bytes
    held = worker_or_fork.load(make_program("holding", held_bytes=64 * MEBIBYTE))
    worker_or_fork.unload(held.program_id)
    assert held.resident_bytes == pytest.approx(64 * MEBIBYTE, rel=0.05)
    assert held.peak_bytes - before == pytest.approx(64 * MEBIBYTE, rel=0.1)
    # The system counts pages in batches for each processor, so that the peak wavers by some of them.
    assert worker_or_fork.load(small).peak_bytes >= 0.99 * held.peak_bytes


def test_memory_of_a_program_is_given_back_when_it_is_unloaded(
    open_worker: OpenWorker, make_program: MakeProgram
) -> None:
    worker = open_worker(memory_bytes=LIMIT_BYTES)
    program = make_program("holding", held_bytes=150 * MEBIBYTE)
    for _ in range(3):
        worker.unload(worker.load(program).program_id)


def test_a_closed_worker_is_gone_says_so_and_may_be_closed_again(
    open_worker: OpenWorker, make_program: MakeProgram
) -> None:
    worker = open_worker()
    assert is_running(worker.process_id)
    worker.close()
    worker.close()
    assert not is_running(worker.process_id)
    with pytest.raises(WorkerDiedError, match="the worker ended during 'load' with exit code 0"):
        worker.load(make_program("constant", values=[1.0]))


def test_a_runtime_that_cannot_be_set_up_is_the_fault_of_the_device(open_worker: OpenWorker) -> None:
    with pytest.raises(DeviceError, match="could not be set up: RuntimeError: this runtime is out of order"):
        open_worker(options={"broken": True})
