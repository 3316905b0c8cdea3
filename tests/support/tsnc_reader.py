"""Reads the files of Intel's texture set neural compression sample, written from what is known of its loader alone.

A plane: uint32 blocks across, blocks down, mips, float32 offset of u and v, then BC1 blocks, the largest mip first; all
mips but two are loaded. A network: uint32 layers, channels, width of a block, then of each layer uint32 outputs,
inputs, float32 weights [input][output], float32 biases; ReLU between layers. Inputs: the channels of planes 0 to 3,
0 to 1, then the LOD from the derivatives of uv. Nothing of the toolkit is used.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

OUTPUTS = {
    "diffuse": slice(0, 3), "normal": slice(3, 6), "occlusion": slice(6, 7), "roughness": slice(7, 8),
    "metallic": slice(8, 9), "thickness": slice(9, 10), "mask": slice(10, 12), "displacement": slice(12, 13),
}  # fmt: skip


@dataclass
class Plane:
    mips: list[np.ndarray]  # (H, W, 3) 0..1 of those that are loaded
    offset: np.ndarray
    blocks: tuple[int, int]
    n_mips: int  # that the file says it has


@dataclass
class TextureSet:
    planes: list[Plane]
    layers: list[tuple[np.ndarray, np.ndarray]]  # weights (inputs, outputs), biases
    header: tuple[int, int, int]


def bc1_block(payload: bytes) -> list[tuple[float, float, float]]:
    """Sixteen colours, row by row, with exact thirds."""
    c0, c1, bits = struct.unpack("<HHI", payload)
    ends = []
    for c in (c0, c1):
        r, g, b = c >> 11, c >> 5 & 63, c & 31
        ends.append((r << 3 | r >> 2, g << 2 | g >> 4, b << 3 | b >> 2))
    one, two = ends
    if c0 > c1:
        table = [one, two, *(tuple((k * a + (3 - k) * b) / 3 for a, b in zip(one, two)) for k in (2, 1))]
    else:
        table = [one, two, tuple((a + b) / 2 for a, b in zip(one, two)), (0, 0, 0)]
    return [table[bits >> 2 * t & 3] for t in range(16)]


def read_plane(path: Path) -> Plane:
    payload = path.read_bytes()
    across, down, n_mips, du, dv = struct.unpack_from("<IIIff", payload)
    at, mips = 20, []
    for mip in range(n_mips - 2):
        columns, rows = across >> mip, down >> mip
        assert columns and rows, "a mip below 4x4 is loaded"
        image = np.empty((4 * rows, 4 * columns, 3))
        for block in range(rows * columns):
            y, x = divmod(block, columns)
            texels = np.array(bc1_block(payload[at : at + 8])).reshape(4, 4, 3)
            image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = texels / 255
            at += 8
        mips.append(image)
    assert len(payload) > at and (len(payload) - at) % 8 == 0, "two more mips follow"
    return Plane(mips, np.array([du, dv]), (across, down), n_mips)


def read_texture_set(folder: Path) -> TextureSet:
    planes = [read_plane(folder / f"tex{index}_0.bc1") for index in range(4)]
    payload = (folder / "mlp_0.bin").read_bytes()
    header, at, layers = struct.unpack_from("<III", payload), 12, []
    for _ in range(header[0]):
        width, height = struct.unpack_from("<II", payload, at)
        at += 8
        weights = np.frombuffer(payload, "<f4", width * height, at).reshape(height, width)
        at += weights.nbytes
        biases = np.frombuffer(payload, "<f4", width, at)
        at += biases.nbytes
        layers.append((weights.astype(np.float64), biases.astype(np.float64)))
    assert at == len(payload)
    return TextureSet(planes, layers, header)


def bilinear(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """A linear sampler that repeats."""
    height, width = image.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    rows = [
        image[yy % height, x0 % width] * (1 - fx) + image[yy % height, (x0 + 1) % width] * fx for yy in (y0, y0 + 1)
    ]
    return rows[0] * (1 - fy) + rows[1] * fy


def footprint(side: int, derivatives: tuple[float, float]) -> float:
    """log2 of the pixel's footprint in texels; the derivatives are |duv/dx| and |duv/dy|."""
    return math.log2(max(derivative * side for derivative in derivatives))


def sample_grad(plane: Plane, uv: np.ndarray, derivatives: tuple[float, float]) -> np.ndarray:
    """Trilinear, as SampleGrad without anisotropy."""
    level = min(max(footprint(len(plane.mips[0]), derivatives), 0.0), len(plane.mips) - 1.0)
    low = math.floor(level)
    one = bilinear(plane.mips[low], uv + plane.offset)
    if level == low:
        return one
    return one * (1 - level + low) + bilinear(plane.mips[low + 1], uv + plane.offset) * (level - low)


def decode(texture: TextureSet, uv: np.ndarray, derivatives: tuple[float, float]) -> dict[str, np.ndarray]:
    """uv (n, 2) -> the maps of the renderer, (n, channels)."""
    first = texture.planes[0].mips
    lod = min(max(footprint(len(first[0]), derivatives) / len(first), 0.0), 1.0)
    values = [sample_grad(plane, uv, derivatives) for plane in texture.planes] + [np.full((len(uv), 1), lod)]
    values = np.concatenate(values, axis=1)
    for index, (weights, biases) in enumerate(texture.layers):
        values = values @ weights + biases
        if index + 1 < len(texture.layers):
            values = np.maximum(values, 0)
    return {name: values[:, channels] for name, channels in OUTPUTS.items()}
