"""The C library and its companions for devices that have none, such as phones: from folders or Debian's packages."""

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from adaptare.core import DeviceError, InputError
from adaptare.devices.native.bundle import Content
from adaptare.devices.native.compiler import Target

GLIBC, GCC = "LGPL-2.1-or-later", "GPL-3.0-or-later WITH GCC-exception-3.1"
# Everything that the agent and ONNX Runtime link, besides the loader.
LICENCES = {
    "libc.so.6": GLIBC,
    "libm.so.6": GLIBC,
    "libdl.so.2": GLIBC,
    "librt.so.1": GLIBC,
    "libpthread.so.0": GLIBC,
    "libstdc++.so.6": GCC,
    "libgcc_s.so.1": GCC,
}
PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")
MAGIC, HEADER_BYTES = b"!<arch>\n", 60


def system_libraries(places: Sequence[Path], target: Target) -> dict[str, Content]:
    """File name -> content of the loader and of all libraries.

    Args:
        places: Folders with such libraries at any depth, and files of Debian's packages.
        target: System that they are for.

    Raises:
        InputError: One of them is missing, or a place cannot be read.
    """
    licences = {target.loader: GLIBC, **LICENCES}
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
def fetched_packages(target: Target) -> Iterator[list[Path]]:
    """Debian's packages for a target, fetched by apt-get with lists of its own; the system's stay as they are.

    Raises:
        DeviceError: There is no apt-get, or it failed.
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
