"""The torch device: settings that must be applied inside the worker, and arguments that cannot be."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptare.devices import InputError, MissingPackageError, Program, ProgramError, TorchCpu, torch_cpu

MakeProgram = Callable[..., Program]

AVAILABLE = len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("worker_modules")
@pytest.mark.parametrize("threads", sorted({1, AVAILABLE}))
def test_threads_and_pinning_are_applied_in_the_worker(make_program: MakeProgram, threads: int) -> None:
    with TorchCpu(threads=threads).open() as worker:
        outputs = worker.load(make_program("torch_settings")).outputs
    assert outputs == {"only": (threads, 1, threads)}


@pytest.mark.usefixtures("worker_modules")
def test_without_pinning_the_worker_may_use_every_processor(make_program: MakeProgram) -> None:
    with TorchCpu(threads=1, pin=False).open() as worker:
        outputs = worker.load(make_program("torch_settings")).outputs
    assert outputs == {"only": (1, 1, AVAILABLE)}


@pytest.mark.usefixtures("worker_modules")
def test_tensors_beyond_the_memory_fail_and_the_worker_lives(make_program: MakeProgram) -> None:
    with TorchCpu(threads=1).open() as worker:
        hungry = worker.load(make_program("torch_hungry"))
        with pytest.raises(ProgramError, match=r"^out of memory: .*can't allocate memory"):
            worker.run(hungry.program_id, "only", 1)
        assert len(worker.run(worker.load(make_program("torch_linear", width=4)).program_id, "only", 2)) == 2


@pytest.mark.usefixtures("worker_modules")
def test_outputs_are_those_of_the_tensors(make_program: MakeProgram) -> None:
    with TorchCpu(threads=1).open() as worker:
        outputs = worker.load(make_program("torch_linear", width=2)).outputs
    assert outputs == {"only": (0.25, 0.75)}


def test_the_caller_keeps_its_processors(worker_modules: Path) -> None:
    before = os.sched_getaffinity(0)
    with TorchCpu(threads=1).open():
        pass
    assert os.sched_getaffinity(0) == before


def test_pinning_takes_part_in_equality() -> None:
    assert TorchCpu(threads=1).info() != TorchCpu(threads=1, pin=False).info()


def test_threads_take_part_in_the_spelling() -> None:
    assert TorchCpu(threads=1, pin=False).info().device == "torch-cpu:threads=1,pin=no"


@pytest.mark.parametrize("threads", [0, -1, AVAILABLE + 1])
def test_refuses_threads_that_cannot_be_had(threads: int) -> None:
    with pytest.raises(InputError, match=f"threads must be 1 to {AVAILABLE} here, not {threads}"):
        TorchCpu(threads=threads)


@pytest.mark.parametrize("timeout_s", [0, -1.5])
def test_refuses_a_timeout_that_is_none(timeout_s: float) -> None:
    with pytest.raises(InputError, match=f"timeout_s must be above 0, not {timeout_s}"):
        TorchCpu(timeout_s=timeout_s)


def test_memory_is_at_least_a_byte() -> None:
    with pytest.raises(InputError, match="memory_bytes must be at least 1, not -1"):
        TorchCpu(memory_bytes=-1)


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_cpu.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'adaptare\[torch\]'"):
        TorchCpu()
