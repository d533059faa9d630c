"""The agent in C on ONNX Runtime's C API, for devices without Python: its sources, its build, and its bundles."""

from adaptare.devices.native.build import build_bundle, kept_for
from adaptare.devices.native.bundle import Bundle, BundleFile
from adaptare.devices.native.compiler import target_named

__all__ = ["Bundle", "BundleFile", "build_bundle", "kept_for", "target_named"]
