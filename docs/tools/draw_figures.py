"""Figures of the documentation, from the outputs that `benchmarks/measured` keeps.

`python docs/tools/draw_figures.py` writes them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from measured_tables import Interval, kept, middle_first, reordered
from overhead_tables import BASES, PLACEMENTS, RANKS, of_all_ranks
from recipe_tables import recipe_overheads

mpl.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1]
COLOURS = dict(zip(PLACEMENTS, ("#c2410c", "#0369a1"), strict=True))
FIGURES: dict[str, Callable[[], Any]] = {}


def figure(function: Callable[[], Any]) -> Callable[[], Any]:
    """Registers a figure; the name of its file is that of the function, with dashes."""
    FIGURES[f"{function.__name__.replace('_', '-')}.png"] = function
    return function


def whiskers(intervals: list[Interval], scale: float) -> tuple[list[float], list[list[float]]]:
    """Middles, and distances to the lower and the upper ends, as matplotlib takes them."""
    middles = [scale * middle for middle, _, _ in intervals]
    ends = [[scale * (m - lower) for m, lower, _ in intervals], [scale * (upper - m) for m, _, upper in intervals]]
    return middles, ends


@figure
def overhead() -> Any:
    """Overhead over rank, one panel for each runtime."""
    found = of_all_ranks()
    drawn, panels = plt.subplots(1, len(found), figsize=(10, 3.2), sharey=True, layout="constrained")
    for panel, (name, cells) in zip(panels, found.items(), strict=True):
        for placement, words in PLACEMENTS.items():
            middles, ends = whiskers([cells[placement, rank] for rank in RANKS], 100)
            panel.errorbar(range(len(RANKS)), middles, ends, fmt="o-", color=COLOURS[placement], capsize=3, label=words)
        panel.set_xticks(range(len(RANKS)), [str(rank) for rank in RANKS])
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("rank")
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("overhead of a decode step, %")
    panels[0].legend(frameon=False)
    return drawn


@figure
def added_time() -> Any:
    """Milliseconds of a decode step: the base, and what rank 16 on all linears adds."""
    rows = [
        (BASES[device["device"]], 1e3 * row["base_s"], middle_first(row["over_base"]))
        for device in kept("overhead_table")
        for row in device["rows"]
        if (row["mode"], row["placement"], row["rank"]) == ("swappable", "all", 16)
    ]
    drawn, panel = plt.subplots(figsize=(7, 2.2), layout="constrained")
    for place, (_, base, over) in enumerate(rows):
        middle, ends = whiskers([over], base)
        panel.barh(place, base, color="#94a3b8", label="" if place else "base")
        panel.barh(place, middle, left=base, xerr=ends, color=COLOURS["all"], label="" if place else "adapter")
        panel.text(base + middle[0] + 1.5, place, f"{100 * over[0]:+.0f} %", va="center")
    panel.set_yticks(range(len(rows)), [name for name, *_ in rows])
    panel.set_xlabel("ms of a decode step")
    panel.set_xlim(right=1.15 * max(base * (1 + over[0]) for _, base, over in rows))
    panel.invert_yaxis()
    panel.legend(frameon=False, loc="lower right")
    return drawn


@figure
def search_gain() -> Any:
    """Loss over predicted latency of winners and baselines."""
    found = kept("demo_search")
    drawn, panel = plt.subplots(figsize=(7, 3.6), layout="constrained")
    seen = set()
    for row in found["rows"]:
        place = 1e3 * row["predicted"]["upper"], row["test_loss"]
        if place in seen:
            continue
        seen.add(place)
        panel.plot(*place, "o", color=COLOURS["all" if row["name"].startswith("winner") else "q_proj,v_proj"])
        side = {"xytext": (-5, 4), "ha": "right"} if row["name"] == "random search" else {"xytext": (5, 4)}
        panel.annotate(row["name"], place, textcoords="offset points", fontsize=8, **side)
    panel.margins(0.12)
    panel.axvline(1e3 * found["limit"], color="grey", linestyle="--", linewidth=1)
    panel.text(1e3 * found["limit"], panel.get_ylim()[0], " budget", va="bottom", fontsize=8, color="grey")
    panel.set_xlabel("upper end of the predicted decode step, ms")
    panel.set_ylabel("loss, nats per token")
    panel.grid(alpha=0.3)
    return drawn


@figure
def recipe_latency() -> Any:
    """Overhead of a decode step by recipe and mode, one panel for each runtime."""
    colours = {"swappable": "#c2410c", "static": "#0369a1", "merged": "#15803d"}
    found = recipe_overheads()
    recipes = list(dict.fromkeys(recipe for recipe, _ in found))
    drawn, panels = plt.subplots(1, len(BASES), figsize=(9, 4), sharey=True, layout="constrained")
    for panel, (device, name) in zip(panels, BASES.items(), strict=True):
        for (recipe, mode), cells in found.items():
            if device in cells:
                middles, ends = whiskers([cells[device]], 100)
                place = recipes.index(recipe) + 0.22 * (list(colours).index(mode) - 1)
                panel.errorbar(middles, [place], xerr=ends, fmt="o", color=colours[mode], capsize=3)
        panel.axvline(0, color="grey", linewidth=0.8)
        panel.set_title(name)
        panel.set_xlabel("overhead, %")
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(recipes)), recipes)
    panels[0].invert_yaxis()
    for mode, colour in colours.items():
        panels[0].errorbar([], [], fmt="o", color=colour, label=mode)
    drawn.legend(loc="outside lower center", ncols=3, frameon=False)
    return drawn


@figure
def search_equal() -> Any:
    """Losses of placements minus that of the winner, one panel for each share of the overhead."""
    found = kept("search")
    names = list(dict.fromkeys(row["name"] for row in sorted(found["rows"], key=lambda row: row["part"] != 0.5)))
    names = [name for name in names if name not in ("winner", "no adapter")]
    drawn, panels = plt.subplots(1, len(found["parts"]), figsize=(9, 4.4), sharey=True, layout="constrained")
    for panel, part in zip(panels, found["parts"], strict=True):
        shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(found["by_seed"])))
        for number, (rows, colour) in enumerate(zip(found["by_seed"], shades, strict=True)):
            differences = {row["name"]: row["difference"] for row in rows if row["part"] == part}
            shown = [name for name in names if name in differences]
            middles, ends = whiskers([reordered(differences[name]) for name in shown], 1)
            places = [names.index(name) + 0.7 / len(shades) * (number - (len(shades) - 1) / 2) for name in shown]
            words = f"training {number + 1}"
            panel.errorbar(middles, places, xerr=ends, fmt="o", color=colour, markersize=3, capsize=2, label=words)
        panel.axvline(0, color="grey", linewidth=0.8)
        panel.set_title(f"{part:g} of the overhead")
        panel.set_xlabel("loss minus winner's, nats per token", fontsize=9)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return drawn


def main(folder: Path = DOCS) -> None:
    """Writes every figure into a folder."""
    for name, draw in FIGURES.items():
        drawn = draw()
        drawn.savefig(folder / name, dpi=110, metadata={"Software": None})
        plt.close(drawn)


if __name__ == "__main__":
    main()
