"""Phones and other systems behind Android's debug bridge, by the user's own `adb`."""

import hashlib
import os
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

from adaptare.core import DeviceError, InputError
from adaptare.devices.transport import Link, Transport, ended_by, is_native
from adaptare.devices.transports.native_agent import native_link
from adaptare.devices.transports.remote_shell import (
    CHECKED,
    Answer,
    clean_folder,
    reason,
    run_command,
    transfer_timeout_s,
)

# The only folder in which Android's shell may both write and run programs.
FOLDER = "/data/local/tmp/adaptare"
ANSWERED_S = 30
HASHES = ("sha256sum", "shasum")
# `adb` ends with 0 when the device is lost, so a script has ended only if this follows.
END = "adaptare ends with "
READY = "device"
# Beginning of a state, as listed by `adb devices` -> explanation and advice.
STATES = {
    "unauthorized": "it does not trust this computer; unlock it and confirm the question about USB debugging",
    "authorizing": "it is still deciding about this computer; unlock it, confirm, and try again",
    "offline": "it is offline; plug it in again, or: adb -s {serial} reconnect",
    "no permissions": "this user may not use the USB device; install the rules of your system (android-udev-rules)",
    "recovery": "it is in its recovery system; start Android",
    "sideload": "it waits for an update; start Android",
    "bootloader": "it is in its boot loader; start Android",
}
OTHER_STATE = "its state is {state!r}; start Android with USB debugging enabled"
NO_STATE = "it is not attached; attached are: {attached}; for a device in the network: adb connect HOST:5555"
MKDIR = 'mkdir -p "${1%/*}"'
MOVED = 'mv -f "$1" "$2"'
# A pushed file keeps the time of its source, and would count as the least recently used one.
USED = 'touch -c "$1" 2>/dev/null || :'
REMOVED = 'rm -f "$1"'


def attached() -> dict[str, str]:
    """Serial -> state of every attached device. Raises `DeviceError`."""
    listed = _ran(["devices"])
    if listed.code:
        raise DeviceError(f"adb failed: {_words(listed)}")
    lines = [line.split(maxsplit=1) for line in listed.out.splitlines()[1:] if line.strip()]
    return {serial: state.strip() for serial, state in lines}


def _ran(arguments: Sequence[str], timeout_s: float = ANSWERED_S) -> Answer:
    """Runs `adb`. Raises `DeviceError` if it is not installed or does not answer."""
    missing = (
        "the program 'adb' is not installed here; install it with: apt-get install adb, or take it from Android's "
        "platform tools"
    )
    late = f"adb {' '.join(arguments)[:60]}: no answer within {timeout_s:.0f} s"
    return run_command(["adb", *arguments], timeout_s=timeout_s, late=late, missing=missing)


def _words(answer: Answer) -> str:
    """The line of its output that reports an error, or the last one."""
    lines = (answer.out + answer.err).strip().splitlines() or [f"exit code {answer.code}"]
    return [*lines, *(line for line in lines if "error:" in line)][-1]


