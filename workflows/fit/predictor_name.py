"""Default file name of a predictor, and protection of an earlier predictor of that name."""

from collections.abc import Sequence
from pathlib import Path

from adaptare.core import InputError
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler.store import LATENCY
from adaptare.workflows.target import weight_words


def default_name(predictor: FittedPredictor, *, lengths: Sequence[int], every_site: bool) -> Path:
    """`predictor[-QUANTITY]-PHASE[-LENGTH...][-BASE][-open]`, with the weights of the base unless they are the default.

    Args:
        predictor: Predictor to write.
        lengths: Lengths that the user gave.
        every_site: True to mark that graphs have every site open (taking an adapter at run time).
    """
    template = predictor.template
    weights = weight_words(template.quantisation, template.dtype)
    words = [] if predictor.quantity == LATENCY else [predictor.quantity.replace("_", "-")]
    words += [template.phase, *map(str, lengths), *weights, *["open"] * every_site]
    return Path("-".join(["predictor", *words]))


def reason_to_keep(predictor: FittedPredictor, base: Path) -> str:
    """Reason why a predictor should not replace an earlier one of the same kind and file name; empty if it may.

    An expected error is itself uncertain, so the earlier one is better only if the new error is above the upper end of
    the old one's interval.

    Args:
        predictor: Predictor to write.
        base: Path as for `save_predictor`.

    Raises:
        InputError: The existing files cannot be read, or are a predictor of another kind.
    """
    stem = base.with_suffix("") if base.suffix in (".json", ".npz") else base
    if not any(stem.with_name(stem.name + suffix).exists() for suffix in (".json", ".npz")):
        return ""
    try:
        existing = load_predictor(base)
    except InputError as error:
        raise InputError(f"{error}; or name another output file, or replace it", parameter="replace") from error
    if _identity(existing) != _identity(predictor):
        raise InputError(
            f"{base} is of {existing.template.describe()} on {existing.device.device}, of lengths "
            f"{', '.join(map(str, existing.lengths))}; "
            "name another output file, or replace it",
            parameter="replace",
        )
    old, new = existing.error_card, predictor.error_card
    most = old.mape if old.mape_upper is None else old.mape_upper
    errors = f"of {old.mape:.2f} % of latency, at most {most:.2f} %, and the new one {new.mape:.2f} %"
    return "" if new.mape <= most else f"has an expected error {errors}"


def _identity(predictor: FittedPredictor) -> tuple[object, ...]:
    """Identity of a predictor; another version of the runtime, or more rows, make a newer one of the same identity."""
    template, device = predictor.template, predictor.device
    names = ("phase", "mode", "graph", "batch", "quantisation", "dtype")
    workload = (template.shape.sizes, *(getattr(template, name) for name in names))
    composed = predictor.error_card.composed > 0
    return (*workload, predictor.quantity, predictor.lengths, device.device, device.hardware, composed)
