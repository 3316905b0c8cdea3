"""Where the maps of a material come from: a folder of images, or a material of a glTF model."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from common.errors import UserError, quote
from common.files import sha256_of
from maps.by_hand import MAPS_FILE
from maps.extras import AUTO, Extras
from maps.folder import Found, Look, find_maps, look_into
from maps.gltf.container import SUFFIXES
from maps.gltf.source import ModelSource
from maps.record import Origin

Files = dict[str, tuple[list[Path], Callable[[], str]]]


class MaterialSource(Protocol):
    """A folder or a material of a model."""

    name: str  # of the material
    origin: Origin | None  # the model that it is of

    def check(self, extras: Extras = AUTO) -> None:
        """Raise UserError for a source that is not there, without looking into its images."""

    def find(self, look: Look | None = None, extras: Extras = AUTO) -> Found:
        """The images and channels of its maps, see folder.find_maps."""

    def files(self, extras: Extras = AUTO) -> Files:
        """Name -> the files that are behind it, and the SHA-256 of what of them decides the maps."""


class FolderSource:
    """A folder of images; `by_hand` is a value of --maps."""

    origin = None

    def __init__(self, folder: Path, by_hand: str = ""):
        self.folder, self.by_hand = folder, by_hand
        self.name = os.path.basename(os.path.realpath(folder)) or "material"  # resolve() fails for links in a circle

    def check(self, extras: Extras = AUTO) -> None:
        look_into(self.folder, self.by_hand, extras)

    def find(self, look: Look | None = None, extras: Extras = AUTO) -> Found:
        return find_maps(self.folder, look, self.by_hand, extras)

    def files(self, extras: Extras = AUTO) -> Files:
        named = self.folder / MAPS_FILE
        paths = {source.path for source in self.find(None, extras).sources.values()}
        paths |= {named} if named.is_file() else set()
        return {path.name: ([path], functools.partial(sha256_of, path)) for path in sorted(paths)}


def open_source(path: str | Path, by_hand: str = "", material: str = "") -> MaterialSource:
    """The source that --data_dir, --maps and --material name. Raises: UserError."""
    path = Path(path)
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        if by_hand:
            raise UserError("--maps: expected a folder as --data_dir, found a model, which says itself which image is "
                            "which; leave --maps out")  # fmt: skip
        return ModelSource(path, material)
    if material:
        raise UserError(f"--material {material:.80}: expected a .glb or .gltf file as --data_dir, found {quote(path)}; "
                        "leave --material out, or give the model")  # fmt: skip
    return FolderSource(path, by_hand)
