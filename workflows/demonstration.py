"""End-to-end demonstration: overhead, campaign, fit, training, search under a budget, verification and exports."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from adaptare.core import DeviceError
from adaptare.core.progress import SILENT, Feedback
from adaptare.predictor import ErrorCard, FittedPredictor, LatencyPredictor, save_predictor
from adaptare.profiler import (
    Configuration,
    Measurement,
    Mode,
    Quantisation,
    Space,
    Store,
    Workload,
    design,
    named_space,
    open_model,
    programs_for,
)
from adaptare.profiler.analysis.intervals import Interval
from adaptare.profiler.measuring.stopping import PreciseWithin
from adaptare.search import Origin, TrainingSettings, export_adapter, read_budget
from adaptare.search.budget.limits import Budget
from adaptare.search.export.check import Expectation, check, read_by_peft
from adaptare.search.export.kinds import ExportOptions
from adaptare.search.super_adapter.merging import dense
from adaptare.workflows.exporting import origin_of
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.profiling.space_report import measure_space
from adaptare.workflows.search.problem import check_feasible
from adaptare.workflows.search.result import SearchResult
from adaptare.workflows.search.searching import SearchRequest, search_folder
from adaptare.workflows.target import target_of
from adaptare.workflows.train.adaptation import reload_adaptation
from adaptare.workflows.train.task import TrainingData
from adaptare.workflows.train.training import TrainRequest, TrainResult, check_request, train
from adaptare.workflows.verification import met, verify_choices

RANKS: Final = (0, 2, 4, 8, 16)
# Of the scale of a budget, so that the first number comes early.
FIRST_LOOK_S: Final = 15.0


@dataclass(frozen=True)
class Effort:
    """Size of every step.

    Args:
        configurations: Number of configurations measured for the predictor.
        pace: Precision and time limit of measuring these and the winners.
        steps: Training steps.
        train_s: Time limit of training, seconds.
        evaluations: Evaluations of the search, and as many of the random search for comparison.
        held_out: Number of examples for computing a loss.
    """

    configurations: int
    pace: PreciseWithin
    steps: int
    train_s: float
    evaluations: int
    held_out: int


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
    """

    model: str
    output: Path
    device: str
    effort: Effort
    budget: Budget | None = None
    data: Path | None = None
    cache: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class FirstLook:
    """The largest rank on every linear, in decode.

    Args:
        base: Latency of the base, seconds.
        latency: Way to apply the adapter -> latency, seconds.
        overhead: Way to apply the adapter -> latency over that of the base, minus one.
    """

    sites: int
    base: float
    latency: Mapping[Mode, Interval]
    overhead: Mapping[Mode, Interval]


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
        predictor: Errors of the predictor.
        verification: Winners and baselines, remeasured.
        exports: A PEFT folder of each winner; for ONNX Runtime also a model of the first that meets the budget.
    """

    model: str
    device: str
    first: FirstLook
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
    started, effort, seed, cache = time.monotonic(), request.effort, request.seed, request.cache

    def begin(step: int, what: str) -> None:
        feedback.note(f"[{time.monotonic() - started:3.0f} s] {step} of 6: {what}")

    begin(1, f"opening {request.model}")
    source, target = open_model(request.model, cache=cache).with_weights(), target_of(request.device)
    space, info = named_space("blocks", source.shape, ranks=RANKS), target.device.info()
    programs, template = programs_for(info, cache=cache, weights=source), Workload(source.shape, **target.weights)
    programs.check(template)
    training = _training(request, target.quantisation)
    if request.data or training.folder.exists():
        check_request(training)  # before anything is measured
    request.output.mkdir(parents=True, exist_ok=True)
    store, front, fitted = (request.output / name for name in ("adaptare.db", "front.json", "predictor"))
    campaign = Campaign(target.device, programs, Store(store), effort.pace, seed, feedback=feedback)

    def measured(wanted: Sequence[Workload], stop: PreciseWithin) -> dict[Workload, Measurement]:
        measure_space(template, wanted, replace(campaign, stop=stop), model=request.model)
        return {row.workload: row for row in campaign.store.measurements(info, template.base) if row.complete}

    begin(2, f"a first look at rank {RANKS[-1]} on {info.device}")
    drawn = design(space, effort.configurations, seed=seed)
    workloads = [template.with_configuration(space.decode(row)) for row in drawn]
    scale = [workloads[0].folded, workloads[0]]
    known = measured(scale, replace(effort.pace, seconds=FIRST_LOOK_S))
    if not set(scale) <= set(known):
        raise DeviceError(f"rank {RANKS[-1]} everywhere could not be measured, so there is no scale for a budget")
    first = _first_look([known[each] for each in scale], len(space.sites))
    feedback.show(first)

    begin(3, f"measuring {effort.configurations} adapters, and learning to predict latency")
    known = measured([*scale, *workloads[1:]], effort.pace)
    predictor = LatencyPredictor().fit([known[workload] for workload in workloads if workload in known])
    save_predictor(predictor, fitted)
    feedback.show(predictor)
    budget = request.budget or halfway(predictor, space)
    check_feasible(budget, predictor, space)

    begin(4, f"training one super-adapter on {len(space.sites)} linears, at most {effort.train_s:.0f} s")
    trained = train(training, feedback=feedback)
    feedback.show(trained)

    begin(5, f"searching under {1e3 * budget.bound(predictor.base_value):.2f} ms")
    evaluations, folder = effort.evaluations, training.folder
    search = SearchRequest(folder, fitted, budget, output=front, evaluations=evaluations, seed=seed)
    found = search_folder(search, feedback=feedback)

    begin(6, "measuring the winners again, and writing them")
    # Not as a verification alone would do, with programs of random weights: these have the weights that are exported.
    verification = verify_choices(found, template, replace(campaign, seed=seed + 1), repeats=1)
    onnx = "static" in programs.modes(template)  # the device runs exported graphs
    exports = _export(verification, request, training.folder, onnx=onnx, note=feedback.note)
    return DemoResult(
        model=request.model,
        device=request.device,
        first=first,
        predictor=predictor.error_card,
        training=trained,
        verification=verification,
        exports=exports,
        elapsed_s=time.monotonic() - started,
    )


def halfway(predictor: FittedPredictor, space: Space) -> Budget:
    """Budget halfway between no adapter and the largest ranks, by the upper ends of their predictions.

    However uncertain the predictions are, some adapter meets it.
    """
    both = np.stack([space.base, space.expand((space.n_choices - 1)[None])[0]])
    limit_s = float(predictor.predict(both, space.dimensions).upper.mean())
    return read_budget(f"overhead={100 * (limit_s / predictor.base_value - 1):.4f}%")


def _training(request: DemoRequest, quantisation: Quantisation) -> TrainRequest:
    # A training has a fixed number of steps and one base, so each has a separate folder.
    base, effort = "" if quantisation == "none" else f"-{quantisation}", request.effort
    return TrainRequest(
        request.model,
        request.output / f"super-adapter-{effort.steps}{base}",
        TrainingData(request.seed, request.data, held_out=effort.held_out),
        TrainingSettings(effort.steps, request.seed),
        ranks=RANKS,
        quantisation=quantisation,
        max_seconds=effort.train_s,
        cache=request.cache,
    )


def _first_look(rows: Sequence[Measurement], sites: int) -> FirstLook:
    latency = {row.workload.mode: Interval(row.lower_s, row.latency_s, row.upper_s) for row in rows}
    return FirstLook(sites, rows[0].reference_s, latency, {row.workload.mode: row.overhead for row in rows})


def _export(
    result: SearchResult, request: DemoRequest, folder: Path, *, onnx: bool, note: Callable[[str], None]
) -> tuple[Exported, ...]:
    """The winners for PEFT, compared in unmodified PEFT with the super-adapter; the first that is met for ONNX too."""
    adaptation, super_adapter = reload_adaptation(folder)
    base, quantisation, origin = adaptation.base, adaptation.task.quantisation, origin_of(adaptation)
    winners = [super_adapter.sub_adapter(choice.configuration, origin) for choice in result.winners]
    folders = [request.output / choice.name.replace(" ", "-") for choice in result.winners]
    for adapted, place in zip(winners, folders, strict=True):
        export_adapter(adapted, place)
    with tempfile.TemporaryDirectory() as rounded:
        if quantisation != "none":
            # PEFT must load the rounded weights that the adapters were trained on.
            base = Path(rounded) / "base"
            whole = super_adapter.sub_adapter(Configuration(), Origin(name=str(adaptation.base)))
            export_adapter(whole, base, kind="merged")
        read = [Expectation("PEFT", partial(read_by_peft, base), dense(adapted)) for adapted in winners]
        pairs = zip(folders, read, strict=True)
        found = [(place, check(place, [each], advice="try another version of peft")) for place, each in pairs]
    exports = [Exported(place, "peft", difference) for place, difference in found]
    if onnx:
        winner = next(iter(met(result)), 1) - 1
        place = folders[winner].with_name(f"{folders[winner].name}-onnx")
        options = ExportOptions(quantisation, cache=request.cache, note=note)
        difference = export_adapter(winners[winner], place, kind="onnx-swappable", options=options)
        exports.append(Exported(place, "onnx-swappable", difference or 0.0))
    return tuple(exports)
