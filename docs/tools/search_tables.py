"""Tables of searches."""

from collections import Counter
from typing import Any

from measured_tables import Table, kept, middle_first, reordered, table, value

VERDICTS = ("met", "ambiguous", "missed")

# Searches within one predicted limit.
SEARCHES = {
    "search": "ONNX Runtime 4-bit, dialogues",
    "search_questions": "ONNX Runtime 4-bit, questions",
    "search_llama": "llama.cpp, questions",
    "search_torch": "torch, questions",
}

# Rules of training, and columns of their table with the digits of each.
RULES = {
    "share": "uniform and largest",
    "spread": "spread",
    "share-spread": "spread and largest",
    "budget": "near the budget",
    "sandwich": "distilled sandwich",
}
ORDER = {
    "mean loss of the slices": ("mean_slice", 3),
    "Kendall's tau": ("tau", 2),
    "share of differences left": ("survives", 2),
    "gain of the best slice": ("gain_of_slices", 3),
    "its gain, trained alone": ("gain_alone", 3),
    "best slice minus worst alone": ("worst_alone_gains", 3),
}


@table
def search_regret() -> Table:
    """Nats behind the optimum, simulated, by number of evaluations."""
    found = kept("search_regret")
    spaces = {"large": "210 sites", "small": "7 sites"}
    rows = [["space, share of the full overhead", "algorithm", *(f"{n} evaluations" for n in found["evaluations"])]]
    for row in found["rows"]:
        cells = ["" if regret is None else f"{regret:.3f}" for regret in row["regret"]]
        rows.append([f"{spaces[row['space']]}, {row['share']}", row["algorithm"], *cells])
    return rows


@table
def search_gain() -> Table:
    """Winners and baselines of a search, on examples that it did not see."""
    rows = [["adapter", "found by", "linears", "upper end, ms", "loss", "difference to winner 1"]]
    for row in kept("demo_search")["rows"]:
        difference = "" if row["name"] == "winner 1" else value(middle_first(row["loss_difference"]), 3, "+")
        upper = f"{1e3 * row['predicted']['upper']:.2f}"
        found_by = row["found_by"] or ""
        rows.append([row["name"], found_by, str(row["sites"]), upper, f"{row['test_loss']:.3f}", difference])
    return rows


@table
def search_equal() -> Table:
    """Losses of placements within one limit on predicted latency: means over trainings, with intervals over them."""
    return _over_trainings(kept("search"))


@table
def search_questions() -> Table:
    """The same on questions and answers."""
    return _over_trainings(kept("search_questions"))


def _over_trainings(found: Any) -> Table:
    """Empty where nothing that a cost led to was within the limit."""
    cells: dict[str, dict[float, str]] = {}
    for row in sorted(found["rows"], key=lambda row: row["part"] != 0.5):  # which has every name
        loss = f"{row['loss']:.3f}"
        cells.setdefault(row["name"], {})[row["part"]] = loss if row["name"] == "winner" else _with_interval(row)
    return [
        ["placement", *(f"{part:g} of the overhead" for part in found["parts"])],
        *([name, *(own.get(part, "") for part in found["parts"])] for name, own in cells.items()),
    ]


@table
def search_estimates() -> Table:
    """Agreement of estimated changes of the loss with true ones, on training and on validation examples."""
    rows = kept("search_estimates")["rows"]
    columns = {
        f"{title}, {examples}": (f"{kind}_{sample}", digits)
        for kind, title, digits in (("order", "order", 2), ("error", "error, nats", 1))
        for sample, examples in (("train", "training examples"), ("validation", "others"))
    }
    found = [["linears", "estimate", *columns]]
    for way, estimate in dict.fromkeys((row["way"], row["estimate"]) for row in rows):
        own = [row for row in rows if (row["way"], row["estimate"]) == (way, estimate)]
        cells = [", ".join(f"{row[key]:.{digits}f}" for row in own) for key, digits in columns.values()]
        found.append([way, estimate, *cells])
    return found


@table
def search_choice() -> Table:
    """Test losses of what each rule chooses, minus that of what staged shrinking found."""
    rows = kept("search_choice")["rows"]
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    found: dict[tuple[int, float], dict[str, str]] = {}
    for row in rows:
        found.setdefault((row["seed"], row["part"]), {})[row["rule"]] = _with_interval(row)
    cells = [[str(seed + 1), f"{part:g}", *map(own.__getitem__, rules)] for (seed, part), own in found.items()]
    return [["training", "of the overhead", *rules], *cells]


def _with_interval(row: Any) -> str:
    return value(reordered(row["difference"]), 3, "+") if any(row["difference"]) else "the same"


@table
def search_latency() -> Table:
    """Measured overheads of what a search is compared with, and how many of the trainings are within the budget."""
    return _measured_overheads(kept("search_latency")["rows"])


@table
def search_latency_dialogues() -> Table:
    """The same on dialogues."""
    return _measured_overheads(kept("search_latency_dialogues")["rows"])


def _measured_overheads(rows: list[Any]) -> Table:
    """Mean over trainings, and verdicts."""
    budgets = {row["part"]: row["budget"] for row in rows}
    found: dict[str, dict[float, list[Any]]] = {}
    for row in rows:
        found.setdefault(row["name"], {part: [] for part in budgets})[row["part"]].append(row)
    heading = ["placement", *(f"{part:g}: budget {budget:+.1%}" for part, budget in budgets.items())]
    return [heading, *([name, *map(_within_budget, own.values())] for name, own in found.items())]


