"""Models as files that need no part of this package: programs of PyTorch, ONNX files, and a page for a browser."""
