"""Reads renders and maps from disk as tensors.

input/{clean,dirty}/sample_*/{0,1,2}.png      three views of a sample
input/render_metadata.json                    {"sample_0000": "material folder"}
output/<material>/{albedo,roughness,metallic,normal}.png
"""

from __future__ import annotations

import math
import os
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from common.errors import UserError, brief, counted, quote, what_is_wrong
from common.files import parse_json
from neuropbr.train_config import as_size
from neuropbr.utils.maps import MAPS, VIEWS, read_map, read_rgb, stack_targets
from neuropbr.utils.rendered_set import METADATA, SPLIT

SOURCES = {0: ("clean",), 1: ("clean", "dirty"), 2: ("dirty",)}  # render curriculum -> folders
SPLITS = (None, "train", "val")


class MissingData(UserError, FileNotFoundError):
    """A folder or file of the dataset that is not there."""

    __str__ = Exception.__str__


class UnmappedSample(UserError, KeyError):
    """A sample folder that render_metadata.json does not name."""

    __str__ = Exception.__str__


class Sample(NamedTuple):
    source: str  # clean or dirty
    name: str  # sample_0000
    material: str


class Augmentation(NamedTuple):
    """Allowed changes of views and maps: half of the samples get each flip, a quarter each rotation."""

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation: bool = False  # by multiples of 90 degrees, 180 where an image is not square


