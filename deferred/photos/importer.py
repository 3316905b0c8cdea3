"""Photographs, their cameras and a mesh -> frames, uv maps and directions for training (docs/deferred.md)."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.cores import usable_cores
from common.errors import Say, UserError, counted, quote, shell_quote
from common.events import progress_bar, readable_bytes
from common.files import make_folder, write_json
from common.memory import free_memory
from deferred.dataset.frames import FOLDERS, HELD_OUT_SHARE, list_ids
from deferred.dataset.uv_maps import uv_type
from deferred.meshes import Mesh, load_placed_mesh
from deferred.photos.colmap import read_colmap
from deferred.photos.lenses import Photo
from deferred.photos.pictures import Picture, find_masks, plan_picture
from deferred.photos.transforms import read_json, read_transforms
from deferred.photos.views import Caster, Job, Seen, Workers
from deferred.util import format_ids, id_name
from maps.images import IMAGE_SUFFIXES

RECORD = "views.json"
PIXEL_BYTES = {"uint16": 4, "float32": 8, "per_pixel": 12, "frame": 2}  # of files; of a PNG file about
WORKING_BYTES = 60  # of memory for each pixel of the photograph at work
WORKER_BYTES = 300 << 20  # of memory of a process besides
JOB_PIXELS = 10_000_000  # that are worth a process of their own
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Source:
    """Where photographs come from, and how they become views; see PrepareOptions for the fields."""

    colmap: str
    transforms: str
    images: str
    masks: str
    mesh: str
    mesh_transform: str
    max_size: int
    scale: float
    max_pixels: int
    backfaces: str
    per_pixel: bool
    uv_type: str
    caster: str
    jobs: int
    overwrite: bool

    @property
    def uv_kind(self) -> str:
        """The numbers of uv maps: how many texels the texture will have is the business of the training."""
        return uv_type(self.uv_type, 0)

    @property
    def flag(self) -> str:
        return f"--colmap {quote(self.colmap)}" if self.colmap else f"--transforms {quote(self.transforms)}"


def import_photographs(source: Source, folder: Path, say: Say = print) -> None:
    """Write every photograph that sees the mesh as a view into `folder`; what an interrupted call wrote stays.

    Raises: UserError.
    """
    photos = find_photographs(source, say)
    mesh = load_placed_mesh(Path(source.mesh), source.mesh_transform)
    pictures = [plan_picture(photo, source.max_size, source.scale, source.max_pixels) for photo in photos]
    _tell_about(pictures, say)
    with _workers(source, mesh, pictures) as workers:
        seen = _all(workers.look(photos), len(photos), "looking")
        pictures = _those_that_see(source, mesh, pictures, seen, say)
        ordered, held_out = in_order(pictures)
        record = _record(source, mesh, ordered, held_out)
        _make_room(folder, record, source)
        write_json(folder / RECORD, record)
        jobs = _jobs(folder, ordered, source)
        left = [job for job in jobs if not all(path.is_file() for path in (job.frame, job.uv, job.extrinsics))]
        if len(left) < len(jobs):
            rest = ", the others follow" if left else ""
            say(f"{len(jobs) - len(left)} of {len(jobs)} views are there already{rest}")
        written = _all(workers.write(left), len(left), "casting rays")
    _conclude(folder, ordered, held_out, left, written, source, say)
    again = f" --mesh_transform {shell_quote(source.mesh_transform)}" if source.mesh_transform else ""
    up = ",".join(f"{value:g}" for value in record["up"])
    say(f"other views of it, with the cameras' mean up: prepare.py --mesh {shell_quote(source.mesh)}{again} "
        f"--texture none --path orbit --up={up} --out FOLDER")  # fmt: skip


def find_photographs(source: Source, say: Say) -> list[Photo]:
    """The photographs that have a camera and a file, in the order of the model. Raises: UserError."""
    images = Path(source.images) if source.images else None
    if images is not None and not images.is_dir():
        raise UserError(f"--images {quote(images)}: no such folder; give the one with the photographs")
    if source.colmap:
        photos = read_colmap(Path(source.colmap), images)
    else:
        photos = read_transforms(Path(source.transforms), images, say)
    missing = [photo for photo in photos if not photo.path.is_file()]
    if len(missing) == len(photos):
        raise UserError(f"{source.flag}: expected {quote(missing[0].path)} and {len(photos) - 1} more photographs, "
                        "found none of them; give --images the folder that their names are relative to")  # fmt: skip
    if missing:
        say(f"note: {counted(len(missing), 'photograph')} of {len(photos)} have no file and are left out: "
            f"{_names(missing)}")  # fmt: skip
    photos = [photo for photo in photos if photo.path.is_file()]
    if source.colmap:
        known = {photo.path.resolve() for photo in photos}
        others = [path for path in sorted(images.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES
                  and path.is_file() and path.resolve() not in known]  # fmt: skip
        if others:
            shown = ", ".join(quote(path.relative_to(images)) for path in others[:SHOWN])
            say(f"note: {counted(len(others), 'picture')} of {quote(images)} have no pose in the model and are left "
                f"out: {shown}{', ...' if len(others) > SHOWN else ''}")  # fmt: skip
    if source.masks:
        return find_masks(Path(source.masks), photos)
    absent = [photo for photo in photos if photo.mask is not None and not photo.mask.is_file()]
    if absent:
        raise UserError(f"{source.flag}: expected the mask {quote(absent[0].mask)} that it names, found none "
                        f"({len(absent)} are missing); give --masks a folder of them")  # fmt: skip
    return photos


def in_order(pictures: Sequence[Picture]) -> tuple[list[Picture], int]:
    """The pictures in the order of their numbers, and how many at the end are held out.

    Training holds out the last seventh unless told otherwise. Photographs were taken one beside the other: of a stretch
    that is left out nothing is known, so every seventh goes to the end. A split of the model's own wins.
    """
    given = [picture.photo.split == "held out" for picture in pictures]
    held = given if any(given) and not all(given) else _every_seventh(len(pictures))
    order = sorted(range(len(pictures)), key=lambda index: held[index])
    return [pictures[index] for index in order], sum(held)


def _every_seventh(count: int) -> list[bool]:
    some = count // HELD_OUT_SHARE
    chosen = {math.floor((index + 0.5) * count / some) for index in range(some)}
    return [index in chosen for index in range(count)]


# --- before the work -----------------------------------------------------------------------------------------------


def _names(photos: Sequence[Photo]) -> str:
    return ", ".join(quote(photo.name) for photo in photos[:SHOWN]) + (", ..." if len(photos) > SHOWN else "")


def _tell_about(pictures: Sequence[Picture], say: Say) -> None:
    turned = [picture.photo for picture in pictures if picture.orientation != 1]
    if turned:
        say(f"note: {counted(len(turned), 'photograph')} turned by their EXIF orientation, as their cameras are: "
            f"{_names(turned)}")  # fmt: skip
    left = [picture.photo for picture in pictures if picture.left_out != 1]
    if left:
        say(f"note: {counted(len(left), 'photograph')} with an EXIF orientation taken as stored, which is what their "
            f"cameras are for: {_names(left)}")  # fmt: skip
    other = [picture for picture in pictures if picture.upright != picture.photo.lens.size]
    if other:
        lens, (width, height) = other[0].photo.lens, other[0].upright
        say(f"note: {counted(len(other), 'photograph')} of another size than their cameras, such as {width}x{height} "
            f"for {lens.width}x{lens.height}; the cameras are scaled")  # fmt: skip


def _workers(source: Source, mesh: Mesh, pictures: Sequence[Picture]) -> Workers:
    pixels = [picture.stored[0] * picture.stored[1] for picture in pictures]
    jobs = source.jobs
    if not jobs:
        memory = WORKER_BYTES + WORKING_BYTES * max(pixels) + 400 * len(mesh.triangles)
        free = free_memory()
        fit = usable_cores() if free is None else int(0.7 * free / memory)
        jobs = max(1, min(usable_cores(), fit, 1 + sum(pixels) // JOB_PIXELS))
    return Workers(Caster(mesh, source.caster, source.backfaces), min(jobs, len(pictures)))


def _all(results: Any, count: int, title: str) -> list[Seen]:
    found = []
    with progress_bar(count, 0) as bar:
        bar.set_description(title)
        try:
            for result in results:
                found.append(result)
                bar.update(1)
        except BrokenProcessPool as error:
            raise UserError("--jobs: a process ended before its time, most likely for want of memory; give fewer, such "
                            "as --jobs 1, or a --max_size; the same command goes on where this one ended"
                            ) from error  # fmt: skip
    return found


def _those_that_see(source: Source, mesh: Mesh, pictures: list[Picture], seen: Sequence[Seen], say: Say
                    ) -> list[Picture]:  # fmt: skip
    """The pictures whose rays find surface. Raises: UserError if there are none."""
    flag, kept = f"--mesh {quote(source.mesh)}", [picture for picture, one in zip(pictures, seen) if one.kept]
    hits, front = (sum(getattr(one, name) for one in seen) for name in ("hits", "front"))
    if not hits:
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        places = np.array([picture.photo.position for picture in pictures])
        box, cameras = (" to ".join("(" + ", ".join(f"{v:.4g}" for v in corner) + ")" for corner in corners)
                        for corners in ((low, high), (places.min(axis=0), places.max(axis=0))))  # fmt: skip
        raise UserError(f"{flag}: expected a mesh that photographs see, found one that 0 of {len(pictures)} see: it is "
                        f"at {box}, the cameras at {cameras}; if it was moved or scaled since, give --mesh_transform "
                        "the matrix that brings it back")  # fmt: skip
    if not kept:
        raise UserError(f"{flag}: expected its outside before the cameras, found that all {len(pictures)} photographs "
                        "see it from behind; if its triangles are wound the other way, give --backfaces keep"
                        )  # fmt: skip
    if front < 0.5 * hits and source.backfaces == "skip":
        say(f"note: {1 - front / hits:.0%} of what the cameras see are backs of triangles, which count as no surface; "
            "if the mesh is wound the other way, give --backfaces keep")  # fmt: skip
    blind = [picture.photo for picture, one in zip(pictures, seen) if not one.kept]
    if blind:
        say(f"note: {len(kept)} of {len(pictures)} photographs see the mesh; left out: {_names(blind)}")
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    within = sum(((picture.photo.position > low) & (picture.photo.position < high)).all() for picture in kept)
    if within and not source.per_pixel:
        say(f"note: {counted(int(within), 'camera')} in the box around the mesh, where one direction for a view says "
            "little; --per_pixel writes one for each pixel")  # fmt: skip
    return kept


def _record(source: Source, mesh: Mesh, ordered: Sequence[Picture], held_out: int) -> dict[str, Any]:
    """What stands in views.json: the photograph and camera of each view, and a digest of all that views depend on."""
    views = []
    for number, picture in enumerate(ordered):
        photo = picture.photo
        pose = np.concatenate([photo.rotation, photo.position[:, None]], axis=1)
        views.append({
            "id": id_name(number), "image": photo.name, "mask": None if photo.mask is None else photo.mask.name,
            "split": "held out" if number >= len(ordered) - held_out else "train", "size": list(picture.size),
            "orientation": picture.orientation, "camera": photo.lens.as_json(), "camera_to_world": pose.tolist(),
        })  # fmt: skip
    digest = hashlib.sha256()
    for array in (mesh.vertices, mesh.uv, mesh.triangles):
        digest.update(np.ascontiguousarray(array))
    files = [_version(path) for picture in ordered for path in (picture.photo.path, picture.photo.mask)]
    digest.update(json.dumps([views, files, source.per_pixel, source.backfaces, source.uv_kind]).encode())
    up = -np.mean([picture.photo.rotation[:, 1] for picture in ordered], axis=0)
    return {"made_by": "python -m deferred.prepare", "source": source.colmap or source.transforms, "mesh": source.mesh,
            "axes": "camera_to_world: right, down and forward of the camera", "digest": digest.hexdigest(),
            "up": (up / max(np.linalg.norm(up), 1e-12)).round(4).tolist(), "views": views}  # fmt: skip


def _version(path: Path | None) -> list[int]:
    """What differs once a file has been written again: its size and time; of another folder's file too."""
    return [] if path is None else [path.stat().st_size, path.stat().st_mtime_ns]


