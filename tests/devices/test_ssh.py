"""Devices by ssh, at a real server on loopback that has another home, few programs and no adaptare."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import InputError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, connect
from adaptare.devices.transports import python_agent
from adaptare.devices.transports.ssh import SshTransport

Start = Callable[..., Any]
pytestmark = pytest.mark.ssh


def test_a_device_is_opened_again_by_what_it_says_of_itself(ssh_server: Start) -> None:
    server = ssh_server()
    server.add_python("python-of-mine")
    (server.home / "bin").symlink_to(server.tools)
    info = connect(f"{server.spelling}:python=bin/python-of-mine,timeout_s=60").info()
    assert info.device == f"{server.spelling}:threads={info.threads},python=bin/python-of-mine"
    assert connect(info.device).info() == info


def test_an_alias_and_a_jump_host_of_the_configuration_name_a_device(ssh_server: Start) -> None:
    server = ssh_server()
    server.add_python()
    jump = f"Host inner\nHostName 127.0.0.1\nPort {server.port}\nProxyJump board\n"
    server.configuration.write_text(jump + server.configuration.read_text())
    for alias in ("board", "inner"):
        assert connect(f"ssh://{alias}/ort-cpu").info().device.startswith(f"ssh://{alias}/ort-cpu:threads=")


def test_agent_and_program_files_are_sent_once(ssh_server: Start, square: Program) -> None:
    server = ssh_server()
    server.add_python()
    with connect(server.spelling).open() as worker:
        outputs = worker.load(square).outputs
    kept = {file: file.stat().st_ino for file in server.folder.rglob("*") if file.is_file()}
    shutil.rmtree(square.files[0].path.parent)
    with connect(server.spelling).open() as worker:
        assert worker.load(square).outputs == outputs
    assert {file: file.stat().st_ino for file in server.folder.rglob("*") if file.is_file()} == kept
    agents, files = (list((server.folder / name).iterdir()) for name in ("agents", "files"))
    assert ([file.name for file in files], len(agents)) == ([square.files[0].digest], 1)
    for file in (*agents, *files):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem


def test_agents_of_two_versions_stand_side_by_side(ssh_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ssh_server()
    server.add_python()
    connect(server.spelling).info()
    monkeypatch.setattr(python_agent, "START", f"# of another version\n{python_agent.START}")
    connect(server.spelling).info()
    assert len(list((server.folder / "agents").iterdir())) == 2


@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
def test_any_posix_shell_will_do(ssh_server: Start, square: Program, shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell.split()[0]} is not installed")
    server = ssh_server(shell=shutil.which(shell.split()[0]) + shell.removeprefix(shell.split()[0]))
    server.add_python()
    with connect(server.spelling).open() as worker:
        assert worker.load(square).providers == {"CPUExecutionProvider": 1}


def test_without_a_program_for_hashes_python_does_it(ssh_server: Start, square: Program) -> None:
    server = ssh_server(programs=("sh", "cat", "mkdir", "mv", "rm"))
    server.add_python()
    with connect(server.spelling).open() as worker:
        worker.load(square)
    assert [file.name for file in (server.folder / "files").iterdir()] == [square.files[0].digest]


def test_without_a_cache_folder_of_its_own_the_usual_one_is_taken(ssh_server: Start) -> None:
    server = ssh_server(cache="relative/paths/are/ignored")
    server.add_python()
    connect(server.spelling).info()
    assert [folder.name for folder in (server.home / ".cache/adaptare/device").iterdir() if folder.is_dir()]


def test_torch_runs_where_adaptare_is_installed(ssh_server: Start, worker_modules: Path) -> None:
    server = ssh_server()
    server.add_program("whole", f"PYTHONPATH='{os.environ['PYTHONPATH']}' exec {sys.executable} \"$@\"")
    feed = Feed("only", "{}", Work(1, 1, 1))
    program = Program("linear", "worker_programs:torch_linear", canonical_json({"width": 8}), (feed,))
    with connect(f"ssh://{server.target}/torch-cpu:python=whole").open() as worker:
        assert len(worker.run(worker.load(program).program_id, "only", 3)) == 3
        assert worker.info.runtime.startswith("torch")


@pytest.mark.parametrize("target", ["-oProxyCommand=x", "a b", "user@", "@host", "host:70000", "host:x", "", "u@-v"])
def test_what_names_no_host_never_reaches_the_client(target: str) -> None:
    with pytest.raises(InputError, match="names no host; write ssh://user@host:22/ort-cpu, user and port optional"):
        SshTransport(target)


@pytest.mark.parametrize("target", ["pi@raspberrypi.local", "10.0.0.7:2222", "[fe80::1%eth0]:22", "my_host"])
def test_hosts_are_spelled_as_usual(target: str) -> None:
    assert SshTransport(target).name == f"ssh://{target}"


def test_an_option_is_no_python() -> None:
    with pytest.raises(InputError, match="python must be a command or a path on the device"):
        SshTransport("host", python="-c")


def test_what_the_configuration_asks_for_other_sessions_does_no_harm(ssh_server: Start, square: Program) -> None:
    server = ssh_server()
    server.add_python()
    asked = ["RemoteCommand uptime", "RequestTTY force", "ForwardAgent yes", "LogLevel QUIET", "ControlMaster auto"]
    asked += ["ControlPath none", "LocalForward 127.0.0.1:1 127.0.0.1:1", "ExitOnForwardFailure yes"]
    server.configuration.write_text(server.configuration.read_text() + "\n".join(asked) + "\n")
    with connect(server.spelling).open() as worker:
        assert worker.load(square).outputs
