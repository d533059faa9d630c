"""Bad inputs: each parameter of each command with wrong values, and each file that it reads, damaged."""

import hashlib
import inspect
import json
import re
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from robustness_values import (
    ASKED,
    DAMAGES,
    HARMLESS,
    INFINITE,
    KIND_OF,
    MISSING,
    NAN,
    NO_NAME,
    PLAIN,
    READERS,
    VALUES,
    WRONG,
)

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A bad input.

    Args:
        name: Unique; for the list of cases.
        words: The command line.
        shows: The message of a clear answer has one of these.
        change: Damages a file of the prepared folder first.
        codes: Exit codes of a clear answer.
    """

    name: str
    words: tuple[str, ...]
    shows: tuple[str, ...]
    change: Change | None = None
    codes: tuple[int, ...] = (2,)


def cases() -> list[Case]:
    """All bad inputs, with unique names, in an order that mixes them, so that a part of them is of all kinds."""
    found = {case.name: case for case in (*_parameters(), *_files())}
    return sorted(found.values(), key=lambda case: hashlib.sha256(case.name.encode()).digest())


def _parameters() -> Iterator[Case]:
    from adaptare.app import app
    from adaptare.console import option_names

    for command in app.registered_commands:
        function = command.callback
        name = function.__name__ if function else ""
        if name not in PLAIN or function is None:
            continue
        options = option_names(function)
        for parameter in inspect.signature(function).parameters.values():
            kind = _kind(parameter)
            for value in WRONG.get(kind, ()):
                if value in PLAIN[name]:
                    continue  # it is right there
                if words := _with(name, parameter.name, options[parameter.name], value):
                    parts = (value.strip(), re.split("[=:,/]", value.strip())[-1])
                    shown = (repr(value), *filter(None, (*parts, *options[parameter.name], parameter.name, NO_NAME)))
                    yield Case(f"{name} {parameter.name}={value[:40]!r}", words, shown)
        yield Case(f"{name} --unknown", (*PLAIN[name], "--unknown"), ("--unknown",))
        yield Case(f"{name} superfluous", (*PLAIN[name], "one", "two", "three"), ("one", "two", "three"))


def _kind(parameter: inspect.Parameter) -> str:
    annotated = get_args(parameter.annotation)
    types = {annotated[0], *get_args(annotated[0])} if annotated else set()
    if any(getattr(note, "parser", None) for note in annotated[1:]):
        return "share"
    if parameter.name in KIND_OF:
        return KIND_OF[parameter.name]
    if bool in types or Path in types:
        return ""
    if any("Literal" in str(get_origin(each)) for each in types) or "Literal" in str(get_origin(annotated[0])):
        return "choice"
    return "int" if int in types else "float" if float in types else ""


def _with(command: str, name: str, options: list[str], value: str) -> tuple[str, ...]:
    """The plain command line with another value of a parameter; empty if the position of an argument is unknown."""
    words = list(PLAIN[command])
    if options:
        for option in options:
            if option in words:
                at = words.index(option)
                del words[at : at + 2]
        return (*words, f"{options[0]}={value}") if options[0].startswith("--") else (*words, options[0], value)
    at = {"adapters": 2, "other": 2, "adapter": 2 if command in ("overhead", "operators", "parts", "predict") else 1}
    place = at.get(name, 1)
    if len(words) <= place or words[place].startswith("-"):
        return ()
    return (*words[:place], value, *words[place + 1 :])


def _files() -> Iterator[Case]:
    for file, commands in READERS.items():
        for damage, change in DAMAGES.items():
            if (file, damage) in HARMLESS:
                continue
            for command in commands[:2]:
                yield Case(
                    f"{' '.join(command[:2])} with {damage} {file}",
                    command,
                    named(file),
                    _changing(file, change),
                )
    for file, changes in VALUES.items():
        for key, values in changes.items():
            for number, value in enumerate(values):
                readers = ASKED.get((key, value if isinstance(value, str | int) else ""), READERS[file])
                command, text = readers[number % len(readers)], json.dumps(value)
                yield Case(
                    f"{' '.join(command[:2])} with {file} where {key}={text[:50]}",
                    command,
                    (key.rpartition(".")[2], "model.layers.9", *named(file)),
                    _setting(file, key, value),
                )
    yield from _rows_of_store()
    yield from _tensors()


def named(file: str) -> tuple[str, ...]:
    """Names of a file in messages: its own, without its ending, and its folder's."""
    return (Path(file).name, Path(file).stem, *([Path(file).parent.name] if "/" in file else []))


def _changing(file: str, change: Callable[[bytes], bytes]) -> Change:
    def apply(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).unlink()
        (folder / file).write_bytes(change(content))

    return apply


def _setting(file: str, key: str, value: object) -> Change:
    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        *path, last = [key] if key.startswith("*") else key.split(".")
        inner: Any = content
        for name in path:
            inner = inner[int(name) if name.isdigit() else name]
        if value == MISSING:
            del inner[last]
        else:
            inner[last] = value
        (folder / file).unlink()
        (folder / file).write_text(json.dumps(content))

    return apply