class PBRDataset(Dataset):
    """Samples as (inputs, targets).

    inputs: (3, 3, H, W) float32, the views, (value - mean) / std at `image_size`. targets: (4, 3, h, w) float32 at
    `output_size`: albedo, roughness, metallic (in [0, 1], one channel repeated), normal (unit vectors).

    Args:
        metadata_path: None: `input_dir`/render_metadata.json.
        image_size, output_size: one side or (height, width) in pixels; output_size None: as image_size.
        use_dirty: with curriculum 0 the same as curriculum 2.
        curriculum_mode: 0 clean renders, 1 clean and dirty ones, 2 dirty ones.
        split: "train" or "val" (no material is in both), or None for all samples. They are in the order of the folders'
            names, clean before dirty.
        val_ratio: share of the materials in "val"; of two or more at least one, unless the share is 0. Where
            `input_dir`/split.json exists, that says which.
        seed: for the split and for augmentation.
    Raises: MissingData (a FileNotFoundError), UnmappedSample (a KeyError), UserError.

    Indices are positions, or (epoch, position), which with the seed determine the augmentation.
    """

    def __init__(
        self,
        input_dir: str | os.PathLike,
        output_dir: str | os.PathLike,
        metadata_path: str | os.PathLike | None = None,
        transform_mean: Sequence[float] = (0.5, 0.5, 0.5),
        transform_std: Sequence[float] = (0.5, 0.5, 0.5),
        image_size: int | Sequence[int] = (2048, 2048),
        output_size: int | Sequence[int] | None = None,
        use_dirty: bool = False,
        curriculum_mode: int = 0,
        split: str | None = None,
        val_ratio: float = 0.1,
        seed: int = 42,
        augmentation: Augmentation | None = None,
    ):
        if curriculum_mode not in SOURCES:
            raise UserError(f"curriculum_mode: expected 0, 1 or 2, found {brief(curriculum_mode)}")
        if split not in SPLITS:
            raise UserError(f"split: expected 'train', 'val' or None, found {brief(split)}")
        self.input_dir, self.output_dir = Path(input_dir), Path(output_dir)
        self.metadata_path = Path(metadata_path) if metadata_path else self.input_dir / METADATA
        self.mean, self.std = (torch.tensor(list(v)).reshape(3, 1, 1) for v in (transform_mean, transform_std))
        self.image_size = as_size(image_size)
        self.output_size = self.image_size if output_size is None else as_size(output_size)
        self.curriculum_mode = 2 if use_dirty and curriculum_mode == 0 else curriculum_mode
        self.seed, self.augmentation = seed, augmentation
        everything = self._find_samples()
        self.samples = choose_split(everything, split, val_ratio, seed, self._read_split())

    # --- finding samples -------------------------------------------------------------------------------------------

    def _read_metadata(self) -> dict[str, str]:
        path = self.metadata_path
        try:
            entries = parse_json(path.read_bytes())
        except FileNotFoundError as error:
            raise MissingData(
                f"{quote(path)}: expected {METADATA}, which maps sample folders to materials, found no such file; "
                "create it, or make a set with make_renders.py"
            ) from error
        except (ValueError, OSError) as error:
            raise UserError(f"{quote(path)}: expected JSON, found {brief(str(error))}; write it again") from error
        if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
            raise UserError(f'{quote(path)}: expected {{"sample_0000": "material"}}, found {brief(entries)}')
        for sample, material in entries.items():
            if not material or Path(material).is_absolute() or ".." in Path(material).parts:
                raise UserError(f"{quote(path)}: {brief(sample)}: expected a folder's name, found {brief(material)}")
        return entries

    def _read_split(self) -> set[str] | None:
        """The materials that split.json of make_renders.py holds out; None without that file."""
        path = self.input_dir / SPLIT
        try:
            names = parse_json(path.read_bytes())["val"]
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                return set(names)
            found = names
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, OSError) as error:
            found = what_is_wrong(error)
        raise UserError(f'{quote(path)}: expected {{"val": ["material", ...]}}, found {brief(found)}; '
                        "write it again, or remove it")  # fmt: skip

    def _find_samples(self) -> list[Sample]:
        metadata, sources = self._read_metadata(), SOURCES[self.curriculum_mode]
        folders = [self.input_dir / source for source in sources]
        there = [folder for folder in folders if folder.is_dir()]
        if not there:
            raise MissingData(
                f"{quote(folders[0])}: expected a folder of renders for curriculum {self.curriculum_mode}, found none; "
                "check --input-dir, or choose another --render-curriculum"
            )
        found = [(path.name, folder.name) for folder in there for path in folder.glob("sample_*") if path.is_dir()]
        samples, incomplete = [], []
        for name, source in sorted(found):
            if name not in metadata:
                raise UnmappedSample(
                    f"{quote(self.metadata_path)}: expected an entry for {name}, found none; "
                    "ensure that it lists every sample_* folder"
                )
            sample = Sample(source, name, metadata[name])
            missing = [path for path in (*self.views(sample), *self.maps(sample).values()) if not path.is_file()]
            if missing:
                incomplete.append(missing[0])
            else:
                samples.append(sample)
        if incomplete:
            what = f"{counted(len(incomplete), 'sample')} of {len(found)} left out, the first for want of"
            warnings.warn(f"{what} {quote(incomplete[0])}", stacklevel=3)
        if not samples:
            where = " or ".join(quote(folder) for folder in there)
            why = f"{counted(len(found), 'folder')} sample_*"
            why += f", each without a file such as {quote(incomplete[0])}" if incomplete else ""
            raise UserError(
                f"No samples found: expected sample_*/{{0,1,2}}.png in {where} and "
                f"{'.png, '.join(MAPS)}.png of their materials in {quote(self.output_dir)}, found {why}"
            )
        return samples

    def views(self, sample: Sample) -> list[Path]:
        return [self.input_dir / sample.source / sample.name / f"{view}.png" for view in range(VIEWS)]

    def maps(self, sample: Sample) -> dict[str, Path]:
        return {name: self.output_dir / sample.material / f"{name}.png" for name in MAPS}

    # --- tensors ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.samples)

    def normalize(self, view: torch.Tensor) -> torch.Tensor:
        """(3, H, W) in [0, 1] -> the network's input."""
        return (view - self.mean) / self.std

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, index = index if isinstance(index, tuple) else (0, index)
        sample = self.samples[index]
        inputs = torch.stack([self.normalize(read_rgb(path, self.image_size)) for path in self.views(sample)])
        maps = {name: read_map(path, name, self.output_size) for name, path in self.maps(sample).items()}
        targets = stack_targets(maps)
        if self.augmentation is not None:
            inputs, targets = self._augmented(inputs, targets, random.Random(f"{self.seed} {epoch} {index}"))
        return inputs, targets

    def _augmented(self, inputs: torch.Tensor, targets: torch.Tensor, dice: random.Random) -> tuple:
        square = inputs.shape[-2] == inputs.shape[-1] and targets.shape[-2] == targets.shape[-1]
        across, down, turns = dice.random() < 0.5, dice.random() < 0.5, dice.randrange(4)
        choice = (
            across and self.augmentation.horizontal_flip,
            down and self.augmentation.vertical_flip,
            (turns if square else turns // 2 * 2) if self.augmentation.rotation else 0,
        )
        return turned(inputs, *choice), turned_targets(targets, *choice)


def choose_split(samples: Sequence[Sample], split: str | None, val_ratio: float, seed: int,
                 held_out: set[str] | None = None) -> list[Sample]:  # fmt: skip
    """The samples of "train" or "val", see PBRDataset. All renders of a material are on one side.

    Args:
        held_out: the materials of "val", where a file says so; `val_ratio` 0 still holds out none.
    """
    if split is None:
        return list(samples)
    materials = sorted({sample.material for sample in samples})
    if held_out is None:
        random.Random(seed).shuffle(materials)
        count = max(1, math.floor(len(materials) * val_ratio)) if len(materials) > 1 else 0
        held_out = set(materials[:count])
    if val_ratio == 0:
        held_out = set()
    return [sample for sample in samples if (sample.material in held_out) == (split == "val")]


def turned(images: torch.Tensor, across: bool, down: bool, turns: int) -> torch.Tensor:
    """(..., H, W) mirrored left to right, then top to bottom, then turned counter-clockwise by turns * 90 degrees."""
    images = images.flip(-1) if across else images
    images = images.flip(-2) if down else images
    return torch.rot90(images, turns, (-2, -1))


def turned_targets(targets: torch.Tensor, across: bool, down: bool, turns: int) -> torch.Tensor:
    """`turned` for (4, 3, H, W) targets: the normals' vectors are mirrored and turned as well."""
    targets = turned(targets, across, down, turns).clone()
    normal = targets[list(MAPS).index("normal")]
    normal[0] *= -1 if across else 1
    normal[1] *= -1 if down else 1
    for _ in range(turns):  # y is up: a quarter turn counter-clockwise takes (x, y) to (-y, x)
        normal[:2] = torch.stack([-normal[1], normal[0]])
    return targets
