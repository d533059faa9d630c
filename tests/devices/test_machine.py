"""Facts about machines that are made of files, and about this one by another way."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import get_clock_info
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from adaptare.core import InputError
from adaptare.devices import this_machine
from adaptare.devices.agent import machine
from adaptare.devices.agent.machine import processors, raw_facts, restrict, timer_step_s
from adaptare.devices.contracts import USUAL_CACHE_BYTES
from adaptare.devices.machine_facts import BATTERY_PROGRAM, ENERGY, EVERYTHING, VARIABLES, MachineFacts

Make = Callable[[Mapping[str, str]], MachineFacts]

HOST = "processor\t: 0\nflags\t\t: fpu sse2 avx2\n"
GUEST = "processor\t: 0\nflags\t\t: fpu sse2 hypervisor avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\n"
NAMED = "processor\t: 0\nmodel name\t: A 1\nprocessor\t: 1\nmodel name\t: B 2\n"
PART = "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
CPUINFO, MEMINFO = "proc/cpuinfo", "proc/meminfo"
BOARD = "proc/device-tree/model"
VENDOR, PRODUCT = "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name"
HYPERVISOR = "sys/hypervisor/type"
GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
CLOCK = "sys/devices/system/clocksource/clocksource0/current_clocksource"
PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
ZONES, SUPPLY, GROUP = "sys/class/powercap/intel-rapl:", "sys/class/power_supply", "sys/fs/cgroup/memory."
MEBIBYTE = 2**20


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A machine whose files have these contents."""

    def make(files: Mapping[str, str]) -> MachineFacts:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        return MachineFacts(raw_facts(EVERYTHING, str(tmp_path)))

    return make


@pytest.mark.parametrize(
    ("siblings", "threads", "processors"),
    [
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, 2, [1, 3]),
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, 3, [2, 1, 3]),
        ({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, 2, [2, 3]),
        ({0: "", 1: ""}, 1, [1]),  # a system that does not tell
    ],
)
def test_threads_have_a_core_of_their_own_as_long_as_there_are_any(
    make: Make, siblings: dict[int, str], threads: int, processors: list[int]
) -> None:
    folder = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    made = make({folder.format(number): core for number, core in siblings.items() if core}).on(list(siblings))
    assert made.pinned(threads) == processors
    assert made.physical_cores == 2


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({CPUINFO: NAMED, BOARD: "Board 5\0"}, "A 1"),
        ({CPUINFO: ARM, BOARD: "Board 5\0"}, "Board 5"),
        ({CPUINFO: PART}, "0x41 0xd0b"),
    ],
)
def test_hardware_without_a_name_is_called_by_its_board_or_part(
    monkeypatch: pytest.MonkeyPatch, make: Make, files: dict[str, str], name: str
) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "z80")
    assert make(files).hardware == f"{name} (z80)"


def cache(processor: int, index: int, size: str, shared: str) -> dict[str, str]:
    folder = f"sys/devices/system/cpu/cpu{processor}/cache/index{index}"
    return {f"{folder}/size": size, f"{folder}/shared_cpu_list": shared}


def test_caches_of_several_groups_of_processors_count_together(make: Make) -> None:
    """Two processors share one cache of 32 MiB, a third has one of its own, and each a small one beside it."""
    files = {}
    for processor, shared in ((0, "0-7"), (1, "0-7"), (8, "8-15")):
        files |= cache(processor, 0, "48K", str(processor)) | cache(processor, 3, "32768K", shared)
    assert make(files).on([0, 1, 8]).cache_bytes == 2 * 32 * MEBIBYTE


def test_a_machine_that_does_not_tell_its_caches_has_usual_ones(make: Make) -> None:
    assert make({}).cache_bytes == USUAL_CACHE_BYTES


@pytest.mark.parametrize(("used", "files", "left"), [(6, 0, 2), (8, 5, 5), (4, 5, 8)])
def test_files_that_were_read_leave_their_memory_to_a_container(make: Make, used: int, files: int, left: int) -> None:
    stat = f"anon 1\ninactive_file {files * MEBIBYTE}\nactive_file 0\nfile 9"
    told = {f"{GROUP}max": str(8 * MEBIBYTE), f"{GROUP}current": str(used * MEBIBYTE), f"{GROUP}stat": stat}
    assert make({**told, MEMINFO: "MemTotal: 99 kB\nMemAvailable: 16384 kB\n"}).free_bytes == left * MEBIBYTE


@pytest.mark.parametrize(("limit", "used"), [(str(8 * MEBIBYTE), "0"), ("max", "5")])
def test_a_container_leaves_no_more_than_the_machine_has(make: Make, limit: str, used: str) -> None:
    told = {f"{GROUP}max": limit, f"{GROUP}current": used, MEMINFO: "MemAvailable: 1024 kB\n"}
    assert make(told).free_bytes == MEBIBYTE


