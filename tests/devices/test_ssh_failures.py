"""Failures of devices by ssh: each with a message of its own that says what to do next."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import DeviceError, MissingPackageError, ProgramError, WorkerDiedError
from adaptare.devices import Program, connect
from adaptare.devices.transports.ssh import failed_connection

Start = Callable[..., Any]
pytestmark = pytest.mark.ssh


def refused(spelling: str, message: str, error: type[Exception] = DeviceError) -> None:
    with pytest.raises(error, match=message), connect(spelling).open():
        pass


def test_the_host_is_unknown(ssh_server: Start) -> None:
    ssh_server()
    refused(
        "ssh://no-such-host.invalid/ort-cpu",
        "^ssh://no-such-host.invalid: the host name is unknown; check its spelling",
    )


def test_nothing_listens_there(ssh_server: Start) -> None:
    server = ssh_server()
    server.cut()
    refused(server.spelling, "the connection was refused; check the port, and start its ssh server")


def test_somebody_listens_there_and_says_nothing(ssh_server: Start) -> None:
    server = ssh_server()
    server.configuration.write_text(f"ConnectTimeout 1\n{server.configuration.read_text()}")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(
            f"ssh://127.0.0.1:{silent.getsockname()[1]}/ort-cpu", "it does not answer; check that it is switched on"
        )


def test_its_host_key_is_unknown(ssh_server: Start) -> None:
    server = ssh_server()
    server.known_hosts.write_text("")
    by_hand = f"ssh -p {server.port} {server.user}@127.0.0.1"
    refused(
        server.spelling, f"its host key is unknown here; connect once by hand and compare the fingerprint: {by_hand}$"
    )
    assert server.known_hosts.read_text() == ""


def test_its_host_key_changed(ssh_server: Start) -> None:
    """Named by the address of an alias too; once removed by the advice, the key is unknown."""
    server = ssh_server()
    other = server.new_key("other").with_suffix(".pub").read_text()
    server.known_hosts.write_text(server.known_hosts.read_text().split()[0] + " " + other)
    advice = rf"ssh-keygen -R '\[127.0.0.1\]:{server.port}'"
    refused("ssh://board/ort-cpu", f"its host key changed: .*{advice}, and then .* by hand: ssh board$")
    refused(server.spelling, f"its host key changed: .*{advice}")
    command = ["ssh-keygen", "-f", server.known_hosts, "-R", f"[127.0.0.1]:{server.port}"]
    subprocess.run(command, check=True, capture_output=True)
    refused(server.spelling, "its host key is unknown here")


def test_the_key_is_the_wrong_one(ssh_server: Start) -> None:
    server = ssh_server()
    server.configuration.write_text(
        server.configuration.read_text().replace(str(server.place / "user"), str(server.new_key("stranger")))
    )
    refused(server.spelling, f"it accepts no key of yours.*ssh-copy-id -p {server.port} {server.user}@127.0.0.1")


def test_ssh_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    refused("ssh://host/ort-cpu", "the program 'ssh' is not installed here; install the client of OpenSSH")


def test_there_is_no_python(ssh_server: Start) -> None:
    server = ssh_server()
    refused(server.spelling, rf"^ssh://{server.target}: 'python3' does not exist there; install Python 3.9 or newer")
    refused(
        f"{server.spelling}:python=of/mine", "'of/mine' does not exist there; .* or name another one by .* python=PATH"
    )


@pytest.mark.parametrize("told", ["I am a snake", "[]", '{"version": 3, "managed": false, "adaptare": ""}'])
def test_python_tells_something_else_than_its_facts(ssh_server: Start, told: str) -> None:
    server = ssh_server()
    server.add_program("python3", f"echo '{told}'")
    refused(server.spelling, "'python3' is no working Python; its output: 'no.n")


@pytest.mark.parametrize("package", ["numpy", "onnxruntime"])
def test_a_package_is_missing(ssh_server: Start, package: str) -> None:
    server = ssh_server()
    server.add_python(without=[package])
    by_hand = f"ssh -p {server.port} {server.user}@127.0.0.1"
    advice = f"""install it on the device with: {by_hand} "python3 -m pip install numpy 'onnxruntime>=1.24'"$"""
    refused(server.spelling, f"^{package} is not installed; {advice}", MissingPackageError)


def test_a_missing_module_is_named_unlike_its_package(ssh_server: Start, tmp_path: Path) -> None:
    server = ssh_server()
    refusal = {
        "seq": 1,
        "ok": False,
        "error": "it is not installed",
        "cause": "package",
        "package": "onnxruntime_genai",
    }
    facts = {"version": [3, 12, 1], "managed": False, "adaptare": ""}
    server.add_program(
        "python3", f"[ $1 = -c ] && echo '{json.dumps(facts)}' && exit; read -r asked; echo '{json.dumps(refusal)}'"
    )
    (tmp_path / "genai_config.json").write_text("{}")
    advice = "install it on the device with: ssh .* -m pip install .*onnxruntime-genai"
    refused(f"ssh://{server.target}/ort-genai:folder={tmp_path}", advice, MissingPackageError)


def test_a_python_of_the_operating_system_takes_no_packages(ssh_server: Start) -> None:
    server = ssh_server()
    refusal = {"seq": 1, "ok": False, "error": "numpy is not installed", "cause": "package", "package": "numpy"}
    facts = {"version": [3, 13, 5], "managed": True, "adaptare": ""}
    server.add_program(
        "python3", f"[ $1 = -c ] && echo '{json.dumps(facts)}' && exit; read -r asked; echo '{json.dumps(refusal)}'"
    )
    advice = (
        r"""make one with: ssh .* "python3 -m venv adaptare && adaptare/bin/pip install numpy 'onnxruntime>=1.24'", """
    )
    refused(server.spelling, f"{advice}and give the device the option python=adaptare/bin/python$", MissingPackageError)


def test_torch_needs_adaptare_there(ssh_server: Start) -> None:
    server = ssh_server()
    server.add_python()
    told = rf"""ssh://{server.target} lacks adaptare, .*: ssh .* "python3 -m pip install 'adaptare\[torch\]==.*'"$"""
    refused(f"ssh://{server.target}/torch-cpu", told, MissingPackageError)


