"""Android's debug bridge on this machine: adbd with a network and a /data of its own, on one core."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
TOOLS = ("adb", "adbd", "ip", "unshare", "nsenter", "taskset", "mount")
# One for each process of these tests: adbd listens outside of its network too, where the system has virtual sockets.
PORT = 5555 + 2 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
STARTED_S = 60
# All that a phone has to have.
PROGRAMS = ("sh", "cat", "chmod", "du", "mkdir", "mv", "rm", "sha256sum", "uname")
PRODUCT = {"ro.product.manufacturer": "Loopback", "ro.product.model": "One", "ro.soc.model": "AB12"}
GETPROP = "#!/bin/sh\ncase $1 in {cases} esac\n"


def problem() -> str:
    """Why there can be no such phone here; empty if there can."""
    absent = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "adbd needs root"
    allowed = subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True, check=False)
    return "" if allowed.returncode == 0 else "this system permits no network of its own"


class Phone:
    """adbd, and an `adb` in `client` that reaches nothing else.

    Args:
        place: A folder for all of its files.
        programs: Those of the device.
    """

    serial = f"127.0.0.1:{PORT}"

    def __init__(self, place: Path, *, programs: Collection[str] = PROGRAMS) -> None:
        self.client, self.tools, self.home, self.data = (place / name for name in ("client", "tools", "home", "data"))
        for folder in (self.client, self.tools, self.home, self.data / "local" / "tmp"):
            folder.mkdir(parents=True)
        for program in programs:
            (self.tools / program).symlink_to(shutil.which(program, path=PATH) or "")
        cases = " ".join(f"{name}) echo '{value}' ;;" for name, value in PRODUCT.items())
        self.add_program("getprop", GETPROP.format(cases=cases))
        self._made_data = not Path("/data").exists()
        Path("/data").mkdir(exist_ok=True)
        self._holder = subprocess.Popen(["unshare", "-n", "-m", "sleep", "infinity"])
        self._adbd: subprocess.Popen[bytes] | None = None
        self._wait(lambda: os.readlink(f"/proc/{self._holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        self._inside("ip", "link", "set", "lo", "up")
        self._inside("mount", "--bind", str(self.data), "/data")
        adb = shutil.which("adb", path=PATH)
        self._write(
            self.client / "adb",
            f'#!/bin/sh\nHOME={self.home} exec nsenter --net=/proc/{self._holder.pid}/ns/net {adb} "$@"\n',
        )
        self.start()

    @property
    def spelling(self) -> str:
        return f"adb:{self.serial}/ort-native"

    @property
    def folder(self) -> Path:
        """What adaptare keeps on the device."""
        return self.data / "local" / "tmp" / "adaptare"

    def start(self) -> None:
        """Starts adbd and connects the client to it."""
        environment = {"PATH": str(self.tools), "ADBD_PORT": str(PORT), "HOME": "/data"}
        adbd = [shutil.which("taskset", path=PATH) or "", "-c", "0", shutil.which("adbd", path=PATH) or ""]
        self._adbd = subprocess.Popen(
            [shutil.which("nsenter", path=PATH) or "", "-t", str(self._holder.pid), "-n", "-m", *adbd],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait(self._connected)

    def kill(self) -> None:
        """Kills adbd, as when the cable is pulled."""
        if self._adbd is not None:
            self._adbd.kill()
            self._adbd.wait()
            self._adbd = None

    def adb(self, *arguments: str) -> str:
        """Output of the client."""
        return subprocess.run([self.client / "adb", *arguments], capture_output=True, text=True, check=False).stdout

    def add_program(self, name: str, text: str) -> None:
        """Puts a script on the device's PATH, in place of a program of that name."""
        (self.tools / name).unlink(missing_ok=True)
        self._write(self.tools / name, text)

    def fill(self, size: str) -> None:
        """Gives the device a disk of this size, on which what was there is gone."""
        self._inside("mount", "-t", "tmpfs", "-o", f"size={size}", "none", "/data")
        self._inside("mkdir", "-p", "/data/local/tmp")

    def write_until_full(self, name: str) -> None:
        """Writes a file that takes all of the disk that is left."""
        self._inside("sh", "-c", f"cat /dev/zero >/data/{name} 2>/dev/null || true")

    def remove(self, name: str) -> None:
        """Removes it."""
        self._inside("rm", f"/data/{name}")

    def remount(self, option: str) -> None:
        """Changes an option of its disk, such as `ro`."""
        self._inside("mount", "-o", f"remount,bind,{option}", "/data")

    def processes(self) -> list[int]:
        """Processes of agents on the device."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and b"/data/local/tmp/adaptare/agents/" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def stop(self) -> None:
        """Ends everything that was started."""
        self.adb("kill-server")
        self.kill()
        self._holder.send_signal(signal.SIGKILL)
        self._holder.wait()
        if self._made_data:
            with contextlib.suppress(OSError):
                Path("/data").rmdir()

    def _inside(self, *command: str) -> None:
        subprocess.run(["nsenter", "-t", str(self._holder.pid), "-n", "-m", *command], check=True, env={"PATH": PATH})

    @staticmethod
    def _write(file: Path, text: str) -> None:
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)

    def _connected(self) -> bool:
        self.adb("connect", self.serial)
        return f"{self.serial}\tdevice" in self.adb("devices")

    @staticmethod
    def _wait(ready: Callable[[], bool]) -> None:
        end = time.monotonic() + STARTED_S
        while not ready():
            if time.monotonic() > end:
                raise TimeoutError("the phone does not start")
            time.sleep(0.05)


@contextlib.contextmanager
def phone(place: Path, programs: Collection[str] = PROGRAMS) -> Iterator[Phone]:
    """A phone, and its `adb` first on PATH."""
    made = Phone(place, programs=programs)
    before = os.environ["PATH"]
    os.environ["PATH"] = os.pathsep.join([str(made.client), before])
    try:
        yield made
    finally:
        os.environ["PATH"] = before
        made.stop()
