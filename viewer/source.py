"""The source maps that a viewer page holds for comparison: finds, checks and encodes them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from common.errors import UserError, quote
from common.parallel import map_threads
from dataset import Material, load_material
from maps.extras import Extras
from maps.gltf.container import is_model
from maps.record import MaterialRecord

RUN_CONFIG = "config.json"
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


def find_source(
    export: Path, material: MaterialRecord, given: Path | None, max_pixels: int
) -> tuple[Material | None, str]:
    """The source maps that a material was trained on.

    Args:
        export: folder of the exported files.
        material: from the manifest; its hash has to be that of the source.
        given: folder of the source maps, or their model; None: the data_dir in the config.json of the run that `export`
            belongs to.
        max_pixels: largest map to read.
    Returns: (source, ""), or (None, reason why there is none).
    Raises: UserError when `given` cannot be read or holds another material.
    """
    config = _run_config(export)
    folder = given or _trained_on(config)
    if folder is None:
        return None, "The source is not known; export.py --viewer --data_dir names it"
    diffuse = material.map("diffuse")
    linear = diffuse is not None and diffuse.color_space != diffuse.file_color_space
    try:
        by_hand, size, one = (str(config.get(field) or "") for field in ("maps", "size", "material"))  # as the run did
        one = one or (material.origin.material if material.origin else "")
        extras = Extras.among([entry.name for entry in material.maps])
        source = load_material(_model_of(folder), linear, max_pixels, by_hand, size, extras, one)
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


def find_model(export: Path, material: MaterialRecord, given: Path | None) -> tuple[Path | None, str]:
    """The glTF model that a material comes from; arguments as those of find_source.

    Returns: (path, ""), or (None, reason why there is none); the reason is empty for a material of a folder of maps.
    """
    if material.origin is None:
        return None, ""
    folder = given or _trained_on(_run_config(export))
    if folder is None:
        return None, "the model is not known; export.py --viewer --data_dir names it"
    path = _model_of(folder)
    return (path, "") if is_model(path) else (None, f"{quote(path)} is no model")


def _run_config(export: Path) -> dict[str, Any]:
    """The configuration of the run that a checkpoint folder belongs to; empty without one."""
    try:
        config = json.loads((export.resolve().parent.parent / RUN_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _model_of(folder: Path) -> Path:
    """The model that a path leads into: batches name a group chair.glb/Wood; a path to anything else as it is."""
    return next((above for above in folder.parents if is_model(above)), folder)


def _trained_on(config: dict[str, Any]) -> Path | None:
    """The data_dir of a run; None where there is no such folder or model."""
    folder = config.get("data_dir")
    try:
        return Path(folder) if folder and Path(folder).exists() else None
    except (OSError, ValueError, TypeError):
        return None


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