def test_a_system_that_does_not_tell_what_is_free_has_all_its_memory(make: Make) -> None:
    assert make({}).free_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, None),
        ({CPUINFO: HOST, PRODUCT: "Some Laptop"}, "none"),
        ({CPUINFO: GUEST}, "unnamed hypervisor"),
        ({CPUINFO: GUEST, VENDOR: "QEMU\n", PRODUCT: "Standard PC\n"}, "QEMU Standard PC"),
        ({CPUINFO: GUEST, HYPERVISOR: "xen\n", VENDOR: "Xen"}, "xen"),
        ({CPUINFO: ARM, HYPERVISOR: "xen\n"}, "xen"),
    ],
)
def test_virtualisation_is_told_in_the_words_of_the_system(make: Make, files: dict[str, str], told: str) -> None:
    assert make(files).environment()["virtualisation"] == told


def test_a_machine_that_tells_nothing_is_recorded_as_such(make: Make) -> None:
    told = make({}).environment()
    silent = ("virtualisation", "governor", "clock_source", "large_pages", "energy_j", "frequency_hz")
    assert [told[name] for name in (*silent, "temperature_c", "battery", "steal_s")] == [None] * 9
    assert told["pressure"] == {"cpu": None, "memory": None}
    assert json.loads(json.dumps(told)) == told


def test_the_content_of_files_is_told_as_it_stands_there(make: Make) -> None:
    line = "some avg10=1.50 avg60=0.20 avg300=0.00 total=17"
    pages = "always [madvise] never"
    files = {GOVERNOR: "powersave\n", CLOCK: "tsc\n", "proc/pressure/memory": f"{line}\nfull\n", PAGES: f"{pages}\n"}
    told = make(files).environment()
    assert (told["governor"], told["clock_source"], told["large_pages"]) == ("powersave", "tsc", pages)
    assert told["pressure"] == {"cpu": None, "memory": line}


def zone(place: str, name: str, energy_uj: str) -> dict[str, str]:
    return {f"{ZONES}{place}/name": f"{name}\n", f"{ZONES}{place}/energy_uj": f"{energy_uj}\n"}


def test_energy_is_the_sum_of_the_packages_and_not_of_their_parts(make: Make) -> None:
    files = zone("0", "package-0", "1500000") | zone("0:0", "core", "900000") | zone("1", "package-1", "250000")
    assert make(files).environment()["energy_j"] == 1.75


def test_energy_that_may_not_be_read_is_not_estimated(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = open

    def refused(file: Any, *mode: Any, **how: Any) -> Any:
        if str(file).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *mode, **how)

    make(zone("0", "package-0", "1500000"))
    assert MachineFacts(raw_facts(ENERGY, str(tmp_path))).energy_j == 1.5
    monkeypatch.setattr("builtins.open", refused)
    assert MachineFacts(raw_facts(ENERGY, str(tmp_path))).energy_j is None


def test_what_an_agent_sends_is_bounded(make: Make, tmp_path: Path) -> None:
    make({"proc/cpuinfo": "x" * 1000, "proc/meminfo": "y" * 1000, "proc/stat": "z" * 1000})
    sent = raw_facts({**EVERYTHING, "file_bytes": 100, "total_bytes": 150}, str(tmp_path))["files"]
    assert sent == {"proc/cpuinfo": "x" * 100, "proc/meminfo": "y" * 50}


@pytest.mark.parametrize(("cores", "processors"), [("21", [0, 5]), ("FF", [0, 1, 4, 5])])
def test_a_mask_chooses_processors_of_the_machine(make: Make, cores: str, processors: list[int]) -> None:
    assert make({}).on([0, 1, 4, 5]).masked(cores).processors == tuple(processors)


def test_a_mask_without_a_processor_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="does not permit the processors of the mask f00; it has"):
        make({}).on([0, 1]).masked("f00")


def test_a_page_is_described_by_what_it_knows() -> None:
    page = MachineFacts({"hardware": "Phone 7 (arm)", "at_s": 0, "known": {"isolated": True, "battery": None}})
    assert (page.hardware, page.processors, page.cache_bytes) == ("Phone 7 (arm)", (), USUAL_CACHE_BYTES)
    told = page.environment()
    assert (told["isolated"], told["at"], told["governor"]) == (True, "1970-01-01T00:00:00+00:00", None)


def test_android_reports_the_battery_by_a_program() -> None:
    printed = "Current Battery Service state:\n  status: 3\n  level: 85\n"
    told = MachineFacts({"files": {BATTERY_PROGRAM: printed}}).environment()
    assert told["battery"] == {"capacity": "85", "status": "Discharging"}


