"""What a batch trains: a folder of maps, or a material of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Group:
    """One entry of a batch."""

    name: str  # path below the batch folder, with /; of a model's material below the model
    source: Path  # the folder or the model
    skipped: str = ""  # reason why it is no group; empty for a group
    failed: str = ""  # reason why it cannot be read
    material: str = ""  # of a model: its label
