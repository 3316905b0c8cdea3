"""Reads the cameras and poses of a COLMAP model, text or binary, through pycolmap."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from common.errors import UserError, quote, what_is_wrong
from common.files import open_regular
from deferred.photos.lenses import Lens, Photo, import_pycolmap

MODEL_FILES = ("cameras", "images", "points3D")
# Bytes that an entry of a binary file has at least; source: colmap/scene/reconstruction_io_binary.cc.
LEAST_BYTES = {"cameras": 24, "images": 73, "points3D": 51}


def read_colmap(folder: Path, images: Path) -> list[Photo]:
    """The photographs that have a pose, in the order of their names. Raises: UserError."""
    flag = f"--colmap {quote(folder)}"
    pycolmap = import_pycolmap(flag)
    folder = find_model(folder)
    flag = f"--colmap {quote(folder)}"
    _check_lengths(folder, flag)
    try:
        model = pycolmap.Reconstruction(folder)
        images_of = sorted((model.image(number) for number in model.images), key=lambda image: image.name)
        poses = [(image, image.cam_from_world().matrix(), model.cameras[image.camera_id])
                 for image in images_of if image.has_pose]  # fmt: skip
    except Exception as error:  # its readers raise anything for a damaged file
        raise UserError(
            f"{flag}: pycolmap cannot read this model ({what_is_wrong(error)}); write it again, or copy all its files"
        ) from error
    if not poses:
        raise UserError(f"{flag}: expected photographs with a pose, found none; reconstruct again (colmap mapper), and "
                        "give the folder that it wrote")  # fmt: skip
    photos, lenses = [], {}
    for image, pose, camera in poses:
        if image.camera_id not in lenses:
            lens = Lens(camera.model.name, camera.width, camera.height, tuple(float(v) for v in camera.params))
            lens.check(f"{flag}: camera {image.camera_id}")
            lenses[image.camera_id] = lens
        rotation = np.asarray(pose[:, :3]).T
        if not (np.isfinite(pose).all() and np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-6):
            raise UserError(f"{flag}: expected a rotation and a finite position, found others for {quote(image.name)}; "
                            "write the model again")  # fmt: skip
        photos.append(Photo(image.name, images / image.name, lenses[image.camera_id], rotation, -rotation @ pose[:, 3]))
    return photos


def find_model(folder: Path) -> Path:
    """The folder itself, or the only one in it that holds a model: COLMAP writes sparse/0, sparse/1 and so on.

    Raises: UserError.
    """
    if _has_model(folder):
        return folder
    if not folder.is_dir():
        raise UserError(f"--colmap {quote(folder)}: no such folder; give the one with cameras.bin, images.bin and "
                        "points3D.bin, or the same as .txt")  # fmt: skip
    below = [inner for inner in sorted(folder.iterdir()) if _has_model(inner)]
    if len(below) == 1:
        return below[0]
    if below:
        raise UserError(f"--colmap {quote(folder)}: expected one model, found {len(below)} "
                        f"({', '.join(inner.name for inner in below)[:80]}): parts that COLMAP could not join; give "
                        f"one of them, such as {quote(below[0])}")  # fmt: skip
    raise UserError(f"--colmap {quote(folder)}: expected cameras, images and points3D as .bin or .txt, found none; "
                    "give the folder that colmap mapper wrote, often sparse/0")  # fmt: skip


def _has_model(folder: Path) -> bool:
    return any(all((folder / (name + suffix)).is_file() for name in MODEL_FILES) for suffix in (".bin", ".txt"))


def _check_lengths(folder: Path, flag: str) -> None:
    """Binary files begin with the count of their entries: one that is cut off would be read as far as it goes, or hang.

    Raises: UserError.
    """
    for name, least in LEAST_BYTES.items():
        path = folder / f"{name}.bin"
        if not path.is_file():
            continue
        with open_regular(path) as stream:
            head = stream.read(8)
        count = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        if not 0 <= count <= (path.stat().st_size - 8) // least:
            raise UserError(f"{flag}: expected a whole {path.name}, found one of {path.stat().st_size} bytes for "
                            f"{count} entries; copy it again")  # fmt: skip
