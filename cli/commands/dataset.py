from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from adaptare.console import command, console

dataset = typer.Typer(
    name="dataset",
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Public data sets of measurements. Exports stores to Parquet, validates and merges them.",
    epilog="Example: adaptare dataset export adaptare.db -o my-phone",
)
LicenceOption = Annotated[
    str, typer.Option("--licence", help="Identifier of Hugging Face for the card, such as cc-by-4.0.")
]
TitleOption = Annotated[str, typer.Option("--title", help="Name on the card.", show_default="that of the folder")]
CostTableOption = Annotated[
    Path | None,
    typer.Option(
        "--cost-table",
        help="Also writes seconds by rank and number of linears, for simulators; FILE.csv or FILE.json.",
        show_default=False,
    ),
]


@dataset.command("export", epilog="Example: adaptare dataset export adaptare.db -o my-phone --cost-table costs.csv")
@command
def export_command(
    stores: Annotated[list[str], typer.Argument(metavar="STORE", help="Files or database URLs.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder of the data set; its files are replaced.")],
    cost_table: CostTableOption = None,
    licence: LicenceOption = "unknown",
    title: TitleOption = "",
) -> int:
    """Writes the measurements of stores as Parquet.

    The data set has a card, and no addresses or paths.
    """
    from adaptare.views import dataset as view
    from adaptare.workflows.dataset.cost_table import check_table, costs_of, write_costs
    from adaptare.workflows.dataset.files import export_dataset
    from adaptare.workflows.dataset.rows import Row, distinct

    if cost_table:
        check_table(cost_table)

    def before(rows: Sequence[Row]) -> None:
        if cost_table:
            write_costs(costs_of(distinct(rows)), cost_table)

    told = console().feedback
    written = export_dataset(stores, folder, licence=licence, title=title, before=before, feedback=told)
    return console().show(written, view.sections)


@dataset.command("validate", epilog="Example: adaptare dataset validate my-phone")
@command
def validate_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a data set.")],
) -> int:
    """Compares a data set with its schema.

    Units and ranges of values are compared too. Exit code 1 if it is not valid.
    """
    from adaptare.views import dataset as view
    from adaptare.workflows.dataset.files import faults_of

    with console().progress("validating") as update:
        faults = {"folder": folder, "faults": list(faults_of(folder, update=update))}
    return console().show(faults, view.fault_sections, view.exit_code)


@dataset.command("merge", epilog="Example: adaptare dataset merge my-phone my-board -o both")
@command
def merge_command(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of data sets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the merged data set.")],
    licence: LicenceOption = "unknown",
    title: TitleOption = "",
) -> int:
    """Writes the rows of several data sets as one.

    Equal rows are written once.
    """
    from adaptare.views import dataset as view
    from adaptare.workflows.dataset.files import merge_datasets

    written = merge_datasets(folders, output, licence=licence, title=title, feedback=console().feedback)
    return console().show(written, view.sections)
