"""A trained NeuralTexture as files for an engine, and back: DDS feature textures, npz network, manifest, images.

    python export.py --load_dir outputs/<run> [--load_iter N] --out_dir DIR [--images]
    python export.py --load_dir outputs/<run> --out_dir DIR --transcode [FORMATS]
    python export.py --load_dir outputs/<run> --out_dir DIR [--dds_layout LAYOUT] [--shader hlsl,wgsl]
    python export.py --load_dir outputs/<run> --viewer page.html
    python export.py --describe DIR [--images --out_dir DIR]

File formats: design.md, section 6.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError, one_line, run_command
from common.files import make_folder, staged_folder
from common.knobs import OneLineParser, check_value, parse_bool
from configs import FIELDS, MAX_PIXELS, MOST_PIXELS
from describe.bare_files import is_bare, parse_assumptions, read_bare_files, save_bare_images
from engine.cpu.decoder import decode_lod
from formats.dds_layouts import LAYOUTS, check_layout
from formats.manifest import MANIFEST
from formats.textures import ExportedTexture, read_export, write_export
from maps.record import MaterialRecord
from metrics.decoded_maps import decode_maps, save_map_images
from model import NeuralTexture


def save_images(folder: Path, exported: ExportedTexture) -> list[Path]:
    """Decode every LOD of an export and write one PNG per map and LOD."""
    make_folder(folder)
    material = exported.manifest.material
    paths = []
    for lod in range(material.num_lods):
        decoded = decode_maps(exported.model, material, lod, functools.partial(decode_lod, say=print))
        paths += save_map_images(folder, decoded, lod)
    return paths


# --- command -------------------------------------------------------------------------------------------------------


def build_parser() -> OneLineParser:
    """The flags of the export command."""
    parser = OneLineParser(
        prog="export.py", description="Export a checkpoint again, decode an export to images, or say what it holds."
    )
    parser.add_argument("--load_dir", help="run folder (outputs/<run>), or a folder with an export")
    parser.add_argument("--load_iter", type=int, default=-1, help="iteration; -1: the newest checkpoint [default -1]")
    parser.add_argument("--out_dir", help="folder that receives the files")
    parser.add_argument("--images", type=parse_bool, nargs="?", const=True, default=False, metavar="BOOL",
                        help="decode the exported files to one PNG per map and LOD in out_dir/images")  # fmt: skip
    parser.add_argument("--dds_layout", choices=LAYOUTS,
                        help="of the DDS files, and of the decoder that --shader writes for them. packed: words of "
                        "several features; filterable: an 8-bit channel per feature, for the hardware's filter; "
                        "bgra4: the same for 4-bit features in half the memory "
                        "[default that of an export in --load_dir, else packed]")  # fmt: skip
    parser.add_argument("--transcode", nargs="?", const="dds,ktx2,png,glb", metavar="FORMATS",
                        help="write ordinary textures of the decoded maps to out_dir/transcoded: some of dds, ktx2, "
                        "png, glb [all of them]")  # fmt: skip
    parser.add_argument("--transcode_scalars", choices=("bc4", "orm_bc7", "orm_bc1"), default="bc4",
                        help="a BC4 texture for each scalar map, or occlusion, roughness and metallic in one of BC7 or "
                        "BC1 [default bc4]")  # fmt: skip
    parser.add_argument("--transcode_quality", choices=("fast", "normal", "slow"), default="normal",
                        help="effort of the BC7 encoder [default normal]")  # fmt: skip
    parser.add_argument("--max_pixels", type=int, default=MAX_PIXELS, metavar="INT",
                        help="largest material to decode, for --images and --transcode: width x height of LOD 0 "
                        f"[1 to {MOST_PIXELS}; pixels; default {MAX_PIXELS}]")  # fmt: skip
    parser.add_argument("--describe", metavar="DIR", help="print what the exported files in DIR, or of a run's "
                        "checkpoint, are, and check them; files of the ancestor project too")  # fmt: skip
    parser.add_argument("--assume", metavar="KEY=VALUE,...", help="what files without a manifest do not say, for "
                        "--images: size=WxH, sampling=sampler|vertex|aligned, "
                        "output=none|leaky_relu|hard_swish|hard_gelu, quantize_bits=N")  # fmt: skip
    parser.add_argument("--shader", default="", metavar="LANGUAGES",
                        help="decoders for shaders in out_dir, any of hlsl,glsl,essl,wgsl,metal")  # fmt: skip
    parser.add_argument("--weights", choices=("baked", "buffer"),
                        help="part of the shader, or in decoder_weights.bin [default baked]")  # fmt: skip
    parser.add_argument("--weight_type", choices=("float32", "float16"),
                        help="how the shader stores weights [default float32]")  # fmt: skip
    parser.add_argument("--viewer", metavar="PAGE", help="write one HTML file that shows the material, or all of a "
                        "batch folder, decoded live in a browser")  # fmt: skip
    parser.add_argument("--data_dir", metavar="DIR", help="source maps for --viewer to compare with; of a batch folder "
                        "the folder of their folders [default: those of the run]")  # fmt: skip
    parser.add_argument("--viewer_source", type=int, metavar="TEXELS",
                        help="longest side of the source maps in the page, 0: none [default: at most 512, less where "
                        "the page would grow past 700 kB and its materials]")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The export command; see --help. Returns the exit code."""
    arguments = build_parser().parse_args(argv)
    source = _source_folder(arguments)
    wanted = arguments.images or arguments.shader or arguments.transcode is not None or arguments.dds_layout
    if arguments.describe is not None and not wanted and arguments.viewer is None:
        return 0
    for flag in ("data_dir", "viewer_source"):
        if getattr(arguments, flag) is not None and arguments.viewer is None:
            raise UserError(f"--{flag}: expected --viewer beside it, the page that it is for")
    if (arguments.viewer_source or 0) < 0:
        raise UserError(f"--viewer_source: expected a number of texels, or 0 for none, got {arguments.viewer_source}")
    if arguments.viewer is not None and not wanted and arguments.out_dir is None:
        return _write_viewer(source, arguments)
    if arguments.out_dir is None:
        raise UserError("expected --out_dir, the folder that receives the files (see --help)")
    out_dir = Path(arguments.out_dir)
    check_value("--max_pixels", FIELDS["max_pixels"], arguments.max_pixels)
    if arguments.transcode is not None:  # refused before anything is written
        from transcode.textures import check_packages, parse_formats, summary, transcode

        formats = parse_formats(arguments.transcode)
        check_packages(formats)
    for flag in ("weights", "weight_type"):
        if getattr(arguments, flag) and not arguments.shader:
            raise UserError(f"--{flag}: expected --shader beside it, which says for what languages")
    if arguments.shader:
        from shaders.export import parse_languages, write_shaders

        languages = parse_languages(arguments.shader)
    if is_bare(source):
        return _decode_bare_files(source, out_dir, arguments)
    if arguments.assume is not None:
        raise UserError("--assume: expected only for files without a manifest; these say all of it")
    if (source / MANIFEST).is_file():
        if not wanted and arguments.viewer is None:
            raise UserError(
                f"--load_dir {source}: already an export; add --images, --transcode, --shader, --dds_layout or "
                "--viewer, or give a run folder"
            )
        exported = _in_layout(read_export(source), arguments.dds_layout, source, out_dir)
    else:
        exported = _export_checkpoint(source, arguments.load_iter, out_dir, arguments.dds_layout or LAYOUTS[0])
    if arguments.images or arguments.transcode is not None:
        _check_pixels(source, exported.manifest.material, arguments.max_pixels)
    if arguments.images:
        paths = save_images(out_dir / "images", exported)
        print(f"{len(paths)} images in {one_line(str(out_dir / 'images'))}")
    if arguments.transcode is not None:
        folder, material = out_dir / "transcoded", exported.manifest.material
        scalars, quality = arguments.transcode_scalars, arguments.transcode_quality
        paths = transcode(exported.model, material, folder, formats, scalars=scalars, quality=quality)
        print(f"{len(paths)} files in {one_line(str(folder))}")
        print("\n".join(summary(paths, material, formats, scalars)))
    if arguments.shader:
        storage = arguments.weights or "baked", arguments.weight_type or "float32", exported.manifest.layout
        for path in write_shaders(out_dir, exported.model, exported.manifest.material, languages, *storage):
            print(f"{one_line(str(path))}  {path.stat().st_size} bytes")
    return 0 if arguments.viewer is None else _write_viewer(source, arguments)