class AdbShell:
    """Shell of a device behind the bridge. Raises `DeviceError` if it is not ready, or reports no exit codes."""

    def __init__(self, serial: str) -> None:
        self._serial, self.name, self.folder = serial, f"adb:{serial}", FOLDER
        if problem := self._problem():
            raise DeviceError(f"{self.name}: {problem}")
        if "shell_v2" not in _ran(["-s", self._serial, "features"]).out.split():
            raise DeviceError(f"{self.name}: its debug bridge reports no exit codes; Android 7 or later is needed")

    def command(self, script: str, *arguments: str) -> list[str]:
        return ["adb", "-s", self._serial, "shell", "-T", _line(script, arguments)]

    def run(self, script: str, *arguments: str, timeout_s: float = 60.0) -> Answer:
        line = f'{_line(script, arguments)}; echo "{END}$?"'
        answer = _ran(["-s", self._serial, "shell", "-T", line], timeout_s)
        out, end, code = answer.out.rpartition(END)
        if not end or not code.strip().isdigit():
            raise self._lost(answer)
        return Answer(int(code), out, answer.err)

    def put(self, source: Path, target: str, digest: str) -> None:
        part = f"{target}.{os.getpid()}.part"
        self.run(MKDIR, target)
        timeout_s = transfer_timeout_s(source.stat().st_size)
        pushed = _ran(["-s", self._serial, "push", str(source), part], timeout_s)
        if pushed.code:
            if self._problem():
                raise self._lost(pushed)
            self.run(REMOVED, part)
            raise OSError(f"{self.name}: {reason(Answer(pushed.code, '', _words(pushed)))}")
        self.run(USED, part)
        checked = partial(self.run, CHECKED) if self._hashes else partial(self._compared, timeout_s=timeout_s)
        answer = checked(part, digest, target)
        if answer.code:
            raise OSError(f"{self.name}: {reason(answer)}")

    def cause(self, code: int) -> str:
        if problem := self._problem():
            return f"a lost connection: {problem}"
        return ended_by(code) if code else "a lost connection (adb then ends with exit code 0)"

    @cached_property
    def _hashes(self) -> bool:
        return not self.run(" || ".join(f"command -v {name} >/dev/null" for name in HASHES)).code

    def _compared(self, part: str, digest: str, target: str, timeout_s: float) -> Answer:
        """Renames a file whose hash is right, for devices that compute none: its content is read back."""
        content = hashlib.sha256()
        command = ["adb", "-s", self._serial, "exec-out", shlex.join(["cat", part])]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        ) as back:
            late = threading.Timer(timeout_s, back.kill)
            late.start()
            try:
                while back.stdout is not None and (piece := back.stdout.read(2**20)):
                    content.update(piece)
            finally:
                late.cancel()
        if content.hexdigest() == digest:
            return self.run(MOVED, part, target)
        self.run(REMOVED, part)
        return Answer(1, "", "its content does not arrive unchanged")

    def _problem(self) -> str:
        """Explanation of the present state; empty if the device is ready."""
        devices = attached()
        state = devices.get(self._serial, "")
        if state == READY:
            return ""
        known = [explanation for start, explanation in STATES.items() if state.startswith(start)]
        explanation = [*known, OTHER_STATE][0] if state else NO_STATE
        others = ", ".join(f"{serial} ({status})" for serial, status in devices.items()) or "none"
        return explanation.format(attached=others, serial=self._serial, state=state)

    def _lost(self, answer: Answer) -> DeviceError:
        problem = self._problem() or f"the connection was lost; output of adb: {_words(answer)}"
        return DeviceError(f"{self.name}: {problem}; run the same command again to resume")


def _line(script: str, arguments: Sequence[str]) -> str:
    """The script with its arguments, quoted for the shell of the device."""
    return shlex.join(["sh", "-c", script, "sh", *arguments])


class AdbTransport(Transport):
    """Runs the agent in C on a device, by the user's own `adb`; nothing is installed there.

    Args:
        serial: As listed by `adb devices`, for example `0A041FDD4003Z7` or `192.168.1.5:5555`.
    """

    def __init__(self, serial: str) -> None:
        if not serial or serial.startswith("-"):
            there = ", ".join(attached()) or "none"
            raise InputError(f"adb needs the serial of a device: adb:SERIAL/ort-native; attached are: {there}")
        self._serial = serial
        self.name = f"adb:{serial}"

    @contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        """Prepares an agent. Raises `InputError` for one in Python, of which there is none on phones."""
        if not is_native(runtime):
            raise InputError(
                "over adb there is no Python, in which ort-cpu, ort-mobile and others run; the agent in C, which runs "
                f"the same models there, is spelled {self.name}/ort-native"
            )
        yield native_link(AdbShell(self._serial), runtime)

    def clean(self) -> int:
        """Removes adaptare's files from the device. Returns the bytes freed. Raises `DeviceError`."""
        return clean_folder(AdbShell(self._serial))
