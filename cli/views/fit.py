from collections.abc import Iterator
from typing import Final

from adaptare.core.chart import Chart, Panel, Series
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import counted, displayed, megabytes, percent
from adaptare.exit_codes import ExitCode
from adaptare.predictor import FittedPredictor
from adaptare.views import command_line
from adaptare.workflows.fit.fitting import FitResult
from adaptare.workflows.fit.predicting import PredictedRow, PredictResult

COLUMNS: Final[tuple[Column[tuple[str, float]], ...]] = (
    Column("predictor", lambda row: row[0]),
    Column("mean absolute error, points of overhead (1 = 1 % of the base)", lambda row: f"{row[1]:.2f}"),
)


def error_sections(predictor: FitResult | FittedPredictor) -> Iterator[Section]:
    """Errors of a predictor and of other regressors."""
    card = predictor.error_card
    source = f"{card.rows} rows of {counted(card.sessions, 'session')} and {counted(card.openings, 'opening')}"
    source += f", {card.composed} of them composed from stubs" * bool(card.composed)
    rows = [(f"chosen: {predictor.chosen}", card.mae_overhead_points), *card.baselines.items()]
    yield Table(f"Error on adapters held out of the fit ({source})", COLUMNS, rows)
    if predictor.reason:
        yield f"{predictor.chosen}: {predictor.reason}"
    upper = "unknown" if card.mape_upper is None else f"{card.mape_upper:.2f} %"
    correlation = "unknown" if card.kendall_tau is None else f"{card.kendall_tau:.2f}"
    yield (
        f"mean absolute error {card.mape:.2f} % of {predictor.quantity}, 95 % upper bound {upper}; rank correlation "
        f"{correlation}; intervals of ±{card.half_width_points:.2f} points contain {100 * card.coverage:.0f} % of the "
        "held-out rows"
    )


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
    yield f"written: {written}; next: {command_line('predict', result.predictor, 'ADAPTER')}"


def exit_code(result: FitResult) -> ExitCode:
    """1 if an earlier predictor is kept."""
    return ExitCode.ANSWER_IS_NO if result.kept else ExitCode.DONE


def predicted_sections(result: PredictResult) -> Iterator[Section]:
    """A table of the adapters."""
    unit, number = displayed(result.unit)
    columns: list[Column[PredictedRow]] = [
        Column("adapter", lambda row: row.adapter),
        Column("sites", lambda row: str(row.sites), 3),
        Column(unit, lambda row: number(row.predicted.middle)),
        Column(
            f"{100 * result.level:.0f} %, {'this' if result.recalibration else 'a new'} session",
            lambda row: row.predicted.ends(number),
        ),
        Column("overhead", lambda row: percent(row.overhead.middle)),
        Column(f"{100 * result.level:.0f} % interval", lambda row: row.overhead.ends(percent)),
        Column("memory MB", lambda row: megabytes(row.memory_bytes), 2),
    ]
    if result.budget:
        heading = f"probability to meet {result.budget}"
        columns.append(Column(heading, lambda row: "" if row.within is None else f"{row.within:.0%}"))
    base = f"{result.workload}; base {number(result.base)} {unit}"
    yield Table(f"{result.origin.capitalize()} for {result.device}: {base}", columns, result.rows)
    if outside := [row.adapter for row in result.rows if row.extrapolates and row.sites]:
        yield Note(f"outside the profiled range of the predictor: {', '.join(outside)}; intervals are not valid there")
    budget = result.budget or "overhead=5%"
    following = command_line("search", "FOLDER", "--predictor", result.predictor, "--budget", budget)
    yield Note(f"next: adaptare train MODEL -o FOLDER, then {following}")


def parity(result: FitResult) -> Chart:
    """Prediction of every adapter held out from the fit, with its interval, over its measured value."""
    factor, unit = (1e3, "ms") if result.unit == "s" else (1.0, result.unit)
    lower, middle, upper = (
        [factor * getattr(row.predicted, end) for row in result.held_out] for end in ("lower", "middle", "upper")
    )
    held_out = Series("held out", [factor * row.measured for row in result.held_out], middle, lower, upper)
    panel = Panel(
        f"{result.workload} on {result.device.device}",
        f"measured, {unit}",
        f"predicted, held out, {unit}",
        [held_out],
        {"base": factor * result.base},
        diagonal=True,
    )
    return Chart("parity", "Predicted and measured, of adapters held out from the fit", [panel])
