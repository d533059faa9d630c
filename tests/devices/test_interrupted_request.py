"""Ctrl-C while an agent runs a call."""

import os
import signal
import sys
import threading
import time

import pytest

from adaptare.devices import Link
from adaptare.devices.agent_worker import AgentWorker


def test_an_interruption_ends_the_agent_instead_of_waiting_for_its_call() -> None:
    busy = "import sys, time; sys.stdin.readline(); print('{}', file=sys.stderr, flush=True); time.sleep(600)"
    worker = AgentWorker(Link((sys.executable, "-S", "-c", busy), print, os.environ), timeout_s=600)

    def interrupt_once_it_runs() -> None:
        while not worker._stderr:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt_once_it_runs).start()
    with pytest.raises(KeyboardInterrupt):
        worker.unload("any")
    assert worker._process.wait(timeout=60) == -signal.SIGKILL
    worker.close()
