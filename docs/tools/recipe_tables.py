"""Tables of recipes and of models below the base."""

from collections.abc import Mapping
from typing import Any

from measured_tables import Interval, Table, kept, percent, table, value


def _recipes() -> dict[str, Any]:
    """Parts that train a recipe on the base that it is for."""
    return {name: part["found"] for name, part in kept("recipes").items() if name != "int4" and "," not in name}


def _loss(losses: Mapping[str, Any], name: str) -> str:
    return f"{losses[name]['loss'][0]:.3f}" if name in losses else ""


def _difference(losses: Mapping[str, Any], name: str) -> str:
    return value(losses[name]["difference"], 3, "+")


@table
def recipe_losses() -> Table:
    """Losses of recipes, and paired differences to a plain LoRA."""
    names = ("untrained", "minimal", "start", "searched", "maximal", "plain LoRA")
    compared = ("start", "searched", "maximal")
    return [
        ["recipe", *names, *(f"{name}, to plain LoRA" for name in compared)],
        *(
            [f"`{recipe}`", *(_loss(found["losses"], name) for name in names)]
            + [_difference(found["losses"], name) for name in compared]
            for recipe, found in _recipes().items()
        ),
    ]


@table
def recipe_merged() -> Table:
    """Losses of what a merge writes, beside those before it."""
    ways = ("", ", merged", ", requantised")
    rows = [["recipe", "choice", "before the merge", "merged", "merged and rounded to 4 bits"]]
    for name, part in kept("recipes").items():
        losses = part["found"].get("losses", {})
        for choice in ("start", "searched"):
            if f"{choice}, merged" in losses:
                recipe, *base = name.split(", ")
                cells = [_loss(losses, f"{choice}{way}") for way in ways]
                rows.append([", ".join([f"`{recipe}`", *base]), choice, *cells])
    return rows


@table
def recipe_cost() -> Table:
    """Time and memory of a training step beside PEFT's, and zeros after the merge."""
    rows = [["recipe", "step, s", "PEFT, s", "memory, GB", "PEFT, GB", "zeros after the merge"]]
    for recipe, found in _recipes().items():
        own, peft = found["steps"][recipe], found["steps"]["peft"]
        zeros = found["weights"]["start"]["zeros_after_merge"]
        seconds = [f"{each['median_s']:.2f}" for each in (own, peft)]
        memory = [f"{each['added_bytes'] / 1e9:.2f}" for each in (own, peft)]
        rows.append([f"`{recipe}`", *seconds, *memory, "refused" if zeros is None else f"{100 * zeros:.1f} %"])
    return rows


def recipe_overheads() -> dict[tuple[str, str], dict[str, Interval]]:
    """Overhead in decode of the start of each recipe: recipe and mode -> device -> middle, lower, upper."""
    found: dict[tuple[str, str], dict[str, Interval]] = {}
    for recipe, part in _recipes().items():
        for row in part["latency"]:
            if (row["of"], row["phase"]) == ("start", "decode"):
                mode = "merged" if row["mode"] == "requantised" else row["mode"]
                found.setdefault((recipe, mode), {})[row["device"]] = tuple(row["overhead"])
    return found


@table
def recipe_latency() -> Table:
    """Overhead in decode of the start of each recipe, on 4-bit weights."""
    modes = ("swappable", "static", "merged")
    found = {key: percent(cells["ort-cpu:int4,threads=1"]) for key, cells in recipe_overheads().items()}
    recipes = dict.fromkeys(recipe for recipe, _ in found)
    rows = [[f"`{recipe}`", *(found.get((recipe, mode), "") for mode in modes)] for recipe in recipes]
    return [["recipe, ONNX Runtime 4-bit", *modes], *rows]


@table
def four_bit_ways() -> Table:
    """Three ways to 4-bit weights, by block, steps and rank."""
    rows = [["block", "steps", "rank", "no adapter", "apart", "merged, quantised again", "trained for the grid"]]
    for row in kept("recipes")["int4"]["found"]["table"]:
        losses = row["losses"]
        sizes = [str(row[name]) for name in ("block", "steps", "rank")]
        ways = [_difference(losses, name) for name in ("requantised", "quantisation-aware")]
        rows.append([*sizes, _loss(losses, "untrained"), _loss(losses, "unmerged"), *ways])
    return rows


@table
def four_bit_latency() -> Table:
    """Overhead in decode on 4-bit weights, by rank and mode."""
    rows = [["rank", "mode", "decode after 64"]]
    for row in kept("recipes")["int4"]["found"]["latency"]:
        if row["phase"] == "decode":
            rows.append([row["of"].removeprefix("rank "), row["mode"], percent(row["overhead"])])
    return rows


@table
def below_base() -> Table:
    """Models with fewer layers and neurons: latency beside the base, and losses."""
    cuts = {
        "base": "the base, not trained",
        "whole": "the whole model, trained",
        "plain LoRA, activations order": "plain LoRA on this cut",
        "plain LoRA, magnitude order": "plain LoRA, neurons in order of magnitude",
        "untrained, activations order": "this cut, not trained",
        "untrained, magnitude order": "not trained, in order of magnitude",
        "untrained, base's order": "not trained, in the base's order",
    }
    columns = [(phase, key, row) for phase, each in kept("below_base")["phases"].items() for key, row in each.items()]
    losses = [{loss["cut"]: loss for loss in row["losses"]} for _, _, row in columns]

    def model(row: Mapping[str, Any]) -> str:
        fewest, most = min(row["widths"]), max(row["widths"])
        return f"{len(row['widths'])} layers of {fewest if fewest == most else f'{fewest} to {most}'}"

    def overhead(row: Mapping[str, Any]) -> str:
        return percent([row[name] for name in ("overhead", "overhead_lower", "overhead_upper")])

    def own(found: Mapping[str, Any]) -> str:
        return value([found["recipe"]["loss"], *found["recipe"]["loss_interval"]], 3)

    def beside(row: Mapping[str, Any]) -> str:
        """Paired difference of a winner's loss, once it is kept."""
        found = row.get("beside_uniform")
        return value([found["difference"], *found["difference_interval"]], 3, "+") if found else ""

    def other(found: Mapping[str, Any], cut: str) -> str:
        return f"{found[cut]['loss']:.3f}" if cut in found else ""

    return [
        ["", *(f"{phase}, {key}" for phase, key, _ in columns)],
        ["model", *(model(row) for *_, row in columns)],
        ["latency beside the base", *(overhead(row) for *_, row in columns)],
        ["loss", *map(own, losses)],
        ["difference to the uniform cut", *map(beside, (row for *_, row in columns))],
        *([f"loss of {words}", *(other(found, cut) for found in losses)] for cut, words in cuts.items()),
    ]
