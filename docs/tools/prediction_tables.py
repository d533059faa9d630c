"""Tables of predictions."""

from collections.abc import Callable
from typing import Any

from measured_tables import Table, kept, middle_first, percent, table, value

CELLS = {
    "ort-int4-decode": "ONNX Runtime, 4-bit decode",
    "ort-fp32-decode": "ONNX Runtime, fp32 decode",
    "ort-fp32-prefill": "ONNX Runtime, fp32 prefill",
    "torch-fp32-decode": "PyTorch, fp32 decode",
    "torch-widths": "PyTorch, ranks and widths",
    "ort-widths": "ONNX Runtime, ranks and widths",
}


@table
def prediction_errors() -> Table:
    """Errors of predictors in points of overhead, beside simpler fits and a second measurement."""
    baselines = ("constant", "FLOPs-affine", "sites-affine")
    rows = [["", "fit", "predicted", "measured once before", "a constant", "a line in FLOPs", "a line in sites"]]
    for cell in kept("prediction_on_device")["cells"]:
        errors = cell["mae_points_baselines"]
        predicted = value([cell["mae_points"], *cell["mae_points_interval"]], 1)
        again = value([cell["retest_points"], *cell["retest_points_interval"]], 1)
        rows.append(
            [CELLS[cell["cell"]], cell["chosen"], predicted, again, *(f"{errors[name]:.1f}" for name in baselines)]
        )
    for fit in kept("prediction_cross_validated"):
        card = fit["error_card"]
        errors = [f"{card['baselines'][name]:.1f}" for name in baselines]
        rows.append(
            [f"{fit['name']}, cross-validated", fit["chosen"], f"{card['mae_overhead_points']:.1f}", "", *errors]
        )
    return rows


@table
def prediction_lengths() -> Table:
    """Errors at a length that was left out of the fit, in per cent of latency."""
    names = {"one predictor": "one predictor", "one for each length": "interpolated between two"}
    heading = ["known lengths: left out"]
    heading += [f"{what}, {words}" for words in names.values() for what in ("error, %", "held, %")]
    rows = [heading]
    for case in kept("lengths")["cases"]:
        cells = [case["lengths"]]
        for name in names:
            cells += [value(case[name]["error"], 2), value([100 * each for each in case[name]["covered"]], 0)]
        rows.append(cells)
    return rows


def _held(found: Any) -> str:
    return value([found["mean"], *found["clustered_interval"]], 2)


# Group of pairs of sessions -> heading.
PAIRS = {"kept": "six pairs", "sessions": "since one boot", "others": "after another boot, or under load"}


@table
def decisions() -> Table:
    """What predictors of another session are worth, by how much the sessions have in common."""
    columns = [kept("decisions")["after"][name] for name in PAIRS]
    sizes = ("small", "middle", "large")
    shares: dict[str, Callable[[Any], Any]] = {
        "overheads held, with measurement error (nominal 0.90)": lambda found: found["ratio_interval_held"],
        **{f"the same, {size} changes": _of_size(size) for size in sizes},
        "overheads held, as measured": lambda found: found["ratio_interval_held_measured"],
        "upper ends of overheads passed (nominal 0.05)": lambda found: found["ratio_upper_passed"],
        "milliseconds held (nominal 0.90)": lambda found: found["ms_interval_held"],
        "upper ends in milliseconds passed (nominal 0.05)": lambda found: found["ms_upper_passed"],
        "relative budgets met": lambda found: found["budgets"]["relative"]["budget_met_rate"],
        "budgets in milliseconds met": lambda found: found["budgets"]["absolute"]["budget_met_rate"],
    }

    def moved(found: Any) -> str:
        lowest, *_, highest = (f"{1 + each:.1f}" for each in sorted(found["base_moved"]))
        return f"{lowest} to {highest}"

    def fits(kind: str) -> list[str]:
        budgets = [found["budgets"][kind] for found in columns]
        return [f"{each['chosen']} of {each['asked']}" for each in budgets]

    def widths(found: Any) -> str:
        return ", ".join(f"{100 * found['by_size'][size]['ratio_half_width']:.1f}" for size in sizes)

    return [
        ["", *PAIRS.values()],
        ["judged sessions", *(str(len(found["ratio_interval_held"]["by_session"])) for found in columns)],
        ["time of the base over that of the other session", *map(moved, columns)],
        *([words, *(_held(share(found)) for found in columns)] for words, share in shares.items()),
        ["half-width of overheads, points: small, middle, large changes", *map(widths, columns)],
        ["half-width of milliseconds", *(f"{100 * found['ms_half_width']:.0f} %" for found in columns)],
        ["relative budgets under which some adapter fits", *fits("relative")],
        ["budgets in milliseconds under which some adapter fits", *fits("absolute")],
    ]


