"""The agent in C on ONNX Runtime's C API, for devices without Python: its sources, its build, and its bundles."""
