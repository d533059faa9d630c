"""End-to-end demonstration: campaign, fit, training, search under a budget, verification and exports."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from adaptare.core import DeviceError
from adaptare.core.codec import to_json
from adaptare.core.progress import Feedback
from adaptare.core.table import Column, Table
from adaptare.core.units import milliseconds, percent
from adaptare.predictor import FittedPredictor, LatencyPredictor, save_predictor
from adaptare.profiler import (
    Configuration,
    Measurement,
    Space,
    Store,
    Workload,
    design,
    named_space,
    open_model,
    programs_for,
)
from adaptare.profiler.measuring.stopping import PreciseWithin
from adaptare.search import Origin, export_adapter, read_budget
from adaptare.search.budget.limits import Budget
from adaptare.search.export.check import Expectation, check, read_by_peft
from adaptare.search.export.kinds import ExportOptions
from adaptare.search.recipes.recipe import DEFAULT_RECIPE, recipe_named
from adaptare.search.super_adapter.merging import dense
from adaptare.search.training.record import TrainingSettings
from adaptare.workflows.exporting import origin_of
from adaptare.workflows.fit.fit_report import error_sections
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.profiling.space_report import latency_interval, measure_space
from adaptare.workflows.search.problem import check_feasible
from adaptare.workflows.search.result import Choice, SearchResult
from adaptare.workflows.search.searching import SearchRequest, search_loaded
from adaptare.workflows.target import Target
from adaptare.workflows.train.adaptation import Adaptation, Trained, load_adaptation, train_adaptation
from adaptare.workflows.verification import met, verify_choices

RANKS = (0, 2, 4, 8, 16)


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


# Of the scale of a budget, so that the first number comes early.
FIRST_LOOK_S: Final = 15.0
COLUMNS: Final[tuple[Column[tuple[str, Measurement]], ...]] = (
    Column("applied", lambda row: row[0]),
    Column("ms", lambda row: milliseconds(row[1].latency_s)),
    Column("95 % interval", lambda row: latency_interval(row[1])),
    Column("overhead", lambda row: percent(row[1].overhead.middle)),
)


@dataclass(frozen=True)
class DemoReport:
    """Result of `demonstrate`.

    Args:
        device: Device as the user wrote it.
        front: File of the search.
        full: The largest rank on every linear, swappable.
        full_folded: The same, merged, and requantised on a quantised base.
        verification: Winners and baselines, remeasured.
        exports: Folder of each winner.
        export_differences: Largest difference of logits, for each export, when loaded by unmodified PEFT.
        onnx_export: Folder of the first winner within the budget as an ONNX model, and the largest relative difference
            of its logits from torch's; `None` where no ONNX Runtime is the device.
    """

    model: str
    device: str
    front: Path
    full: Measurement
    full_folded: Measurement
    predictor: FittedPredictor
    trained: Trained
    verification: SearchResult
    exports: tuple[Path, ...]
    export_differences: tuple[float, ...]
    onnx_export: tuple[Path, float] | None
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """Verification, with exports and errors."""
        content = to_json(self.verification)
        for row, folder, difference in zip(content["winners"], self.exports, self.export_differences, strict=True):
            row.update(export=str(folder), export_difference=difference)
        trained, full, onnx = self.trained, self.full, self.onnx_export
        return {
            "model": self.model,
            **content,
            "full_s": full.latency_s,
            "full_lower_s": full.lower_s,
            "full_upper_s": full.upper_s,
            "full_folded_s": self.full_folded.latency_s,
            "predictor": {"chosen": self.predictor.chosen, **asdict(self.predictor.error_card)},
            "training": {"steps": trained.steps, "base_loss": trained.base_loss, "full_loss": trained.full_loss},
            "onnx": {"folder": str(onnx[0]), "difference": onnx[1]} if onnx else None,
            "elapsed_s": self.elapsed_s,
        }


def demonstrate(
    model: str,
    output: Path,
    effort: Effort,
    *,
    target: Target,
    device: str,
    budget: Budget | None,
    data: Path | None,
    cache: Path | None,
    seed: int,
    feedback: Feedback,
) -> DemoReport:
    """Runs all steps; results already in the output folder are reused.

    Args:
        model: Any model with weights.
        target: Measured device and base.
        device: The device as the user wrote it.
        budget: Budget for decode; default: midway between the base and the largest rank everywhere.
        data: JSON lines; `None` for dialogues.

    Raises:
        InfeasibleBudgetError: No adapter is predicted to meet the budget.
        DeviceError: The latencies that define the default budget could not be measured.
    """
    started = time.monotonic()

    def begin(step: int, what: str) -> None:
        feedback.note(f"[{time.monotonic() - started:3.0f} s] {step} of 6: {what}")

    begin(1, f"opening {model}")
    source = open_model(model, cache=cache).with_weights()
    space = named_space("blocks", source.shape, ranks=RANKS)
    info = target.device.info()
    programs = programs_for(info, cache=cache, weights=source)
    template = Workload(source.shape, **target.weights)
    programs.check(template)
    # A training has a fixed number of steps and one base, so each has a separate folder.
    base = "" if target.quantisation == "none" else f"-{target.quantisation}"
    folder, front, fitted = output / f"super-adapter-{effort.steps}{base}", output / "front.json", output / "predictor"
    load = partial(
        load_adaptation,
        source,
        recipe=recipe_named(DEFAULT_RECIPE),
        folder=folder,
        data=data,
        seed=seed,
        max_tokens=64,
        held_out=effort.held_out,
        quantisation=target.quantisation,
    )
    # Bad data or a folder of another task are refused before anything is measured; else the first number comes first.
    adaptation = load() if data or folder.exists() else None
    output.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(target.device, programs, Store(output / "adaptare.db"), effort.pace, seed, feedback=feedback)

    begin(2, f"a first look at rank {RANKS[-1]} on {info.device}")
    drawn = design(space, effort.configurations, seed=seed)
    workloads = [template.with_configuration(space.decode(row)) for row in drawn]
    scale = [workloads[0], workloads[0].folded]
    first = replace(campaign, stop=replace(effort.pace, seconds=FIRST_LOOK_S))
    measure_space(template, scale, first, model=model, target=target)
    known = {row.workload: row for row in campaign.store.measurements(info, template.base) if row.complete}
    if not set(scale) <= set(known):
        raise DeviceError(f"rank {RANKS[-1]} everywhere could not be measured, so there is no scale for a budget")
    full, folded = (known[workload] for workload in scale)
    title = f"An adapter of rank {RANKS[-1]} on all {len(space.sites)} linears, in decode "
    ways = [(f"{folded.workload.mode}, in the base's weights", folded), ("swappable beside it", full)]
    feedback.show(Table(f"{title}(base {milliseconds(full.reference_s)} ms)", COLUMNS, ways))

    adaptation = adaptation or load()

    begin(3, f"measuring {effort.configurations} adapters, and learning to predict latency")
    measure_space(template, [*scale, *workloads[1:]], campaign, model=model, target=target)
    known = {row.workload: row for row in campaign.store.measurements(info, template.base) if row.complete}
    predictor = LatencyPredictor().fit([known[workload] for workload in workloads if workload in known])
    save_predictor(predictor, fitted)
    for section in error_sections(predictor):
        feedback.show(section)
    within = budget or halfway(predictor, space)
    check_feasible(within, predictor, space)

    begin(4, f"training one super-adapter on {len(space.sites)} linears, at most {effort.train_s:.0f} s")
    trained = train_adaptation(
        adaptation,
        space,
        folder=folder,
        settings=TrainingSettings(effort.steps, seed),
        feedback=feedback,
        max_seconds=effort.train_s,
    )
    feedback.show(
        f"Loss on held-out completions: {trained.base_loss:.3f} without adapter, {trained.full_loss:.3f} with rank "
        f"{RANKS[-1]} everywhere."
    )

    begin(5, f"searching under {milliseconds(within.bound(predictor.base_value))} ms")
    request = SearchRequest(folder, fitted, within, output=front, evaluations=effort.evaluations, seed=seed)
    found = search_loaded(
        request, adaptation, trained.super_adapter, predictor, validation=trained.validation, feedback=feedback
    )

    begin(6, "measuring the winners again, and writing them")
    again = replace(campaign, seed=seed + 1)
    verification = verify_choices(found, template, again, repeats=1)
    exports, differences = _export(adaptation, trained, found.winners, output)
    onnx_export = None
    if "static" in programs.modes(template):  # the device runs exported graphs
        winner = found.winners[next(iter(met(verification)), 1) - 1]
        onnx_folder = output / f"{winner.name.replace(' ', '-')}-onnx"
        adapted = trained.super_adapter.sub_adapter(winner.configuration, origin_of(adaptation))
        options = ExportOptions(adaptation.task.quantisation, cache=cache, note=feedback.note)
        onnx_difference = export_adapter(adapted, onnx_folder, kind="onnx-swappable", options=options)
        onnx_export = (onnx_folder, onnx_difference) if onnx_difference is not None else None
    return DemoReport(
        model,
        device,
        front,
        full,
        folded,
        predictor,
        trained,
        verification,
        exports,
        differences,
        onnx_export,
        elapsed_s=time.monotonic() - started,
    )


def halfway(predictor: FittedPredictor, space: Space) -> Budget:
    """Budget halfway between no adapter and the largest ranks, by the upper ends of their predictions.

    However uncertain the predictions are, some adapter meets it.
    """
    both = np.stack([space.base, space.expand((space.n_choices - 1)[None])[0]])
    limit_s = float(predictor.predict(both, space.dimensions).upper.mean())
    return read_budget(f"overhead={100 * (limit_s / predictor.base_value - 1):.4f}%")


def _export(
    adaptation: Adaptation, trained: Trained, winners: Sequence[Choice], output: Path
) -> tuple[tuple[Path, ...], tuple[float, ...]]:
    """Folders of the winners, and the differences of their outputs in unmodified PEFT from the super-adapter's."""
    folders = tuple(output / choice.name.replace(" ", "-") for choice in winners)
    origin = origin_of(adaptation)
    sub_adapters = [trained.super_adapter.sub_adapter(choice.configuration, origin) for choice in winners]
    for adapted, folder in zip(sub_adapters, folders, strict=True):
        export_adapter(adapted, folder)
    with tempfile.TemporaryDirectory() as place:
        base = Path(adaptation.base)
        if adaptation.task.quantisation != "none":
            # PEFT must load the rounded weights that the adapters were trained on.
            base = Path(place) / "base"
            rounded = trained.super_adapter.sub_adapter(Configuration(), Origin(name=str(adaptation.base)))
            export_adapter(rounded, base, kind="merged")
        reader = partial(read_by_peft, base)
        expected = [Expectation("PEFT", reader, dense(adapted)) for adapted in sub_adapters]
        checked = zip(folders, expected, strict=True)
        return folders, tuple(check(folder, [each], advice="try another version of peft") for folder, each in checked)
