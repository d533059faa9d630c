"""Inputs that ten lines of plain Python make alike, to the last bit."""

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from adaptare.devices.agent.feeds import filled, uniform

Spec = dict[str, Any]


# Each prints, for every value, the integer below n and the bits of the uniform float32.
PYTHON = """
import struct, sys
seed, count, n, limit = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
scale, = struct.unpack("f", struct.pack("f", limit / 8388608))
for i in range(count):
    x = (seed + i * 0x9E3779B9) % 2**32
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    x = x ^ x >> 16
    print(x % n, *struct.unpack("I", struct.pack("f", ((x >> 8) - 8388608) * scale)))
"""
# A small limit, one that no float32 is equal to, and one of a logarithm.
FEEDS = [(0, [1], 2, 1.0), (7, [3, 1000], 32000, 0.1), (2**32 - 1, [2, 5, 7], 3, 1.7e-3), (2**40 + 5, [4097], 7, 3e38)]


def test_ten_lines_of_python_make_the_same_bits() -> None:
    """The agent in C and the page are compared with this agent in `test_native_agent` and `test_browser_feeds`."""
    for seed, shape, n, limit in FEEDS:
        count = int(np.prod(shape))
        command = [sys.executable, "-c", PYTHON, *map(str, (seed, count, n, limit))]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        spec = {"shape": shape, "seed": seed}
        integers = filled("x", {**spec, "dtype": "int64", "integers": n})
        floats = filled("x", {**spec, "dtype": "float32", "uniform": limit})
        assert np.array_equal(np.array(told[::2], dtype=np.int64).reshape(shape), integers)
        assert np.array_equal(np.array(told[1::2], dtype=np.uint32).reshape(shape), floats.view(np.uint32))


def test_the_first_values_are_these() -> None:
    """Of seed 1, for those who write a generator and have no other to compare with."""
    assert filled("x", {"dtype": "int64", "shape": [4], "integers": 1000, "seed": 1}).tolist() == [952, 292, 714, 65]
    assert uniform(1, [3], 1.0).tolist() == [-0.1833019256591797, 0.24463915824890137, -0.470544695854187]


def test_uniform_values_neighbours_and_neighbouring_seeds_are_independent() -> None:
    values = uniform(1, [100_000], 1.0)
    assert values.std() == pytest.approx(1 / np.sqrt(3), rel=0.01)
    following = uniform(2, [100_000], 1.0)
    pairs = [(values[:-1], values[1:]), (values, following), (values[1:], following[:-1])]
    assert max(abs(np.corrcoef(one, other)[0, 1]) for one, other in pairs) < 4 / np.sqrt(values.size)


@pytest.mark.parametrize("fill", [{"constant": 1}, {"integers": 2, "seed": 3}, {"uniform": 1.0, "seed": 3}])
def test_every_fill_has_the_type_and_shape_that_were_asked_for(fill: Spec) -> None:
    for shape, dtype in itertools.product([[], [2, 0, 3], [2, 3]], ["float32", "float16", "int64", "bool"]):
        made = filled("x", {**fill, "shape": shape, "dtype": dtype})
        assert isinstance(made, np.ndarray)
        assert (made.dtype, list(made.shape)) == (np.dtype(dtype), shape)


def test_padding_is_zeros_after_the_values() -> None:
    spec = {"dtype": "float32", "shape": [1, 2], "constant": 7, "padded_to": [2, 3]}
    assert filled("x", spec).tolist() == [[7, 7, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": 1.0}, r"'x' must be filled by exactly one of constant, integers, uniform, not by \['normal'\]"),
        ({"uniform": 1.0, "constant": 2.0, "seed": 1}, r"not by \['constant', 'uniform'\]"),
        ({"uniform": 1.0}, "'x': its spec lacks seed"),
        ({"constant": 1.0, "padded_to": [2, 2]}, r"'x' of shape \[2, 3\] cannot be padded to \[2, 2\]"),
        ({"constant": 1.0, "padded_to": [6]}, r"'x' of shape \[2, 3\] cannot be padded to \[6\]"),
    ],
    ids=["unknown fill", "two fills", "no seed", "padded to less", "padded to fewer axes"],
)
def test_a_spec_that_cannot_be_met_is_refused(change: Spec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        filled("x", {"dtype": "float32", "shape": [2, 3], **change})
