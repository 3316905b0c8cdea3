"""A stand-in for the package tinycudann, in plain PyTorch on any device: what tiny-cuda-nn's sources say, and no more.

Written from DOCUMENTATION.md, encodings/grid.h, encodings/triangle_wave.h, encodings/identity.h, common_device.h,
network_with_input_encoding.h, cutlass_mlp.cu, fully_fused_mlp.cu and bindings/torch/tinycudann/modules.py of
github.com/NVlabs/tiny-cuda-nn, as they were from 2022 to 2025. Nothing is shared with model.py, so that a test of one
is a test of the other. What it does not have is tiny-cuda-nn's speed, and the order in which it sums.
"""

from __future__ import annotations

import math
import types

import torch
from torch import nn

BATCH_GRANULARITY = 256
ALIGNMENT = 16
UINT32 = 0xFFFFFFFF


def next_multiple(count: int, divisor: int) -> int:
    return (count + divisor - 1) // divisor * divisor


class Module(nn.Module):
    """modules.py: a flat vector of parameters in float32, used in the module's own precision."""

    def __init__(self, n_params: int, dtype: torch.dtype, seed: int):
        super().__init__()
        self.dtype = dtype
        self.expected = n_params
        generator = torch.Generator().manual_seed(seed)
        self.params = nn.Parameter((torch.rand(n_params, generator=generator) - 0.5) * 2e-4)
        self.loss_scale = 128.0 if dtype == torch.float16 else 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = len(x)
        params = self.params.to(self.dtype)
        if params.numel() != self.expected or x.shape[1] != self.n_input_dims:  # bindings.cpp, CHECK_THROW
            raise RuntimeError(f"{params.numel()} parameters and {x.shape[1]} inputs, expected {self.expected} and "
                               f"{self.n_input_dims}")  # fmt: skip
        padded = nn.functional.pad(x.float(), (0, 0, 0, next_multiple(n, BATCH_GRANULARITY) - n))
        inputs = [_GradientTimes.apply(value, 1 / self.loss_scale) for value in (padded, params)]
        return _GradientTimes.apply(self.run(*inputs), self.loss_scale)[:n, : self.n_output_dims]


class _GradientTimes(torch.autograd.Function):
    """Passes a value on, and multiplies its gradient in the value's own precision."""

    @staticmethod
    def forward(ctx, value, factor):
        ctx.factor = factor
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


