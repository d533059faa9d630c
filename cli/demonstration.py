"""The whole path, step by step: what `adaptare demo` does."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.adaptation import Adaptation, Trained, load_adaptation, train_adaptation
from adaptare.campaign import interval_of, measure
from adaptare.console import Console, milliseconds, percent
from adaptare.devices import DeviceError
from adaptare.export_check import largest_export_difference
from adaptare.fit_command import show_error_card
from adaptare.pace import Pace
from adaptare.predictor import LatencyPredictor, save_predictor
from adaptare.profiler import (
    Configuration,
    Measurement,
    Programs,
    Space,
    Store,
    Workload,
    design,
    named_space,
    open_model,
    programs_for,
)
from adaptare.search import Budget, export_merged, export_onnx, export_peft, read_budget
from adaptare.searching import check_feasible, limit_of, select
from adaptare.selection import Selection, save_selection
from adaptare.target import Target
from adaptare.task import check_unclaimed
from adaptare.verification import Verified, verify_choices

RANKS = (0, 2, 4, 8, 16)


@dataclass(frozen=True)
class Effort:
    """How long each part may take.

    Args:
        configurations: To measure for the predictor.
        pace: Of measuring those, and of the winners.
        steps: Of training.
        train_s: After which training stops short.
        evaluations: Of the search, and as many of the random search beside it.
        held_out: Examples that a loss is computed on.
    """

    configurations: int
    pace: Pace
    steps: int
    train_s: float
    evaluations: int
    held_out: int


@dataclass(frozen=True)
class Outcome:
    """All that came out.

    Args:
        full: The largest rank on every linear, swappable.
        full_folded: The same, merged, and on a quantised base quantised again.
        predictor: Fitted to what was measured.
        trained: The super-adapter.
        selection: What the search chose, and what stands beside it.
        winners: Measured again.
        baselines: Measured beside them.
        exports: Folder of each winner.
        export_differences: Largest difference of logits, for each export, when stock PEFT loads it.
        onnx_export: Folder of the first winner within the budget as an ONNX model, if ONNX Runtime is the device.
        onnx_difference: Largest relative difference of its logits from torch's.
        elapsed_s: Of everything.
    """

    full: Measurement
    full_folded: Measurement
    predictor: LatencyPredictor
    trained: Trained
    selection: Selection
    winners: tuple[Verified, ...]
    baselines: tuple[Verified, ...]
    exports: tuple[Path, ...]
    export_differences: tuple[float, ...]
    onnx_export: Path | None
    onnx_difference: float | None
    elapsed_s: float


class Demonstration:
    """Keeps all that comes out in one folder; what is there already is not done again.

    Args:
        output: The folder.
        effort: How long the parts may take.
        target: Where latency is measured, and on what base.
        seed: Of every random choice.
        console: Hears how far it is.
    """

    def __init__(self, output: Path, effort: Effort, *, target: Target, seed: int, console: Console) -> None:
        self.front = output / "front.json"
        self._output = output
        self._effort = effort
        self._target = target
        self._device = target.device
        self._seed = seed
        self._console = console
        self._started = time.monotonic()
        # A training has a fixed number of steps and one base, so each has a folder of its own.
        base = "" if target.quantisation == "none" else f"-{target.quantisation}"
        self._folder = output / f"super-adapter-{effort.steps}{base}"

    def run(self, model: str, *, budget: Budget | None, data: Path | None, cache: Path | None) -> Outcome:
        """All steps. Raises `InfeasibleBudgetError` if no adapter is predicted to meet the budget."""
        effort = self._effort
        self._begin(1, f"opening {model}")
        source = open_model(model, cache=cache).with_weights()
        space = named_space("blocks", source.shape, ranks=RANKS)
        programs = programs_for(self._device.info(), cache=cache, weights=source)
        template = Workload(source.shape, **self._target.weights)
        programs.need(template)
        adaptation = load_adaptation(
            source,
            data=data,
            seed=self._seed,
            max_tokens=64,
            held_out=effort.held_out,
            quantisation=self._target.quantisation,
        )
        check_unclaimed(adaptation.task, self._folder)
        self._output.mkdir(parents=True, exist_ok=True)
        store = Store(self._output / "adaptare.db")

        self._begin(2, f"measuring {effort.configurations} adapters on {self._device.info().device}")
        full, full_folded, rows = self._profile(template, space, store, programs)

        self._begin(3, "learning to predict latency")
        predictor = LatencyPredictor().fit(rows)
        save_predictor(predictor, self._output / "predictor")
        show_error_card(predictor, self._console)
        wanted = budget or read_budget(f"overhead={max(0.0, 50 * full.overhead.middle):.4f}%")
        check_feasible(wanted, predictor, space)

        self._begin(4, f"training one super-adapter on {space.n_columns} linears, at most {effort.train_s:.0f} s")
        trained = self._train(adaptation, space)

        self._begin(5, f"searching under {milliseconds(limit_of(wanted, predictor))} ms")
        selection = select(
            adaptation,
            trained.super_adapter,
            predictor,
            validation=trained.validation,
            budget=wanted,
            evaluations=effort.evaluations,
            winners=3,
            seed=self._seed,
            console=self._console,
        )
        save_selection(selection, self.front, folder=self._folder, predictor=self._output / "predictor")

        self._begin(6, "measuring the winners again, and writing them")
        winners, baselines = self._verify(selection, template, store, programs)
        exports, differences = self._export(adaptation, trained, selection)
        onnx_export, onnx_difference = None, None
        if "static" in programs.modes(template):  # the device runs exported graphs
            onnx_export, onnx_difference = self._export_onnx(adaptation, trained, selection, winners, cache)
        elapsed_s = time.monotonic() - self._started
        return Outcome(
            full,
            full_folded,
            predictor,
            trained,
            selection,
            winners,
            baselines,
            exports,
            differences,
            onnx_export,
            onnx_difference,
            elapsed_s,
        )

    def _begin(self, step: int, what: str) -> None:
        self._console.note(f"[{time.monotonic() - self._started:3.0f} s] {step} of 6: {what}")

    def _profile(
        self, template: Workload, space: Space, store: Store, programs: Programs
    ) -> tuple[Measurement, Measurement, list[Measurement]]:
        """Measurements of the largest adapter, of the same folded into the base, and of all swappable ones."""
        effort, info = self._effort, self._device.info()
        codes = design(space, effort.configurations, seed=self._seed)
        workloads = [template.with_configuration(space.decode(row)) for row in codes]
        full, full_folded = workloads[0], workloads[0].folded
        known = {each.workload: each for each in store.measurements(info, template.base) if each.complete}
        missing = [workload for workload in (full, full_folded, *workloads[1:]) if workload not in known]
        if missing:
            measured = measure(
                missing,
                device=self._device,
                half_width=effort.pace.half_width,
                seconds=effort.pace.seconds,
                seed=self._seed,
                store=store,
                console=self._console,
                title="measuring",
                programs=programs,
            )
            known.update((each.workload, each) for each in measured if not each.failure)
        if full not in known or full_folded not in known:
            raise DeviceError(f"rank {RANKS[-1]} everywhere could not be measured, so there is no scale for a budget")
        self._console.table(
            f"An adapter of rank {RANKS[-1]} on all {space.n_columns} linears, in decode "
            f"(base {milliseconds(known[full].reference_s)} ms)",
            ["applied", "ms", "95 % interval", "overhead"],
            [
                _cost(f"{full_folded.mode}, in the base's weights", known[full_folded]),
                _cost("swappable beside it", known[full]),
            ],
        )
        return known[full], known[full_folded], [known[workload] for workload in workloads if workload in known]

    def _train(self, adaptation: Adaptation, space: Space) -> Trained:
        trained = train_adaptation(
            adaptation,
            space,
            folder=self._folder,
            steps=self._effort.steps,
            batch_size=8,
            learning_rate=2e-3,
            seed=self._seed,
            console=self._console,
            max_seconds=self._effort.train_s,
        )
        self._console.say(
            f"Loss on held-out completions: {trained.base_loss:.3f} without adapter, "
            f"{trained.full_loss:.3f} with rank {RANKS[-1]} everywhere."
        )
        return trained

    def _verify(
        self, selection: Selection, template: Workload, store: Store, programs: Programs
    ) -> tuple[tuple[Verified, ...], tuple[Verified, ...]]:
        return verify_choices(
            selection,
            template,
            device=self._device,
            half_width=self._effort.pace.half_width,
            seconds=self._effort.pace.seconds,
            openings=None,
            repeats=1,
            seed=self._seed + 1,
            store=store,
            console=self._console,
            programs=programs,
        )

    def _export(
        self, adaptation: Adaptation, trained: Trained, selection: Selection
    ) -> tuple[tuple[Path, ...], tuple[float, ...]]:
        configs = [each.config for each in selection.winners]
        folders = tuple(self._output / each.name.replace(" ", "-") for each in selection.winners)
        for config, folder in zip(configs, folders, strict=True):
            export_peft(trained.super_adapter, config, folder, base_name=adaptation.task.base_name)
        with tempfile.TemporaryDirectory() as place:
            base = Path(adaptation.task.model)
            if adaptation.task.quantisation != "none":
                # PEFT is to see the rounded weights that the adapters were trained on.
                base = Path(place) / "base"
                export_merged(trained.super_adapter, Configuration(), base, base_name=adaptation.task.model)
            differences = largest_export_difference(trained.super_adapter, configs, folders, base=base)
        return folders, tuple(differences)

    def _export_onnx(
        self,
        adaptation: Adaptation,
        trained: Trained,
        selection: Selection,
        winners: Sequence[Verified],
        cache: Path | None,
    ) -> tuple[Path, float]:
        chosen = next((each for each in winners if each.meets(selection)), winners[0]).choice
        folder = self._output / f"{chosen.name.replace(' ', '-')}-onnx"
        difference = export_onnx(
            trained.super_adapter,
            chosen.config,
            folder,
            kind="onnx-swappable",
            base=adaptation.task.model,
            quantisation=self._target.quantisation,
            tokenizer=adaptation.tokenizer,
            cache=cache,
            note=self._console.note,
        )
        return folder, difference


def _cost(name: str, found: Measurement) -> list[str]:
    return [name, milliseconds(found.latency_s), interval_of(found), percent(found.overhead.middle)]
