"""`adaptare export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, command


@command
def export(
    front: Annotated[Path, typer.Argument(metavar="FRONT", help="What adaptare search wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    winner: Annotated[int, typer.Option("--winner", help="Which of the winners.")] = 1,
    to: Annotated[
        Literal["peft", "merged"], typer.Option("--to", help="An adapter for PEFT, or a whole model for transformers.")
    ] = "peft",
    as_json: JsonOption = False,
) -> None:
    """Writes a winner as files that stock PEFT or transformers load."""
    from adaptare.adaptation import reload_adaptation
    from adaptare.devices import InputError
    from adaptare.search import export_merged, export_peft
    from adaptare.selection import load_selection

    console = Console(as_json=as_json)
    selection, folder, _ = load_selection(front)
    if not 1 <= winner <= len(selection.winners):
        raise InputError(f"--winner must be 1 to {len(selection.winners)} in {front}, not {winner}")
    choice = selection.winners[winner - 1]
    adaptation, super_adapter = reload_adaptation(folder)
    base = adaptation.task.model
    if to == "peft":
        export_peft(super_adapter, choice.config, output, base_name=base)
        console.say(f"written: {output}; load it with: PeftModel.from_pretrained(base, {str(output)!r})")
    else:
        export_merged(super_adapter, choice.config, output, base_name=base, tokenizer=adaptation.tokenizer)
        console.say(f"written: {output}; load it with: AutoModelForCausalLM.from_pretrained({str(output)!r})")
    console.result({"folder": str(output), "kind": to, "base": base, "sites": dict(choice.config.ranks)})
