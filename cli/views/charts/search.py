import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from adaptare.core.chart import Chart, HeatMap, Panel, Place, Series
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads import layer_of
from adaptare.workflows.search.result import Choice, Measured, SearchResult

LOSS: Final = "validation loss, nats per token"
# SI unit -> its factor in charts, and the unit there.
UNITS: Final = {"s": (1e3, "ms"), "B": (1e-6, "MB"), "J": (1e3, "mJ")}


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


def heat_maps(result: SearchResult) -> Iterator[Chart]:
    """Ranks of each winner, by layer and kind of linear."""
    every = [choice.configuration.by_path for choice in (*result.winners, *result.baselines)]
    paths = dict.fromkeys(path for ranks in every for path in ranks)
    layers = range(1 + max(map(layer_of, paths), default=-1))
    kinds = list(dict.fromkeys(map(_kind, paths)))
    maps = []
    for choice in result.winners:
        ranks = {(_kind(path), layer_of(path)): rank for path, rank in choice.configuration.ranks}
        rows = {kind: [ranks.get((kind, layer), 0) for layer in layers] for kind in kinds}
        if ranks:
            maps.append(HeatMap(choice.name, "layer", list(map(str, layers)), "linear", rows, "rank"))
    if maps:
        yield Chart("winners", "Ranks of the winners, by layer and kind of linear; 0: no adapter", maps)


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
