"""Error types by responsibility: the caller, the device, a single program, or nobody."""


class AdaptareError(Exception):
    """Base class of all errors that adaptare raises deliberately."""


class InputError(AdaptareError, ValueError):
    """The caller's request is invalid; nothing was measured or written.

    Args:
        message: The rule, what came, and what to do.
        parameter: Name of the parameter to change; the command line adds its option to the message.
    """

    def __init__(self, message: str, *, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


class StorageError(InputError):
    """A file or database could not be written; earlier content is intact."""


class MissingPackageError(InputError):
    """An optional package is not installed; the message names the extra that installs it."""


class NoSolutionError(AdaptareError):
    """The request is valid, and its answer is that nothing meets it."""


class DeviceError(AdaptareError):
    """The device or the connection to it failed, independent of programs."""


class ProgramError(AdaptareError):
    """One program could not be loaded or run; the worker still serves the others."""


class WorkerDiedError(ProgramError):
    """The worker process ended or stopped answering while it served a program; a new one is needed."""
