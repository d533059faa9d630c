import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from adaptare.core.chart import Chart, HeatMap, Panel, Place, Series
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import counted, displayed
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads import layer_of
from adaptare.views import command_line
from adaptare.views.accuracies import accuracy_table
from adaptare.workflows.search.result import Choice, Contribution, Measured, SearchResult
from adaptare.workflows.target import spelled

ONLY = "only a measurement can say that a budget is met"
LOSS: Final = "validation loss, nats per token"
# Losses that differ by less are equal but for rounding, nats per token.
SAME_LOSS: Final = 1e-6
# Kinds of linears that an axis sets, and what such axes contribute.
OfKinds: TypeAlias = tuple[str, list[Contribution]]
# SI unit -> its factor in charts, and the unit there.
UNITS: Final = {"s": (1e3, "ms"), "B": (1e-6, "MB"), "J": (1e3, "mJ")}


def sections(result: SearchResult) -> Iterator[Section]:
    """Winners and baselines with their predictions and losses, and accuracies."""
    if merged := result.merged_instead:
        yield Note(
            f"where one adapter is enough, merge it: {merged.name} adds no latency, and its test loss of "
            f"{loss(merged.test_loss)} is not measurably worse than that of winner 1 "
            f"({_difference(merged.loss_difference)}); the winners are for adapters that are swapped at run time"
        )
    for each in result.under_each:
        yield choices(each, (*each.winners, *each.baselines))
        if each.contributions:
            yield by_kind(each)
    if result.accuracies:
        yield accuracy_table(result.accuracies, "test")
    if result.bf16:
        yield Note("losses are computed in bfloat16, and compare with those of other searches with --bf16 alone")
    if outside := [choice.name for choice in result.winners if choice.extrapolates]:
        yield Note(f"outside the profiled range of the predictor: {', '.join(outside)}; intervals are not valid there")
    if result.polished:
        yield f"The first winner with further training, for PEFT: {result.polished}"
    yield f"written: {result.file}; {ONLY}; next: {command_line('verify', result.file)}"


def shrunk_sections(result: SearchResult) -> Iterator[Section]:
    """The original, the cut, and simpler cuts."""
    (written,), (original, *others) = result.winners, result.baselines
    yield choices(result, (original, written, *others))
    if original.predicted.upper <= result.limit:
        yield Note("the original is predicted to meet this budget as it is; a smaller one would cut more")
    if written.extrapolates:
        yield Note("the result lies outside the profiled range of the predictor; its interval is not valid there")
    if written.test_loss is None:
        yield Note("no loss was computed, the most energy was kept; --data FILE searches by held-out loss instead")
    place = result.place
    device = spelled(place.device, place.quantisation, place.dtype)
    phase = ("-p", "0", "-d") if place.phase == "decode" else ("-d", "-1", "-p")
    again = command_line("overhead", place.model, result.folder, "--device", device, *phase, place.length)
    yield f"written: {result.folder}; {ONLY}; next: {again}"


def choices(result: SearchResult, rows: tuple[Choice, ...]) -> Table[Choice]:
    """Table of choices; columns that no row has are left out."""
    unit, text = displayed(result.budget.unit)
    columns = [
        Column[Choice]("", lambda row: row.name),
        Column[Choice]("sites", lambda row: str(len(row.configuration.ranks)), 1),
        Column[Choice]("ranks of how many linears", lambda row: row.configuration.describe(), 2, folds=True),
        Column[Choice](f"{result.origin} {unit}", lambda row: text(row.predicted.middle)),
        Column[Choice](
            f"{100 * result.level:.0f} %, {_where(result)}",
            lambda row: row.predicted.ends(text),
        ),
    ]
    if any(row.found_by for row in rows):
        columns.append(Column("found by", lambda row: row.found_by, 2))
    if any(row.energy_lost is not None for row in rows):
        columns.append(Column("energy kept", lambda row: _text(row.energy_lost, lambda lost: f"{1 - lost:.1%}"), 1))
    if any(row.test_loss is not None for row in rows):
        columns += [
            Column("loss", lambda row: loss(row.val_loss)),
            Column("test loss", lambda row: loss(row.test_loss)),
        ]
    if any(row.loss_difference for row in rows):
        columns.append(Column("to winner 1, 95 %", lambda row: _difference(row.loss_difference), 3))
    bounds = f"{text(result.limit)} {unit}; base {text(result.base)} {unit}"
    return Table(f"Budget {result.budget}: {bounds}", columns, rows)


