"""The work of bench.filtered: views drawn by WebGL from a run and from its source, and compared."""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from bench.browser import Job, Texture, draw
from bench.common import save, table
from common.errors import UserError
from common.files import make_folder
from configs import make_config
from dataset import Material
from formats.block_textures import grid_blocks
from formats.dds_layouts import grid_textures
from formats.textures import ExportedTexture, read_export
from metrics.filtered import decode_samples, psnr_against
from shaders.export import reading, shader_source, texture_names
from shaders.languages import EXAMPLES, LANGUAGES, TABLE, WEIGHT_TEXTURE_WIDTH
from shaders.weights import weight_bytes
from training.checkpoint import load_checkpoint
from training.run import read_material
from training.run_folder import MODELS, find_checkpoint
from training.start import train_material

MAGNIFIED = 4  # pixels a texel
ANISOTROPY = 8
TILTED_SIDE = 384  # pixels
PATTERN_WIDTH = 1 / 8  # cycles a texel
PICTURE = 256  # pixels of each side, of each part of a picture
COLUMNS = (
    ("material", "material", "{}"), ("trained at", "positions", "{}"), ("view", "view", "{}"),
    ("model dB", "model", "{:.2f}"), ("one", "one", "{:.2f}"), ("four", "four", "{:.2f}"),
    ("nearest", "nearest", "{:.2f}"), ("pattern: source", "pattern_source", "{:.2f}"),
    ("one", "pattern_one", "{:.2f}"), ("four", "pattern_four", "{:.2f}"), ("nearest", "pattern_nearest", "{:.2f}"),
)  # fmt: skip

HEAD = """#version 300 es
precision highp float;
precision highp int;
layout(location = 0) out vec4 first;
layout(location = 1) out vec4 second;
layout(location = 2) out vec4 third;
"""
STORE = """
void store(NtMaterial m, float share)
{
    first += share * vec4(m.diffuse, m.normal.x);
    second += share * vec4(m.normal.yz, m.roughness, m.occlusion);
    third += share * vec4(m.metallic, m.specular, m.displacement, 0.0);
}
"""
MAIN = """
void main()
{
    vec2 uv = place();
    first = second = third = vec4(0.0);
%s
}
"""
VIEWS = {  # place(): uv of a pixel
    "magnified": """
vec2 place() {{ return (vec2({left}.0, {top}.0) + gl_FragCoord.xy / {magnified}.0) / vec2({width}.0, {height}.0); }}
""",
    # a plane at 60 degrees of tilt before a camera of 30 degrees; in its middle a pixel is 1.5 texels wide
    "tilted": """
vec2 place()
{{
    vec2 ray = (gl_FragCoord.xy * 2.0 / {side}.0 - 1.0) * 0.26794919;
    float away = 1.0 / (1.0 - 1.7320508 * ray.y);
    float texels = 1.5 * {side}.0 / 2.0 / 0.26794919;
    return vec2(0.5) + texels * away * vec2(ray.x, 2.0 * ray.y) / vec2({width}.0, {height}.0);
}}
""",
}
FOUR = """
    float lod = floor(max(ntLod(dFdx(uv), dFdy(uv)), 0.0) + 0.5);
    vec2 size = vec2(max(ivec2(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT) >> int(lod), 1));
    vec2 part = fract(uv * size - 0.5);
    for (int i = 0; i < 4; i++)
    {
        vec2 corner = vec2(i & 1, i >> 1), share = mix(1.0 - part, part, corner);
        store(ntDecode(ntTexelCentre(uv, lod, corner), lod), share.x * share.y);
    }
"""
SOURCE = """
    vec2 across = dFdx(uv), down = dFdy(uv);
    first = textureGrad(source0, uv, across, down);
    second = textureGrad(source1, uv, across, down);
    third = textureGrad(source2, uv, across, down);
"""


# --- what is drawn ---------------------------------------------------------------------------------------------------


def grid_texture(exported: ExportedTexture, name: str) -> Texture:
    """A texture of the decoder, by its name there, as its host would upload it."""
    index, _, plane = name.removeprefix("ntGrid").partition("Plane")
    grid = exported.model.grids[int(index)]
    if not grid.compressed:
        texture = grid_textures(exported.model, int(index))[int(plane or 0)]
        channels = {1: "r8", 2: "rg8", 4: "rgba8"}[texture.levels[0].shape[2]]
        sizes = [(level.shape[1], level.shape[0]) for level in texture.levels]
        return Texture(channels, sizes, [level.tobytes() for level in texture.levels])
    levels = [level.tobytes() for level in grid_blocks(exported.model, int(index))]
    filtered = ANISOTROPY if grid.interpolation == "linear" else 0
    return Texture("bc1", grid.mip_sizes, levels, filtered)


