"""NTX_neural_texture, the glTF extension that holds a neural texture: its JSON, and the bytes that this points to.

What it says is what manifest.json says, in the same words; files are buffer views. docs/gltf.md describes it for those
who write a loader, docs/gltf/*.schema.json checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from formats.block_textures import grid_blocks
from formats.dds_layouts import check_layout, grid_format, grid_textures
from formats.manifest import decoder_to_json, grids_to_json, material_to_json
from formats.textures import ExportedTexture
from shaders.weights import make_weights, trained_precision, weight_bytes

EXTENSION = "NTX_neural_texture"
VERSION = 1
MATERIAL_FIELDS = ("width", "height", "num_lods", "maps", "constants")  # of a manifest's
DECODER_FIELDS = ("outputs", "activation", "negative_slope", "n_frequencies", "n_texel_frequencies", "layers",
                  "weight_bits", "activation_bits")  # fmt: skip


def neural_texture_to_json(
    name: str, exported: ExportedTexture, add: Callable[[bytes], int], layout: str = "packed"
) -> dict[str, Any]:
    """An entry of `neuralTextures`, the extension's list in the root of a document.

    Args:
        name: of the material.
        add: stores bytes, and returns the index of their buffer view.
        layout: of textures that are no blocks, one of dds_layouts.LAYOUTS.
    Raises: UserError for a layout that cannot hold the features.
    """
    model, manifest = exported.model, exported.manifest
    check_layout(model.grids, layout)
    material = material_to_json(manifest.material, model.constants)
    decoder = decoder_to_json(model.form)
    precision = trained_precision(model)
    weights = make_weights(model, "buffer", "auto", precision)
    grids = []
    for index, (grid, entry) in enumerate(zip(model.grids, grids_to_json(model.grids, layout))):
        if grid.compressed:
            chains = [[level.tobytes() for level in grid_blocks(model, index)[: grid.n_levels]]]
        else:
            chains = [[level.tobytes() for level in texture.levels] for texture in grid_textures(model, index, layout)]
        entry = {key: value for key, value in entry.items() if key not in ("files", "mips", "format")}
        sizes = [list(size) for size in grid.mip_sizes[: grid.n_levels]]
        entry |= {"format": grid_format(grid, layout), "levels": sizes}
        entry["textures"] = [{"bufferView": add(b"".join(chain))} for chain in chains]
        grids.append(entry)
    return {
        "name": name,
        "material": {key: material[key] for key in MATERIAL_FIELDS if key in material},
        "layout": layout,
        "positions": manifest.positions,
        "grids": grids,
        "decoder": {
            **{key: decoder[key] for key in DECODER_FIELDS if key in decoder},
            "weights": {"bufferView": add(weight_bytes(model, "auto", precision)), "type": weights.kind,
                        "columns": weights.columns},
        },
    }  # fmt: skip
