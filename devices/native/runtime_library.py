"""Libraries of a bundle: ONNX Runtime, and the C library with its companions for devices that have none."""

import importlib.util
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from adaptare.core import DeviceError, InputError, MissingPackageError
from adaptare.devices.native.bundle import Content
from adaptare.devices.native.compiler import GLIBC, BuildTarget

# In a wheel and in an installation.
INSIDE = re.compile(r"(?:.*/)?onnxruntime/capi/libonnxruntime\.so(?:\.[\d.]+)?")
VERSION = re.compile(r"\.so\.(\d[\d.]*)$")
LICENCE = "MIT"


@dataclass(frozen=True)
class RuntimeLibrary:
    """The library, with name and version of the runtime; the version is `unknown` if no file name has it."""

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


def library_of_wheel(file: Path, target: BuildTarget) -> RuntimeLibrary:
    """The library in a wheel. Raises `InputError` if it is none of ONNX Runtime for the target."""
    if file.name.split("-")[0] != "onnxruntime" or not file.name.endswith(f"_{target.processor}.whl"):
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


def fetched_wheel(target: BuildTarget, folder: Path) -> Path:
    """A wheel fetched by pip, of the installed version. Raises `DeviceError` if that fails."""
    platform = f"manylinux_{GLIBC.replace('.', '_')}_{target.processor}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--platform", platform, "--python-version", "3.11", "--dest", str(folder)]
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


def _pattern(target: BuildTarget) -> str:
    return f"onnxruntime-VERSION-…_{target.processor}.whl"


OF_GLIBC, OF_GCC = "LGPL-2.1-or-later", "GPL-3.0-or-later WITH GCC-exception-3.1"
# Everything that the agent and ONNX Runtime link, besides the loader.
LICENCES = {
    "libc.so.6": OF_GLIBC,
    "libm.so.6": OF_GLIBC,
    "libdl.so.2": OF_GLIBC,
    "librt.so.1": OF_GLIBC,
    "libpthread.so.0": OF_GLIBC,
    "libstdc++.so.6": OF_GCC,
    "libgcc_s.so.1": OF_GCC,
}
PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")
MAGIC, HEADER_BYTES = b"!<arch>\n", 60


def system_libraries(places: Sequence[Path], target: BuildTarget) -> dict[str, Content]:
    """File name -> content of the loader and of all libraries.

    Args:
        places: Folders with such libraries at any depth, and files of Debian's packages.

    Raises:
        InputError: One of them is missing, or a place cannot be read.
    """
    licences = {target.loader: OF_GLIBC, **LICENCES}
    contents: dict[str, Content] = {}
    for place in places:
        contents = {**(_in_folder if place.is_dir() else _in_package)(place, licences), **contents}
    absent = sorted(set(licences) - set(contents))
    if absent:
        raise InputError(
            f"{', '.join(str(place) for place in places)} lack {', '.join(absent)}; name folders or packages that have "
            f"them, or 'debian' to fetch {', '.join(PACKAGES)} for {target.debian}"
        )
    return contents


def _in_folder(folder: Path, licences: dict[str, str]) -> dict[str, Content]:
    files = {name: sorted(folder.rglob(name)) for name in licences}
    origin = f"the folder {folder.name}"
    return {name: Content(paths[0].resolve(), origin, licences[name]) for name, paths in files.items() if paths}


def _in_package(file: Path, licences: dict[str, str]) -> dict[str, Content]:
    """Libraries in a Debian package, also if their names are links to longer ones."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_data_of(file))) as packed:
            members = {
                PurePosixPath(member.name).name: member for member in packed if member.isfile() or member.issym()
            }
            contents = {}
            for name in licences:
                member = members.get(name)
                if member is not None and member.issym():
                    member = members.get(PurePosixPath(member.linkname).name)
                content = packed.extractfile(member) if member is not None else None
                if content is not None:
                    contents[name] = Content(content.read(), file.name, licences[name])
            return contents
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(
            f"{str(file)!r} cannot be read as a Debian package: {error}; unpack it with `dpkg -x`, and name the folder"
        ) from error


def _data_of(file: Path) -> bytes:
    """The packed files of a Debian package, which is an archive of the kind made by `ar`."""
    content = file.read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError("it has another form")
    at = len(MAGIC)
    while at + HEADER_BYTES <= len(content):
        header = content[at : at + HEADER_BYTES]
        name, size, at = header[:16].decode("ascii", "replace").strip(" /"), int(header[48:58]), at + HEADER_BYTES
        if name.startswith("data.tar"):
            return content[at : at + size]
        at += size + size % 2
    raise ValueError("it has no data")


@contextmanager
def fetched_packages(target: BuildTarget) -> Iterator[list[Path]]:
    """Debian's packages for a target, fetched by apt-get with lists of its own; the system's stay as they are.

    Raises `DeviceError` if there is no apt-get, or it failed.
    """
    with tempfile.TemporaryDirectory(prefix="adaptare-") as place:
        folder = Path(place)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "status").touch()
        settings = {
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "APT::Architecture": target.debian,
            "APT::Architectures": target.debian,
            "APT::Sandbox::User": "",
        }
        options = [f"--option={name}={value}" for name, value in settings.items()]
        for command in (["update"], ["download", *PACKAGES]):
            try:
                subprocess.run(
                    ["apt-get", "-qq", *options, *command],
                    cwd=folder,
                    env={**os.environ, "LC_ALL": "C"},
                    capture_output=True,
                    text=True,
                    check=True,
                )
            except FileNotFoundError as error:
                raise DeviceError(
                    "apt-get is not on this machine; fetch Debian's packages "
                    f"{', '.join(PACKAGES)} for {target.debian} yourself, and name them as libraries"
                ) from error
            except subprocess.CalledProcessError as error:
                reason = (error.stderr.strip().splitlines() or ["it printed nothing"])[-1]
                raise DeviceError(
                    f"apt-get could not fetch {', '.join(PACKAGES)} for {target.debian}: {reason}; fetch them "
                    "yourself, and name them as libraries"
                ) from error
        yield sorted(folder.glob("*.deb"))