def _within_budget(rows: list[Any]) -> str:
    verdicts = Counter(row["verdict"] for row in rows)
    mean = sum(row["overhead"][0] for row in rows) / len(rows)
    return f"{mean:+.1%}: {', '.join(f'{verdicts[each]} {each}' for each in VERDICTS if verdicts[each])}"


@table
def search_costs() -> Table:
    """Losses found by other costs minus those found by predicted latency, at equal measured overhead."""
    return _at_equal_latency(kept("search_costs")["summary"], "cost")


@table
def search_equal_latency() -> Table:
    """Losses of placements minus those of the winners, at equal measured overhead."""
    return _at_equal_latency(kept("search_equal_latency")["rows"], "placement")


@table
def search_equal_latency_dialogues() -> Table:
    """The same on dialogues."""
    return _at_equal_latency(kept("search_equal_latency_dialogues")["rows"], "placement")


def _at_equal_latency(rows: list[Any], heading: str) -> Table:
    """Differences by part, and over all parts. Empty where fewer than two trainings can be compared."""
    parts = sorted({row["part"] for row in rows if row["part"]})
    found: dict[str, dict[float | None, str]] = {}
    for row in rows:
        interval = _with_interval(row) if row["difference"] else ""
        found.setdefault(row["cost"], {})[row["part"]] = interval
    columns = [*parts, None]
    headings = [heading, *("all" if part is None else f"{part:g}" for part in columns)]
    return [headings, *([name, *(own.get(part, "") for part in columns)] for name, own in found.items())]


@table
def search_exact() -> Table:
    """Changes by steps and by the exact optimum of estimates: estimated, true, and on test examples."""
    found = [
        ["estimates", "share of the overhead", "steps: estimated, true", "exact: estimated, true", "exact minus steps"]
    ]
    for row in kept("search_exact")["summary"]:
        steps, exact = (f"{row[f'estimated_{way}']:+.0f}, {row[f'true_{way}']:+.0f}" for way in ("steps", "exact"))
        stay = row["estimates"] == "at what was found"
        found.append([row["estimates"], f"{row['part']:g}", "" if stay else steps, exact, _with_interval(row)])
    return found


@table
def search_equal_loss() -> Table:
    """Overhead at which the best choice by hand has the loss of the winner."""
    found: dict[tuple[str, int], list[Any]] = {}
    for row in kept("search_equal_loss"):
        found.setdefault((SEARCHES[row["search"]], row["seed"]), []).append(row)
    parts = [row["part"] for row in next(iter(found.values()))]
    heading = ["search", "training", *(f"winner within {part:g}, by hand" for part in parts)]
    rows = [[name, str(seed + 1), *map(_needed, own)] for (name, seed), own in found.items()]
    return [heading, *rows]


def _needed(row: Any) -> str:
    needed = f"{row['needs']:.2f}, {row['by_hand']}" if row["by_hand"] else "not reached"
    return f"{row['share']:.2f}: {needed}"


@table
def search_llama() -> Table:
    """The same of one training, for llama.cpp."""
    return _beside_winners(kept("search_llama"))


@table
def search_torch() -> Table:
    """The same of one training, for torch."""
    return _beside_winners(kept("search_torch"))


@table
def search_order() -> Table:
    """Losses of placements as slices of a super-adapter, and as adapters that are trained alone."""
    rows = sorted(kept("search_order")["rows"], key=lambda row: row["slice"])
    cells = [
        [row["name"], str(row["linears"]), f"{row['slice']:.3f}", *map("{:.3f}".format, row["alone"])] for row in rows
    ]
    return [["placement", "linears", "loss as a slice", "loss trained alone"], *cells]


@table
def training_rules() -> Table:
    """Losses of winners and of the largest rank, by the rule of training, and differences to the first rule."""
    found: dict[str, dict[str, Any]] = {}
    for row in kept("training_rules")["rows"]:
        found.setdefault(row["name"], {})[row["rule"]] = row
    names = ["rank 16 everywhere", *(name for name in reversed(found) if name.startswith("winner"))]
    heading = ["test loss of", RULES["share"], RULES["share-spread"], "difference"]
    rows = [
        [
            name,
            *(f"{found[name][rule]['loss']:.3f}" for rule in ("share", "share-spread")),
            value(reordered(found[name]["share-spread"]["difference"]), 3, "+"),
        ]
        for name in sorted(names, key=lambda name: ("alone" in name, names.index(name)))
    ]
    return [heading, *rows]


@table
def training_orders() -> Table:
    """Agreement of slices with adapters trained alone, by the rule of training."""
    rows = [["training", *ORDER]]
    for order in kept("search_order_rules")["orders"]:
        if order["rule"] in RULES:
            cells = (value(reordered(order[name]), digits) for name, digits in ORDER.values())
            rows.append([RULES[order["rule"]], *cells])
    return rows


def _beside_winners(found: Any) -> Table:
    rows = [["placement", *(f"{part:g} of the overhead" for part in found["parts"])]]
    for name in dict.fromkeys(row["name"] for row in found["rows"]):
        cells = []
        for part in found["parts"]:
            own = [row for seed in found["by_seed"] for row in seed if (row["name"], row["part"]) == (name, part)]
            losses = [f"{row['loss']:.3f}" for row in own]
            cells.append(", ".join(losses if name == "winner" else map(_difference, own)))
        rows.append([name, *cells])
    return rows


def _difference(row: Any) -> str:
    lower, middle, upper = row["difference"]
    if lower == upper:
        return "the same"
    return f"({middle:+.3f})" if lower < 0 < upper else f"{middle:+.3f}"
