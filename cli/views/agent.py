from collections.abc import Iterator
from typing import Final

from adaptare.core.table import Column, Section, Table
from adaptare.devices.native import BundleFile
from adaptare.workflows.devices import AgentBundles

COLUMNS: Final[tuple[Column[BundleFile], ...]] = (
    Column("file", lambda file: file.name),
    Column("bytes", lambda file: f"{file.bytes:,}"),
    Column("from", lambda file: file.origin, folds=True),
    Column("licence", lambda file: file.licence, 1, folds=True),
)


def sections(result: AgentBundles) -> Iterator[Section]:
    """The files of each bundle, and what to do next."""
    for bundle in result.bundles:
        yield Table(f"Agent for {bundle.target} with {bundle.runtime}: {bundle.folder}", COLUMNS, bundle.files)
        size = sum(file.bytes for file in bundle.files) / 2**20
        needs = "no library of the device" if bundle.loader else "the device's C library (glibc 2.28 or later)"
        yield f"{size:.1f} MiB; needs {needs}"
    if result.is_new:
        yield "Next: adaptare devices adb:SERIAL/ort-native, or ssh://user@host/ort-native"
    if not result.bundles:
        yield f"No bundle for {result.target}; make one with: adaptare devices agent --build --target {result.target}"
