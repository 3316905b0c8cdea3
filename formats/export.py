"""Exports in a folder that a user names: written and read back, in another layout, decoded to images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.errors import Say, UserError, one_line
from common.files import make_folder, staged_folder, write_bytes
from engine.cpu.decoder import decode_lod
from formats.astc import blocks_from_bc1
from formats.block_textures import grid_blocks, grid_texels
from formats.dds import Texture, encode_dds
from formats.dds_layouts import check_layout
from formats.ktx1 import GL_FORMATS, encode_ktx1
from formats.ktx2 import encode_ktx2, ktx2_from_dds
from formats.textures import ExportedTexture, encoded_grids, read_export, write_export
from maps.record import MaterialRecord
from metrics.decoded_maps import decode_pictures, save_map_images
from model import NeuralTexture
from shape import BLOCKS


def export_model(
    out_dir: Path, model: NeuralTexture, material: MaterialRecord, metrics: Any, layout: str, positions: str,
    say: Say = print,
) -> ExportedTexture:  # fmt: skip
    """Write the files of a model to `out_dir`, all of them or, on an error, none, and read them back.

    Arguments as of write_export. Raises: UserError for a layout that cannot hold the features.
    """
    check_layout(model.grids, layout)  # before a folder is made
    with staged_folder(out_dir) as stage:
        write_export(stage, model, material, metrics, layout, positions)
    exported = read_export(out_dir)
    for name, entry in exported.manifest.files.items():
        say(f"{one_line(str(out_dir / name))}  {entry.bytes} bytes")
    return exported


def change_layout(source: Path, layout: str, out_dir: Path, say: Say = print) -> ExportedTexture:
    """The export in `source`; with another `layout` than its own or another `out_dir` it is written there first.

    Args:
        layout: one of dds_layouts.LAYOUTS; empty: nothing is written.
    Raises: UserError for another layout in the same folder.
    """
    exported = read_export(source)
    manifest, in_place = exported.manifest, out_dir.resolve() == source.resolve()
    if not layout or (layout == manifest.layout and in_place):
        return exported
    if in_place:
        raise UserError(
            f"--out_dir {out_dir}: expected another folder than --load_dir, whose files have the layout "
            f"{manifest.layout}; those of {layout} would stand beside them"
        )
    return export_model(
        out_dir, exported.model, manifest.material, manifest.metrics, layout, manifest.positions, say
    )


def save_ktx2(out_dir: Path, exported: ExportedTexture, say: Say = print) -> None:
    """Write the grids of an export once more as KTX2 files, for engines that load these: hash_grid_<g>.ktx2 has the
    levels of hash_grid_<g>.dds. This toolkit itself reads the DDS files."""
    with staged_folder(out_dir) as stage:
        for name, payload in encoded_grids(exported.model, exported.manifest.layout):
            path = Path(name).with_suffix(".ktx2")
            if path == Path(name):  # grids of ASTC, which have no DDS files
                continue
            encoded = ktx2_from_dds(payload, name)
            write_bytes(stage / path, encoded)
            say(f"{one_line(str(out_dir / path))}  {len(encoded)} bytes")


def save_rgba8(out_dir: Path, exported: ExportedTexture, say: Say = print) -> None:
    """Write the grids of blocks once more as hash_grid_<g>_rgba8.dds in R8G8B8A8_UNORM, with the same mips: for
    engines that import texels only. An encoder finds the blocks again, or nearly. This toolkit reads the blocks.

    Raises: UserError for an export without such grids.
    """
    def encode(index: int) -> bytes:
        return encode_dds(Texture(tuple(grid_texels(exported.model, index))))

    _save_blocks(out_dir, exported, tuple(BLOCKS), "rgba8", ".dds", encode, say)


def save_ktx1(out_dir: Path, exported: ExportedTexture, say: Say = print) -> None:
    """Write the grids of ASTC blocks once more as hash_grid_<g>.ktx in KTX 1, with the same blocks: for Unity, which
    imports these and no KTX2.

    Raises: UserError for an export without such grids.
    """

    def encode(index: int) -> bytes:
        grid = exported.model.grids[index]
        return encode_ktx1(*grid.size, grid.storage, [level.tobytes() for level in grid_blocks(exported.model, index)])

    _save_blocks(out_dir, exported, tuple(GL_FORMATS), "ktx", ".ktx", encode, say)


def save_astc(out_dir: Path, exported: ExportedTexture, say: Say = print) -> None:
    """Write the grids of BC1 blocks once more as hash_grid_<g>_astc.ktx2 in ASTC 4x4, with the same mips: for phones,
    few of which sample BC1. A texel moves by 1.33 steps of 8 bits or less, see formats/astc.py.

    Raises: UserError for an export without such grids.
    """

    def encode(index: int) -> bytes:
        levels = [blocks_from_bc1(level).tobytes() for level in grid_blocks(exported.model, index)]
        return encode_ktx2(*exported.model.grids[index].size, "astc4x4", False, levels)

    _save_blocks(out_dir, exported, ("bc1",), "astc", ".ktx2", encode, say)


def _save_blocks(
    out_dir: Path, exported: ExportedTexture, storages: Sequence[str], form: str, suffix: str,
    encode: Callable[[int], bytes], say: Say,
) -> None:  # fmt: skip
    """Write what `encode` makes of each grid of these storages, by its number, as
    hash_grid_<g>_<form><suffix>, or without the form where the suffix says it."""
    grids, ending = exported.model.grids, suffix if form == suffix[1:] else f"_{form}{suffix}"
    compressed = [index for index, grid in enumerate(grids) if grid.storage in storages]
    if not compressed:
        found = next((grid.block.title for grid in grids if grid.compressed), "words alone")
        ways = "; --dds_layout rgba8 widens these" if form == "rgba8" else ""
        wanted, given = (BLOCKS[storages[0]].title, storages[0])
        raise UserError(
            f"--latents_format {form}: expected grids of {wanted} (train.py --latents {given}), found {found}{ways}"
        )
    with staged_folder(out_dir) as stage:
        for index in compressed:
            name = f"hash_grid_{index}{ending}"
            payload = encode(index)
            write_bytes(stage / name, payload)
            say(f"{one_line(str(out_dir / name))}  {len(payload)} bytes")


def check_size(source: Path, material: MaterialRecord, max_pixels: int) -> None:
    """Raise UserError for more texels than `max_pixels`: a manifest of a few bytes can claim gigabytes of images."""
    width, height = material.lod_size(0)
    if width * height > max_pixels:
        raise UserError(
            f"{source}: expected at most {max_pixels} texels to decode, found {width}x{height} = {width * height}; "
            "raise --max_pixels if that is right"
        )


def save_images(folder: Path, exported: ExportedTexture, say: Say = print) -> list[Path]:
    """Decode every LOD of an export and write one picture per map and LOD, see save_map_images; returns their paths."""
    make_folder(folder)
    material, paths = exported.manifest.material, []
    for lod in range(material.num_lods):
        decoded = decode_pictures(exported.model, material, lod, functools.partial(decode_lod, say=say))
        paths += save_map_images(folder, decoded, lod, material)
    say(f"{len(paths)} images in {one_line(str(folder))}")
    return paths
