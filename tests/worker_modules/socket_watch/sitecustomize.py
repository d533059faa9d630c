"""Watches every Python that starts with this folder on its path: writes down its sockets, ends it if one is native.

What Python opens is heard of through its audit events, in `SOCKET_LOG`. Libraries in C do not tell, so the kernel ends
a process, and all that it starts, as soon as one opens a socket to another machine.
"""

import atexit
import ctypes
import json
import os
import platform
import sys
from typing import Any

# Number of the architecture for seccomp, and of the system call `socket`.
SYSTEM_CALLS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, END_PROCESS = 0x7FFF0000, 0x80000000
AF_INET, AF_INET6 = 2, 10


class Step(ctypes.Structure):
    """One instruction of a filter."""

    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint32))


class Steps(ctypes.Structure):
    """A filter."""

    _fields_ = (("length", ctypes.c_ushort), ("first", ctypes.POINTER(Step)))


def forbid_internet_sockets() -> None:
    """For this process and its children, once and for all."""
    architecture, call = SYSTEM_CALLS[platform.machine()]
    steps = [
        (LOAD, 0, 0, 4),  # the architecture
        (EQUALS, 0, 5, architecture),
        (LOAD, 0, 0, 0),  # the call
        (EQUALS, 0, 3, call),
        (LOAD, 0, 0, 16),  # its first argument: the family
        (EQUALS, 2, 0, AF_INET),
        (EQUALS, 1, 0, AF_INET6),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, END_PROCESS),
    ]
    array = (Step * len(steps))(*(Step(*step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, ctypes.byref(Steps(len(steps), array)))):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "the kernel takes no filter")


def open_sockets() -> list[str]:
    """Of this process, as the kernel names them."""
    targets = []
    for number in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # the one that lists them
            continue
    return [target for target in targets if target.startswith("socket:")]


def watch(log: str) -> None:
    """Writes one line for the start, each socket event and the end of this process."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(event: str, *content: Any) -> None:
        os.write(file, (json.dumps([os.getpid(), event, repr(content)]) + "\n").encode())

    tell("started", sys.orig_argv)
    atexit.register(lambda: tell("ended", *open_sockets()))
    sys.addaudithook(lambda event, content: tell(event, *content) if event.startswith("socket.") else None)


if "SOCKET_LOG" in os.environ:
    forbid_internet_sockets()
    watch(os.environ["SOCKET_LOG"])
