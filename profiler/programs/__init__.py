"""Programs of workloads: builders for each runtime, and checks that an adapter is applied."""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from adaptare.profiler.programs.builders import memory_bytes
    from adaptare.profiler.programs.genai_folder import (
        adapter_inputs_of,
        as_inputs,
        check_base,
        read_adapter_file,
        rounds,
    )
    from adaptare.profiler.programs.gguf_base import write_gguf_adapter, write_gguf_base
    from adaptare.profiler.programs.gguf_names import gguf_site
    from adaptare.profiler.programs.onnx.base import GENAI, OnnxBase, adapter_inputs, write_onnx_adapter
    from adaptare.profiler.programs.onnx.bases import NEEDED, OnnxBases
    from adaptare.profiler.programs.onnx.quantise import pack_int4, rounded_weights
    from adaptare.profiler.programs.onnx.writer import code_names, write_model
    from adaptare.profiler.programs.openvino_graph import write_openvino_graph
    from adaptare.profiler.programs.torch.cut import narrowed, set_layers, set_weight, shallow, shared_copy, tensors_of

__all__ = [
    "GENAI",
    "NEEDED",
    "OnnxBase",
    "OnnxBases",
    "adapter_inputs",
    "adapter_inputs_of",
    "as_inputs",
    "check_base",
    "code_names",
    "gguf_site",
    "memory_bytes",
    "narrowed",
    "pack_int4",
    "read_adapter_file",
    "rounded_weights",
    "rounds",
    "set_layers",
    "set_weight",
    "shallow",
    "shared_copy",
    "tensors_of",
    "write_gguf_adapter",
    "write_gguf_base",
    "write_model",
    "write_onnx_adapter",
    "write_openvino_graph",
]

__getattr__ = lazy_names(__name__)
