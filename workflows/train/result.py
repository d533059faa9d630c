"""Result of a training, which imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from adaptare.profiler import Quantisation
from adaptare.profiler.analysis import Interval
from adaptare.search.training import Accuracy


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Args:
        seconds: Duration of this call.
        base_loss: Validation loss without adapter, nats per completion token.
        start_loss: Validation loss of the configuration that the recipe takes without a search.
        full_loss: Validation loss with every rank at its largest.
        loss_difference: Full loss minus that of the base, paired over the validation examples.
        constant_loss: Validation loss of token frequencies alone, see `constant_losses`; `None` in results of earlier
            versions.
        accuracies: On the validation questions: majority, untrained, and every rank at its largest; none without
            multiple-choice data.
        examples: Number of training examples.
        dropped: Number of examples left out because their prompt alone is too long.
        cut: Number of examples whose completion is truncated.
        cuts_base: True if the space has models that are smaller than the base.
    """

    model: str
    folder: Path
    recipe: str
    quantisation: Quantisation
    steps: int
    seconds: float
    base_loss: float
    start_loss: float
    full_loss: float
    loss_difference: Interval
    accuracies: tuple[Accuracy, ...]
    examples: int
    dropped: int
    cut: int
    cuts_base: bool
    constant_loss: float | None = None
