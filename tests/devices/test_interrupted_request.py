"""Ctrl-C while an agent runs a call."""

import os
import signal
import sys
import threading

import pytest

from adaptare.devices import Link
from adaptare.devices.agent_worker import AgentWorker


def test_an_interruption_ends_the_agent_instead_of_waiting_for_its_call() -> None:
    busy = "import sys, time; sys.stdin.readline(); print('{}', file=sys.stderr, flush=True); time.sleep(600)"
    worker = AgentWorker(Link((sys.executable, "-c", busy), print, os.environ), timeout_s=600)
    threading.Timer(1.0, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        worker.unload("any")
    assert worker._process.wait(timeout=60) == -signal.SIGKILL
    worker.close()
