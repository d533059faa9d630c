"""Cut of an existing adapter to a latency budget: its basis is changed, and ranks are searched, without training."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.core.versioned_json import write_versioned
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Quantisation, open_model, read_peft
from adaptare.profiler.models.model_source import published_name
from adaptare.search import export_peft, load_base
from adaptare.search.budget.limits import Budget
from adaptare.search.export.folder import check_replaceable
from adaptare.search.export.peft_import import import_peft
from adaptare.search.super_adapter.quantised_base import round_base
from adaptare.search.super_adapter.rebasis import ladder_space, on_space
from adaptare.search.training.polish import polished
from adaptare.workflows.search.cutting import Cutter
from adaptare.workflows.search.latency_limit import check_predictor, limit_of
from adaptare.workflows.search.searching import check_feasible
from adaptare.workflows.search.shrink_report import ShrinkReport
from adaptare.workflows.target import weight_words
from adaptare.workflows.train.task import Task, examples_of, texts_of

SCHEMA: Final = 1


@dataclass(frozen=True)
class Data:
    """Examples that guide the cut.

    Args:
        file: Training data, see `read_examples`.
        max_tokens: Longer examples are cut.
        held_out: Number of examples to validate, and to test, at most.
    """

    file: Path
    max_tokens: int = 64
    held_out: int = 48


def shrink_adapter(
    adapter: Path,
    base: str,
    *,
    predictor: Path,
    budget: Budget,
    output: Path,
    data: Data | None,
    polish: int,
    evaluations: int,
    quantisation: Quantisation,
    seed: int,
    cache: Path | None,
    feedback: Feedback,
) -> ShrinkReport:
    """Writes the part of an adapter with the lowest loss that is predicted to meet a budget.

    Args:
        adapter: PEFT folder of a LoRA or rsLoRA.
        base: Name of its base model.
        predictor: Predictor of this base on the device.
        data: Guides the cut by held-out loss; `None` keeps the most energy of the weights.
        polish: Steps of training after the cut.
        evaluations: Configurations to evaluate.
        quantisation: Quantisation of the base that losses are computed on.

    Raises:
        InputError: An input cannot be read, or does not fit the others.
        InfeasibleBudgetError: No part of the adapter is predicted to meet the budget.
    """
    if polish and data is None:
        raise InputError(f"--polish {polish} trains, and there are no examples; give them with --data FILE")
    fitted = load_predictor(predictor)
    limit_of(budget, fitted)
    source = open_model(base, cache=cache).with_weights()
    check_predictor(fitted, source.shape, quantisation)
    _check_apart(fitted)
    read_peft(adapter, source.shape).on(source.shape)
    check_replaceable(output)
    weights = str(source.weights_folder().resolve())
    task: Task | None = None
    if data is not None:
        task = Task(weights, base, str(data.file), seed, data.max_tokens, data.held_out, quantisation)
    texts = texts_of(task) if task else None  # reports errors before the weights are loaded
    model, tokenizer = load_base(weights)
    round_base(model, quantisation)
    examples = examples_of(task, texts, tokenizer) if task and texts else None
    imported, _ = import_peft(adapter, model)
    super_adapter, limit_s = on_space(imported, ladder_space(imported)), limit_of(budget, fitted)
    check_feasible(budget, fitted, super_adapter.space)
    cutter = Cutter(super_adapter, fitted, examples, limit_s, seed, feedback)
    winner, evaluated = cutter.search(evaluations)
    cuts = cutter.cuts(winner)
    with contextlib.ExitStack() as stack:
        if examples and polish:
            again = polished(super_adapter, winner, examples.train, steps=polish, seed=seed, feedback=feedback)
            super_adapter = stack.enter_context(again)
            cuts.insert(1, cutter.polished(super_adapter, winner))
        export_peft(super_adapter, winner, output, base_name=published_name(base, weights))
    report = ShrinkReport(
        output,
        base,
        _measured_by(fitted),
        str(budget),
        limit_s,
        fitted.base_value,
        fitted.level,
        fitted.origin,
        tuple(cuts),
        evaluated,
        polish,
    )
    write_versioned(output / "shrink.json", report.to_json(), schema=SCHEMA)
    return report


def _measured_by(predictor: FittedPredictor) -> tuple[str, ...]:
    template = predictor.template
    device = ",".join([predictor.device.device, *weight_words(template.quantisation, template.dtype)])
    phase = ("-p", "0", "-d") if template.phase == "decode" else ("-d", "-1", "-p")
    return "--device", device, *phase, str(template.length)


def _check_apart(predictor: FittedPredictor) -> None:
    if predictor.template.in_weights:
        raise InputError(
            f"the predictor is of mode {predictor.template.mode}, where every rank takes the same time; profile and "
            "fit --mode static or swappable"
        )
