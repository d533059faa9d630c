"""One run from a base model, data, a device and budgets to files of an adapter, resumable after each step."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from adaptare.core import DeviceError, InputError, ProgramError, StorageError
from adaptare.core.codec import to_json
from adaptare.core.folder_lock import locked
from adaptare.core.progress import SILENT, Feedback
from adaptare.core.versioned_json import read_as, write_versioned
from adaptare.predictor import ErrorCard, FittedPredictor, load_predictor
from adaptare.profiler import (
    ModelShape,
    Phase,
    Quantisation,
    Space,
    Workload,
    named_space,
    open_model,
    precise_within,
    programs_for,
)
from adaptare.profiler.measuring import Energy, counts_energy
from adaptare.profiler.store import LATENCY
from adaptare.search import Origin, TrainingSettings, export_adapter, read_budget
from adaptare.search.algorithms import smallest_that_fits
from adaptare.search.budget import Budget, predicted_limit
from adaptare.search.export import export_kind
from adaptare.workflows.exporting import ExportRequest, export_files
from adaptare.workflows.fit.fit_rows import RowFilter
from adaptare.workflows.fit.fitting import FitRequest, fit_rows
from adaptare.workflows.overhead.overhead import OverheadReport, OverheadRequest, measure_overhead
from adaptare.workflows.profiling.calls import CallRequest, OperatorsResult, report_operators
from adaptare.workflows.profiling.space_report import ProfileRequest, profile_space
from adaptare.workflows.search.result import Choice, SearchResult, load_result, save_result
from adaptare.workflows.search.scores import polish
from adaptare.workflows.search.searching import SearchRequest, search_folder
from adaptare.workflows.target import target_of
from adaptare.workflows.train.adaptation import reload_adaptation
from adaptare.workflows.train.result import TrainResult
from adaptare.workflows.train.task import TrainingData
from adaptare.workflows.train.training import TrainRequest, check_request, train
from adaptare.workflows.tuning_request import TuneRequest, claim
from adaptare.workflows.verification import VerifyRequest, verdicts, verify

RANKS: Final = (0, 2, 4, 8, 16)
# Of the scale of a budget, so that the first number comes early.
FIRST_LOOK_S: Final = 15.0
# Calls under the runtime's profiler, in each of three repetitions.
PROFILED_CALLS: Final = 20
# Winners that are trained alone.
ALONE: Final = 2
# Kind of export of an adapter that stays apart, for runtimes other than PyTorch.
APART: Final = {
    "onnxruntime": "onnx-swappable",
    "onnxruntime-web": "onnx-swappable",
    "llama_cpp": "gguf",
    "openvino": "peft-folded",
}
STEPS: Final = 7
Made = TypeVar("Made")
# Runs a step, or reads its file if an earlier call finished it: name, type and step.
Once = Callable[[str, Any, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Exported:
    """Files of one adapter, and the largest difference of their logits from torch's, if they were run."""

    folder: Path
    kind: str
    difference: float | None


@dataclass(frozen=True)
class Alone:
    """A winner after training alone, and the largest difference of its PEFT files' logits."""

    choice: Choice
    difference: float | None


@dataclass(frozen=True)
class Delivered:
    """The adapter to use.

    Args:
        name: The best winner, such as `winner-1`, or `winner-1-alone`.
        alone: The best winners after training alone.
        exports: Its files, for PEFT and for the runtime of the device.
    """

    name: str
    alone: tuple[Choice, ...]
    exports: tuple[Exported, ...]


@dataclass(frozen=True)
class TuneResult:
    """Result of `tune`.

    Args:
        device: Spelling of the device.
        first: The largest rank on every linear, under the first budget's workload.
        predictors: Errors of the predictor of each budget.
        verification: Winners and baselines, remeasured.
    """

    model: str
    device: str
    first: OverheadReport
    predictors: tuple[ErrorCard, ...]
    training: TrainResult
    verification: SearchResult
    delivered: Delivered
    elapsed_s: float


def tune(request: TuneRequest, *, feedback: Feedback = SILENT) -> TuneResult:
    """Runs all steps; the same call after an interruption at any time goes on, and repeats no finished step.

    Raises:
        InputError: An input cannot be read or does not fit the others, or the folder is of another request, or in use.
        InfeasibleBudgetError: No adapter is predicted to meet the budgets.
        DeviceError: The latencies that define the default budget could not be measured.
    """
    with locked(request.output):
        return _tune(request, feedback)


