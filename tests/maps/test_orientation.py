"""EXIF's orientation of photographs, also of damaged ones."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from maps.orientation import TAG, exif_orientation, upright
from tests.support.paths import ROOT


def save_photograph(path, orientation, description="a" * 60):
    """A 5x3 picture. Returns: its pixels."""
    tags = PillowImage.Exif()
    tags[TAG], tags[0x010E] = orientation, description
    pixels = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)
    PillowImage.fromarray(pixels).save(path, exif=tags)
    return pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_turns_it_the_same_way(tmp_path, orientation):
    pixels = save_photograph(tmp_path / "a.png", orientation)
    assert exif_orientation(tmp_path / "a.png") == orientation
    with PillowImage.open(tmp_path / "a.png") as picture:
        assert (upright(pixels, orientation) == np.asarray(ImageOps.exif_transpose(picture))).all()


def test_damaged_tags_end_without_a_word(tmp_path):
    """Pillow would warn with the line of its code, on the terminal of the user."""
    save_photograph(tmp_path / "a.jpg", 6)
    content = (tmp_path / "a.jpg").read_bytes()
    start, paths = content.index(b"Exif"), []
    for place in range(6, 60, 2):
        damaged = bytearray(content)
        damaged[start + place] ^= 0xFF
        paths.append(tmp_path / f"{place}.jpg")
        paths[-1].write_bytes(damaged)
    code = "import sys; from pathlib import Path; from maps.orientation import exif_orientation; " \
           "print(*(exif_orientation(Path(name)) for name in sys.argv[1:]))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    assert set(map(int, done.stdout.split())) <= set(range(1, 9))
