"""End-to-end demonstration: overhead, campaign, fit, training, search under a budget, verification and exports."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from adaptare.core import DeviceError
from adaptare.core.progress import SILENT, Feedback
from adaptare.predictor import ErrorCard, FittedPredictor, load_predictor
from adaptare.profiler import (
    Configuration,
    Quantisation,
    Space,
    Workload,
    named_space,
    open_model,
    precise_within,
    programs_for,
)
from adaptare.search import Origin, TrainingSettings, export_adapter, read_budget
from adaptare.search.algorithms import smallest_that_fits
from adaptare.search.budget import Budget, predicted_limit
from adaptare.search.export import difference_in_peft, export_kind
from adaptare.workflows.exporting import ExportRequest, export_files
from adaptare.workflows.fit.fit_rows import RowFilter
from adaptare.workflows.fit.fitting import FitRequest, fit_rows
from adaptare.workflows.overhead.overhead import OverheadReport, OverheadRequest, measure_overhead
from adaptare.workflows.profiling.space_report import ProfileRequest, profile_space
from adaptare.workflows.search.result import SearchResult
from adaptare.workflows.search.searching import SearchRequest, search_folder
from adaptare.workflows.target import target_of
from adaptare.workflows.train.adaptation import reload_adaptation
from adaptare.workflows.train.task import TrainingData
from adaptare.workflows.train.training import TrainRequest, TrainResult, check_request, train
from adaptare.workflows.verification import VerifyRequest, met, verify

RANKS: Final = (0, 2, 4, 8, 16)
# Of the scale of a budget, so that the first number comes early.
FIRST_LOOK_S: Final = 15.0


@dataclass(frozen=True)
class DemoRequest:
    """Demonstration on one model and device.

    Args:
        model: Any model with weights.
        output: Folder of all results; those already there are reused.
        device: Spelling of the device and of the base's weights.
        budget: Budget for decode; `None` for midway between the base and the largest rank everywhere.
        data: JSON lines; `None` for dialogues.
        cache: Folder for converted models; `None` for the user's cache folder.
        configurations: Number of configurations measured for the predictor.
        half_width: Half-width of the intervals of these and of the winners, at which measuring ends.
        seconds: Time limit of each of the two measurements.
        steps: Training steps.
        train_s: Time limit of training, seconds.
        gradient_examples: Training examples whose gradients the search uses.
        held_out: Number of examples for computing a loss.
    """

    model: str
    output: Path
    device: str
    budget: Budget | None = None
    data: Path | None = None
    cache: Path | None = None
    seed: int = 0
    configurations: int = 32
    half_width: float = 0.005
    seconds: float = 110.0
    steps: int = 45
    train_s: float = 120.0
    gradient_examples: int = 24
    held_out: int = 24


@dataclass(frozen=True)
class Exported:
    """Files of one adapter, and the largest difference of their logits from torch's."""

    folder: Path
    kind: str
    difference: float


@dataclass(frozen=True)
class DemoResult:
    """Result of `demonstrate`.

    Args:
        device: Spelling of the device.
        first: The largest rank on every linear, in decode.
        predictor: Errors of the predictor.
        verification: Winners and baselines, remeasured.
        exports: A PEFT folder of each winner; for ONNX Runtime also a model of the first that meets the budget.
    """

    model: str
    device: str
    first: OverheadReport
    predictor: ErrorCard
    training: TrainResult
    verification: SearchResult
    exports: tuple[Exported, ...]
    elapsed_s: float


