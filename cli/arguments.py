"""Arguments and options shared by several commands."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adaptare.core.extensions import extensions
from adaptare.core.quantisation import QUANTISATIONS


def registered(group: str) -> Callable[[str], list[str]]:
    """Completion with the names of a group of entry points, such as `adaptare.devices`."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in extensions(group) if name.startswith(incomplete)]

    return complete


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A folder, a hub id, a config.json, a GGUF file, smollm2-135m, or tiny-random to try things out.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="For example torch-cpu:threads=1 or ort-cpu:int4,threads=2; see: adaptare devices.",
        autocompletion=registered("adaptare.devices"),
    ),
]
DevicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="For example torch-cpu:threads=1 or ort-cpu:int4,threads=2; repeat it to measure several side by side.",
        show_default="torch-cpu:threads=1",
        autocompletion=registered("adaptare.devices"),
    ),
]
StoreOption = Annotated[str, typer.Option("--store", help="File or database URL of all measurements.")]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="Folder for converted models.", show_default="the user's cache folder")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of every random choice.", min=0, max=2**32 - 1)]
SPACE_HELP = "Unit with an independent rank: layers, blocks, kinds or sites; lonas, shears-gate, subnet or "
SPACE_HELP += "subnet-depth; a YAML file; or one of another package."
RanksOption = Annotated[
    str | None,
    typer.Option("--rank", help="Ranks a site may have, 0 for none; not with a YAML file.", show_default="0,2,4,8,16"),
]


def per_cent(text: str | float) -> float:
    """Share from 0% to 100%, given with its sign; Typer hands over defaults as numbers. Raises `BadParameter`."""
    if isinstance(text, float):
        return text
    number = text.removesuffix("%")
    with contextlib.suppress(ValueError):
        if text.endswith("%") and 0 <= (share := float(number) / 100) <= 1:
            return share
    raise typer.BadParameter(f"write a number up to 100 and a per cent sign, such as 1%, not {text!r}")


def share_option(name: str, text: str, *, shown: str | bool = True) -> Any:
    """Option of a share, with its help and what that shows as the default."""
    return typer.Option(name, parser=per_cent, metavar="PER CENT", help=text, show_default=shown)


HalfWidthOption = Annotated[
    float, share_option("--half-width", "Measure until every 95 % interval has at most this half-width.")
]
SecondsOption = Annotated[
    float,
    typer.Option("--seconds", help="Time limit in seconds for each phase and group of programs, including loading."),
]
OpeningsOption = Annotated[
    int | None,
    typer.Option(
        "--openings",
        help="Maximum number of openings; each loads every program afresh.",
        min=1,
        show_default="as the time allows",
    ),
]
BandOption = Annotated[
    float, share_option("--band", "Relative differences whose whole interval lies within it count as equal.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="JSON lines or a JSON array: prompts, instructions, chat messages or multiple choice; see docs/data.md.",
        show_default="dialogues of the package chatterbot-corpus",
    ),
]

if TYPE_CHECKING:
    Quantisation = str
else:
    Quantisation = Literal[tuple(QUANTISATIONS)]

# Copied from `adaptare.profiler`, which takes too long to import for a help page.
Mode = Literal["swappable", "static", "padded", "merged", "requantised"]

PrefillOption = Annotated[
    int | None, typer.Option("-p", "--prefill", help="Measure prefill of this many tokens.", show_default=False)
]
DecodeOption = Annotated[
    int | None,
    typer.Option("-d", "--decode", help="Measure decode after this many cached positions.", show_default="64"),
]
ModeOption = Annotated[
    Mode,
    typer.Option("--mode", help="Application of adapters; the choices depend on the runtime."),
]

BatchOption = Annotated[int, typer.Option("--batch", help="Sequences per call.", min=1)]

StubsOption = Annotated[
    bool,
    typer.Option(
        "--stubs",
        help="Where the model does not fit into memory, compose it from stubs: models of few layers, all alike.",
    ),
]

ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Overwrite any predictor of this name, even a better one.")
]

RecalibrateOption = Annotated[
    bool,
    typer.Option(
        "--recalibrate",
        help="Calibrate latencies to the present speed of the base, even if it changed by less than 5 %.",
    ),
]

NowOption = Annotated[
    bool,
    typer.Option(
        "--recalibrate",
        help="Measure the base first, for about 10 s: milliseconds and their intervals are then of this session.",
    ),
]

DEFAULT_DEVICE = "torch-cpu:threads=1"
DEFAULT_BAND = 0.01
DEFAULT_STORE = "adaptare.db"
