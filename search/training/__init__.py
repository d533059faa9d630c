"""Training of super-adapters: data, sampling, records and quality."""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.search.training.accuracy import UNTRAINED, Accuracy
from adaptare.search.training.data import HELD_OUT_SHARE, Split, split_examples

if TYPE_CHECKING:
    from adaptare.search.training.adapter_trainer import check_trackers
    from adaptare.search.training.answers import Answers, Scoring
    from adaptare.search.training.chat_templates import ALPACA, set_chat_template
    from adaptare.search.training.constant import constant_losses
    from adaptare.search.training.loss_changes import FisherChanges
    from adaptare.search.training.passes import activation_grams
    from adaptare.search.training.polish import polished
    from adaptare.search.training.quality import Asked, paired_difference
    from adaptare.search.training.record import check_examples, check_free
    from adaptare.search.training.remembered import Remembered, Values
    from adaptare.search.training.successive_halving import decide, race
    from adaptare.search.training.token_examples import TokenSplit

__all__ = ["HELD_OUT_SHARE", "UNTRAINED", "Accuracy", "Answers", "FisherChanges", "Scoring", "Split", "TokenSplit"]
__all__ += ["activation_grams", "check_examples", "check_free", "decide", "paired_difference"]
__all__ += ["ALPACA", "Asked", "Remembered", "Values", "polished", "race", "set_chat_template"]
__all__ += ["check_trackers", "constant_losses", "split_examples"]

__getattr__ = lazy_names(__name__)
