"""Adapters in PEFT's configuration format."""

import re
from collections import Counter
from collections.abc import Mapping

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.profiler.workloads.configuration import Configuration


def peft_arguments(config: Configuration, scales: Mapping[str, float]) -> dict[str, Json]:
    """Keyword arguments of a `peft.LoraConfig` with exactly these sites, ranks and scales, of the same kind.

    PEFT scales an adapter by alpha / rank, so alpha is written as scale x rank for every site; `rank_pattern` and
    `alpha_pattern` hold deviations from the most common value. Their keys are complete module paths, with dots escaped
    because PEFT matches them as regular expressions.

    Args:
        config: At least one site.
        scales: Module path -> factor on B A x.

    Raises:
        InputError: No site has an adapter; PEFT cannot express that.
    """
    if not config.ranks:
        raise InputError("an adapter without any site cannot be written for PEFT; the base model is the result")
    alphas = {path: _plain(scales[path] * rank) for path, rank in config.ranks}
    rank = Counter(config.by_path.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": [path for path, _ in config.ranks],
        "rank_pattern": {re.escape(path): own for path, own in config.ranks if own != rank},
        "alpha_pattern": {re.escape(path): own for path, own in alphas.items() if own != alpha},
        **({"use_dora": True} if config.kind == "dora" else {}),
    }


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value
