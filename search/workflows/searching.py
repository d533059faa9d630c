"""Search under a budget: winners and baselines with predicted latency and losses."""

from pathlib import Path
from typing import Final

from adaptare.devices import InputError
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Configuration, Mode, Space
from adaptare.profiler.results.report import Feedback
from adaptare.search import (
    AdditiveScreen,
    Algorithm,
    CompletionLoss,
    Front,
    Limit,
    Objective,
    PredictedLatency,
    PredictedUpperEnd,
    RandomSearch,
    SuperAdapter,
    pick_winners,
    search,
)
from adaptare.search.algorithms.algorithm import algorithm_named
from adaptare.search.algorithms.baselines import Baseline, baselines
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.algorithms.screen import Screen
from adaptare.search.budget.candidate import Candidate
from adaptare.search.budget.limits import Budget
from adaptare.search.recipes.recipe import recipe_named
from adaptare.search.super_adapter.quantised_base import requantised
from adaptare.search.workflows.adaptation import Adaptation, reload_adaptation
from adaptare.search.workflows.latency_limit import limit_of
from adaptare.search.workflows.merged_latency import MergedLatency
from adaptare.search.workflows.selection import Choice, SearchReport, Selection, save_selection
from adaptare.search.workflows.task import load_task

TRAINED_IN: Final = "float32"
NSGA2: Final = "nsga2"


def check_feasible(budget: Budget, predictor: FittedPredictor, space: Space) -> None:
    """Raises `InfeasibleBudgetError` if no configuration of the space is predicted to meet the budget."""
    limit = Limit(PredictedUpperEnd(predictor, space.columns), limit_of(budget, predictor))
    BudgetRepair(space, [limit], seed=0)


def search_folder(
    folder: Path,
    predictor: Path,
    budget: Budget,
    *,
    output: Path | None,
    evaluations: int,
    winners: int,
    seed: int,
    feedback: Feedback,
    algorithm: str | None = None,
) -> SearchReport:
    """Searches the trained super-adapter of a folder, and writes the selection.

    Args:
        output: File of the result; default: `front.json` in the folder.
        evaluations: Losses to compute, in the search and in the random search each.
        algorithm: Name of an entry point in the group `adaptare.algorithms`; default: the recipe's.

    Raises:
        InputError: An input cannot be read, or does not fit the others.
        InfeasibleBudgetError: No adapter of the space is predicted to meet the budget.
    """
    fitted = load_predictor(predictor)
    limit_of(budget, fitted)
    # Errors are reported before the weights are loaded.
    algorithm = algorithm or recipe_named(load_task(folder).recipe).algorithm
    algorithm_named(algorithm)
    file = output or folder / "front.json"
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"the result cannot be written to {str(file)!r}; name a file in a folder that is there")
    adaptation, super_adapter = reload_adaptation(folder)
    selection = select(
        adaptation,
        super_adapter,
        fitted,
        validation=CompletionLoss(super_adapter, adaptation.examples.validation),
        budget=budget,
        evaluations=evaluations,
        winners=winners,
        seed=seed,
        feedback=feedback,
        algorithm=algorithm,
    )
    save_selection(selection, file, folder=folder, predictor=predictor)
    return SearchReport(selection, file, fitted.level)


def select(
    adaptation: Adaptation,
    super_adapter: SuperAdapter,
    predictor: FittedPredictor,
    *,
    validation: CompletionLoss,
    budget: Budget,
    evaluations: int,
    winners: int,
    seed: int,
    feedback: Feedback,
    algorithm: str = NSGA2,
) -> Selection:
    """Runs the algorithm and a random search of as many evaluations, and evaluates the choices on the test examples.

    Raises:
        InfeasibleBudgetError: No adapter of the space is predicted to meet the budget.
        InputError: The predictor does not cover the budget.
    """
    limit_s = limit_of(budget, predictor)
    space = super_adapter.space
    if space.has_widths and predictor.template.in_weights:
        space = space.at_largest_ranks
    _check_same_base(adaptation, super_adapter, predictor)
    if (dtype := predictor.template.dtype) != TRAINED_IN:
        feedback.note(f"latencies are of {dtype} weights, losses and files of {TRAINED_IN}")
    base_s, mode = predictor.reference_s, predictor.template.mode
    timing: FittedPredictor | MergedLatency = predictor
    if not super_adapter.separable:
        mode, timing = _merged_mode(adaptation), MergedLatency(base_s)
        feedback.note("these adapters are merged, so all take as long as their base; the search is for the lowest loss")
    objectives: list[Objective] = [validation, PredictedLatency(timing, space.columns)]
    limit = Limit(PredictedUpperEnd(timing, space.columns), limit_s)
    test = CompletionLoss(super_adapter, adaptation.examples.test)

    def found_by(title: str, proposer: Algorithm, screen: Screen | None) -> Front:
        shown = _Shown(evaluations)
        with feedback.progress(title) as update:
            return search(
                proposer,
                space,
                objectives,
                [limit],
                evaluations=evaluations,
                seed=seed,
                screen=screen,
                progress=lambda candidate: update(*shown.after(candidate)),
            )

    def choice(name: str, config: Configuration) -> Choice:
        codes = space.encode(config)[None]
        predicted = timing.predict(codes, space.columns)
        ends = (float(predicted.mean_s[0]), float(predicted.lower_s[0]), float(predicted.upper_s[0]))
        losses = _losses(adaptation, super_adapter, config, mode=mode, validation=validation, test=test)
        return Choice(name, config, mode, ends, *losses, bool(predicted.extrapolates[0]))

    front = found_by("searching", algorithm_named(algorithm)(space, seed=seed), AdditiveScreen())
    random = found_by("random search", RandomSearch(space, seed=seed), None)
    # Below the base, the fastest member takes the place of the base.
    lowest = min([base_s, *(one.upper[0] for one in front.members if space.has_widths)])
    picked = [space.decode(one.codes) for one in pick_winners(front, winners, base=lowest, bound=limit_s)]
    others = [(each.name, each.config) for each in _worth_a_row(space)]
    others += [("random search", space.decode(one.codes)) for one in random.members[:1]]
    return Selection(
        budget=str(budget),
        budget_s=limit_s,
        base_s=base_s,
        winners=tuple(choice(f"winner {number}", config) for number, config in enumerate(picked, start=1)),
        baselines=(
            *_folded(adaptation, super_adapter, predictor, validation=validation, test=test),
            *(choice(name, config) for name, config in others),
        ),
        front=tuple((one.values[0], one.values[1]) for one in front.members),
        evaluations={"random": len(random.history), algorithm: len(front.history)},
        origin=predictor.origin,
    )


