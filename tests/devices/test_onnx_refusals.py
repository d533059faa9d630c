"""Programs that an ONNX Runtime cannot run, on each kind of agent: the message says what is lacking and what to do."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from adaptare.core import ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Device, Feed, Program, Work, ort_cpu, program_file
from adaptare.devices.onnx_runtime import ort_native

LACKS = "this onnxruntime lacks an operator of the program; use a newer or more complete build"
TOO_OLD = "this onnxruntime is too old for the program; install a newer one on the device"
AGENTS = [ort_cpu, pytest.param(ort_native, marks=pytest.mark.native)]


def program(folder: Path, nodes: str, *, ir: int = 8, dtype: str = "float") -> Program:
    """A graph of one input."""
    head = f'<ir_version: {ir}, opset_import: ["": 17]>'
    file = folder / "refused.onnx"
    file.write_bytes(
        onnx.parser.parse_model(f"{head} g ({dtype}[n] x) => ({dtype}[n] y) {{ {nodes} }}").SerializeToString()
    )
    x = {"dtype": dtype if dtype != "float" else "float32", "shape": [2], "constant": 1}
    feed = Feed("f", canonical_json({"inputs": {"x": x}}), Work(1, 1, 1))
    return Program("refused", file.name, "{}", (feed,), (program_file(file),))


@pytest.mark.parametrize("device", AGENTS)
@pytest.mark.parametrize(
    ("nodes", "options", "words"),
    [
        ("y = NoSuchOperator(x)", {}, rf"NoSuchOperator.*; {LACKS}"),
        ("y = Identity(x)", {"ir": 99}, rf"IR version: 99.*; {TOO_OLD}"),
    ],
)
def test_a_program_that_cannot_be_run_is_refused_with_advice(
    device: Callable[..., Device], tmp_path: Path, nodes: str, options: dict[str, int], words: str
) -> None:
    with device(threads=1).open() as worker:
        with pytest.raises(ProgramError, match=f"(?s){words}"):
            worker.load(program(tmp_path, nodes, **options))
        assert worker.load(program(tmp_path, "y = Identity(x)")).outputs == {"f": (1.0, 1.0)}
