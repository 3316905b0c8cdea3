"""Reads cameras from a transforms.json of the NeRF, instant-ngp or nerfstudio layout.

Sources: https://docs.nerf.studio/quickstart/data_conventions.html, and instant-ngp's scripts/colmap2nerf.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import Say, UserError, brief, quote
from common.files import open_regular, parse_json
from configs import MOST_PIXELS
from deferred.photos.lenses import Lens, Photo
from maps.images import image_size

SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".JPEG", ".PNG", ".webp", ".tif", ".tiff")  # of a file_path without one
PINHOLE_NAMES = ("PINHOLE", "SIMPLE_PINHOLE")
RADIAL_NAMES = ("OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV")
FISHEYE_NAMES = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
OTHER_NAMES = ("EQUIRECTANGULAR",)
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
SPLITS = {"train_filenames": "train", "val_filenames": "held out", "test_filenames": "held out"}
ORTHONORMAL = 1e-3  # by which a rotation written with few digits may be off
MAX_BYTES = 1 << 28
LARGEST = 1e9  # of a camera's numbers, in pixels or radians; more are a broken file


def read_transforms(path: Path, images: Path | None, say: Say) -> list[Photo]:
    """The photographs of a file, in its order; those without a file have the path where it should be.

    images: where file_path begins; None: the folder of the file. Raises: UserError.
    """
    flag = f"--transforms {quote(path)}"
    content = read_json(path, flag)
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        found = "an empty list" if frames == [] else brief(frames, 40)
        raise UserError(f'{flag}: expected "frames", a list of pictures with transform_matrix, found {found}; write it '
                        "with ns-process-data, colmap2nerf.py or the like")  # fmt: skip
    folder = path.parent if images is None else images
    photos = [_photo(frame, index, content, folder, path, flag) for index, frame in enumerate(frames)]
    if "applied_transform" in content or "applied_scale" in content:
        say(f"note: {quote(path)} has applied_transform: its cameras are not where COLMAP had them, and the mesh must "
            f"be where the cameras are; --mesh_transform {quote(path)} moves a mesh of COLMAP's there")  # fmt: skip
    return photos


def read_json(path: Path, flag: str) -> dict[str, Any]:
    """An object of a JSON file. Raises: UserError that begins with `flag`."""
    try:
        with open_regular(path) as stream:
            payload = stream.read(MAX_BYTES + 1)
        content = parse_json(payload) if len(payload) <= MAX_BYTES else None
    except OSError as error:
        raise UserError(f"{flag}: expected a JSON file, but it cannot be opened ({error.strerror}); check the path"
                        ) from error  # fmt: skip
    except ValueError as error:
        raise UserError(f"{flag}: expected JSON, found something else ({error}); write it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{flag}: expected an object of JSON, found {brief(content, 40)}; write it again")
    return content


def _photo(frame: Any, index: int, content: Mapping[str, Any], folder: Path, path: Path, flag: str) -> Photo:
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{flag}: frame {index}: expected file_path, found {brief(name, 40)}; write the file again")
    where = f"{flag}: frame {index} ({brief(name, 60)})"
    rotation, position = _pose(frame.get("transform_matrix"), where)
    file = _existing(folder, name)
    lens = _lens({**content, **frame}, file, where)
    mask = frame.get("mask_path")
    mask = None if not isinstance(mask, str) else folder / mask.replace("\\", "/")
    split = ""
    for key, part in SPLITS.items():
        if isinstance(content.get(key), list):
            split = part if name in content[key] else split
    shown = file.name if file.suffix and not name.endswith(file.suffix) else Path(name.replace("\\", "/")).name
    shown = (Path(name.replace("\\", "/")).parent / shown).as_posix()
    return Photo(shown.removeprefix("./"), file, lens, rotation, position, mask, split)


def _existing(folder: Path, name: str) -> Path:
    """The file of a file_path, with a usual suffix if it has none; where it should be if there is none."""
    place = folder / name.replace("\\", "/")
    if place.is_file() or not place.name:
        return place
    for suffix in SUFFIXES:
        if place.with_name(place.name + suffix).is_file():
            return place.with_name(place.name + suffix)
    return place


def _pose(matrix: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and position, with the camera's axes right, down and forward. Raises: UserError.

    In the file they are right, up and backward (OpenGL's).
    """
    try:
        pose = np.array(matrix, np.float64)
    except (ValueError, TypeError, OverflowError):
        pose = np.empty(0)
    if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all():
        raise UserError(f"{where}: expected transform_matrix, 4 by 4 numbers from camera to world, found "
                        f"{brief(matrix, 60)}; write the file again")  # fmt: skip
    rotation = pose[:3, :3]
    left, sizes, right = np.linalg.svd(rotation)
    if np.abs(sizes - 1).max() > ORTHONORMAL or np.linalg.det(rotation) < 0:
        raise UserError(f"{where}: expected a rotation in transform_matrix, found one that "
                        f"{'mirrors' if np.linalg.det(rotation) < 0 else 'scales by ' + format(sizes[0], '.4g')}; "
                        "scale positions alone, and write the file again")  # fmt: skip
    return (left @ right) * (1, -1, -1), pose[:3, 3]


