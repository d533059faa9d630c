"""From what stands on the command line to spaces, examples and budgets."""

import math
from pathlib import Path

from adaptare.devices import InputError
from adaptare.profiler import RECIPES, ModelShape, Space, named_space, read_space
from adaptare.word_lists import whole_numbers


def space_of(spelling: str, ranks: str | None, shape: ModelShape, *, layers_alike: bool = False) -> Space:
    """A space by recipe and ranks, whose layers may have to be alike, or from a YAML file, which says so itself."""
    if spelling not in RECIPES and Path(spelling).suffix in (".yaml", ".yml"):
        if ranks is not None:
            raise InputError(f"{spelling} says which ranks there are; leave out --ranks, or write them there")
        return read_space(spelling, shape)
    if ranks is None:
        return named_space(spelling, shape, layers_alike=layers_alike)
    chosen = whole_numbers(ranks, "--ranks")
    return named_space(spelling, shape, ranks=chosen, layers_alike=layers_alike)


def read_error(text: str) -> float:
    """A share of latency, per cent, from `2%`; a bare number might be meant either way. Raises `InputError`."""
    try:
        error = float(text.removesuffix("%")) if text.endswith("%") else math.nan
    except ValueError:
        error = math.nan
    if not 0 < error < math.inf:
        raise InputError(f"--until-error must be above 0 with a per cent sign, such as 2%, not {text!r}")
    return error
