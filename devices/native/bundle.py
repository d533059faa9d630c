"""Bundles: folders with everything that a device needs to run the agent."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adaptare.core import InputError, StorageError
from adaptare.core.codec import from_json, to_json
from adaptare.core.versioned_json import read_versioned, write_versioned
from adaptare.core.whole_file import replace_folder
from adaptare.devices.native.compiler import BuildTarget, source_digest
from adaptare.devices.program import hashed

MANIFEST = "bundle.json"
SCHEMA = 1
AGENT = "agent"


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle: origin is a package and its version, licence an SPDX expression, or where it is found."""

    name: str
    bytes: int
    digest: str
    origin: str
    licence: str


@dataclass(frozen=True)
class Bundle:
    """A complete bundle.

    Args:
        target: Name of the kind of system it is for.
        runtime: Name and version of the library, for example `onnxruntime 1.32.0`.
        library: File name of the library.
        loader: File name of the dynamic loader; empty: that of the device.
        sources: `source_digest` of the agent.
        files: All of its files but the manifest.
    """

    folder: Path
    target: str
    runtime: str
    library: str
    loader: str
    sources: str
    files: tuple[BundleFile, ...]

    @property
    def digest(self) -> str:
        """Identifies its content: SHA-256 of names and digests of all files, 64 hex digits."""
        names = sorted([file.name, file.digest] for file in self.files)
        return hashlib.sha256(json.dumps([self.target, self.loader, names]).encode()).hexdigest()

    def command(self, folder: str) -> list[str]:
        """Command that starts the agent, without the folder of its files, if the bundle lies in `folder`."""
        start = [f"{folder}/{self.loader}", "--library-path", folder] if self.loader else []
        return [*start, f"{folder}/{AGENT}", f"{folder}/{self.library}"]


@dataclass(frozen=True)
class Content:
    """A file to put into a bundle: its content, or the file that has it; origin and licence as of a `BundleFile`."""

    data: bytes | Path
    origin: str
    licence: str


def write_bundle(
    folder: Path | None, kept: Path, target: BuildTarget, contents: Mapping[str, Content], *, runtime: str, library: str
) -> Bundle:
    """Writes a bundle; an earlier one in this folder is replaced.

    Args:
        folder: Its folder, which is created; `None`: one below `kept`, named by its content.
        kept: Folder of the bundles that devices find.
        contents: File name -> content. With the target's loader among them, the bundle needs no library of the device.

    Raises:
        StorageError: The folder is not writable, or has files that are no bundle.
    """
    place = folder.absolute().parent if folder else kept
    if folder and folder.exists() and not (folder / MANIFEST).exists() and (folder.is_file() or any(folder.iterdir())):
        raise StorageError(f"{str(folder)!r} is something other than a bundle; name a new folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".adaptare-") as temporary:
            made = Path(temporary) / "bundle"
            made.mkdir()
            files = tuple(_written(made / name, content) for name, content in contents.items())
            loader = target.loader if target.loader in contents else ""
            bundle = Bundle(made, target.name, runtime, library, loader, source_digest(), files)
            facts: dict[str, Any] = to_json(bundle)
            write_versioned(made / MANIFEST, {**facts, "folder": ""}, schema=SCHEMA)
            goal = folder or kept / f"{target.name}-{bundle.digest[:16]}"
            replace_folder(made, goal, aside=Path(temporary) / "old")
    except OSError as error:
        where = str(folder or kept)
        raise StorageError(f"the bundle cannot be written to {where!r}: {error.strerror or error}") from error
    return replace(bundle, folder=goal)


def _written(file: Path, content: Content) -> BundleFile:
    if isinstance(content.data, bytes):
        file.write_bytes(content.data)
    else:
        shutil.copyfile(content.data, file)
    file.chmod(0o755)
    return BundleFile(file.name, file.stat().st_size, hashed(file), content.origin, content.licence)


def read_bundle(folder: Path) -> Bundle:
    """The bundle in a folder. Raises `InputError` if there is none, or one that an older adaptare made."""
    build = "build the agent again"
    facts = read_versioned(folder / MANIFEST, schema=SCHEMA, otherwise=f"{str(folder)!r} has no {MANIFEST}; {build}")
    try:
        bundle = from_json(Bundle, {**facts, "folder": str(folder)})
    except InputError as error:
        raise InputError(f"{str(folder / MANIFEST)!r} is no manifest of a bundle: {error}; {build}") from error
    absent = [file.name for file in bundle.files if not (folder / file.name).is_file()]
    if absent:
        raise InputError(f"{str(folder)!r} lacks {', '.join(absent)}; {build}")
    if bundle.sources != source_digest():
        raise InputError(f"{str(folder)!r} was made by another version of adaptare; {build}")
    return bundle
