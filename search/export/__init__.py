"""Exports of a configuration: PEFT folders, merged checkpoints and ONNX files."""