def decoder_textures(exported: ExportedTexture) -> dict[str, Texture]:
    """The textures of shader_source(..., "essl", "buffer", "float32"), and the one of its weights."""
    textures = {name: grid_texture(exported, name) for name in texture_names(exported.model)}
    weights = weight_bytes(exported.model, "float32")
    size = WEIGHT_TEXTURE_WIDTH, len(weights) // (16 * WEIGHT_TEXTURE_WIDTH)
    return {**textures, TABLE: Texture("rgba32f", [size], [weights])}


def source_textures(material: Material) -> dict[str, Texture]:
    """The source's mips, four channels a texture, in the colour space that was trained, 8 bits."""
    planes: list[list[bytes]] = [[], [], []]
    for lod, (width, height) in enumerate(material.lod_sizes):
        first = material.lod_offsets[lod]
        values = np.zeros((width * height, 12), np.uint8)
        index = torch.arange(first, first + width * height, device=material.codes8.device)
        codes = (material.gather(index) * 255).round().byte().cpu().numpy()
        values[:, material.present_channels.cpu().numpy()] = codes
        for plane, part in zip(planes, np.split(values, 3, axis=1)):
            plane.append(part.tobytes())
    return {f"source{k}": Texture("rgba8", material.lod_sizes, plane, ANISOTROPY) for k, plane in enumerate(planes)}