def _make_room(folder: Path, record: dict[str, Any], source: Source) -> None:
    """Make the folders. Raises: UserError for a folder with other views, unless they may go, or for a full disk."""
    there = {kind: list_ids(folder, kind) for kind in FOLDERS}
    earlier = read_json(folder / RECORD, quote(folder / RECORD)) if (folder / RECORD).is_file() else {}
    same = earlier.get("digest") == record["digest"]
    if any(there.values()) and not same and not source.overwrite:
        raise UserError(f"--out {quote(folder)}: expected an empty folder, or one that this import began, found "
                        f"{len(there['uv'])} views of others, or of photographs or masks that were written again "
                        "since; give another, or --overwrite")  # fmt: skip
    old = [] if same else [folder / kind / (id_name(number) + suffix) for kind, suffix in FOLDERS.items()
                           for number in there[kind]]  # fmt: skip
    if not same:
        _check_room(folder, record, source, sum(path.stat().st_size for path in old))
        (folder / RECORD).unlink(missing_ok=True)
    for path in old:
        path.unlink()
    for kind in FOLDERS:
        make_folder(folder / kind)


def _check_room(folder: Path, record: dict[str, Any], source: Source, freed: int) -> None:
    """Raises: UserError for a disk that is too full, even without the `freed` bytes of earlier views."""
    each = PIXEL_BYTES[source.uv_kind] + PIXEL_BYTES["frame"] + (PIXEL_BYTES["per_pixel"] if source.per_pixel else 0)
    sizes = [view["size"] for view in record["views"]]
    needed = each * sum(width * height for width, height in sizes)
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free + freed
    if needed > free:
        largest = max(max(size) for size in sizes)
        fits = int(largest * math.sqrt(0.8 * free / needed))
        raise UserError(f"--out {quote(folder)}: expected about {readable_bytes(needed)} of room for {len(sizes)} "
                        f"views, found {readable_bytes(free)}; give a folder on another disk, or --max_size {fits}"
                        )  # fmt: skip


