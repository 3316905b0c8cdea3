"""The maps and their channels (design.md, section 3).

The network computes 16 outputs. A material has the 11 canonical channels, and all 16 where it has an extra map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from configs import EXTRA_MAPS, MAP_NAME, MAPS

CHANNELS = sum(MAPS.values())  # 11: of a material without extra maps
NAMED_CHANNEL = CHANNELS + sum(EXTRA_MAPS.values())  # of the map that --extra_map names
SRGB_MAPS = ("diffuse", "emissive")  # where the file does not say otherwise
ALL_CHANNELS = NAMED_CHANNEL + 1  # 16

_SIZES = {**MAPS, **EXTRA_MAPS}
_FIRST = {name: sum(list(_SIZES.values())[:index]) for index, name in enumerate(_SIZES)}


def map_size(name: str) -> int:
    """Channels of a map: 3 or 1. A name that is not ours is the one of --extra_map, with one channel."""
    return _SIZES.get(name, 1)


def is_map_name(name: object) -> bool:
    """Whether a map can have this name: one of ours, or lower-case letters, digits and underscores."""
    return isinstance(name, str) and re.fullmatch(MAP_NAME, name) is not None


def map_slice(name: str) -> slice:
    """Where the map `name` lies in a material's channels."""
    first = _FIRST.get(name, NAMED_CHANNEL)
    return slice(first, first + map_size(name))


def map_channels(name: str) -> range:
    """The channels of the map `name`."""
    return range(ALL_CHANNELS)[map_slice(name)]


def canonical(names: Iterable[str]) -> list[str]:
    """Maps in the order of their channels."""
    return sorted(names, key=lambda name: map_slice(name).start)


def channel_count(names: Iterable[str]) -> int:
    """Channels of a material with these maps: 11, or 16 with an extra one."""
    return CHANNELS if set(names) <= set(MAPS) else ALL_CHANNELS


def opacity_place(channels: Sequence[int]) -> int:
    """Which of these channels is the opacity, the coverage of the others in the loss; -1: none."""
    opacity = map_slice("opacity").start
    return list(channels).index(opacity) if opacity in channels else -1


def outputs_of(channels: Iterable[int]) -> int:
    """`channel_count` of the maps that these channels are of."""
    return CHANNELS if max(channels, default=0) < CHANNELS else ALL_CHANNELS
