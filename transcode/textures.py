"""Ordinary textures decoded from a neural one, for engines that cannot decode it: `export.py --transcode`.

Every mip is decoded at its own LOD and not averaged from another.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import Say, UserError, counted, one_line
from common.files import staged_folder, write_bytes
from engine.cpu.decoder import decode_lod
from formats.dds import BLOCK_BYTES, encode_block_dds
from formats.ktx2 import encode_ktx2
from formats.options import TEXTURE_FORMATS
from formats.textures import ExportedTexture
from maps.channels import map_size
from maps.images import encode_png
from maps.mips import mip_sizes
from maps.record import MapRecord, MaterialRecord
from metrics.decoded_maps import decode_deep_maps, decode_maps, image_name
from model import NeuralTexture
from transcode import codecs as texture_codecs
from transcode.glb import base_colour, encode_glb, packed_orm
from transcode.gpu import device_for_textures, lods_on_gpu
from transcode.light import exposure, in_half, is_bright, light_of, picture

BLOCK_FORMATS = ("dds", "ktx2")
PROFILES = {"fast": "veryfast", "normal": "basic", "slow": "slow"}  # --transcode_quality -> BC7 profile of the encoder
GLB_NAME = "material.glb"
_PACKED = ("occlusion", "roughness", "metallic")
_DXGI = {("bc1", False): 71, ("bc4", False): 80, ("bc5", False): 83, ("bc6h", False): 95, ("bc7", False): 98,
         ("bc7", True): 99}  # fmt: skip

Maps = Mapping[str, np.ndarray]  # map name -> (H, W, C) uint8; float16 of maps whose form is bc6h


@dataclass(frozen=True)
class TexturePlan:
    """One texture to write: the name of its files, its block format, whether it is sRGB, and the maps in it."""

    name: str
    form: str
    srgb: bool
    maps: tuple[str, ...]

    def pixels(self, decoded: Maps) -> np.ndarray:
        """(H, W, C) of a decoded LOD, like its maps."""
        held = {name: decoded[name] for name in self.maps}
        if self.name == "diffuse":
            return base_colour(held)
        return packed_orm(held) if self.name == "orm" else held[self.maps[0]]

    @property
    def with_alpha(self) -> bool:
        return self.name == "diffuse" and "opacity" in self.maps


def check_packages(formats: Sequence[str], device: str = "cpu", scalars: str = "bc4") -> None:
    """Raise UserError when a format needs a package, or `device` a GPU, that is not there, or `scalars` a format that a
    GPU is not asked for; before anything is decoded. Arguments as of `transcode`."""
    if device == "gpu" and formats:
        if scalars == "orm_bc1":
            raise UserError("--transcode_scalars orm_bc1: expected --transcode_device cpu, found gpu, without BC1")
        device_for_textures()
    elif _with_blocks(formats):
        try:
            texture_codecs.block_encoder()
        except UserError as error:
            raise UserError(f"--transcode {','.join(formats)}: {error}, or ask for png,glb alone") from error


def _with_blocks(formats: Sequence[str]) -> bool:
    return bool(set(formats) & set(BLOCK_FORMATS))


def plan_textures(material: MaterialRecord, scalars: str = "bc4") -> list[TexturePlan]:
    """The textures to write for the maps of a material.

    Diffuse is BC7, sRGB where the file is, with the opacity as alpha; a normal BC5, which holds x and y; emissive BC7,
    sRGB; each scalar map BC4. A diffuse or emissive that reaches above 1 is BC6H, which has no alpha: opacity is BC4
    then. `scalars` orm_bc7 or orm_bc1 packs occlusion, roughness and metallic into one texture, in R, G, B.
    """
    diffuse, pictured = material.map("diffuse"), light_of(material)
    alpha = ("opacity",) if diffuse and not is_bright(diffuse) and material.map("opacity") else ()
    packed = tuple(name for name in _PACKED if material.map(name)) if scalars != "bc4" else ()
    plans = []
    for entry in material.maps:
        name = entry.name
        if is_bright(entry):
            plans.append(TexturePlan(name, "bc6h", False, (name,)))
        elif name == "diffuse":
            srgb = entry.file_color_space == "srgb" or entry in pictured
            plans.append(TexturePlan(name, "bc7", srgb, (name, *alpha)))
        elif name == "emissive":
            plans.append(TexturePlan(name, "bc7", True, (name,)))
        elif name not in (*packed, *alpha):
            plans.append(TexturePlan(name, "bc5" if map_size(name) == 3 else "bc4", False, (name,)))
    if packed:
        plans.append(TexturePlan("orm", scalars.rpartition("_")[2], False, packed))
    return plans


def transcode(
    model: NeuralTexture,
    material: MaterialRecord,
    folder: Path,
    formats: Sequence[str] = TEXTURE_FORMATS,
    *,
    scalars: str = "bc4",
    quality: str = "normal",
    device: str = "cpu",
    say: Say = print,
) -> list[Path]:
    """Decode every LOD and write it as ordinary textures into `folder`, all of them or, on an error, none.

    Args:
        formats: some of TEXTURE_FORMATS.
        scalars: one of formats.options.SCALAR_TEXTURES, see plan_textures.
        quality: a key of PROFILES: the effort spent on BC7 and BC6H; the other formats' encoders have no choice.
        device: one of formats.options.TRANSCODE_DEVICES: `gpu` is transcode/gpu.py, for which there is no `quality`.
        say: receives a line about what an engine has to know.
    Returns: the files: <texture>.dds, <texture>.ktx2, <texture>_lod<n>.png, material.glb.
    Raises: UserError when a package is missing, or a material has what a GPU is not asked for. Memory: the decoded
        maps of LOD 0, 11 bytes a texel, or 16, once more where the diffuse's file is linear, with light of float files
        also 2 bytes for every channel of 16 bits and 6 a texel for each map above 1; one map twice more with 4 bytes a
        texel, and the blocks of the whole chain.
    """
    check_packages(formats, device, scalars)
    for note in _notes(material, formats):
        say(note)
    plans = plan_textures(material, scalars)
    width, height = material.lod_size(0)
    if device == "gpu":
        _check_for_gpu(material)
        made = lods_on_gpu(model, material, [(plan.form, plan.maps[0]) for plan in plans])
    else:
        made = _lods_on_cpu(model, material, plans, PROFILES[quality] if _with_blocks(formats) else None, say)
    chains: dict[str, list[bytes]] = {plan.name: [] for plan in plans}
    with staged_folder(folder) as stage:
        for lod, (decoded, blocks) in enumerate(made):
            if lod == 0 and "glb" in formats:
                write_bytes(stage / GLB_NAME, _glb(decoded, material))
            if "png" in formats:
                for plan in plans:
                    write_bytes(stage / image_name(plan.name, lod), encode_png(plan.pixels(decoded), quick=True))
            for plan, level in zip(plans, blocks):
                chains[plan.name].append(level)
        for plan in plans:
            levels = chains[plan.name]
            if "dds" in formats:
                payload = encode_block_dds(width, height, _DXGI[plan.form, plan.srgb], levels, plan.with_alpha)
                write_bytes(stage / f"{plan.name}.dds", payload)
            if "ktx2" in formats:
                write_bytes(stage / f"{plan.name}.ktx2", encode_ktx2(width, height, plan.form, plan.srgb, levels))
        return [folder / path.name for path in sorted(stage.iterdir())]


def _lods_on_cpu(
    model: NeuralTexture, material: MaterialRecord, plans: Sequence[TexturePlan], bc7_profile: str | None, say: Say
) -> Iterator[tuple[Maps, list[bytes]]]:
    """Of each LOD its maps as pictures show them, and the blocks of the plans; bc7_profile: None: no blocks."""
    for lod in range(material.num_lods):
        decoded, light = lod_pictures(model, material, lod, say)
        if bc7_profile is None:
            yield decoded, []
            continue
        held = decoded
        if with_srgb_diffuse(material) != material:
            in_file = decode_maps(model, material, lod, functools.partial(decode_lod, say=say))
            held = {**in_file, **{entry.name: decoded[entry.name] for entry in light}}
        halves = {entry.name: in_half(entry, light[entry]) for entry in filter(is_bright, light)}
        pixels = (plan.pixels({**held, **halves}) for plan in plans)
        yield decoded, [texture_codecs.encode_blocks(plan.form, p, bc7_profile) for plan, p in zip(plans, pixels)]


def lod_pictures(
    model: NeuralTexture, material: MaterialRecord, lod: int, say: Say = print
) -> tuple[dict[str, np.ndarray], dict[MapRecord, np.ndarray]]:
    """The maps of a LOD as pictures show them, (H, W, C) uint8, see light.picture; and the codes of `light_of`."""
    pictures, decode = with_srgb_diffuse(material), functools.partial(decode_lod, say=say)
    if not light_of(material):
        return decode_maps(model, pictures, lod, decode), {}
    decoded, deep = decode_deep_maps(model, pictures, lod, decode)
    light = {entry: deep.get(entry.name, decoded[entry.name]) for entry in light_of(material)}
    return {**decoded, **{entry.name: picture(entry, codes) for entry, codes in light.items()}}, light


def _check_for_gpu(material: MaterialRecord) -> None:
    """Raise UserError for maps that the shaders of transcode/gpu.py do not turn into textures."""
    wide = [entry.name for entry in light_of(material)]
    if wide or with_srgb_diffuse(material) != material:
        raise UserError(
            f"--transcode_device gpu: expected colours of sRGB files, found {' and '.join(wide) or 'diffuse'} in other "
            "units; use cpu"
        )


def export_transcoded(
    folder: Path, exported: ExportedTexture, formats: Sequence[str], scalars: str, quality: str, device: str,
    say: Say = print,
) -> None:  # fmt: skip
    """`transcode` of an export into `folder`, with a line on each texture and format."""
    material, how = exported.manifest.material, {"scalars": scalars, "quality": quality, "device": device}
    paths = transcode(exported.model, material, folder, formats, **how, say=say)
    say(f"{len(paths)} files in {one_line(str(folder))}")
    for line in summary(paths, material, formats, scalars):
        say(line)


def _notes(material: MaterialRecord, formats: Sequence[str]) -> Iterator[str]:
    width, height = material.lod_size(0)
    if _with_blocks(formats) and (width % 4 or height % 4):
        yield f"note: {width} x {height} is not made of whole 4 x 4 blocks; not every Direct3D takes such textures"
    normal = material.map("normal")
    if "glb" in formats and normal:
        if normal.convention == "dx":
            yield "note: the normals are of the DirectX convention; y is turned round in the .glb, and only there"
        elif normal.convention != "gl":
            yield "note: the convention of the normals is not known; the .glb takes them as OpenGL's, y up"
    for entry in filter(is_bright, material.maps):
        high = exposure(entry)
        shown = f"divided by {high:g}, which the .glb multiplies its light by" if high > 1 else "clipped to 1"
        yield f"note: {entry.name} reaches {entry.value_range[1]:g}: BC6H holds that; in PNG and .glb it is {shown}"
    deep = [entry.name for entry in material.maps if entry.bit_depth == 16 and not is_bright(entry)]
    if deep:
        yield f"note: rounded to 8 bits: {', '.join(deep)}"


def _glb(decoded: Maps, material: MaterialRecord) -> bytes:
    emissive = material.map("emissive")
    strength = exposure(emissive) if emissive else 1.0
    return encode_glb(_printable(material.name), gltf_maps(decoded, material), strength)


def _printable(name: str) -> str:
    """A name that UTF-8 can encode: file names may have bytes that are no characters."""
    return name.encode("utf-8", "replace").decode()


def with_srgb_diffuse(material: MaterialRecord) -> MaterialRecord:
    """The record of a material whose diffuse decodes to sRGB, which is what readers of PNG and glTF expect. One in
    units of its own stays as it is, see light.picture."""
    light = light_of(material)
    maps = [
        replace(entry, file_color_space="srgb") if entry.name == "diffuse" and entry not in light else entry
        for entry in material.maps
    ]
    return replace(material, maps=tuple(maps))


def gltf_maps(decoded: Maps, material: MaterialRecord) -> dict[str, np.ndarray]:
    """Decoded maps with y of normals up, as glTF has it."""
    normal = material.map("normal")
    maps = dict(decoded)
    if normal and normal.convention == "dx":
        flipped = maps["normal"].copy()
        flipped[..., 1] = 255 - flipped[..., 1]
        maps["normal"] = flipped
    return maps


def summary(paths: Sequence[Path], material: MaterialRecord, formats: Sequence[str], scalars: str) -> list[str]:
    """Lines for the user: the block formats with their bits per texel, and the files and bytes of each format."""
    lines = []
    if _with_blocks(formats):
        width, height = material.lod_size(0)
        plans = plan_textures(material, scalars)
        bits = sum(BLOCK_BYTES[plan.form] * 8 / 16 for plan in plans)
        kinds = ", ".join(_kind(plan) for plan in plans)
        mips = sum(w * h for w, h in mip_sizes(width, height)) / (width * height)
        lines.append(f"{kinds}: {bits:g} bits per texel, {bits * mips:.2f} with all mips")
    for suffix in formats:
        found = [path for path in paths if path.suffix == f".{suffix}"]
        size = sum(path.stat().st_size for path in found)
        lines.append(f"{suffix.upper()}: {counted(len(found), 'file')}, {size} bytes")
    return lines


def _kind(plan: TexturePlan) -> str:
    return f"{plan.name} {plan.form.upper()}{' sRGB' if plan.srgb else ''}{' with alpha' if plan.with_alpha else ''}"
