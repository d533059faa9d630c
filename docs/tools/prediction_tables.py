"""Tables of predictions and searches."""

from typing import Any

from measured_tables import Table, kept, middle_first, table, value

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
    llama = kept("prediction_llama")
    card = llama["error_card"]
    errors = [f"{card['baselines'][name]:.1f}" for name in baselines]
    return [*rows, ["llama.cpp, 4-bit decode", llama["chosen"], f"{card['mae_overhead_points']:.1f}", "", *errors]]


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


@table
def decisions() -> Table:
    """What predictions of another session are worth."""
    found = kept("decisions")["after"]["kept"]
    relative, absolute = found["budgets"]["relative"], found["budgets"]["absolute"]
    sizes = ("small", "middle", "large")
    widths = ", ".join(f"{100 * found['by_size'][size]['ratio_half_width']:.1f}" for size in sizes)
    rows = [
        [
            "intervals of the overhead that hold the measured value, with its error (nominal 0.90)",
            _held(found["ratio_interval_held"]),
        ],
        *([f"the same, {size} changes", _held(found["by_size"][size]["ratio_interval_held"])] for size in sizes),
        ["intervals of the overhead that hold the measured value itself", _held(found["ratio_interval_held_measured"])],
        ["intervals in milliseconds that hold the measured value", _held(found["ms_interval_held_measured"])],
        [
            "upper ends in milliseconds passed by the measured value (nominal 0.05)",
            _held(found["ms_upper_passed_measured"]),
        ],
        ["median half-width of the overhead, points: small, middle, large changes", widths],
        ["median half-width of milliseconds", f"{100 * found['ms_half_width']:.0f} %"],
        ["relative budgets under which some adapter fits", f"{relative['chosen']} of {relative['asked']}"],
        ["relative budgets met", _held(relative["budget_met_rate"])],
        ["budgets in milliseconds under which some adapter fits", f"{absolute['chosen']} of {absolute['asked']}"],
        ["budgets in milliseconds met", _held(absolute["budget_met_rate"])],
    ]
    return [["", "share"], *rows]


@table
def recalibrated() -> Table:
    """Milliseconds of any session, and of the present one."""
    both = [kept("decisions")["after"][name]["recalibrated"] for name in ("kept", "sessions")]
    columns = [found[key] for found in both for key in ("ms_before", "ms")]

    def counted(name: str) -> list[str]:
        budgets = [found["budgets_of_today"] for found in columns]
        return [f"{each[name]} of {each['asked']}" for each in budgets]

    return [
        ["", "any session", "`--recalibrate`", "faster guest, any session", "faster guest, `--recalibrate`"],
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
