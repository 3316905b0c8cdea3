"""Materials of any size to measure with, and grids to go with them."""

from __future__ import annotations

import numpy as np
import torch

from dataset import Material
from maps.channels import MAPS

SIZE_GRIDS = ((2, 16), (8, 32))  # (part of the size, bits per texel): 4.5 bits per texel of the material
SIZE_PLANES = (2, 2, 2, 2, 4, 4)  # parts of the size, of planes of blocks: with BC1 as many bits
SIZE_MAPS = ("diffuse", "normal", "roughness", "metallic", "displacement")  # 9 channels


def grids_of(size: int, latents: str = "packed") -> list[dict[str, int | str]]:
    """Grids that stand in the same relation to every size; all linear."""
    if latents != "packed":
        return [{"max_resolution": max(size // part, 1), "storage": latents} for part in SIZE_PLANES]
    return [{"max_resolution": max(size // part, 1), "save_bits": bits} for part, bits in SIZE_GRIDS]


def smooth_material(size: int) -> Material:
    """Nine 8-bit channels of smooth noise; one float plane at a time, since memory is measured too."""
    generator = torch.Generator().manual_seed(0)
    arrays = {}
    for name in SIZE_MAPS:
        arrays[name] = np.empty((size, size, MAPS[name]), np.uint8)
        for channel in range(MAPS[name]):
            noise = torch.rand(1, 1, 33, 33, generator=generator)
            plane = torch.nn.functional.interpolate(noise, (size, size), mode="bilinear", align_corners=True)
            arrays[name][..., channel] = plane[0, 0].mul_(255).to(torch.uint8).numpy()
    return Material.from_arrays(f"smooth{size}", arrays)


def tiled_material(source: Material, size: int) -> Material:
    """A square of LOD 0 of a material: as much of it as there is room for, or it again and again, mirrored at random.

    Of the maps in SIZE_MAPS those that there are. A tile holds what the material holds, so that rate and quality are
    like those of a larger one; being mirrored, few are alike side by side.
    """
    random = np.random.default_rng(0)
    rows, columns = -(-size // source.height), -(-size // source.width)
    mirrored = random.integers(0, 2, (rows, columns, 2), dtype=bool)
    arrays = {}
    for name in (name for name in SIZE_MAPS if name in source.present):
        stored = source.stored(0, name)
        arrays[name] = np.empty((size, size, MAPS[name]), stored.dtype)
        for row in range(rows):
            for column in range(columns):
                down, across = (slice(None, None, -1 if turned else 1) for turned in mirrored[row, column])
                top, left = row * source.height, column * source.width
                room = arrays[name][top : top + source.height, left : left + source.width]
                room[:] = stored[down, across][: room.shape[0], : room.shape[1]]
    return Material.from_arrays(f"{source.name} {size}", arrays)
