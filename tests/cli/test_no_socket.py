"""Measuring on this machine opens no socket, neither here nor in the worker."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="only the Linux kernel ends a process that opens a socket",
)

NO_SOCKET = "()"
# Asks a worker without torch to run one line of Python.
ONE_CALL = """
import os, sys
from adaptare.devices import Feed, Link, Program, Work
from adaptare.devices.agent_worker import AgentWorker
from adaptare.core.content_hash import canonical_json
command = [sys.executable, "-m", "adaptare.devices.agent", "plain_runtime:PlainRuntime", "agent"]
worker = AgentWorker(Link(command, None, os.environ), timeout_s=60)
worker.hello(threads=1, cores="", pin=False, gap_s=None, options={}, memory_bytes=0)
arguments = canonical_json({"code": sys.argv[1]})
program = Program("p", "worker_programs:calling", arguments, (Feed("f", "{}", Work(1, 1, 1)),))
try:
    worker.run(worker.load(program).program_id, "f", 1)
finally:
    worker.close()
"""


@dataclass(frozen=True)
class Watched:
    """What a process and those that it started did.

    Args:
        done: How it ended, and what it said.
        events: Process, event, and what belongs to it.
    """

    done: "subprocess.CompletedProcess[str]"
    events: list[tuple[int, str, str]]

    @property
    def sockets(self) -> list[str]:
        return [event for _, event, _ in self.events if event.startswith("socket.")]

    @property
    def left_open(self) -> dict[int, str]:
        return {process: content for process, event, content in self.events if event == "ended"}

    @property
    def started(self) -> dict[int, str]:
        return {process: content for process, event, content in self.events if event == "started"}


Watch = Callable[..., Watched]


@pytest.fixture
def watched(tmp_path: Path, worker_modules: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Runs Python where sockets are seen."""
    log = tmp_path / "sockets.jsonl"
    monkeypatch.setenv("SOCKET_LOG", str(log))
    path = os.pathsep.join([str(worker_modules / "socket_watch"), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", path)

    def run(*words: object) -> Watched:
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return Watched(done, [tuple(json.loads(line)) for line in log.read_text().splitlines()])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("device", ["torch-cpu:threads=1", "ort-cpu:threads=1"])
def test_a_local_profile_opens_no_socket(watched: Watch, model_cache: Path, device: str) -> None:
    if device.startswith("ort"):
        pytest.importorskip("onnxruntime")
    words = ("profile", "tiny-random", "--device", device, "--cache", model_cache, "--space", "kinds")
    seen = watched(
        "-m", "adaptare", *words, "--rank", "0,4", "--count", 2, "--half-width", "50%", "--openings", 1, "--json"
    )
    assert seen.done.returncode == 0, seen.done.stderr
    assert json.loads(seen.done.stdout)["measured"] == 2
    assert sum("adaptare.devices.agent" in command for command in seen.started.values()) == 2
    assert seen.sockets == []
    assert seen.left_open == dict.fromkeys(seen.started, NO_SOCKET)


@pytest.mark.parametrize(
    ("code", "events"),
    [
        ("socket.socket(socket.AF_INET)", ["socket.__new__"]),
        ("socket.getaddrinfo('127.0.0.1', 80)", ["socket.getaddrinfo"]),
        ("ctypes.CDLL(None).socket(2, 1, 0)", []),
        ("ctypes.CDLL(None).socket(10, 1, 0)", []),
    ],
)
def test_a_worker_that_opens_a_socket_is_seen(watched: Watch, code: str, events: list[str]) -> None:
    seen = watched("-c", ONE_CALL, code)
    assert seen.sockets == events
    assert ("with signal SIGSYS" in seen.done.stderr) is ("getaddrinfo" not in code)


def test_a_socket_that_stays_open_is_seen(watched: Watch) -> None:
    seen = watched("-c", ONE_CALL, "ctypes.CDLL(None).socket(1, 1, 0)")
    assert seen.done.returncode == 0, seen.done.stderr
    assert sorted(content != NO_SOCKET for content in seen.left_open.values()) == [False, True]
