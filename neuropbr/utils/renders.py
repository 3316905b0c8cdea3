"""The samples of make_renders.py: a material cut into pieces, and each photographed in a random scene."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as PillowImage
from torchvision.transforms.v2 import functional as image_ops

from common.cores import usable_cores
from common.errors import UserError
from common.files import make_folder
from dataset import Material, load_material
from maps.mips import linear_to_srgb, srgb_to_linear
from maps.ranges import has_units, to_units
from neuropbr.utils.ggx import Camera, Light, render
from neuropbr.utils.maps import VIEWS, pixels_of, unit, write_maps, write_picture
from neuropbr.utils.material_folders import MaterialFolder

CORE_NAMES = {"albedo": "diffuse", "roughness": "roughness", "metallic": "metallic", "normal": "normal"}


def material_maps(material: Material) -> dict[str, torch.Tensor]:
    """The maps of a material as in utils.maps, and its occlusion if it has one: name -> (C, H, W)."""
    wanted = {**CORE_NAMES, "occlusion": "occlusion"}
    maps = {}
    for name, core_name in wanted.items():
        if core_name in material.present:
            codes = material.file_codes(0, core_name)
            values = torch.from_numpy(codes.astype(np.float32) / np.iinfo(codes.dtype).max).permute(2, 0, 1)
            span = material.value_range[core_name]
            if has_units(core_name, span):  # a float file, whose own numbers count
                values = to_units(values, span, material.log_scale.get(core_name)).clamp(0, 1)
            if name == "albedo" and material.color_space[core_name] == "linear":
                values = linear_to_srgb(values)
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


class Job(NamedTuple):
    """A material to be made: its maps, pieces and samples."""

    found: MaterialFolder
    label: str
    crops: int
    size: int
    numbers: list[int]  # of its samples
    seed: int
    sources: tuple[str, ...]  # clean, and dirty
    input_dir: Path
    output_dir: Path


def use_threads(processes: int) -> None:
    """Give this process its share of the cores."""
    torch.set_num_threads(max(1, usable_cores() // processes))


def make_material(job: Job) -> dict[str, str] | UserError:
    """Write the maps and samples of a material: sample -> the folder of its maps, or what is wrong with its files."""
    try:
        maps = material_maps(load_material(job.found.path, by_hand=job.found.by_hand))
        pieces = list(cut(maps, job.crops, job.size))
    except UserError as error:
        return error
    made, numbers = {}, iter(job.numbers)
    for part, piece in enumerate(pieces):
        name = job.label if job.crops == 1 else f"{job.label}_{part:02d}"
        write_maps(job.output_dir / name, piece)
        for _ in range(len(job.numbers) // len(pieces)):
            number = next(numbers)
            sample = f"sample_{number:04d}"
            where = {source: job.input_dir / source / sample for source in job.sources}
            write_sample(piece, where, (job.seed, number))
            made[sample] = name
    return made


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
