"""The files of a folder -> one integer array per map, all of one size."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from common.errors import UserError, quote
from common.parallel import map_threads
from maps.by_hand import wanted_size
from maps.channels import map_size
from maps.extras import AUTO, Extras
from maps.folder import Source, describe_found, is_grey
from maps.gltf.adjust import adjusted
from maps.images import read_image
from maps.mips import Kind, LogLight, decode_table, encode_level, round_to_codes
from maps.pixels import Image, ImageData, ImageFile, bands_of, byte_count, check_finite, pixel_limit
from maps.ranges import LIGHT, choose_log_scale, from_units
from maps.record import Origin
from maps.source import open_source

SMALL_RANGE = 0.4  # of float heights: below it 8-bit decodes keep under 100 steps, so they are scaled to their range
EMPTY_SPREAD = 1 / 64  # of a channel's range: what varies less holds nothing of a normal
ROUNDING = 2**-9  # above 1, two steps of a half float: light up to here is what a file up to 1 was meant to hold
LOSSY_SPREAD = 1 / 24  # of one at an end of the range, where x of a normal map cannot lie throughout


@dataclass
class MapArrays:
    """What the files of a folder, or of a model's material, hold, by map name in canonical order."""

    name: str = "material"
    origin: Origin | None = None  # where it is of a model
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # (H, W, C) uint8 or uint16, of one size
    color_space: dict[str, str] = field(default_factory=dict)  # 'linear' for float files
    value_range: dict[str, tuple[float, float]] = field(default_factory=dict)  # of float files: what 0 and 1 stand for
    log_scale: dict[str, float] = field(default_factory=dict)  # of those with light above 1, see MapRecord
    files: dict[str, str] = field(default_factory=dict)  # name, with the channel of a packed file: brick_arm.png:G
    convention: str = "unknown"  # of the normal map: 'gl', 'dx' or 'unknown'
    notes: list[str] = field(default_factory=list)  # one line for each choice made
    source_bytes: int = 0  # of the files used, on disk


class _Images:
    """Decoded files, each read once, ahead in threads, and let go where no map needs it any more."""

    def __init__(self, max_pixels: int | None):
        self.max_pixels, self.kept = max_pixels, {}

    def look(self, path: ImageFile) -> Image:
        """One file, which stays in memory until it is taken."""
        if path not in self.kept:
            self.kept[path] = read_image(path, self.max_pixels, False, False)
        return self.kept[path]

    def each(self, sources: Mapping[str, Source]):
        """(map name, source, image) of every map."""
        wanted = [source.path for source in sources.values()]
        paths = [path for path in dict.fromkeys(wanted) if path not in self.kept]
        self.kept = {path: image for path, image in self.kept.items() if path in wanted}
        reading = map_threads(lambda path: read_image(path, self.max_pixels, False, False), paths)
        for index, (name, source) in enumerate(sources.items()):
            if source.path not in self.kept:
                self.kept[source.path] = next(reading)
            image = self.kept[source.path]
            if source.path not in wanted[index + 1 :]:
                del self.kept[source.path]
            yield name, source, image


