"""The map that an image file holds, recognised by its name, and the maps of a folder (design.md, section 3)."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.errors import UserError, quote
from maps.channels import MAPS
from maps.images import IMAGE_SUFFIXES

_KEYWORDS = {  # an underscore separates two words; a keyword may also be a run of letters such as AmbientOcclusion
    "diffuse": ("diffuse", "albedo", "color", "colour", "diff", "basecolor", "base_color", "col"),
    "normal": ("normal", "nor_gl", "nor_dx", "normalgl", "normaldx"),
    "roughness": ("roughness", "rough"),
    "occlusion": ("occlusion", "ao", "ambient", "ambientocclusion"),
    "metallic": ("metallic", "metalness", "metal"),
    "specular": ("specular", "specular_color", "spec"),
    "displacement": ("displacement", "disp", "height"),
}
_PACKED = {  # maps in R, G and B
    "arm": ("occlusion", "roughness", "metallic"),
    "orm": ("occlusion", "roughness", "metallic"),
    "rma": ("roughness", "metallic", "occlusion"),
    "occlusionroughnessmetallic": ("occlusion", "roughness", "metallic"),
    "metallicroughness": (None, "roughness", "metallic"),  # glTF 2.0, 5.22 metallicRoughnessTexture: R is not used
}
_OTHER = (  # maps outside the 11 channels; if they were not known, rough_plaster_bump would be a roughness
    *("bump", "cavity", "curvature", "gloss", "glossiness", "fuzz", "opacity", "alpha", "mask", "translucency"),
    *("transmission", "thickness", "emission", "emissive", "sheen", "clearcoat", "anisotropy", "preview", "thumbnail"),
    *("emission_color", "emissive_color", "sheen_color", "subsurface_color", "transmission_color", "vertex_color"),
)
_TARGETS: dict[str, Any] = {key: name for name in MAPS for key in _KEYWORDS[name]} | _PACKED | dict.fromkeys(_OTHER)
_WHOLE_WORDS_ONLY = {"col", "spec", "metal", "ao", *_PACKED}  # too short, or common in the names of materials
_UNREAD_SUFFIXES = {".dds", ".hdr", ".psd", ".gif", ".ktx", ".ktx2", ".avif", ".jxl", ".heic", ".jp2"}


def get_texture_config() -> dict[str, tuple[int, tuple[str, ...]]]:
    """Map name -> (channels, keywords that name it in a file name), in canonical order."""
    return {name: (channels, _KEYWORDS[name]) for name, channels in MAPS.items()}


def recognise(file_name: str) -> str | tuple[str | None, ...] | None:
    """The map that a file holds, recognised by its name without folder and suffix.

    Words end at non-letters, digits and camelCase humps. Of the keywords that are whole words the last one counts,
    because the type is a suffix: Rough_Wood_Albedo is diffuse. `metal` more often names a material and counts only
    without another keyword. Where no word is a keyword, the last one inside a word does: brickalbedo is diffuse.

    Returns: a map name; for a packed file the map names of R, G and B (None: unused); None for an unknown file.
    """
    stem = unicodedata.normalize("NFC", Path(file_name).stem)  # macOS decomposes accents, which would split words
    words = _words(stem)
    runs = [(run[0].lower(), *run.span()) for run in re.finditer(r"[^\W\d_]+", stem)]
    phrases = words + runs + [(f"{a[0]}_{b[0]}", a[1], b[2]) for a, b in zip(words, words[1:])]
    # (end, length, keyword): the last wins, of those that end together the longest
    hits = [(end, end - start, text) for text, start, end in phrases if text in _TARGETS and text != "metal"]
    if not hits:
        lower = stem.lower()
        inside = [keyword for keyword in _TARGETS if keyword not in _WHOLE_WORDS_ONLY and keyword in lower]
        hits = [(lower.rindex(keyword) + len(keyword), len(keyword), keyword) for keyword in inside]
        hits += [(end, 2, "ao") for text, _, end in runs if text.endswith("ao")]  # brickao, but not chaos
        hits += [(end, 5, "metal") for text, _, end in words if text == "metal"]
    return _TARGETS[max(hits)[2]] if hits else None


def _words(stem: str) -> list[tuple[str, int, int]]:
    """The words of a name as (lower-case text, start, end)."""
    return [(word[0].lower(), *word.span()) for word in re.finditer(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", stem)]


def _normal_convention(file_name: str) -> str:
    """'gl' (green up), 'dx' (green down) or 'unknown'."""
    text = "_".join(word for word, _, _ in _words(Path(file_name).stem))
    gl, dx = (re.search(rf"(^|_|nor|normal)({kind})(_|$)", text) for kind in ("(open_?|o)?gl", "dx|direct_?x"))
    return "gl" if gl else "dx" if dx else "unknown"


def find_maps(folder: str | os.PathLike) -> tuple[dict[str, tuple[Path, int | None]], str, list[str]]:
    """Recognise the image files that lie directly in `folder`; hidden files and other files are ignored.

    Returns: map name -> (path, channel 0..2 of a packed file, else None) in canonical order; the normal map's
        convention, 'gl', 'dx' or 'unknown'; one line for each choice made and each file skipped.
    Raises: UserError when the folder is missing, empty or a file, holds no map, or two files for one map.
    """
    folder = Path(folder)
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.name[0] != "." and not entry.is_dir())
    except OSError as error:
        reason = f"expected a folder of texture maps, found {error.strerror}"
        raise UserError(f"{quote(folder)}: {reason}; give the folder that holds the image files") from error
    own, packed, unknown, notes = defaultdict(list), defaultdict(list), [], []
    for name in names:
        suffix, target = Path(name).suffix.lower(), recognise(name)
        if suffix in _UNREAD_SUFFIXES and target:
            notes.append(f"{quote(name)}: skipped, {suffix} files are not read; convert it to PNG or EXR")
        elif suffix in IMAGE_SUFFIXES and not target:
            unknown.append(name)
        elif suffix in IMAGE_SUFFIXES and isinstance(target, str):
            own[target].append((name, None))
        elif suffix in IMAGE_SUFFIXES:
            for channel, map_name in enumerate(target):
                packed[map_name].append((name, channel))
    if unknown:
        notes.append(f"skipped {_listing(unknown)}: no keyword of a map in the name")
    conventions = [_normal_convention(name) for name, _ in own["normal"]]
    if sorted(conventions) == ["dx", "gl"]:
        left_out, _ = own["normal"].pop(conventions.index("dx"))
        notes.append(f"{quote(left_out)}: not used, the OpenGL normal map {quote(own['normal'][0][0])} was taken")
    sources = {}
    for map_name in MAPS:
        choices = own[map_name] or packed[map_name]
        files = _listing(name for name, _ in choices)
        if len(choices) > 1:
            reason = f"{quote(folder)}: expected one file for {map_name}, found {files}"
            raise UserError(f"{reason}; move all but one out of the folder, or rename what is something else")
        if choices:
            sources[map_name] = (folder / choices[0][0], choices[0][1])
        if own[map_name] and packed[map_name]:
            unused = _listing(name for name, _ in packed[map_name])
            notes.append(f"{map_name}: taken from {files}, not from the packed {unused}")
    if not sources:
        reason = f"{quote(folder)}: expected image files named after their map, such as wood_albedo.png"
        if names:
            raise UserError(f"{reason}, found {_listing(names)}; rename them or give another folder")
        folders = sorted(entry.name for entry in folder.iterdir() if entry.name[0] != "." and entry.is_dir())
        if not folders:
            raise UserError(f"{reason}, found an empty folder; give another one")
        advice = "give one of them, or train all with --groups_batching --groups_batch_dir"
        raise UserError(f"{reason}, found only folders: {_listing(folders, 3)}; {advice}")
    return sources, _normal_convention(own["normal"][0][0]) if own["normal"] else "unknown", notes


def _listing(names: Iterable[str], limit: int = 20) -> str:
    """File names for a message."""
    quoted = [quote(name) for name in names]
    return ", ".join(quoted[:limit]) + (f" and {len(quoted) - limit} more" if len(quoted) > limit else "")
