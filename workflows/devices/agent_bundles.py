"""Bundles of the agent in C, and what they hold."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Section, Table
from adaptare.devices.native.bundle import Bundle, BundleFile

COLUMNS: Final[tuple[Column[BundleFile], ...]] = (
    Column("file", lambda file: file.name),
    Column("bytes", lambda file: f"{file.bytes:,}"),
    Column("from", lambda file: file.origin, folds=True),
    Column("licence", lambda file: file.licence, 1, folds=True),
)


@dataclass(frozen=True)
class AgentBundles:
    """Result with the bundles for one kind of system, the latest first.

    Args:
        target: Name of the kind of system.
        bundles: The bundles.
        is_new: True if the only one was just made.
    """

    target: str
    bundles: Sequence[Bundle]
    is_new: bool = False
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        for bundle in self.bundles:
            yield Table(f"Agent for {bundle.target} with {bundle.runtime}: {bundle.folder}", COLUMNS, bundle.files)
            size = sum(file.bytes for file in bundle.files) / 2**20
            needs = "no library of the device" if bundle.loader else "the device's C library (glibc 2.28 or later)"
            yield f"{size:.1f} MiB; needs {needs}"
        if self.is_new:
            yield "Next: adaptare devices adb:SERIAL/ort-native, or ssh://user@host/ort-native"
        if not self.bundles:
            yield f"No bundle for {self.target}; make one with: adaptare devices agent --build --target {self.target}"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        made = [asdict(bundle) | {"folder": str(bundle.folder)} for bundle in self.bundles]
        return {"target": self.target, "bundles": made}
