"""The agent in C for another processor, by qemu's emulation: function, not time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adaptare.core import DeviceError
from adaptare.devices import AgentDevice, Link, ProgramFile, Transport
from adaptare.devices.native.build import build_bundle
from adaptare.devices.native.bundle import Bundle
from adaptare.devices.native.compiler import TARGETS
from adaptare.devices.onnx_runtime import ort_native

EMULATOR = shutil.which("qemu-aarch64")
TARGET = TARGETS["aarch64-linux"]


class Emulated(Transport):
    """Starts the agent of a bundle in the emulator, with no library of this machine."""

    def __init__(self, bundle: Bundle, place: Path) -> None:
        self._bundle, self._place = bundle, place

    @contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        def bring(file: ProgramFile) -> None:
            shutil.copyfile(file.path, self._place / "files" / file.digest)

        command = [str(EMULATOR), *self._bundle.command(str(self._bundle.folder)), str(self._place)]
        yield Link(command, bring, {})


def device(place: Path) -> AgentDevice:
    """With the library of the official wheel and the C library of Debian, both fetched."""
    try:
        bundle = build_bundle(TARGET, folder=place / "bundle", libraries=["debian"])
    except DeviceError as error:
        pytest.skip(str(error))
    return ort_native(threads=1, timeout_s=120, transport=Emulated(bundle, place / "storage"))
