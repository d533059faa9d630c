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
    {"dtype": "float32", "shape": [3, 2], "uniform": 1.0, "seed": 1, "padded_to": [3, 4]},
    {"dtype": "float32", "shape": [0, 4], "constant": 0, "padded_to": [2, 4]},
    {"dtype": "float32", "shape": [4, 0], "constant": 0},
    {"dtype": "float32", "shape": [], "constant": 2.5},
    {"dtype": "float64", "shape": [2, 2], "constant": 1e-3},
    {"dtype": "int64", "shape": [1, 70], "integers": 49152, "seed": 5},
    {"dtype": "int32", "shape": [9], "integers": 3, "seed": 2**31},
    {"dtype": "bool", "shape": [2, 2], "constant": True},
]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no fill": ({"dtype": "float32", "shape": [1]}, "must be filled by exactly one of constant, integers, uniform"),
    "two fills": ({"dtype": "float32", "shape": [1], "constant": 1, "integers": 2, "seed": 1}, "by exactly one of"),
    "no seed": ({"dtype": "float32", "shape": [1], "uniform": 1.0}, "its spec lacks seed"),
    "no shape": ({"dtype": "float32", "constant": 1}, "its spec lacks shape"),
    "unknown type": ({"dtype": "float16", "shape": [1], "constant": 1}, "has type float16; pages make float32, "),
    "padded to less": ({"dtype": "int32", "shape": [2], "constant": 1, "padded_to": [1]}, "cannot be padded to [1]"),
}
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
    specs = json.dumps([*SPECS, *(spec for spec, _ in REFUSED.values())])
    command = ["node", "--input-type=module", "-e", PROGRAM, specs]
    return json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_a_page_makes_the_same_bits(made: Any, number: int) -> None:
    expected = filled("x", SPECS[number])
    assert made[number] == {
        "type": expected.dtype.name,
        "dims": list(expected.shape),
        "bytes": np.ascontiguousarray(expected).tobytes().hex(),
    }


@pytest.mark.parametrize("name", REFUSED)
def test_a_page_refuses_what_it_cannot_make(made: Any, name: str) -> None:
    answer = made[len(SPECS) + list(REFUSED).index(name)]
    assert REFUSED[name][1] in answer["error"]
