"""Settings and progress of a training run: `training.json` in its folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from adaptare.core import InputError
from adaptare.core.codec import to_json
from adaptare.core.versioned_json import read_as, write_versioned
from adaptare.search.training.token_examples import TokenExample

SCHEMA: Final = 2
_FILE: Final = "training.json"
_WITHOUT_EFFECT: Final = (
    "activation_checkpointing",
    "save_every",
    "report_to",
)  # on the weights that training ends with


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run.

    Args:
        steps: Optimiser steps in total, including earlier calls.
        seed: Seed of the order of the examples and of the configurations.
        batch_size: Examples per micro-batch.
        micro_batches: Micro-batches per step; their gradients are accumulated.
        learning_rate: Initial learning rate, which decays to zero.
        bf16: Compute in bfloat16 where autocast does; adapters, their updates and the loss stay in float32. Frozen
            weights of linears are in bfloat16 until training ends, so callbacks that compute need autocast too.
        activation_checkpointing: Compute activations again in the backward pass instead of keeping them: less memory,
            about a third more time, the same result.
        save_every: Steps between checkpoints.
        report_to: Experiment trackers that get loss and learning rate of each step, by their names in transformers,
            such as `tensorboard`.

    Raises:
        InputError: A number is out of range.
    """

    steps: int
    seed: int
    batch_size: int = 8
    micro_batches: int = 1
    learning_rate: float = 2e-3
    bf16: bool = False
    activation_checkpointing: bool = False
    save_every: int = 50
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "micro_batches", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate must be above 0 and below 1, not {self.learning_rate}")

    def recorded(self) -> dict[str, Any]:
        """Settings that determine the trained weights."""
        return {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT}


@dataclass(frozen=True)
class _Record:
    settings: Mapping[str, Any]
    losses: tuple[float, ...]


def read_losses(folder: Path, settings: Mapping[str, Any]) -> tuple[float, ...]:
    """Losses of the completed steps; empty if the folder holds no training.

    Raises:
        InputError: The folder holds a training with other settings.
    """
    if not (folder / _FILE).exists():
        if any(folder.glob("checkpoint-*")):
            message = f"{str(folder)!r} holds checkpoints of another program, which training would remove"
            raise InputError(f"{message}; use another folder")
        return ()
    record = _read(folder)
    for name, value in json.loads(json.dumps(settings)).items():
        stored = record.settings.get(name)
        if stored != value:
            what = f"another {name}" if isinstance(value, dict) else f"{name} {stored}, not {value}"
            raise InputError(f"{str(folder)!r} holds a training with {what}; use another folder, or remove this one")
    return record.losses


def check_free(folder: Path, record: str = _FILE) -> None:
    """Raises `InputError` if the folder is a file, or holds visible files without that record of our own."""
    if not folder.exists() or (folder / record).exists():
        return
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file; name a folder", parameter="folder")
    if others := sorted(each.name for each in folder.iterdir() if not each.name.startswith(".")):
        raise InputError(
            f"{str(folder)!r} holds files of another program, such as {others[0]!r}; name a new or empty folder",
            parameter="folder",
        )


def hash_of(examples: Sequence[TokenExample]) -> str:
    """Hash of the examples of a training, in their order."""
    return hashlib.sha256(repr(tuple(examples)).encode()).hexdigest()[:16]


def check_examples(folder: Path, examples: Sequence[TokenExample]) -> None:
    """Raises `InputError` if the training in this folder used other examples than these.

    Other data have another held-out part, and some of it would have been used in training.
    """
    try:
        stored = _read(folder).settings["examples"]
    except (InputError, LookupError):
        return
    if stored != hash_of(examples):
        raise InputError(
            f"{str(folder)!r} was trained on other examples than its data gives now, so those held out now may have "
            "been learned; bring the data back, or train again in another folder"
        )


def write_record(folder: Path, settings: Mapping[str, Any], losses: Sequence[float]) -> None:
    """Writes the record. Raises `StorageError` if it cannot be written."""
    write_versioned(folder / _FILE, to_json(_Record(settings, tuple(losses))), schema=SCHEMA)


def _read(folder: Path) -> _Record:
    file = folder / _FILE
    return read_as(_Record, file, schema=SCHEMA, otherwise=f"{file} is no record of a training; use another folder")
