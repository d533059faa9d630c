"""Where a predictor is written if the user names no place."""

from pathlib import Path

from adaptare.devices import InputError
from adaptare.predictor import LatencyPredictor, load_predictor

USUAL = ("none", "float32")


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
    weights = [word for word in (template.quantisation, template.dtype) if word not in USUAL]
    base = Path("-".join(["predictor", template.phase, *_word(length), *weights, *["open"] * every_site]))
    try:
        there = load_predictor(base)
    except InputError:  # there is none, or nothing that could be used
        return base
    if _told_apart(there) != _told_apart(predictor):
        raise InputError(
            f"{base} is a predictor of {there.template.describe()} on {there.model.device.device}; "
            "name another file with --output, or this one to replace it"
        )
    return base


def _word(length: int | None) -> list[str]:
    return [] if length is None else [str(length)]


def _told_apart(predictor: LatencyPredictor) -> tuple[object, ...]:
    """What makes it another predictor; another version of the runtime makes it a newer one."""
    template, device = predictor.template, predictor.model.device
    kind = (template.shape.sizes, template.phase, template.length, template.mode, template.open, template.batch)
    return (*kind, template.quantisation, template.dtype, device.device, device.hardware)