def _check_same_base(adaptation: Adaptation, super_adapter: SuperAdapter, predictor: FittedPredictor) -> None:
    trained, profiled = super_adapter.shape, predictor.template.shape
    if trained.sizes != profiled.sizes:
        raise InputError(
            f"the super-adapter is of a {trained.describe()}, the predictor of a {profiled.describe()}; "
            "profile and fit the model that was trained"
        )
    trained_on, timed = adaptation.task.quantisation, predictor.template.quantisation
    if trained_on != timed:
        raise InputError(
            f"the super-adapter is of a base with quantisation {trained_on}, the predictor of one with {timed}; "
            f"train with --quantise {timed}, or profile and fit the other base"
        )


def _losses(
    adaptation: Adaptation,
    super_adapter: SuperAdapter,
    config: Configuration,
    *,
    mode: Mode,
    validation: CompletionLoss,
    test: CompletionLoss,
) -> tuple[float, float]:
    """Validation and test loss of a configuration as it is applied; requantised weights differ from the trained."""
    space, task = super_adapter.space, adaptation.task
    if mode != "requantised" or super_adapter.on_grid:
        return float(validation(space.encode(config)[None])[0]), float(test(space.encode(config)[None])[0])
    again, bare = requantised(super_adapter, config, adaptation.base, task.quantisation), config.without_adapter
    parts = (adaptation.examples.validation, adaptation.examples.test)
    found = [float(CompletionLoss(again, part)(space.encode(bare)[None])[0]) for part in parts]
    return found[0], found[1]


def _folded(
    adaptation: Adaptation,
    super_adapter: SuperAdapter,
    predictor: FittedPredictor,
    *,
    validation: CompletionLoss,
    test: CompletionLoss,
) -> list[Choice]:
    """The largest configuration, merged: its adapter adds no latency, but may lose quality on a quantised base.

    None on a sparse base whose zeros the merge would fill.
    """
    space, config = super_adapter.space, super_adapter.space.decode(super_adapter.largest)
    if super_adapter.fills_zeros(config):
        return []
    mode, ends = _merged_mode(adaptation), (predictor.reference_s,) * 3
    if config.widths:
        predicted = predictor.predict(space.encode(config.without_adapter)[None], space.columns)
        ends = (float(predicted.mean_s[0]), float(predicted.lower_s[0]), float(predicted.upper_s[0]))
    losses = _losses(adaptation, super_adapter, config, mode=mode, validation=validation, test=test)
    return [Choice(mode, config, mode, ends, *losses)]


def _merged_mode(adaptation: Adaptation) -> Mode:
    return "merged" if adaptation.task.quantisation == "none" else "requantised"


class _Shown:
    """Progress-bar text of a search."""

    def __init__(self, evaluations: int) -> None:
        self._evaluations = evaluations
        self._done = 0
        self._lowest = float("inf")

    def after(self, candidate: Candidate) -> tuple[float, str]:
        """Progress share and text after the evaluation of a candidate."""
        self._done += 1
        self._lowest = min(self._lowest, candidate.values[0])
        text = f"{self._done} of {self._evaluations} evaluated, lowest loss {self._lowest:.3f}"
        return self._done / self._evaluations, text


def _worth_a_row(space: Space) -> list[Baseline]:
    """Baselines to report: uniform ranks, the midpoint, and the largest rank on query and value."""
    found = list(baselines(space))
    everywhere = [each for each in found if each.name.startswith(("uniform", "midpoint"))]
    attention_only = [each for each in found if each not in everywhere]
    return [*everywhere, *attention_only[-1:]]
