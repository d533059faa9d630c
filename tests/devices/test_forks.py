"""Forks of the agent."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from adaptare.core import ProgramError, WorkerDiedError
from adaptare.devices import Program
from adaptare.devices.agent_worker import AgentWorker

OpenWorker = Callable[..., AgentWorker]
MakeProgram = Callable[..., Program]


def test_programs_of_a_fork_end_with_it_and_the_first_process_stays(
    open_worker: OpenWorker, make_program: MakeProgram
) -> None:
    worker, program = open_worker(), make_program("constant", values=[1.0])
    first, ids = worker.process_id, list[str]()
    for _ in range(3):
        assert worker.fork(program)
        for earlier in ids:
            with pytest.raises(ProgramError, match=f"no program '{earlier}' is loaded"):
                worker.run(earlier, "only", 1)
        ids.append(worker.load(program).program_id)
    assert len(set(ids)) == 3
    assert worker.process_id == first
    os.kill(first, 0)


def test_a_process_that_has_loaded_does_not_fork(open_worker: OpenWorker, make_program: MakeProgram) -> None:
    worker, program = open_worker(), make_program("constant", values=[1.0])
    loaded = worker.load(program)
    assert not worker.fork(program)
    assert worker.run(loaded.program_id, "only", 1)


def test_a_package_that_is_missing_is_told_and_the_first_process_goes_on(
    open_worker: OpenWorker, make_program: MakeProgram
) -> None:
    worker = open_worker(runtime="plain_runtime:ImportingRuntime")
    with pytest.raises(ProgramError, match="absent_package is not installed"):
        worker.fork(Program("absent", "absent_package:build", "{}", ()))
    assert worker.load(make_program("constant", values=[2.0])).outputs


def test_a_fork_that_dies_is_the_death_of_the_worker(open_worker: OpenWorker, make_program: MakeProgram) -> None:
    worker = open_worker()
    assert worker.fork(make_program("echo"))
    loaded = worker.load(make_program("exiting", code=41))
    with pytest.raises(WorkerDiedError, match="ended during 'run' with exit code 41"):
        worker.run(loaded.program_id, "only", 1)
    with pytest.raises(WorkerDiedError):
        worker.fork(make_program("echo"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are for Linux")
def test_without_memory_for_a_thread_a_fork_goes_on() -> None:
    """Else the host would wait until its time limit."""
    limited = """
import os, resource, signal
from adaptare.devices.agent.forks import end_unheard

used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
for more in range(0, 1 << 19, 1 << 15):
    fork = os.fork()
    if not fork:
        resource.setrlimit(resource.RLIMIT_DATA, (used + more, used + more))
        signal.alarm(20)
        try:
            end_unheard(os.pipe()[1])
        finally:
            os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 5, more
"""
    ended = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
