"""Maps that the user names: --maps, and maps.yaml in the folder of a material."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config_file import load_config_file
from common.errors import UserError, brief, quote
from common.knobs import suggest
from configs import EXTRA_MAPS
from maps.channels import MAPS, is_map_name
from maps.keywords import GLOSS, Part

MAPS_FILE = "maps.yaml"
NONE = "none"  # in place of a file: the material does not have this map
FORM = "MAP=FILE or MAP=FILE:CHANNEL, the channel one of r, g, b, a, as in diffuse=a.png,roughness=pack.png:g"
_NAMES = {**dict.fromkeys(MAPS), **dict.fromkeys(GLOSS)}


def parse_maps(text: str) -> dict[str, str]:
    """'diffuse=a.png,roughness=pack.png:g' -> map name -> file, with its channel. Raises: UserError."""
    named = {}
    for entry in re.split(r",(?=\s*\w+\s*=)", text) if text else []:
        name, equals, file = (part.strip() for part in entry.partition("="))
        if not equals or not file:
            raise UserError(f"--maps: expected {FORM}, found {brief(entry)}; name a file for each map")
        if name in named:
            raise UserError(f"--maps: expected one file for {name}, found two; leave one out")
        named[name] = file
    return named


def named_files(text: str) -> frozenset[str]:
    """The file names in a value of --maps, without channels."""
    return frozenset(re.sub(r":[rgba]$", "", file, flags=re.IGNORECASE) for file in parse_maps(text).values())


def named_parts(folder: Path, text: str = "", extras: Sequence[str] = ()) -> dict[str, tuple[str, Part] | None]:
    """Map name -> (file name, part) of the maps that --maps, or else maps.yaml in `folder`, names; None for 'none'.

    Args:
        extras: names of extra maps that may be given.
    Raises: UserError for a map, a file or a channel that is not there.
    """
    named, where = parse_maps(text), "--maps"
    names = {**_NAMES, **dict.fromkeys((*EXTRA_MAPS, *extras))}
    if not text and (folder / MAPS_FILE).is_file():
        where = quote(folder / MAPS_FILE)
        named = load_config_file(folder / MAPS_FILE, names, where)
    parts = {}
    for name, file in named.items():
        if name not in names:
            more = "; --extra_map NAME takes one map of another name" if is_map_name(name) else ""
            raise UserError(f"{where}: unknown map {brief(name)}{suggest(name, names)}{more}")
        target = "roughness" if name in GLOSS else name
        if target in parts:
            raise UserError(f"{where}: expected one file for {target}, found two; leave one out")
        parts[target] = None if file == NONE else _named_part(folder, where, name, file)
    return parts


def _named_part(folder: Path, where: str, name: str, file: object) -> tuple[str, Part]:
    """The file and the part that `file` says for a map, or for gloss."""
    if not isinstance(file, str) or not file:
        raise UserError(f"{where}: {name}: expected a file name, found {brief(file)}; write {FORM}")
    channel = re.fullmatch(r"(.+):([rgbaRGBA])", file)
    path, channels = (channel[1], channel[2].upper()) if channel and not (folder / file).exists() else (file, "RGB")
    if Path(path).name != path or not (folder / path).is_file():
        reason = f"expected a file in {quote(folder)}, found none called {path!r:.120}"
        raise UserError(f"{where}: {name}: {reason}; write {FORM}")
    inverted = name in GLOSS
    return path, Part("roughness" if inverted else name, channels, inverted)


def wanted_size(text: str, sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """(width, height) of LOD 0 for a value of --size: WxH, 'largest', or '' for the size of the first map.

    Args:
        sizes: of each map, in canonical order.
    """
    if text == "largest":
        return max(sizes.values(), key=lambda size: size[0] * size[1])
    if text:
        width, height = text.lower().split("x")
        return int(width), int(height)
    return next(iter(sizes.values()))