def _jobs(folder: Path, ordered: Sequence[Picture], source: Source) -> list[Job]:
    return [Job(picture, *(folder / kind / (id_name(number) + suffix) for kind, suffix in FOLDERS.items()),
                source.uv_kind, source.per_pixel) for number, picture in enumerate(ordered)]  # fmt: skip


# --- after it ------------------------------------------------------------------------------------------------------


def _conclude(folder: Path, ordered: Sequence[Picture], held_out: int, left: Sequence[Job], written: Sequence[Seen],
              source: Source, say: Say) -> None:  # fmt: skip
    bare = [job.picture.photo for job, seen in zip(left, written) if not seen.kept]
    if bare:
        say(f"note: {counted(len(bare), 'view')} without any surface, which masks or alpha took away: {_names(bare)}")
    sizes = sorted({picture.size for picture in ordered})
    shown = " and ".join(f"{width}x{height}" for width, height in sizes[:2]) + (" and others" if len(sizes) > 2 else "")
    rays, kept = (sum(getattr(seen, name) for seen in written) for name in ("rays", "kept"))
    share = f", {kept / rays:.0%} of the pixels on the object" if rays else ""
    say(f"{counted(len(ordered), 'view')} of {shown} in {quote(folder)}{share}; {RECORD} says which photograph each is")
    first = len(ordered) - held_out
    if held_out == len(ordered) // HELD_OUT_SHARE:
        if held_out:
            say(f"{format_ids(range(first, len(ordered)))}, every seventh photograph, are what training holds out")
    else:
        say(f"the split of {source.flag}: --train 0-{first - 1} --val {first}-{len(ordered) - 1}")