def _write_viewer(source: Path, arguments: argparse.Namespace) -> int:
    from viewer.page import write_viewer

    data_dir = None if arguments.data_dir is None else Path(arguments.data_dir)
    return write_viewer(Path(arguments.viewer), source, arguments.load_iter, data_dir, arguments.viewer_source)


def _check_pixels(source: Path, material: MaterialRecord, max_pixels: int) -> None:
    """Refuse to decode what a few bytes in a manifest claim to be gigabytes of images."""
    width, height = material.width, material.height
    if width * height > max_pixels:
        raise UserError(
            f"{source}: expected at most {max_pixels} texels to decode, found {width}x{height} = {width * height}; "
            "raise --max_pixels if that is right"
        )


def _export_checkpoint(run: Path, iteration: int, out_dir: Path, layout: str) -> ExportedTexture:
    """Write the files of a run's checkpoint to `out_dir`, and read them back."""
    from training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(run, iteration)
    if not checkpoint.model.quantized:
        raise UserError(
            f"{checkpoint.path}: trained with --quantize False, which has no codes to export; "
            "train with --quantize True"
        )
    return _write_and_read(out_dir, checkpoint.model, checkpoint.material, checkpoint.metrics, layout)


def _in_layout(exported: ExportedTexture, layout: str | None, source: Path, out_dir: Path) -> ExportedTexture:
    """The export itself, or where a layout is asked for, one with it written to `out_dir` and read back."""
    manifest = exported.manifest
    found, in_place = manifest.layout, out_dir.resolve() == source.resolve()
    if layout is None or (layout == found and in_place):
        return exported
    if in_place:
        raise UserError(
            f"--out_dir {out_dir}: expected another folder than --load_dir, whose files have the layout {found}; "
            f"those of {layout} would stand beside them"
        )
    return _write_and_read(out_dir, exported.model, manifest.material, manifest.metrics, layout)


