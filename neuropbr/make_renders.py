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
import io
import math
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image as PillowImage
from torchvision.transforms.v2 import functional as image_ops

from common.errors import UserError, counted, quote, run_command
from common.events import progress_bar
from common.files import make_folder, parse_json, write_json
from common.knobs import HomeParser
from dataset import Material, load_material
from maps.folder import find_maps
from maps.images import IMAGE_SUFFIXES
from maps.mips import linear_to_srgb, srgb_to_linear
from neuropbr.utils.dataset import METADATA
from neuropbr.utils.ggx import Camera, Light, render
from neuropbr.utils.maps import VIEWS, pixels_of, unit, write_maps, write_picture

CORE_NAMES = {"albedo": "diffuse", "roughness": "roughness", "metallic": "metallic", "normal": "normal"}
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


def material_maps(material: Material) -> dict[str, torch.Tensor]:
    """The maps of a material as in utils.maps, and its occlusion if it has one: name -> (C, H, W)."""
    wanted = {**CORE_NAMES, "occlusion": "occlusion"}
    maps = {}
    for name, core_name in wanted.items():
        if core_name in material.present:
            codes = material.file_codes(0, core_name)
            values = torch.from_numpy(codes.astype(np.float32) / np.iinfo(codes.dtype).max).permute(2, 0, 1)
            maps[name] = values.contiguous()
    maps["normal"] = unit(2 * maps["normal"] - 1, 0)
    if material.normal_convention == "dx":
        maps["normal"][1] *= -1
    maps.setdefault("metallic", torch.zeros_like(maps["roughness"]))
    return maps


def cut(maps: dict[str, torch.Tensor], crops: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Cut the maps into crops x crops squares, each resized to side `size` (0: not resized)."""
    height, width = maps["normal"].shape[-2:]
    side = min(height, width) // crops
    if side < 1:
        raise UserError(f"--crops: expected at most {min(height, width)} for {width}x{height}, found {crops}")
    for row in range(crops):
        for column in range(crops):
            top, left = row * height // crops, column * width // crops
            part = {name: values[:, top : top + side, left : left + side] for name, values in maps.items()}
            if size:
                part = {name: image_ops.resize(values, [size, size], antialias=True) for name, values in part.items()}
            part["normal"] = unit(part["normal"], 0)
            yield {name: values.contiguous() for name, values in part.items()}


# --- views ---------------------------------------------------------------------------------------------------------


def random_scene(dice: np.random.Generator, view: int) -> tuple[Camera, Light]:
    """A random camera and lamp. View 0 looks straight down, the others 8 to 20 degrees off, about 120 degrees apart."""
    tilt = 0.0 if view == 0 else math.radians(dice.uniform(8, 20))
    camera = Camera(tilt, 2 * math.pi * view / VIEWS + dice.uniform(-0.5, 0.5))
    azimuth, elevation, distance = (
        dice.uniform(0, 2 * math.pi),
        math.radians(dice.uniform(35, 70)),
        dice.uniform(1.2, 2),
    )
    flat = distance * math.cos(elevation)
    lamp = (flat * math.cos(azimuth), flat * math.sin(azimuth), distance * math.sin(elevation))
    return camera, Light(lamp, power=dice.uniform(0.7, 1.1) * distance**2 / math.sin(elevation))


def photograph(radiance: torch.Tensor) -> torch.Tensor:
    """Linear radiance as a camera stores it: clipped and sRGB-encoded, (3, H, W) in [0, 1]."""
    return linear_to_srgb(radiance.clamp(0, 1))


def dirtied(radiance: torch.Tensor, dice: np.random.Generator) -> torch.Tensor:
    """A bad photograph: wrong exposure and white balance, vignette, blur, noise, JPEG."""
    side = radiance.shape[-1]
    gain = 2 ** dice.uniform(-0.6, 0.5) * torch.tensor(dice.uniform(0.88, 1.12, 3), dtype=torch.float32)
    away = torch.linspace(-1, 1, side) ** 2
    vignette = 1 - dice.uniform(0.1, 0.35) * (away[:, None] + away[None]) / 2
    image = radiance.clamp(0, 1) * gain[:, None, None] * vignette
    width = max(3, 2 * (side // 128) + 1)
    image = image_ops.gaussian_blur(image, [width, width], [dice.uniform(0.4, 1.2) * max(1, side / 512)] * 2)
    noise = torch.from_numpy(dice.standard_normal((3, side, side)).astype(np.float32))
    image = photograph(image + noise * (0.004 + 0.03 * dice.uniform() * image.clamp_min(0).sqrt()))
    stream = io.BytesIO()
    PillowImage.fromarray(pixels_of(image)).save(stream, "JPEG", quality=int(dice.integers(55, 90)))
    decoded = np.asarray(PillowImage.open(stream), np.float32) / 255
    return torch.from_numpy(decoded).permute(2, 0, 1)


def write_sample(maps: dict[str, torch.Tensor], folders: dict[str, Path], seed: Sequence[int]) -> None:
    """Write three views into each of `folders` ("clean", "dirty"), with the same cameras and lamps."""
    linear = {**maps, "albedo": srgb_to_linear(maps["albedo"])}
    for folder in folders.values():
        make_folder(folder)
    for view in range(VIEWS):
        dice = np.random.default_rng([*seed, view])
        camera, light = random_scene(dice, view)
        radiance = render(linear, camera, light, maps["normal"].shape[-1])
        write_picture(folders["clean"] / f"{view}.png", photograph(radiance))
        if "dirty" in folders:
            write_picture(folders["dirty"] / f"{view}.png", dirtied(radiance, dice))


def clear_set(input_dir: Path, overwrite: bool) -> None:
    """Remove the renders that an earlier set's metadata lists. Raises: UserError without `overwrite`."""
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
