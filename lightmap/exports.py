"""Writes the exports of a trained day: latent maps, F2 in several formats, textures, shaders, a viewer page."""

from __future__ import annotations

import copy
import dataclasses
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.arrays import write_array_parts
from common.errors import UserError
from common.files import make_folder, sha256_of, write_bytes, write_json, write_text
from formats.dds import MAX_SIZE, encode_dds
from lightmap.compressor import CHUNK, Compressor, chunks, harmonics_of
from lightmap.data import Encoding
from lightmap.onnx_file import onnx_bytes
from lightmap.page import write_page
from lightmap.quantised import encode_npz, plane_names, quantise_model, textures
from lightmap.shader import WEIGHT_FILE, Decoder, file_name, shader_source, weight_bytes, weight_columns
from lightmap.shape import Shape
from lightmap.siren import AtHours, DaySiren, Siren
from lightmap.weight_file import pack_weights
from shaders.languages import LANGUAGES

LATENT_MAP, LATENT_Q8 = "latent_map.npy", "latent_map_q8.npz"
F2_STATE, F2_SCRIPT, F2_ONNX, F2_META = "f2_state_dict.pt", "f2_ts.pt", "f2.onnx", "f2_meta.json"
NETWORKS, NETWORKS_HALF, DAY = "f1_f2.npz", "f1_f2_float16.npz", "day.npz"
PAGE = "viewer.html"
META_VERSION = 1
# Columns of weights in the text of a shader; more are read from a buffer. WGSL has no constant arrays that every
# implementation leaves in one place, and a day's frames are more than each invocation should copy.
MOST_BAKED, MOST_BAKED_WGSL = 1 << 12, 1 << 8


def write_exports(
    folder: Path, model: Compressor, day: Mapping[str, Any], report: Mapping[str, Any] | None = None
) -> list[str]:
    """Write all exports of a model into `folder`.

    Args:
        day: of checkpoints.describe_day.
        report: scores for the page; None: it shows none.
    Returns: lines for the user, which also name what was left out and why. Raises: UserError, OSError.
    """
    make_folder(folder)
    model, encoding, notes = model.cpu().eval(), Encoding(**day["encoding"]), []
    quantised = quantise_model(model)
    decoder = Decoder(model.f2, quantised, harmonics_of(model.f2, model.shape.latent_dim), encoding)
    write_latent_map(folder / LATENT_MAP, model)
    write_bytes(folder / LATENT_Q8, encode_npz(quantised))
    write_bytes(folder / F2_STATE, state_bytes(model.f2))
    write_bytes(folder / F2_SCRIPT, script_bytes(model.f2))
    written = [LATENT_MAP, LATENT_Q8, F2_STATE, F2_SCRIPT]
    try:
        write_bytes(folder / F2_ONNX, onnx_bytes(model.f2))
        written.append(F2_ONNX)
    except UserError as error:
        notes.append(f"note: {F2_ONNX} is left out: {error}")
    if model.shape.latent_mode == "f1":
        write_bytes(folder / NETWORKS, pack_weights(model, day))
        write_bytes(folder / NETWORKS_HALF, pack_weights(model, day, "float16"))
        written += [NETWORKS, NETWORKS_HALF]
    elif model.shape.latent_mode == "basis":
        write_bytes(folder / DAY, pack_weights(model, day))
        written.append(DAY)
    written += write_decoders(folder, decoder, notes)
    write_json(folder / F2_META, build_meta(model, day, folder, written))
    write_page(folder / PAGE, decoder, report)
    return [*notes, f"exports  {', '.join([*written, F2_META, PAGE])}"]


def write_latent_map(path: Path, model: Compressor) -> None:
    """Write z of every lightmap texel, (H, W, C) float32, row 0 on top; a smaller latent map is sampled bilinearly."""
    shape = model.shape
    parts = (model.latents(part).numpy() for part in chunks(shape.height * shape.width))
    with torch.no_grad():
        write_array_parts(path, (shape.height, shape.width, shape.latent_dim), parts)


