"""F2 as ONNX, built node by node as a chain of Gemm and Sin: torch.onnx.export would need onnxscript."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.errors import UserError
from lightmap.data import HOURS
from lightmap.siren import DaySiren, Siren

INPUT, OUTPUT = "latent_and_time", "rgb"
OPSET = 17
IR_VERSION = 8  # what runtimes of 2022 read


class _Graph:
    """Nodes and constants of a graph that grows."""

    def __init__(self, helper: Any, numpy_helper: Any):
        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes, self.constants = [], []

    def add(self, kind: str, inputs: list[Any], name: str, **attributes: Any) -> str:
        """Append a node; arrays among its inputs become constants. Returns: the name of its output."""
        names = []
        for index, value in enumerate(inputs):
            if not isinstance(value, str):
                self.constants.append(self.numpy_helper.from_array(value, f"{name}_{index}"))
                value = f"{name}_{index}"
            names.append(value)
        self.nodes.append(self.helper.make_node(kind, names, [name], **attributes))
        return name


def onnx_bytes(f2: Siren) -> bytes:
    """F2 as ONNX with any batch size: input latent_and_time (N, C + 2K), output rgb (N, 3); of a DaySiren the input is
    (N, C + 1), the latent and the hours.

    Raises: UserError without the onnx package.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise UserError("it needs the onnx package; pip install -r requirements/lightmap.txt") from error
    graph, day = _Graph(helper, numpy_helper), isinstance(f2, DaySiren)
    value = graph.add("Slice", [INPUT, *_range(0, f2.sizes[0])], "latent") if day else INPUT
    last = len(f2.weights) - 1
    for index, (weight, bias) in enumerate(zip(f2.weights, f2.biases)):
        omega = f2.omega if index < last else 1.0  # the same products as in Siren.forward
        arrays = [(tensor * omega).detach().cpu().numpy() for tensor in (weight, bias)]
        made = f"phase{index}" if index < last or day else OUTPUT
        value = graph.add("Gemm", [value, *arrays], made, transB=1)
        if index < last:
            value = graph.add("Sin", [value], f"layer{index}")
    if day:
        value = graph.add("Gemm", ["latent", f2.basis.detach().cpu().numpy(), value], "frames", transB=1)
        _at_hours(graph, f2, value)
    sizes = ((INPUT, f2.sizes[0] + day), (OUTPUT, 3))
    batch = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in sizes]
    made = helper.make_graph(graph.nodes, "f2", batch[:1], batch[1:], graph.constants)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="lightmap")
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _range(first: int, end: int) -> list[np.ndarray]:
    """Inputs of Slice: columns `first` to `end`, excluded."""
    return [np.int64([first]), np.int64([end]), np.int64([1])]


def _at_hours(graph: _Graph, f2: DaySiren, colors: str) -> None:
    """The frames' colours at the hours behind the latent, as siren.frame_shares weights them."""
    frames, channels = f2.frames, f2.sizes[0]
    hours = graph.add("Slice", [INPUT, *_range(channels, channels + 1)], "hours")
    position = graph.add("Mul", [hours, np.float32((frames > 1) * frames / HOURS)], "position")
    away = graph.add("Sub", [position, np.arange(frames, dtype=np.float32)], "away")
    days = graph.add("Div", [away, np.float32(frames)], "days")
    whole = graph.add("Floor", [graph.add("Add", [days, np.float32(0.5)], "rounded")], "whole")
    near = graph.add("Sub", [away, graph.add("Mul", [whole, np.float32(frames)], "back")], "near")
    close = graph.add("Sub", [np.float32(1), graph.add("Abs", [near], "distance")], "close")
    share = graph.add("Relu", [close], "share")
    colors = graph.add("Reshape", [colors, np.int64([-1, frames, 3])], "colors")
    share = graph.add("Unsqueeze", [share, np.int64([2])], "shares")
    graph.add("ReduceSum", [graph.add("Mul", [colors, share], "weighted"), np.int64([1])], OUTPUT, keepdims=0)
