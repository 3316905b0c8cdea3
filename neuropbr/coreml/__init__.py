"""The student for Core ML and ONNX."""

import core_path  # noqa: F401
