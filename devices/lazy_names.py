"""Public names of a package, each imported when it is first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Final

from adaptare.devices.errors import MissingPackageError

# Package that may be missing -> extra of adaptare that installs it.
EXTRAS: Final = {
    "accelerate": "torch",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "peft": "torch",
    "pytest": "testing",
    "torch": "torch",
}


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Args:
        package: Its `__name__`.
        modules: Public name -> module of the package that defines it, such as `store.database`.

    Raises:
        AttributeError: On use, if the package has no such name.
        MissingPackageError: On use, if the module needs a package that is not installed.
    """

    def imported(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            raise MissingPackageError(
                f"{error.name} is not installed; install it with: pip install 'adaptare[{EXTRAS[error.name]}]'"
            ) from error

    return imported
