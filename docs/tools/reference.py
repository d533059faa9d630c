"""Reference pages, written from the sources when the site is built: options of commands, and names of packages.

MkDocs calls `on_page_markdown` for each page. The command line comes from Typer's own description of it, and the
Python API from the names that packages export, which mkdocstrings then describes from their docstrings.
"""

import importlib
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from typer.main import get_command

ROOT = Path(__file__).parents[2]
# Removed when the program ends.
LINKED = tempfile.TemporaryDirectory()
SEARCH = ("search", "search.algorithms", "search.training", "search.recipes", "search.checking")
NAMES = ("devices", "profiler", "profiler.measuring", "predictor", *SEARCH, "testing")
PACKAGES = [f"adaptare.{name}" for name in NAMES]

OVERHEAD = """## adaptare

`adaptare.overhead(model, adapters, ...)` takes the fields of `OverheadRequest` and returns an `OverheadReport`. The
other names of `adaptare` are those of the packages below.
"""


@event_priority(100)
def on_config(config: Any) -> None:
    """Lets mkdocstrings read the sources of this folder, however the package is installed."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
    package = Path(LINKED.name) / "adaptare"
    package.mkdir(exist_ok=True)
    links = {package / file.name: file for file in (ROOT / folders.pop("adaptare")).iterdir()}
    links |= {package / name.removeprefix("adaptare."): ROOT / folder for name, folder in folders.items()}
    for link, target in links.items():
        if not link.is_symlink():
            link.symlink_to(target)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [LINKED.name]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces the two markers by what they stand for."""
    if "<!-- reference: commands -->" in markdown:
        markdown = markdown.replace("<!-- reference: commands -->", commands())
    if "<!-- reference: names -->" in markdown:
        markdown = markdown.replace("<!-- reference: names -->", names())
    return markdown


def commands() -> str:
    """A section for each command: usage, description, and a table of its arguments and options."""
    from adaptare.app import app

    return "\n\n".join(_sections(get_command(app), "adaptare"))


def names() -> str:
    """A section for each public name of each package, for mkdocstrings."""
    found = [OVERHEAD, *(f"::: adaptare.workflows.overhead.overhead.Overhead{name}" for name in ("Request", "Report"))]
    for package in PACKAGES:
        module = importlib.import_module(package)
        found.append(f"## {package}\n\n{(module.__doc__ or '').strip()}")
        found += [f"::: {package}.{name}" for name in module.__all__]
    return "\n\n".join(found)


def _sections(command: Any, name: str) -> list[str]:
    inner = getattr(command, "commands", {})
    if inner and not command.invoke_without_command:
        return [text for key in inner for text in _sections(inner[key], f"{name} {key}")]
    words = [f"### {name}", command.help or "", *filter(None, [command.epilog]), _parameters(command)]
    return ["\n\n".join(words), *(text for key in inner for text in _sections(inner[key], f"{name} {key}"))]


def _parameters(command: Any) -> str:
    rows = ["| | description | default |", "|---|---|---|"]
    for parameter in command.params:
        shown = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        is_argument = parameter.param_type_name == "argument"
        words = f"`{parameter.name.upper()}`" if is_argument else shown
        if not getattr(parameter, "hidden", False):
            text = (parameter.help or "").replace("\n", " ").replace("|", "\\|")
            rows.append(f"| {words} | {text} | {_default(parameter)} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    shown = getattr(parameter, "show_default", None)
    value = shown if isinstance(shown, str) else parameter.default
    if value is None or value is False or value in ([], (), "") or callable(value):
        return ""
    return f"`{','.join(map(str, value)) if isinstance(value, list | tuple) else value}`"
