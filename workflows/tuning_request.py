"""Request of one run from a base model to files of an adapter, and its record in the folder of all results."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Final

from adaptare.core import InputError
from adaptare.core.codec import to_json
from adaptare.core.versioned_json import read_versioned, write_versioned
from adaptare.search.budget import Budget
from adaptare.search.training import check_free

RECORD: Final = "tune.json"


@dataclass(frozen=True)
class TuneRequest:
    """Adapters of one model for one device.

    Args:
        model: Any model with weights.
        output: Folder of all results.
        device: Spelling of the device and of the base's weights.
        budgets: Budgets to meet together; none for decode, midway between the base and the largest rank everywhere.
        data: JSON lines; `None` for dialogues.
        cache: Folder for converted models; `None` for the user's cache folder.
        configurations: Number of configurations measured for the predictors.
        half_width: Half-width of the intervals of these and of the winners, at which measuring ends.
        seconds: Time limit of each measurement.
        steps: Steps of training, and of that of each of the best winners alone.
        bf16: Train and search in bfloat16, see `TrainingSettings` and `SearchRequest`.
        train_s: Time limit of each call for training, and again for training the best winners alone, seconds; `None`
            for no limit. What an earlier call trained or finished is kept.
        gradient_examples: Training examples whose gradients the search uses.
        held_out: Number of examples for computing a loss.
        max_tokens: Longer examples are cut.
    """

    model: str
    output: Path
    device: str
    budgets: Sequence[Budget] = ()
    data: Path | None = None
    cache: Path | None = None
    seed: int = 0
    configurations: int = 40
    half_width: float = 0.005
    seconds: float = 120.0
    steps: int = 150
    bf16: bool = False
    train_s: float | None = None
    gradient_examples: int = 64
    held_out: int = 400
    max_tokens: int = 64

    @property
    def store(self) -> str:
        """File of all measurements."""
        return str(self.output / "adaptare.db")


def claim(request: TuneRequest) -> None:
    """Records the request in its folder. Raises `InputError` if the folder is of another one."""
    check_free(request.output, RECORD)
    file = request.output / RECORD
    ours = {each.name: getattr(request, each.name) for each in fields(request) if each.name not in ("output", "cache")}
    ours = to_json({**ours, "data": request.data.resolve() if request.data else None})
    if not file.exists():
        write_versioned(file, ours, schema=1)
    theirs = read_versioned(file, schema=1, otherwise=f"{file} is no record of tuning; use another folder")
    defaults = {each.name: each.default for each in fields(request) if each.default is not MISSING}
    theirs = {**to_json(defaults), **theirs}  # a record of an earlier version lacks later parameters
    others = [name for name, value in ours.items() if theirs.get(name) != value]
    if others == ["budgets"] and not (request.output / "super-adapter").exists():  # such as one that nothing meets
        for name in ("first-look", "operators"):  # at the length of the other budget
            (request.output / f"{name}.json").unlink(missing_ok=True)
        write_versioned(file, ours, schema=1)
    elif others:
        was = ", ".join(f"{name} {theirs.get(name)}, not {ours[name]}" for name in others)
        raise InputError(f"{str(request.output)!r} is of another request: {was}; use another folder, or remove it")
