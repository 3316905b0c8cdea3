"""The source maps that a viewer page holds for comparison, encoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from common.parallel import map_threads
from dataset import Material

WEBP_LIMIT = 16383  # texels; longest side that the format allows


@dataclass(frozen=True)
class SourceImages:
    """One LOD of the source maps."""

    lod: int
    # map name -> lossless WebP files of 8-bit codes: this LOD, and all coarser ones where _has_own_mips
    images: dict[str, list[bytes]]

    @property
    def n_bytes(self) -> int:
        return sum(len(image) for images in self.images.values() for image in images)


def encode_source(source: Material, longest_side: int | None, room: int) -> SourceImages | None:
    """The finest LOD that fits.

    Args:
        longest_side: limit in texels, however many bytes that takes; None: `room` is the limit.
        room: limit in bytes.
    Returns: None for a longest side of 0, or when no LOD fits.
    """
    limit = WEBP_LIMIT if longest_side is None else min(longest_side, WEBP_LIMIT)
    fitting = [lod for lod, size in enumerate(source.lod_sizes) if max(size) <= limit]
    if longest_side is not None:
        return _encode_lod(source, fitting[0]) if fitting else None
    found = None
    for lod in reversed(fitting):  # from the coarsest: the time spent on an LOD that is too large stays small
        finer = _encode_lod(source, lod)
        if finer.n_bytes > room:
            break
        found = finer
    return found


def _encode_lod(source: Material, lod: int) -> SourceImages:
    lods = range(lod, source.num_lods if _has_own_mips(source) else lod + 1)
    files = map_threads(lambda name: [_encode(source.file_codes(each, name)) for each in lods], source.present)
    return SourceImages(lod, dict(zip(source.present, files)))


def _has_own_mips(source: Material) -> bool:
    """Whether LODs are no plain averages, which the page makes of the finest LOD: but of texels weighted by opacity, of
    an opacity that keeps its coverage, of light that is stored as a logarithm."""
    return "opacity" in source.present or any(entry.log_scale is not None for entry in source.record.maps)


def _encode(codes: np.ndarray) -> bytes:
    """(H, W, C) uint8 or uint16 as a lossless WebP file of 8-bit codes, halves rounded up."""
    top = np.iinfo(codes.dtype).max
    small = codes if top == 255 else np.floor(np.arange(top + 1) * 255 / top + 0.5).astype(np.uint8)[codes]
    stream = io.BytesIO()
    picture = PillowImage.fromarray(small[..., 0] if small.shape[2] == 1 else small)
    picture.save(stream, "WEBP", lossless=True, method=4)
    return stream.getvalue()
