"""The maps of a folder: which file, and which of its channels, holds each (design.md, section 3)."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import UserError, quote
from maps.by_hand import named_parts
from maps.channels import MAPS, canonical
from maps.extras import AUTO, Extras, extra_map, named_map
from maps.gltf.container import is_model
from maps.images import IMAGE_SUFFIXES, is_image
from maps.keywords import GLTF, Part
from maps.names import LETTER_OF_COLOUR, NO_CHANNEL, PICTURE_OF_ALL, Reading, normal_convention, recognise_all, words_of
from maps.pixels import Image, ImageFile, bands_of

if TYPE_CHECKING:
    from maps.gltf.materials import Adjustment

UNREAD_SUFFIXES = {
    *(".ktx", ".ktx2", ".basis", ".crn", ".blp", ".heic", ".heif", ".xcf", ".kra", ".psb", ".sbsar", ".svg", ".pcx"),
    *(".vtf", ".pvr", ".astc", ".uasset"),
    *(".pict", ".sgi", ".cin", ".dpx", ".pfm", ".ppm", ".pgm", ".iff", ".ai", ".clip", ".afphoto", ".cr2", ".dng"),
}
NAMED_ADVICE = "; --extra_map NAME takes one map of that name"
BY_HAND = "--maps MAP=FILE says by hand which file is which map"
GREY_SPREAD = 16  # R, G and B of a grey picture differ by at most 1 / 16 of the range: JPEG moves them apart by less


class Source(NamedTuple):
    """Where one map comes from."""

    path: ImageFile
    part: Part
    adjustment: Adjustment | None = None  # what a model's material does to its texels

    @property
    def label(self) -> str:
        """brick_arm.png:G"""
        return self.path.name + ("" if self.part.channels == "RGB" else f":{self.part.channels}")


class Found(NamedTuple):
    """The maps of a folder."""

    sources: dict[str, Source]  # in canonical order
    convention: str  # of the normal map: 'gl', 'dx' or 'unknown'
    notes: list[str]  # one line for each choice made and each file left out
    because: dict[str, str]  # file name -> what decided, of every image file


Look = Callable[[ImageFile], Image]


def find_maps(
    folder: str | os.PathLike, look: Look | None = None, by_hand: str = "", extras: Extras = AUTO
) -> Found:
    """Recognise the image files that lie directly in `folder`; hidden files and other files are ignored.

    Args:
        look: decodes a file whose name alone does not decide, as wall_metal_roughness: a grey one is a single map.
            None: the name decides.
        extras: which extra maps are looked for.
        by_hand: a value of --maps; the maps that it names, or maps.yaml in the folder does, are not looked for.
    Raises: UserError when the folder is missing, empty or a file, holds no map, two files for one map, or one file for
        two maps that no convention places.
    """
    folder = Path(folder)
    names, named = look_into(folder, by_hand, extras)
    taken = {entry[0] for entry in named.values() if entry}
    images = [name for name in names if name not in taken and _is_image(folder / name)]
    own = [name for name in images if extras.named and named_map([w.text for w in words_of(name)], extras.named)]
    images = [name for name in images if name not in own]
    unread = [name for name in names if Path(name).suffix.lower() in UNREAD_SUFFIXES]
    readings = recognise_all(images + unread)
    notes = [f"{quote(name)}: skipped, {Path(name).suffix.lower()} files are not read; convert it to PNG or EXR"
             for name in unread if readings[name].parts]  # fmt: skip
    resolved = {name: _resolve(folder / name, readings[name], look, bool(named), notes) for name in images}
    _take_whole_picture_as_diffuse(readings, resolved, notes)
    if look is not None:
        _take_colour_by_its_letter(folder, readings, resolved, look, notes)
    unused = [name for name in images if not (resolved[name] or readings[name].letter)]
    others = _extra_files(folder, {name: readings[name] for name in unused}, look)
    unused = [name for name in unused if name not in others]
    notes += _notes_on_unused({name: readings[name] for name in unused})
    candidates = defaultdict(list)
    for name in images:
        for part in resolved[name]:
            candidates[part.map].append(Source(folder / name, part))
    _prefer_opengl(candidates["normal"], notes)
    found = {name: _choose(folder, name, candidates[name], notes) for name in MAPS
             if candidates[name] and name not in named}  # fmt: skip
    found.update({name: Source(folder / entry[0], entry[1]) for name, entry in named.items() if entry})
    if not found:
        raise _no_maps(folder, names)
    others.update(dict.fromkeys(own, extras.named))
    found.update(_extra_sources(folder, found, others, named, extras, look, notes))
    sources = {name: found[name] for name in canonical(found)}
    convention = normal_convention(sources["normal"].path.name) if "normal" in sources else "unknown"
    because = {name: readings[name].because for name in images} | dict.fromkeys(taken, "named by hand")
    because |= {source.path.name: "an extra map" for name, source in sources.items()
                if name not in MAPS and source.path.name not in taken and source.part.channels == "RGB"}  # fmt: skip
    return Found(sources, convention, notes, because)


def describe_found(found: Found) -> list[str]:
    """One line for each image file: its maps, and what decided."""
    lines = []
    width = max(map(len, found.because), default=0)
    for name in sorted(found.because):
        parts = [source.part for source in found.sources.values() if source.path.name == name]
        lines.append(f"{quote(name):<{width}}  {_held(parts) or '-':<28}  {found.because[name]}")
    return lines + [f"note: {note}" for note in found.notes]


def _held(parts: Iterable[Part]) -> str:
    """roughness in A, inverted"""
    return ", ".join(f"{part.map}{'' if part.channels == 'RGB' else f' in {part.channels}'}"
                     f"{', inverted' if part.inverted else ''}" for part in parts)  # fmt: skip


def look_into(
    folder: Path, by_hand: str = "", extras: Extras = AUTO
) -> tuple[list[str], dict[str, tuple[str, Part] | None]]:
    """Names of the files in a folder, and what --maps or its maps.yaml says of them; see `find_maps`.

    Raises: UserError when the folder is missing or a file, or for maps named by hand that are not there.
    """
    return _file_names(folder), named_parts(folder, by_hand, extras.names)


def _file_names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name[0] != "." and not entry.is_dir())
    except OSError as error:
        reason = f"expected a folder of texture maps, found {error.strerror}"
        raise UserError(f"{quote(folder)}: {reason}; give the folder that holds the image files") from error


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES or (suffix not in UNREAD_SUFFIXES and is_image(path))


# --- what the content decides --------------------------------------------------------------------------------------


def _resolve(path: Path, reading: Reading, look: Look | None, lenient: bool, notes: list[str]) -> tuple[Part, ...]:
    """The parts of a file, by its content where the name leaves it open; lenient: a note on what cannot be placed."""
    parts = reading.parts
    if look is not None and reading.letter:
        parts = _parts_of_letter(reading, look(path))
        held = f"taken as {_held(parts) or 'no map'}; the letter {reading.letter} may mean another thing"
        notes.append(f"{quote(path.name)}: {held}, {BY_HAND}")
        return parts
    unity = len(parts) == 3 and parts[2].inverted and parts[2].channels == "B"  # MetallicAOSmoothness
    if reading.because == "m" and path.suffix.lower() == ".dds":
        notes.append(f"{quote(path.name)}: taken as metallic; in some games it is where reflections show, {BY_HAND}")
    if look is None or not (reading.grey or unity or any(part.channels == "A" for part in parts)):
        return tuple(part for part in parts if parts is not GLTF or part.map != "occlusion")
    image = look(path)
    if unity and image.alpha is not None:  # where its shaders have it; without alpha the order counts
        parts = (*parts[:2], parts[2]._replace(channels="A"))
    if reading.grey and is_grey(image.pixels) and (image.alpha is None or not reading.unclear):
        return (Part(reading.grey),)
    if image.alpha is None and reading.unclear:
        reason = (f"expected one map, or colour with another map in alpha, found the name of several "
                  f"({reading.because}) and no alpha; rename it, or {BY_HAND}")  # fmt: skip
        if not lenient:
            raise UserError(f"{quote(path)}: {reason}")
        notes.append(f"{quote(path.name)}: not used: {reason}")
        return ()
    if parts is GLTF and not _holds_occlusion(image.pixels):
        parts = parts[1:]
    lost = [part.map for part in parts if part.channels == "A" and image.alpha is None]
    if lost:
        notes.append(f"{quote(path.name)}: {', '.join(lost)} would be in alpha, which has one value; left out")
    return tuple(part for part in parts if part.map not in lost)


def _parts_of_letter(reading: Reading, image: Image) -> tuple[Part, ...]:
    """The parts of R_AO, AO_R, BaseColor_R or G: packed where the channels differ, or alpha varies behind a colour."""
    grey = is_grey(image.pixels)
    if reading.grey and grey and (image.alpha is None or not reading.unclear):
        return (Part(reading.grey),)
    if reading.letter == "G" and [part.inverted for part in reading.parts] == [True]:  # gloss is grey, a glow is not
        return reading.parts if grey else ()
    if reading.unclear:
        return reading.parts if image.alpha is not None else reading.parts[:1]
    return reading.parts[1:] if reading.parts is GLTF and not _holds_occlusion(image.pixels) else reading.parts


def is_grey(pixels: np.ndarray) -> bool:
    """Whether (H, W, C) pixels have one channel, or three that are equal but for what JPEG makes of them."""
    if pixels.shape[2] == 1:
        return True
    limit = (1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max) / GREY_SPREAD
    for rows in bands_of(pixels):  # most coloured files are told by their first rows
        planes = [rows[..., channel] for channel in range(rows.shape[2])]
        if (functools.reduce(np.maximum, planes) - functools.reduce(np.minimum, planes)).max() > limit:
            return False
    return True


def _holds_occlusion(pixels: np.ndarray) -> bool:
    """Whether R of a file that is packed as in glTF, where R is free, varies, and by itself."""
    if pixels.shape[2] != 3:
        return False
    red = pixels[..., :1]
    top = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    varies = float(red.max()) - float(red.min()) > top / GREY_SPREAD
    return varies and not any(is_grey(np.concatenate([red, red, pixels[..., c : c + 1]], axis=2)) for c in (1, 2))


# --- choices -------------------------------------------------------------------------------------------------------


def _take_whole_picture_as_diffuse(readings: dict[str, Reading], resolved: dict[str, tuple], notes: list[str]) -> None:
    """rock.png beside rock_n.png is its colour, as games have it; beside rock_color.png it is a preview."""
    whole = [name for name, reading in readings.items() if reading.because == PICTURE_OF_ALL and name in resolved]
    if len(whole) == 1 and not any(part.map == "diffuse" for parts in resolved.values() for part in parts):
        resolved[whole[0]] = (Part("diffuse"),)
        notes.append(f"{quote(whole[0])}: taken as diffuse, which no other file is")


def _take_colour_by_its_letter(folder: Path, readings: dict, resolved: dict, look: Look, notes: list[str]) -> None:
    """rock_B.png is the colour where no other file is, and where it is coloured: a bump map is grey."""
    if any(part.map == "diffuse" for parts in resolved.values() for part in parts):
        return
    letters = [name for name in resolved if readings[name].because == LETTER_OF_COLOUR]
    coloured = [name for name in letters if not is_grey(look(folder / name).pixels)]
    if len(coloured) == 1:
        resolved[coloured[0]] = (Part("diffuse"),)
        notes.append(f"{quote(coloured[0])}: taken as diffuse, which no other file is; otherwise {BY_HAND}")


# --- extra maps ----------------------------------------------------------------------------------------------------


def _extra_files(folder: Path, readings: dict[str, Reading], look: Look | None) -> dict[str, str]:
    """File -> opacity or emissive, of those that hold no canonical map."""
    found = {}
    for name, reading in readings.items():
        if reading.because == PICTURE_OF_ALL:
            continue
        words = [word.text for word in words_of(name)]
        kind = extra_map(words, lambda name=name: look is None or _is_mask(look(folder / name).pixels))
        if kind:
            found[name] = kind
    return found


def _extra_sources(
    folder: Path, found: dict[str, Source], files: dict[str, str], named: dict, extras: Extras, look: Look | None,
    notes: list[str],
) -> dict[str, Source]:  # fmt: skip
    """Where the extra maps come from: a file each, and for opacity else the alpha of the diffuse.

    files: file -> extra map, by the names alone.
    """
    sources = {}
    for kind in dict.fromkeys([*files.values(), "opacity"]):
        held = [name for name, of in files.items() if of == kind]
        candidates = [Source(folder / name, Part(kind)) for name in held]
        diffuse = found.get("diffuse")
        if kind == "opacity" and not held and diffuse and look is not None and look(diffuse.path).alpha is not None:
            alpha = Source(diffuse.path, Part(kind, "A"))
            free = not any(source[0] == alpha.path and source.part.channels == "A" for source in found.values())
            candidates = [alpha] if free else []
        if not candidates or kind in named:
            continue
        labels = listing(source.label for source in candidates)
        if kind not in extras.names:  # of alpha read_maps has a note
            if candidates[0].part.channels != "A":
                notes.append(f"{labels}: {kind} is left out; --extra_maps auto takes it")
        elif len(candidates) > 1:
            notes.append(f"{labels}: expected one file for {kind}, none was taken; --maps {kind}=FILE says which")
        else:
            sources[kind] = candidates[0]
            if candidates[0].part.channels == "A":
                notes.append(f"{quote(diffuse.path.name)}: alpha is taken as opacity; --extra_maps none leaves it out")
    return sources


def _is_mask(pixels: np.ndarray) -> bool:
    """Whether a picture is grey, and nine in ten texels are black or white."""
    if not is_grey(pixels):
        return False
    plane, top = pixels[..., 0], 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    extreme = sum(int(((rows < 0.1 * top) | (rows > 0.9 * top)).sum()) for rows in bands_of(plane))
    return extreme >= 0.9 * plane.size


def _notes_on_unused(readings: dict[str, Reading]) -> list[str]:
    """One line for the files of each reason."""
    by_reason = defaultdict(list)
    for name, reading in readings.items():
        by_reason[reading.because].append(name)
    return [f"skipped {listing(names)}: {reason}{NAMED_ADVICE * reason.endswith(NO_CHANNEL)}"
            for reason, names in by_reason.items()]  # fmt: skip


def _prefer_opengl(normals: list[Source], notes: list[str]) -> None:
    """Leave out the DirectX one of two normal maps."""
    conventions = [normal_convention(source.path.name) for source in normals]
    if sorted(conventions) == ["dx", "gl"]:
        left_out = normals.pop(conventions.index("dx")).path.name
        notes.append(f"{quote(left_out)}: not used, the OpenGL normal map {quote(normals[0].path.name)} was taken")


def _rank(source: Source) -> int:
    """A file of its own comes before a packed one, gloss after both."""
    return 2 if source.part.inverted else int(source.part.channels != "RGB")


def _choose(folder: Path, map_name: str, candidates: Sequence[Source], notes: list[str]) -> Source:
    """The source of a map that there is one or more of."""
    rank = min(map(_rank, candidates))
    best = [source for source in candidates if _rank(source) == rank]
    if len(best) > 1:
        reason = f"expected one file for {map_name}, found {listing(source.path.name for source in best)}"
        raise UserError(f"{quote(folder)}: {reason}; move all but one out of the folder, or {BY_HAND}")
    unused = [source for source in candidates if source is not best[0]]
    if unused:
        files = listing(source.label if source.part.channels != "RGB" else source.path.name for source in unused)
        notes.append(f"{map_name}: taken from {quote(best[0].path.name)}, not from {files}")
    return best[0]


def _no_maps(folder: Path, names: Sequence[str]) -> UserError:
    """The error for a folder without a map, and what to give instead."""
    reason = f"{quote(folder)}: expected image files named after their map, such as wood_albedo.png"
    folders = sorted(entry for entry in folder.iterdir() if entry.name[0] != "." and entry.is_dir())
    with_maps = [entry for entry in folders if _holds_maps(entry)]
    if len(with_maps) == 1:
        return UserError(f"{reason}, found them in {quote(with_maps[0])}; give that folder")
    models = [name for name in names if is_model(folder / name)]
    if models:
        return UserError(f"{reason}, found {listing(models, 3)}; give the model itself: {quote(folder / models[0])}")
    if names:
        return UserError(f"{reason}, found {listing(names)}; rename them, {BY_HAND}, or give another folder")
    if not folders:
        return UserError(f"{reason}, found an empty folder; give another one")
    advice = "give one of them, or train all with --groups_batching --groups_batch_dir"
    return UserError(f"{reason}, found only folders: {listing((entry.name for entry in folders), 3)}; {advice}")


def _holds_maps(folder: Path) -> bool:
    try:
        names = [name for name in _file_names(folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    except UserError:
        return False
    return any(reading.parts for reading in recognise_all(names).values())


def listing(names: Iterable[str], limit: int = 20) -> str:
    """File names for a message."""
    quoted = [quote(name) for name in names]
    return ", ".join(quoted[:limit]) + (f" and {len(quoted) - limit} more" if len(quoted) > limit else "")