def read_maps(
    folder: str | os.PathLike, max_pixels: int | None = None, by_hand: str = "", size: str = "",
    extras: Extras = AUTO, material: str = "",
) -> MapArrays:  # fmt: skip
    """Read the maps of a folder (see `find_maps`), or of a material of a model, all at one size.

    A grey diffuse or emissive is repeated, an RGB file of a one-channel map averaged; normals of two channels get their
    third.
    Float files become 16 bits: a diffuse is linear then; signed normals n become 0.5 n + 0.5; a displacement that
    leaves [0, 1], or fills little of it, is scaled from its own range, which `value_range` keeps; light above 1 (see
    ranges.LIGHT) gets codes of its logarithm, see `log_scale`; whatever else leaves [0, 1] is clipped, with a note.

    Args:
        folder: or a .glb or .gltf file.
        max_pixels: largest image to read; None: see `pixels.pixel_limit`.
        by_hand: a value of --maps.
        size: of LOD 0: 'WxH', 'largest', or '' for that of the first map in canonical order.
        extras: which extra maps are read.
        material: of a model with several.
    Raises: UserError for a folder or a file that cannot be used (see `find_maps` and `images.read_image`).
    """
    images = _Images(max_pixels)
    origin = open_source(folder, by_hand, material)
    found = origin.find(images.look, extras)
    result = MapArrays(origin.name, origin.origin, convention=found.convention, notes=found.notes)
    used = {}  # path -> whether alpha is
    data = {source.path for name, source in found.sources.items()  # not a colour
            if source.part.channels != "RGB" and name != "opacity"}  # fmt: skip
    for name, source, image in images.each(found.sources):
        image = image if source.path in data else image.straight
        if image.note and source.path not in used:
            result.notes.append(f"{quote(source.path)}: {image.note}")
        pixels, from_alpha = _pixels_of(source, name, image, result.notes)
        if source.adjustment is not None:
            pixels = adjusted(pixels, source.adjustment)
        used[source.path] = used.get(source.path, image.alpha is None) or from_alpha or image.alpha is None
        if pixels.dtype == np.float32:
            result.color_space[name] = "linear"
            pixels, result.value_range[name], scale = _from_float(pixels, name, source.path, result.notes)
            if scale is not None:
                result.log_scale[name] = scale
            if name == "normal":
                pixels, _ = _three_axes(Image(pixels), source.path, result.notes)
        result.arrays[name], result.files[name] = pixels, source.label
    _to_one_size(result, size, max_pixels)
    for path, alpha_used in used.items():
        if not alpha_used:
            colour = "diffuse" in found.sources and path == found.sources["diffuse"].path and not extras.auto
            advice = "; --extra_maps auto takes it as opacity" if colour else ""
            result.notes.append(f"{quote(path)}: its alpha channel varies and is not used{advice}")
    result.source_bytes = sum(map(byte_count, used))
    return result


def recognised_maps(
    folder: str | os.PathLike, max_pixels: int | None = None, by_hand: str = "", extras: Extras = AUTO,
    material: str = "",
) -> list[str]:  # fmt: skip
    """One line for each image of a folder or a material: the maps it is taken for, and why. Arguments as of
    `read_maps`."""
    return describe_found(open_source(folder, by_hand, material).find(_Images(max_pixels).look, extras))


def _to_one_size(result: MapArrays, size: str, max_pixels: int | None) -> None:
    """Resize the maps to the size that `size` stands for."""
    sizes = {name: (array.shape[1], array.shape[0]) for name, array in result.arrays.items()}
    width, height = wanted_size(size, sizes)
    limit, _ = pixel_limit(max_pixels)
    if width * height > limit:
        found = f"expected at most {limit} texels, found {width * height}"
        raise UserError(f"--size {size}: {found}; raise --max_pixels")
    reason = f"--size {size}" if size else "the size of the first map"
    for name, (was_wide, was_high) in sizes.items():
        if (was_wide, was_high) != (width, height):
            lost = not size and was_wide * was_high > width * height
            advice = "; --size largest keeps the larger ones" if lost else ""
            result.notes.append(f"{quote(result.files[name])}: {name} resized from {was_wide}x{was_high} to "
                                f"{width}x{height}, {reason}{advice}")  # fmt: skip
            kind = "normal" if name == "normal" else "linear"
            if name in result.log_scale:
                kind = LogLight(result.log_scale[name], result.value_range[name][1])
            result.arrays[name] = _resize(result.arrays[name], width, height, kind)


