"""Folders of PBR materials: those of ambientCG, Poly Haven and MatSynth, and any that the compressor reads.

File names, packed channels (ARM, ORM) and the direction of normals are recognised as for the compressor's --data_dir.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError, counted, quote
from maps.folder import find_maps
from maps.images import IMAGE_SUFFIXES

NEEDED = ("diffuse", "roughness", "normal")
PLAIN_NAMES = ("textures", "maps")  # of folders inside a material's: they do not name it
FEW = 5  # materials that one line names


class MaterialFolder(NamedTuple):
    path: Path
    by_hand: str  # the compressor's --maps, or nothing
    metallic: bool  # whether there is such a map


def find_materials(folder: Path) -> list[MaterialFolder]:
    """Folders with the NEEDED maps: `folder` itself, else all below it. Raises: UserError when there is none."""
    if not folder.is_dir():
        raise UserError(f"{quote(folder)}: expected a folder of PBR materials, found none; check --data-dir")
    complete, problems = [], []
    for path in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        names = [entry.name for entry in path.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
        if not names:
            continue
        by_hand = _of_matsynth(names)
        try:
            sources = find_maps(path, by_hand=by_hand).sources
        except UserError as error:
            problems.append(str(error))
            continue
        missing = [name for name in NEEDED if name not in sources]
        if missing:
            problems.append(f"{quote(path)}: no {', '.join(missing)} map")
        else:
            complete.append(MaterialFolder(path, by_hand, "metallic" in sources))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not complete:
        raise UserError(f"{quote(folder)}: expected folders with albedo, roughness and normal maps, found none")
    dielectric = [quote(found.path.name) for found in complete if not found.metallic]
    if dielectric:
        more = ", ..." if len(dielectric) > FEW else ""
        print(f"metallic taken as 0 where there is no map: {counted(len(dielectric), 'material')} "
              f"({', '.join(dielectric[:FEW])}{more})", file=sys.stderr)  # fmt: skip
    return complete


def _of_matsynth(names: Sequence[str]) -> str:
    """--maps for a folder that has basecolor beside diffuse, which is basecolor without that of metals."""
    stems = {Path(name).stem.lower(): name for name in names}
    return f"diffuse={stems['basecolor']}" if {"basecolor", "diffuse"} <= set(stems) else ""


def label_of(path: Path, root: Path) -> str:
    """A material's name: its folders' below `root`, without such as `textures`."""
    parts = list(path.relative_to(root).parts)
    while parts and parts[-1].lower() in PLAIN_NAMES:
        parts.pop()
    return "_".join(parts) or root.resolve().name


def held_out(labels: Iterable[str], ratio: float, seed: int) -> set[str]:
    """About `ratio` of the labels, of two or more at least one. Adding labels moves none that was on a side for good:
    each is drawn by its own name."""
    drawn = {label: int(hashlib.sha256(f"{seed} {label}".encode()).hexdigest()[:12], 16) / 16**12 for label in labels}
    chosen = {label for label, number in drawn.items() if number < ratio}
    if not chosen and ratio > 0 and len(drawn) > 1:
        chosen = {min(drawn, key=drawn.__getitem__)}
    return chosen
