"""Public names of a package, each imported when it is first used."""

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from adaptare.core.errors import MissingPackageError

# Package that may be missing -> extra of adaptare that installs it.
EXTRAS: Final = {
    **dict.fromkeys(("torch", "peft", "accelerate"), "torch"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxruntime_genai", "numpy"), "onnx"),
    **dict.fromkeys(("gguf", "chatterbot_corpus"), "demo"),
    **dict.fromkeys(("aiohttp", "segno"), "browser"),
    **dict.fromkeys(("plotly", "jinja2"), "report"),
    "matplotlib": "figures",
    "openvino": "openvino",
    "pandas": "frames",
    "pyarrow": "dataset",
    "xllamacpp": "llama",
    "pytest": "testing",
    "ray": "ray",
    "ziglang": "native",
}


def missing_package(error: Exception) -> str:
    """Message for an import that failed because an optional package is not installed; empty for other errors."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return _not_installed(package) if package in EXTRAS else ""


def advice_to_install(*packages: str) -> str:
    """Advice to install the extras with some packages; empty if none has one of them."""
    extras = ",".join(dict.fromkeys(EXTRAS[each] for each in packages if each in EXTRAS))
    return f"install {'it' if len(packages) == 1 else 'them'} with: pip install 'adaptare[{extras}]'" if extras else ""


def check_installed(*packages: str) -> None:
    """Raises `MissingPackageError`, with advice to install them, if some packages are not installed."""
    if missing := [each for each in packages if importlib.util.find_spec(each) is None]:
        raise MissingPackageError(_not_installed(*missing))


def _not_installed(*packages: str) -> str:
    be = "is" if len(packages) == 1 else "are"
    advice = advice_to_install(*packages) or f"install with: pip install {' '.join(packages)}"
    return f"{' and '.join(packages)} {be} not installed; {advice}"


def lazy_names(package: str) -> Callable[[str], object]:
    """The `__getattr__` of a package, for the names that it imports `if TYPE_CHECKING`.

    Args:
        package: Its `__name__`.

    Raises:
        AttributeError: On use, if the package has no such name.
        MissingPackageError: On use, if the module needs a package that is not installed.
    """

    def imported(name: str) -> object:
        if name not in later_names(package):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(later_names(package)[name]), name)
        except ModuleNotFoundError as error:
            if not (advice := missing_package(error)):
                raise
            raise MissingPackageError(advice) from error

    return imported


@cache
def later_names(package: str) -> dict[str, str]:
    """Name that a package imports `if TYPE_CHECKING` -> module that defines it."""
    return dict(_type_checking_imports(Path(str(sys.modules[package].__file__))))


def _type_checking_imports(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            imports = (each for each in node.body if isinstance(each, ast.ImportFrom) and each.module)
            yield from ((name.name, str(each.module)) for each in imports for name in each.names)
