"""How the rows and columns of a photograph lie in its file: EXIF's orientation, which TIFF has as a tag of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maps.pixels import open_with_pillow

TAG = 0x0112
# Orientation -> whether to mirror left to right, then quarter turns to the left; source: CIPA DC-008, 4.6.4 A, and
# TIFF 6.0, section 8. 1 is upright.
TURNS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}
SIDEWAYS = (5, 6, 7, 8)  # rows are columns


def exif_orientation(path: Path) -> int:
    """1 to 8; 1 where the file says nothing, or is TIFF, whose readers obey it."""
    try:
        with open_with_pillow(path, ("JPEG", "PNG", "WEBP", "MPO", "AVIF")) as picture:
            found = picture.getexif().get(TAG, 1)
    except Exception:  # other formats, and damaged EXIF data, which raise anything
        return 1
    return found if found in TURNS else 1


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """A view of (H, W, ...) with row 0 at the top and column 0 at the left. orientation: 1 to 8; others count as 1."""
    mirrored, quarters = TURNS.get(orientation, (False, 0))
    return np.rot90(array[:, ::-1] if mirrored else array, quarters)
