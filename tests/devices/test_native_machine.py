"""Facts about machines that the agent in C reads, against those that the agent in Python reads from the same files."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.devices.agent.machine import processors, raw_facts
from adaptare.devices.machine_facts import EVERYTHING, MachineFacts
from adaptare.devices.native.build import bundle_for
from adaptare.devices.native.compiler import target_here

pytestmark = pytest.mark.native
MEMORY = {"proc/meminfo": "MemTotal:  900 kB\nMemAvailable:   700000 kB\n"}
CPU = "sys/devices/system/cpu"
BOARD = MEMORY | {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "61835",
    "sys/class/hwmon/hwmon0/name": "cpu_thermal",
    "sys/class/hwmon/hwmon0/temp1_input": "61000",
    "sys/class/hwmon/hwmon0/temp2_input": "62500",
    "sys/class/hwmon/hwmon1/name": "broken",
    "sys/class/hwmon/hwmon1/temp1_input": "",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "ondemand",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "600000",
    f"{CPU}/cpu0/cpufreq/cpuinfo_min_freq": "600000",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "1500000",
}
LAPTOP = MEMORY | {
    "proc/cpuinfo": "model name\t: CPU @ 2 GHz\nflags\t: fpu hypervisor\ncpu MHz\t: 1000.5\n\ncpu MHz\t: 2000.5\n",
    "sys/class/dmi/id/sys_vendor": "QEMU",
    "sys/class/dmi/id/product_name": "Standard PC",
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/capacity": "61",
    "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "2500000",
    "sys/class/powercap/intel-rapl:1/name": "package-1",
    "sys/class/powercap/intel-rapl:1/energy_uj": "500000",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "77",
    "sys/fs/cgroup/memory.max": "400000000",
    "sys/fs/cgroup/memory.current": "390000000",
    "sys/fs/cgroup/memory.stat": "anon 5\nfile 90\ninactive_file 150000000\nactive_file 20000000\n",
    "proc/stat": "cpu  1 2 3 4 5 6 7 80 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n",
    "proc/pressure/cpu": "some avg10=0.00\nfull avg10=0.00\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
}
FULL = MEMORY | {
    "proc/cpuinfo": "flags\t: fpu\n",
    "sys/hypervisor/type": "xen",
    "sys/fs/cgroup/memory.max": "1000",
    "sys/fs/cgroup/memory.current": "5000",
    "sys/fs/cgroup/memory.stat": "inactive_file 100\n",
}
LITTLE, BIG = f"{CPU}/cpufreq/policy0", f"{CPU}/cpufreq/policy4"
PHONE = MEMORY | {
    f"{LITTLE}/related_cpus": "0 1 2 3",
    f"{LITTLE}/scaling_governor": "schedutil",
    f"{LITTLE}/scaling_cur_freq": "300000",
    f"{LITTLE}/scaling_max_freq": "1800000",
    f"{LITTLE}/cpuinfo_max_freq": "1800000",
    f"{BIG}/related_cpus": "4 5 6 7",
    f"{BIG}/scaling_max_freq": "1200000",
    f"{BIG}/cpuinfo_max_freq": "2400000",
}
SHARED = {f"{CPU}/cpu{each}/topology/thread_siblings_list": "0-63" for each in processors()}
for _each in processors():
    SHARED |= {
        f"{CPU}/cpu{_each}/cache/index0/size": "32K",
        f"{CPU}/cpu{_each}/cache/index0/shared_cpu_list": f"{_each}",
        f"{CPU}/cpu{_each}/cache/index3/size": "12345K",
        f"{CPU}/cpu{_each}/cache/index3/shared_cpu_list": "0-63",
    }
MACHINES = {"board": BOARD, "phone": PHONE, "laptop": LAPTOP, "full": FULL, "shared": MEMORY | SHARED, "bare": MEMORY}
OWN = {"at", "python", "packages", "variables", "load_average", "switches"}
Tell = Callable[..., MachineFacts]


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """What the agent says of the machine with these files."""

    def told(files: dict[str, str], environment: dict[str, str] | None = None, **asked: Any) -> MachineFacts:
        for name, content in files.items():
            file = tmp_path / "root" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            file.chmod(0o755)
        bundle = bundle_for(target_here())
        command = [*bundle.command(str(bundle.folder)), str(tmp_path / "agent"), str(tmp_path / "root")]
        request = json.dumps({"seq": 1, "op": "machine", **EVERYTHING, **asked}) + "\n"
        done = subprocess.run(command, input=request, capture_output=True, text=True, check=True, env=environment or {})
        return MachineFacts(json.loads(done.stdout)["machine"])

    return told


@pytest.mark.parametrize("name", MACHINES)
def test_the_same_files_give_the_same_facts(tell: Tell, tmp_path: Path, name: str) -> None:
    found, expected = tell(MACHINES[name]), MachineFacts(raw_facts(EVERYTHING, str(tmp_path / "root")))
    assert found.raw["files"] == expected.raw["files"]
    assert found.hardware == expected.hardware
    ours, theirs = found.environment(), expected.environment()
    assert {key: ours[key] for key in set(ours) - OWN} == {key: theirs[key] for key in set(theirs) - OWN}


def test_what_the_agent_sends_is_bounded(tell: Tell) -> None:
    files = {"proc/cpuinfo": "x" * 1000, "proc/meminfo": "y" * 1000, "proc/stat": "z" * 1000}
    sent = tell(files, file_bytes=100, total_bytes=150).raw["files"]
    assert sent == {"proc/cpuinfo": "x" * 100, "proc/meminfo": "y" * 50}


def test_only_variables_that_the_host_names_are_sent(tell: Tell) -> None:
    found = tell({}, {"OMP_NUM_THREADS": "3", "TOKEN_OF_SOMEBODY": "secret", "LD_X": 'a"\t\x7f'})
    assert found.raw["variables"] == {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "3", "LD_X": 'a"\t\x7f'}


def test_a_transport_may_know_the_product(tell: Tell) -> None:
    found = tell(BOARD, {"ADAPTARE_HARDWARE": "Google Pixel 8"})
    assert found.hardware.startswith("Google Pixel 8 (")


@pytest.mark.parametrize(
    ("printed", "battery"),
    [
        ("Current Battery Service state:\n  status: 3\n  level: 85\n", {"capacity": "85", "status": "Discharging"}),
        ("  status: 99\n", None),
    ],
)
def test_android_tells_of_its_battery_by_a_program(tell: Tell, printed: str, battery: object) -> None:
    files = {"system/bin/dumpsys": f"#!/bin/sh\n[ \"$*\" = battery ] && printf '{printed}'\n"}
    assert tell(MEMORY | files).environment()["battery"] == battery
