"""Commands of the command line. Their libraries are imported when a command runs."""

import typer

from adaptare import VERSION
from adaptare.compare_command import compare
from adaptare.demo_command import demo
from adaptare.devices_command import devices
from adaptare.export_command import export
from adaptare.fit_command import fit
from adaptare.interpolate_command import interpolate
from adaptare.operators_command import operators
from adaptare.overhead_command import overhead
from adaptare.parts_command import parts
from adaptare.predict_command import predict
from adaptare.profile_command import profile
from adaptare.recipes_command import recipes
from adaptare.search_command import search
from adaptare.shrink_command import shrink
from adaptare.store_command import store
from adaptare.train_command import train
from adaptare.verify_command import verify

app = typer.Typer(
    name="adaptare",
    help="What a low-rank adapter costs on its device: measured, predicted, and searched under a latency budget.",
    epilog="Exit codes: 0 done; 1 the answer is no; 2 bad input; 3 the device or the world failed; 4 the answer is not "
    "certain yet: measure longer; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
MEASURING = (overhead, operators, parts, profile, store, compare)
PREDICTING = (fit, interpolate, predict)
SEARCHING = (recipes, train, search, shrink, verify, export, demo)
app.add_typer(devices)
for command in (*MEASURING, *PREDICTING, *SEARCHING):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def options(version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True)) -> None:
    """Accepts the options that precede the command."""
