"""Published ways to place low-rank adapters, each with the most ranks that fit a limit: AdaLoRA, EVA and PLoP.

`search.py` compares them with its searches. A method scores the linears of a trained run once (`SCORES`), and
`published` turns the scores into one configuration for each limit:

- AdaLoRA keeps the most important triplets of all linears, of one training as long as that of the super-adapter;
- EVA keeps the components of the linears' inputs that explain the most variance;
- PLoP adapts the types of linears whose weights are aligned least with their inputs.

AdaLoRA and EVA give a linear any number of ranks; it is rounded down to the ranks of the space, which the predictor
knows. Scores of AdaLoRA take a training, the others a pass of `CALIBRATION` training examples through the base.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from peft import AdaLoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adaptare.core.strict_json import read_json
from adaptare.profiler import Configuration, Space
from adaptare.search import Limit, TrainingSettings
from adaptare.search.training.passes import pad_batch, watch
from adaptare.search.training.train import training_arguments
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation

CALIBRATION = 128
SETTINGS = ("steps", "seed", "batch_size", "micro_batches", "learning_rate")
# Method -> path or kind of a linear -> its scores.
Scores: TypeAlias = Mapping[str, Mapping[str, Any]]


class Allocation(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Lets peft update the importance of triplets after every step, before the gradients are cleared."""

    def __init__(self, model: PeftModel) -> None:
        self._model = model

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: object
    ) -> None:
        """Called after the optimiser's update."""
        self._model.base_model.update_and_allocate(state.global_step)


def triplet_importance(run: Path) -> dict[str, list[float]]:
    """Importance of each singular triplet of each linear, after training with peft's AdaLoRA.

    Examples, steps, batches and learning rate are those of the super-adapter; all linears of the space have its largest
    rank. No triplet is pruned before the end, so that one training serves every limit: the published schedule (section
    3.3) with a warm-up of all steps.

    Args:
        run: Folder of the super-adapter's training.

    Returns:
        Path -> S of its triplets: the score of the singular value plus the mean scores of both singular vectors, each
        score the product of the smoothed sensitivity |w dL/dw| and its smoothed deviation.

    References:
        Zhang et al. 2023, "Adaptive budget allocation for parameter-efficient fine-tuning", arXiv 2303.10512, eq. 7 to
        11; `peft.tuners.adalora.RankAllocator`.
    """
    adaptation, space, linears, alpha = base_of(run)
    settings = read_json(run / "training.json")["settings"]
    return importances(adalora(adaptation, linears, rank=largest_rank(space), alpha=alpha, settings=settings), linears)


