"""What was asked of a training, and how far it came: `training.json` in its folder."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaptare.devices import InputError, Json, StorageError

SCHEMA = 1
_FILE = "training.json"


def read_losses(folder: Path, settings: Mapping[str, Json]) -> tuple[float, ...]:
    """Losses of the steps that are done; none if the folder holds no training.

    Raises:
        InputError: The folder holds a training with other settings.
    """
    file = folder / _FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        schema, found, losses = record["schema"], record["settings"], record["losses"]
    except (FileNotFoundError, NotADirectoryError):
        if any(folder.glob("checkpoint-*")):
            message = f"{str(folder)!r} holds checkpoints of another program, which training would remove"
            raise InputError(f"{message}; use another folder") from None
        return ()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file} is no record of a training ({error!r}); use another folder") from error
    if schema != SCHEMA:
        raise InputError(f"{file} has schema {schema!r}; this version reads {SCHEMA}: update adaptare or train again")
    for name, value in json.loads(json.dumps(settings)).items():
        if found.get(name) != value:
            what = f"another {name}" if isinstance(value, dict) else f"{name} {found.get(name)}, not {value}"
            raise InputError(f"{str(folder)!r} holds a training with {what}; use another folder, or remove this one")
    return tuple(losses)


def write_record(folder: Path, settings: Mapping[str, Json], losses: Sequence[float]) -> None:
    """Raises `StorageError` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = {"schema": SCHEMA, "settings": settings, "losses": losses}
        beside = folder / f"{_FILE}.part"
        beside.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(beside, folder / _FILE)
    except OSError as error:
        raise StorageError(f"training cannot write to {str(folder)!r}: {error.strerror or error}") from error
