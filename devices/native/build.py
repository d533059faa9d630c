"""Making of bundles, and choice of the one that a device gets."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path

import platformdirs

from adaptare.core import DeviceError, InputError
from adaptare.devices.native.bundle import AGENT, MANIFEST, Bundle, Content, read_bundle, write_bundle
from adaptare.devices.native.compiler import BuildTarget, compile_agent, target_here
from adaptare.devices.native.runtime_library import (
    RuntimeLibrary,
    elf_file,
    fetched_packages,
    fetched_wheel,
    installed_library,
    installed_runtime,
    library_of_file,
    library_of_wheel,
    system_libraries,
)

DEBIAN = "debian"


def build_bundle(
    target: BuildTarget,
    *,
    folder: Path | None = None,
    agent: Path | None = None,
    headers: Path | None = None,
    runtime_library: Path | None = None,
    wheel: Path | None = None,
    libraries: Sequence[str] = (),
) -> Bundle:
    """Compiles the agent and puts together what a device needs to run it.

    Args:
        folder: Folder of the bundle; default: one in the user's cache, where devices find it.
        agent: The agent, if it was compiled elsewhere.
        headers: Folder with ONNX Runtime's header for C; default: where systems install it.
        wheel: Wheel of ONNX Runtime to take the library from; default: the installed one if it is for this target, else
            pip fetches one.
        libraries: Folders or Debian packages with the C library and its companions, or `debian` to fetch these
            packages; default: the device has them.

    Raises:
        InputError: Something is missing or of the wrong kind; the message says what to do.
        DeviceError: Something could not be fetched.
        StorageError: The folder cannot be written.
    """
    if runtime_library is not None and wheel is not None:
        raise InputError("a library of ONNX Runtime and a wheel that has one are given; give one of them")
    version = f"{agent.name}, given" if agent else f"adaptare {metadata.version('adaptare')}"
    program = Content(elf_file(agent) if agent else compile_agent(target, headers), version, "Apache-2.0")
    with ExitStack() as stack:
        library = _library(target, runtime_library, wheel, stack)
        contents = {AGENT: program, library.name: library.content}
        if libraries:
            places = [Path(place) for place in libraries if place != DEBIAN]
            packages = stack.enter_context(fetched_packages(target)) if DEBIAN in libraries else []
            contents |= system_libraries([*places, *packages], target)
        return write_bundle(folder, _kept(), target, contents, runtime=library.runtime, library=library.name)


def _kept() -> Path:
    """Folder of the bundles that devices find."""
    return platformdirs.user_cache_path("adaptare") / "agents"


def _library(target: BuildTarget, file: Path | None, wheel: Path | None, stack: ExitStack) -> RuntimeLibrary:
    if file is not None:
        return library_of_file(file)
    if wheel is not None:
        return library_of_wheel(wheel, target)
    if target == _here():
        return installed_library()
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptare-")))
    return library_of_wheel(fetched_wheel(target, place), target)


def _here() -> BuildTarget | None:
    try:
        return target_here()
    except DeviceError:
        return None


def kept_for(target: BuildTarget) -> list[Bundle]:
    """Bundles for a target in the user's cache, the latest first, without those of other versions of adaptare."""
    bundles = []
    for manifest in sorted(_kept().glob(f"{target.name}-*/{MANIFEST}"), key=lambda file: -file.stat().st_mtime):
        with suppress(InputError):
            bundles.append(read_bundle(manifest.parent))
    return bundles


def bundle_for(target: BuildTarget, folder: str = "") -> Bundle:
    """The bundle in a folder, or the latest one for a target in the user's cache.

    For the system of this machine it is one with the installed ONNX Runtime, which is made if needed. Raises
    `InputError` if there is none, or it is for another system.
    """
    if folder:
        bundle = read_bundle(Path(folder))
        if bundle.target != target.name:
            raise InputError(f"the bundle in {folder!r} is for {bundle.target}, the device is {target.name}")
        return bundle
    here = target == _here()
    for bundle in kept_for(target):
        if not here or bundle.runtime == installed_runtime():
            return bundle
    if here:
        return build_bundle(target)
    raise InputError(f"there is no bundle for {target.name}; build the agent for {target.name} first")
