"""The forms in which a trained day can be stored: their bytes, and what they decode to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lightmap.basis import shipped_bytes
from lightmap.compressor import CHUNK, Compressor, Latents, bilinear_neighbours, render
from lightmap.data import Day, Numbers
from lightmap.evaluation import Stack
from lightmap.exports import DAY, F2_META, LATENT_MAP, LATENT_Q8, NETWORKS, NETWORKS_HALF
from lightmap.quantised import codes_of_latents, encode_npz, quantise_model, span_of
from lightmap.weight_file import WEIGHT_TYPES, pack_weights

NPY_HEADER = 128
FLOAT_BYTES = 4
MOST_CODES = 1 << 24  # of a latent map whose deflated bytes a quick report counts

Build = Callable[[Numbers], tuple[Compressor, Latents]]


@dataclass(frozen=True)
class Form:
    """A way to store a day.

    bytes: what is shipped, codes and weights as they are; file_bytes: of the files that an export writes, some of which
        are deflated; None: not counted. memory_bytes: what a renderer holds.
    runtime: a shader reads any texel at any hour from it, without another pass before.
    files: of an export, that hold it; none: no export does.
    build: texels -> the model that decodes, and their latents.
    """

    title: str
    bytes: int
    file_bytes: int | None
    memory_bytes: int
    runtime: bool
    files: tuple[str, ...]
    build: Build


def forms_of(model: Compressor, day_facts: Mapping[str, Any], whole: bool) -> dict[str, Form]:
    """The forms of a model by name.

    Args:
        day_facts: of checkpoints.describe_day.
        whole: count deflated bytes whatever the size of the latent map.
    """
    shape = model.shape

    def plain(texels: Numbers) -> tuple[Compressor, Latents]:
        return model, _latents(model, texels)

    if shape.latent_mode == "basis":
        return {"basis": _basis_form(model, day_facts, whole, plain)}
    rows, columns = shape.latent_size
    f2_bytes = FLOAT_BYTES * sum(value.numel() for value in model.f2.parameters())
    codes, floats = rows * columns * shape.latent_dim, FLOAT_BYTES * shape.height * shape.width * shape.latent_dim
    counted = whole or codes <= MOST_CODES
    latent_map = LatentMap(model) if shape.latent_mode == "f1" else None
    forms = {}
    if latent_map:
        for kind in WEIGHT_TYPES:
            size = len(pack_weights(model, day_facts, kind))
            name, file = ("f1_f2", NETWORKS) if kind == "float32" else ("f1_f2_float16", NETWORKS_HALF)
            build = plain if kind == "float32" else _rounded_weights(model, kind)
            forms[name] = Form(f"F1 + F2, {kind}", size, size, FLOAT_BYTES * codes + f2_bytes, False, (file,), build)
    forms["latent_f32_f2"] = Form("latent map float32 + F2", floats + f2_bytes, floats + NPY_HEADER + f2_bytes,
                                  floats + f2_bytes, True, (LATENT_MAP, "f2_*"), plain)  # fmt: skip
    quantised = _deflated(model) + f2_bytes if counted else None
    forms["latent_q8_f2"] = Form("latent map 8 bits + F2", codes + f2_bytes, quantised, codes + f2_bytes, True,
                                 (LATENT_Q8, "latent_*.dds", "lightmap_decoder*", F2_META),
                                 plain if latent_map is None else latent_map.quantised(model, 1))  # fmt: skip
    if latent_map and min(shape.latent_size) > 1:
        half = -(-rows // 2) * -(-columns // 2) * shape.latent_dim + f2_bytes
        forms["latent_q8_half_f2"] = Form("latent map 8 bits, half size, + F2", half, None, half, True, (),
                                          latent_map.quantised(model, 2))  # fmt: skip
    return forms


def _basis_form(model: Compressor, day_facts: Mapping[str, Any], whole: bool, build: Build) -> Form:
    """Latent mode basis has one form: its codes, and in files a network and a basis of the floats that it was trained
    with; a renderer has float32 in any case."""
    shape = model.shape
    rows, columns = shape.latent_size
    codes = rows * columns * shape.latent_dim
    size = len(pack_weights(model, day_facts)) if whole or codes <= MOST_CODES else None
    memory = codes + FLOAT_BYTES * sum(value.numel() for value in model.f2.parameters())
    files = (DAY, "latent_*.dds", "lightmap_decoder*", F2_META)
    title = f"latent map 8 bits + {'float32 ' if shape.weight_bits == 32 else ''}basis + F2"
    return Form(title, shipped_bytes(shape), size, memory, True, files, build)


def _deflated(model: Compressor) -> int:
    return len(encode_npz(quantise_model(model)))


def _latents(model: Compressor, texels: Numbers) -> Latents:
    with torch.no_grad():
        return torch.cat([model.latents(part) for part in texels.split(CHUNK)])


def _rounded_weights(model: Compressor, weight_type: str) -> Build:
    """A form that stores both networks with weights of that type."""

    def build(texels: Numbers) -> tuple[Compressor, Latents]:
        rounded = copy.deepcopy(model)
        with torch.no_grad():
            for value in rounded.parameters():
                value.copy_(value.to(getattr(torch, weight_type)))
        return rounded, _latents(rounded, texels)

    return build


class LatentMap:
    """F1's latent map as 8-bit codes, of which only what is asked for is computed: a large one takes GB as floats.

    Equal to the codes of the whole map, and of the map averaged to half its size.
    """

    def __init__(self, model: Compressor):
        self.model, self.size = model, model.shape.latent_size
        channels = model.shape.latent_dim
        self.extremes = {scale: torch.tensor([[torch.inf], [-torch.inf]]).repeat(1, channels) for scale in (1, 2)}
        rows, columns = self.size
        strip = 2 * max(1, CHUNK // (2 * columns))
        for top in range(0, rows, strip):
            texels = torch.arange(top * columns, min(top + strip, rows) * columns)
            z = _in_chunks(model, texels).view(1, -1, columns, channels).permute(0, 3, 1, 2)
            half = torch.nn.functional.avg_pool2d(z, 2, ceil_mode=True, count_include_pad=False)
            for scale, values in ((1, z), (2, half)):
                low, high = self.extremes[scale]
                low.copy_(torch.minimum(low, values.amin(dim=(0, 2, 3))))
                high.copy_(torch.maximum(high, values.amax(dim=(0, 2, 3))))

    def quantised(self, model: Compressor, scale: int) -> Build:
        """A form of the codes at 1/scale of the size, 1 or 2."""

        def build(texels: Numbers) -> tuple[Compressor, Latents]:
            size = (model.shape.height, model.shape.width)
            small = tuple(-(-side // scale) for side in self.size)
            parts = []
            for part in texels.split(CHUNK):
                if size == small:
                    parts.append(self._codes(part, scale))
                    continue
                neighbours, weights = bilinear_neighbours(part, size, small)
                z = self._codes(neighbours.flatten(), scale).view(*neighbours.shape, -1)
                parts.append((z * weights[..., None]).sum(dim=1))
            return model, torch.cat(parts)

        return build

    def _codes(self, texels: Numbers, scale: int) -> Latents:
        """Latents of texels of the map at 1/scale, after rounding to codes."""
        low, high = self.extremes[scale]
        span = span_of(low, high)
        z = self._averaged(texels) if scale == 2 else _in_chunks(self.model, texels)
        return codes_of_latents(z, low, span, 8).float() / 255 * span + low

    def _averaged(self, texels: Numbers) -> Latents:
        """The mean of the up to four texels of the map under each of half its size."""
        rows, columns = self.size
        small = -(-columns // 2)
        y, x = texels // small * 2, texels % small * 2
        total, count = 0, 0
        for down in (0, 1):
            for across in (0, 1):
                there = ((y + down < rows) & (x + across < columns)).float()[:, None]
                at = (y + down).clamp(max=rows - 1) * columns + (x + across).clamp(max=columns - 1)
                total, count = total + _in_chunks(self.model, at) * there, count + there
        return total / count


@torch.no_grad()
def _in_chunks(model: Compressor, texels: Numbers) -> Latents:
    """z of texels of the latent map."""
    return torch.cat([model.latent_texels(part) for part in texels.split(CHUNK)])


# --- decoding --------------------------------------------------------------------------------------------------------


def decode(model: Compressor, z: Latents, hour: float) -> torch.Tensor:
    """Encoded RGB of latents at one hour, (n, 3), not clamped."""
    return render(model.f2, z, hour, model.shape.time_harmonics)


def decoded_stack(form: Form, day: Day, texels: Numbers, shift: float, tick: Callable[[], Any]) -> Stack:
    """The colours of texels in all frames, `shift` times the step between frames later. tick: called for each frame."""
    model, z = form.build(texels)
    frames = []
    for hour in day.times(shift):
        frames.append(decode(model, z, hour))
        tick()
    return torch.stack(frames, dim=1).flatten(1)