def _pixels_of(source: Source, name: str, image: Image, notes: list[str]) -> tuple[np.ndarray, bool]:
    """(H, W, C) pixels of one map, and whether its values come from alpha."""
    path, part, _ = source
    pixels, from_alpha = image.pixels, part.channels == "A"
    if from_alpha:
        pixels = image.alpha
        if pixels is None and image.flat_alpha is not None and isinstance(path, ImageData):  # the material asks for it
            pixels = np.full_like(image.pixels[..., :1], image.flat_alpha)
        if pixels is None:
            raise UserError(f"{quote(path)}: expected {name} in alpha, found none that varies; rename the file")
    elif part.channels != "RGB" and isinstance(path, ImageData) and pixels.shape[2] == 1:
        pass  # a grey image of a model is the same in R, G and B
    elif part.channels != "RGB":
        if pixels.shape[2] != 3:
            reason = "expected maps packed in RGB, found a grey file; name it after one map, without a channel"
            raise UserError(f"{quote(path)}: {reason}")
        channel = "RGB".index(part.channels)
        pixels = pixels[..., channel : channel + 1]
    elif name == "normal":
        pixels, from_alpha = _three_axes(image, path, notes)
    pixels = _fit_channels(pixels, name, path, notes)
    if part.inverted:
        pixels = (np.float32(1) if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max) - pixels
    return pixels, from_alpha


# --- normals -------------------------------------------------------------------------------------------------------


def _three_axes(image: Image, path: ImageFile, notes: list[str]) -> tuple[np.ndarray, bool]:
    """A normal map with x, y and z, and whether x came from alpha.

    Two-channel forms: x in alpha and y in green (DXT5nm: red has one value at an end of the range, or R, G and B are
    equal), x and y with an empty blue (BC5, or cut off by an exporter), x in grey and y in alpha (a file of two
    channels). z = sqrt(1 - x^2 - y^2).
    """
    pixels = image.pixels
    if pixels.shape[2] == 1 and image.alpha is not None and pixels.dtype != np.float32:
        notes.append(f"{quote(path)}: a normal map of two channels, x in grey and y in alpha; z is calculated")
        return with_z(pixels[..., 0], image.alpha[..., 0]), True
    if pixels.shape[2] != 3 or pixels.dtype == np.float32:
        return pixels, False
    x, y = pixels[..., 0], pixels[..., 1]
    unused = (_is_extreme(x) and _is_empty(x, LOSSY_SPREAD)) or (is_grey(pixels) and not _is_empty(y))
    from_alpha = image.alpha is not None and unused
    if from_alpha:
        x = image.alpha[..., 0]
    elif not (_is_empty(pixels[..., 2]) or _is_dark(pixels[..., 2])) or (_is_empty(x) and _is_empty(y)):
        return pixels, False
    where = "alpha" if from_alpha else "red"
    notes.append(f"{quote(path)}: a normal map of two channels, x in {where} and y in green; z is calculated")
    return with_z(x, y), from_alpha


def _is_empty(plane: np.ndarray, spread: float = EMPTY_SPREAD) -> bool:
    """Whether a channel holds nothing but, at most, what compression makes of one value."""
    low = high = int(plane[0, 0])
    for rows in bands_of(plane):  # most channels are told by their first rows
        low, high = min(low, int(rows.min())), max(high, int(rows.max()))
        if high - low > np.iinfo(plane.dtype).max * spread:
            return False
    return True


def _is_dark(plane: np.ndarray) -> bool:
    """Whether a channel is below what z of a normal that points outward can be, in all texels."""
    return all(int(rows.max()) <= np.iinfo(plane.dtype).max / 4 for rows in bands_of(plane))


def _is_extreme(plane: np.ndarray) -> bool:
    """Whether a channel is far from the middle, where x of a flat normal lies."""
    return abs(int(plane.flat[0]) / np.iinfo(plane.dtype).max - 0.5) > 0.25


