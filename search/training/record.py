"""Settings and progress of a training run: `training.json` in its folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.versioned_json import write_versioned
from adaptare.devices.program import Json
from adaptare.search.training.samplers import LargestShareSampler, UniformSampler
from adaptare.search.training.step import TrainingStep
from adaptare.search.training.token_examples import TokenExample

SCHEMA = 2
EARLIER = 1  # its steps were computed differently, so it is read but not resumed
# Samplers of that version, each with one configuration in a step -> `TrainingStep` that draws alike.
STEPS_OF_EARLIER = {
    "UniformSampler()": TrainingStep(UniformSampler()),
    "SandwichSampler(largest=0.25)": TrainingStep(LargestShareSampler(0.25)),
}
_FILE = "training.json"


def read_losses(folder: Path, settings: Mapping[str, Json]) -> tuple[float, ...]:
    """Losses of the completed steps; empty if the folder holds no training.

    Raises:
        InputError: The folder holds a training with other settings.
    """
    file = folder / _FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        schema, stored, losses = record["schema"], dict(record["settings"]), list(map(float, record["losses"]))
    except (FileNotFoundError, NotADirectoryError):
        if any(folder.glob("checkpoint-*")):
            message = f"{str(folder)!r} holds checkpoints of another program, which training would remove"
            raise InputError(f"{message}; use another folder") from None
        return ()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file} is no record of a training ({error!r}); use another folder") from error
    if schema not in (SCHEMA, EARLIER):
        raise InputError(f"{file} has schema {schema!r}; this version reads {SCHEMA}: update adaptare or train again")
    if schema == EARLIER:
        if len(losses) < stored.get("steps", 0):
            raise InputError(
                f"{str(folder)!r} holds an unfinished training of an earlier version of adaptare, which computed its "
                "steps differently; use another folder, or remove this one"
            )
        step = STEPS_OF_EARLIER.get(str(stored.get("sampler")))
        stored = {**stored, "step": repr(step or stored.get("sampler")), "bf16": False}
    for name, value in json.loads(json.dumps(settings)).items():
        if stored.get(name) != value:
            what = f"another {name}" if isinstance(value, dict) else f"{name} {stored.get(name)}, not {value}"
            raise InputError(f"{str(folder)!r} holds a training with {what}; use another folder, or remove this one")
    return tuple(losses)


def hash_of(examples: Sequence[TokenExample]) -> str:
    """Hash of the examples of a training, in their order."""
    return hashlib.sha256(repr(tuple(examples)).encode()).hexdigest()[:16]


def check_examples(folder: Path, examples: Sequence[TokenExample]) -> None:
    """Raises `InputError` if the training in this folder used other examples than these.

    Other data have another held-out part, and some of it would have been used in training.
    """
    try:
        stored = json.loads((folder / _FILE).read_text(encoding="utf-8"))["settings"]["examples"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if stored != hash_of(examples):
        raise InputError(
            f"{str(folder)!r} was trained on other examples than its data gives now, so those held out now may have "
            "been learned; bring the data back, or train again in another folder"
        )


def write_record(folder: Path, settings: Mapping[str, Json], losses: Sequence[float]) -> None:
    """Writes the record. Raises `StorageError` if it cannot be written."""
    write_versioned(folder / _FILE, {"settings": settings, "losses": losses}, schema=SCHEMA)
