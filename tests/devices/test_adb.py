"""Devices by adb, at a real adbd with a network of its own: what is sent, kept, lost and told."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import DeviceError, InputError, ProgramError, WorkerDiedError
from adaptare.devices import Program, connect
from adaptare.devices.native.build import bundle_for
from adaptare.devices.native.compiler import target_here
from adaptare.devices.transports.adb import AdbShell
from adaptare.workflows.devices import cleaned

Start = Callable[..., Any]
pytestmark = [pytest.mark.adb, pytest.mark.native]
# Far more than anything here takes; reaching it is a failure.
WAITED_S = 60


def nothing_left(device: Any) -> bool:
    """True if all agents on the device end by themselves."""
    end = time.monotonic() + WAITED_S
    while device.processes() and time.monotonic() < end:
        time.sleep(0.05)
    return not device.processes()


def test_a_device_is_opened_again_by_what_it_says_of_itself(phone: Start) -> None:
    device = phone()
    info = connect(device.spelling).info()
    assert info.device == f"{device.spelling}:threads=1"
    assert info.hardware == f"Loopback One AB12 ({os.uname().machine})"
    assert connect(info.device).info() == info


def test_bundle_and_program_files_are_sent_once(phone: Start, square: Program) -> None:
    device = phone()
    with connect(device.spelling).open() as worker:
        outputs = worker.load(square).outputs
    kept = {file: file.stat().st_ino for file in device.folder.rglob("*") if file.is_file()}
    shutil.rmtree(square.files[0].path.parent)
    with connect(device.spelling).open() as worker:
        assert worker.load(square).outputs == outputs
    assert {file: file.stat().st_ino for file in device.folder.rglob("*") if file.is_file()} == kept
    agents, files = ([file.name for file in (device.folder / name).iterdir()] for name in ("agents", "files"))
    assert (agents, files) == ([bundle_for(target_here()).digest], [square.files[0].digest])


@pytest.mark.parametrize("programs", [("sha256sum",), ()], ids=["hashed there", "hashed here"])
def test_a_file_that_does_not_arrive_unchanged_is_removed(
    phone: Start, square: Program, programs: tuple[str, ...]
) -> None:
    device = phone(programs=("sh", "cat", "chmod", "du", "mkdir", "mv", "rm", "uname", *programs))
    with connect(device.spelling).open() as worker:
        for name in ("sha256sum", "cat"):
            if (device.tools / name).exists():
                device.add_program(name, "#!/bin/sh\necho something else\n")
        with pytest.raises(ProgramError, match="its content does not arrive unchanged"):
            worker.load(square)
    assert list((device.folder / "files").iterdir()) == []


def test_a_device_without_a_program_for_hashes_will_do(phone: Start, square: Program) -> None:
    device = phone(programs=("sh", "cat", "chmod", "du", "mkdir", "mv", "rm", "uname"))
    with connect(device.spelling).open() as worker:
        assert worker.run(worker.load(square).program_id, "only", 2)


def test_cleaning_removes_what_was_sent(phone: Start, square: Program) -> None:
    device = phone()
    with connect(device.spelling).open() as worker:
        worker.load(square)
    assert cleaned([device.spelling])[device.spelling] > 30 * 2**20
    assert not device.folder.exists()
    assert cleaned([device.spelling])[device.spelling] == 0


def test_a_device_killed_in_a_call_is_an_error_and_leaves_nothing(phone: Start, endless: Program) -> None:
    device = phone()

    def kill_once_it_loads() -> None:
        end = time.monotonic() + WAITED_S
        while not list(device.folder.glob("programs/*/*")) and time.monotonic() < end:
            time.sleep(0.01)
        device.kill()

    with connect(device.spelling).open() as worker:
        killer = threading.Thread(target=kill_once_it_loads)
        killer.start()
        with pytest.raises(WorkerDiedError, match="during 'load' with a lost connection"):
            worker.load(endless)
        killer.join()
    assert nothing_left(device)
    device.start()
    assert connect(device.spelling).info().threads == 1


def test_a_device_killed_between_requests_is_an_error(phone: Start, square: Program) -> None:
    device = phone()
    with connect(device.spelling).open() as worker:
        loaded = worker.load(square)
        device.kill()
        with pytest.raises(WorkerDiedError, match="a lost connection: it is offline"):
            worker.run(loaded.program_id, "only", 1)


def test_an_agent_that_hangs_is_ended_on_its_device(phone: Start, endless: Program) -> None:
    device = phone()
    with connect(device.spelling).open() as worker:
        assert device.processes()
        worker._timeout_s = 5
        with pytest.raises(WorkerDiedError, match="no answer to 'load' within 5 s"):
            worker.load(endless)
    assert nothing_left(device)


def test_an_agent_killed_on_its_device_is_told_with_its_signal(phone: Start, square: Program) -> None:
    device = phone()
    with connect(device.spelling).open() as worker:
        loaded = worker.load(square)
        for process in device.processes():
            with contextlib.suppress(OSError):  # one that has ended with the one before it
                if b"sh\0-c" not in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match=r"signal SIGKILL \(killed from outside"):
            worker.run(loaded.program_id, "only", 1)


def test_a_device_that_is_offline_says_so(phone: Start) -> None:
    device = phone()
    device.kill()
    with pytest.raises(DeviceError, match=f"adb:{device.serial}: it is offline; plug it in again"):
        connect(device.spelling).info()


def test_a_device_that_is_not_attached_is_answered_with_those_that_are(phone: Start) -> None:
    device = phone()
    with pytest.raises(DeviceError, match=rf"adb:PIXEL: it is not attached; attached are: {device.serial} \(device\)"):
        connect("adb:PIXEL/ort-native").info()


def test_without_a_serial_the_attached_devices_are_listed(phone: Start) -> None:
    """adb may list an emulator as well: it takes whatever listens on such a port for one."""
    device = phone()
    other = device.serial.replace("127.0.0.1", "localhost")
    assert "connected to" in device.adb("connect", other)
    with pytest.raises(InputError, match="adb needs the serial of a device: ") as raised:
        connect("adb:/ort-native")
    assert {device.serial, other} <= set(str(raised.value).partition("attached are: ")[2].split(", "))


def test_its_disk_has_no_space_for_a_program(phone: Start, square: Program) -> None:
    device = phone()
    device.fill("80m")
    with connect(device.spelling).open() as worker:
        device.write_until_full("others")
        with pytest.raises(
            ProgramError, match=r"square.onnx could not be brought .*No space left on device; free some"
        ):
            worker.load(square)
        device.remove("others")
        assert worker.load(square).outputs


def test_its_folder_may_not_be_written_to(phone: Start) -> None:
    device = phone()
    device.remount("ro")
    with pytest.raises(DeviceError, match=r"'/data/local/tmp/adaptare' cannot be created: .*Read-only"):
        connect(device.spelling).info()


def test_its_folder_may_not_run_programs(phone: Start) -> None:
    device = phone()
    device.remount("noexec")
    with pytest.raises(DeviceError, match=r"the agent does not run there: .*Permission denied; .* with libraries"):
        connect(device.spelling).info()


def test_there_is_no_bundle_for_its_system(phone: Start) -> None:
    device = phone()
    device.add_program("uname", "#!/bin/sh\n[ $1 = -s ] && echo Linux || echo armv7l\n")
    with pytest.raises(DeviceError, match="there is no native agent for Linux on armv7l; there is one for x86_64"):
        connect(device.spelling).info()


def test_there_is_no_python_by_adb(phone: Start) -> None:
    with pytest.raises(InputError, match=r"over adb there is no Python, .* is spelled adb:.*/ort-native$"):
        connect(f"adb:{phone().serial}/torch-cpu").info()


def test_adb_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="'adb' is not installed here; install it with: apt-get install adb"):
        connect("adb:PIXEL/ort-native").info()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("unauthorized", "it does not trust this computer; unlock it and confirm"),
        ("no permissions (user in plugdev group; are your udev rules wrong?)", "this user may not use the USB device"),
        ("host", "its state is 'host'"),
    ],
)
def test_states_of_usb_devices_have_their_own_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, message: str
) -> None:
    """adbd on Linux trusts everybody and has no USB: the client's list of devices stands in for theirs."""
    client = tmp_path / "adb"
    client.write_text(f"#!/bin/sh\nprintf 'List of devices attached\\nPIXEL\\t{state}\\n\\n'\n", encoding="utf-8")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    with pytest.raises(DeviceError, match=message):
        connect("adb:PIXEL/ort-native").info()


def test_a_read_back_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client stands in that answers everything else."""
    client = tmp_path / "adb"
    answers = """case "$*" in
devices*) printf 'List of devices attached\\nPIXEL\\tdevice\\n\\n';;
*features*) echo shell_v2;;
*exec-out*) exec sleep 600;;
*) echo "adaptare ends with 0";;
esac"""
    client.write_text(f"#!/bin/sh\n{answers}\n", encoding="utf-8")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    answer = AdbShell("PIXEL")._compared("part", "digest", "target", timeout_s=1)
    assert (answer.code, answer.err) == (1, "its content does not arrive unchanged")
