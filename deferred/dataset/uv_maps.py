"""uv maps in files: 16-bit codes or floats, and what counts as no surface in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.arrays import read_array, write_array
from common.errors import UserError, brief, quote
from configs import MAX_PIXELS

UV_TYPES = ("auto", "uint16", "float32")
NO_SURFACE = 65535  # of uint16 maps; 0 to TOP are u or v from 0 to 1
TOP = 65534
UINT16_TEXELS = 4096  # of a texture's side up to which a code is 1/16 texel or less
UV_TOLERANCE = 1e-4  # by which uv may exceed 1, for rounding
CLOSE = 0.5 / TOP  # how far a background's uv may be from what it should be: half a code
SAMPLES = 128  # along a side of the pixels that `constant_uv` looks at first

Background = tuple[float, float]


def uv_type(wanted: str, texels: int) -> str:
    """The numbers of new uv maps, uint16 or float32. wanted: one of UV_TYPES; texels: the texture's longer side."""
    return ("uint16" if texels <= UINT16_TEXELS else "float32") if wanted == "auto" else wanted


def write_uv(path: Path, uv: np.ndarray, kind: str = "uint16") -> None:
    """Write a uv map atomically.

    Args:
        uv: (H, W, 2) in [0, 1]; NaN or negative where there is no surface.
        kind: uint16: codes 0 to 65534 for 0 to 1 and 65535 for no surface, half a code off at most (1/128 of a texel
            of 1024); float32: as it is.
    """
    if kind == "uint16":
        with np.errstate(invalid="ignore"):
            surface = (uv >= 0).all(axis=2, keepdims=True)  # NaN is not
            codes = np.where(surface, np.rint(uv.astype(np.float64).clip(0, 1) * TOP), NO_SURFACE)
        write_array(path, codes.astype(np.uint16))
    else:
        write_array(path, np.asarray(uv, np.float32))


def open_uv(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """The numbers of a uv map, (H, W, 2), mapped into memory and not read yet.

    Args:
        size: (height, width) that it had when the run began.
    Raises: UserError unless it is a uv map, and of `size`.
    """
    raw = read_array(path)
    shape, kind = raw.shape, raw.dtype
    if len(shape) != 3 or shape[2] != 2 or not 0 < shape[0] * shape[1] <= MAX_PIXELS:
        raise UserError(f"{quote(path)}: expected shape (H, W, 2) of at most {MAX_PIXELS} pixels, found {shape}; "
                        "the last axis is u, v")  # fmt: skip
    if kind.kind != "f" and (kind.kind, kind.itemsize) != ("u", 2):
        raise UserError(f"{quote(path)}: expected float16, float32 or float64 numbers in [0, 1] or uint16 codes "
                        f"(65535: no surface), found {kind}; write it again in one of them")  # fmt: skip
    if size is not None and shape[:2] != size:
        raise UserError(f"{quote(path)}: expected {size[1]}x{size[0]} pixels as when the run began, found "
                        f"{shape[1]}x{shape[0]}; begin a new run with the new frames")  # fmt: skip
    return raw


def decode_uv(raw: np.ndarray, background: Background | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a uv map or of a part of it as (H, W, 2) float32 in [0, 1], 0 off the surface, and the (H, W) mask.

    background: uv that is no surface either.
    """
    if raw.dtype.kind == "u":
        raw = np.ascontiguousarray(raw)
        mask = (raw[..., 0] != NO_SURFACE) & (raw[..., 1] != NO_SURFACE)
        uv = raw.astype(np.float32)
        uv /= np.float32(TOP)
    else:
        uv = np.array(raw, np.float32, order="C")
        with np.errstate(invalid="ignore"):
            mask = (uv[..., 0] >= 0) & (uv[..., 1] >= 0)  # NaN is not
    if background is not None:
        with np.errstate(invalid="ignore"):
            mask &= ~((np.abs(uv[..., 0] - background[0]) <= CLOSE) & (np.abs(uv[..., 1] - background[1]) <= CLOSE))
    blank(uv, mask)
    return np.minimum(uv, np.float32(1), out=uv), mask


def blank(uv: np.ndarray, mask: np.ndarray) -> None:
    """Set contiguous float32 uv to 0 outside of the mask, NaN too: u and v as one whole number, six times as quick."""
    uv.view(np.int64)[..., 0] *= mask


def check_uv(path: Path, raw: np.ndarray) -> None:
    """Raises: UserError for uv beyond 1."""
    if raw.dtype.kind == "u" or not np.fmax.reduce(raw, axis=None) > 1 + UV_TOLERANCE:  # NaN is passed over
        return
    with np.errstate(invalid="ignore"):
        most = np.where((raw >= 0).all(axis=2, keepdims=True), raw, 0).max()
    if most > 1 + UV_TOLERANCE:
        raise UserError(f"{quote(path)}: expected u and v in [0, 1], NaN or negative where there is no surface; found "
                        f"{most:g}; divide texels by the texture's size, or wrap repeats into [0, 1]")  # fmt: skip


def constant_uv(uv: np.ndarray, mask: np.ndarray) -> tuple[Background, float] | None:
    """The uv that most pixels of the surface have exactly, and their share of the frame; None if all are different.

    A surface that is seen from anywhere has another uv in every pixel. The commonest one is looked for in a grid of
    pixels, and then counted in all.
    """
    step = max(1, max(mask.shape) // SAMPLES)
    grid = np.ascontiguousarray(uv[::step, ::step][mask[::step, ::step]])
    if len(grid) < 2:
        return None
    values, counts = np.unique(grid.view(np.int64), return_counts=True)
    if counts.max() < 2:
        return None
    found = values[counts.argmax()].reshape(1).view(np.float32)
    same = (uv[..., 0] == found[0]) & (uv[..., 1] == found[1]) & mask
    return (float(found[0]), float(found[1])), float(same.mean())


def background_text(background: Background | None) -> str:
    """The --background_uv of a background that is known: (0.0, 0.0) -> '0,0'."""
    return "none" if background is None else f"{background[0]:.9g},{background[1]:.9g}"


def parse_background(text: str, flag: str = "--background_uv") -> Background | None:
    """'0,0' -> (0.0, 0.0), 'none' and 'auto' -> None. flag: what an error names. Raises: UserError."""
    if text in ("auto", "none"):
        return None
    try:
        u, v = (float(part) for part in text.split(","))
    except ValueError:
        u = v = -1.0
    if not (0 <= u <= 1 and 0 <= v <= 1):
        raise UserError(f'{flag}: expected auto, none, or u and v in [0, 1] as in "0,0", got {brief(text)}')
    return u, v