def test_torch_itself_is_missing_there(ssh_server: Start, tmp_path: Path, worker_modules: Path) -> None:
    lacking = ["import importlib.metadata as metadata", "version = metadata.version", "def lacking(name):"]
    lacking += ["    if name == 'torch':", "        raise metadata.PackageNotFoundError", "    return version(name)"]
    (tmp_path / "sitecustomize.py").write_text("\n".join([*lacking, "metadata.version = lacking"]))
    server = ssh_server()
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    server.add_program("python3", f"PYTHONPATH='{paths}' exec {sys.executable} \"$@\"")
    told = r"""^torch is not installed; install it on the device with: ssh .* -m pip install 'adaptare\[torch\]'"$"""
    refused(f"ssh://{server.target}/torch-cpu", told, MissingPackageError)


def test_torch_needs_the_same_adaptare_there(ssh_server: Start) -> None:
    server = ssh_server()
    server.add_program("python3", """echo '{"version": [3, 13, 5], "managed": false, "adaptare": "0.0.1"}'""")
    refused(f"ssh://{server.target}/torch-cpu", "has adaptare 0.0.1, and this runtime needs", MissingPackageError)


def test_it_serves_one_session_only(ssh_server: Start, square: Program) -> None:
    server = ssh_server(settings=["MaxSessions 1"])
    server.add_python()
    with (
        connect(server.spelling).open() as worker,
        pytest.raises(WorkerDiedError, match="it refuses a second session on one connection; raise MaxSessions"),
    ):
        worker.load(square)


def test_its_shell_greets_everybody(ssh_server: Start) -> None:
    server = ssh_server(shell="greeting")
    server.add_program("greeting", 'echo Welcome; exec sh "$@"')
    refused(server.spelling, r"its login shell printed 'Welcome\\n.*; its start-up files must print nothing")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, int], None]]:
    """Puts a file system of few KiB in place of a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, kibibytes: int) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_its_disk_has_no_space_for_the_agent(ssh_server: Start, small_disk: Callable[[Path, int], None]) -> None:
    server = ssh_server()
    server.add_python()
    small_disk(server.cache, 12)
    told = "the agent could not be brought to the device: .*No space left on device; free some space there, or"
    refused(server.spelling, rf"{told} clean it$")
    assert [file.name for file in server.folder.rglob("*") if file.is_file()] == ["CACHEDIR.TAG"]


def test_its_disk_has_no_space_for_a_program(
    ssh_server: Start, small_disk: Callable[[Path, int], None], square: Program
) -> None:
    server = ssh_server()
    server.add_python()
    small_disk(server.cache, 128)
    with connect(server.spelling).open() as worker:
        (server.cache / "others").write_bytes(bytes(40_000))
        with pytest.raises(OSError, match="No space left"):
            (server.cache / "more").write_bytes(bytes(100_000))
        with pytest.raises(
            ProgramError, match=r"square.onnx could not be brought .*No space left on device; free some"
        ):
            worker.load(square)
        (server.cache / "more").unlink()
        assert worker.load(square).outputs


def test_the_device_may_not_be_written_to(ssh_server: Start) -> None:
    server = ssh_server()
    shutil.rmtree(server.cache)
    server.cache.write_text("a file in place of a folder")
    refused(server.spelling, f"'{server.folder}' cannot be created: mkdir: .*Not a directory")


def test_words_that_nobody_knows_are_passed_on() -> None:
    error = failed_connection("ssh://host", "host", "host", "first\n\nkex_exchange: no match\n")
    assert str(error) == "ssh://host: ssh failed: first | kex_exchange: no match; try it by hand: ssh host"