def with_z(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W, 3) codes of unit normals with z >= 0 from (H, W) codes of x and y."""
    top = float(np.iinfo(x.dtype).max)
    squares = ((2 / top) * x - 1) ** 2 + ((2 / top) * y - 1) ** 2
    z = round_to_codes((np.sqrt(np.maximum(1 - squares, 0)) + 1) * (top / 2), x.dtype)
    return np.stack([x, y, z], axis=2)


# --- values --------------------------------------------------------------------------------------------------------


def _fit_channels(pixels: np.ndarray, name: str, path: ImageFile, notes: list[str]) -> np.ndarray:
    """As many channels as the map has."""
    if pixels.shape[2] == map_size(name):
        return pixels
    if name == "normal":
        raise UserError(f"{quote(path)}: expected an RGB normal map, found a grey file; name a height map as such")
    if map_size(name) == 3:
        return np.repeat(pixels, 3, axis=2)
    if not is_grey(pixels):
        advice = f"--maps {name}=FILE:CHANNEL takes one of them"
        notes.append(f"{quote(path)}: R, G and B differ; {name} is one channel, their mean was taken; {advice}")
    if pixels.dtype == np.float32:
        with np.errstate(invalid="ignore"):  # of infinities; a sum may leave float32
            return pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
    return ((2 * pixels.sum(axis=2, keepdims=True, dtype=np.uint32) + 3) // 6).astype(pixels.dtype)  # halves up


def _from_float(
    pixels: np.ndarray, name: str, path: ImageFile, notes: list[str]
) -> tuple[np.ndarray, tuple[float, float], float | None]:
    """uint16 codes of a float map, the values that 0 and 65535 stand for, and the log_scale of light above 1."""
    if name in LIGHT:
        pixels = _finite_light(pixels, name, path, notes)
    else:
        check_finite(path, pixels)
    low, high = float(pixels.min()), float(pixels.max())
    span, scale = (0.0, 1.0), None
    # x and y of signed normals lie around 0, of unsigned ones around 0.5 where a filter may dip just below 0
    if name == "normal" and (low < -0.01 or pixels[..., :2].mean(dtype=np.float64) < 0.25):
        span = (-1.0, 1.0)
    elif name == "displacement" and (low < 0 or high > 1 or 0 < high - low < SMALL_RANGE):
        span = (low, high)
        notes.append(f"{quote(path)}: displacement scaled from [{low:g}, {high:g}] to [0, 1]; value_range keeps it")
    elif name in LIGHT and high > 1 + ROUNDING:
        span, scale = (0.0, high), choose_log_scale(pixels, high)
        notes.append(f"{quote(path)}: {name} reaches {high:g} and is kept in codes of log2(1 + x / {scale:g}); "
                     "value_range and log_scale keep it")  # fmt: skip
    outside = int(((pixels < span[0]) | (pixels > span[1])).any(axis=2).sum())
    if outside:
        notes.append(f"{quote(path)}: {outside} texels of {name} lay outside {list(span)} and were clipped")
    if scale is not None:
        codes = [round_to_codes(from_units(rows.astype(np.float64), span, scale) * 65535, np.uint16)
                 for rows in bands_of(pixels)]  # fmt: skip
        return np.concatenate(codes), span, scale
    with np.errstate(over="ignore"):  # infinite is clipped as well
        scaled = (pixels - np.float32(span[0])) * np.float32(65535 / ((span[1] - span[0]) or 1))
        return round_to_codes(scaled, np.uint16), span, None


def _finite_light(pixels: np.ndarray, name: str, path: ImageFile, notes: list[str]) -> np.ndarray:
    """Light without what renderers leave where they fail: NaN becomes 0, infinity the largest number."""
    finite = np.isfinite(pixels)
    if finite.all():
        return pixels
    bad = int((~finite).any(axis=2).sum())
    notes.append(f"{quote(path)}: {bad} texels of {name} were NaN or infinite and became 0 or the largest number")
    return np.nan_to_num(pixels, nan=0, posinf=float(pixels.max(where=finite, initial=0)), neginf=0)


def _resize(codes: np.ndarray, width: int, height: int, kind: Kind) -> np.ndarray:
    """Bilinear, with the filter widened where it shrinks (no aliasing); normals come out with unit length, and light
    above 1 is filtered as light."""
    decode = decode_table(kind, codes.dtype)
    resized = np.empty((height, width, codes.shape[2]), np.float32)
    for channel in range(codes.shape[2]):  # one at a time: a float copy of the whole file could be large
        plane = codes[None, None, ..., channel]
        plane = torch.from_numpy(plane.astype(np.float32) if decode is None else decode[plane])
        plane = torch.nn.functional.interpolate(plane, (height, width), mode="bilinear", antialias=True)
        resized[..., channel] = plane[0, 0].numpy()
    return encode_level(resized, kind, codes.dtype)
