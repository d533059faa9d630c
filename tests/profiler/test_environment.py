"""What the machine says of itself, compared with what it says by other ways, or on machines made of files."""

import json
import os
import platform
import resource
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest

from adaptare.devices import AgentWorker
from adaptare.devices.agent_worker import opened
from adaptare.profiler import environment

Frequency = namedtuple("Frequency", "current min max")
Reading = namedtuple("Reading", "current")


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    """Writes files of a machine and asks what it says."""

    def ask(**files: str) -> dict[str, Any]:
        for name, content in FILES.items():
            if name in files:
                (tmp_path / content).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / content).write_text(files[name])
        for zone, name in ZONES.items():
            if (tmp_path / zone).exists():
                (tmp_path / zone / "name").write_text(f"{name}\n")
        return environment(tmp_path)

    return ask


FILES = {
    "cpuinfo": "proc/cpuinfo",
    "hypervisor": "sys/hypervisor/type",
    "vendor": "sys/class/dmi/id/sys_vendor",
    "product": "sys/class/dmi/id/product_name",
    "governor": "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "clock": "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "memory": "proc/pressure/memory",
    "pages": "sys/kernel/mm/transparent_hugepage/enabled",
    "package": "sys/class/powercap/intel-rapl:0/energy_uj",
    "cores": "sys/class/powercap/intel-rapl:0:0/energy_uj",
    "other": "sys/class/powercap/intel-rapl:1/energy_uj",
}
ZONES = {
    "sys/class/powercap/intel-rapl:0": "package-0",
    "sys/class/powercap/intel-rapl:0:0": "core",
    "sys/class/powercap/intel-rapl:1": "package-1",
}
HOST = "processor\t: 0\nflags\t\t: fpu sse2 avx2\n"
GUEST = "processor\t: 0\nflags\t\t: fpu sse2 hypervisor avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\n"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, None),
        ({"cpuinfo": ARM}, None),
        ({"cpuinfo": HOST, "product": "Some Laptop"}, "none"),
        ({"cpuinfo": GUEST}, "unnamed hypervisor"),
        ({"cpuinfo": GUEST, "vendor": "QEMU\n", "product": "Standard PC\n"}, "QEMU Standard PC"),
        ({"cpuinfo": GUEST, "product": "KVM\n"}, "KVM"),
        ({"cpuinfo": GUEST, "hypervisor": "xen\n", "vendor": "Xen"}, "xen"),
        ({"cpuinfo": ARM, "hypervisor": "xen\n"}, "xen"),
    ],
)
def test_virtualisation_is_told_in_the_words_of_the_system(machine: Any, files: dict[str, str], said: str) -> None:
    assert machine(**files)["virtualisation"] == said


def test_a_machine_that_says_nothing_is_recorded_as_such(machine: Any) -> None:
    said = machine()
    names = ("virtualisation", "governor", "clock_source", "large_pages", "energy_j")
    assert [said[name] for name in names] == [None] * 5
    assert said["pressure"] == {"cpu": None, "memory": None}
    assert json.loads(json.dumps(said)) == said


def test_what_stands_in_files_is_told_as_it_stands_there(machine: Any) -> None:
    line = "some avg10=1.50 avg60=0.20 avg300=0.00 total=17"
    pressure, pages = f"{line}\nfull avg10=0.00\n", "always [madvise] never\n"
    said = machine(governor="powersave\n", clock="tsc\n", memory=pressure, pages=pages)
    assert (said["governor"], said["clock_source"]) == ("powersave", "tsc")
    assert said["large_pages"] == "always [madvise] never"
    assert said["pressure"] == {"cpu": None, "memory": line}


def test_energy_is_the_sum_of_the_packages_and_not_of_their_parts(machine: Any) -> None:
    said = machine(package="1500000\n", cores="900000\n", other="250000\n")
    assert said["energy_j"] == 1.75


def test_energy_that_may_not_be_read_is_not_estimated(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open

    def refused(file: Any, *mode: Any, **how: Any) -> Any:
        if str(file).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *mode, **how)

    monkeypatch.setattr("builtins.open", refused)
    assert machine(package="1500000\n")["energy_j"] is None


@pytest.mark.parametrize(
    ("mhz", "hertz"),
    [
        (None, None),
        (Frequency(2400.0, 800.0, 3500.0), {"current": 2.4e9, "min": 8e8, "max": 3.5e9}),
        (Frequency(2400.0, 0.0, 0.0), {"current": 2.4e9, "min": None, "max": None}),
    ],
)
def test_frequencies_are_in_hertz_and_0_is_none(
    monkeypatch: pytest.MonkeyPatch, mhz: Frequency | None, hertz: dict[str, float] | None
) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: mhz)
    assert environment()["frequency_hz"] == hertz


def test_the_hottest_reading_of_each_sensor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = {"coretemp": [Reading(51.0), Reading(64.0)], "nvme": [Reading(40.0)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert environment()["temperature_c"] == {"coretemp": 64.0, "nvme": 40.0}


def test_without_a_sensor_there_is_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    assert environment()["temperature_c"] is None


@pytest.mark.parametrize("tunables", [None, "glibc.malloc.hugetlb=0"])
def test_what_the_user_tells_the_c_library_is_kept(monkeypatch: pytest.MonkeyPatch, tunables: str | None) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if tunables:
        monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    assert environment()["malloc_tunables"] == tunables


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tell affinities")
def test_the_processors_that_may_be_used_are_named() -> None:
    before = os.sched_getaffinity(0)
    assert environment()["allowed_processors"] == sorted(before)
    os.sched_setaffinity(0, {max(before)})
    try:
        assert environment()["allowed_processors"] == [max(before)]
    finally:
        os.sched_setaffinity(0, before)


def test_processor_and_cores_are_those_of_the_machine() -> None:
    said = environment()
    assert said["physical_cores"] == psutil.cpu_count(logical=False)
    assert said["processor"].endswith(f"({platform.machine()})")


def test_the_switches_of_a_worker_are_counted_when_it_has_ended() -> None:
    before = environment()["switches"]
    worker = AgentWorker([sys.executable, "-c", "input()"], environment=os.environ, timeout_s=30)
    with opened(worker):
        during = environment()["switches"]
    after = environment()["switches"]
    assert during["workers_voluntary"] == before["workers_voluntary"] < after["workers_voluntary"]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after["workers_voluntary"], after["workers_involuntary"]) == (children.ru_nvcsw, children.ru_nivcsw)
    assert before["own_voluntary"] < after["own_voluntary"] <= resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
