"""Baselines: the mean image, the nearest view, and textures that are fitted in closed form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torchtyping import TensorType

from deferred.dataset.crops import to_values
from deferred.dataset.frames import Frame, FrameSet
from deferred.model.harmonics import spherical_harmonics
from deferred.util import surface_psnr
from metrics.pictures import display_pixels

Places = TensorType["n", 2]
Corners = TensorType["n", 4]

CG_STEPS = 60  # of conjugate gradients, at most
CG_TOLERANCE = 1e-4  # of the residual's norm, relative to the first one
RIDGE = 1e-3  # added to the diagonal of the normal equations: texels that no frame sees become 0


def mean_direction(frame: Frame) -> np.ndarray:
    """The direction of a frame, (3,); if it has one per pixel, their mean."""
    seen = frame.direction if frame.direction.shape[:2] == (1, 1) else frame.direction[frame.mask]
    mean = seen.reshape(-1, 3).mean(axis=0, dtype=np.float64)
    return mean / max(np.linalg.norm(mean), 1e-12)


def _scored(pairs: Iterator[tuple[np.ndarray, Frame]]) -> float:
    return surface_psnr(
        (display_pixels(image), display_pixels(to_values(f.image).numpy()), f.mask) for image, f in pairs
    )


def mean_image_db(train: FrameSet, held_out: FrameSet) -> float:
    """PSNR in dB of the training frames' mean on the surface of the held-out frames."""
    mean = sum(to_values(train.load(number).image).double().numpy() for number in train.ids) / len(train)
    return _scored((mean.astype(np.float32), held_out.load(number)) for number in held_out.ids)


def nearest_view_db(train: FrameSet, held_out: FrameSet) -> float:
    """PSNR in dB of the training frame with the nearest direction, on the surface of the held-out frames."""
    known = np.stack([mean_direction(train.load(number)) for number in train.ids])

    def pairs() -> Iterator[tuple[np.ndarray, Frame]]:
        for number in held_out.ids:
            frame = held_out.load(number)
            best = train.ids[int(np.argmax(known @ mean_direction(frame)))]
            yield to_values(train.load(best).image).numpy(), frame

    return _scored(pairs())


# --- closed form ---------------------------------------------------------------------------------------------------


class LinearTexture:
    """The texture, sampled bilinearly, with the smallest squared error over all training frames.

    Args:
        height, width: in texels.
        harmonics: a texel's colour is a sum of nine spherical harmonics of the view direction; else it is constant.
    """

    def __init__(self, train: FrameSet, height: int, width: int, harmonics: bool):
        self.channels = 9 if harmonics else 1
        self.height, self.width = height, width
        frames = [train.load(number) for number in train.ids]
        places = [self._design(frame) for frame in frames]
        index, weight = (torch.cat([place[i] for place in places]) for i in (0, 1))
        target = torch.cat([to_values(f.image)[torch.from_numpy(f.mask)] for f in frames])
        self.values = self._solve(_sparse(index, weight, self._columns), target)

    @property
    def _columns(self) -> int:
        return self.height * self.width * self.channels

    def _design(self, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
        """The k unknowns that each of a frame's N surface pixels depends on, and their weights: (N, k)."""
        uv = torch.from_numpy(frame.uv[frame.mask])
        texels, weights = bilinear_texels(uv, self.height, self.width)
        if self.channels == 1:
            return texels, weights
        direction = np.broadcast_to(frame.direction, (*frame.size, 3))[frame.mask]
        harmonics = spherical_harmonics(torch.from_numpy(direction.copy()))
        index = texels[..., None] * self.channels + torch.arange(self.channels)
        return index.flatten(1), (weights[..., None] * harmonics[:, None]).flatten(1)

    def _solve(self, design: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Conjugate gradients on the normal equations (Hestenes and Stiefel 1952): (columns, 3)."""
        back = design.t().coalesce()
        residual = back @ target
        values, step = torch.zeros_like(residual), residual.clone()
        square = first = residual.square().sum()
        for _ in range(CG_STEPS):
            image = back @ (design @ step) + RIDGE * step
            length = square / (step * image).sum()
            values += length * step
            residual -= length * image
            before, square = square, residual.square().sum()
            if square < CG_TOLERANCE**2 * first:
                break
            step = residual + square / before * step
        return values

    def db(self, held_out: FrameSet) -> float:
        """PSNR on the surface of the held-out frames."""

        def pairs() -> Iterator[tuple[np.ndarray, Frame]]:
            for number in held_out.ids:
                frame = held_out.load(number)
                image = np.zeros((*frame.size, 3), np.float32)
                image[frame.mask] = (_sparse(*self._design(frame), self._columns) @ self.values).numpy()
                yield image, frame

        return _scored(pairs())


def _sparse(index: torch.Tensor, weight: torch.Tensor, columns: int) -> torch.Tensor:
    """The (N, columns) matrix with `weight` (N, k) in the columns `index` (N, k) of each row."""
    rows = torch.arange(len(index)).repeat_interleave(index.shape[1])
    places = torch.stack([rows, index.flatten()])
    size = (len(index), columns)
    return torch.sparse_coo_tensor(places, weight.flatten(), size, check_invariants=False).coalesce()


def bilinear_texels(uv: Places, height: int, width: int) -> tuple[Corners, Corners]:
    """(N, 2) uv -> the 4 texels around each, as numbers y * width + x, and their weights, both (N, 4).

    The same sampling as LaplacianTexture's on one level.
    """
    place = uv * torch.tensor([width, height], dtype=uv.dtype) - 0.5
    corner = place.floor()
    share = place - corner
    texels, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            x = (corner[:, 0] + dx).clamp(0, width - 1).long()
            y = (corner[:, 1] + dy).clamp(0, height - 1).long()
            texels.append(y * width + x)
            weights.append((share[:, 0] if dx else 1 - share[:, 0]) * (share[:, 1] if dy else 1 - share[:, 1]))
    return torch.stack(texels, dim=1), torch.stack(weights, dim=1)
