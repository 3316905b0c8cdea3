"""The files that Intel's open sample of texture set neural compression loads: four BC1 planes and a network.

The form, little endian, as its loader and one of its files have it:

    tex0_0.bc1 .. tex3_0.bc1   uint32 blocks across, blocks down, mips; float32 offset of u, of v; BC1 blocks, the
                               largest mip first. All mips but the last two are read
    mlp_0.bin                  uint32 layers, channels, width of a block (1); then of each layer uint32 outputs, inputs;
                               float32 weights [input][output]; float32 biases

The sample takes t = 0..1 of twelve channels through a linear sampler with the derivatives of the surface, then the LOD,
log2 of the pixel's footprint in texels of plane 0, over the number of mips that are read, clamped to 0..1.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

import blocks
from common.errors import Say, UserError, one_line
from common.files import staged_folder, write_bytes
from formats.block_textures import grid_blocks
from formats.textures import ExportedTexture
from maps.channels import map_slice
from maps.record import MaterialRecord
from model import NeuralTexture
from shape import ModelForm

UNREAD_MIPS = 2  # the last ones of a file
HALVED = (0, 0, 1, 1)  # of each plane: halvings of plane 0's side
N_FEATURES = blocks.FEATURES * len(HALVED)
LAYERS, NEURONS = 3, 64
# What its renderer reads from the outputs, in order: (our map, what a material without it gets).
OUTPUTS = (
    ("diffuse", (1.0, 1.0, 1.0)), ("normal", (0.5, 0.5, 1.0)), ("occlusion", (1.0,)), ("roughness", (1.0,)),
    ("metallic", (0.0,)), ("thickness", (0.0,)), ("mask", (0.0, 0.0)), ("displacement", (0.0,)),
)  # fmt: skip
OURS = tuple(name for name, _ in OUTPUTS if name not in ("thickness", "mask"))


def tsnc_problem(form: ModelForm) -> str | None:
    """Why the sample cannot load a model of this form; None where it can."""
    grids, decoder = form.grids, form.decoder
    width, height = grids[0].size
    if width != height:
        return f"expected square planes, found {width}x{height} texels in grid 0"
    planes = [f"{grid.max_resolution} {grid.interpolation} {grid.storage}" for grid in grids]
    if planes != [f"{width >> halved} linear bc1" for halved in HALVED] or width % 2:
        return f"expected four linear bc1 grids, two of one side and two of half of it, found {', '.join(planes)}"
    for index, (grid, halved) in enumerate(zip(grids, HALVED)):
        if grid.base_size[0] % grid.block.side:
            return f"expected whole blocks of 4x4 texels at every level, found {grid.base_size[0]} in grid {index}"
        if grid.n_levels != grids[HALVED.index(halved)].n_levels:
            return "expected as many levels in both grids of a side, found " + ", ".join(str(g.n_levels) for g in grids)
        for lod in range(form.num_lods):
            if grid.mip_of(lod) != min(max(lod - halved, 0), grid.n_levels - 1):
                return f"expected finest_lods {halved + 1} of grid {index}, found {grid.finest_lods}"
    waves = decoder.n_frequencies + decoder.n_texel_frequencies
    if waves:
        return f"expected no position waves, found {waves} an axis"
    found = (decoder.n_hidden_layers, decoder.n_neurons)
    if found != (LAYERS - 1, NEURONS):
        return f"expected {LAYERS - 1} hidden layers of {NEURONS} neurons, found {found[0]} of {found[1]}"
    if (decoder.activation, decoder.negative_slope) != ("leaky_relu", 0):
        return f"expected relu between the layers, found {decoder.activation}"
    return None


def encode_plane(model: NeuralTexture, index: int) -> bytes:
    """A plane's file. Its mips are the trained levels and two smaller ones, which the sample does not read."""
    grid = model.grids[index]
    mips = grid.n_levels + UNREAD_MIPS
    header = struct.pack("<3I2f", *grid.units_of(grid.size), mips, 0.0, 0.0)
    return header + b"".join(level.tobytes() for level in grid_blocks(model, index, mips))


def encode_network(model: NeuralTexture, material: MaterialRecord) -> bytes:
    """The network's file: ours, with what the inputs and outputs differ in as part of the weights and biases.

    Our features are t - 0.5, our LOD is over num_lods - 1, and our ones are its first biases. The outputs are in its
    order; those of missing maps and of constant channels are biases alone.
    """
    first, *others = (weight.detach().cpu().double().numpy() for weight in model.exported_weights())
    features, ones = first[:, :N_FEATURES], first[:, N_FEATURES + 1 :]
    lods = model.grids[0].n_levels / (model.num_lods - 1) if model.num_lods > 1 else 0.0  # of its LOD input
    into = np.concatenate([features, first[:, N_FEATURES : N_FEATURES + 1] * lods], axis=1)
    layers = [(into, ones.sum(axis=1) - 0.5 * features.sum(axis=1))]
    layers += [(weight, np.zeros(len(weight))) for weight in others[:-1]]
    layers.append(_outputs(others[-1], model, material))
    n_outputs = len(layers[-1][1])
    parts = [struct.pack("<3I", len(layers), n_outputs, 1)]
    for weight, biases in layers:
        parts += [struct.pack("<2I", *weight.shape), weight.T.astype("<f4").tobytes(), biases.astype("<f4").tobytes()]
    return b"".join(parts)


def _outputs(last: np.ndarray, model: NeuralTexture, material: MaterialRecord) -> tuple[np.ndarray, np.ndarray]:
    """The rows and biases of the last layer: (13, neurons) and (13,)."""
    rows, biases = [], []
    for name, neutral in OUTPUTS:
        if name in OURS and material.map(name) is not None:
            for channel in range(len(last))[map_slice(name)]:
                constant = model.constants.get(channel)
                rows.append(last[channel] * (constant is None))
                biases.append(0.0 if constant is None else constant.value)
        else:
            rows += [np.zeros(last.shape[1])] * len(neutral)
            biases += neutral
    return np.stack(rows), np.array(biases)


def save_tsnc(folder: Path, exported: ExportedTexture, say: Say = print) -> None:
    """Write the five files of an export to `folder`, all of them or, on an error, none.

    Raises: UserError with the reason for a model that the sample cannot load.
    """
    model, material = exported.model, exported.manifest.material
    problem = tsnc_problem(model.form)
    if problem:
        raise UserError(f"--tsnc: {problem}; train with --latents bc1 --decoder tsnc")
    payloads = {f"tex{index}_0.bc1": encode_plane(model, index) for index in range(len(HALVED))}
    payloads["mlp_0.bin"] = encode_network(model, material)
    with staged_folder(folder) as stage:
        for name, payload in payloads.items():
            write_bytes(stage / name, payload)
    for name, payload in payloads.items():
        say(f"{one_line(str(folder / name))}  {len(payload)} bytes")
    left_out = [entry.name for entry in material.maps if entry.name not in OURS]
    if left_out:
        say(f"without {', '.join(left_out)}, which the sample has no output for")
