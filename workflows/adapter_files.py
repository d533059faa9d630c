"""Readers of adapters: PEFT folders, JSON files of ranks, and CSV files with one adapter per line."""

import csv
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.strict_json import parse_json, read_bounded
from adaptare.profiler import Configuration, ModelShape, read_peft
from adaptare.profiler.workloads import CONFIG, peft_settings

NAME = "name"


def read_adapters(path: Path, shape: ModelShape) -> dict[str, Configuration]:
    """Adapters in one path, by name.

    Args:
        path: A PEFT folder, or an `adapter_config.json`, which needs no weights; a JSON file with an object of module
            path to rank; or a CSV file whose header has module paths, and optionally `name`, and whose other lines are
            adapters. Globs such as `*.q_proj` may replace paths; for a site matched several times the last one counts,
            and empty cells are ignored.
        shape: Shape of the base model.

    Raises:
        InputError: The path is none of these, or has a site or rank that the base model does not have.
    """
    if not path.exists():
        raise InputError(f"there is no {str(path)!r}; an adapter is a PEFT folder, or a JSON or CSV file")
    if path.is_dir() or path.name == CONFIG:
        return {str(path.parent if path.name == CONFIG else path): read_peft(path, shape)}
    try:
        text = read_bounded(path, encoding="utf-8-sig")  # spreadsheets write a byte order mark
        ranks = None if path.suffix == ".csv" else parse_json(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} is neither a PEFT folder nor a JSON or CSV file of module path to rank: {error}"
        ) from error
    return _table(path, text, shape) if path.suffix == ".csv" else {str(path): _one(path, ranks, shape)}


def base_named_in(adapter: Path) -> str:
    """Base model that an adapter's folder names. Raises `InputError`."""
    name = peft_settings(adapter).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise InputError(f"{adapter} names no base model; give the one that it was trained on")
    return name


def _one(path: Path, ranks: object, shape: ModelShape) -> Configuration:
    if not isinstance(ranks, dict) or not all(type(rank) is int for rank in ranks.values()):
        raise InputError(f"{str(path)!r} must be one JSON object of module path to rank")
    paths = _paths(ranks, path, shape)
    return Configuration.of({site: rank for name, rank in ranks.items() for site in paths[name]}).on(shape)


def _table(path: Path, text: str, shape: ModelShape) -> dict[str, Configuration]:
    reader = csv.DictReader(text.splitlines())
    try:
        columns = [column for column in reader.fieldnames or [] if column != NAME]
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        where = f"{str(path)!r} is not CSV after line {reader.line_num}"
        raise InputError(f"{where}: {error}; look for a lone quote") from error
    if len(set(columns)) < len(columns):
        raise InputError(f"{str(path)!r} has two columns of one name; give each a name of its own")
    paths, adapters = _paths(columns, path, shape), {}
    for number, (line, row) in enumerate(rows, start=1):
        if None in row or None in row.values():
            wanted = len(reader.fieldnames or [])
            raise InputError(f"{str(path)!r}, line {line}: a row has {wanted} cells, as the first line does")
        stated = {column: _rank(row[column], path, number) for column in columns if row[column]}
        name = row.get(NAME) or f"{path}:{number}"
        if name in adapters:
            raise InputError(f"{str(path)!r} has two adapters named {name!r}; give each a name of its own")
        by_path = {site: rank for column, rank in stated.items() for site in paths[column]}
        adapters[name] = Configuration.of(by_path).on(shape)
    if not adapters:
        raise InputError(f"{str(path)!r} has no adapters, only its first line")
    return adapters


def _paths(names: Collection[str], file: Path, shape: ModelShape) -> dict[str, list[str]]:
    """Module paths matched by each path or glob."""
    paths = {name: [site.path for site in shape.sites if fnmatchcase(site.path, name)] for name in names}
    unknown = [name for name, sites in paths.items() if not sites]
    if not paths or unknown:
        raise InputError(
            f"{str(file)!r} needs module paths or globs such as *.q_proj; the base model has "
            f"{f'no {unknown[0]!r}' if unknown else 'sites such as ' + shape.sites[0].path}"
        )
    return paths


def _rank(text: str, path: Path, number: int) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{str(path)!r}, adapter {number}: ranks must be whole numbers, not {text!r}") from error
