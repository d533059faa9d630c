"""Adapters as a user names them: PEFT folders, JSON files of ranks, and CSV files with one adapter in each line."""

import csv
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from adaptare.devices import InputError
from adaptare.profiler import AdapterConfig, ModelShape, read_peft

NAME = "name"


def read_adapters(path: Path, shape: ModelShape) -> dict[str, AdapterConfig]:
    """The adapters of one path, by name.

    Args:
        path: A PEFT folder; a JSON file with an object of module path to rank; or a CSV file whose first line has
            module paths, or globs on them such as `*.q_proj`, and `name` if the lines have one, and whose other lines
            are adapters. A site that several columns name has the rank of the last.
        shape: Of the base model.

    Raises:
        InputError: The path is none of these, or names a site or rank that the base model does not have.
    """
    if path.is_dir():
        return {str(path): read_peft(path, shape)}
    try:
        text = path.read_text(encoding="utf-8")
        return (
            _table(path, text, shape) if path.suffix == ".csv" else {str(path): _checked(json.loads(text), path, shape)}
        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{str(path)!r} is neither a PEFT folder nor a JSON or CSV file of module path to rank"
        ) from error


def _table(path: Path, text: str, shape: ModelShape) -> dict[str, AdapterConfig]:
    reader = csv.DictReader(text.splitlines())
    columns = [column for column in reader.fieldnames or [] if column != NAME]
    paths = {column: [site.path for site in shape.sites if fnmatchcase(site.path, column)] for column in columns}
    unknown = [column for column, found in paths.items() if not found]
    if not columns or unknown:
        raise InputError(
            f"{str(path)!r} needs a first line of module paths or globs such as *.q_proj; the base model has "
            f"{f'no {unknown[0]!r}' if unknown else 'sites such as ' + shape.sites[0].path}"
        )
    found = {}
    for number, row in enumerate(reader, start=1):
        ranks = {site: _rank(row[column], path, number) for column in columns for site in paths[column]}
        found[row.get(NAME) or f"{path}:{number}"] = _checked(ranks, path, shape)
    if not found:
        raise InputError(f"{str(path)!r} has no adapters, only its first line")
    return found


def _rank(text: str | None, path: Path, number: int) -> int:
    try:
        return int(text or 0)
    except ValueError as error:
        raise InputError(f"{str(path)!r}, adapter {number}: ranks must be whole numbers, not {text!r}") from error


def _checked(ranks: object, path: Path, shape: ModelShape) -> AdapterConfig:
    if not isinstance(ranks, Mapping) or not all(type(rank) is int for rank in ranks.values()):
        raise InputError(f"{str(path)!r} must be one JSON object of module path to rank")
    config = AdapterConfig.of(ranks)
    config.check(shape)
    return config
