"""A call of no work, made right before the clock starts.

What moves megabytes leaves nothing else in the inner caches, and the way from Python into the runtime comes back from
memory at the expense of whoever is called next. A native caller does not pay that (benchmarks/profiling_native.py).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# An ONNX graph of opset 20 whose only node, `Identity`, copies its only number from x to y.
GRAPH = (
    b"\x08\n:;\n\x10\n\x01x\x12\x01y\x22\x08Identity\x12\x05empty"
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"B\x04\n\x00\x10\x14"
)


def empty_call(options: Any) -> Callable[[], None]:
    """Runs a session that does nothing, bound as others are.

    Args:
        options: `SessionOptions` as others have them; threads of its own, which would spin, this one is not given.
    """
    import onnxruntime

    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
    binding, number = session.io_binding(), np.zeros(1, np.float32)
    x, y = (onnxruntime.OrtValue.ortvalue_from_numpy(number) for _ in range(2))
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)

    def call(_owners: tuple[Any, Any] = (x, y)) -> None:  # a binding does not own the memory of its values
        session.run_with_iobinding(binding)

    return call
