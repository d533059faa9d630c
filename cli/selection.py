"""Searching on behalf of a command: winners and baselines, predicted and judged; and the file that keeps them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptare.adaptation import Adaptation
from adaptare.console import Console
from adaptare.devices import InputError, StorageError
from adaptare.predictor import LatencyPredictor
from adaptare.profiler import AdapterConfig, RankSpace
from adaptare.search import (
    MEDIAN,
    Algorithm,
    Budget,
    Candidate,
    CompletionLoss,
    Limit,
    Nsga2,
    PredictedLatency,
    PredictedUpperEnd,
    RandomSearch,
    SuperAdapter,
    baselines,
    interrupts_noted,
    latency_limit_s,
    pick_winners,
    search,
)

SCHEMA = 1
MERGED = "merged"


@dataclass(frozen=True)
class Choice:
    """A configuration that somebody might ship.

    Args:
        name: `winner 1`, `uniform 8`, `merged`, …
        config: Its ranks.
        mode: How it is applied.
        predicted_s: Middle, lower and upper end of the predicted latency, seconds.
        val_loss: On the examples that the search chose by.
        test_loss: On examples that nothing was chosen by.
    """

    name: str
    config: AdapterConfig
    mode: str
    predicted_s: tuple[float, float, float]
    val_loss: float
    test_loss: float


@dataclass(frozen=True)
class Selection:
    """What a search came to.

    Args:
        budget: As the user wrote it.
        budget_s: What a latency may be, seconds.
        base_s: Latency of the base without adapter, seconds.
        winners: From the front, the lowest loss first.
        baselines: What stands beside them.
        front: Loss and predicted seconds of all non-dominated candidates.
        evaluations: Configurations whose loss was computed, by algorithm.
    """

    budget: str
    budget_s: float
    base_s: float
    winners: tuple[Choice, ...]
    baselines: tuple[Choice, ...]
    front: tuple[tuple[float, float], ...]
    evaluations: Mapping[str, int]


def limit_of(budget: Budget, predictor: LatencyPredictor) -> float:
    """What a latency may be, seconds. Raises `InputError` if the predictor cannot speak to the budget."""
    template = predictor.template
    if budget.percentile != MEDIAN:
        raise InputError(f"budget {budget}: a search predicts medians only; write it without the percentile")
    if budget.quantity in ("prefill", "decode") and budget.quantity != template.phase:
        raise InputError(f"budget {budget}: the predictor is of {template.phase}; profile and fit {budget.quantity}")
    if budget.length not in (None, template.length):
        raise InputError(f"budget {budget}: the predictor is of length {template.length}, not {budget.length}")
    return latency_limit_s(budget, base_s=predictor.model.reference_s)


def select(
    adaptation: Adaptation,
    super_adapter: SuperAdapter,
    predictor: LatencyPredictor,
    *,
    validation: CompletionLoss,
    budget: Budget,
    evaluations: int,
    winners: int,
    seed: int,
    console: Console,
) -> Selection:
    """Searches with NSGA-II, and at random with as many evaluations, and judges what comes out on the test examples.

    Raises:
        InfeasibleBudgetError: No adapter of the space is predicted to meet the budget.
        InputError: The budget is not one of this predictor.
    """
    space, limit_s = super_adapter.space, limit_of(budget, predictor)
    latency = PredictedLatency(predictor, space.sites)
    limit = Limit(PredictedUpperEnd(predictor, space.sites), limit_s)
    test = CompletionLoss(super_adapter, adaptation.examples.test)
    fronts = {}
    for title, algorithm in (("searching", Nsga2(space, seed=seed)), ("random search", RandomSearch(space, seed=seed))):
        fronts[title] = _searched(algorithm, space, validation, latency, limit, evaluations, seed, title, console)
    front = fronts["searching"]

    def choice(name: str, config: AdapterConfig, mode: str = "swappable") -> Choice:
        codes = space.encode(config)[None]
        predicted = predictor.predict(codes, space.sites)
        ends = (predicted.mean_s, predicted.lower_s, predicted.upper_s)
        middle, lower, upper = (float(end[0]) for end in ends)
        if mode == MERGED:
            middle = lower = upper = predictor.model.reference_s
        return Choice(name, config, mode, (middle, lower, upper), float(validation(codes)[0]), float(test(codes)[0]))

    picked = [winner.candidate for winner in pick_winners(front, winners)]
    random_best = [space.decode(one.codes) for one in fronts["random search"].members[:1]]
    return Selection(
        budget=str(budget),
        budget_s=limit_s,
        base_s=predictor.model.reference_s,
        winners=tuple(choice(f"winner {i}", space.decode(one.codes)) for i, one in enumerate(picked, start=1)),
        baselines=(
            choice(MERGED, space.decode(super_adapter.largest), MERGED),
            *(choice(each.name, each.config) for each in _worth_a_row(space)),
            *(choice("random search", config) for config in random_best),
        ),
        front=tuple((one.values[0], one.values[1]) for one in front.members),
        evaluations={"nsga2": len(front.history), "random": len(fronts["random search"].history)},
    )


def _searched(
    algorithm: Algorithm,
    space: RankSpace,
    validation: CompletionLoss,
    latency: PredictedLatency,
    limit: Limit,
    evaluations: int,
    seed: int,
    title: str,
    console: Console,
) -> Any:
    done, lowest = 0, float("inf")
    with interrupts_noted() as interrupted, console.progress(title) as update:

        def show(candidate: Candidate) -> None:
            nonlocal done, lowest
            done, lowest = done + 1, min(lowest, candidate.values[0])
            update(done / evaluations, f"{done} of {evaluations} evaluated, lowest loss {lowest:.3f}")

        front = search(
            algorithm,
            space,
            [validation, latency],
            [limit],
            evaluations=evaluations,
            seed=seed,
            progress=show,
            should_stop=interrupted,
        )
        if interrupted():
            raise KeyboardInterrupt
    return front


def _worth_a_row(space: RankSpace) -> list[Any]:
    """Uniform ranks and the midpoint; of those on query and value only the largest."""
    found = list(baselines(space))
    uniform = [each for each in found if each.name.startswith(("uniform", "midpoint"))]
    others = [each for each in found if each not in uniform]
    return [*uniform, *others[-1:]]


def selection_to_json(selection: Selection) -> dict[str, Any]:
    """Everything, as plain JSON values."""

    def rows(choices: Sequence[Choice]) -> list[dict[str, Any]]:
        return [
            {
                "name": each.name,
                "mode": each.mode,
                "sites": dict(each.config.ranks),
                "predicted_s": each.predicted_s[0],
                "predicted_lower_s": each.predicted_s[1],
                "predicted_upper_s": each.predicted_s[2],
                "val_loss": each.val_loss,
                "test_loss": each.test_loss,
            }
            for each in choices
        ]

    return {
        "budget": selection.budget,
        "budget_s": selection.budget_s,
        "base_s": selection.base_s,
        "winners": rows(selection.winners),
        "baselines": rows(selection.baselines),
        "front": [list(point) for point in selection.front],
        "evaluations": dict(selection.evaluations),
    }


def save_selection(selection: Selection, file: Path, *, folder: Path, predictor: str) -> None:
    """Writes a selection, and where its super-adapter and predictor are."""
    content = {"schema": SCHEMA, "folder": str(folder), "predictor": predictor, **selection_to_json(selection)}
    try:
        file.write_text(json.dumps(content, indent=1), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{str(file)!r} cannot be written: {error.strerror}") from error


def load_selection(file: Path) -> tuple[Selection, Path, str]:
    """A selection, the folder of its super-adapter, and its predictor. Raises `InputError` if the file is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["schema"] > SCHEMA:
            raise InputError(
                f"{file} has schema {content['schema']}, this version reads up to {SCHEMA}; update adaptare"
            )
        selection = Selection(
            budget=content["budget"],
            budget_s=content["budget_s"],
            base_s=content["base_s"],
            winners=_choices(content["winners"]),
            baselines=_choices(content["baselines"]),
            front=tuple((loss, seconds) for loss, seconds in content["front"]),
            evaluations=content["evaluations"],
        )
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{str(file)!r} is no result of a search; make one with: adaptare search") from error
    return selection, Path(content["folder"]), str(content["predictor"])


def _choices(rows: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    ends = ("predicted_s", "predicted_lower_s", "predicted_upper_s")
    return tuple(
        Choice(
            row["name"],
            AdapterConfig.of(row["sites"]),
            row["mode"],
            (row[ends[0]], row[ends[1]], row[ends[2]]),
            row["val_loss"],
            row["test_loss"],
        )
        for row in rows
    )
