"""Filtered PSNR: one decode at any position and LOD against the source filtered as a GPU's sampler does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torchtyping import TensorType

from dataset import Material
from maps.channels import map_size, map_slice
from maps.record import Constant
from metrics.file_space import file_values, in_file_space
from metrics.scores import psnr_db, round_to_8_bit
from model import NeuralTexture
from quantize import hash_uniform, stream_key

# The results of 16 other draws of this size have a standard deviation of 0.026 dB (Rock058); runs are compared at the
# same draw.
MOST_SAMPLES = 2**16
SAMPLES_PER_TEXEL = 16  # of LOD 0, at most: small materials need fewer
SEED = 0
STREAM_LOD, STREAM_FRACTION, STREAM_POSITION = range(3)
CHUNK = 2**15  # samples that PyTorch decodes at a time

Positions = TensorType["n", 2]
Lods = TensorType["n"]
Decoded = TensorType["n", "channels"]


class DecodeSamples(Protocol):
    """Decodes at any positions and LODs: model.NeuralTexture.forward, or an engine's faster one."""

    def __call__(self, model: NeuralTexture, uv: Positions, lod: Lods) -> Decoded: ...


@torch.no_grad()
def decode_samples(model: NeuralTexture, uv: Positions, lod: Lods) -> Decoded:
    """NeuralTexture.forward in chunks, on the model's device; (n, channels) on the CPU."""
    device = model.weights[0].device
    return torch.cat([model(*(part.to(device) for part in parts)).cpu()
                      for parts in zip(uv.split(CHUNK), lod.split(CHUNK))])  # fmt: skip


def filtered_samples(material: Material) -> tuple[Positions, Lods]:
    """Where a material is scored, always the same for one size: uv (n, 2) uniform in [0, 1), lod (n,), on the CPU.

    A sample lies between the LOD of a texel, all of which are drawn alike often, and the next: three in four between
    LOD 0 and 1. n is MOST_SAMPLES, or SAMPLES_PER_TEXEL per texel of LOD 0 if that is less.
    """
    slots = torch.arange(min(MOST_SAMPLES, SAMPLES_PER_TEXEL * material.width * material.height))
    ends = torch.tensor([*material.lod_offsets[1:], material.num_texels], dtype=torch.float64) / material.num_texels
    lower = torch.bucketize(hash_uniform(slots, stream_key(SEED, 0, STREAM_LOD)), ends[:-1].float(), right=True)
    fraction = hash_uniform(slots, stream_key(SEED, 0, STREAM_FRACTION))
    uv = hash_uniform(torch.stack((slots * 2, slots * 2 + 1), dim=1), stream_key(SEED, 0, STREAM_POSITION))
    return uv, (lower + fraction).clamp(max=material.num_lods - 1)


def filtered_psnr(model: NeuralTexture, material: Material, decode: DecodeSamples = decode_samples) -> dict[str, float]:
    """PSNR in dB of the decoded samples, rounded to 8 bits, against Material.filtered: {"all", <map>...}.

    Values are compared in the space of the files, as of file_space.in_file_space, which both sides pass through:
    filtered unit normals are unit vectors again, as a renderer makes them.
    """
    uv, lod = filtered_samples(material)
    device = material.codes8.device
    source = torch.zeros(len(uv), material.channels)
    source[:, material.present_channels.cpu()] = material.filtered(uv.to(device), lod.to(device)).cpu()
    return psnr_against(source, decode(model, uv, lod), model.constants, material)


def psnr_against(
    source: Decoded, decoded: Decoded, constants: Mapping[int, Constant], material: Material
) -> dict[str, float]:
    """`filtered_psnr` of samples that have been filtered and decoded, both in the material's colour space.

    constants: of the model. Both tensors may be overwritten.
    """
    source = in_file_space(source, material.record, {})
    decoded = in_file_space(decoded, material.record, constants)
    rounded = round_to_8_bit(decoded)
    for channel in file_values(constants, material.record):
        rounded[:, channel] = decoded[:, channel]
    errors = (rounded - source).double().square().mean(dim=0)
    by_map = {name: errors[map_slice(name)].mean().item() for name in material.present}
    every = [error for name, error in by_map.items() for _ in range(map_size(name))]
    return {"all": psnr_db(every), **{name: psnr_db([error]) for name, error in by_map.items()}}
