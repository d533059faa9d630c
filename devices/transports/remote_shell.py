"""Contract of a connection that runs POSIX shell scripts on a device and transfers files to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Slowest transfer before it counts as stuck.
_LEAST_BYTES_S = 20_000


def transfer_timeout_s(size: int) -> float:
    """Time limit for sending a file of `size` bytes, seconds."""
    return 60 + size / _LEAST_BYTES_S


@dataclass(frozen=True)
class Answer:
    """Result of a script.

    Args:
        code: Exit code of the script; above 128 if a signal ended it.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str


class RemoteShell(Protocol):
    """An open connection. Scripts are for `sh`, and receive their arguments as `$1`, `$2`, …; no quoting is needed.

    Every method but `command` raises `DeviceError` if the connection fails, and never for a script that fails.
    """

    @property
    def name(self) -> str:
        """Prefix of the device's spelling, for messages: `ssh://user@host:22`."""
        ...

    @property
    def folder(self) -> str:
        """Absolute path of adaptare's cache on the device; created by `prepare_folder`."""
        ...

    def command(self, script: str, *arguments: str) -> list[str]:
        """Command of this machine that runs a script on the device; the standard streams are those of the script."""
        ...

    def run(self, script: str, *arguments: str, timeout_s: float = 60.0) -> Answer:
        """Runs a script without input, and waits for its end."""
        ...

    def put(self, source: Path, target: str, digest: str) -> None:
        """Copies a file to an absolute path on the device, under a temporary name until its SHA-256 is right.

        Raises:
            OSError: The file cannot be read here or written there, for example because the device's disk is full.
        """
        ...

    def cause(self, code: int) -> str:
        """Explanation of the exit code of `command`, for example that the connection was lost."""
        ...
