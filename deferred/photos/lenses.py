"""Camera models: the ray through each pixel of a photograph, distortion included, which pycolmap undoes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from deferred.meshes import ADVICE

PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")
BACK_TOLERANCE = 0.01  # pixels by which a ray, projected again, may miss its pixel
STEP = 1e-6  # radians, of the differences that say whether the model is folded over


@dataclass(frozen=True)
class Lens:
    """A camera model of COLMAP with its parameters. The centre of the first pixel is at (0.5, 0.5).

    width, height: of the picture that the parameters are for, in pixels.
    Source: https://colmap.github.io/cameras.html.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    def check(self, where: str) -> None:
        """Raises: UserError that begins with `where` unless model, size and parameters make sense."""
        camera = None if self.model in PINHOLES else colmap_camera(self, where)
        count = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}.get(self.model)
        wrong = (
            self.width < 1 or self.height < 1 or not np.isfinite(self.params).all()
            or (len(self.params) != count or min(self.params[: count - 2]) <= 0 if camera is None
                else not camera.verify_params())
            or (camera is not None and min((self.params[k] for k in camera.focal_length_idxs()), default=1) <= 0)
        )  # fmt: skip
        if wrong:
            numbers = ", ".join(f"{value:g}" for value in self.params)
            raise UserError(f"{where}: expected a camera with a size, a positive focal length and the parameters of "
                            f"its model, found {self.model} {self.width}x{self.height} with {numbers or 'none'}; write "
                            "the model again")  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        return {"model": self.model, "width": self.width, "height": self.height, "params": list(self.params)}


@dataclass(frozen=True)
class Photo:
    """A photograph and its camera.

    name: as the model calls it. path: its file. rotation: (3, 3), from camera to world; the camera's axes are right,
    down and forward. position: (3,), in the world. mask: file of its mask, None if the model names none.
    split: "train", or "held out"; "" if the model does not say.
    """

    name: str
    path: Path
    lens: Lens
    rotation: np.ndarray
    position: np.ndarray
    mask: Path | None = None
    split: str = ""


def import_pycolmap(where: str) -> Any:
    """Raises: UserError that begins with `where`."""
    try:
        import pycolmap
    except ImportError as error:
        raise UserError(f"{where} needs pycolmap, which is not installed; {ADVICE}") from error
    return pycolmap


def colmap_camera(lens: Lens, where: str = "a camera with distortion") -> Any:
    """The lens as a pycolmap.Camera. Raises: UserError that begins with `where`."""
    pycolmap = import_pycolmap(f"{where}: camera model {lens.model}")
    known = getattr(pycolmap.CameraModelId, "__members__", {})
    if known and (lens.model not in known or lens.model == "INVALID"):
        names = ", ".join(name for name in known if name != "INVALID")
        raise UserError(f"{where}: expected a camera model of COLMAP ({names}), found {lens.model}; write the model "
                        "again, or update pycolmap")  # fmt: skip
    return pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))


def pixel_rays(lens: Lens, places: np.ndarray) -> np.ndarray:
    """(N, 3) unit rays, right, down and forward of the camera, through (N, 2) places x, y in pixels; NaN where the
    model has none: beyond its reach, or where it is folded over itself."""
    if lens.model in PINHOLES:
        focal, centre = np.array(lens.params[:-2]), np.array(lens.params[-2:])
        rays = np.concatenate([(places - centre) / focal, np.ones((len(places), 1))], axis=1)
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)
    camera = colmap_camera(lens)
    if hasattr(camera, "cam_ray_from_img"):
        rays = np.array(camera.cam_ray_from_img(places), np.float64)
    else:  # before 4.0 there were only points at distance 1
        rays = np.concatenate([camera.cam_from_img(places), np.ones((len(places), 1))], axis=1)
    if lens.model == "EQUIRECTANGULAR":
        return rays
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    valid = np.isfinite(rays).all(axis=1) & (length[:, 0] > 0)
    rays[valid] /= length[valid]
    helper = np.eye(3)[np.abs(np.nan_to_num(rays[:, :2])).argmin(axis=1)]
    first = np.cross(rays, np.cross(helper, rays))  # at right angles to the ray, as is `second`
    first /= np.linalg.norm(first, axis=1, keepdims=True).clip(1e-12, None)
    second = np.cross(rays, first)
    back, right, down = (
        np.asarray(camera.img_from_cam(np.nan_to_num(vectors)))
        for vectors in (rays, rays + STEP * first, rays + STEP * second)
    )
    with np.errstate(invalid="ignore"):
        valid &= np.abs(back - places).max(axis=1) < BACK_TOLERANCE
        (a, b), (c, d) = (right - back).T, (down - back).T
        valid &= a * d - b * c > 0  # a lens that is folded over shows the world in a mirror
    rays[~valid] = np.nan
    return rays


@functools.lru_cache(maxsize=1)  # most photographs come from one camera, and 12 megapixels have 144 MB of rays
def picture_rays(lens: Lens, width: int, height: int) -> np.ndarray:
    """(height, width, 3) float32: `pixel_rays` through the pixel centres of the lens' picture scaled to this size."""
    rays = np.empty((height, width, 3), np.float32)
    x = (np.arange(width) + 0.5) * (lens.width / width)
    step = max(1, (1 << 18) // width)
    for top in range(0, height, step):
        y = (np.arange(top, min(top + step, height)) + 0.5) * (lens.height / height)
        places = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=2)
        rays[top : top + step] = pixel_rays(lens, places.reshape(-1, 2)).reshape(-1, width, 3)
    rays.setflags(write=False)
    return rays
