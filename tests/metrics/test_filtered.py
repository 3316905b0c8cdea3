"""metrics/filtered.py, and what it compares with: Material.filtered."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from configs import make_config
from dataset import Material
from engine.cpu.decoder import decode_samples as decode_with_kernels
from engine.torch.engine import TorchEngine
from maps.channels import MAPS
from metrics import filtered
from metrics.filtered import filtered_psnr, filtered_samples
from model import new_model
from tests.support.engine_cases import BLOCKS, LEARNED, engine_of, material_of


def hardware(image: np.ndarray, u: float, v: float) -> np.ndarray:
    """A bilinear sample of an (H, W, C) image with repeat addressing, in float64."""
    height, width = image.shape[:2]
    x, y = u * width - 0.5, v * height - 0.5
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(image.shape[2])
    for j in (0, 1):
        for i in (0, 1):
            weight = (x - left if i else left + 1 - x) * (y - top if j else top + 1 - y)
            total += weight * image[(top + j) % height, (left + i) % width]
    return total


@pytest.mark.parametrize("size", [(37, 21), (16, 8), (1, 1), (3, 1), (1, 5), (2, 2)], ids=str)
def test_the_source_is_filtered_as_a_gpu_does(size):
    material = material_of(*size)
    images = [material.texels(lod).double().numpy()[..., material.present_channels] for lod in range(material.num_lods)]
    generator = torch.Generator().manual_seed(3)
    last = material.num_lods - 1
    uv = torch.rand(80, 2, generator=generator) * 4 - 2  # beyond one tile
    lod = torch.rand(80, generator=generator) * (last + 2) - 1  # beyond the first and the last
    uv[:4], lod[:4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-0.25, 0.5], [1 - 2**-24, 0.0]]), 0
    lod[4:8] = torch.tensor([last, 0, last + 3, min(1, last)]).float()
    found = material.filtered(uv, lod)
    assert found.dtype == torch.float32 and found.shape == (80, len(material.present_channels))
    for i, ((u, v), level) in enumerate(zip(uv.double().tolist(), lod.tolist())):
        level = min(max(level, 0), last)
        lower, share = int(level), level - int(level)
        want = (1 - share) * hardware(images[lower], u, v) + share * hardware(images[min(lower + 1, last)], u, v)
        assert np.abs(found[i].numpy() - want).max() < 2e-5, i


def test_at_texel_centres_it_is_the_texels():
    material = material_of(16, 8)
    y, x = torch.meshgrid(torch.arange(4), torch.arange(8), indexing="ij")
    uv = torch.stack(((x + 0.5) / 8, (y + 0.5) / 4), dim=-1).view(-1, 2)
    found = material.filtered(uv, torch.ones(32))
    torch.testing.assert_close(found, material.texels(1)[..., material.present_channels].view(32, -1))


def test_samples_are_spread_and_always_the_same():
    material = material_of(128, 64, diffuse=8)
    uv, lod = filtered_samples(material)
    again = filtered_samples(material_of(128, 64, seed=9, metallic=8))
    assert torch.equal(uv, again[0]) and torch.equal(lod, again[1])
    assert len(uv) == len(lod) == filtered.MOST_SAMPLES and uv.min() >= 0 and uv.max() < 1
    assert len(filtered_samples(material_of(3, 1))[0]) == 48
    shares = torch.histc(lod, 7, 0, 7) / len(lod)
    wanted = torch.tensor([w * h / material.num_texels for w, h in material.lod_sizes])[:7]
    assert (shares - wanted).abs().max() < 0.01
    assert lod.max() <= material.num_lods - 1
    assert float((lod[lod < 1]).mean()) == pytest.approx(0.5, abs=0.01)
    assert abs(torch.corrcoef(torch.cat([uv, lod[:, None]], dim=1).T) - torch.eye(3)).max() < 0.02


@pytest.mark.parametrize("decode", [filtered.decode_samples, decode_with_kernels], ids=["torch", "kernels"])
@pytest.mark.parametrize("grids", [BLOCKS, LEARNED], ids=["linear", "learned"])
def test_the_score_is_that_of_one_rounded_decode(grids, decode):
    material = material_of()
    model = engine_of(TorchEngine, material, hash_grid_configs=grids).model
    uv, lod = filtered_samples(material)
    with torch.no_grad():
        decoded = model(uv, lod)[:, material.present_channels].double()
    decoded = (decoded.clamp(0, 1) * 255 + 0.5).floor() / 255
    error = (decoded - material.filtered(uv, lod).double()).square().mean(dim=0)
    found = filtered_psnr(model, material, decode)
    assert list(found) == ["all", *material.present]
    assert found["all"] == pytest.approx(-10 * math.log10(error.mean()), abs=1e-3)
    first = 0
    for name in material.present:
        of_map = error[first : first + MAPS[name]].mean()
        assert found[name] == pytest.approx(-10 * math.log10(of_map), abs=1e-3)
        first += MAPS[name]


def test_both_sides_are_compared_as_the_files_have_them():
    """The decode is 0.8 of the filtered light, and normals half as long: sRGB, and unit vectors, on both sides."""
    random = np.random.default_rng(2)
    vectors = random.normal(size=(8, 8, 3)) + [0, 0, 3]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    arrays = {"diffuse": random.integers(0, 256, (8, 8, 3)), "normal": (vectors + 1) / 2 * 255 + 0.5}
    arrays = {name: values.astype(np.uint8) for name, values in arrays.items()}
    material = Material.from_arrays("made", arrays, linear_color=True)
    assert material.unit_normals
    uv, lod = filtered_samples(material)
    light = material.filtered(uv, lod)[:, :3].double().numpy()

    def decode(model, uv, lod):
        decoded = torch.zeros(len(uv), 11)
        decoded[:, :6] = material.filtered(uv, lod)
        decoded[:, :3] *= 0.8
        decoded[:, 3:6] = 0.5 + 0.5 * (decoded[:, 3:6] - 0.5)
        return decoded

    def srgb(linear):
        return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)

    model = new_model(make_config({"hash_grid_configs": [{"max_resolution": 4}], "n_neurons": 16}), material)
    found = filtered_psnr(model, material, decode)
    assert found["normal"] == pytest.approx(10 * math.log10(12 * 255**2), abs=0.3)  # the 8 bits alone
    wanted = ((srgb(0.8 * light) * 255).round() / 255 - srgb(light)) ** 2
    assert found["diffuse"] == pytest.approx(-10 * math.log10(wanted.mean()), abs=0.01)


def test_constants_and_unit_normals_are_exact():
    """A material with one value everywhere, whose normals are (0, 0, 1) of any length: nothing is left to miss."""
    arrays = {
        "roughness": np.full((4, 6), 77, np.uint8),
        "displacement": np.full((4, 6), 12345, np.uint16),
        "normal": np.tile(np.array([128, 128, 255], np.uint8), (4, 6, 1)),
    }
    material = Material.from_arrays("flat", arrays)
    model = new_model(make_config({"hash_grid_configs": [{"max_resolution": 4}], "n_neurons": 16}), material)
    assert filtered_psnr(model, material) == dict.fromkeys(["all", "normal", "roughness", "displacement"], 100.0)
