"""Programs for the contract of devices: the same behaviour for every kind of runtime."""

from dataclasses import replace
from pathlib import Path

import onnx

from adaptare.core.content_hash import canonical_json
from adaptare.devices import Program, program_file
from adaptare.profiler.programs.onnx.form import Form
from adaptare.testing import DevicePrograms as Programs
from adaptare.testing import onnx_programs
from adaptare.testing.device import FEEDS


def program(factory: str, **arguments: int | str) -> Program:
    return Program(factory, f"worker_programs:{factory}", canonical_json(arguments), FEEDS)


GOOD = program("torch_linear", width=8)
OTHER = program("torch_linear", width=4)
STATEFUL = program("counting")
FAILING = program("raising", message="a matter of principle", when="run")
FAILURES = {FAILING.hash: "error"}


PYTHON = Programs(GOOD, OTHER, STATEFUL, FAILING)


def torch_programs(folder: Path) -> Programs:
    """Tensors wherever the device has them."""

    def made(factory: str, **arguments: int) -> Program:
        return Program(factory, f"torch_programs:{factory}", canonical_json(arguments), FEEDS)

    return Programs(made("linear", width=8), made("linear", width=4), made("growing"), made("failing"))


def ort_programs(folder: Path) -> Programs:
    """The same in the format for phones."""

    def converted(program: Program) -> Program:
        form, graph = Form(True, "free", "Fixed", "amd64"), program.files[0].path
        file = form.file(graph, {})
        if not file.exists():
            form.write(graph, {}, file)
        return replace(program, source=file.name, files=(program_file(file),))

    plain = onnx_programs(folder)
    return Programs(*(converted(each) for each in (plain.good, plain.other, plain.stateful, plain.failing)))


def flat_programs(folder: Path) -> Programs:
    """Products with constant matrices, of fixed shapes in two dimensions, which XNNPACK takes."""

    def made(name: str, nodes: str, width: int) -> Program:
        weight = ", ".join(str(float(number % 7)) for number in range(width * width))
        graph = (
            f"g (float[{width},{width}] x) => (float[a,b] y) "
            f"<float[{width},{width}] w = {{{weight}}}, int64[2] seven = {{7, 7}}> {{ {nodes} }}"
        )
        file = folder / f"{name}.onnx"
        onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}'), file)
        matrix = {"dtype": "float32", "shape": [width, width], "uniform": 1.0, "seed": 3}
        feeds = tuple(replace(feed, arguments=canonical_json({"inputs": {"x": matrix}})) for feed in FEEDS)
        return Program(name, file.name, "{}", feeds, (program_file(file),))

    good, product = made("good", "y = MatMul(x, w)", 8), "p = MatMul(x, w) y = Reshape(p, seven)"
    return Programs(good, made("other", "y = MatMul(x, w)", 4), good, made("failing", product, 8))
