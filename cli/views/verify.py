from collections.abc import Callable, Iterator

from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import displayed, percent
from adaptare.exit_codes import ExitCode
from adaptare.profiler.analysis import Interval
from adaptare.profiler.store import CALIBRATION_HOLDS
from adaptare.profiler.workloads import IN_WEIGHTS
from adaptare.views import command_line
from adaptare.views.accuracies import accuracy_table
from adaptare.views.search import loss
from adaptare.workflows.search.result import SHRUNK, Choice, Measured, SearchResult
from adaptare.workflows.verification import met
from adaptare.workflows.verification import verdicts as winner_verdicts

NOT_MEASURED = Measured()


def exit_code(result: SearchResult) -> ExitCode:
    """0 if a winner meets the budget, 3 if one was not measured, 4 if one is ambiguous, 1 if all missed it."""
    verdicts = set(winner_verdicts(result))
    codes = {"met": ExitCode.DONE, None: ExitCode.WORLD_FAILED, "ambiguous": ExitCode.AMBIGUOUS}
    return next((code for verdict, code in codes.items() if verdict in verdicts), ExitCode.ANSWER_IS_NO)


def sections(result: SearchResult) -> Iterator[Section]:
    """The verification, and the next step if a winner meets the budget."""
    yield from verdicts(result)
    if result.file and result.file.name != SHRUNK and met(result):
        number = met(result)[0]
        winner = result.winners[number - 1]
        in_model = winner.mode in IN_WEIGHTS or winner.configuration.cuts_base
        words = ("--winner", number, *(("--to", "onnx") if in_model else ()), "--output", "FOLDER")
        yield f"next: {command_line('export', result.file, *words)}"


def verdicts(result: SearchResult) -> Iterator[Section]:
    """Measured choices, accuracies, and advice if no winner meets the budget."""
    yield from map(measured_table, result.under_each)
    if result.accuracies:
        yield accuracy_table(result.accuracies, "test")
    code = exit_code(result)
    if code == ExitCode.AMBIGUOUS:
        rows = [_of(row) for each in result.under_each for row in each.winners]
        unclear = next(row for row in rows if row.verdict == "ambiguous")
        longer = "with more --openings" if unclear.too_few_openings else "longer with --repeats or --seconds"
        yield Note(
            f"whether a winner is within {budgets(result)} is not certain yet; measure {longer}, on a quieter machine, "
            "or search with a lower budget; a verdict at this point needs an interval of "
            f"{unclear.confidence:.1%}"
        )
    if code == ExitCode.ANSWER_IS_NO:
        slower = _of(result.winners[0]).slowdown or 0.0
        advice = "profile more, or search with a lower budget"
        if abs(slower) > CALIBRATION_HOLDS:
            advice = f"the base is {percent(slower)} off what it took when profiled: profile, fit and search again"
        yield Note(f"no winner is within {budgets(result)}; {advice}")


def budgets(result: SearchResult) -> str:
    """All budgets as written."""
    return " and ".join(str(each.budget) for each in result.under_each)


def measured_table(result: SearchResult) -> Table[Choice]:
    """Winners, sorted by loss, and baselines with their measurements."""
    unit, text = displayed(result.budget.unit)

    def of(show: Callable[[Measured], str]) -> Callable[[Choice], str]:
        return lambda row: show(_of(row))

    def ends(interval: Interval | None, text: Callable[[float], str], row: Measured) -> str:
        return interval.ends(text, too_few_openings=row.too_few_openings) if interval else ""

    columns = (
        Column[Choice]("", lambda row: row.name),
        Column[Choice]("sites", lambda row: str(len(row.configuration.ranks)), 5),
        Column[Choice](f"predicted {unit}", lambda row: text(row.predicted.middle), 6),
        Column[Choice](f"measured {unit}", of(lambda row: text(row.value.middle) if row.value else "failed")),
        Column[Choice](f"{unit}, 95 %", of(lambda row: ends(row.value, text, row))),
        Column[Choice]("overhead", of(lambda row: percent(row.overhead.middle) if row.overhead else ""), 2),
        Column[Choice]("overhead, 95 %", of(lambda row: ends(row.overhead, percent, row)), 3),
        Column[Choice]("budget", of(lambda row: row.verdict or "no")),
        Column[Choice]("loss", lambda row: loss(row.val_loss), 1),
        Column[Choice]("test loss", lambda row: loss(row.test_loss), 4),
    )
    every = (*result.winners, *result.baselines)
    base = f"base {text(result.base)} {unit}"
    slowdown = next((_of(row).slowdown for row in every if _of(row).slowdown is not None), None)
    if slowdown is not None:
        base += f", in this session {text(result.base * (1 + slowdown))} {unit} ({percent(slowdown)})"
    return Table(f"Budget {result.budget}: {text(result.limit)} {unit}; {base}", columns, every)


def _of(choice: Choice) -> Measured:
    return choice.measured or NOT_MEASURED