def _tune(request: TuneRequest, feedback: Feedback) -> TuneResult:
    started, folder, device = time.monotonic(), request.output, request.device

    def begin(step: int, words: str) -> None:
        feedback.note(f"[{time.monotonic() - started:3.0f} s] {step} of {STEPS}: {words}")

    def once(name: str, kind: type[Made], run: Callable[[], Made]) -> Made:
        file = folder / f"{name}.json"
        if not file.exists():
            write_versioned(file, to_json(run()), schema=1)
        return read_as(kind, file, schema=1, otherwise=f"{file} is of another version; remove it")

    begin(1, f"opening {request.model}")
    source, target = open_model(request.model, cache=request.cache).with_weights(), target_of(device)
    space = named_space("blocks", source.shape, ranks=RANKS)
    linears = named_space("sites", source.shape, ranks=RANKS)  # for a predictor that knows each kind of linear
    # With the weights that are exported, so that measurements and exports share their graphs.
    programs = programs_for(target.device.info(), cache=request.cache, weights=source)
    phases: dict[tuple[Phase, int], list[str]] = {}
    wanted: list[Budget | None] = [*request.budgets] or [None]
    if len(set(map(_measured, wanted))) < len(wanted):
        each = " and ".join(map(str, wanted))
        raise InputError(f"of the budgets {each}, two limit the same quantity; leave the larger one out")
    for phase, length, quantity in map(_measured, wanted):
        phases.setdefault((phase, length), []).extend([quantity] * (quantity != LATENCY))
    if Energy.units.keys() & {each for own in phases.values() for each in own} and not counts_energy(target.device):
        raise InputError(f"{device} has no energy counter that can be read; leave out the budgets of energy and power")
    templates = [target.workload(source.shape, phase, length) for phase, length in phases]
    for template in templates:
        programs.check(template)
    training = _training(request, target.quantisation)
    check_request(training)  # before anything is measured
    claim(request)

    begin(2, f"a first look at rank {RANKS[-1]} on {target.device.info().device}")
    (phase, length), *_ = phases
    pace: dict[str, Any] = {
        "half_width": request.half_width,
        "cache": request.cache,
        "seed": request.seed,
        "store": request.store,
    }
    look = OverheadRequest(
        model=request.model,
        device=device,
        programs=programs,
        ranks=RANKS[-1:],
        prompts=(length,) if phase == "prefill" else (),
        depths=(length,) if phase == "decode" else (),
        seconds=FIRST_LOOK_S,
        resume=True,
        **pace,
    )

    def looked() -> OverheadReport:
        found = measure_overhead(look, feedback=feedback)
        if not any(row.mode == "swappable" for row in found.rows):
            raise DeviceError(f"rank {RANKS[-1]} everywhere could not be measured, so there is no scale for a budget")
        return found

    first = once("first-look", OverheadReport, looked)
    feedback.show(first)
    calls = CallRequest(
        request.model, rank=RANKS[-1], device=device, programs=programs, phase=phase, length=length, cache=request.cache
    )
    try:
        once("operators", OperatorsResult, lambda: report_operators(calls, calls=PROFILED_CALLS, feedback=feedback))
    except StorageError:
        raise
    except (InputError, ProgramError) as error:  # not every runtime has a profiler
        feedback.note(f"the report does not say where the time goes: {error}")

    begin(3, f"measuring {request.configurations} adapters, and learning to predict what they cost")
    for (phase, length), quantities in phases.items():
        campaign = ProfileRequest(
            request.model,
            device,
            programs,
            linears,
            count=request.configurations,
            phase=phase,
            length=length,
            quantities=quantities,
            seconds=request.seconds,
            **pace,
        )
        profile_space(campaign, feedback=feedback)
    files = [_fitted(request, source.shape, *_measured(each), feedback) for each in wanted]
    predictors = list(map(load_predictor, files))
    budgets = request.budgets or [halfway(predictors[0], space)]
    limits = [predicted_limit(*each, space.dimensions) for each in zip(budgets, predictors, strict=True)]
    smallest_that_fits(space, limits)  # before training, so that the folder takes another budget

    begin(4, f"training one super-adapter on {len(space.sites)} linears, {request.steps} steps")
    trained = once("trained", TrainResult, lambda: train(training, feedback=feedback))
    trained = replace(trained, folder=training.folder)  # the folder of all may have been moved
    feedback.show(trained)

    begin(5, f"searching under {' and '.join(map(str, budgets))}")
    front, verified = folder / "front.json", folder / "verified.json"
    if not front.exists():
        search = SearchRequest(
            training.folder,
            files,
            budgets,
            front,
            gradient_examples=request.gradient_examples,
            bf16=request.bf16,
            seed=request.seed,
        )
        search_folder(search, feedback=feedback)

    begin(6, "measuring the winners again")
    if not verified.exists():
        stop = precise_within(request.half_width, request.seconds)
        again = VerifyRequest(
            front, stop, request.store, repeats=1, programs=programs, cache=request.cache, seed=request.seed + 1
        )
        save_result(verify(again, feedback=feedback), verified)
    verification = load_result(verified)

    begin(7, "training the best winners alone, and writing the better one")
    kind = APART.get(target.device.info().runtime_name, "")
    delivered = once("delivered", Delivered, lambda: _deliver(request, verification, kind, once, feedback))
    exports = tuple(replace(each, folder=folder / each.folder.name) for each in delivered.exports)
    return TuneResult(
        request.model,
        device,
        first,
        tuple(each.error_card for each in predictors),
        trained,
        verification,
        replace(delivered, exports=exports),
        time.monotonic() - started,
    )


