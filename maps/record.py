"""A material without its texels: what manifests and checkpoints keep, and what turning a decode into maps needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from maps.channels import channel_count, map_channels

CONVENTIONS = ("gl", "dx", "unknown")  # of normal maps: y up, y down


class Constant(NamedTuple):
    """The one value that a channel has at every texel of every LOD, as the integer that is stored."""

    code: int  # 0 .. 2**bit_depth - 1
    bit_depth: int  # 8 or 16, as stored for training: `Material.bit_depth`

    @property
    def value(self) -> float:
        """In [0, 1]; rounded to float32 it is what `Material.gather` returns."""
        return self.code / (2**self.bit_depth - 1)


@dataclass(frozen=True)
class MapRecord:
    """One map of a material, and how its decoded values become those of its file."""

    name: str  # of channels.MAPS or EXTRA_MAPS, or the one of --extra_map
    color_space: str  # 'srgb' or 'linear': of the values that the network learns
    file_color_space: str  # ... and of the file; another one for a diffuse that was decoded to linear light
    bit_depth: int = 8  # of the file, 8 or 16
    file: str = ""  # its name
    value_range: tuple[float, float] = (0.0, 1.0)  # what 0 and 1 mean in the file's own units
    convention: str | None = None  # one of CONVENTIONS; None for maps other than normals
    unit_normals: bool | None = None  # whether LOD 0 holds unit vectors; None where there is no record of it
    # s, of light above 1: t means s (2^(t log2(1 + high / s)) - 1). None: it means low + t (high - low).
    log_scale: float | None = None

    @property
    def channels(self) -> range:
        """Its places among the material's channels."""
        return map_channels(self.name)


class Origin(NamedTuple):
    """The place of a material in the glTF model that it was read from."""

    model: str  # file name
    material: str  # label, see maps.gltf.materials.labels_of
    index: int  # into the model's materials


@dataclass(frozen=True)
class MaterialRecord:
    """The size and the maps of a material; `Material.record` makes one of a live material."""

    name: str
    width: int  # of LOD 0, texels
    height: int
    maps: tuple[MapRecord, ...]  # those that the material has, in canonical order
    sha256: str | None = None  # `Material.sha256`, see `Material.hashed_record`
    origin: Origin | None = None  # where it came from a model

    @property
    def num_lods(self) -> int:
        return max(self.width, self.height).bit_length()

    @property
    def channels(self) -> list[int]:
        """The channels of all its maps, ascending."""
        return [channel for entry in self.maps for channel in entry.channels]

    @property
    def n_channels(self) -> int:
        """11, or 16 with an extra map."""
        return channel_count(entry.name for entry in self.maps)

    def lod_size(self, lod: int) -> tuple[int, int]:
        """(width, height) of one LOD."""
        return max(self.width >> lod, 1), max(self.height >> lod, 1)

    def map(self, name: str) -> MapRecord | None:
        """The record of one map; None where the material does not have it."""
        return next((entry for entry in self.maps if entry.name == name), None)
