"""Search under a budget: winners and baselines with their predictions and losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.core.versioned_json import read_versioned
from adaptare.profiler import Configuration, Mode
from adaptare.search import CompletionLoss, Origin, SuperAdapter, export_adapter
from adaptare.search.algorithms import (
    STAGED,
    algorithm_named,
    baselines,
    by_estimate,
    fitting_cuts,
    midpoint,
    smallest_that_fits,
)
from adaptare.search.budget import Budget, Candidate, check_predictor, front_of
from adaptare.search.export import check_replaceable
from adaptare.search.recipes import recipe_named
from adaptare.search.super_adapter import fills_zeros, requantised
from adaptare.search.training import HELD_OUT_SHARE, Answers, FisherChanges, Remembered
from adaptare.workflows.search.contributions import with_contributions
from adaptare.workflows.search.evaluating import BACKENDS, computed_elsewhere, remembered_in
from adaptare.workflows.search.problem import Cost, Points, Problem
from adaptare.workflows.search.racing import GREEDY, Raced, raced, settled
from adaptare.workflows.search.result import POLISHED, SCHEMA, Choice, SearchResult, save_result
from adaptare.workflows.search.scores import check_polishable, polish, scored
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation
from adaptare.workflows.train.task import load_task

TRAINED_IN: Final = "float32"
# Uniform cuts to report: the best within the budget, and within smaller parts of it.
REPORTED_CUTS: Final = 3
RANDOM: Final = "random search"


@dataclass(frozen=True)
class SearchRequest:
    """Search of a trained super-adapter.

    Args:
        folder: Folder of the super-adapter.
        predictors: Files of predictors of its base: those that budgets name (`named` of `read_budget`), or one for each
            budget in their order, or one for all of them.
        budgets: Budgets; winners are predicted to meet all of them.
        output: File of the result; default: `front.json` in the folder.
        evaluations: Configurations that the algorithm evaluates, or that the default one races, at most; baselines,
            winners of smaller parts and what sets shrink to come on top. The random search takes `Raced.evaluations`.
        winners: Number of winners to report.
        algorithm: `staged-fisher`, or the name of an entry point in the group `adaptare.algorithms`; default: the
            recipe's.
        gradient_examples: Training examples whose gradients estimate what each choice adds to the loss.
        polish: Steps of further training for the first winner, which is written beside the result, as a PEFT folder.
        recalibrate: True to measure the base first, so that milliseconds are of the present session.
        workers: Number of processes that compute validation losses.
        backend: Backend of joblib that starts them, see `computed_elsewhere`.
        bf16: True to compute losses and gradients in bfloat16, those of the result too.
        cache: Folder of converted models; `None` for the user's cache folder.
    """

    folder: Path
    predictors: Sequence[Path]
    budgets: Sequence[Budget]
    output: Path | None = None
    evaluations: int = 120
    winners: int = 3
    algorithm: str | None = None
    gradient_examples: int = 64
    polish: int = 0
    recalibrate: bool = False
    workers: int = 1
    backend: str = BACKENDS[0]
    bf16: bool = False
    cache: Path | None = None
    seed: int = 0

    @property
    def file(self) -> Path:
        """File of the result."""
        return self.output or self.folder / "front.json"

    @property
    def polished(self) -> Path:
        """Folder of the first winner after further training."""
        return self.file.with_name(f"{self.file.stem}-polished")


def search_folder(request: SearchRequest, *, feedback: Feedback) -> SearchResult:
    """Runs the algorithm and a random search of as many evaluations on a trained super-adapter, and writes the result.

    The default algorithm, `staged-fisher`, shrinks the largest configuration to the budget, and to smaller parts of it,
    races it with other starts, and shrinks the kinds of linears of the best sets among these too. What the largest
    shrank to is a winner, unless the expected loss of another configuration within that part is lower, see `decide`: of
    the race, its sets or the random search, or a baseline. Other algorithms are told the losses of the midpoint, the
    greedy choice and uniform cuts first, and winners have the lowest losses of everything evaluated. Choices are then
    evaluated on the test examples.

    Raises:
        InputError: An input cannot be read, or does not fit the others.
        InfeasibleBudgetError: No configuration of the space is predicted to meet the budget.
    """
    # Errors are reported before the weights are loaded.
    file, bf16 = request.file, request.bf16
    elsewhere = computed_elsewhere(request.folder, workers=request.workers, backend=request.backend, bf16=bf16)
    costs = _costs(request)
    algorithm = request.algorithm
    if algorithm is None:
        algorithm = recipe_named(load_task(request.folder).recipe).algorithm
    if algorithm != STAGED:
        algorithm_named(algorithm)
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"the result cannot be written to {str(file)!r}; name a file in a folder that is there")
    if file.exists():
        check_ours(file)
    adaptation, super_adapter = reload_adaptation(request.folder)
    super_adapter.bf16 = bf16
    if request.polish:
        check_polishable(super_adapter)
        check_replaceable(request.polished)
    if request.recalibrate:
        costs = [each.recalibrated(cache=request.cache, feedback=feedback) for each in costs]
    remembered = remembered_in(request.folder, adaptation.task, bf16=bf16)
    validation = CompletionLoss(
        super_adapter, adaptation.examples.validation, remembered=remembered, elsewhere=elsewhere
    )
    problem = _problem(request, adaptation, super_adapter, costs, validation, feedback)
    changes = None
    if super_adapter.layer.separable:
        examples = adaptation.examples.train[: request.gradient_examples]
        changes = FisherChanges(super_adapter, problem.space, examples, remembered)
    found = _searched(request, algorithm, adaptation, super_adapter, problem, validation, changes, remembered)
    result = save_result(found, file)
    if request.polish:
        row, adapted = polish(
            result.winners[0],
            super_adapter,
            adaptation.examples,
            origin=Origin(name=adaptation.base_name),
            steps=request.polish,
            seed=request.seed,
            bf16=bf16,
            feedback=feedback,
        )
        export_adapter(adapted, request.polished)
        row = replace(row, name=POLISHED)

        def with_row(each: SearchResult) -> SearchResult:
            own = replace(row, predicted=each.winners[0].predicted, extrapolates=each.winners[0].extrapolates)
            return replace(each, baselines=(own, *each.baselines), polished=request.polished)

        return save_result(replace(with_row(result), further=tuple(map(with_row, result.further))), file)
    if request.polished.exists():
        feedback.note(f"{request.polished} is of an earlier search; further training of the winner replaces it")
    return result


def _searched(
    request: SearchRequest,
    algorithm: str,
    adaptation: Adaptation,
    super_adapter: SuperAdapter,
    problem: Problem,
    validation: CompletionLoss,
    changes: FisherChanges | None,
    remembered: Remembered,
) -> SearchResult:
    space = problem.space
    smallest_that_fits(space, problem.limits)  # raises before gradients are computed
    greedy = _greedy(problem, changes)
    reported = REPORTED_CUTS if algorithm == STAGED else request.evaluations // 2
    cuts = dict(islice(fitting_cuts(problem.space, problem.limit).items(), reported))
    if algorithm == STAGED:
        found = raced(problem, validation, changes, evaluations=request.evaluations, winners=request.winners)
    else:
        start = np.vstack([midpoint(space), greedy, *cuts.values()])
        front = problem.run("searching", algorithm, evaluations=request.evaluations, start=start)
        found = Raced(front.history, {}, {}, len(front.history))
    random = problem.run(RANDOM, "random", evaluations=found.evaluations, loss_alone=True)
    evaluations = {"random": len(random.history), algorithm: found.evaluations}
    names = {space.decode(space.at(point)): name for name, point in cuts.items()}
    uniform = problem.front(names, "uniform cuts")
    simple = [*baselines(space).items(), *((GREEDY, space.decode(codes)) for codes in space.at(greedy))]
    compared = [
        *simple,
        *((RANDOM, one.configuration) for one in random.members[:1]),
        *((names[config], config) for config in problem.winners(uniform, REPORTED_CUTS)),
    ]
    found_by = dict.fromkeys((one.configuration for one in random.history), RANDOM)
    found_by |= dict.fromkeys((one.configuration for one in found.candidates), algorithm)
    # What the predictor was not fitted to stays in the table, but wins nothing.
    known = (config for name, config in simple if not problem.choice(name, config).extrapolates)
    others = problem.candidates((config for config in known if config not in found_by), "baselines")
    found_by |= names | {config: name for name, config in simple} | found.names
    everything = (*found.candidates, *random.history, *uniform.history, *others)
    front = front_of(uniform.objectives, everything)
    winners = problem.winners(front, request.winners)
    if found.incumbents:
        winners = settled(problem, validation, found.incumbents, everything)
    choices = [
        problem.choice(f"winner {number}", config, found_by=found_by[config])
        for number, config in enumerate(winners, start=1)
    ]
    choices += [*_folded(adaptation, super_adapter, problem), *(problem.choice(*each) for each in compared)]
    _warn_of_idle_ranks(problem, validation)
    _warn_of_few_examples(problem, validation, winners, everything)
    examples, scoring = adaptation.examples, adaptation.task.data.scoring

    def deployed(choice: Choice) -> tuple[SuperAdapter, Points]:
        if choice.mode != "requantised" or super_adapter.layer.on_grid:
            return super_adapter, super_adapter.space.encode(choice.configuration)
        again = requantised(super_adapter, choice.configuration, adaptation.base, adaptation.task.quantisation)
        return again, super_adapter.space.encode(choice.configuration.without_adapter)

    rows, right = scored(
        choices,
        examples,
        validation=validation,
        base=super_adapter,
        deployed=deployed,
        scoring=scoring,
        remembered=remembered,
        feedback=problem.feedback,
    )
    answers = Answers(super_adapter, examples.test_questions, scoring=scoring, remembered=remembered)
    result = problem.result(
        adaptation.task.model_name,
        rows[: len(winners)],
        rows[len(winners) :],
        evaluations=evaluations,
        front=tuple((one.values[0], one.values[1]) for one in front.members),
        accuracies=answers.accuracies(right, majority=examples.majority),
        folder=request.folder,
        bf16=request.bf16,
    )
    return with_contributions(result, problem, changes)


def check_ours(file: Path) -> None:
    """Raises `InputError` unless the file is a result of a search, of any version: no other file is replaced."""
    otherwise = f"{str(file)!r} exists and is no earlier result of a search; name another file"
    if not {"winners", "budget"} <= set(read_versioned(file, schema=SCHEMA, otherwise=otherwise)):
        raise InputError(otherwise)


def _costs(request: SearchRequest) -> list[Cost]:
    """Each budget with its predictor. Raises `InputError` if one does not cover its budget, or two limit the same."""
    files = _paired(request.budgets, list(request.predictors))
    costs = list(map(Cost.of, request.budgets, files))
    seen: dict[tuple[Path, int], Budget] = {}
    for cost in costs:
        if other := seen.get((cost.file, cost.fitted.length)):
            raise InputError(f"budgets {other} and {cost.budget} limit the same quantity; leave the larger one out")
        seen[cost.file, cost.fitted.length] = cost.budget
    return costs


def _paired(budgets: Sequence[Budget], files: Sequence[Path]) -> list[Path]:
    """File of the predictor of each budget: the one that it names, or the one in its place, or the only one."""
    n = len(budgets)
    if not (n and files) or (len(files) not in (1, n) and not all(each.predictor for each in budgets)):
        raise InputError(
            f"{n} budgets need {n} predictors in the same order, or one for all of them, not {len(files)}; or name the "
            "predictor before each: NAME:decode=20ms",
            parameter="predictors" if n else "budgets",
        )
    paths = {str(file).removesuffix(".json"): file for file in files}
    stems = [Path(path).name for path in paths]
    named = {stem: file for stem, file in zip(stems, paths.values(), strict=True) if stems.count(stem) == 1} | paths
    names = [str(Path(each.predictor)).removesuffix(".json") if each.predictor else "" for each in budgets]
    if unknown := next((each for each, name in zip(budgets, names, strict=True) if name and name not in named), None):
        raise InputError(
            f"budget {unknown} must name one of the predictors {', '.join(paths)}, not {unknown.predictor!r}; files of "
            "the same name in several folders are named by their paths",
            parameter="budgets",
        )
    in_place = list(files) if len(files) == n else list(files) * n
    found = [named[name] if name else file for name, file in zip(names, in_place, strict=False)]
    if idle := next((file for file in files if file not in found), None):
        raise InputError(f"no budget is for the predictor {str(idle)!r}; leave it out, or name it before its budget")
    return found


def _problem(
    request: SearchRequest,
    adaptation: Adaptation,
    super_adapter: SuperAdapter,
    costs: Sequence[Cost],
    validation: CompletionLoss,
    feedback: Feedback,
) -> Problem:
    """Raises `InputError` if a predictor is of another base, or they are of several modes."""
    templates, space = [each.fitted.template for each in costs], super_adapter.space
    template = templates[0]
    for each in costs:
        check_predictor(each.fitted, super_adapter.shape, adaptation.task.quantisation)
    if len(modes := {(each.mode, each.graph) for each in templates}) > 1:
        words = " and ".join(sorted(f"{mode} in {graph} graphs" for mode, graph in modes))
        raise InputError(f"the predictors are of adapters that are {words}; profile and fit all of them in one mode")
    if template.in_weights and fills_zeros(super_adapter.sub_adapter(space.decode(super_adapter.largest))):
        raise InputError(
            f"the predictor is of mode {template.mode}, and merging these adapters would fill the zeros of their "
            "sparse base; profile and fit the mode static or swappable"
        )
    if template.dtype != TRAINED_IN:
        feedback.note(f"latencies are of {template.dtype} weights, losses and files of {TRAINED_IN}")
    if space.cuts_base and template.in_weights:
        space = space.at_largest_ranks
    mode: Mode = template.mode
    if not super_adapter.layer.separable:
        mode, costs = _merged_mode(adaptation), [replace(each, merged=True) for each in costs]
        feedback.note("these adapters are merged, so all take as long as their base; the search is for the lowest loss")
    return Problem(space, validation, tuple(costs), mode, request.seed, feedback, at_once=request.workers)


def _folded(adaptation: Adaptation, super_adapter: SuperAdapter, problem: Problem) -> list[Choice]:
    """The largest configuration, merged: its adapter adds no latency, but may lose quality on a quantised base.

    None on a sparse base whose zeros the merge would fill.
    """
    config = super_adapter.space.decode(super_adapter.largest)
    if fills_zeros(super_adapter.sub_adapter(config)):
        return []
    mode = _merged_mode(adaptation)
    return [problem.choice(mode, config, mode=mode)]


def _merged_mode(adaptation: Adaptation) -> Mode:
    return "merged" if adaptation.task.quantisation == "none" else "requantised"


def _warn_of_idle_ranks(problem: Problem, validation: CompletionLoss) -> None:
    uniform = [each for each in baselines(problem.space).items() if each[0].startswith("uniform ")]
    if len(uniform) < 2:
        return
    (small, low), *_, (large, high) = uniform
    encode = problem.space.encode
    if (difference := validation.difference(encode(low), encode(high))).middle <= 0:
        problem.feedback.note(
            f"{small} is no worse than {large} on {len(validation.tokens)} validation examples "
            f"({difference.middle:+.3f} nats, 95 % [{difference.lower:.3f}, {difference.upper:.3f}]), so ranks hardly "
            "matter here: train with more examples, fewer steps or a lower learning rate"
        )


def _warn_of_few_examples(
    problem: Problem, validation: CompletionLoss, winners: Sequence[Configuration], others: Sequence[Candidate]
) -> None:
    """Notes if the validation examples do not decide between the first winner and the best other candidate."""
    left = [one for one in others if one.configuration != winners[0]]
    if not left:
        return
    second = min(left, key=lambda one: one.values[0]).configuration
    difference = validation.difference(problem.space.encode(second), problem.space.encode(winners[0]))
    n, middle = len(validation.tokens), abs(difference.middle)
    if n < 2 or not difference.lower <= 0 <= difference.upper or not middle:
        return
    needed = math.ceil(n * ((difference.upper - difference.lower) / 2 / middle) ** 2)
    problem.feedback.note(
        f"{n} validation examples do not decide between the first winner and the next candidate, whose losses differ "
        f"by {middle:.3f} nats; about {needed:,} would: train with more held-out examples, of one file at most "
        f"{HELD_OUT_SHARE:.0%}, or take either"
    )


def _greedy(problem: Problem, changes: FisherChanges | None) -> Points:
    """Points chosen by gradients of gates per added cost, in one row, or none if no adapter fits that way."""
    space = problem.space
    nothing = np.empty((0, space.n_axes), dtype=np.int64)
    binds = problem.cost(space.highest) > problem.limit.bound
    if changes is None or not binds or not any(len(axis.choices) > 1 and not axis.kind.cuts for axis in space.axes):
        return nothing  # there is no rank to choose
    point = by_estimate(space, changes.slopes, problem.limit)
    return nothing if point is None else point[None]
