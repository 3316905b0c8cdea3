"""Casts the rays of photographs at a mesh and writes frames, uv maps and directions, in several processes.

PyTorch stays out of this module: every process would import it.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from common.arrays import write_array
from common.files import write_bytes
from deferred.dataset.uv_maps import write_uv
from deferred.meshes import Mesh
from deferred.photos.lenses import Photo, picture_rays, pixel_rays
from deferred.photos.pictures import Picture, read_mask, read_picture
from deferred.raycast import BAND, MeshGeometry
from maps.images import encode_png

BACKFACES = ("skip", "keep")
LOOK = 96  # rays along the longer side of a photograph that say whether it sees the mesh


@dataclass(frozen=True)
class Caster:
    """What is cast at, and how. mesh: where its cameras are. caster: of CASTERS. backfaces: of BACKFACES."""

    mesh: Mesh
    caster: str = "auto"
    backfaces: str = "skip"


@dataclass(frozen=True)
class Seen:
    """Of the rays of a photograph: how many there are, hit the mesh, hit it from its front; and, of those that count as
    surface, how many a mask has not taken away."""

    rays: int
    hits: int
    front: int
    kept: int


@dataclass(frozen=True)
class Job:
    """A view to write: its picture, the files of its frame, uv map and directions, and what numbers the uv map has."""

    picture: Picture
    frame: Path
    uv: Path
    extrinsics: Path
    uv_kind: str
    per_pixel: bool


class Views:
    """A mesh in the memory of this process, to cast rays at."""

    def __init__(self, given: Caster):
        self.geometry, self.backfaces = MeshGeometry(given.mesh, given.caster), given.backfaces

    def look(self, photo: Photo) -> Seen:
        """What a coarse grid of rays of a photograph sees."""
        lens = photo.lens
        step = max(lens.width, lens.height) / LOOK
        x, y = (np.linspace(0, size, max(1, round(size / step)) + 1) for size in (lens.width, lens.height))
        places = np.stack(np.meshgrid(0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])), axis=2).reshape(-1, 2)
        return self._cast(photo, pixel_rays(lens, places))[2]

    def _cast(self, photo: Photo, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, Seen]:
        """uv (N, 2) and points (N, 3), NaN where there is no surface, of (N, 3) rays of the camera."""
        mesh = self.geometry.mesh
        world = rays.astype(np.float64) @ photo.rotation.T
        hits = self.geometry.cast(photo.position, world)
        hit = hits.triangles >= 0
        corners = mesh.vertices[mesh.triangles[hits.triangles[hit]]]
        outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        front = np.einsum("nc,nc->n", outward, world[hit]) < 0
        counts = hit.copy()
        if self.backfaces == "skip":
            counts[hit] = front
        uv, points = np.full((len(rays), 2), np.nan), np.full((len(rays), 3), np.nan)
        uv[counts] = self.geometry.blended(mesh.uv, hits, counts).clip(0, 1)
        points[counts] = photo.position + hits.distance[counts, None] * world[counts]
        return uv, points, Seen(len(rays), int(hit.sum()), int(front.sum()), int(counts.sum()))

    def uv_map(self, photo: Photo, size: tuple[int, int], per_pixel: bool) -> tuple[np.ndarray, np.ndarray, Seen]:
        """uv (H, W, 2) float32, NaN off the surface, and unit vectors to the camera: (H, W, 3) float32, NaN off the
        surface, for each pixel, else (3,) from the middle of the mesh. size: (width, height)."""
        width, height = size
        rays = picture_rays(photo.lens, width, height).reshape(-1, 3)
        uv = np.empty((len(rays), 2), np.float32)
        direction = np.empty((len(rays), 3), np.float32) if per_pixel else self.direction(photo)
        counts = np.zeros(4, np.int64)
        for start in range(0, len(rays), BAND):
            part = slice(start, start + BAND)
            uv[part], points, seen = self._cast(photo, rays[part])
            counts += (seen.rays, seen.hits, seen.front, seen.kept)
            if per_pixel:
                to_camera = photo.position - points
                direction[part] = to_camera / np.linalg.norm(to_camera, axis=1, keepdims=True)
        if per_pixel:
            direction = direction.reshape(height, width, 3)
        return uv.reshape(height, width, 2), direction, Seen(*counts.tolist())

    def direction(self, photo: Photo) -> np.ndarray:
        """(3,) float32: from the middle of the mesh to the camera; backwards for a camera that stands in it."""
        to_camera = photo.position - self.geometry.centre
        length = np.linalg.norm(to_camera)
        return (to_camera / length if length > 0 else -photo.rotation[:, 2]).astype(np.float32)

    def write(self, job: Job) -> Seen:
        """Write a view, its directions last: where they are, the view is whole. Raises: UserError."""
        photo = job.picture.photo
        pixels, keep = read_picture(job.picture)
        uv, direction, seen = self.uv_map(photo, job.picture.size, job.per_pixel)
        for mask in (keep, None if photo.mask is None else read_mask(photo.mask, job.picture)):
            if mask is not None:
                uv[~mask] = np.nan
        surface = np.isfinite(uv[..., 0])
        if job.per_pixel:
            direction[~surface] = np.nan
        write_bytes(job.frame, encode_png(np.where(surface[..., None], pixels, pixels.dtype.type(0))))
        write_uv(job.uv, uv, job.uv_kind)
        write_array(job.extrinsics, direction)
        return Seen(seen.rays, seen.hits, seen.front, int(surface.sum()))


# --- processes -----------------------------------------------------------------------------------------------------

_views: Views | None = None  # of a worker process
_at_work = threading.Lock()  # held while a view is written


def _start(given: Caster) -> None:
    global _views
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller too, who lets views at work be finished
    threading.Thread(target=_end_with_caller, daemon=True).start()
    _views = Views(given)


def _end_with_caller() -> None:
    """A caller who is killed can tell its workers nothing: they would wait for work for ever, with all their memory."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    with _at_work:
        os._exit(1)


def _in_worker(method: str, item: Photo | Job) -> Seen:
    with _at_work:
        return getattr(_views, method)(item)


class Workers:
    """Processes that each have the mesh in memory; with one job the work is done in the caller's own."""

    def __init__(self, given: Caster, jobs: int):
        self.jobs = jobs
        if jobs == 1:
            self._views = Views(given)
        else:  # spawned: a fork would copy the locks of PyTorch's threads
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(jobs, context, _start, (given,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self.jobs > 1:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def look(self, photos: Sequence[Photo]) -> Iterator[Seen]:
        return self._run("look", photos)

    def write(self, views: Sequence[Job]) -> Iterator[Seen]:
        return self._run("write", views)

    def _run(self, method: str, items: Sequence[Photo | Job]) -> Iterator[Seen]:
        function: Callable = getattr(self._views, method) if self.jobs == 1 else partial(_in_worker, method)
        return map(function, items) if self.jobs == 1 else self._pool.map(function, items)
