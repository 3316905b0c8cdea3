"""A trained NeuralTexture as files for an engine: DDS feature textures and network, and what is made of them.

    python export.py --load_dir outputs/<run> [--load_iter N] --out_dir DIR [--images]
    python export.py --load_dir outputs/<run> --out_dir DIR --transcode [FORMATS]
    python export.py --load_dir outputs/<run> --out_dir DIR [--dds_layout LAYOUT] [--latents_format ktx2|rgba8|astc]
    python export.py --load_dir outputs/<run> --out_dir DIR --shader hlsl,wgsl
    python export.py --load_dir outputs/<run> --viewer page.html
    python export.py [--load_dir outputs/<model>] --gltf model.ntx.glb
    python export.py --load_dir outputs/<run> --tsnc DIR
    python export.py --describe DIR [--images --out_dir DIR]

File formats: design.md, section 6.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and getattr(sys.flags, "safe_path", False):  # PYTHONSAFEPATH leaves the script's folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common.before_torch  # isort: skip  # noqa: F401  # before torch

from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError, run_command
from formats.manifest import MANIFEST
from formats.options import SLANG, ExportOptions, parse_export_options, parse_formats, parse_languages
from training.run_folder import MODELS, find_checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_export_options(argv)
    source = Path(options.load_dir or options.describe)
    data_dir = Path(options.data_dir) if options.data_dir else None
    if options.describe:
        from describe.folder import print_description

        if (source / MODELS).is_dir() and not (source / MANIFEST).is_file():
            source = find_checkpoint(source, options.load_iter)
        print_description(source)
    if options.tsnc:
        found = source if (source / MANIFEST).is_file() else find_checkpoint(source, options.load_iter)
        from formats.textures import read_export
        from formats.tsnc import save_tsnc

        save_tsnc(Path(options.tsnc), read_export(found))
    others = options.viewer or options.tsnc or options.gltf
    if options.made_of_files or (options.out_dir if others else not options.describe):
        write_files(source, options)
    code = 0
    if options.gltf:
        from training.gltf import Wanted, write_model

        wanted = Wanted(options.dds_layout, options.fallback, options.fallback_lod, options.max_pixels)
        load_dir = Path(options.load_dir) if options.load_dir else None
        code = write_model(Path(options.gltf), load_dir, options.load_iter, data_dir, wanted)
    if not options.viewer:
        return code
    from viewer.page import write_viewer

    page = write_viewer(Path(options.viewer), source, options.load_iter, data_dir, options.viewer_source,
                        options.max_pixels)  # fmt: skip
    return max(code, page)


def write_files(source: Path, options: ExportOptions) -> None:
    """Fill --out_dir: the exported files of a run, and what the flags ask for of these or of an export."""
    if not options.out_dir:
        raise UserError("expected --out_dir, the folder that receives the files (see --help)")
    out_dir = Path(options.out_dir)
    formats = parse_formats(options.transcode) if "transcode" in options.chosen else ()
    languages = parse_languages(options.shader, options.on_load) if options.shader else []
    if not source.is_dir():
        find_checkpoint(source, options.load_iter)  # says so, before PyTorch is imported
    from describe.bare_files import decode_bare_files, is_bare
    from formats.export import change_layout, check_size, save_astc, save_images, save_ktx1, save_ktx2, save_rgba8
    from shaders.export import export_shaders
    from shaders.on_load import export_on_load
    from shaders.slang import export_slang
    from training.checkpoint import export_checkpoint
    from transcode.textures import check_packages, export_transcoded

    # what can be refused without the model is, before the first file is written
    check_packages(formats, options.transcode_device, options.transcode_scalars)
    if is_bare(source):
        others = formats or languages or options.dds_layout or options.latents_format != "dds"
        if not options.images or others:
            raise UserError(f"{source}: expected {MANIFEST}, without which --images alone can be had, found none")
        decode_bare_files(source, out_dir / "images", options.assume, options.max_pixels)
        return
    if options.assume:
        raise UserError("--assume: expected only for files without a manifest; these say all of it")
    if not (source / MANIFEST).is_file():
        exported = export_checkpoint(source, options.load_iter, out_dir, options.dds_layout or "packed")
    elif options.made_of_files or options.viewer or options.tsnc:
        exported = change_layout(source, options.dds_layout, out_dir)
    else:
        raise UserError(
            f"--load_dir {source}: already an export; add --images, --transcode, --shader, --dds_layout, "
            "--latents_format, --tsnc or --viewer, or give a run folder"
        )
    if options.latents_format != "dds":
        others = {"ktx2": save_ktx2, "ktx": save_ktx1, "rgba8": save_rgba8, "astc": save_astc}
        others[options.latents_format](out_dir, exported)
    if options.images or formats:
        check_size(source, exported.manifest.material, options.max_pixels)
    if options.images:
        save_images(out_dir / "images", exported)
    if formats:
        export_transcoded(out_dir / "transcoded", exported, formats, options.transcode_scalars,
                          options.transcode_quality, options.transcode_device)  # fmt: skip
    storage = options.weights, options.weight_type, options.shader_precision
    if SLANG in languages:
        export_slang(out_dir, exported, *storage)
        languages.remove(SLANG)
    if languages:
        export_shaders(out_dir, exported, languages, *storage)
    if options.on_load:
        export_on_load(out_dir, exported, languages, *storage)


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="export a smaller material, or end other programs"))
