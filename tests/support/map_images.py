"""What the tests of materials share: images of maps in a folder, their one-line errors, and a slow area average."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
from PIL import Image as PillowImage

from common.errors import UserError

ARM = ("occlusion", "roughness", "metallic")


def randoms(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def write(path, pixels):
    """An 8-bit image, or a 16-bit PNG."""
    if pixels.dtype == np.uint16:
        Path(path).write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    else:
        PillowImage.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(path)


def write_exr(path, pixels):
    planes = np.moveaxis(pixels.astype(np.float32), 2, 0).copy()
    OpenEXR.File({"type": OpenEXR.scanlineimage}, dict(zip("RGB" if len(planes) == 3 else "Y", planes))).write(
        str(path)
    )


def failure(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and "found" in message and ";" in message
    return message


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Wood"
    path.mkdir()
    return path


def reference_shrink(values, height, width):
    """Area average by brute force: cut every texel into equal pieces, then average whole blocks of pieces."""
    for axis, size in ((0, height), (1, width)):
        pieces = np.repeat(values, math.lcm(values.shape[axis], size) // values.shape[axis], axis=axis)
        blocks = np.split(pieces, size, axis=axis)
        values = np.stack([block.mean(axis=axis) for block in blocks], axis=axis)
    return values
