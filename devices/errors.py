"""What can go wrong, by who has to act: the caller, the device, or the one program that ran."""

from typing import ClassVar

from adaptare.devices.exit_codes import ExitCode


class AdaptareError(Exception):
    """Root of every error that adaptare raises on purpose; `exit_code` is that of the command line."""

    exit_code: ClassVar[ExitCode] = ExitCode.WORLD_FAILED


class InputError(AdaptareError, ValueError):
    """The caller asked for something that cannot be; nothing was measured or written."""

    exit_code = ExitCode.BAD_INPUT


class StorageError(InputError):
    """A file or database could not be written; what was stored before is intact."""


class MissingPackageError(InputError):
    """An optional package is not installed; the message names the extra that brings it."""


class DeviceError(AdaptareError):
    """The device or the link to it failed; programs are not at fault."""


class ProgramError(AdaptareError):
    """One program could not be loaded or run; the worker still serves the others."""


class WorkerDiedError(ProgramError):
    """The worker process ended or stopped answering while it served a program; open a new one."""