def _of_size(size: str) -> Callable[[Any], Any]:
    return lambda found: found["by_size"][size]["ratio_interval_held"]


@table
def recalibrated() -> Table:
    """Milliseconds of any session, and of the present one."""
    both = [kept("decisions")["after"][name]["recalibrated"] for name in PAIRS]
    columns = [found[key] for found in both for key in ("ms_before", "ms")]
    headings = [f"{words}: {base}" for words in PAIRS.values() for base in ("any session", "`--recalibrate`")]

    def counted(name: str) -> list[str]:
        budgets = [found["budgets_of_today"] for found in columns]
        return [f"{each[name]} of {each['asked']}" for each in budgets]

    return [
        ["", *headings],
        ["rows", *(str(found["rows"]) for found in columns)],
        [
            "intervals in milliseconds that hold the value",
            *(f"{found['ms_interval_held']['mean']:.2f}" for found in columns),
        ],
        ["median half-width", *(f"{100 * found['ms_half_width']:.0f} %" for found in columns)],
        ["budgets under which some adapter fits", *counted("chosen")],
        ["budgets met", *counted("met")],
    ]


@table
def priors() -> Table:
    """What another session is expected to shift, as long as a store has one."""
    words = {"ratio": "overheads", "base": "milliseconds", "drift": "milliseconds of the present session"}
    found = kept("decisions")["after"]["priors"]
    return [
        ["shift of", "standard deviation", "degrees of freedom"],
        *([words[name], f"{100 * prior['sd']:.2g} %", str(prior["degrees"])] for name, prior in found.items()),
    ]


@table
def runtime_regret() -> Table:
    """Winners that were searched for several runtimes, measured in one of them."""
    return [
        ["searched for", "adapted linears", "test loss, nats", "measured overhead"],
        *(
            [
                f"`{row['searched_for']}`",
                str(row["sites"]),
                f"{row['test_loss']:.3f}",
                percent([row[name] for name in ("overhead", "lower", "upper")]),
            ]
            for row in kept("runtime_regret")["rows"]
        ),
    ]


@table
def later_session() -> Table:
    """Choices under a budget in two runtimes: predicted, and measured in a later session."""
    words = {"q+v 16": "q and v, rank 16", "uniform 2": "rank 2 everywhere", "uniform 16": "rank 16 everywhere"}
    heading = ["runtime, budget", "placement", "adapted linears", "predicted", "measured later"]
    rows = [[*heading, "test loss minus winner's"]]
    for found in kept("later_session")["runtimes"]:
        for row in found["rows"]:
            predicted = f"{100 * row['predicted']:+.1f} %, at most {100 * row['predicted_upper']:+.1f} %"
            difference = value(middle_first(row["loss_difference"]), 3, "+") if row["name"] != "winner 1" else ""
            where, measured = f"{found['runtime']}, {found['budget']}", percent(middle_first(row["overhead"]))
            name = words.get(row["name"], row["name"])
            rows.append([where, name, str(row["linears"]), predicted, measured, difference])
    return rows


@table
def other_architectures() -> Table:
    """Rank correlations in HELP's test."""
    names = {"help-nb201-20": "NAS-Bench-201, six new devices", "help-fbnet-20": "FBNet, three new devices"}
    rows = {row["id"]: row for row in kept("external_help")["rows"]}
    return [
        ["", "ours", "published by HELP"],
        *(
            [words, f"{rows[key]['ours']:.3f} ± {rows[key]['half_width']:.3f}", f"{rows[key]['best']:.3f}"]
            for key, words in names.items()
        ),
    ]
