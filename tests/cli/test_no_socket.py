"""Measuring on this machine opens no socket, neither here nor in the worker."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
        reason="only the Linux kernel ends a process that opens a socket",
    ),
]

NO_SOCKET = "()"


@pytest.mark.parametrize("device", ["torch-cpu:threads=1", "ort-cpu:threads=1"])
def test_a_local_profile_opens_no_socket(
    device: str, tmp_path: Path, model_cache: Path, worker_modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "sockets.jsonl"
    monkeypatch.setenv("SOCKET_LOG", str(log))
    path = os.pathsep.join([str(worker_modules / "socket_watch"), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", path)
    words = ("profile", "tiny-random", "--device", device, "--cache", str(model_cache), "--space", "kinds")
    options = ("--rank", "0,4", "--count", "2", "--half-width", "50%", "--openings", "1", "--json")
    command = [sys.executable, "-m", "adaptare", *words, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["measured"] == 2
    events = [json.loads(line) for line in log.read_text().splitlines()]
    started = {process: content for process, event, content in events if event == "started"}
    assert sum("adaptare.devices.agent" in command for command in started.values()) == 2
    assert [event for _, event, _ in events if event.startswith("socket.")] == []
    left_open = {process: content for process, event, content in events if event == "ended"}
    assert left_open == dict.fromkeys(started, NO_SOCKET)
