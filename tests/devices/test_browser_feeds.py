"""Inputs that a page makes, to the last bit those of the agent in Python."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.devices import browser
from adaptare.devices.agent.feeds import filled

SPECS: list[dict[str, Any]] = [
    {"dtype": "float32", "shape": [3, 1000], "uniform": 0.1, "seed": 7},
    {"dtype": "float32", "shape": [2, 5, 7], "uniform": 1.7e-3, "seed": 2**32 - 1},
    {"dtype": "float32", "shape": [4097], "uniform": 3e38, "seed": 2**40 + 5},
    {"dtype": "float32", "shape": [2, 3, 2], "uniform": 1.0, "seed": 1, "padded_to": [3, 3, 5]},
    {"dtype": "float32", "shape": [0, 4], "constant": 0, "padded_to": [2, 4]},
    {"dtype": "float32", "shape": [], "constant": 2.5},
    {"dtype": "float64", "shape": [2, 2], "constant": 1e-3},
    {"dtype": "int64", "shape": [1, 70], "integers": 49152, "seed": 5},
    {"dtype": "int32", "shape": [9], "integers": 3, "seed": 2**31},
    {"dtype": "bool", "shape": [2, 2], "constant": True},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dtype": "float32", "shape": [1], "constant": 1, "integers": 2, "seed": 1}, "by exactly one of"),
    ({"dtype": "float32", "shape": [1], "uniform": 1.0}, "its spec lacks seed"),
    ({"dtype": "float16", "shape": [1], "constant": 1}, "has type float16; pages make float32, "),
    ({"dtype": "int32", "shape": [2], "constant": 1, "padded_to": [1]}, "cannot be padded to [1]"),
]
PROGRAM = """
import { filled } from "./feeds.mjs";
const told = JSON.parse(process.argv[1]).map((spec) => {
  try {
    const { type, data, dims } = filled("x", spec);
    return { type, dims, bytes: Buffer.from(data.buffer).toString("hex") };
  } catch (error) { return { error: error.message }; }
});
console.log(JSON.stringify(told));
"""

pytestmark = [
    pytest.mark.other_languages,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Answers to all specifications, by Node."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copyfile(Path(browser.__file__).parent / "page" / "feeds.js", folder / "feeds.mjs")
    specs = json.dumps([*SPECS, *(spec for spec, _ in REFUSED)])
    command = ["node", "--input-type=module", "-e", PROGRAM, specs]
    return json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)


def test_a_page_makes_the_same_bits(made: Any) -> None:
    for spec, answer in zip(SPECS, made, strict=False):
        expected = filled("x", spec)
        assert answer == {
            "type": expected.dtype.name,
            "dims": list(expected.shape),
            "bytes": np.ascontiguousarray(expected).tobytes().hex(),
        }


def test_a_page_refuses_what_it_cannot_make(made: Any) -> None:
    for (_, words), answer in zip(REFUSED, made[len(SPECS) :], strict=True):
        assert words in answer["error"]