FREQUENCIES = {
    f"sys/devices/system/cpu/cpu0/cpufreq/{name}": f"{khz}\n"
    for name, khz in (("scaling_cur_freq", 1200000), ("cpuinfo_min_freq", 800000), ("cpuinfo_max_freq", 3500000))
}


@pytest.mark.parametrize(
    ("files", "hertz"),
    [
        ({CPUINFO: "cpu MHz : 2400.0\ncpu MHz : 1600.0\n"}, {"current": 2e9, "min": None, "max": None}),
        ({**FREQUENCIES, CPUINFO: "cpu MHz : 2400.0\n"}, {"current": 2.4e9, "min": 8e8, "max": 3.5e9}),
    ],
)
def test_frequencies_are_in_hertz(make: Make, files: dict[str, str], hertz: dict[str, float]) -> None:
    assert make(files).environment()["frequency_hz"] == hertz


def test_clusters_tell_the_frequency_that_they_may_use(make: Make) -> None:
    little, big = (f"sys/devices/system/cpu/cpufreq/policy{number}" for number in (0, 4))
    files = {
        f"{big}/related_cpus": "4 5",
        f"{big}/scaling_governor": "schedutil",
        f"{big}/scaling_max_freq": "1200000",
        f"{big}/cpuinfo_max_freq": "2400000",
        f"{little}/related_cpus": "0 1 2 3",
        f"{little}/scaling_cur_freq": "300000",
    }
    unknown = {"governor": None, "allowed_hz": None, "max_hz": None}
    assert make(files).environment()["clusters"] == [
        {"processors": "0 1 2 3", "current_hz": 3e8, **unknown},
        {"processors": "4 5", "governor": "schedutil", "current_hz": None, "allowed_hz": 1.2e9, "max_hz": 2.4e9},
    ]


def test_the_hottest_reading_of_each_sensor_is_told(make: Make) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/type": "soc",
        "sys/class/thermal/thermal_zone0/temp": "41500",
        "sys/class/hwmon/hwmon0/name": "coretemp",
        "sys/class/hwmon/hwmon0/temp1_input": "51000",
        "sys/class/hwmon/hwmon0/temp2_input": "64000",
        "sys/class/hwmon/hwmon1/name": "broken",
        "sys/class/hwmon/hwmon1/temp1_input": "",
    }
    assert make(files).environment()["temperature_c"] == {"soc": 41.5, "coretemp": 64.0}


def test_the_battery_is_told_and_the_mains_are_not(make: Make) -> None:
    mains = {f"{SUPPLY}/AC/type": "Mains\n"}
    battery = {f"{SUPPLY}/BAT0/type": "Battery\n", f"{SUPPLY}/BAT0/capacity": "87\n"}
    assert make(mains).environment()["battery"] is None
    told = make({**battery, f"{SUPPLY}/BAT0/status": "Discharging\n"}).environment()
    assert told["battery"] == {"capacity": "87", "status": "Discharging"}


def test_stolen_time_is_that_of_all_processors(make: Make) -> None:
    told = make({"proc/stat": "cpu  1 2 3 4 5 6 7 250 0 0\ncpu0 1 2 3 4 5 6 7 9 0 0\n"}).environment()
    assert told["steal_s"] == 250 / os.sysconf("SC_CLK_TCK")


def test_variables_that_libraries_read_are_kept_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(VARIABLES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("TOKEN_OF_SOMEBODY", "secret")
    assert this_machine().environment()["variables"] == {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "3"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tell affinities")
def test_the_processors_that_may_be_used_are_those_it_was_kept_on() -> None:
    before = os.sched_getaffinity(0)
    assert this_machine().environment()["allowed_processors"] == sorted(before)
    restrict([max(before)])
    try:
        assert this_machine().environment()["allowed_processors"] == [max(before)]
    finally:
        os.sched_setaffinity(0, before)


def test_cores_free_memory_and_packages_are_those_that_others_tell() -> None:
    told = this_machine()
    assert told.environment()["packages"]["numpy"] == np.__version__
    assert 1 <= told.physical_cores <= len(processors())
    if len(processors()) == psutil.cpu_count():
        assert told.physical_cores == psutil.cpu_count(logical=False)
    assert 0 < told.free_bytes <= psutil.virtual_memory().total


def test_the_step_of_the_clock_is_its_smallest_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, 0.0, 0.5, 0.75] + [0.75] * 996)
    # Not that of the module `time`, which other threads of these tests read too.
    monkeypatch.setattr(
        machine, "time", SimpleNamespace(perf_counter=lambda: next(readings), get_clock_info=get_clock_info)
    )
    assert timer_step_s() == 0.25


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_a_container_tells_how_much_it_may_compute(make: Make, files: dict[str, str], quota: float | None) -> None:
    made = make({f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert made.environment()["processor_quota"] == quota
