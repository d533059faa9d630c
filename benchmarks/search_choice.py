"""Which of the evaluated configurations a search should choose: test losses of the winners by three rules.

python benchmarks/search_choice.py --folder FOLDER [--json] [--parts 0.25 0.5 0.75] [--seeds 0 1 2] [--bf16]

FOLDER is that of `benchmarks/search.py`, with a predictor and trainings. For each training and each part of the
overhead of rank 16 everywhere, the default search, of eight starts
and without sets of kinds of linears, is run, with losses that were computed before. Each rule chooses from
the same configurations within the limit, by the same validation losses. Beside what staged shrinking found stand

- *paired interval*: one replaces it if its loss is lower by the paired interval, at 95 % for all comparisons together;
- *lowest loss*: the lowest wins;
- *expected loss*: the lowest wins once losses of those that are not worse by their paired interval are shrunk towards
  their mean, as far as noise explains their spread. That is the rule of `adaptare search`.

Losses are nats per completion token of the test examples, which guided no choice. Differences are to what staged
shrinking found, with a 95 % interval over these examples.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from stock_process import conditions, say

from adaptare.core.progress import SILENT
from adaptare.profiler.analysis import LEVEL
from adaptare.search import CompletionLoss, read_budget
from adaptare.search.training import decide, paired_difference
from adaptare.workflows.search import racing
from adaptare.workflows.search.searching import SearchRequest, search_folder
from search import PARTS, folder_options, judge_of, overhead, predictor_of

Codes = NDArray[np.int64]
Asked = tuple[CompletionLoss, Codes, Codes]
Rule = Callable[[CompletionLoss, Codes, Codes], int | None]


def by_interval(loss: CompletionLoss, incumbent: Codes, others: Codes) -> int | None:
    """The lowest of those that are better by their paired interval (Bonferroni)."""
    level = 1 - (1 - LEVEL) / max(1, len(others))
    present, *sums = loss.each(np.vstack([incumbent, others]))
    differences = [paired_difference(each, present, loss.tokens, level=level) for each in sums]
    better = [row for row, difference in enumerate(differences) if difference.upper < 0]
    return min(better, key=lambda row: differences[row].middle) if better else None


def lowest(loss: CompletionLoss, incumbent: Codes, others: Codes) -> int | None:
    """The lowest, whatever the noise."""
    row = int(np.argmin(loss(np.vstack([incumbent, others]))))
    return row - 1 if row else None


RULES: Mapping[str, Rule] = {"paired interval": by_interval, "lowest loss": lowest, "expected loss": decide}


def main() -> None:
    options = folder_options(__doc__, PARTS).parse_args()
    settings = {name: getattr(options, name) for name in ("parts", "seeds", "bf16")}
    rows = [row for seed in options.seeds for row in of_training(options, seed)]
    print(json.dumps({**conditions(1), **settings, "rows": rows}) if options.json else "\n".join(map(line, rows)))


def of_training(options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """Test losses of the choice of each rule of one training, in each part of the overhead."""
    run, predictor = options.folder / f"run-{seed}", options.folder / "predictor"
    fitted = predictor_of(predictor)
    judge = judge_of(fitted, run, bf16=options.bf16)
    for part in options.parts:
        say(f"seed {seed}, {part:.0%} of the overhead")
        validation, incumbent, others = asked(options, run, predictor, overhead(fitted, run, part), seed)
        for name, rule in RULES.items():
            row = rule(validation, incumbent, others)
            chosen = incumbent if row is None else others[row]
            difference = judge.loss.difference(chosen, incumbent)
            yield {
                "seed": seed,
                "part": part,
                "rule": name,
                "candidates": 1 + len(others),
                "validation_examples": len(validation.tokens),
                "test_examples": len(judge.loss.tokens),
                "validation_loss": float(validation(chosen[None])[0]),
                "loss": float(judge.loss(chosen[None])[0]),
                "difference": [difference.lower, difference.middle, difference.upper],
            }


class AskedError(Exception):
    """Ends a search that has asked its rule."""


def asked(options: argparse.Namespace, run: Path, predictor: Path, share: float, seed: int) -> Asked:
    """What a search asks its rule at its first budget: validation losses, what staged shrinking found, and others."""
    calls: list[Asked] = []

    def noted(*words: Any) -> None:
        calls.append(words)
        raise AskedError

    with TemporaryDirectory() as folder, patch.object(racing, "decide", noted), suppress(AskedError):
        file, budget = Path(folder) / "front.json", read_budget(f"overhead={share:.4%}")
        request = SearchRequest(run, [predictor], [budget], file, evaluations=8, bf16=options.bf16, seed=seed)
        search_folder(request, feedback=SILENT)
    return calls[0]


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    lower, middle, upper = row["difference"]
    return (
        f"seed {row['seed']}, {row['part']:.0%}, {row['rule']:15}: loss {row['loss']:.3f}, "
        f"{middle:+.3f} [{lower:+.3f}, {upper:+.3f}] to what staged shrinking found"
    )


if __name__ == "__main__":
    main()
