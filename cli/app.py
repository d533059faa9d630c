"""Commands of the command line. Their libraries are imported when a command runs."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from adaptare import VERSION
from adaptare.commands.calls import operators, parts
from adaptare.commands.check import check
from adaptare.commands.compare import compare
from adaptare.commands.dataset import dataset
from adaptare.commands.devices import devices
from adaptare.commands.export import ExportCommand, export
from adaptare.commands.fit import fit, predict
from adaptare.commands.overhead import overhead
from adaptare.commands.profile_adapters import profile
from adaptare.commands.report import report, serve
from adaptare.commands.search import search, shrink
from adaptare.commands.store import store
from adaptare.commands.train import recipes, train
from adaptare.commands.tune import demo, tune
from adaptare.commands.verify import verify
from adaptare.console import WORDS


class Commands(TyperGroup):
    """All commands; keeps the words that they were called with."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the words after the name of the program."""
        WORDS.set(tuple(args))
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="adaptare",
    cls=Commands,
    help="What a low-rank adapter costs on its device: measured, predicted, and searched under a latency budget.",
    epilog="Exit codes: 0 done; 1 the answer is no; 2 bad input; 3 a device, file or network failed; 4 the answer is "
    "not certain yet: measure longer; 130 interrupted.\n\n"
    "Example: adaptare overhead smollm2-135m --rank 16 --device ort-cpu:int4",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(devices)
app.add_typer(dataset)
EXAMPLES: dict[Callable[..., Any], str] = {
    overhead: "overhead smollm2-135m --rank 4,16,64 --sites q_proj,v_proj --device ort-cpu:int4,threads=1",
    operators: "operators smollm2-135m --rank 16 -d 64 --device ort-cpu:int4",
    parts: "parts smollm2-135m --rank 16 -p 64",
    profile: "profile smollm2-135m --device ort-cpu:int4 --space kinds --rank 0,4,16 --count 32",
    store: "store adaptare.db",
    compare: "compare before.db after.db --device ort-cpu:int4 --band 2%",
    report: "report adaptare.db trained/front.json -o report.html --png figures",
    serve: "serve adaptare.db --name phone --host 192.168.1.20",
    fit: "fit --device ort-cpu:int4 -d 64",
    predict: "predict predictor-decode ADAPTER_FOLDER --budget decode=20ms",
    tune: "tune smollm2-135m --data tasks.jsonl --device ort-cpu:int4 --budget decode=20ms -o tuned",
    recipes: "recipes --json",
    train: "train smollm2-135m --data tasks.jsonl --recipe placement -o trained",
    search: "search trained --predictor predictor-decode --budget overhead=5%",
    shrink: "shrink ADAPTER_FOLDER --base smollm2-135m --predictor predictor-decode --budget overhead=5% -o smaller",
    verify: "verify trained/front.json --repeats 5",
    export: "export trained/front.json --winner 1 --to onnx -o exported",
    check: "check ADAPTER_FOLDER --runtime onnx --file exported",
    demo: "demo --quick --budget decode=20ms",
}
for command, example in EXAMPLES.items():
    app.command(cls=ExportCommand if command is export else None, epilog=f"Example: adaptare {example}")(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def options(version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True)) -> None:
    """Accepts the options that precede the command."""
