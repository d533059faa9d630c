from adaptare.core.chart import Chart, Panel, Series
from adaptare.workflows.fit.fitting import FitResult


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
