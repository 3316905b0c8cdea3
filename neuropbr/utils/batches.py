"""The order of samples, which depends on seed and epoch alone, so that a run can resume inside an epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from common.errors import UserError, what_is_wrong
from neuropbr.train_config import DataConfig, TrainConfig
from neuropbr.utils.cli import LESS_MEMORY
from neuropbr.utils.dataset import Augmentation, PBRDataset


class EpochBatches:
    """Batches of (epoch, position) for DataLoader(batch_sampler=...).

    Args:
        samples: their number.
        groups: None, or the group of each sample: samples of a group follow each other, so that a file with several of
            them is read once.
        rank, processes: process `rank` gets every `processes`-th batch; the last batches are filled from the start.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, shuffle: bool = True, groups: list[int] | None = None,
                 rank: int = 0, processes: int = 1):  # fmt: skip
        self.samples, self.batch_size, self.seed, self.shuffle = samples, batch_size, seed, shuffle
        self.groups, self.rank, self.processes = groups, rank, processes
        self.epoch = self.skip = 0  # skip: batches of this epoch that are done

    def _order(self) -> list[int]:
        order = list(range(self.samples))
        if self.shuffle:
            dice = random.Random(f"{self.seed} {self.epoch}")
            dice.shuffle(order)
            if self.groups is not None:
                ranks = sorted(set(self.groups))
                dice.shuffle(ranks)
                place = {group: i for i, group in enumerate(ranks)}
                order.sort(key=lambda index: place[self.groups[index]])
        return order

    def __len__(self) -> int:
        return -(-self.samples // (self.batch_size * self.processes))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, batch = self._order(), self.batch_size
        total = len(self) * self.processes * batch
        if self.processes > 1:
            order = (order * (total // max(len(order), 1) + 1))[:total]
        batches = [order[start : start + batch] for start in range(0, len(order), batch)]
        for indices in batches[self.rank :: self.processes][self.skip :]:
            yield [(self.epoch, index) for index in indices]


class _ErrorsAsItems(Dataset):
    """A dataset whose items may be the UserError that reading one raised: a worker would add its traceback to it."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.dataset[index]
        except UserError as error:
            return error


def _collated(items: list) -> Any:
    return next((item for item in items if isinstance(item, UserError)), None) or default_collate(items)


def make_loader(dataset: Dataset, batches: EpochBatches, data: DataConfig, device: torch.device) -> DataLoader:
    """The DataLoader of a DataConfig. A batch with an unusable file is a UserError, which the caller raises."""
    workers = min(data.num_workers, len(batches))
    more = {"persistent_workers": data.persistent_workers, "prefetch_factor": data.prefetch_factor} if workers else {}
    pinned = data.pin_memory and device.type == "cuda"
    own = torch.Generator()  # a DataLoader draws a number per pass, which must not come from dropout's generator
    return DataLoader(_ErrorsAsItems(dataset), batch_sampler=batches, num_workers=workers, pin_memory=pinned,
                      generator=own, collate_fn=_collated, **more)  # fmt: skip


def read_batches(loader: DataLoader) -> Iterator[Any]:
    """The batches of a loader. Raises: UserError where the system has ended a process that reads them."""
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        fewer = max(0, loader.num_workers // 2)
        raise UserError(
            f"a process that reads images was ended ({what_is_wrong(error)}), most likely for want of memory; "
            f"--set data.num_workers={fewer}, or {LESS_MEMORY}"
        ) from error


def open_dataset(config: TrainConfig, split: str | None) -> PBRDataset:
    """The PBRDataset of a configuration; only the split "train" is augmented."""
    data = config.data
    augmentation = None
    if split == "train" and data.use_augmentation:
        augmentation = Augmentation(data.horizontal_flip, data.vertical_flip, data.random_rotation)
    return PBRDataset(
        data.input_dir, data.output_dir, data.metadata_path, config.transform.mean, config.transform.std,
        data.image_size, data.output_size, data.use_dirty_renders, data.render_curriculum, split, data.val_ratio,
        config.training.seed, augmentation,
    )  # fmt: skip


def open_splits(config: TrainConfig) -> tuple[PBRDataset, PBRDataset]:
    """(training, validation); both are all samples if none is held out."""
    train, held_out = open_dataset(config, "train"), open_dataset(config, "val")
    return train, held_out if len(held_out) else open_dataset(config, None)