def jobs_of(view: str, exported: ExportedTexture, material: Material, crop: int) -> dict[str, Job]:
    """source, one, four, nearest -> what draws it."""
    side = crop * MAGNIFIED if view == "magnified" else TILTED_SIDE
    left, top = ((length - crop) // 2 for length in (material.width, material.height))
    place = VIEWS[view].format(width=material.width, height=material.height, side=side, left=left, top=top,
                               magnified=MAGNIFIED)  # fmt: skip
    decoder = shader_source(exported.model, exported.manifest.material, "essl", "buffer", "float32")
    textures = decoder_textures(exported)
    samplers = "".join(f"uniform highp sampler2D source{k};\n" for k in range(3))
    jobs = {"source": Job(HEAD + samplers + place + MAIN % SOURCE, source_textures(material), side, side)}
    sampled = reading(exported.model.grids) == "filterable"
    for name, way in (("one", "pixel" if sampled else "position"), ("four", ""), ("nearest", "texel")):
        lines = LANGUAGES["essl"].decoding(way, "NtMaterial m", "float lod", "") if way in EXAMPLES else []
        body = "\n".join([*lines, "    store(m, 1.0);"]) if lines else FOUR
        jobs[name] = Job(HEAD + decoder + STORE + place + MAIN % body, textures, side, side)
    return jobs


# --- what is measured ------------------------------------------------------------------------------------------------


def pattern_rms(picture: np.ndarray) -> float:
    """RMS of what repeats with every texel of a magnified picture (H, W, C): see the top of this file."""
    height, width, _ = picture.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    spectrum = np.fft.fft2((picture - picture.mean(axis=(0, 1))) * window[..., None], axes=(0, 1))
    cycles = [np.fft.fftfreq(length) * MAGNIFIED for length in (height, width)]
    whole = [np.round(frequency) for frequency in cycles]
    near = [np.abs(frequency - nearest) <= PATTERN_WIDTH for frequency, nearest in zip(cycles, whole)]
    first = [np.abs(nearest) <= 1 for nearest in whole]
    chosen = (near[0] & first[0])[:, None] & (near[1] & first[1]) & ((whole[0] != 0)[:, None] | (whole[1] != 0))
    power = (np.abs(spectrum[chosen]) ** 2).sum() / (height * width) ** 2 / (window**2).mean()
    return float(np.sqrt(power / picture.shape[2]))


def magnified_uv(material: Material, crop: int) -> torch.Tensor:
    """(n, 2) uv of the pixels of the magnified view, row after row."""
    size = torch.tensor([material.width, material.height], dtype=torch.float64)
    pixels = (torch.arange(crop * MAGNIFIED) + 0.5) / MAGNIFIED
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    return ((torch.stack([x, y], dim=-1).reshape(-1, 2) + (size - crop).div(2, rounding_mode="floor")) / size).float()


def measure_view(
    view: str, exported: ExportedTexture, material: Material, crop: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """An entry of one view, and its pictures by name, (H, W, channels)."""
    jobs = jobs_of(view, exported, material, crop)
    pictures = {name: picture[..., : material.channels] for name, picture in zip(jobs, draw(list(jobs.values())))}
    flat = {name: torch.from_numpy(picture.reshape(-1, material.channels).copy()) for name, picture in pictures.items()}
    present, entry = material.present_channels.cpu().numpy(), {"view": view}
    for name in ("one", "four", "nearest"):
        entry[name] = psnr_against(flat["source"].clone(), flat[name], exported.model.constants, material)["all"]
    if view == "magnified":
        codes = {name: 255 * np.clip(picture[..., present], 0, 1) for name, picture in pictures.items()}
        entry.update({f"pattern_{name}": pattern_rms(picture) for name, picture in codes.items()})
        uv = magnified_uv(material, crop)
        decoded = decode_samples(exported.model, uv, torch.zeros(len(uv)))
        entry["model"] = psnr_against(flat["source"].clone(), decoded, exported.model.constants, material)["all"]
    return entry, pictures


def save_picture(path: Path, pictures: dict[str, np.ndarray]) -> None:
    """The diffuse, or the first three channels, of the middle: source, one, four, nearest side by side."""
    parts = []
    for picture in pictures.values():
        top, left = ((length - min(PICTURE, length)) // 2 for length in picture.shape[:2])
        part = picture[top : top + PICTURE, left : left + PICTURE, :3]
        parts.append((np.clip(part, 0, 1) * 255).round().astype(np.uint8))
    PillowImage.fromarray(np.concatenate(parts, axis=1)).save(path)


# --- command ---------------------------------------------------------------------------------------------------------


def trained(folder: str, bpp: float, preset: str, save_dir: str, num_threads: int) -> Path:
    """A run of linear BC1 planes at filtered positions."""
    given = {"data_dir": folder, "save_dir": save_dir, "bpp": bpp, "preset": preset, "num_threads": num_threads,
             "latents": "bc1", "decoder": "reference", "positions": "filtered", "eval_metrics": "psnr"}  # fmt: skip
    result = train_material(make_config(given), say=lambda text: None, quiet=True)
    if not result.completed:
        raise KeyboardInterrupt
    return result.run


def measure_run(run: Path, out: Path, crop: int) -> list[dict[str, Any]]:
    """The entries of both views; their pictures go to `out`."""
    checkpoint = load_checkpoint(run)
    material = read_material(checkpoint.config.data_dir, checkpoint.config, say=lambda text: None)
    if crop > min(material.width, material.height):
        raise UserError(f"--crop {crop}: expected at most the material's {material.width} x {material.height} texels")
    exported = read_export(find_checkpoint(run))
    manifest = exported.manifest
    of_run = {
        "material": material.name, "positions": manifest.positions, "bpp": manifest.rates["bpp"],
        "psnr_centres": manifest.metrics["psnr"]["all"], "psnr_filtered": manifest.metrics["psnr_filtered"]["all"],
    }  # fmt: skip
    print(f"{material.name}, trained at {manifest.positions}, {of_run['bpp']:.2f} bpp: {of_run['psnr_centres']:.2f} dB "
          f"at texel centres, {of_run['psnr_filtered']:.2f} dB filtered", flush=True)  # fmt: skip
    entries = []
    for view in VIEWS:
        entry, pictures = measure_view(view, exported, material, crop)
        save_picture(out / f"{material.name}_{manifest.positions}_{view}.png", pictures)
        entries.append({**of_run, **entry})
    return entries


# --- all of it -----------------------------------------------------------------------------------------------------


def run_all(arguments: argparse.Namespace) -> None:
    """Measure, print and write what the flags of bench.filtered ask for."""
    out = Path(arguments.out) / "filtered"
    make_folder(out)
    entries = []
    for folder in arguments.folders:
        measure = functools.partial(measure_run, out=out, crop=arguments.crop)
        if (Path(folder) / MODELS).is_dir():
            entries += measure(Path(folder))
            continue
        with tempfile.TemporaryDirectory() as save_dir:
            entries += measure(trained(folder, arguments.bpp, arguments.preset, save_dir, arguments.num_threads))
    print(table(entries, COLUMNS))
    settings = {"crop": arguments.crop, "magnified": MAGNIFIED, "anisotropy": ANISOTROPY, "preset": arguments.preset}
    print(save("filtered", arguments.out, settings, entries))
