"""Commands of the command line. Their libraries are imported when a command runs."""

import typer

from adaptare import VERSION
from adaptare.commands.check import check
from adaptare.commands.compare import compare
from adaptare.commands.devices import devices
from adaptare.commands.export import ExportCommand, export
from adaptare.commands.fit import fit
from adaptare.commands.live import serve
from adaptare.commands.operators import operators
from adaptare.commands.overhead import overhead
from adaptare.commands.parts import parts
from adaptare.commands.predict import predict
from adaptare.commands.profile_adapters import profile
from adaptare.commands.recipes import recipes
from adaptare.commands.report import report
from adaptare.commands.search import search
from adaptare.commands.shrink import shrink
from adaptare.commands.store import store
from adaptare.commands.train import train
from adaptare.commands.tune import demo, tune
from adaptare.commands.verify import verify

app = typer.Typer(
    name="adaptare",
    help="What a low-rank adapter costs on its device: measured, predicted, and searched under a latency budget.",
    epilog="Exit codes: 0 done; 1 the answer is no; 2 bad input; 3 a device, file or network failed; 4 the answer is "
    "not certain yet: measure longer; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
MEASURING = (overhead, operators, parts, profile, store, compare, report, serve)
PREDICTING = (fit, predict)
SEARCHING = (tune, recipes, train, search, shrink, verify, export, check, demo)
app.add_typer(devices)
for command in (*MEASURING, *PREDICTING, *SEARCHING):
    app.command(cls=ExportCommand if command is export else None)(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def options(version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True)) -> None:
    """Accepts the options that precede the command."""