class Encoding(Module):
    """Grid of type Dense, and TriangleWave."""

    def __init__(self, n_input_dims: int, encoding_config: dict, seed: int = 1337, dtype: torch.dtype | None = None):
        config = encoding_config
        self.kind, n_params = config["otype"], 0
        if self.kind == "Grid":
            if config["type"] != "Dense" or config.get("interpolation", "Linear") != "Linear" or n_input_dims != 2:
                raise RuntimeError("the stand-in knows dense, linear grids of two dimensions")
            features = config["n_features_per_level"]
            if features not in (1, 2, 4, 8):
                raise RuntimeError("GridEncoding: n_features_per_level must be 1, 2, 4, or 8.")
            scale = math.log2(config.get("per_level_scale", 2.0))
            levels = []
            for level in range(config["n_levels"]):
                grid_scale = 2.0 ** (level * scale) * config["base_resolution"] - 1.0
                resolution = math.ceil(grid_scale) + 1
                size = next_multiple(resolution**2, 8)
                levels.append((grid_scale, resolution, n_params, size))
                n_params += size * features
            n_outputs = len(levels) * features
        elif self.kind == "TriangleWave":
            n_outputs = n_input_dims * config["n_frequencies"]
        else:
            raise RuntimeError(f"Invalid encoding type: {self.kind}")
        super().__init__(n_params, dtype or PRECISION, seed)
        self.n_input_dims, self.n_output_dims, self.config = n_input_dims, n_outputs, config
        if self.kind == "Grid":
            self.features, self.levels = features, levels

    def run(self, x: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
        if self.kind == "Grid":
            return torch.cat([self.level(x, params, *level) for level in self.levels], dim=1)
        outputs = []
        for dimension in range(self.n_input_dims):
            for log2_frequency in range(self.config["n_frequencies"]):
                value = torch.ldexp(x[:, dimension], torch.tensor(log2_frequency - 1)) + log2_frequency * 0.25
                outputs.append((value - torch.floor(value) - 0.5).abs() * 4 - 1)
        return torch.stack(outputs, dim=1).to(self.dtype)

    def level(self, x, params, scale: float, resolution: int, first: int, size: int) -> torch.Tensor:
        """kernel_grid: pos_fract, grid_index, and the sum over the corners of the cell."""
        table = params[first : first + size * self.features].view(size, self.features)
        position = (x.double() * scale + 0.5).float()  # fmaf
        cell = torch.floor(position)
        fraction = position - cell
        corner = cell.long() & UINT32
        result = torch.zeros(len(x), self.features, dtype=self.dtype, device=x.device)
        for index in range(4):
            weight = torch.ones(len(x), device=x.device)
            place, stride = torch.zeros_like(corner[:, 0]), 1
            for dimension in range(2):
                far = index >> dimension & 1
                weight = weight * (fraction[:, dimension] if far else 1 - fraction[:, dimension])
                place = (place + ((corner[:, dimension] + far) & UINT32) * stride) & UINT32
                stride *= resolution
            result = result + weight[:, None].to(self.dtype) * table[place % size]
        return result


class Network(Module):
    """FullyFusedMLP and CutlassMLP behind an Identity encoding: inputs padded with ones, outputs padded."""

    def __init__(self, n_input_dims: int, n_output_dims: int, network_config: dict, seed: int = 1337):
        config = network_config
        width, hidden = config["n_neurons"], config["n_hidden_layers"]
        if config["otype"] == "FullyFusedMLP":
            if width not in (16, 32, 64, 128):
                raise RuntimeError("FullyFusedMLP only supports 16, 32, 64, and 128 neurons")
            if hidden < 1:
                raise RuntimeError("FullyFusedMLP requires at least 1 hidden layer (3 layers in total).")
        elif config["otype"] != "CutlassMLP":
            raise RuntimeError(f"Invalid network type: {config['otype']}")
        if config["activation"] != "LeakyReLU" or config["output_activation"] != "None":
            raise RuntimeError("the stand-in knows LeakyReLU, and none at the end")
        padded = next_multiple(n_input_dims, ALIGNMENT)
        widths = [padded] + [width] * hidden + [next_multiple(n_output_dims, ALIGNMENT)]
        self.shapes = list(zip(widths[1:], widths))  # [outputs, inputs]
        super().__init__(sum(rows * columns for rows, columns in self.shapes), PRECISION, seed)
        self.n_input_dims, self.n_output_dims, self.config = n_input_dims, n_output_dims, config

    def run(self, x: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
        padding = torch.full((len(x), self.shapes[0][1] - x.shape[1]), PADDING, device=x.device)
        hidden, first = torch.cat((x, padding), dim=1).to(self.dtype), 0
        for number, (rows, columns) in enumerate(self.shapes):
            matrix = params[first : first + rows * columns].view(rows, columns)  # row-major
            first += rows * columns
            hidden = (hidden.float() @ matrix.float().t()).to(self.dtype)  # tensor cores sum in float32
            if number < len(self.shapes) - 1:
                hidden = hidden * torch.where(hidden > 0, 1.0, 0.01).to(self.dtype)
        return hidden


PRECISION = torch.float32  # of networks; float16 on GPUs with tensor cores
PADDING = 1.0
freed = 0  # how often free_temporary_memory was called


def free_temporary_memory() -> None:
    global freed
    freed += 1


def as_module() -> types.ModuleType:
    """What `import tinycudann` is to give."""
    package = types.ModuleType("tinycudann")
    package.Encoding, package.Network, package.free_temporary_memory = Encoding, Network, free_temporary_memory
    return package
