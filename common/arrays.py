"""Reads and writes .npy files."""

from __future__ import annotations

from collections.abc import Iterable
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


def write_array_parts(path: Path, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """Write a .npy file of float32 numbers atomically, from parts that follow one another in memory order."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    with atomic_write(path) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, np.float32))