def state_bytes(f2: Siren) -> bytes:
    """F2's state dict as torch.save writes it; in memory, because torch.save puts the name of a file into the file."""
    stream = io.BytesIO()
    torch.save({name: value.detach().clone() for name, value in f2.state_dict().items()}, stream)
    return stream.getvalue()


def script_bytes(f2: Siren) -> bytes:
    """F2 as TorchScript, (N, C + 2K) -> (N, 3), or latents and hours (N, C + 1) -> (N, 3) in latent mode basis; its
    weights ask for no gradients. PyTorch has deprecated the format, but still writes and reads it."""
    net = copy.deepcopy(f2).requires_grad_(False)
    inputs = f2.sizes[0]
    if isinstance(f2, DaySiren):
        net, inputs = AtHours(net), inputs + 1
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(net.eval(), torch.zeros(2, inputs), check_trace=False)
        torch.jit.save(traced, stream)
    return stream.getvalue()


def write_decoders(folder: Path, decoder: Decoder, notes: list[str]) -> list[str]:
    """Write DDS planes of the quantised latents and F2 in every shading language. Returns: the names of the files."""
    rows, columns = decoder.latent.latent_size
    if max(rows, columns) > MAX_SIZE:
        notes.append(f"note: DDS planes and shaders are left out: {columns}x{rows} is above {MAX_SIZE} texels")
        return []
    names = plane_names(decoder.latent.codes.shape[2])
    for name, texture in zip(names, textures(decoder.latent)):
        write_bytes(folder / name, encode_dds(texture))
    shaders = [file_name(language) for language in LANGUAGES]
    for language, name in zip(LANGUAGES, shaders):
        write_text(folder / name, shader_source(decoder, language, is_baked(decoder, language)))
    write_bytes(folder / WEIGHT_FILE, weight_bytes(decoder))
    return [*names, *shaders, WEIGHT_FILE]


def _f2_inputs(shape: Shape) -> dict[str, Any]:
    """What f2_meta.json says of what goes into F2 and comes out."""
    if shape.latent_mode != "basis":
        text = f"{shape.latent_dim} latents, then sin and cos of 2 pi k t / 24, k = 1..{shape.time_harmonics}"
        return {"inputs": text}
    return {
        "inputs": f"{shape.latent_dim} latents; {F2_SCRIPT} and {F2_ONNX} take the hours behind them",
        "outputs": f"RGB of {shape.frames} frames, plus `basis` ({3 * shape.frames}, {shape.latent_dim}) times the "
        "latents; between two frames, and from the last to the first, interpolated linearly",
        "frames": shape.frames,
    }


def is_baked(decoder: Decoder, language: str) -> bool:
    """Whether the exported decoder in a language holds its weights."""
    if language == "wgsl" and isinstance(decoder.f2, DaySiren):
        return len(weight_columns(decoder)) <= MOST_BAKED_WGSL
    return language != "essl" and len(weight_columns(decoder)) <= MOST_BAKED


def build_meta(model: Compressor, day: Mapping[str, Any], folder: Path, files: list[str]) -> dict[str, Any]:
    """The content of f2_meta.json: everything needed to rebuild F2 and to use the files beside it."""
    shape = model.shape
    hdr = day["encoding"]["hdr"]
    return {
        "version": META_VERSION,
        "shape": dataclasses.asdict(shape),
        "day": dict(day),
        "f2": {
            "sizes": model.f2.sizes,
            "activation": "sin(omega (W x + b)), the last layer W x + b",
            "omega": float(model.f2.omega),
            **_f2_inputs(shape),
            "time": "hours, modulo 24",
        },
        "values": {
            "color_space": "linear" if hdr else "as the frames store it",
            "decode": "(exp(max(y, 0) log1p(peak / scale)) - 1) scale" if hdr else "clamp(y, 0, 1)",
        },
        "latent_map": {"file": LATENT_MAP, "height": shape.height, "width": shape.width, "channels": shape.latent_dim,
                       "dtype": "float32", "row_0": "top", "position": "pixel centres"},
        "chunk": CHUNK,
        "sha256": {name: sha256_of(folder / name) for name in files},
    }  # fmt: skip
