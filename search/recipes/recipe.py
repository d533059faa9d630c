"""Contract of a recipe: everything that defines a kind of super-adapter and its training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.core.codec import to_json
from adaptare.core.extensions import extensions, named_extension
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.profiler import WIDTH, Quantisation, Space
from adaptare.profiler.workloads import DEFAULT_RANKS
from adaptare.search.algorithms.algorithm import STAGED
from adaptare.search.algorithms.baselines import midpoint
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.merging import SPARSE
from adaptare.search.super_adapter.model import ALPHA
from adaptare.search.training.step import DEFAULT_STEP, TrainingStep
from adaptare.search.training.token_examples import TokenExample

RECIPES = "adaptare.recipes"
DEFAULT_RECIPE = "placement"


@dataclass(frozen=True)
class Recipe:
    """Kind of super-adapter: its base, space, layers and training.

    It is registered as an entry point in the group `adaptare.recipes`, under its name.

    Args:
        name: Name of the entry point.
        summary: One line: the idea.
        paper: Paper with the section or equation that the recipe follows.
        needs: Requirements beyond a base model, such as `training examples; calibration examples`.
        gives: Result of a search, such as `an adapter of mixed ranks, not merged`.
        space: Default space; called as `space(shape, ranks=…)` with the shape of the base model.
        ranks: Default ranks of the space.
        prepare: Changes the base in place before adapters are added: prunes, reorders or rounds its weights. Called
            with the model and `calibration` training examples; the changed base is saved beside the super-adapter.
            It must not change the shape of the model. `None`: the base stays as it is.
        layer_order: Layers in the order in which a space with depth leaves them out, from the prepared base and the
            examples given to `prepare`; kept beside the base. `None`: an even spread.
        calibration: Largest number of training examples given to `prepare`.
        sparsity: Share of each row that `prepare` sets to zero, which it takes as an argument of this name too; `None`
            if it prunes nothing.
        layer: Elastic linear of every site.
        alpha: Scale of each adapter times its largest rank.
        step: Configurations and losses of one optimiser step.
        start: The configuration to take without a search, as points of shape (n_axes,).
        algorithm: Default search algorithm: `staged-fisher`, or an entry point in the group `adaptare.algorithms`.
        quantisations: Quantisations of the base that the recipe is for; the first is the default.
    """

    name: str
    summary: str
    paper: str
    needs: str
    gives: str
    space: Callable[..., Space]
    ranks: tuple[int, ...] = DEFAULT_RANKS
    prepare: Callable[..., None] | None = None
    layer_order: Callable[[PreTrainedModel, Sequence[TokenExample]], Sequence[int]] | None = None
    calibration: int = 128
    sparsity: float | None = None
    layer: type[ElasticLinear] = ElasticLinear
    alpha: float = ALPHA
    step: TrainingStep = DEFAULT_STEP
    start: Callable[[Space], NDArray[np.int64]] = midpoint
    algorithm: str = STAGED
    quantisations: tuple[Quantisation, ...] = tuple(QUANTISATIONS)

    def quantisation(self, asked: Quantisation | None) -> Quantisation:
        """The quantisation asked for, or the default. Raises `InputError` if the recipe is not for it."""
        if asked is not None and asked not in self.quantisations:
            raise InputError(
                f"the recipe {self.name!r} is for a base with quantisation {' or '.join(self.quantisations)}, not "
                f"{asked}; leave the quantisation out, or take another recipe"
            )
        return asked or self.quantisations[0]

    def at_sparsity(self, asked: float | None) -> "Recipe":
        """The recipe with another share of zeros in its base, or itself for `None`.

        Raises:
            InputError: It prunes nothing, or the share is not from 25 % to below 100 %.
        """
        if asked is None:
            return self
        if self.prepare is None or self.sparsity is None:
            pruned = ", ".join(each.name for each in all_recipes() if each.sparsity is not None)
            raise InputError(
                f"the recipe {self.name!r} keeps its base dense, so it takes no sparsity; leave it out, or take one of "
                f"{pruned}"
            )
        if not SPARSE <= asked < 1:
            raise InputError(
                f"the sparsity must be from {SPARSE:.0%} to below 100 %, not {asked:.0%}, because fewer zeros "
                "cannot be told from those of rounding to 4 bits; for example 40 %"
            )
        return replace(self, prepare=partial(self.prepare, sparsity=asked), sparsity=asked)

    def to_json(self) -> dict[str, Any]:
        """Values of the recipe without its functions."""
        named = ("name", "summary", "paper", "needs", "gives", "ranks", "sparsity", "alpha", "algorithm")
        values = {name: to_json(getattr(self, name)) for name in (*named, "quantisations")}
        return {**values, "prepares_base": self.prepare is not None, "step": repr(self.step)}


def check_widths(recipe: Recipe, space: Space) -> None:
    """Raises `InputError` if a space has widths, and the recipe's adapters exist merged only."""
    if WIDTH in space.kinds and not recipe.layer.separable:
        raise InputError(
            f"the space {space.name!r} has widths, which adapters of the recipe {recipe.name!r} do not support; "
            "leave the widths out, or take another recipe"
        )


def recipe_named(name: str) -> Recipe:
    """The registered recipe of this name; raises as `named_extension`."""
    return named_extension(RECIPES, name, Recipe, kind="recipe")


def all_recipes() -> tuple[Recipe, ...]:
    """Every registered recipe, the default first."""
    names = sorted(extensions(RECIPES), key=lambda name: (name != DEFAULT_RECIPE, name))
    return tuple(recipe_named(name) for name in names)
