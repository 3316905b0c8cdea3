"""The canonical maps and their channels (design.md, section 3)."""

from __future__ import annotations

from configs import MAPS

CHANNELS = sum(MAPS.values())  # 11


def map_slice(name: str) -> slice:
    """Where the map `name` lies in the 11 canonical channels."""
    start = sum(list(MAPS.values())[: list(MAPS).index(name)])
    return slice(start, start + MAPS[name])
