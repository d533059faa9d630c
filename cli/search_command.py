"""`adaptare search`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import JsonOption, SeedOption
from adaptare.console import ANSWER_IS_NO, Console, between, command, milliseconds, refuse


@command
def search(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What adaptare train wrote.")],
    predictor: Annotated[Path, typer.Option("--predictor", help="What adaptare fit wrote.")],
    budget: Annotated[str, typer.Option("--budget", help="decode=20ms, prefill=80ms or overhead=5%.")],
    evaluations: Annotated[int, typer.Option("--evaluations", min=1, help="How many losses to compute.")] = 120,
    winners: Annotated[int, typer.Option("--winners", help="How many of the front to name.", min=1)] = 3,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of the result.", show_default="FOLDER/front.json")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Finds the adapters with the lowest loss whose predicted latency stays within a budget."""
    from adaptare.adaptation import reload_adaptation
    from adaptare.devices import InputError
    from adaptare.predictor import load_predictor
    from adaptare.search import CompletionLoss, InfeasibleBudgetError, read_budget
    from adaptare.searching import limit_of, select
    from adaptare.selection import save_selection, selection_to_json
    from adaptare.task import load_task

    console = Console(as_json=as_json)
    wanted = read_budget(budget)
    fitted = load_predictor(predictor)
    limit_of(wanted, fitted)
    load_task(folder)  # says what is wrong with it before its weights are loaded
    file = output or folder / "front.json"
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"the result cannot be written to {str(file)!r}; name a file in a folder that is there")
    adaptation, super_adapter = reload_adaptation(folder)
    try:
        selection = select(
            adaptation,
            super_adapter,
            fitted,
            validation=CompletionLoss(super_adapter, adaptation.examples.validation),
            budget=wanted,
            evaluations=evaluations,
            winners=winners,
            seed=seed,
            console=console,
        )
    except InfeasibleBudgetError as error:
        refuse(str(error))
        raise typer.Exit(ANSWER_IS_NO) from error
    save_selection(selection, file, folder=folder, predictor=predictor)
    console.table(
        f"Budget {selection.budget}: {milliseconds(selection.budget_s)} ms; base {milliseconds(selection.base_s)} ms",
        ["", "sites", f"{selection.origin} ms", f"{fitted.model.level:.0%} interval", "loss", "test loss"],
        [
            [
                each.name,
                str(len(each.config.ranks)),
                milliseconds(each.predicted_s[0]),
                between(milliseconds(each.predicted_s[1]), milliseconds(each.predicted_s[2])),
                f"{each.val_loss:.3f}",
                f"{each.test_loss:.3f}",
            ]
            for each in (*selection.winners, *selection.baselines)
        ],
    )
    if outside := [each.name for each in selection.winners if each.extrapolates]:
        console.note(
            f"outside what the predictor was fitted on: {', '.join(outside)}; its interval does not hold there"
        )
    console.say(f"written: {file}; only a measurement can say that a budget is met; next: adaptare verify {file}")
    console.result({"file": str(file), **selection_to_json(selection)})
