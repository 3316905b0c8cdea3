"""The source maps of a material that a viewer page carries, to compare with: found, checked, made small."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from common.errors import UserError, quote
from dataset import Material, load_material
from maps.record import MaterialRecord

RUN_CONFIG = "config.json"
LONGEST_SIDE = 512  # of what is embedded unless asked for; a page is to be a page, not an archive
DEPTHS = (8, 7, 6)  # bits a channel: rounding to 6 costs at most 2 codes of 255, a lossy image format far more
HOPELESS = 2.5  # times the room: rounding does not save that much
WEBP_LIMIT = 16383  # texels, of the format


@dataclass(frozen=True)
class SourceImages:
    """One LOD of the source, lossless: map name -> a WebP file whose values are codes of `bits` bits."""

    lod: int
    bits: int
    images: dict[str, bytes]

    @property
    def n_bytes(self) -> int:
        return sum(map(len, self.images.values()))


def find_source(export: Path, material: MaterialRecord, given: Path | None) -> tuple[Material | None, str]:
    """(source, "") of an exported material, or (None, why there is none).

    Args:
        export: the folder of the files; of a run's checkpoint the run's config.json says what it was trained on.
        material: the manifest's.
        given: a folder that the user names; None: look into the configuration.
    Raises: UserError when `given` cannot be read or holds another material.
    """
    folder = given or _trained_on(export)
    if folder is None:
        return None, "The source is not known; export.py --viewer --data_dir names it"
    diffuse = material.map("diffuse")
    linear = diffuse is not None and diffuse.color_space != diffuse.file_color_space
    try:
        source = load_material(folder, linear_color=linear)
    except (UserError, OSError) as error:
        if given is not None:
            raise
        return None, f"The source cannot be read ({error!s:.200})"
    if source.sha256 != material.sha256:
        if given is not None:
            raise UserError(
                f"--data_dir {quote(given)}: expected the maps that {material.name:.80} was trained on, found "
                "other texels; give that folder, or leave --data_dir out"
            )
        return None, f"The maps in {quote(folder)} are no longer those that it was trained on"
    return source, ""


def _trained_on(export: Path) -> Path | None:
    """The material folder in the configuration of the run that a checkpoint folder belongs to."""
    path = export.resolve().parent.parent / RUN_CONFIG
    try:
        folder = json.loads(path.read_text(encoding="utf-8"))["data_dir"]
        return Path(folder) if folder and Path(folder).is_dir() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def encode_source(source: Material, longest_side: int | None, room: int) -> SourceImages | None:
    """The finest LOD that fits.

    Args:
        longest_side: the largest there may be, taken whatever it costs; None: LONGEST_SIDE, and what fits into `room`.
        room: bytes.
    Returns: None for a longest side of 0, or when not even a few texels fit.
    """
    limit = LONGEST_SIDE if longest_side is None else min(longest_side, WEBP_LIMIT)
    fitting = [lod for lod, size in enumerate(source.lod_sizes) if max(size) <= limit]
    for lod in fitting:
        for bits in DEPTHS:
            images = {name: _encode(source.file_codes(lod, name), bits) for name in source.present}
            found = SourceImages(lod, bits, images)
            if longest_side is not None or found.n_bytes <= room:
                return found
            if found.n_bytes > HOPELESS * room:
                break
    return None


def _encode(codes: np.ndarray, bits: int) -> bytes:
    """(H, W, C) uint8 or uint16 as a lossless WebP file of codes of `bits` bits, halves rounded up."""
    top = np.iinfo(codes.dtype).max
    table = np.floor(np.arange(top + 1) * (2**bits - 1) / top + 0.5).astype(np.uint8)
    small = table[codes]
    stream = io.BytesIO()
    picture = PillowImage.fromarray(small[..., 0] if small.shape[2] == 1 else small)
    picture.save(stream, "WEBP", lossless=True, method=4)
    return stream.getvalue()