def by_kind(result: SearchResult) -> Table[OfKinds]:
    """Table of what the adapters of the first winner cost and gain, by kind of linear."""
    found: dict[str, list[Contribution]] = {}
    for each in result.contributions:
        found.setdefault(_kinds(each), []).append(each)
    columns = (
        Column[OfKinds]("linears", lambda row: row[0], folds=True),
        Column[OfKinds]("adapters", lambda row: str(sum(len(each.linears) for each in row[1]))),
        Column[OfKinds]("adds to the base", lambda row: f"{sum(each.cost for each in row[1]) / result.base:+.1%}"),
        Column[OfKinds]("takes from the loss, estimated", lambda row: f"{sum(each.gain for each in row[1]):.3f}"),
    )
    title = f"Adapters of winner 1, each compared with the winner without it; budget {result.budget}"
    return Table(title, columns, tuple(found.items()))


def _kinds(contribution: Contribution) -> str:
    return ", ".join(dict.fromkeys(map(_kind, contribution.linears)))


def _where(result: SearchResult) -> str:
    if result.budget.relative:
        return "at this base"
    return "this session" if result.recalibration else "a new session"


def loss(value: float | None) -> str:
    """Nats per token."""
    return _text(value, lambda nats: f"{nats:.3f}")


def _text(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


def _difference(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.middle:+.3f} {interval.ends(lambda nats: f'{nats:+.3f}')}"


def charts(result: SearchResult) -> Iterator[Chart]:
    """Loss and cost of every choice, and its prediction and measurement beside the budget; under each budget."""
    for number, each in enumerate(result.under_each, start=1):
        mark, scale = f"-{number}" if result.further else "", Scale.of(each)
        levels = {"budget": scale.value(each.limit), "base": scale.value(each.base)}
        choices = (*each.winners, *each.baselines)
        if judged := [choice for choice in choices if choice.val_loss is not None]:
            front = sorted(each.front)
            values = [scale.value(value) for _, value in front]
            drawn = Series("evaluated front", [loss for loss, _ in front], values, style="line")
            series = [*[drawn] * bool(front), *_predicted_and_measured(each, judged, scale, place=_loss)]
            yield Chart(
                f"front{mark}",
                "Loss and cost of winners and baselines",
                [Panel(f"budget {each.budget}", LOSS, scale.axis, series, levels)],
            )
        series = _predicted_and_measured(each, choices, scale, place=lambda choice: choice.name)
        panel = Panel(f"budget {each.budget}", "choice", scale.axis, series, levels)
        yield Chart(f"budget{mark}", "Predicted and measured, beside the budget", [panel])


def front_words(result: SearchResult) -> Iterator[str]:
    """Reason why the evaluated front may reach below the first winner, if it does."""
    first = next((winner.val_loss for winner in result.winners), None)
    better = [loss for loss, _ in result.front if first is not None and loss < first - SAME_LOSS]
    if better:
        yield (
            f"evaluated points with a lower loss than winner 1 ({counted(len(better), 'point')} of the front) are not "
            "better for certain: the lowest of many noisy losses is partly luck, so expected losses decide"
        )


def heat_maps(result: SearchResult) -> Iterator[Chart]:
    """Ranks of each winner, by layer and kind of linear."""
    every = [choice.configuration.by_path for choice in (*result.winners, *result.baselines)]
    paths = dict.fromkeys(path for ranks in every for path in ranks)
    layers = range(1 + max(map(layer_of, paths), default=-1))
    kinds = list(dict.fromkeys(map(_kind, paths)))
    maps = []
    for choice in result.winners:
        if ranks := {(_kind(path), layer_of(path)): rank for path, rank in choice.configuration.ranks}:
            maps.append(_map(choice.name, "rank", ranks, kinds, layers))
    if maps:
        yield Chart("winners", "Ranks of the winners, by layer and kind of linear; 0: no adapter", maps)
    for number, each in enumerate(result.under_each, start=1):
        found = each.contributions
        if found and all(len(set(map(layer_of, one.linears))) == 1 for one in found):
            places = [(_kinds(one), layer_of(one.linears[0])) for one in found]
            tied = list(dict.fromkeys(kinds for kinds, _ in places))
            costs = dict(zip(places, [100 * one.cost / each.base for one in found], strict=True))
            gains = dict(zip(places, [one.gain for one in found], strict=True))
            cost = _map("predicted cost", "% of the base", costs, tied, layers)
            gain = _map("estimated gain", "nats per token", gains, tied, layers)
            title = f"What adapters of winner 1 cost and gain, 0 where there is none; budget {each.budget}"
            yield Chart(f"contributions{f'-{number}' if result.further else ''}", title, [cost, gain])


def _map(
    title: str, unit: str, values: Mapping[tuple[str, int], float], kinds: Sequence[str], layers: Sequence[int]
) -> HeatMap:
    """Map of values by kind of linear and layer; 0 where there is none."""
    rows = {kind: [values.get((kind, layer), 0) for layer in layers] for kind in kinds}
    return HeatMap(title, "layer", list(map(str, layers)), "linear", rows, unit)


def _predicted_and_measured(
    result: SearchResult, choices: Sequence[Choice], scale: "Scale", *, place: Callable[[Choice], Place]
) -> list[Series]:
    def series(name: str, some: Sequence[tuple[Choice, Interval]]) -> Series:
        lower, middle, upper = (
            [getattr(interval, end) for _, interval in some] for end in ("lower", "middle", "upper")
        )
        names = [choice.name for choice, _ in some]
        return Series(name, [place(choice) for choice, _ in some], middle, lower, upper, names)

    found = []
    for kind, own in (("winners", result.winners), ("baselines", result.baselines)):
        some = [choice for choice in own if choice in choices]
        found.append(series(f"{kind}, {result.origin}", [(each, scale.interval(each.predicted)) for each in some]))
        measured = [(each, scale.measured(each.measured)) for each in some if each.measured]
        found.append(series(f"{kind}, measured", [(each, interval) for each, interval in measured if interval]))
    return [each for each in found if each.x]


@dataclass(frozen=True)
class Scale:
    """Axis of a limited quantity.

    A relative budget has the overhead over the base, because that of a measurement is over the base of its session.

    Args:
        axis: Title, with the unit.
        factor: Factor of a value.
        base: Base of overheads; `None` for the quantity itself.
    """

    axis: str
    factor: float
    base: float | None = None

    @classmethod
    def of(cls, result: SearchResult) -> "Scale":
        """Axis for a budget."""
        if result.budget.relative:
            return cls(f"{result.budget.quantity} over the base, %", 100.0, result.base)
        factor, unit = UNITS.get(result.budget.unit, (1.0, result.budget.unit))
        return cls(f"{result.budget.quantity}, {unit}", factor)

    def value(self, value: float) -> float:
        """Place of an SI value on the axis."""
        return self.factor * (value if self.base is None else value / self.base - 1)

    def interval(self, interval: Interval) -> Interval:
        """Places of both ends and the middle."""
        return Interval(*map(self.value, (interval.lower, interval.middle, interval.upper)))

    def measured(self, measured: Measured) -> Interval | None:
        """Places of a measurement; `None` if it failed."""
        if self.base is None:
            return measured.value and self.interval(measured.value)
        over = measured.overhead
        return over and Interval(*(self.factor * end for end in (over.lower, over.middle, over.upper)))


def _loss(choice: Choice) -> float:
    return math.nan if choice.val_loss is None else choice.val_loss


def _kind(path: str) -> str:
    return path.rpartition(".")[2]