def adalora(
    adaptation: Adaptation, linears: Mapping[str, nn.Linear], *, rank: int, alpha: float, settings: Mapping[str, Any]
) -> PeftModel:
    """The base with trained AdaLoRA adapters of one rank on some linears."""
    steps = settings["steps"]
    schedule = {"total_step": steps, "tinit": steps - 1}  # peft counts steps from 0
    config = AdaLoraConfig(init_r=rank, lora_alpha=alpha, target_modules=list(linears), **schedule)
    torch.manual_seed(settings["seed"])
    model = get_peft_model(adaptation.model, config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            training_arguments(Path(folder), TrainingSettings(**{name: settings[name] for name in SETTINGS})),
            data_collator=pad_batch,
            train_dataset=list(adaptation.examples.train),
            callbacks=[Allocation(model)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model


def importances(model: PeftModel, linears: Iterable[str]) -> dict[str, list[float]]:
    """Importance of the triplets of each linear, as the allocator of a trained model has smoothed it."""
    allocator = model.base_model.rankallocator

    def importance(path: str) -> torch.Tensor:
        names = [f"{path}.lora_{half}.default" for half in ("E", "A", "B")]
        value, right, left = (allocator.exp_avg_ipt[name] * allocator.exp_avg_unc[name] for name in names)  # eq. 11
        return value[:, 0] + right.mean(dim=1) + left.mean(dim=0)  # eq. 7

    return {path: importance(path).tolist() for path in linears}


def explained_variance(run: Path) -> dict[str, list[float]]:
    """Share of the variance of each linear's input that each of its first principal components explains.

    As in peft, at most as many components as the largest rank count, inputs are those of completion tokens of the base
    without adapter, and their mean is subtracted. The components are exact instead of incremental.

    Args:
        run: Folder of the super-adapter's training.

    Returns:
        Path -> shares, descending.

    References:
        Paischer et al. 2024, "Parameter efficient fine-tuning via explained variance adaptation", arXiv 2410.07170,
        section 3, adaptive rank allocation; `peft.tuners.lora.eva.get_eva_state_dict`.
    """
    adaptation, space, linears, _ = base_of(run)
    sizes = {path: linear.in_features for path, linear in linears.items()}
    sums = {path: torch.zeros(size, dtype=torch.float64) for path, size in sizes.items()}
    products = {path: torch.zeros(size, size, dtype=torch.float64) for path, size in sizes.items()}
    examples = adaptation.examples.train[:CALIBRATION]
    for example in examples:

        def see(path: str, x: torch.Tensor, _: torch.Tensor, prompt: int = example.prompt_tokens) -> None:
            completion = x[prompt:].double().cpu()
            sums[path] += completion.sum(dim=0)
            products[path] += completion.T @ completion

        watch(adaptation.model, linears, [example], see)
    n_tokens = sum(example.completion_tokens for example in examples)

    def shares(path: str) -> torch.Tensor:
        mean = sums[path] / n_tokens
        variances = torch.linalg.eigvalsh(products[path] / n_tokens - torch.outer(mean, mean)).flip(0)
        return variances[: largest_rank(space)] / variances.sum()

    return {path: shares(path).tolist() for path in linears}


def feature_norms(run: Path) -> dict[str, float]:
    """Normalised feature norm of each kind of linear: its mean over inputs and layers.

    That of an input z is |W z| / |W r|, where r is a random vector with the norm of z and the direction of a normal
    one: 1 if weights and inputs are not aligned. Inputs are those of all tokens of the base without adapter.

    Args:
        run: Folder of the super-adapter's training.

    Returns:
        Kind, such as `q_proj` -> norm.

    References:
        Hayou et al. 2025, "PLoP: precise LoRA placement for efficient finetuning of large models", arXiv 2506.20629,
        section 3, definition of NFN.
    """
    adaptation, space, linears, _ = base_of(run)
    generator = torch.Generator().manual_seed(0)
    totals = dict.fromkeys(linears, 0.0)

    def see(path: str, x: torch.Tensor, _: torch.Tensor) -> None:
        random = torch.randn(x.shape, generator=generator).to(x.device)
        gains = [
            functional.linear(z, linears[path].weight).norm(dim=1).double() / z.norm(dim=1).double()
            for z in (x, random)
        ]
        totals[path] += float((gains[0] / gains[1]).sum())

    n_tokens = watch(adaptation.model, linears, adaptation.examples.train[:CALIBRATION], see)
    paths = {site.kind: [each.path for each in space.sites if each.kind == site.kind] for site in space.sites}
    return {kind: float(np.mean([totals[path] for path in own])) / n_tokens for kind, own in paths.items()}


SCORES: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    "adalora": triplet_importance,
    "eva": explained_variance,
    "plop": feature_norms,
}


def base_of(run: Path) -> tuple[Adaptation, Space, dict[str, nn.Linear], float]:
    """The base of a training with its examples, the space, its linears by path, and alpha of the super-adapter."""
    adaptation, super_adapter = reload_adaptation(run)
    super_adapter.remove()
    space, model = super_adapter.space, adaptation.model
    linears = {site.path: model.get_submodule(site.path) for site in space.sites}
    return adaptation, space, linears, super_adapter.alpha


def largest_rank(space: Space) -> int:
    """Largest rank of a space of ranks."""
    return int(space.at(space.highest).max())


def published(space: Space, limit: Limit, scores: Scores) -> dict[str, Configuration]:
    """Configuration of each published method within a limit; a method of which none fits is missing."""
    found = {
        "AdaLoRA": most_components(space, limit, scores["adalora"]),
        "EVA": most_components(space, limit, scores["eva"]),
        "PLoP": lowest_kinds(space, limit, scores["plop"]),
    }
    return {name: config for name, config in found.items() if config is not None}


def most_components(space: Space, limit: Limit, scores: Mapping[str, Any]) -> Configuration | None:
    """Keeps the components with the highest scores of all linears, as many as fit.

    Args:
        space: Space of ranks.
        limit: Largest cost, of ranks that are rounded down to those of the space.
        scores: Path -> score of each component.
    """
    values = np.array([scores[str(each.place)] for each in space.dimensions])  # shape (n_dimensions, n_components)
    order = np.argsort(-values, axis=None, kind="stable") // values.shape[1]
    counts = np.cumsum(np.eye(len(values), dtype=np.int64)[order], axis=0)
    ranks = ranks_of(space)
    codes = ranks[np.searchsorted(ranks, counts, side="right") - 1]
    codes = codes[np.any(np.diff(codes, axis=0, prepend=0) != 0, axis=1)]
    fits = np.flatnonzero(limit.cost(codes) <= limit.bound)
    return space.decode(codes[fits[-1]]) if len(fits) else None


def lowest_kinds(space: Space, limit: Limit, norms: Mapping[str, float]) -> Configuration | None:
    """Adapts the kinds of linears with the lowest norms: as many of them, at one rank, as give the most ranks that fit.

    If the first kind does not fit at any rank, it is adapted in every k-th layer only, with the smallest k that fits.

    Args:
        space: Space of ranks.
        limit: Largest cost.
        norms: Kind -> normalised feature norm.
    """
    kinds = sorted(norms, key=lambda kind: norms[kind])
    for k in range(1, space.shape.layers + 1):
        sites = [site for site in space.sites if site.layer % k == k - 1]
        configs = [
            Configuration.of({site.path: int(rank) for site in sites if site.kind in kinds[:n]})
            for n in range(1, len(kinds) + 1 if k == 1 else 2)
            for rank in ranks_of(space)[1:]
        ]
        codes = np.array([space.encode(config) for config in configs])
        totals = np.where(limit.cost(codes) <= limit.bound, codes.sum(axis=1), 0)
        if totals.any():
            return configs[int(totals.argmax())]
    return None


def ranks_of(space: Space) -> NDArray[np.int64]:
    """Ranks of a space, from 0 for no adapter. Shape (n_ranks,)."""
    return np.unique([0, *(choice for axis in space.axes for choice in axis.choices)])
