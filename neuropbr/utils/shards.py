"""Shards: a teacher's predictions on disk, and the dataset that pairs them with their renders and maps.

    shard_00000.pt   {"indices", "names", "sources", "teacher_outputs": {map: (n, C, h, w) float16}}
    shards.json      fingerprint of the dataset, numbers of shards and samples, hash of the teacher

`names` are like "clean/sample_0000"; `sources` are hashes of the samples' files, so that a prediction is never paired
with another sample. shards.json is written last: a set without it is incomplete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from common.errors import UserError, brief, quote
from common.files import parse_json, sha256_of, write_json
from neuropbr.utils.checkpoints import load_checkpoint
from neuropbr.utils.dataset import PBRDataset, Sample
from neuropbr.utils.maps import MAPS

INDEX = "shards.json"
SHARD = "shard_{:05d}.pt"
FIELDS = ("indices", "names", "sources", "teacher_outputs")


def sample_name(sample: Sample) -> str:
    return f"{sample.source}/{sample.name}"


def sample_hash(dataset: PBRDataset, sample: Sample) -> str:
    """A hash of the sample's three renders and the name of its material."""
    digest = hashlib.sha256(sample.material.encode())
    for path in dataset.views(sample):
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()


def fingerprint(dataset: PBRDataset, seed: int) -> dict[str, Any]:
    """Identifies the dataset of a set of shards by its curriculum, seed and list of samples."""
    listing = "\n".join(f"{sample_name(sample)} {sample.material}" for sample in dataset.samples)
    return {
        "render_curriculum": dataset.curriculum_mode,
        "seed": seed,
        "samples": len(dataset),
        "listing": hashlib.sha256(listing.encode()).hexdigest(),
    }


def write_index(folder: Path, dataset: PBRDataset, seed: int, shards: int, size: tuple[int, int], teacher: str) -> None:
    """Write shards.json, after the shards. teacher: hash of its checkpoint."""
    write_json(folder / INDEX, {
        **fingerprint(dataset, seed), "shards": shards, "output_size": list(size), "teacher": teacher,
    })  # fmt: skip


def read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        values = parse_json(path.read_bytes())
        if not isinstance(values, dict) or not isinstance(values["shards"], int):
            raise ValueError("no number of shards")
    except FileNotFoundError as error:
        raise UserError(
            f"{quote(path)}: expected the list of a teacher's shards, found none; run teacher_infer.py to its end"
        ) from error
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"{quote(path)}: expected what teacher_infer.py writes, found {brief(str(error))}") from error
    return values


def read_shard(path: Path) -> dict[str, Any]:
    """Read one shard. Raises: UserError for a damaged file or another one."""
    shard = load_checkpoint(path)
    outputs = shard.get("teacher_outputs")
    if any(field not in shard for field in FIELDS) or not isinstance(outputs, dict) or set(outputs) != set(MAPS):
        raise UserError(f"{quote(path)}: expected a shard with {', '.join(FIELDS)}, found {brief(sorted(shard))}")
    lengths = {len(shard[field]) for field in FIELDS[:3]} | {len(values) for values in outputs.values()}
    if len(lengths) != 1:
        raise UserError(f"{quote(path)}: expected as many predictions as names, found {sorted(lengths)}; make it again")
    return shard


class DistillationShardDataset(Dataset):
    """(inputs, targets, teacher) of a PBRDataset's samples; teacher: name -> (C, h, w) float32.

    Args:
        dataset: samples of one split.
        whole: the same dataset with split None, from which the shards were made.
        seed: of the configuration; that of the shards must be equal.
    Raises: UserError if the shards are of another dataset or of other files, or if one is missing or damaged.
    """

    def __init__(self, dataset: PBRDataset, whole: PBRDataset, folder: Path, seed: int):
        self.dataset, self.mean, self.std = dataset, dataset.mean, dataset.std
        self.samples = dataset.samples
        index = read_index(folder)
        for key, wanted in fingerprint(whole, seed).items():
            if index.get(key) != wanted:
                raise UserError(
                    f"{quote(folder / INDEX)}: expected shards of {key} {brief(wanted)}, found {brief(index.get(key))};"
                    " use the options and files of teacher_infer.py, or run it again"
                )
        by_name = {sample_name(sample): sample for sample in whole.samples}
        places: dict[str, tuple[Path, int]] = {}
        for number in range(index["shards"]):
            path = folder / SHARD.format(number)
            shard = read_shard(path)
            for position, (name, source) in enumerate(zip(shard["names"], shard["sources"])):
                if name not in by_name or source != sample_hash(whole, by_name[name]):
                    raise UserError(
                        f"{quote(path)}: {brief(name)} was predicted from other renders; run teacher_infer.py again"
                    )
                places[name] = (path, position)
        missing = [name for name in by_name if name not in places]
        if missing:
            raise UserError(
                f"{quote(folder)}: expected a prediction of {missing[0]}, found none; run teacher_infer.py again"
            )
        self.places = [places[sample_name(sample)] for sample in self.samples]
        order = {path: i for i, path in enumerate(sorted({path for path, _ in self.places}))}
        self.groups = [order[path] for path, _ in self.places]  # for EpochBatches: samples of a shard follow each other
        self._open: tuple[Path, Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        path, position = self.places[index[1] if isinstance(index, tuple) else index]
        if self._open is None or self._open[0] != path:
            self._open = path, read_shard(path)
        outputs = self._open[1]["teacher_outputs"]
        return *self.dataset[index], {name: outputs[name][position].float() for name in MAPS}


def cut_into_shards(count: int, size: int) -> Iterator[range]:
    """The positions 0 to count - 1 in runs of at most `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
