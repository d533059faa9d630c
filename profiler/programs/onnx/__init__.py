"""ONNX graphs with adapters: export, quantisation and surgery."""