def halfway(predictor: FittedPredictor, space: Space) -> Budget:
    """Budget halfway between no adapter and the largest ranks, by the middle of their predictions; of three digits."""
    both = np.stack([space.base, space.at(space.highest)])
    limit_s = float(predictor.predict(both, space.dimensions).mean.mean())
    share = 100 * (limit_s / predictor.base_value - 1)
    return read_budget(f"overhead={np.format_float_positional(share, precision=3, fractional=False, trim='-')}%")


def _measured(budget: Budget | None) -> tuple[Phase, int, str]:
    """Phase, length and quantity to measure for a budget; overheads and other quantities are of decode."""
    if budget is None:
        return "decode", Workload.past, LATENCY
    phase: Phase = "prefill" if budget.name == "prefill" else "decode"
    usual = Workload.tokens if phase == "prefill" else Workload.past
    return phase, usual if budget.length is None else budget.length, budget.quantity


def _fitted(
    request: TuneRequest, shape: ModelShape, phase: Phase, length: int, quantity: str, feedback: Feedback
) -> Path:
    """File of a predictor, fitted now unless it is there: rows that are measured later must not change it."""
    words = ["predictor", *([] if quantity == LATENCY else [quantity]), phase, str(length)]
    file = request.output / "-".join(words)
    report = request.output / f"{'-'.join(['fit', *words[1:]])}.json"
    if not report.exists():
        rows = RowFilter(phase=phase, mode="swappable", lengths=(length,), model=shape)
        fit = FitRequest(request.store, request.device, rows, quantity=quantity, output=file, replace=True)
        fitted = fit_rows(fit, feedback=feedback)
        # Predictions of held-out adapters, for a report; the predictor does not keep them.
        write_versioned(report, to_json(fitted), schema=1)
        feedback.show(fitted)
    return file


def _training(request: TuneRequest, quantisation: Quantisation) -> TrainRequest:
    return TrainRequest(
        request.model,
        request.output / "super-adapter",
        TrainingData(request.seed, request.data, held_out=request.held_out, max_tokens=request.max_tokens),
        TrainingSettings(request.steps, request.seed, bf16=request.bf16),
        ranks=RANKS,
        quantisation=quantisation,
        max_seconds=request.train_s,
        cache=request.cache,
    )


def _deliver(request: TuneRequest, verification: SearchResult, kind: str, once: Once, feedback: Feedback) -> Delivered:
    """Trains the best winners alone, and exports the best by validation loss: for PEFT, and as a kind if any."""
    judged = dict(enumerate(verdicts(verification), start=1))
    # Of winners that are not certain yet only if none is within the budgets.
    best = next(filter(None, ([n for n in judged if judged[n] == word] for word in ("met", "ambiguous"))), [])[:ALONE]
    output, alone, losses = request.output, dict[Path, Alone](), dict[tuple[int, Path | None], float]()
    adaptation, super_adapter = reload_adaptation(verification.folder or Path())
    super_adapter.bf16 = verification.bf16

    def trained_alone(winner: Choice, place: Path) -> Alone:
        row, adapted = polish(
            winner,
            super_adapter,
            adaptation.examples,
            origin=Origin(name=adaptation.base_name),
            steps=request.steps,
            seed=request.seed,
            bf16=request.bf16,
            feedback=feedback,
            checkpoints=output / f"{place.name}-training",
            max_seconds=request.train_s and request.train_s / len(best),
        )
        return Alone(replace(row, name=f"{winner.name} alone"), export_adapter(adapted, place))

    for number in best or [1]:
        winner = verification.winners[number - 1]
        losses[number, None] = winner.val_loss or np.inf
        if number in best:
            place = output / f"winner-{number}-alone"
            alone[place] = once(place.name, Alone, partial(trained_alone, winner, place))
            losses[number, place] = alone[place].choice.val_loss or np.inf
            if losses[number, place] > losses[number, None]:
                feedback.note(
                    f"training {winner.name} alone overfits: its validation loss rose from {losses[number, None]:.3f} "
                    f"to {losses[number, place]:.3f}; take fewer steps, or more examples"
                )
    number, chosen = min(losses, key=losses.__getitem__)
    exports = [Exported(chosen, "peft", alone[chosen].difference)] if chosen else []
    source = ExportRequest(output / "front.json", output, export_kind("peft"), winner=number, cache=request.cache)
    for each in map(export_kind, filter(None, ("" if chosen else "peft", kind))):
        form = replace(source, folder=output / f"winner-{number}-{each.name}", kind=each)
        if chosen:
            weights = adaptation.task.quantisation if "quantisation" in each.options else None
            form = replace(form, source=chosen, base=request.model, quantisation=weights)
        exports.append(Exported(form.folder, each.name, export_files(form, feedback=feedback).difference))
    choices = tuple(each.choice for each in alone.values())
    return Delivered(chosen.name if chosen else f"winner-{number}", choices, tuple(exports))