def demonstrate(request: DemoRequest, *, feedback: Feedback = SILENT) -> DemoResult:
    """Runs all steps.

    Raises:
        InfeasibleBudgetError: No adapter is predicted to meet the budget.
        DeviceError: The latencies that define the default budget could not be measured.
    """
    started, model, device, cache, seed = time.monotonic(), request.model, request.device, request.cache, request.seed
    half_width, seconds = request.half_width, request.seconds

    def begin(step: int, what: str) -> None:
        feedback.note(f"[{time.monotonic() - started:3.0f} s] {step} of 6: {what}")

    begin(1, f"opening {model}")
    source, target = open_model(model, cache=cache).with_weights(), target_of(device)
    space, template = named_space("blocks", source.shape, ranks=RANKS), Workload(source.shape, **target.weights)
    # With the weights that are exported, so that measurements and exports share their graphs.
    programs = programs_for(target.device.info(), cache=cache, weights=source)
    programs.check(template)
    training = _training(request, target.quantisation)
    if request.data or training.folder.exists():
        check_request(training)  # before anything is measured
    request.output.mkdir(parents=True, exist_ok=True)
    store, front, fitted = (str(request.output / name) for name in ("adaptare.db", "front.json", "predictor"))

    begin(2, f"a first look at rank {RANKS[-1]} on {target.device.info().device}")
    first = measure_overhead(
        OverheadRequest(
            *(model, (), device, programs),
            ranks=RANKS[-1:],
            prompts=(),
            half_width=half_width,
            seconds=FIRST_LOOK_S,
            resume=True,
            store=store,
            cache=cache,
            seed=seed,
        ),
        feedback=feedback,
    )
    if not any(row.mode == "swappable" for row in first.rows):
        raise DeviceError(f"rank {RANKS[-1]} everywhere could not be measured, so there is no scale for a budget")
    feedback.show(first)

    begin(3, f"measuring {request.configurations} adapters, and learning to predict latency")
    profile_space(
        ProfileRequest(
            *(model, device, programs, space),
            count=request.configurations,
            half_width=half_width,
            seconds=seconds,
            store=store,
            cache=cache,
            seed=seed,
        ),
        feedback=feedback,
    )
    rows = RowFilter(phase="decode", mode="swappable", model=source.shape)
    fit = fit_rows(FitRequest(store, device, rows, output=Path(fitted), replace=True), note=feedback.note)
    feedback.show(fit)
    predictor = load_predictor(fitted)
    budget = request.budget or halfway(predictor, space)
    smallest_that_fits(space, [predicted_limit(budget, predictor, space.dimensions)])  # raises if it is infeasible

    begin(4, f"training one super-adapter on {len(space.sites)} linears, at most {request.train_s:.0f} s")
    trained = train(training, feedback=feedback)
    feedback.show(trained)

    begin(5, f"searching under {1e3 * budget.bound(predictor.base_value):.2f} ms")
    wanted = SearchRequest(
        training.folder,
        Path(fitted),
        budget,
        output=Path(front),
        gradient_examples=request.gradient_examples,
        seed=seed,
    )
    search_folder(wanted, feedback=feedback)

    begin(6, "measuring the winners again, and writing them")
    stop = precise_within(half_width, seconds)
    again = VerifyRequest(Path(front), stop, store, repeats=1, programs=programs, cache=cache, seed=seed + 1)
    verification = verify(again, feedback=feedback)
    onnx = "static" in programs.modes(template)  # the device runs exported graphs
    exports = _export(verification, request, onnx=onnx, note=feedback.note)
    elapsed_s = time.monotonic() - started
    return DemoResult(model, device, first, fit.error_card, trained, verification, exports, elapsed_s)


def halfway(predictor: FittedPredictor, space: Space) -> Budget:
    """Budget halfway between no adapter and the largest ranks, by the middle of their predictions."""
    both = np.stack([space.base, space.at(space.highest)])
    limit_s = float(predictor.predict(both, space.dimensions).mean.mean())
    return read_budget(f"overhead={100 * (limit_s / predictor.base_value - 1):.4f}%")


def _training(request: DemoRequest, quantisation: Quantisation) -> TrainRequest:
    # A training has a fixed number of steps and one base, so each has a separate folder.
    base = "" if quantisation == "none" else f"-{quantisation}"
    return TrainRequest(
        request.model,
        request.output / f"super-adapter-{request.steps}{base}",
        TrainingData(request.seed, request.data, held_out=request.held_out),
        TrainingSettings(request.steps, request.seed),
        ranks=RANKS,
        quantisation=quantisation,
        max_seconds=request.train_s,
        cache=request.cache,
    )


def _export(
    result: SearchResult, request: DemoRequest, *, onnx: bool, note: Callable[[str], None]
) -> tuple[Exported, ...]:
    """The winners for PEFT, compared in unmodified PEFT with the super-adapter; the first that is met for ONNX too."""
    front, folder = result.file or Path(), result.folder or Path()
    adaptation, super_adapter = reload_adaptation(folder)
    base, origin = adaptation.base, adaptation.origin
    exports = []
    with tempfile.TemporaryDirectory() as rounded:
        if adaptation.task.quantisation != "none":
            # PEFT must load the rounded weights that the adapters were trained on.
            base = Path(rounded) / "base"
            whole = super_adapter.sub_adapter(Configuration(), Origin(name=str(adaptation.base)))
            export_adapter(whole, base, kind="merged")
        for choice in result.winners:
            place = request.output / choice.name.replace(" ", "-")
            adapted = super_adapter.sub_adapter(choice.configuration, origin)
            export_adapter(adapted, place)
            exports.append(Exported(place, "peft", difference_in_peft(adapted, place, base)))
    if onnx:
        number = next(iter(met(result)), 1)
        place = request.output / f"winner-{number}-onnx"
        swappable = export_kind("onnx-swappable")
        written = export_files(ExportRequest(front, place, swappable, winner=number, cache=request.cache), note)
        exports.append(Exported(place, swappable.name, written.difference or 0.0))
    return tuple(exports)
