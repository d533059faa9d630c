from collections.abc import Iterator
from functools import singledispatch

from adaptare.core.table import Column, Section, Table
from adaptare.exit_codes import ExitCode
from adaptare.views import command_line, overhead, verify
from adaptare.views.fit import error_sections
from adaptare.views.search import loss
from adaptare.workflows.fit.fitting import FitResult
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.search.result import Choice
from adaptare.workflows.train.result import TrainResult
from adaptare.workflows.tuning import RANKS, TuneResult
from adaptare.workflows.verification import met

LOSSES = (
    Column[Choice]("", lambda row: row.name),
    Column[Choice]("loss", lambda row: loss(row.val_loss)),
    Column[Choice]("test loss", lambda row: loss(row.test_loss)),
)


def exit_code(result: TuneResult) -> ExitCode:
    """Exit code of the verification."""
    return verify.exit_code(result.verification)


@singledispatch
def sections(result: TuneResult | OverheadReport | FitResult | TrainResult) -> Iterator[Section]:
    """The verification, the written files, and what to run next; or the result of one step."""
    raise TypeError(f"tuning has no {type(result).__name__}")


@sections.register
def _(result: TuneResult) -> Iterator[Section]:
    verified, delivered = result.verification, result.delivered
    yield from verify.verdicts(verified)
    if delivered.alone:
        yield Table("The best winners, each trained alone", LOSSES, delivered.alone)
    for each in delivered.exports:
        checked = "" if each.difference is None else f"; logits within {each.difference:.0e} of the largest of torch's"
        yield f"{delivered.name}, for {each.kind}: {each.folder}{checked}"
    yield f"This call took {result.elapsed_s / 60:.1f} minutes. What to run next:"
    front = delivered.exports[0].folder.parent / "front.json"
    best = next(iter(met(verified)), 1)
    again = command_line("overhead", result.model, "--rank", RANKS[-1], "--device", result.device)
    merged = command_line("export", front, "--winner", best, "--to", "merged", "-o", "FOLDER")
    yield f"  {again}  # what an adapter costs"
    yield f"  {command_line('verify', front)}  # measure the winners once more"
    yield f"  {merged}  # a plain model for transformers"


@sections.register
def _(result: OverheadReport) -> Iterator[Section]:
    yield Table(f"An adapter of rank {RANKS[-1]} on all {result.linears} linears", overhead.ROWS, result.rows)


@sections.register
def _(result: FitResult) -> Iterator[Section]:
    yield from error_sections(result)


@sections.register
def _(result: TrainResult) -> Iterator[Section]:
    yield (
        f"Loss on held-out completions: {result.base_loss:.3f} without adapter, {result.full_loss:.3f} with rank "
        f"{RANKS[-1]} everywhere."
    )
