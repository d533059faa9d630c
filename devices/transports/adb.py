"""Phones and other systems behind Android's debug bridge."""

from collections.abc import Iterator
from contextlib import contextmanager

from adaptare.core import InputError
from adaptare.devices.transport import Link, Transport, is_native
from adaptare.devices.transports.adb_shell import AdbShell, attached
from adaptare.devices.transports.device_folder import clean_folder
from adaptare.devices.transports.native_agent import native_link


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
