"""Compilation of the agent for any target, by the C compiler of the package ziglang."""

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from adaptare.core import DeviceError, InputError
from adaptare.core.lazy_names import check_installed

SOURCES = Path(__file__).parent
HEADER = "onnxruntime_c_api.h"
INCLUDES = tuple(
    Path(folder) / below
    for folder in ("/usr/include", "/usr/local/include")
    for below in ("onnxruntime", "onnxruntime/core/session", "")
)
FLAGS = ("-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror")
# The oldest C library that is supported, which is that of the wheels of ONNX Runtime.
GLIBC = "2.28"
LIBRARIES = ("-ldl", "-lpthread", "-lm")


@dataclass(frozen=True)
class BuildTarget:
    """A kind of system.

    Args:
        processor: Name of its processors for compilers and in wheels.
        others: Further names that systems of this kind give their processors.
        loader: File name of the dynamic loader.
        debian: Debian's name of the architecture.
    """

    processor: str
    others: tuple[str, ...]
    loader: str
    debian: str

    @property
    def name(self) -> str:
        """Its name in options."""
        return f"{self.processor}-linux"


TARGETS = {
    target.name: target
    for target in (
        BuildTarget("x86_64", ("amd64",), "ld-linux-x86-64.so.2", "amd64"),
        BuildTarget("aarch64", ("arm64", "armv8l"), "ld-linux-aarch64.so.1", "arm64"),
    )
}


def target_named(name: str = "") -> BuildTarget:
    """The target with this name; that of this machine by default. Raises `InputError` and `DeviceError`."""
    if not name:
        return target_here()
    if name not in TARGETS:
        raise InputError(f"there is no agent for {name!r}; targets are {', '.join(TARGETS)}")
    return TARGETS[name]


def target_of(system: str, machine: str) -> BuildTarget:
    """The target of a system, by the names it gives itself and its processor. Raises `DeviceError`."""
    for target in TARGETS.values():
        if system == "Linux" and machine.lower() in (target.processor, *target.others):
            return target
    raise DeviceError(f"there is no native agent for {system} on {machine}; there is one for {', '.join(TARGETS)}")


def target_here() -> BuildTarget:
    """The target of this machine. Raises `DeviceError`."""
    if not hasattr(os, "uname"):
        raise DeviceError(f"there is no native agent for {sys.platform}; there is one for {', '.join(TARGETS)}")
    return target_of(os.uname().sysname, os.uname().machine)


def source_digest() -> str:
    """SHA-256 of everything that the agent is compiled from, without the header of ONNX Runtime."""
    content = hashlib.sha256(" ".join((*FLAGS, *LIBRARIES)).encode())
    for file in sorted(SOURCES.glob("*.[ch]")):
        content.update(file.name.encode() + file.read_bytes())
    return content.hexdigest()


def find_header(folder: Path | None) -> Path:
    """Folder with ONNX Runtime's header for C: below `folder`, or where systems install it. Raises `InputError`."""
    if folder is None:
        folders = [place for place in INCLUDES if (place / HEADER).is_file()]
    else:
        folders = [file.parent for file in sorted(folder.rglob(HEADER))]
    if not folders:
        where = f"in {str(folder)!r}" if folder else "on this machine"
        raise InputError(
            f"there is no {HEADER} {where}; install it with: apt-get install libonnxruntime-dev, or name a folder that "
            "has it, such as `include` of a release of ONNX Runtime"
        )
    return folders[0]


def compile_agent(target: BuildTarget, headers: Path | None) -> bytes:
    """The compiled agent; the first compilation for a target takes some ten seconds.

    Raises:
        InputError: The header of ONNX Runtime is missing, or too old.
        MissingPackageError: The compiler is not installed.
    """
    header = find_header(headers)
    check_installed("ziglang")
    files = [str(file) for file in sorted(SOURCES.glob("*.c"))]
    with tempfile.TemporaryDirectory(prefix="adaptare-") as place:
        built = Path(place) / "agent"
        command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{target.name}-gnu.{GLIBC}", *FLAGS, "-s"]
        command += ["-I", str(header), *files, "-o", str(built), *LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error: " in line]
            raise InputError(
                f"the agent cannot be compiled with the header in {str(header)!r}, which must be of version 1.16 or "
                f"later; the compiler reports: {errors[0] if errors else done.stderr.strip()[-500:]}"
            )
        return built.read_bytes()
