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

from robustness_runs import DEVICE, MODEL, SEARCH

Change = Callable[[Path], object]
# Shortest command line of each command that succeeds in the prepared folder; `None` stands for an argument.
PLAIN: Mapping[str, tuple[str, ...]] = {
    "overhead": ("overhead", MODEL, "adapter", "--device", DEVICE, "--openings", "1"),
    "operators": ("operators", MODEL, "adapter", "--device", DEVICE),
    "parts": ("parts", MODEL, "adapter", "--device", DEVICE),
    "profile": ("profile", MODEL, "--device", DEVICE, "--count", "4", "--openings", "1", "--store", "new.db"),
    "store": ("store", "adaptare.db"),
    "compare": ("compare", "adaptare.db", "adaptare.db"),
    "fit": ("fit", "--device", DEVICE, "-o", "fresh"),
    "predict": ("predict", "predictor", "adapter"),
    "train": ("train", MODEL, "-o", "new", "--data", "data.jsonl", "--steps", "2", "--held-out", "12"),
    "search": (*SEARCH, "-o", "found.json"),
    "shrink": (
        *("shrink", "adapter", "--base", MODEL, "--predictor", "predictor"),
        *("--budget", "overhead=20%", "-o", "cut", "--data", "data.jsonl"),
    ),
    "verify": ("verify", "front.json", "--openings", "1", "--repeats", "1"),
    "export": ("export", "front.json", "-o", "out"),
    "check": ("check", "adapter", "--runtime", "peft", "--file", "adapter", "--base", MODEL),
    "tune": ("tune", MODEL, "-o", "tuned", "--data", "data.jsonl", "--device", DEVICE, "--quick"),
    "report": ("report", "adaptare.db", "-o", "report.html"),
    "demo": ("demo", "--model", MODEL, "--device", DEVICE, "--quick", "--data", "data.jsonl"),
}
# Said of a name that is empty.
NO_NAME = "no name"
# Kind of a value -> values that are none.
WRONG: Mapping[str, tuple[str, ...]] = {
    "int": ("", "x", "1.5", "nan", "1e3", "-7"),
    "float": ("", "x", "nan", "-1"),
    "share": ("", "x", "nan%", "-1%", "101%", "0.5"),
    "choice": ("", "x", "DECODE "),
    "file": ("missing", "empty", "binary.bin", "data.jsonl", "run", "a b"),
    "device": ("", "toaster", "simulated:launch_s=nan", "simulated:speed=1", "torch-cpu:threads=-1", "ort-cpu:int5",
               "pigeon:coop/torch-cpu", "ssh://", "torch-cpu:threads=99999999999999999999"),
    "budget": ("", "decode", "decode=", "decode=20", "decode=nanms", "decode=-20ms", "overhead=1e3%", "joy=20ms",
               "decode@x=20ms", "decode=20ms=30ms", "prefill@0=5ms", "decode=" + "9" * 400 + "ms"),
    "numbers": ("", "x", "4,,8", "-4", "1.5", "nan", "9" * 30),
    "names": ("", "w_proj", "q_proj,,v_proj", "[", "*("),
    "store": ("", "missing/adaptare.db", "empty", "binary.bin", "data.jsonl", "run", "nothing://me@host/name"),
}  # fmt: skip
# Parameter of a command -> kind of its value, where its type does not tell; none: any value is good, or it is written.
KIND_OF: Mapping[str, str] = {
    **dict.fromkeys(("device", "devices"), "device"),
    **dict.fromkeys(("budget", "budgets"), "budget"),
    **dict.fromkeys(("rank", "ranks"), "numbers"),
    **dict.fromkeys(("predictor", "predictors", "source", "front", "adapter", "data", "validation", "test"), "file"),
    **dict.fromkeys(("start", "file", "adapter_file", "adapter_of", "model", "base", "earlier"), "file"),
    **dict.fromkeys(("place", "store", "other"), "store"),
    "sites": "names",
    **dict.fromkeys(("recipe", "space", "algorithm", "regressor", "runtime", "quantity", "choice"), "choice"),
}


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


