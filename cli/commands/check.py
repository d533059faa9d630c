from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import CacheOption, Quantisation, registered
from adaptare.console import command, console, requested


@command
def check(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT folder.", show_default=False)],
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            help="peft, merged, onnx, genai, llama or openvino are run; vllm and olive are judged by their rule.",
            autocompletion=registered("adaptare.checks"),
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--file", help="What the runtime loads: a folder, or a file in it.", show_default="ADAPTER"),
    ] = None,
    adapter_file: Annotated[
        Path | None,
        typer.Option(
            "--adapter-file",
            help="Adapter that a model for ONNX Runtime, llama.cpp or OpenVINO is given.",
            show_default="adapter.onnx_adapter beside the model",
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model.", show_default="the one that ADAPTER names")
    ] = None,
    quantisation: Annotated[
        Quantisation | None,
        typer.Option(
            "--quantise",
            help="Quantisation of the runtime's weights.",
            show_default="as an export of adaptare says, else none",
        ),
    ] = None,
    cache: CacheOption = None,
) -> int:
    """Checks that a runtime applies an adapter as PEFT does.

    Logits tell whether it is applied on every site and at the right scale.
    """
    from adaptare.search.checking import adapter_runtime
    from adaptare.views import check as view
    from adaptare.workflows.checking import CheckRequest, check_adapter

    chosen = adapter_runtime(runtime)
    result = check_adapter(requested(CheckRequest, runtime=chosen), feedback=console().feedback)
    return console().show(result, view.sections, view.exit_code)
