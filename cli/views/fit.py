"""View of `adaptare fit`."""

from collections.abc import Iterator

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Note, Section
from adaptare.workflows.fit.fit_report import error_sections
from adaptare.workflows.fit.fitting import FitResult


def sections(result: FitResult) -> Iterator[Section]:
    """Errors, what limits the predictor, and where it is."""
    yield from error_sections(result)
    for length, error in result.base_left_out.items():
        yield f"the base at length {length}, left out and taken from its neighbours, has an error of {error:+.1%}"
    if result.kept:
        yield Note(
            f"error: the predictor {result.predictor} is kept: it {result.kept}; write this one with --replace, or "
            "elsewhere with --output"
        )
        return
    if result.error_card.sessions == 1:
        yield Note(
            "all rows are of one session, so the intervals allow for the shift between sessions of other devices; "
            "profile again later, in another session, to learn that of this device"
        )
    if result.transfer and not result.source:
        yield Note(
            f"{result.transfer} did not lower the error on held-out adapters, so nothing of it is in this predictor"
        )
    written = " and ".join(map(str, result.files))
    yield f"written: {written}; next: adaptare predict {result.predictor} ADAPTER"


def exit_code(result: FitResult) -> ExitCode:
    """1 if an earlier predictor is kept."""
    return ExitCode.ANSWER_IS_NO if result.kept else ExitCode.DONE
