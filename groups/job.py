"""What a batch gives to the process that trains a group, and what it gets back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs import Config
from groups.journal import Record, changed_sources


@dataclasses.dataclass(frozen=True)
class Job:
    """A group to train."""

    name: str  # path below the batch folder, with /
    batch: str  # id of this start of the batch
    config: Config  # of the run: data_dir and save_dir are the group's own, and absolute
    settings: str  # settings_digest(config)
    force: bool  # ignore what other starts of the batch have begun or finished

    @property
    def folder(self) -> Path:
        """The folder of its runs."""
        return Path(self.config.save_dir)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the training of a group ended."""

    status: str  # done, failed, or stopped by a signal (with a checkpoint, if training had begun)
    reason: str = ""
    record: Record | None = None  # of a group that is done, or was stopped during training


def is_forced(job: Job, before: Record | None) -> bool:
    """Whether --groups_force discards the record. It keeps that of this batch: Ray may try a group again."""
    return job.force and before is not None and before.batch != job.batch


def is_begun(job: Job, before: Record | None, facts: Mapping[str, Any]) -> bool:
    """Whether the record has these settings and images, so that its runs can be continued."""
    return (before is not None and not is_forced(job, before) and before.settings == job.settings
            and not changed_sources(before.sources, facts))  # fmt: skip
