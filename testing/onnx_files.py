"""Small ONNX files for the suite of a device that loads such files."""

from dataclasses import replace
from pathlib import Path

from adaptare.core.content_hash import Json, canonical_json
from adaptare.devices import Program, program_file
from adaptare.testing.device import FEEDS, DevicePrograms


def onnx_programs(folder: Path) -> DevicePrograms:
    """A square of a matrix, a sum, and a graph that fails in a call; ONNX files keep no state.

    Args:
        folder: Folder for the files.
    """
    import onnx

    def made(name: str, nodes: str, width: int) -> Program:
        graph = f"g (float[n,n] x) => (float[a,b] y) <int64[2] seven = {{7, 7}}> {{ {nodes} }}"
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
        file = folder / f"{name}.onnx"
        onnx.save(model, file)
        matrix: Json = {"dtype": "float32", "shape": [width, width], "uniform": 1.0, "seed": 3}
        feeds = tuple(replace(feed, arguments=canonical_json({"inputs": {"x": matrix}})) for feed in FEEDS)
        return Program(name, file.name, "{}", feeds, (program_file(file),))

    good = made("good", "y = MatMul(x, x)", 8)
    return DevicePrograms(good, made("other", "y = Add(x, x)", 4), good, made("failing", "y = Reshape(x, seven)", 8))
