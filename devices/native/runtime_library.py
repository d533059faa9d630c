"""ONNX Runtime's shared library for a target: installed, in a wheel, or a file of the user's."""

import importlib.util
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adaptare.core import DeviceError, InputError, MissingPackageError
from adaptare.devices.native.bundle import Content
from adaptare.devices.native.compiler import Target

# In a wheel and in an installation.
INSIDE = re.compile(r"(?:.*/)?onnxruntime/capi/libonnxruntime\.so(?:\.[\d.]+)?")
VERSION = re.compile(r"\.so\.(\d[\d.]*)$")
LICENCE = "MIT"


@dataclass(frozen=True)
class RuntimeLibrary:
    """The library.

    Args:
        name: File name.
        runtime: Name and version, for example `onnxruntime 1.32.0`; the version is `unknown` if no file name has it.
        content: What goes into the bundle.
    """

    name: str
    runtime: str
    content: Content


def installed_runtime() -> str:
    """Name and version of the installed ONNX Runtime, for example `onnxruntime 1.32.0`; empty if there is none."""
    try:
        return f"onnxruntime {metadata.version('onnxruntime')}"
    except metadata.PackageNotFoundError:
        return ""


def installed_library() -> RuntimeLibrary:
    """The library of the installed package. Raises `MissingPackageError`."""
    spec = importlib.util.find_spec("onnxruntime")
    folder = Path(spec.origin).parent / "capi" if spec and spec.origin else Path()
    libraries = sorted(file for file in folder.glob("libonnxruntime.so*") if file.is_file())
    if not libraries:
        raise MissingPackageError(
            "there is no library of onnxruntime for this system; install it with: pip install 'adaptare[onnx]', or "
            "name the file of a library"
        )
    runtime = installed_runtime()
    return RuntimeLibrary(libraries[0].name, runtime, Content(libraries[0], f"{runtime}, as installed here", LICENCE))


def elf_file(file: Path) -> Path:
    """The file, if it is a program or library for Linux or Android. Raises `InputError`."""
    try:
        with file.open("rb") as content:
            start = content.read(4)
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read: {error.strerror or error}") from error
    if start != b"\x7fELF":
        raise InputError(f"{str(file)!r} is no program or shared library for Linux or Android (ELF)")
    return file


def library_of_file(file: Path) -> RuntimeLibrary:
    """A library given by the user, for example out of the archive for Android. Raises `InputError`."""
    version = VERSION.search(file.name)
    runtime = f"onnxruntime {version[1] if version else 'unknown'}"
    return RuntimeLibrary(file.name, runtime, Content(elf_file(file), f"{file.name}, given", "as given"))


def library_of_wheel(file: Path, target: Target) -> RuntimeLibrary:
    """The library in a wheel. Raises `InputError` if it is none of ONNX Runtime for the target."""
    if file.name.split("-")[0] != "onnxruntime" or not file.name.endswith(f"_{target.machines[0]}.whl"):
        raise InputError(f"{file.name!r} is no wheel of onnxruntime for {target.name}; it is named {_pattern(target)}")
    try:
        with zipfile.ZipFile(file) as wheel:
            inside = [name for name in wheel.namelist() if INSIDE.fullmatch(name)]
            if not inside:
                raise InputError(f"{file.name!r} holds no libonnxruntime.so; take the wheel for Linux")
            content = wheel.read(inside[0])
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"the wheel {str(file)!r} cannot be read: {error}") from error
    runtime = " ".join(file.name.split("-")[:2])
    return RuntimeLibrary(Path(inside[0]).name, runtime, Content(content, f"{runtime}, {file.name}", LICENCE))


def fetched_wheel(target: Target, folder: Path) -> Path:
    """A wheel fetched by pip, of the installed version. Raises `DeviceError` if that fails."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--platform", target.wheel, "--python-version", "3.11", "--dest", str(folder)]
    command.append(installed_runtime().replace(" ", "==") or "onnxruntime")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("onnxruntime-*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines()
        raise DeviceError(
            f"pip could not fetch onnxruntime for {target.name}: {lines[-1] if lines else 'it printed nothing'}; fetch "
            f"{_pattern(target)} yourself, and name it as the wheel"
        )
    return wheels[0]


def _pattern(target: Target) -> str:
    return f"onnxruntime-VERSION-…_{target.machines[0]}.whl"
