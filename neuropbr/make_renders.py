"""Render three views of PBR materials as a training set for train.py.

    python make_renders.py --data-dir ../data --crops 2 --size 256       the tiny set of this repository
    python make_renders.py --data-dir my_materials --samples 8

Every folder below --data-dir that holds albedo, roughness and normal maps is a material (file names as for the
compressor; a missing metallic map is 0, a missing occlusion map 1).
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import argparse
import shutil
from collections.abc import Sequence

from common.errors import UserError, counted, quote, run_command
from common.events import progress_bar
from common.files import parse_json, write_json
from common.knobs import HomeParser
from maps.folder import find_maps
from maps.images import IMAGE_SUFFIXES

NEEDED = ("diffuse", "roughness", "normal")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="../data", help="a material's folder, or a folder of such folders")
    parser.add_argument("--input-dir", default="./data/input", help="receives the renders")
    parser.add_argument("--output-dir", default="./data/output", help="receives the maps")
    parser.add_argument("--size", type=int, default=0, help="side of renders and maps, pixels; 0: the crop's own")
    parser.add_argument("--crops", type=int, default=1, help="cut each material into N x N materials")
    parser.add_argument("--samples", type=int, default=1, help="samples per material, each in another light")
    parser.add_argument("--no-dirty", action="store_true", help="clean renders only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing set")
    options = parser.parse_args(argv)
    for name, least, most in (("size", 0, 8192), ("crops", 1, 16), ("samples", 1, 10000), ("seed", 0, 2**31)):
        if not least <= getattr(options, name) <= most:
            raise UserError(f"--{name}: expected {least} to {most}, found {getattr(options, name)}")
    return options


# --- materials -----------------------------------------------------------------------------------------------------


def find_materials(folder: Path) -> list[Path]:
    """Folders with the NEEDED maps: `folder` itself, else all below it. Raises: UserError when there is none."""
    if not folder.is_dir():
        raise UserError(f"{quote(folder)}: expected a folder of PBR materials, found none; check --data-dir")
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    complete, problems = [], []
    for path in folders:
        if not any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in path.iterdir() if entry.is_file()):
            continue
        try:
            missing = [name for name in NEEDED if name not in find_maps(path).sources]
        except UserError as error:
            problems.append(str(error))
            continue
        if missing:
            problems.append(f"{quote(path)}: no {', '.join(missing)} map")
        else:
            complete.append(path)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not complete:
        raise UserError(f"{quote(folder)}: expected folders with albedo, roughness and normal maps, found none")
    return complete


def clear_set(input_dir: Path, overwrite: bool) -> None:
    """Remove the renders that an earlier set's metadata lists. Raises: UserError without `overwrite`."""
    from neuropbr.utils.dataset import METADATA

    path = input_dir / METADATA
    if not path.exists():
        return
    if not overwrite:
        raise UserError(
            f"{quote(path)}: there is a set already; give another --input-dir, or --overwrite to replace it"
        )
    try:
        names = list(parse_json(path.read_bytes()))
    except (ValueError, TypeError):
        names = []
    for name in names:
        if name.startswith("sample_") and name == Path(name).name:
            for source in ("clean", "dirty"):
                shutil.rmtree(input_dir / source / name, ignore_errors=True)
    path.unlink()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    folders = find_materials(Path(options.data_dir))
    from dataset import load_material
    from neuropbr.utils.dataset import METADATA
    from neuropbr.utils.maps import write_maps
    from neuropbr.utils.renders import cut, material_maps, write_sample

    input_dir, output_dir = Path(options.input_dir), Path(options.output_dir)
    clear_set(input_dir, options.overwrite)
    metadata: dict[str, str] = {}
    sources = ["clean"] if options.no_dirty else ["clean", "dirty"]
    root = Path(options.data_dir)
    with progress_bar(len(folders) * options.crops**2 * options.samples, 0) as bar:
        bar.set_description("rendering")
        for folder in folders:
            label = "_".join(folder.relative_to(root).parts) or folder.resolve().name
            maps = material_maps(load_material(folder))
            for part, piece in enumerate(cut(maps, options.crops, options.size)):
                name = label if options.crops == 1 else f"{label}_{part:02d}"
                write_maps(output_dir / name, piece)
                for _ in range(options.samples):
                    sample = f"sample_{len(metadata):04d}"
                    where = {source: input_dir / source / sample for source in sources}
                    write_sample(piece, where, (options.seed, len(metadata)))
                    metadata[sample] = name
                    bar.update()
    write_json(input_dir / METADATA, metadata)  # last: a set without it is incomplete
    print(f"{counted(len(metadata), 'sample')} of {counted(len(set(metadata.values())), 'material')}, "
          f"{' and '.join(sources)}: {quote(input_dir)}, {quote(output_dir)}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
