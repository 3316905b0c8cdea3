"""metrics.py: PSNR and angles against their definitions, what is missing is None, tables and pictures."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from maps.channels import MAPS, map_slice
from metrics import flip, pictures, table, tiles
from metrics import scores as metrics
from tests.support.image_pairs import (
    ALL,
    SIZES,
    pair,
    psnr_float64,
    shipped_float64,
    without_lpips,  # noqa: F401  # autouse
)
from tests.support.runs import ROOT

# --- PSNR


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_psnr_is_the_definition(size):
    decoded, source = pair(*size)
    psnr = metrics.evaluate_lod(decoded, source, ALL, with_ssim=False, with_flip=False)["psnr"]
    assert list(psnr) == ["all", *ALL]
    tolerance = 1e-4  # dB; float32 values: 1.4e-5 seen where one texel is one code off
    assert psnr["all"] == pytest.approx(psnr_float64(decoded, source), abs=tolerance)
    for name in ALL:
        want = psnr_float64(decoded[..., map_slice(name)], source[..., map_slice(name)])
        assert psnr[name] == pytest.approx(want, abs=tolerance), name


def test_psnr_all_is_over_channels_not_over_maps():
    source = torch.zeros(4, 4, 11)
    decoded = source.clone()
    decoded[..., map_slice("roughness")] = 51 / 255
    psnr = metrics.evaluate_lod(decoded, source, ["diffuse", "roughness"])["psnr"]
    assert psnr["roughness"] == pytest.approx(-10 * math.log10(0.04))
    assert psnr["all"] == pytest.approx(-10 * math.log10(0.04 / 4))  # 1 of 4 channels
    assert psnr["diffuse"] == metrics.MAX_PSNR_DB


def test_psnr_does_not_depend_on_the_tiles(monkeypatch):
    decoded, source = pair(50, 31)
    whole = metrics.evaluate_lod(decoded, source, ALL, with_ssim=False, with_flip=False)
    monkeypatch.setattr(tiles, "TILE_VALUES", 31 * 11 * 7)  # 7 rows; the last tile has 1
    tiled = metrics.evaluate_lod(decoded, source, ALL, with_ssim=False, with_flip=False)
    assert tiled["psnr"] == pytest.approx(whole["psnr"], rel=1e-12)
    assert tiled["normal_degrees"] == pytest.approx(whole["normal_degrees"], rel=1e-12)


def test_decoded_is_rounded_to_8_bits_and_the_source_is_not():
    source = torch.full((3, 2, 11), 1000.25 / 65535)  # a 16-bit value between two 8-bit ones
    code = math.floor(1000.25 / 65535 * 255 + 0.5)
    psnr = metrics.evaluate_lod(source.clone(), source, ["metallic"])["psnr"]
    assert psnr["metallic"] == pytest.approx(-20 * math.log10(abs(code / 255 - 1000.25 / 65535)), abs=1e-4)


def test_rounding_at_halves_ends_and_nan():
    values = torch.tensor([[[0.5 / 255], [1.49 / 255], [-3.0], [7.0], [math.nan], [math.inf], [-math.inf]]])
    assert (metrics.round_to_8_bit(values).flatten() * 255).tolist() == [1, 1, 0, 255, 0, 255, 0]
    codes = torch.arange(256) / 255
    assert torch.equal(metrics.round_to_8_bit(codes), codes)  # 8-bit values are hit exactly
    assert metrics.round_to_8_bit(codes) is not codes


def test_a_source_that_is_not_changed_stays_so():
    decoded, source = pair(12, 13)
    before = decoded.clone(), source.clone()
    metrics.evaluate_lod(decoded, source, ALL)
    pictures.strip(decoded[..., 3:6], source[..., 3:6])
    assert torch.equal(decoded, before[0]) and torch.equal(source, before[1])


def test_identical_images():
    _, source = pair(16, 12)
    scores = metrics.evaluate_lod(source + 0.4 / 255, source, ALL)
    assert set(scores["psnr"].values()) == {metrics.MAX_PSNR_DB}
    assert list(scores["ssim"].values()) == pytest.approx([1.0] * 8, abs=1e-6)
    assert scores["flip"] == {"diffuse": 0.0}
    assert scores["normal_degrees"] == pytest.approx(0, abs=1e-6)


# --- codes and bands


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(11, 12), (50, 31), (1, 7)], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_codes_by_bands_score_as_their_values_as_a_whole(monkeypatch, depth, size, threads):
    random = np.random.default_rng(2)
    top = np.iinfo(depth).max
    source = {name: random.integers(0, top + 1, (*size, count), depth) for name, count in MAPS.items()}
    decoded = {name: random.integers(0, 256, (*size, count), np.uint8) for name, count in MAPS.items()}
    planes = [np.concatenate([images[name] / scale for name in ALL], axis=2)
              for images, scale in ((decoded, 255), (source, top))]  # fmt: skip
    whole = metrics.evaluate_lod(*(torch.from_numpy(image).float() for image in planes), ALL)
    torch.set_num_threads(threads)
    monkeypatch.setattr(tiles, "TILE_VALUES", size[1] * 7)
    monkeypatch.setattr(flip, "TILE_VALUES", size[1] * 3 * 20)
    banded = metrics.evaluate_maps(decoded, source)
    for metric, tolerance in (("psnr", 1e-6), ("ssim", 1e-6), ("flip", 1e-6), ("lpips", 0)):
        assert banded[metric] == pytest.approx(whole[metric], abs=tolerance, nan_ok=False), metric
    assert banded["normal_degrees"] == pytest.approx(whole["normal_degrees"], abs=1e-6)
    parts = [(planes[0][..., map_slice(name)] - planes[1][..., map_slice(name)]) ** 2 for name in ALL]
    assert banded["psnr"]["all"] == pytest.approx(-10 * np.log10(np.concatenate(parts, axis=2).mean()), abs=1e-4)


def test_a_score_does_not_depend_on_the_threads(monkeypatch):
    decoded, source = pair(60, 40)
    monkeypatch.setattr(tiles, "TILE_VALUES", 40 * 8)
    scores = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        scores.append(metrics.evaluate_lod(decoded, source, ALL))
    assert scores[0] == scores[1] == scores[2]  # to the bit: tiles are added up in order


def test_psnr_imports_nothing_that_is_slow():
    script = (
        "import sys, torch; from metrics import scores as metrics; image = torch.rand(40, 40, 11)\n"
        "off = dict.fromkeys(('with_ssim', 'with_flip', 'with_lpips'), False)\n"
        "metrics.evaluate_lod(image, image, ['diffuse', 'normal'], **off)\n"
        "print(sorted({'torchvision', 'torchmetrics', 'cv2', 'flip_evaluator'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# --- what is there and what is not


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("present", [ALL, ["roughness"], ["normal", "displacement"]], ids=len)
def test_shape_of_the_result(size, present):
    decoded, source = pair(*size)
    decoded[0, 0] = math.nan  # a model that diverged
    scores = metrics.evaluate_lod(decoded, source, present)
    json.dumps(scores, allow_nan=False)
    for metric in ("psnr", "ssim", "lpips"):
        assert set(scores[metric]) == {"all", *present}
    assert set(scores["flip"]) == {"diffuse"} & set(present)
    assert ("normal_degrees" in scores) == ("normal" in present)
    assert None not in scores["psnr"].values()
    assert (scores["ssim"]["all"] is None) == (min(size) < 11)
    assert set(scores["lpips"].values()) == {None}


def test_absent_maps_change_nothing():
    decoded, source = pair(12, 20)
    scores = metrics.evaluate_lod(decoded, source, ["occlusion", "diffuse"])
    decoded[..., map_slice("normal")] = 1
    source[..., map_slice("metallic")] = 1
    assert metrics.evaluate_lod(decoded, source, ["diffuse", "occlusion"]) == scores
    kept = [*range(3), *range(7, 8)]
    assert scores["psnr"]["all"] == pytest.approx(psnr_float64(decoded[..., kept], source[..., kept]), abs=1e-5)


def test_switches_leave_none():
    decoded, source = pair(16, 16)
    scores = metrics.evaluate_lod(decoded, source, ["diffuse"], with_ssim=False, with_lpips=False, with_flip=False)
    nothing = {"all": None, "diffuse": None}
    assert scores["ssim"] == nothing and scores["lpips"] == nothing and scores["flip"] == {"diffuse": None}


@pytest.mark.parametrize(
    ("decoded", "source", "present", "says"),
    [
        (torch.zeros(4, 4, 11), torch.zeros(4, 5, 11), ALL, "(4, 5, 11)"),
        (torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), ALL, "(4, 4, 3)"),
        (torch.zeros(0, 4, 11), torch.zeros(0, 4, 11), ALL, "(0, 4, 11)"),
        (torch.zeros(4, 4, 11), torch.zeros(4, 4, 11), [], "present"),
        (torch.zeros(4, 4, 11), torch.zeros(4, 4, 11), ["sheen"], "(H, W, 16)"),
        (torch.zeros(4, 4, 11), torch.full((4, 4, 11), math.nan), ALL, "finite"),
    ],
)
def test_wrong_arguments(decoded, source, present, says):
    with pytest.raises(ValueError) as caught:
        metrics.evaluate_lod(decoded, source, present)
    assert says in str(caught.value)


# --- normals, table, pictures


def test_normal_angle_error(monkeypatch):
    monkeypatch.setattr(tiles, "TILE_VALUES", 3 * 2)
    degrees = torch.tensor([[0.0, 30.0], [90.0, 180.0], [1e-4, 45.0]])
    length = torch.tensor([[1.0, 0.2], [0.5, 1.0], [0.7, 0.1]])  # the length says nothing
    angle = torch.deg2rad(degrees.double())
    decoded = torch.stack([length * angle.sin(), 0 * angle, length * angle.cos()], -1) * 0.5 + 0.5
    source = torch.tensor([0.5, 0.5, 1.0]).expand(3, 2, 3)
    assert metrics.normal_angle_error(decoded, source) == pytest.approx(degrees.double().mean().item(), abs=1e-6)
    assert metrics.normal_angle_error(source, torch.full((3, 2, 3), 0.5)) == 0  # no direction, no angle
    assert metrics.evaluate_lod(*pair(9, 8), ["normal"])["normal_degrees"] > 1


def test_format_table():
    lods = [metrics.evaluate_lod(*pair(size, size), ["diffuse", "normal"]) for size in (16, 4)]
    lines = table.format_table(lods).splitlines()
    assert table.format_table({"lods": lods}).splitlines() == lines
    assert len(lines) == 1 + 2 * 3 and len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["LOD", "map", "PSNR", "dB", "SSIM", "LPIPS", "FLIP", "degrees"]
    first, second = lods
    ssim, flip = f"{first['ssim']['diffuse']:.4f}", f"{first['flip']['diffuse']:.4f}"
    assert lines[1].split()[:3] == ["0", "all", f"{first['psnr']['all']:.2f}"]
    assert lines[2].split() == ["diffuse", f"{first['psnr']['diffuse']:.2f}", ssim, "-", flip, "-"]
    assert lines[3].split()[-1] == f"{first['normal_degrees']:.2f}"
    assert lines[4].split() == ["1", "all", f"{second['psnr']['all']:.2f}", "-", "-", "-", "-"]


def test_error_image():
    decoded = torch.tensor([[[0.5], [0.25], [1.0]]])
    source = torch.tensor([[[0.5], [0.26], [0.0]]])
    image = pictures.error_image(decoded, source)
    assert image.dtype == np.uint8 and image.flatten().tolist() == [0, round(0.01 * 8 * 255), 255]
    assert pictures.error_image(decoded, source, gain=1).flatten().tolist() == [0, 3, 255]


@pytest.mark.parametrize("name", ["normal", "metallic"])
def test_strip(name, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_VALUES", 45)  # 2 to 6 rows
    decoded, source = (image[..., map_slice(name)] for image in pair(5, 7))
    codes = np.round(shipped_float64(decoded) * 255)
    original = np.round(source.numpy() * 255)
    want = np.concatenate([codes, original, np.minimum(abs(codes - original) * 8, 255)], axis=1)
    for images in ((decoded, source), (codes.astype(np.uint8), original.astype(np.uint8))):
        picture = pictures.strip(*images)
        assert picture.shape == (5, 21, MAPS[name]) and picture.dtype == np.uint8
        assert np.array_equal(picture, want)


def test_pictures_of_16_bit_codes():
    """The nearest of 256 levels, halves up; differences are shown as they are, not of rounded codes."""
    source = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    exact = source.astype(np.float64) / 65535
    assert np.array_equal(pictures.picture(source), np.floor(exact * 255 + 0.5))
    decoded = pictures.picture(source)
    want = np.floor(np.minimum(abs(decoded / 255 - exact) * 8, 1) * 255 + 0.5)
    assert (pictures.error_image(decoded, source) != want).mean() < 1e-3  # float32 at a tie
    assert pictures.picture(decoded) is decoded