def _rows_of_store() -> Iterator[Case]:
    contents: Mapping[str, Callable[[dict[str, Any]], object]] = {
        "junk": lambda _: "junk",
        "a list": lambda _: [],
        "no shape": lambda content: {**content, "workload": {**content["workload"], "shape": "0" * 16}},
        "no workload": lambda content: {key: value for key, value in content.items() if key != "workload"},
        "no device": lambda content: {key: value for key, value in content.items() if key != "device"},
        "NaN samples": lambda content: {**content, "visits": _samples(content["visits"], NAN)},
        "negative samples": lambda content: {**content, "visits": _samples(content["visits"], -1.0)},
        "zero samples": lambda content: {**content, "visits": _samples(content["visits"], 0.0)},
        "text samples": lambda content: {**content, "visits": _samples(content["visits"], "x")},
        "NaN reference": lambda content: {**content, "reference_visits": _samples(content["reference_visits"], NAN)},
        "no samples": lambda content: {**content, "visits": [[0, 0, 0.1, []]]},
        "fewer visits": lambda content: {**content, "visits": content["visits"][:1]},
        "text for visits": lambda content: {**content, "visits": "junk"},
        "an unknown phase": lambda content: {**content, "workload": {**content["workload"], "phase": "sleep"}},
        "an unknown mode": lambda content: {**content, "workload": {**content["workload"], "mode": "sleep"}},
        "a negative batch": lambda content: {**content, "workload": {**content["workload"], "batch": -1}},
        "an unknown origin": lambda content: {**content, "origin": "heaven"},
    }
    for name, change in contents.items():
        for command in (PLAIN["store"], PLAIN["fit"], PLAIN["compare"], (*PLAIN["overhead"], "--rank", "4")[:2]):
            if command[0] != "overhead":
                yield Case(f"{command[0]} of a row with {name}", command, ("adaptare.db",), _row(change))
    for command in (PLAIN["store"], PLAIN["fit"]):
        yield Case(f"{command[0]} without shapes", command, ("adaptare.db",), _sql("DELETE FROM shapes"))
        yield Case(f"{command[0]} of shapes of junk", command, ("adaptare.db",), _sql("UPDATE shapes SET config='x'"))
        yield Case(f"{command[0]} without a version", command, ("adaptare.db",), _sql("DELETE FROM meta"))
        yield Case(f"{command[0]} of version x", command, ("adaptare.db",), _sql("UPDATE meta SET value='x'"))
        yield Case(f"{command[0]} without a table", command, ("adaptare.db",), _sql("DROP TABLE measurements"))
        yield Case(f"{command[0]} of damaged pages", command, ("adaptare.db",), _pages)


def _samples(visits: list[list[Any]], value: object) -> list[list[Any]]:
    return [[*visit[:3], [value] * len(visit[3])] for visit in visits]


def _row(change: Callable[[dict[str, Any]], object]) -> Change:
    def apply(folder: Path) -> None:
        with _unlocked(folder) as connection:
            text = connection.execute("SELECT content FROM measurements WHERE id = 3").fetchone()[0]
            changed = json.dumps(change(json.loads(text)))
            connection.execute("UPDATE measurements SET content = ? WHERE id = 3", (changed,))

    return apply


def _sql(statement: str) -> Change:
    def apply(folder: Path) -> None:
        with _unlocked(folder) as connection:
            connection.execute(statement)

    return apply


def _unlocked(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "adaptare.db")
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        connection.execute(f"DROP TRIGGER {name}")
    return connection


def _pages(folder: Path) -> None:
    file = folder / "adaptare.db"
    content = bytearray(file.read_bytes())
    for start in range(8192, len(content) - 4096, 12288):
        content[start : start + 4096] = b"\xff" * 4096
    file.write_bytes(bytes(content))


def _tensors() -> Iterator[Case]:
    """Damages of the header of a safetensors file, and of its numbers."""
    headers: Mapping[str, Callable[[bytes], bytes]] = {
        "header of 2^60 bytes": lambda content: struct.pack("<Q", 2**60) + content[8:],
        "header of 0 bytes": lambda content: struct.pack("<Q", 0) + content[8:],
        "header of junk": lambda content: content[:8] + b"x" * struct.unpack("<Q", content[:8])[0] + content[-64:],
        "NaN weights": lambda content: content[:-64] + struct.pack("<f", NAN) * 16,
        "infinite weights": lambda content: content[:-64] + struct.pack("<f", INFINITE) * 16,
    }
    for name, change in headers.items():
        for file in ("adapter/adapter_model.safetensors", "run/super_adapter.safetensors"):
            for command in READERS[file]:
                named = (Path(file).name, Path(file).parent.name)
                yield Case(f"{' '.join(command[:2])} with {name} in {file}", command, named, _changing(file, change))
    for file, missing in (("adapter", "adapter_model.safetensors"), ("run", "super_adapter.safetensors")):
        for command in READERS[f"{file}/{missing}"]:
            yield Case(f"{' '.join(command[:2])} without {missing}", command, (missing, file), _removing(file, missing))


def _removing(folder: str, name: str) -> Change:
    return lambda place: (place / folder / name).unlink()