MISSING = "<missing>"
NAN, INFINITE = float("nan"), float("inf")
DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "shortened": lambda content: content[:-7],
    "binary": lambda _: bytes(range(256)) * 8,
    "swapped": lambda _: b'{"prompt": "a", "completion": "b"}\n',
    "nested": lambda _: b"[" * 100_000,
    "listed": lambda _: b"[]",
    "null": lambda _: b"null",
    "zero": lambda content: bytes(len(content)),
}
# Values that only some readers of a file use.
ASKED: Mapping[tuple[str, object], tuple[tuple[str, ...], ...]] = {
    ("lora_alpha", 0): (("export", "adapter", "--base", MODEL, "--to", "merged", "-o", "out"), PLAIN["shrink"]),
    ("place.device", "toaster"): (PLAIN["verify"],),
    ("place.length", 10**9): (PLAIN["verify"],),
}
# One example is none that is wrong.
HARMLESS = {("data.jsonl", "swapped")}
OVERHEAD, PREDICT = PLAIN["overhead"], PLAIN["predict"]
EXPORT_ADAPTER = ("export", "adapter", "--base", MODEL, "--to", "merged", "-o", "out")
CONFIG = ("overhead", "config.json", "--device", DEVICE, "--rank", "4", "--openings", "1")
SPACE = ("profile", MODEL, "--device", DEVICE, "--space", "space.yaml", "--store", "new.db")
RESUME = ("train", MODEL, "-o", "run", "--steps", "4", "--data", "data.jsonl", "--held-out", "12", "--max-tokens", "16")
READERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "adapter/adapter_config.json": (OVERHEAD, PREDICT, EXPORT_ADAPTER, PLAIN["shrink"], PLAIN["check"]),
    "adapter/adapter_model.safetensors": (OVERHEAD, PREDICT, EXPORT_ADAPTER, PLAIN["shrink"], PLAIN["check"]),
    "predictor.json": (PREDICT, PLAIN["search"], PLAIN["shrink"]),
    "predictor.npz": (PREDICT, PLAIN["search"]),
    "front.json": (PLAIN["verify"], PLAIN["export"]),
    "adaptare.db": (PLAIN["store"], PLAIN["fit"], PLAIN["compare"], PLAIN["report"]),
    "data.jsonl": (PLAIN["train"],),
    "space.yaml": (SPACE,),
    "ranks.json": (("predict", "predictor", "ranks.json"), ("export", "run", "--choice", "ranks.json", "-o", "out")),
    "config.json": (CONFIG,),
    "run/super_adapter.json": (PLAIN["search"], PLAIN["export"]),
    "run/super_adapter.safetensors": (PLAIN["search"], PLAIN["export"]),
    "run/task.json": (PLAIN["search"], PLAIN["export"]),
    "run/training.json": (RESUME,),
}
WEIRD = (MISSING, "junk", [], {}, -1)
NUMBERS = (MISSING, "junk", NAN, INFINITE, -1.0, 0.0)
VALUES: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "adapter/adapter_config.json": {
        "peft_type": (MISSING, "junk", [], 7, "LOHA"),
        "r": ("junk", [], 0, -1, 1.5, 10**12, NAN, 7),
        "lora_alpha": ("junk", [], NAN, INFINITE, 0),
        "target_modules": ("(", "[", 7, [7], ["w_proj"], {}, MISSING, "junk"),
        "rank_pattern": ("junk", [1], {"(": 4}, {"q_proj": -1}, {"q_proj": "x"}, {"model.layers.0.mlp.up_proj": 3}),
        "alpha_pattern": ("junk", [1], {"q_proj": NAN}, {"q_proj": "x"}, {"(": 4}),
        "modules_to_save": (["lm_head"],),
        "bias": ("all",),
        "use_dora": (True,),
    },
    "predictor.json": {
        **dict.fromkeys(("schema", "arrays_sha256", "shapes", "template", "base", "base_values", "features"), WEIRD),
        **dict.fromkeys(("regressor", "device", "error_card", "quantity", "unit"), WEIRD),
        **dict.fromkeys(("base_values.64", "level", "scale", "spread.scale"), NUMBERS[1:5]),
        "template.length": (-1, "junk", 10**12),
        "template.batch": (-1, 0, "junk"),
    },
    "front.json": {
        **dict.fromkeys(("schema", "budget", "place", "winners"), WEIRD),
        **dict.fromkeys(("limit", "base", "level"), NUMBERS),
        "winners.0.predicted": (*WEIRD, {"lower": NAN, "middle": NAN, "upper": NAN}),
        "winners.0.configuration": (MISSING, "junk", [], {"ranks": {"model.layers.9.self_attn.q_proj": 4}}),
        "winners.0.mode": (MISSING, "junk", 7),
        "place.model": (MISSING, 7),
        "place.device": (MISSING, "toaster", 7),
        "place.length": (MISSING, -1, "junk", 10**9),
        "place.phase": (MISSING, "sleep", 7),
    },
    "config.json": {
        "model_type": (MISSING, "junk", 7, "mamba"),
        "hidden_size": ("junk", -1, 0, NAN, 10**15, 65),
        "num_hidden_layers": ("junk", -1, 0, 10**12),
        "num_attention_heads": ("junk", -1, 0, 7),
        "num_key_value_heads": ("junk", -1, 0, 3),
        "intermediate_size": ("junk", -1, 0),
        "vocab_size": ("junk", -1, 0),
    },
    "run/super_adapter.json": {
        **dict.fromkeys(("schema", "base_shape", "space", "scaling"), WEIRD),
        "scaling.alpha": ("junk", NAN, INFINITE),
        "space.axes": ("junk", [], 7),
    },
    "run/task.json": {
        **dict.fromkeys(("schema", "model", "data"), (MISSING, "junk", [], 7)),
        "recipe": ("junk", [], 7),
        "quantisation": ("junk", 7),
        "data.file": ("missing.jsonl", 7),
        "data.held_out": (-1, "junk"),
        "data.max_tokens": (-1, 0, "junk"),
    },
    "run/training.json": {"settings": (MISSING, "junk", []), "losses": (MISSING, "junk")},
    "ranks.json": {
        "*.q_proj": (-1, 1.5, "x", None, [], 10**12, NAN),
        "*.w_proj": (4,),
    },
}


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
