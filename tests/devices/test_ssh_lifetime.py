"""Workers by ssh that end, well or badly: nothing is taken for success, and nothing runs on afterwards."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from adaptare.core import DeviceError, WorkerDiedError
from adaptare.devices import Program, connect
from adaptare.devices.transport import NATIVE, Link
from adaptare.devices.transports import ssh
from adaptare.devices.transports.remote_shell import Answer, agent_link
from adaptare.devices.transports.ssh import OpenSsh, SshTransport

Start = Callable[..., Any]
pytestmark = pytest.mark.ssh
# Far more than anything here takes; reaching it is a failure.
WAITED_S = 60


def ends(processes: list[psutil.Process]) -> bool:
    """True if there were any, and all of them end by themselves."""
    return bool(processes) and not psutil.wait_procs(processes, timeout=WAITED_S)[1]


@contextmanager
def as_soon_as(condition: Callable[[], object], act: Callable[[], object]) -> Iterator[None]:
    """Acts once a condition holds, while the body of the context runs."""
    over = threading.Event()

    def watch() -> None:
        while not condition():
            if over.wait(0.01):
                return
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def loading(server: Any, program: Program) -> Callable[[], object]:
    """True from the moment that the agent begins to load it."""
    return lambda: list(server.folder.glob(f"programs/*/{program.source}"))


def test_nothing_is_left_after_a_worker(ssh_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a temporary folder whose name is too long for a socket, too."""
    server, temporary = ssh_server(), tmp_path / ("long" * 20)
    server.add_python()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with connect(server.spelling).open():
        agents, sessions = server.agents(), server.sessions()
    assert ends(agents)
    assert ends(sessions)
    assert os.listdir(temporary) == []


def test_an_agent_that_hangs_is_ended_on_its_device(ssh_server: Start, endless: Program) -> None:
    server = ssh_server()
    server.add_python()
    with connect(server.spelling).open() as worker:
        agents = server.agents()
        worker._timeout_s = 5
        with pytest.raises(WorkerDiedError, match="no answer to 'load' within 5 s; the worker was stopped"):
            worker.load(endless)
        assert ends(agents)


def test_an_agent_ends_with_the_client_that_started_it(ssh_server: Start, endless: Program) -> None:
    server = ssh_server()
    server.add_python()
    with connect(server.spelling).open() as worker:
        agents = server.agents()
        with (
            as_soon_as(loading(server, endless), lambda: os.kill(worker.process_id, signal.SIGKILL)),
            pytest.raises(WorkerDiedError, match="the worker ended during 'load' with signal SIGKILL"),
        ):
            worker.load(endless)
        assert ends(agents)


def test_a_lost_connection_is_told_as_such_and_ends_the_agent(ssh_server: Start, endless: Program) -> None:
    server = ssh_server()
    server.add_python()
    with connect(server.spelling).open() as worker:
        agents = server.agents()
        lost = f"the worker ended during 'load' with a lost connection to ssh://{server.target}; "
        with as_soon_as(loading(server, endless), server.cut), pytest.raises(WorkerDiedError, match=lost):
            worker.load(endless)
        assert ends(agents)
    with pytest.raises(DeviceError, match="the connection was refused"), connect(server.spelling).open():
        pass


def test_a_connection_lost_before_a_file_is_sent_is_no_fault_of_the_program(ssh_server: Start, square: Program) -> None:
    server = ssh_server()
    server.add_python()
    with connect(server.spelling).open() as worker:
        server.cut()
        with pytest.raises(WorkerDiedError, match="connection"):
            worker.load(square)


def test_an_agent_killed_on_its_device_is_told_with_its_signal(ssh_server: Start, endless: Program) -> None:
    server = ssh_server()
    server.add_python()

    def kill() -> None:
        [agent] = [each for each in server.agents() if "python" in each.exe()]
        agent.kill()

    with (
        connect(server.spelling).open() as worker,
        as_soon_as(loading(server, endless), kill),
        pytest.raises(WorkerDiedError, match=r"signal SIGKILL \(killed from outside, often because memory ran out\)"),
    ):
        worker.load(endless)


def test_nothing_is_left_when_the_host_is_killed(ssh_server: Start) -> None:
    """Neither on the device nor here, where a client stays in the background for a while."""
    server = ssh_server()
    server.add_python()
    code = "import sys\nfrom adaptare.devices import connect\nwith connect(sys.argv[1]).open():\n    sys.stdin.read()"
    host = subprocess.Popen([sys.executable, "-c", code, server.spelling], stdin=subprocess.PIPE)
    while not server.agents():
        assert host.poll() is None
    agents, sessions, clients = server.agents(), server.sessions(), psutil.Process(host.pid).children(recursive=True)
    host.kill()
    host.communicate()
    assert ends(agents)
    assert ends(sessions)
    assert ends(clients)


def test_the_connection_lasts_while_an_agent_is_compiled(ssh_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server, answers = ssh_server(), list[Answer]()

    def slow(shell: OpenSsh, runtime: str) -> Link:
        time.sleep(4 * ssh.PERSIST_S)
        answers.append(shell.run("echo still here"))
        return agent_link(shell, [], lambda package: "")

    monkeypatch.setattr(ssh, "PERSIST_S", 1)
    monkeypatch.setattr(ssh, "native_link", slow)
    with SshTransport(server.target).linked(f"{NATIVE}:"):
        assert [answer.out for answer in answers] == ["still here\n"]
        sessions = server.sessions()
    assert ends(sessions)


def test_a_connection_that_is_held_ends_when_the_host_is_killed(ssh_server: Start) -> None:
    server = ssh_server()
    code = """
import sys
from adaptare.devices.transport import NATIVE, Link
from adaptare.devices.transports import ssh
from adaptare.devices.transports.remote_shell import Answer, agent_link
from adaptare.devices.transports.ssh import OpenSsh, SshTransport
with SshTransport(sys.argv[1]).connected() as shell, shell.held():
    shell.run("exit 0")
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, server.target]
    host = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert host.stdout.readline() == "held\n"
    sessions, clients = server.sessions(), psutil.Process(host.pid).children(recursive=True)
    host.kill()
    host.communicate()
    assert ends(sessions)
    assert ends(clients)


def test_a_transfer_cut_short_leaves_no_file(ssh_server: Start, tmp_path: Path) -> None:
    server = ssh_server()
    server.add_python()
    big = tmp_path / "big"
    with big.open("wb") as content:
        content.truncate(2**33)
    with SshTransport(server.target).connected() as shell:
        target = f"{server.folder}/files/digest"
        with (
            as_soon_as(lambda: list(server.folder.glob("files/*.part")), server.cut),
            pytest.raises(DeviceError, match="connection was lost"),
        ):
            shell.put(big, target, "digest")
    receivers = [each for each in psutil.process_iter(["cmdline"]) if target in (each.info["cmdline"] or [])]
    psutil.wait_procs(receivers, timeout=WAITED_S)
    assert list((server.folder / "files").iterdir()) == []
