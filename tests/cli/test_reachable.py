"""Reachable devices, with what their workers report."""

import pytest

from adaptare.core import InputError, MissingPackageError
from adaptare.devices import SimulatedDevice
from adaptare.workflows.devices import machines


def test_named_devices_are_looked_at_alone() -> None:
    named = ["simulated:seed=1,int4", "simulated"]
    assert [reach.name for reach in machines(named).devices] == named
    with pytest.raises(InputError, match="unknown device 'abacus'"):
        machines(["simulated", "abacus"])


@pytest.mark.slow
def test_says_of_a_reachable_device_who_it_is_and_what_its_worker_told() -> None:
    found = {reach.name: reach for reach in machines().devices}["simulated"]
    assert (found.info, found.problem) == (SimulatedDevice().info(), "")
    assert found.worker is not None
    assert found.worker.hardware == SimulatedDevice().info().hardware


def test_says_of_an_unreachable_device_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise MissingPackageError(f"{name} needs more")

    monkeypatch.setattr("adaptare.workflows.target.connect", refuse)
    assert {(reach.info, reach.problem) for reach in machines().devices} >= {(None, "simulated needs more")}
