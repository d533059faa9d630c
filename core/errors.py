"""Error types by responsibility: the caller, the device, or a single program."""

from typing import ClassVar

from adaptare.core.exit_codes import ExitCode


class AdaptareError(Exception):
    """Base class of all errors that adaptare raises deliberately; `exit_code` is that of the command line."""

    exit_code: ClassVar[ExitCode] = ExitCode.WORLD_FAILED


class InputError(AdaptareError, ValueError):
    """The caller's request is invalid; nothing was measured or written."""

    exit_code = ExitCode.BAD_INPUT


class StorageError(InputError):
    """A file or database could not be written; earlier content is intact."""


class MissingPackageError(InputError):
    """An optional package is not installed; the message names the extra that installs it."""


class DeviceError(AdaptareError):
    """The device or the connection to it failed, independent of programs."""


class ProgramError(AdaptareError):
    """One program could not be loaded or run; the worker still serves the others."""


class WorkerDiedError(ProgramError):
    """The worker process ended or stopped answering while it served a program; a new one is needed."""
