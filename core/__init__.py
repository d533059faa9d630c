"""Parts that all packages use: errors, files, extension points, and the form of results."""

from adaptare.core.errors import (
    AdaptareError,
    DeviceError,
    InputError,
    MissingPackageError,
    NoSolutionError,
    ProgramError,
    StorageError,
    WorkerDiedError,
)

__all__ = [
    "AdaptareError",
    "DeviceError",
    "InputError",
    "MissingPackageError",
    "NoSolutionError",
    "ProgramError",
    "StorageError",
    "WorkerDiedError",
]
