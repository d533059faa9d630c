"""Contract of a connection that runs POSIX shell scripts on a device, and scripts that keep adaptare's files there."""

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from adaptare.core import DeviceError
from adaptare.devices.agent.room import MARK, SIGNATURE, TAG
from adaptare.devices.program import ProgramFile
from adaptare.devices.transport import Link, local_environment

# Slowest transfer before it counts as stuck.
_LEAST_BYTES_S = 20_000
# Prints the path of the cache in the user's cache folder.
LOCATED = """
case $XDG_CACHE_HOME in /*) folder=$XDG_CACHE_HOME ;; *) folder=${HOME:?}/.cache ;; esac
echo "$folder/adaptare/device"
"""
# Creates and marks it. Argument: the folder.
PREPARED = f"""
umask 077
mkdir -p "$1" || exit 1
tag=$1/{TAG}
[ -s "$tag" ] || {{ echo "{SIGNATURE}" && echo "{MARK}"; }} >"$tag" || {{ rm -f "$tag"; exit 1; }}
"""
# Renames a file if its hash is right, and removes it otherwise. Arguments: the file, its digest, the final path.
CHECKED = """
if command -v sha256sum >/dev/null; then sum=$(sha256sum <"$1")
elif command -v shasum >/dev/null; then sum=$(shasum -a 256 <"$1")
else sum=$(python3 -c "import hashlib, sys; hash = hashlib.sha256()
for part in iter(lambda: sys.stdin.buffer.read(1048576), b\\"\\"): hash.update(part)
print(hash.hexdigest())" <"$1")
fi
if [ "${sum%% *}" = "$2" ]; then
    mv -f "$1" "$3" && exit 0
    rm -f "$1"
else
    rm -f "$1"  # before the message, for which the connection may be gone
    echo "its content does not arrive unchanged" >&2
fi
exit 1
"""
# The same, of standard input. Arguments: the digest, the final path.
RECEIVED = f"""
umask 077
mkdir -p "${{2%/*}}" || exit 1
part=$2.$$.part
cat >"$part" || {{ rm -f "$part"; exit 1; }}
set -- "$part" "$@"
{CHECKED}
"""
# Prints the KiB that it frees. Argument: the folder.
CLEANED = f"""
[ -e "$1" ] || {{ echo 0; exit 0; }}
{{ read -r signature; read -r mark; }} <"$1/{TAG}" || exit 1
[ "$signature" = "{SIGNATURE}" ] && [ "$mark" = "{MARK}" ] || {{ echo "it carries another mark" >&2; exit 1; }}
du -sk "$1" && rm -rf "$1"
"""
NO_SPACE = ("No space left on device", "Disk quota exceeded")


def transfer_timeout_s(size: int) -> float:
    """Time limit for sending a file of `size` bytes, seconds."""
    return 60 + size / _LEAST_BYTES_S


@dataclass(frozen=True)
class Answer:
    """Result of a script: its exit code, above 128 if a signal ended it, and its standard output and error."""

    code: int
    out: str
    err: str


def run_command(
    command: Sequence[str],
    *,
    timeout_s: float,
    late: str,
    missing: str,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Runs a command of this machine. Its output goes to files: a part that stays in the background keeps pipes open.

    Raises `DeviceError`, with the message `missing` or `late`, if there is no such command or it does not end in time.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=stdin,
                stdout=out,
                stderr=err,
                timeout=timeout_s,
                start_new_session=True,  # Ctrl-C is handled by the caller
                check=False,
            )
        except FileNotFoundError as error:
            raise DeviceError(missing) from error
        except subprocess.TimeoutExpired as error:
            raise DeviceError(late) from error
        for stream in (out, err):
            stream.seek(0)
        return Answer(done.returncode, *(stream.read().decode(errors="replace") for stream in (out, err)))


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

        Raises `OSError` if it cannot be read here or written there, for example because the device's disk is full.
        """
        ...

    def cause(self, code: int) -> str:
        """Explanation of the exit code of `command`, for example that the connection was lost."""
        ...


def located_folder(shell: RemoteShell) -> str:
    """Path of adaptare's cache in the user's cache folder on a device. Raises `DeviceError`."""
    answer = shell.run(LOCATED)
    lines = answer.out.splitlines()
    if answer.code or len(lines) != 1 or not lines[0].startswith("/"):
        raise DeviceError(
            f"{shell.name}: a path was expected, and its login shell printed {(answer.out + answer.err)[:200]!r}; "
            "its start-up files must print nothing to shells that are not interactive, and HOME must be set"
        )
    return lines[0]


def prepare_folder(shell: RemoteShell) -> None:
    """Creates and marks adaptare's cache on a device. Raises `DeviceError`."""
    answer = shell.run(PREPARED, shell.folder)
    if answer.code:
        raise DeviceError(f"{shell.name}: {shell.folder!r} cannot be created: {reason(answer)}")


def clean_folder(shell: RemoteShell) -> int:
    """Removes adaptare's cache from a device. Returns the bytes freed. Raises `DeviceError`."""
    answer = shell.run(CLEANED, shell.folder, timeout_s=600)
    if answer.code:
        raise DeviceError(f"{shell.name}: {shell.folder!r} cannot be removed: {reason(answer)}")
    return 1024 * int(answer.out.split()[0])


def agent_link(shell: RemoteShell, command: list[str], install: Callable[[str], str]) -> Link:
    """The connection to an agent on a device, whose files are copied; `command` starts it there."""

    def bring(file: ProgramFile) -> None:
        shell.put(file.path, f"{shell.folder}/files/{file.digest}", file.digest)

    return Link(command, bring, local_environment(), shell.cause, install)


def send_agent(shell: RemoteShell, file: Path, target: str, digest: str, *, named: str) -> None:
    """Copies a file of an agent to a device, which is `named` in the message. Raises `DeviceError`."""
    try:
        shell.put(file, target, digest)
    except OSError as error:
        raise DeviceError(f"{named} could not be brought to the device: {error}") from error


def reason(answer: Answer) -> str:
    """Last words of a script that failed, with advice if the disk is full."""
    errors = answer.err.strip()
    words = errors.splitlines()[-1] if errors else f"exit code {answer.code}"
    if any(full in answer.err for full in NO_SPACE):
        words += "; free some space there, or clean it"
    return words
