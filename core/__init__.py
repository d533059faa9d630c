"""Parts that all packages use: errors, files, extension points, and the form of results."""

from adaptare.core.errors import (
    AdaptareError,
    DeviceError,
    InputError,
    MissingPackageError,
    ProgramError,
    StorageError,
    WorkerDiedError,
)

__all__ = [
    "AdaptareError",
    "DeviceError",
    "InputError",
    "MissingPackageError",
    "ProgramError",
    "StorageError",
    "WorkerDiedError",
]
