"""What `profile` and a store return: a list that becomes a data frame, a figure, and a table in notebooks."""

import math
from dataclasses import replace

import pytest

from adaptare.core import InputError, MissingPackageError
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.programs.builders import SimulatedPrograms
from adaptare.profiler.store.measurements import Measurements


@pytest.fixture(scope="module")
def workloads(llama: ModelShape) -> list[Workload]:
    ranked = [Workload(llama, Configuration.uniform(llama, rank)) for rank in (1, 4, 8)]
    return [*ranked, ranked[0].merged, replace(ranked[0], phase="prefill", tokens=8)]


@pytest.fixture(scope="module")
def measured(workloads: list[Workload]) -> Measurements:
    """Five measurements; the third failed in its first call."""
    device = SimulatedDevice(failures={SimulatedPrograms().program(workloads[2]).hash: "error"})
    return profile(workloads, reference=workloads[0].base, device=device, stop=FixedRounds(4), seed=0, openings=2)


def test_a_data_frame_has_a_row_of_numbers_for_every_measurement(measured: Measurements) -> None:
    pytest.importorskip("pandas")
    frame = measured.to_frame()
    assert frame["mode"].tolist() == ["swappable"] * 3 + ["merged", "swappable"]
    assert frame["ranks"].tolist() == [row.workload.configuration.by_path for row in measured]
    assert frame["latency_s"].dtype == frame["ratio_upper"].dtype == float
    worked = [row for row in measured if not row.failure]
    assert frame[frame.failure == ""]["latency_s"].tolist() == [row.latency_s for row in worked]
    assert frame[frame.failure == ""]["ratio"].tolist() == [row.ratio.middle for row in worked]
    failed = frame.iloc[2]
    assert math.isnan(failed.latency_s)
    assert "simulated program failed" in failed.failure
    assert frame.openings.tolist() == [2, 2, 0, 2, 2]


def test_a_figure_has_every_latency_with_its_interval(measured: Measurements) -> None:
    pytest.importorskip("matplotlib")
    decode, prefill = measured.plot().axes
    assert (decode.get_title(), prefill.get_title()) == ("decode 64", "prefill 8")
    series = {bars.get_label(): bars[0].get_ydata().tolist() for bars in decode.containers}
    assert series == {
        "simulated, swappable": [1e3 * row.latency_s for row in measured[:2]],
        "simulated, merged": [1e3 * measured[3].latency_s],
    }
    parameters = measured[0].workload.configuration.adapter_parameters(measured[0].workload.shape)
    assert decode.containers[0][0].get_xdata().tolist() == [parameters, 4 * parameters]


def test_there_is_no_figure_without_a_measurement(measured: Measurements) -> None:
    pytest.importorskip("matplotlib")
    for nothing in (Measurements(), Measurements(measured[2:3])):
        with pytest.raises(InputError, match="needs a measurement that did not fail; there is none"):
            nothing.plot()


def test_a_missing_package_is_named_with_its_extra(measured: Measurements, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pandas is not installed; .*pip install 'adaptare\[frames\]'"):
        measured.to_frame()
    with pytest.raises(MissingPackageError, match=r"matplotlib is not installed; .*pip install 'adaptare\[figures\]'"):
        measured.plot()


def test_notebooks_show_a_table(measured: Measurements) -> None:
    shown = measured._repr_html_()
    assert shown.count("<tr>") == 6
    assert "<caption>5 measurements</caption>" in shown
    assert "simulated program failed" in shown