def _lens(entry: Mapping[str, Any], file: Path, where: str) -> Lens:
    """The camera model of a frame. Raises: UserError."""

    def number(key: str) -> float | None:
        value = entry.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
            raise UserError(f"{where}: expected a number for {key}, found {brief(value, 40)}; write the file again")
        return float(value)

    size = [number(key) for key in ("w", "h")]
    if None in size:
        if not file.is_file():  # the caller says which pictures are missing
            return Lens("PINHOLE", 1, 1, (1.0, 1.0, 0.5, 0.5))
        size = list(image_size(file, MOST_PIXELS))  # plan_picture has the user's limit
    if min(size) < 1 or any(value != int(value) for value in size):
        raise UserError(f"{where}: expected w and h in whole pixels, found {size[0]:g} and {size[1]:g}; write the file "
                        "again")  # fmt: skip
    width, height = int(size[0]), int(size[1])
    focal_x, focal_y = number("fl_x"), number("fl_y")
    for key, extent in (("camera_angle_x", width), ("camera_angle_y", height)):
        angle = number(key)
        if angle is not None and 0 < angle < math.pi:
            if key == "camera_angle_x" and focal_x is None:
                focal_x = 0.5 * extent / math.tan(0.5 * angle)
            elif key == "camera_angle_y" and focal_y is None:
                focal_y = 0.5 * extent / math.tan(0.5 * angle)
    focal_x = focal_y if focal_x is None else focal_x
    focal_y = focal_x if focal_y is None else focal_y
    centre = [0.5 * extent if number(key) is None else number(key) for key, extent in (("cx", width), ("cy", height))]
    model = entry.get("camera_model")
    model = ("OPENCV_FISHEYE" if entry.get("is_fisheye") is True else "OPENCV") if model is None else model
    if focal_x is None and model not in OTHER_NAMES:
        raise UserError(f"{where}: expected fl_x or camera_angle_x, found neither; write the file again")
    terms = {key: number(key) or 0.0 for key in DISTORTION}
    name, params = _model(model, terms, where)
    if name == "EQUIRECTANGULAR":
        lens = Lens(name, width, height, (float(width), float(height)))
    else:
        lens = Lens(name, width, height, (focal_x, focal_y, *centre, *params))
    lens.check(where)
    return lens


def _model(model: Any, terms: Mapping[str, float], where: str) -> tuple[str, tuple[float, ...]]:
    """COLMAP's name of a camera model and the parameters after focal lengths and centre. Raises: UserError."""

    def only(*keys: str) -> tuple[float, ...]:
        others = [key for key, value in terms.items() if value and key not in keys]
        if others:
            raise UserError(f"{where}: expected {', '.join(keys) or 'no distortion'} for camera_model {model}, found "
                            f"{others[0]} = {terms[others[0]]:g}; undistort the photographs, or use another model"
                            )  # fmt: skip
        return tuple(terms[key] for key in keys)

    if model in OTHER_NAMES:
        return model, only()
    if model in FISHEYE_NAMES:
        return "OPENCV_FISHEYE", only("k1", "k2", "k3", "k4")
    if model not in PINHOLE_NAMES + RADIAL_NAMES:
        names = ", ".join(PINHOLE_NAMES + RADIAL_NAMES + FISHEYE_NAMES + OTHER_NAMES)
        raise UserError(f"{where}: expected a camera_model of {names}, found {brief(model, 40)}; undistort the "
                        "photographs")  # fmt: skip
    if model in PINHOLE_NAMES or not any(terms.values()):
        return "PINHOLE", only()
    if model == "FULL_OPENCV":
        return model, only("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    if terms["k3"]:  # in OpenCV's order: k4 and beyond divide
        return "FULL_OPENCV", (*only("k1", "k2", "p1", "p2", "k3"), 0.0, 0.0, 0.0)
    return "OPENCV", only("k1", "k2", "p1", "p2")
