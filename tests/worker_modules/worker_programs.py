"""Programs for worker processes: some well-behaved, some in trouble, each in its own way."""

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

Bound = tuple[Callable[[], Any], Callable[[], None]]


class Bindable:
    """A program whose feeds all call the same function; the first call, while loading, can be told apart."""

    def __init__(self, call: Callable[[bool], Any], restore: Callable[[], None] = lambda: None) -> None:
        self._call, self._restore = call, restore

    def bind(self, arguments: dict[str, Any]) -> Bound:
        calls = [0]

        def call() -> Any:
            calls[0] += 1
            return self._call(calls[0] == 1)

        return call, self._restore


def constant(values: list[float]) -> Bindable:
    """Answers with the same values always."""
    return Bindable(lambda loading: values)


class Echo:
    """Answers with what its feed holds."""

    def bind(self, arguments: dict[str, Any]) -> Bound:
        return lambda: arguments["values"], lambda: None


def echo() -> Echo:
    return Echo()


def counting() -> Bindable:
    """Cannot be called twice unless its state is restored in between."""
    state = {"used": False}

    def call(loading: bool) -> list[float]:
        if state["used"]:
            raise RuntimeError("called again without being restored")
        state["used"] = True
        return [1.0]

    return Bindable(call, lambda: state.update(used=False))


def raising(message: str, when: str) -> Bindable:
    """Raises in the factory (`load`), in the call that loading makes (`first`), or later (`run`)."""

    def call(loading: bool) -> list[float]:
        if when == ("first" if loading else "run"):
            raise ValueError(message)
        return [0.0]

    if when == "load":
        raise ValueError(message)
    return Bindable(call)


def printing(lines: int) -> Bindable:
    """Writes to stdout by every way there is."""

    def call(loading: bool) -> list[float]:
        for _ in range(lines):
            print('{"seq": 1, "ok": true}', flush=True)
            os.write(1, b"raw bytes on stdout\n")
        return [0.0]

    return Bindable(call)


def flooding(lines: int) -> Bindable:
    """Writes long lines to stderr and then ends the process."""

    def call(loading: bool) -> list[float]:
        if not loading:
            for number in range(lines):
                sys.stderr.write(f"line {number} " + "x" * 5000 + "\n")
            sys.stderr.flush()
            os._exit(7)
        return [0.0]

    return Bindable(call)


def exiting(code: int) -> Bindable:
    """Ends the process without a word."""

    def call(loading: bool) -> list[float]:
        if not loading:
            os._exit(code)
        return [0.0]

    return Bindable(call)


def crashing() -> Bindable:
    """Reads address 0."""

    def call(loading: bool) -> list[float]:
        return [0.0] if loading else [float(ctypes.string_at(0)[0])]

    return Bindable(call)


def hanging() -> Bindable:
    """Never comes back."""

    def call(loading: bool) -> list[float]:
        while not loading:
            pass
        return [0.0]

    return Bindable(call)


def hungry(chunk_bytes: int) -> Bindable:
    """Takes memory in chunks until there is none."""

    def call(loading: bool) -> list[float]:
        taken: list[bytearray] = []
        while not loading:
            taken.append(bytearray(chunk_bytes))
        return [0.0]

    return Bindable(call)


def holding(held_bytes: int) -> Bindable:
    """Keeps so much memory as long as it is loaded."""
    held = bytearray(b"x") * held_bytes
    return Bindable(lambda loading: [float(held[-1])])


def torch_hungry() -> Bindable:
    """Asks torch for more memory than a process can have."""
    import torch

    return Bindable(lambda loading: [0.0] if loading else torch.ones(2**44))


def torch_settings() -> Bindable:
    """Answers with what the worker was set up with: operator threads, pool threads, processors."""
    import torch

    return Bindable(
        lambda loading: [torch.get_num_threads(), torch.get_num_interop_threads(), len(os.sched_getaffinity(0))]
    )


def torch_linear(width: int) -> Bindable:
    """A matrix times a vector, both ramps."""
    import torch

    weight = torch.arange(width * width, dtype=torch.float32).reshape(width, width) / width**2
    vector = torch.arange(width, dtype=torch.float32)
    return Bindable(lambda loading: weight @ vector)


def calling(code: str) -> Bindable:
    """Runs one line of Python once it is loaded, and keeps what it gives."""
    kept: list[Any] = []

    def call(loading: bool) -> list[float]:
        if not loading:
            kept.append(eval(code, {"ctypes": ctypes, "socket": __import__("socket")}))
        return [0.0]

    return Bindable(call)


def torch_chain(products: int) -> Bindable:
    """So many products of matrices and one sum; restoring multiplies by a number."""
    import torch

    matrix = torch.ones(8, 8)

    def call(loading: bool) -> torch.Tensor:
        result = matrix
        for _ in range(products):
            result = result @ matrix
        return result + matrix

    return Bindable(call, lambda: matrix.mul(1.0))


def in_trouble(how: str, when: str) -> Bindable:
    """Crashes, hangs or takes all memory, in the call that loading makes (`load`) or in a later one (`run`)."""
    troubles: dict[str, Callable[[], Any]] = {
        "crash": lambda: ctypes.string_at(0),
        "hang": lambda: all(iter(lambda: True, False)),
        "memory": lambda: [bytearray(2**26) for _ in range(1000)],
    }

    def call(loading: bool) -> list[float]:
        if loading == (when == "load"):
            troubles[how]()
        return [1.0]

    return Bindable(call)
