"""Loss of a model that ignores every prompt."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.search.training.token_examples import TokenExample

# Weight of the frequencies at all positions beside those at one, and of an unseen token, in examples.
SHRINKAGE: Final = 10.0
UNSEEN: Final = 1.0


def constant_losses(
    train: Sequence[TokenExample], examples: Sequence[TokenExample], *, vocabulary: int
) -> NDArray[np.float64]:
    """Losses of a model that knows nothing but how frequent each token is at each position of a completion.

    A frequency at a position is shrunk towards that at all positions (Dirichlet prior). On multiple-choice data with
    fixed wording, this is the class prior. A training that is not better shows nothing learned from prompts.

    Args:
        train: Examples that it counts.
        examples: Examples that it is judged by.
        vocabulary: Number of tokens.

    Returns:
        Loss summed over the completion of each example, nats. Shape (n_examples,).
    """
    at = Counter((place, token) for example in train for place, token in enumerate(example.completion))
    anywhere = Counter(token for example in train for token in example.completion)
    longer = Counter(place for example in train for place in range(example.completion_tokens))
    total = anywhere.total() + UNSEEN

    def loss(place: int, token: int) -> float:
        frequency = (anywhere[token] + UNSEEN / vocabulary) / total
        return -float(np.log((at[place, token] + SHRINKAGE * frequency) / (longer[place] + SHRINKAGE)))

    return np.array([sum(loss(place, token) for place, token in enumerate(each.completion)) for each in examples])
