"""The comparison of a page's outputs with those of this machine, which a worker here computes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from onnx import parser, save

from adaptare.core import DeviceError, ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Loaded, Program, Work, program_file
from adaptare.devices.browser.ort_web import HostOutputs, ort_web
from adaptare.devices.browser.transport import BrowserTransport

# Of a page that doubles twos.
RIGHT = Loaded("p", 0, 1.0, {"wasm": 1}, {"f": (4.0, 4.0)})


@pytest.fixture
def doubling(tmp_path: Path) -> Callable[[str], Program]:
    """Makes programs of one function."""
    graph = "g (float[2] x) => (float[2] y) { y = Add(x, x) }"
    save(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}'), tmp_path / "m.onnx")
    inputs = {"inputs": {"x": {"dtype": "float32", "shape": [2], "constant": 2.0}}}
    feed = Feed("f", canonical_json(inputs), Work(1, 1, 1))
    made = Program("p", "m.onnx", "{}", (feed,), (program_file(tmp_path / "m.onnx"),))
    return lambda name: replace(made, feeds=(replace(feed, name=name),))


def test_a_worker_that_died_is_replaced_for_the_next_program(doubling: Callable[[str], Program]) -> None:
    here = psutil.Process()
    before = set(here.children(recursive=True))
    with HostOutputs(timeout_s=60).compared() as check:
        check(doubling("f"), RIGHT)
        for child in set(here.children(recursive=True)) - before:
            child.kill()
        with pytest.raises(ProgramError, match=r"no outputs to compare those of the page with: the worker ended"):
            check(doubling("g"), RIGHT)
        check(doubling("g"), replace(RIGHT, outputs={"g": (4.0, 4.0)}))
    assert set(here.children(recursive=True)) == before


def test_the_time_limit_of_the_device_is_that_of_the_comparison(doubling: Callable[[str], Program]) -> None:
    device = ort_web(transport=BrowserTransport("page"), timeout_s=0.001)
    with (
        device._compared() as check,
        pytest.raises(DeviceError, match=r"no answer to 'machine' within 0\.001 s"),
    ):
        check(doubling("f"), RIGHT)