def _write_and_read(
    out_dir: Path, model: NeuralTexture, material: MaterialRecord, metrics: Any, layout: str
) -> ExportedTexture:
    check_layout(model.grids, layout)  # before a folder is made
    with staged_folder(out_dir) as stage:
        write_export(stage, model, material, metrics, layout)
    exported = read_export(out_dir)
    for name, entry in exported.manifest.files.items():
        print(f"{one_line(str(out_dir / name))}  {entry.bytes} bytes")
    return exported


def _source_folder(arguments: argparse.Namespace) -> Path:
    """The run or export that the flags name; one of --describe is described."""
    if arguments.describe is None:
        if arguments.load_dir is None:
            raise UserError("expected --load_dir or --describe (see --help)")
        return Path(arguments.load_dir)
    if arguments.load_dir is not None:
        raise UserError("--describe: expected without --load_dir; it names the folder itself")
    return _describe(Path(arguments.describe), arguments.load_iter)


def _decode_bare_files(folder: Path, out_dir: Path, arguments: argparse.Namespace) -> int:
    """The command on files without a manifest: images, and what had to be assumed for them."""
    if not arguments.images or arguments.shader or arguments.transcode is not None or arguments.dds_layout:
        raise UserError(f"{folder}: expected {MANIFEST}, without which --images alone can be had, found none")
    bare = read_bare_files(folder, parse_assumptions(arguments.assume or ""), arguments.max_pixels)
    print("assumed, since the files do not say (--assume changes it):")
    print("\n".join(f"  {one_line(line)}" for line in bare.assumed))
    paths, notes = save_bare_images(out_dir / "images", bare)
    print("\n".join([f"{len(paths)} images in {out_dir / 'images'}", *notes]))
    return 0


def _describe(folder: Path, iteration: int) -> Path:
    """Print what an export, or the one that a run's checkpoint holds, is; return its folder."""
    from describe.folder import describe_folder
    from training.run_folder import find_checkpoint

    if (folder / "models").is_dir() and not (folder / MANIFEST).is_file():
        folder = find_checkpoint(folder, iteration)
    description = describe_folder(folder)
    print("\n".join(one_line(line) for line in description.lines))
    if description.problems:
        raise UserError(f"{folder}: {'; '.join(description.problems)}")
    return folder


if __name__ == "__main__":
    sys.exit(run_command(main))
