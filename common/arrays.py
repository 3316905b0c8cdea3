"""Reads and writes .npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.errors import UserError, quote, what_is_wrong
from common.files import atomic_write


def read_array(path: Path) -> np.ndarray:
    """A .npy file of real numbers, never unpickled, mapped into memory: no header can promise more than the file holds.

    Raises: UserError.
    """
    if not path.is_file():
        raise UserError(f"{quote(path)}: expected a .npy file, found none; check the path")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises anything from ValueError to SyntaxError or MemoryError
        raise UserError(f"{quote(path)}: expected a .npy file of numbers, found another or a damaged one "
                        f"({what_is_wrong(error)}); write it again with numpy.save") from error  # fmt: skip
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        found = getattr(array, "dtype", type(array).__name__)
        raise UserError(f"{quote(path)}: expected real numbers, found {found}; write it again with numpy.save")
    return array


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file atomically."""
    with atomic_write(path) as stream:
        np.save(stream, array, allow_pickle=False)
