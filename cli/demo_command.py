"""`adaptare demo`: the whole path on a real model."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptare.arguments import DEFAULT_DEVICE, CacheOption, DataOption, DeviceOption, JsonOption, SeedOption
from adaptare.console import ANSWER_IS_NO, Console, between, command, milliseconds, percent, refuse

if TYPE_CHECKING:
    from adaptare.devices import Device
    from adaptare.profiler import Measurement, RankSpace, Store, Workload

RANKS = (0, 2, 4, 8, 16)


@dataclass(frozen=True)
class Effort:
    """How long each part may take.

    Args:
        configurations: To measure for the predictor.
        profile_s: For the rounds of that.
        steps: Of training.
        train_s: After which training stops short.
        evaluations: Of the search, and as many of the random search beside it.
        held_out: Examples that a loss is computed on.
        verify_s: For the rounds of each opening of the winners.
        openings: Of the winners.
    """

    configurations: int
    profile_s: float
    steps: int
    train_s: float
    evaluations: int
    held_out: int
    verify_s: float
    openings: int


QUICK = Effort(20, 30.0, 30, 75.0, 24, 24, 30.0, 1)
USUAL = Effort(32, 80.0, 90, 240.0, 40, 40, 35.0, 3)


@command
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="At most 6 minutes on 2 cores, instead of 15.")] = False,
    model: Annotated[str, typer.Option("--model", help="Any model with weights.")] = "smollm2-135m",
    device: DeviceOption = DEFAULT_DEVICE,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help="For decode.", show_default="half of the way from the base to rank 16 everywhere"
        ),
    ] = None,
    data: DataOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that comes out.")] = Path(
        "adaptare-demo"
    ),
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """The whole path on a real 135M model: profile, fit, train, search under a budget, measure again, export."""
    from adaptare.adaptation import load_adaptation, train_adaptation
    from adaptare.devices import connect
    from adaptare.export_check import largest_export_difference
    from adaptare.fit_command import show_error_card
    from adaptare.predictor import LatencyPredictor, save_predictor
    from adaptare.profiler import Store, Workload, named_space, open_model
    from adaptare.search import InfeasibleBudgetError, export_peft, read_budget
    from adaptare.searching import limit_of, select
    from adaptare.selection import save_selection
    from adaptare.verification import show_verified, verified_to_json, verify_choices

    started = time.monotonic()
    console = Console(as_json=as_json)
    effort = QUICK if quick else USUAL
    wanted = read_budget(budget) if budget else None
    target = connect(device)

    def begin(step: str) -> None:
        console.note(f"[{time.monotonic() - started:3.0f} s] {step}")

    begin(f"1 of 6: opening {model}")
    source = open_model(model, cache=cache)
    space = named_space("blocks", source.shape, ranks=RANKS)
    adaptation = load_adaptation(source, data=data, seed=seed, max_tokens=64, held_out=effort.held_out)
    output.mkdir(parents=True, exist_ok=True)
    store = Store(output / "adaptare.db")

    begin(f"2 of 6: measuring {effort.configurations} configurations on {target.info().device}")
    template = Workload(source.shape)
    full, full_merged, rows = _profile(template, space, effort, target, store, seed, console)
    base_s = full.reference_s
    console.table(
        f"What an adapter of rank 16 on all {space.n_sites} linears costs in decode (base {milliseconds(base_s)} ms)",
        ["applied", "ms", "95 % interval", "overhead"],
        [_cost("merged into the base", full_merged), _cost("swappable beside it", full)],
    )

    begin("3 of 6: learning to predict latency")
    predictor = LatencyPredictor().fit(rows)
    save_predictor(predictor, output / "predictor")
    show_error_card(predictor, console)
    wanted = wanted or read_budget(f"decode={1e3 * (base_s + full.latency_s) / 2:.4f}ms")
    budget_s = limit_of(wanted, predictor)

    begin(f"4 of 6: training one super-adapter of {space.n_sites} sites, at most {effort.train_s:.0f} s")
    trained = train_adaptation(
        adaptation,
        space,
        folder=output / "super-adapter",
        steps=effort.steps,
        batch_size=8,
        learning_rate=2e-3,
        seed=seed,
        console=console,
        max_seconds=effort.train_s,
    )
    console.say(f"held-out loss {trained.base_loss:.3f} without adapter, {trained.full_loss:.3f} with all of it")

    begin(f"5 of 6: searching under {milliseconds(budget_s)} ms")
    try:
        selection = select(
            adaptation,
            trained.super_adapter,
            predictor,
            validation=trained.validation,
            budget=wanted,
            evaluations=effort.evaluations,
            winners=3,
            seed=seed,
            console=console,
        )
    except InfeasibleBudgetError as error:
        refuse(str(error))
        raise typer.Exit(ANSWER_IS_NO) from error
    front = output / "front.json"
    save_selection(selection, front, folder=output / "super-adapter", predictor=str(output / "predictor"))

    begin("6 of 6: measuring the winners again, and writing them")
    verified = verify_choices(
        [*selection.winners, *selection.baselines],
        template,
        device=target,
        half_width=0.004,
        seconds=effort.verify_s,
        openings=effort.openings,
        seed=seed + 1,
        store=store,
        console=console,
    )
    winners, others = verified[: len(selection.winners)], verified[len(selection.winners) :]
    folders = [output / each.name.replace(" ", "-") for each in selection.winners]
    for each, folder in zip(selection.winners, folders, strict=True):
        export_peft(trained.super_adapter, each.config, folder, base_name=adaptation.task.model)
    differences = largest_export_difference(trained.super_adapter, [each.config for each in selection.winners], folders)
    show_verified(winners, others, selection, console)
    elapsed_s = time.monotonic() - started
    for text in _closing(folders, front, differences, elapsed_s):
        console.say(text)
    content = verified_to_json(winners, others, selection)
    for row, folder, difference in zip(content["winners"], folders, differences, strict=True):
        row.update(export=str(folder), export_difference=difference)
    console.result(
        {
            "model": model,
            "device": target.info().device,
            "phase": "decode",
            **content,
            "full_s": full.latency_s,
            "full_lower_s": full.lower_s,
            "full_upper_s": full.upper_s,
            "full_merged_s": full_merged.latency_s,
            "predictor": {"chosen": predictor.chosen, **asdict(predictor.error_card)},
            "training": {"steps": trained.steps, "base_loss": trained.base_loss, "full_loss": trained.full_loss},
            "elapsed_s": elapsed_s,
        }
    )
    if not any(each.meets(selection.budget_s) for each in winners):
        console.note("no winner was measured within the budget; run it again without --quick, on a quieter machine")
        raise typer.Exit(ANSWER_IS_NO)


def _profile(
    template: "Workload",
    space: "RankSpace",
    effort: Effort,
    device: "Device",
    store: "Store",
    seed: int,
    console: Console,
) -> "tuple[Measurement, Measurement, list[Measurement]]":
    """Measurements of the largest adapter, of the same merged, and of all swappable ones."""
    from adaptare.campaign import measure
    from adaptare.devices import DeviceError
    from adaptare.profiler import design, precise_within

    workloads = [
        template.with_adapter(space.decode(codes)) for codes in design(space, effort.configurations, seed=seed)
    ]
    full = workloads[0]
    wanted = [full, full.merged, *workloads[1:]]
    known = {each.workload: each for each in store.measurements(device.info(), template.base) if each.complete}
    missing = [workload for workload in wanted if workload not in known]
    if missing:
        measured = measure(
            missing,
            device=device,
            rule=precise_within(0.004, effort.profile_s),
            seconds=effort.profile_s,
            seed=seed,
            openings=1,
            store=store,
            console=console,
            title="measuring",
        )
        known.update((each.workload, each) for each in measured if not each.failure)
    if full not in known or full.merged not in known:
        raise DeviceError("rank 16 everywhere could not be measured, so there is no default budget; see above why")
    return known[full], known[full.merged], [known[workload] for workload in workloads if workload in known]


def _cost(name: str, found: "Measurement") -> list[str]:
    interval = between(milliseconds(found.lower_s), milliseconds(found.upper_s))
    return [name, milliseconds(found.latency_s), interval, percent(found.overhead.middle)]


def _closing(folders: list[Path], front: Path, differences: list[float], elapsed_s: float) -> list[str]:
    return [
        f"Stock PEFT loads every winner: logits differ by at most {max(differences):.1e} from the super-adapter's.",
        f"Adapters: {', '.join(str(folder) for folder in folders)}",
        f"All of it took {elapsed_s / 60:.1f} minutes. What to run next:",
        "  adaptare overhead smollm2-135m --rank 16        what an adapter costs, in prefill and decode",
        f"  adaptare verify {front}        measure the winners once more",
        f"  adaptare export {front} --winner 1 --to merged -o FOLDER        a plain model for transformers",
        "  adaptare profile --help        your own model, space and device",
    ]
