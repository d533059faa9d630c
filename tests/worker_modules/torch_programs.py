"""Programs for workers with torch, wherever it computes: plain, with a state, and in trouble."""

from collections.abc import Callable
from typing import Any

import torch
from worker_programs import Bindable


def prepared(function: Callable[..., torch.Tensor], compiled: bool) -> Callable[..., torch.Tensor]:
    """The function, compiled as a whole if asked to."""
    return torch.compile(function, dynamic=False, fullgraph=True) if compiled else function


def linear(width: int, device: str = "cpu", compiled: bool = False) -> Bindable:
    """A matrix times a vector, both ramps."""
    weight = torch.arange(width * width, dtype=torch.float32, device=device).reshape(width, width) / width**2
    vector = torch.arange(width, dtype=torch.float32, device=device)
    product = prepared(torch.mv, compiled)
    return Bindable(lambda loading: product(weight, vector))


def growing(device: str = "cpu", compiled: bool = False) -> Bindable:
    """A tensor that each call replaces by a longer one, as caches are; restoring brings the short one back."""
    short = torch.ones(4, device=device)
    state = {"held": short}
    longer = prepared(lambda held: torch.cat([held, 2 * held]), compiled)

    def call(loading: bool) -> torch.Tensor:
        if state["held"].numel() > short.numel():
            raise RuntimeError("called again without being restored")
        state["held"] = longer(state["held"])
        return state["held"]

    return Bindable(call, lambda: state.update(held=short))


def failing(device: str = "cpu", compiled: bool = False) -> Bindable:
    """Works only while it is loaded."""
    ones = torch.ones(2, device=device)
    twice = prepared(lambda tensor: 2 * tensor, compiled)

    def call(loading: bool) -> torch.Tensor:
        if not loading:
            raise ValueError("a matter of principle")
        return twice(ones)

    return Bindable(call)


def waiting(device: str = "cpu") -> Bindable:
    """Reads a number off the device in each call, which no graph can do."""
    ones = torch.ones(2, device=device)
    return Bindable(lambda loading: ones * ones.sum().item())


def saying(words: str, device: str = "cpu") -> Bindable:
    """Raises these words, as torch does in trouble, in every call after the first."""

    def call(loading: bool) -> Any:
        if not loading:
            raise torch.OutOfMemoryError(words) if "out of memory" in words else RuntimeError(words)
        return torch.ones(2, device=device)

    return Bindable(call)
