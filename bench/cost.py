"""What decoding one pixel asks of a GPU, from the shapes alone; bench.decode counts the same by running the shader."""

from __future__ import annotations

from collections.abc import Sequence

from formats.dds_layouts import grid_file_names, has_channels, stored_bits
from shape import TEXEL_OFFSETS, GridSpec, ModelForm


def texture_reads(grids: Sequence[GridSpec], layout: str = "packed") -> tuple[int, int]:
    """(texels that the shader loads, samples that the hardware filters) at one position and a whole LOD.

    A linear grid with a channel for each feature, as BC1 has, takes one sample of each of its textures, also between
    two LODs. Any other takes four texels of each, and between two LODs twice as many.
    """
    loaded = sampled = 0
    for index, grid in enumerate(grids):
        textures = len(grid_file_names(index, grid, layout))
        if grid.interpolation == "linear" and has_channels(grid, layout):
            sampled += textures
        else:
            loaded += textures * len(TEXEL_OFFSETS)
    return loaded, sampled


def pixel_cost(form: ModelForm, layout: str = "packed") -> dict[str, int]:
    """`texture_fetches`, of which `filtered_fetches` are samples, `texture_bytes` of the four texels that each of
    them reads, and `multiply_adds` of one run of the network.

    Between two LODs a form with a learned grid runs the network twice.
    """
    loaded, sampled = texture_reads(form.grids, layout)
    return {
        "texture_fetches": loaded + sampled,
        "filtered_fetches": sampled,
        "texture_bytes": sum(stored_bits(grid, layout) for grid in form.grids) * len(TEXEL_OFFSETS) // 8,
        "multiply_adds": form.n_weights,
    }
