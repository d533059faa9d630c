"""Search under a budget: winners and baselines with predicted latency and losses."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.predictor import FittedPredictor, Prediction, load_predictor
from adaptare.profiler import Column, Configuration, Mode, Site, Space
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
from adaptare.search.algorithms.algorithm import algorithm_named, may_be_screened
from adaptare.search.algorithms.baselines import baselines, midpoint, uniform_cuts
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.algorithms.greedy import greedy_genes
from adaptare.search.budget.candidate import Candidate
from adaptare.search.budget.front import front_of
from adaptare.search.budget.limits import Budget
from adaptare.search.export.folder import MARK, check_replaceable
from adaptare.search.recipes.recipe import recipe_named
from adaptare.search.training.rank_importance import gate_gradients
from adaptare.workflows.search.final_scores import scored
from adaptare.workflows.search.latency_limit import check_predictor, limit_of
from adaptare.workflows.search.polishing import check_polishable, polish_winner
from adaptare.workflows.search.selection import Choice, SearchReport, Selection, save_selection
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation
from adaptare.workflows.train.task import load_task

Genes = NDArray[np.int64]

TRAINED_IN: Final = "float32"
NSGA2: Final = "nsga2"
# Uniform cuts to report: the best within the budget, and within smaller parts of it.
REPORTED_CUTS: Final = 3
GREEDY: Final = "greedy by gate gradients"
# Training examples that give the gradients.
GREEDY_EXAMPLES: Final = 64


@dataclass(frozen=True)
class MergedLatency:
    """Predicts the latency of the base for any ranks, because an adapter that exists only merged adds none.

    Args:
        base_s: Latency of the base, seconds.
    """

    base_s: float

    def predict(self, codes: Genes, columns: tuple[Column, ...], /) -> Prediction:
        """See `CodesPredictor.predict`."""
        same = np.full(len(codes), self.base_s)
        return Prediction(same, same, same, np.zeros(len(codes), dtype=np.bool_))


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
    polish: int = 0,
) -> SearchReport:
    """Searches the trained super-adapter of a folder, and writes the selection.

    Args:
        output: File of the result; default: `front.json` in the folder.
        evaluations: Losses to compute, in the search and in the random search each.
        algorithm: Name of an entry point in the group `adaptare.algorithms`; default: the recipe's.
        polish: Steps of further training for the first winner, which is written beside the result, as a PEFT folder.

    Raises:
        InputError: An input cannot be read, or does not fit the others.
        InfeasibleBudgetError: No configuration of the space is predicted to meet the budget.
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
    place = file.with_name(f"{file.stem}-polished")
    if polish:
        check_polishable(super_adapter)
        check_replaceable(place)
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
    if not polish or not selection.winners:
        if (place / MARK).exists():
            feedback.note(f"{place} is of an earlier search; --polish STEPS replaces it")
        return SearchReport(selection, file, fitted.level)
    row = polish_winner(
        adaptation, super_adapter, selection.winners[0], place, steps=polish, seed=seed, feedback=feedback
    )
    selection = replace(selection, baselines=(row, *selection.baselines))
    save_selection(selection, file, folder=folder, predictor=predictor)
    return SearchReport(selection, file, fitted.level, polished=place)


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

    The algorithm is told the losses of the midpoint, the greedy choice and uniform cuts first, so the first winner is
    never behind them.

    Raises:
        InfeasibleBudgetError: No configuration of the space is predicted to meet the budget.
        InputError: The predictor does not cover the budget.
    """
    limit_s = limit_of(budget, predictor)
    space = super_adapter.space
    if space.cuts_base and predictor.template.in_weights:
        space = space.at_largest_ranks
    check_predictor(predictor, super_adapter.shape, adaptation.task.quantisation)
    _check_mergeable(super_adapter, predictor)
    if (dtype := predictor.template.dtype) != TRAINED_IN:
        feedback.note(f"latencies are of {dtype} weights, losses and files of {TRAINED_IN}")
    base_s, mode = predictor.base_value, predictor.template.mode
    timing: FittedPredictor | MergedLatency = predictor
    if not super_adapter.separable:
        mode, timing = _merged_mode(adaptation), MergedLatency(base_s)
        feedback.note("these adapters are merged, so all take as long as their base; the search is for the lowest loss")
    objectives: list[Objective] = [validation, PredictedLatency(timing, space.columns)]
    limit = Limit(PredictedUpperEnd(timing, space.columns), limit_s)

    def run(title: str, proposer: Algorithm, screen: AdditiveScreen | None, start: Genes | None) -> Front:
        losses: list[float] = []
        with feedback.progress(title) as update:

            def show(candidate: Candidate) -> None:
                losses.append(candidate.values[0])
                lowest = f"lowest loss {np.fmin.reduce(losses):.3f}"
                update(len(losses) / evaluations, f"{len(losses)} of {evaluations} evaluated, {lowest}")

            return search(
                proposer,
                space,
                objectives,
                [limit],
                evaluations=evaluations,
                seed=seed,
                screen=screen,
                start=start,
                progress=show,
            )

    def choice(name: str, config: Configuration) -> Choice:
        predicted = timing.predict(space.encode(config)[None], space.columns)
        return Choice(name, config, mode, predicted.interval_s(0), extrapolates=bool(predicted.extrapolates[0]))

    chosen_algorithm = algorithm_named(algorithm)(space, seed=seed)
    BudgetRepair(space, [limit], seed=seed)  # an infeasible budget ends here, before gradients are computed
    greedy = _greedy(adaptation, super_adapter, space, limit)
    cuts = _cuts_within(space, limit, at_most=evaluations // 2)
    start = np.vstack([midpoint(space), greedy, *cuts.values()])
    screen = AdditiveScreen() if may_be_screened(chosen_algorithm) else None
    front = run("searching", chosen_algorithm, screen, start)
    random = run("random search", RandomSearch(space, seed=seed), None, None)
    # Below the base, the fastest member takes the place of the base.
    lowest = min([base_s, *(one.upper[0] for one in front.members if space.cuts_base)])
    picked = [space.decode(one.codes) for one in pick_winners(front, winners, base=lowest, bound=limit_s)]
    others = _reported_baselines(space)
    others += [("random search", space.decode(one.codes)) for one in random.members[:1]]
    others += [(GREEDY, space.decode(codes)) for codes in space.expand(greedy)]
    names = {tuple(space.expand(genes[None])[0].tolist()): name for name, genes in cuts.items()}
    uniform = front_of(front.objectives, tuple(one for one in front.history if one.codes in names))
    others += [
        (names[one.codes], space.decode(one.codes))
        for one in pick_winners(uniform, REPORTED_CUTS, base=lowest, bound=limit_s)
    ]
    chosen = [choice(f"winner {number}", config) for number, config in enumerate(picked, start=1)]
    chosen += [*_folded(adaptation, super_adapter, predictor), *(choice(name, config) for name, config in others)]
    choices, accuracies = scored(chosen, adaptation, base=super_adapter, validation=validation)
    return Selection(
        budget=str(budget),
        budget_s=limit_s,
        base_s=base_s,
        winners=choices[: len(picked)],
        baselines=choices[len(picked) :],
        front=tuple((one.values[0], one.values[1]) for one in front.members),
        evaluations={"random": len(random.history), algorithm: len(front.history)},
        origin=predictor.origin,
        accuracies=accuracies,
    )


def _check_mergeable(super_adapter: SuperAdapter, predictor: FittedPredictor) -> None:
    """Raises `InputError` if the predictor is of merged adapters, and a merge would fill the zeros of a sparse base."""
    largest = super_adapter.space.decode(super_adapter.largest)
    if predictor.template.in_weights and super_adapter.fills_zeros(largest):
        raise InputError(
            f"the predictor is of mode {predictor.template.mode}, and merging these adapters would fill the zeros of "
            "their sparse base; profile and fit --mode static or swappable"
        )


def _folded(adaptation: Adaptation, super_adapter: SuperAdapter, predictor: FittedPredictor) -> list[Choice]:
    """The largest configuration, merged: its adapter adds no latency, but may lose quality on a quantised base.

    None on a sparse base whose zeros the merge would fill.
    """
    space, config = super_adapter.space, super_adapter.space.decode(super_adapter.largest)
    if super_adapter.fills_zeros(config):
        return []
    mode, ends = _merged_mode(adaptation), (predictor.base_value,) * 3
    if config.cuts_base:
        ends = predictor.predict(space.encode(config.without_adapter)[None], space.columns).interval_s(0)
    return [Choice(mode, config, mode, ends)]


def _merged_mode(adaptation: Adaptation) -> Mode:
    return "merged" if adaptation.task.quantisation == "none" else "requantised"


def _greedy(adaptation: Adaptation, super_adapter: SuperAdapter, space: Space, limit: Limit) -> Genes:
    """Genes chosen by importance per latency, in one row, or none if no adapter fits that way."""
    nothing = np.empty((0, space.n_dimensions), dtype=np.int64)
    if not any(len(each.choices) > 1 and isinstance(space.columns[each.columns[0]], Site) for each in space.dimensions):
        return nothing  # there is no rank to choose
    importance = gate_gradients(super_adapter, adaptation.examples.train[:GREEDY_EXAMPLES])
    genes = greedy_genes(space, importance, limit)
    return nothing if genes is None else genes[None]


def _cuts_within(space: Space, limit: Limit, *, at_most: int) -> dict[str, Genes]:
    """Uniform cuts predicted to be within the limit, by name: the closest to it, as larger models have lower losses."""
    cuts = uniform_cuts(space)
    costs = {name: float(limit.cost(space.expand(genes[None]))[0]) for name, genes in cuts.items()}
    within = sorted((name for name in cuts if costs[name] <= limit.bound), key=lambda name: -costs[name])
    return {name: cuts[name] for name in within[:at_most]}


def _reported_baselines(space: Space) -> list[tuple[str, Configuration]]:
    """Baselines to report: uniform ranks, the midpoint, and the largest rank on query and value."""
    every = list(baselines(space).items())
    everywhere = [(name, config) for name, config in every if name.startswith(("uniform", "midpoint"))]
    attention_only = [pair for pair in every if pair not in everywhere]
    return [*everywhere, *attention_only[-1:]]
