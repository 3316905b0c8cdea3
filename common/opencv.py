"""OpenCV, imported where it is needed: importing it takes a tenth of a second."""

from __future__ import annotations

from typing import Any

from common.errors import UserError


def import_opencv(purpose: str) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"{purpose} needs OpenCV, which is not installed; pip install opencv-python-headless"
        ) from error
    return cv2
