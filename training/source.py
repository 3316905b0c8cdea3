"""The maps that a run was trained on, found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import UserError, quote
from dataset import Material, load_material
from maps.extras import Extras
from maps.gltf.container import is_model
from maps.record import MaterialRecord
from training.run_folder import RUN_CONFIG


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
    folder = given or trained_on(export)
    if folder is None:
        return None, "The source is not known; export.py --viewer --data_dir names it"
    try:
        source = load_source(export, material, folder, max_pixels)
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


def load_source(export: Path, material: MaterialRecord, folder: Path, max_pixels: int) -> Material:
    """The maps in a folder or model, read as the run of an export read its own. Args: see `find_source`.

    Raises: UserError or OSError when they cannot be read.
    """
    config, diffuse = run_config(export), material.map("diffuse")
    linear = diffuse is not None and diffuse.color_space != diffuse.file_color_space
    by_hand, size, one = (str(config.get(field) or "") for field in ("maps", "size", "material"))
    one = one or (material.origin.material if material.origin else "")
    extras = Extras.among([entry.name for entry in material.maps])
    return load_material(_model_of(folder), linear, max_pixels, by_hand, size, extras, one)


def find_model(export: Path, material: MaterialRecord, given: Path | None) -> tuple[Path | None, str]:
    """The glTF model that a material comes from; arguments as those of find_source.

    Returns: (path, ""), or (None, reason why there is none); the reason is empty for a material of a folder of maps.
    """
    if material.origin is None:
        return None, ""
    folder = given or trained_on(export)
    if folder is None:
        return None, "the model is not known; export.py --viewer --data_dir names it"
    path = _model_of(folder)
    return (path, "") if is_model(path) else (None, f"{quote(path)} is no model")


def run_config(export: Path) -> dict[str, Any]:
    """The configuration of the run that a checkpoint folder belongs to; empty without one."""
    try:
        config = json.loads((export.resolve().parent.parent / RUN_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _model_of(folder: Path) -> Path:
    """The model that a path leads into: batches name a group chair.glb/Wood; a path to anything else as it is."""
    return next((above for above in folder.parents if is_model(above)), folder)


def trained_on(export: Path) -> Path | None:
    """The data_dir of the run that a checkpoint folder belongs to; None where there is no such folder or model."""
    folder = run_config(export).get("data_dir")
    try:
        return Path(folder) if folder and Path(folder).exists() else None
    except (OSError, ValueError, TypeError):
        return None
