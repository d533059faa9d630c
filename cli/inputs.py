"""Parsing of spaces, ranks, lengths and errors given on the command line."""

import re

from adaptare.core import InputError
from adaptare.profiler import Phase

DEFAULT_LENGTH = 64
WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def whole_numbers(text: str, option: str) -> list[int]:
    """Numbers in `1,8,64`, none of them empty. Raises `InputError`."""
    parts = text.split(",")
    if not all(WHOLE.fullmatch(part) for part in parts):
        raise InputError(f"{option} must be whole numbers with commas between them, such as 16 or 4,8,64, not {text!r}")
    return [int(part) for part in parts]


def read_ranks(text: str) -> list[int]:
    """Ranks such as `16` or `0,1,8`, ascending. Raises `InputError`."""
    ranks = sorted(set(whole_numbers(text, "--rank")))
    if ranks[0] < 0:
        raise InputError(f"--rank must be 0 or more, not {ranks[0]}; for example 4,8,16")
    return ranks


def read_lengths(text: str, option: str, *, least: int) -> list[int]:
    """Numbers of tokens such as `64` or `64,512`, without duplicates. Raises `InputError`."""
    lengths = list(dict.fromkeys(whole_numbers(text, option)))
    if any(length < least for length in lengths):
        raise InputError(f"{option} must be {least} or more, not {min(lengths)}; for example 64,512")
    return lengths


def read_phase(prefill: int | None, decode: int | None) -> tuple[Phase, int]:
    """Phase and length from the options of which one at most is given; default: decode after 64 positions."""
    if prefill is not None and decode is not None:
        raise InputError("one phase is measured at a time; give -p or -d, not both")
    if prefill is not None:
        if prefill < 1:
            raise InputError(f"-p must be at least 1, not {prefill}; give a number of tokens, such as -p 64")
        return "prefill", prefill
    if decode is not None and decode < 0:
        raise InputError(f"-d must be at least 0, not {decode}; give a number of cached positions, such as -d 64")
    return "decode", DEFAULT_LENGTH if decode is None else decode


def read_phase_and_lengths(prefill: str | None, decode: str | None) -> tuple[Phase | None, tuple[int, ...]]:
    """Phase and lengths from the options of which one at most is given; default: any phase and length."""
    if prefill is not None and decode is not None:
        raise InputError("a predictor is of one phase; give -p or -d, not both")
    if prefill is not None:
        return "prefill", tuple(read_lengths(prefill, "-p", least=1))
    return (None, ()) if decode is None else ("decode", tuple(read_lengths(decode, "-d", least=0)))


def check_alone(folder: object, *, rank: bool | int, sites: object) -> None:
    """Raises `InputError` if both a folder and sites or ranks are given."""
    if folder and (rank or sites):
        raise InputError("an adapter folder has sites and ranks of its own; give it, or --rank and --sites, not both")
