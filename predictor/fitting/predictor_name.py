"""Where a predictor is written if the user names no place."""

from pathlib import Path

from adaptare.devices import InputError
from adaptare.predictor import LatencyPredictor, load_predictor
from adaptare.profiler.campaigns.target import weight_words

# Origins that a fit has; that it began with another predictor makes it no other one.
SAID_OF_IT = ("predicted", "transferred")


def default_name(predictor: LatencyPredictor, *, length: int | None, every_site: bool) -> Path:
    """`predictor-PHASE[-LENGTH][-BASE][-open]`, the base if its weights are none that go without saying.

    Args:
        predictor: To be written.
        length: If the user named one.
        every_site: Whether that graphs have every site open is to be seen.

    Raises:
        InputError: A predictor of something else has this name.
    """
    template = predictor.template
    weights = weight_words(template.quantisation, template.dtype)
    base = Path("-".join(["predictor", template.phase, *_word(length), *weights, *["open"] * every_site]))
    if not any(base.with_suffix(suffix).exists() for suffix in (".json", ".npz")):
        return base
    try:
        there = load_predictor(base)
    except InputError as error:
        raise InputError(f"{error}; or name another file with --output") from error
    if _told_apart(there) != _told_apart(predictor):
        raise InputError(
            f"{base} is of {there.template.describe()} on {there.model.device.device}, {there.model.origin}; "
            "name another file with --output, or this one to replace it"
        )
    return base


def _word(length: int | None) -> list[str]:
    return [] if length is None else [str(length)]


def _told_apart(predictor: LatencyPredictor) -> tuple[object, ...]:
    """What makes it another predictor; another version of the runtime, or more rows, make it a newer one."""
    template, device = predictor.template, predictor.model.device
    kind = (template.shape.sizes, template.phase, template.length, template.mode, template.open, template.batch)
    weights = (template.quantisation, template.dtype)
    return (*kind, *weights, device.device, device.hardware, predictor.model.origin in SAID_OF_IT)
