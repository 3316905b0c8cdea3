"""metrics.py: SSIM against its formula and torchmetrics, FLIP against its package, whatever the tiles."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch

from maps.channels import map_slice
from metrics import flip, tiles
from metrics import scores as metrics
from tests.support.image_pairs import (
    ALL,
    SIZES,
    pair,
    shipped_float64,
    without_lpips,  # noqa: F401  # autouse
)

# --- SSIM


def ssim_float64(a, b):
    """Wang et al. 2004, equation 13, texel by texel with an 11 x 11 Gaussian of sigma 1.5 and mirrored borders."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    height, width = a.shape
    a, b = (np.pad(image, 5, mode="reflect") for image in (a, b))
    total = 0.0
    for y, x in itertools.product(range(height), range(width)):
        p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
        var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
        covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
        luminance = (2 * mean_p * mean_q + 0.01**2) / (mean_p**2 + mean_q**2 + 0.01**2)
        total += luminance * (2 * covariance + 0.03**2) / (var_p + var_q + 0.03**2)
    return total / (height * width)


@pytest.mark.parametrize("size", [(11, 11), (13, 17), (29, 11)], ids=str)
def test_ssim_is_the_published_formula(size):
    decoded, source = pair(*size)
    got = metrics.evaluate_lod(decoded, source, ALL, with_flip=False)["ssim"]
    shipped, original = shipped_float64(decoded), source.numpy().astype(np.float64)
    want = [ssim_float64(shipped[..., c], original[..., c]) for c in range(11)]
    per_map = [np.mean(want[map_slice(name)]) for name in ALL]
    assert [got[name] for name in ALL] == pytest.approx(per_map, abs=2e-5)  # worst seen: 1e-6
    assert got["all"] == pytest.approx(np.mean(per_map), abs=2e-5)


def torchmetrics_ssim(decoded, source):
    """SSIM of each channel of the whole image, float64: the field's definition."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    images = [image.double().permute(2, 0, 1)[:, None] for image in (decoded, source)]
    return structural_similarity_index_measure(*images, data_range=1.0, reduction="none").tolist()


@pytest.mark.parametrize("rows", [1, 4, 16, 1000])
def test_ssim_is_torchmetrics_whatever_the_tiles(monkeypatch, rows):
    decoded, source = (image.clamp(0, 1) for image in pair(39, 25))
    monkeypatch.setattr(tiles, "TILE_VALUES", 25 * 11 * rows)
    assert metrics.ssim_per_channel(decoded, source) == pytest.approx(torchmetrics_ssim(decoded, source), abs=1e-6)


@pytest.mark.parametrize("size", [(11, 11), (12, 71), (131, 17)], ids=str)
def test_ssim_of_flat_and_of_saturated_images_is_torchmetrics(size):
    """Where variances are lost in the rounding of float32: constants, one code of noise, black and white."""
    generator = torch.Generator().manual_seed(1)
    levels = torch.tensor([0.0, 1 / 255, 0.5, 254 / 255, 1.0])
    source = levels.expand(*size, 5).contiguous()
    decoded = (source + torch.randint(-1, 2, (*size, 5), generator=generator) / 255).clamp(0, 1)
    for images in ((source, source), (decoded, source), (decoded, 1 - source), (source, source.flip(2))):
        got = metrics.ssim_per_channel(*images)
        assert got == pytest.approx(torchmetrics_ssim(*images), abs=5e-5)


# --- FLIP


def package_flip(test, reference):
    """NVIDIA's map of errors, (H, W), of two images (H, W, 3)."""
    evaluate = pytest.importorskip("flip_evaluator").evaluate
    errors, _, _ = evaluate(reference, test, "LDR", inputsRGB=True, applyMagma=False, computeMeanError=False)
    return errors.reshape(test.shape[:2])


def colour_pair(height, width, noise=0.05):
    decoded, source = pair(height, width, noise)
    return [np.ascontiguousarray(image[..., :3]) for image in (metrics.round_to_8_bit(decoded), source)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_flip_is_the_packages_own(size, monkeypatch):
    """A square root makes rounding count where nothing has edges: of one texel, package and float64 differ by 5e-5."""
    close = 1e-4 if size == (1, 1) else 1e-6
    test, reference = colour_pair(*size)
    want = package_flip(test, reference).mean(dtype=np.float64)
    got = metrics.evaluate_lod(*pair(*size), ALL, with_ssim=False)["flip"]["diffuse"]
    assert got == pytest.approx(want, abs=close) and got > 0
    monkeypatch.setattr(flip, "TILE_VALUES", size[1] * 3 * 100)
    assert flip.flip(torch.tensor(test), torch.tensor(reference)) == pytest.approx(want, abs=close)


def extremes(kind):
    """Two images that differ as much as colours, or edges, can: where FLIP's curve bends."""
    image = np.zeros((31, 26, 3), np.float32)
    other = image.copy()
    if kind == "green and blue":
        image[..., 1], other[..., 2] = 1, 1
    elif kind == "black and white":
        other[:] = 1
    elif kind == "chequers":
        image[::2, ::2], other[1::3, 1::4] = 1, 1
    else:  # codes around the bends of sRGB and CIELAB
        image[:] = np.arange(31 * 26 * 3).reshape(image.shape) % 16 / np.float32(255)
        other[:] = image[::-1, ::-1]
    return image, other


@pytest.mark.parametrize("kind", ["green and blue", "black and white", "chequers", "dark codes"])
def test_flip_of_every_texel_is_the_packages_own(kind):
    image, other = extremes(kind)
    got = flip._difference(flip._see(other), flip._see(image))
    want = package_flip(image, other)
    assert np.abs(got - want).max() < 2e-5 and want.max() > 0.01
    assert flip.flip(image, image) == 0


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("size", [(45, 20), (23, 1), (1, 23)], ids=str)
def test_flip_does_not_depend_on_the_tiles(monkeypatch, rows, size):
    decoded, source = colour_pair(*size, noise=0.5)
    whole = flip.flip(decoded, source)
    monkeypatch.setattr(flip, "TILE_VALUES", size[1] * 3 * rows)
    assert flip.flip(decoded, source) == pytest.approx(whole, abs=1e-7)


def test_flip_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    assert metrics.evaluate_lod(*pair(16, 16), ["diffuse"])["flip"]["diffuse"] > 0
