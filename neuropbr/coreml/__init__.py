"""The student for Core ML and ONNX."""

if __name__ == "coreml":
    from bare_names import alias

    alias(__name__)
