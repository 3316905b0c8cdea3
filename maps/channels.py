"""The canonical maps and their channels (design.md, section 3)."""

from __future__ import annotations

MAPS = {"diffuse": 3, "normal": 3, "roughness": 1, "occlusion": 1, "metallic": 1, "specular": 1, "displacement": 1}
CHANNELS = sum(MAPS.values())  # 11


def map_slice(name: str) -> slice:
    """Where the map `name` lies in the 11 canonical channels."""
    start = sum(list(MAPS.values())[: list(MAPS).index(name)])
    return slice(start, start + MAPS[name])
