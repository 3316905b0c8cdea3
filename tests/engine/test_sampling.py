"""engine/sampling.py: which texels are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.sampling import TexelSampler, lod_shares
from maps.mips import mip_sizes
from tests.support import reference

CPU = torch.device("cpu")
SIZES = [(22, 10), (1, 1), (64, 64), (3, 50)]
every_size = pytest.mark.parametrize(("width", "height"), SIZES)


@every_size
def test_samples_are_texel_centres_of_their_lods(width, height):
    sizes = mip_sizes(width, height)
    offsets = np.cumsum([0] + [w * h for w, h in sizes])
    texel, lod, uv = TexelSampler(sizes, seed=1, batch_size=4000, device=CPU).draw(3)
    assert texel.dtype == lod.dtype == torch.int64 and uv.dtype == torch.float32
    assert texel.shape == lod.shape == (4000,) and uv.shape == (4000, 2)
    for l, (w, h) in enumerate(sizes):
        chosen = lod == l
        local = texel[chosen] - offsets[l]
        assert ((local >= 0) & (local < w * h)).all()
        x, y = local % w, local // w
        want = torch.stack([(x + 0.5) / w, (y + 0.5) / h], dim=1)
        torch.testing.assert_close(uv[chosen], want, rtol=0, atol=1e-7)


@every_size
def test_samples_point_into_the_material(width, height, make_material):
    """What gather returns for the index is what the LOD's image holds at uv."""
    material = make_material(width, height)
    texel, lod, uv = TexelSampler(material.lod_sizes, 2, 300, CPU).draw(0)
    gathered = material.gather(texel)
    images = [material.texels(l)[..., material.present_channels] for l in range(material.num_lods)]
    for i in range(300):
        w, h = material.lod_sizes[lod[i]]
        x, y = uv[i].double() * torch.tensor([w, h]) - 0.5
        torch.testing.assert_close(gathered[i], images[lod[i]][round(float(y)), round(float(x))], rtol=0, atol=1e-6)


def test_samples_equal_the_plain_formula():
    """Any other engine must draw the same ones: keys of streams 0 and 1, two numbers a sample for x and y."""
    sizes, seed, iteration = [(22, 10), (11, 5), (5, 2), (2, 1), (1, 1)], 7, 12345
    texel, lod, _ = TexelSampler(sizes, seed, 200, CPU).draw(iteration)
    counts = [w * h for w, h in sizes]
    ends = np.cumsum([0.98 * count / sum(counts) + 0.02 / 5 for count in counts])[:-1].astype(np.float32)
    lod_key, texel_key = (reference.stream_key(seed, iteration, stream) for stream in (0, 1))
    for i in range(200):
        l = sum(reference.hash_uniform(i, lod_key) >= end for end in ends)
        w, h = sizes[l]
        x = int(reference.hash_uniform(2 * i, texel_key) * w)
        y = int(reference.hash_uniform(2 * i + 1, texel_key) * h)
        assert (int(texel[i]), int(lod[i])) == (sum(counts[:l]) + y * w + x, l)


def test_the_largest_random_number_stays_inside(monkeypatch):
    """(1 - 2**-24) * width must not be rounded up to width, which is the first texel of the next row."""
    sizes = [(width, 5) for width in range(1, 3000)] + [(4096, 8192), (16384, 16383)]
    sampler = TexelSampler(sizes, 0, len(sizes), CPU)
    monkeypatch.setattr("engine.sampling.hash_uniform", lambda index, key: torch.full(index.shape, 1 - 2.0**-24))
    monkeypatch.setattr(torch, "bucketize", lambda values, *_, **__: torch.arange(len(values)))
    texel, _, uv = sampler.draw(0)
    ends = torch.tensor([w * h for w, h in sizes]).cumsum(0)
    assert torch.equal(texel, ends - 1)
    assert uv.max() < 1


def test_a_number_on_the_edge_of_two_shares_belongs_to_the_second(monkeypatch):
    """Shares are half open, as everywhere else: the first of two equal ones is [0, 0.5)."""
    numbers = torch.tensor([0.0, 0.5 - 2.0**-24, 0.5, 1 - 2.0**-24])
    monkeypatch.setattr("engine.sampling.hash_uniform", lambda index, key: numbers)
    assert TexelSampler([(1, 1), (1, 1)], 0, 4, CPU).draw(0)[1].tolist() == [0, 0, 1, 1]


def test_lod_shares_add_up_and_leave_none_out():
    shares = lod_shares([1024, 256, 64, 16, 4, 1])
    assert float(shares.sum()) == pytest.approx(1, abs=1e-12)
    want = [0.98 * count / 1365 + 0.02 / 6 for count in (1024, 256, 64, 16, 4, 1)]
    assert shares.tolist() == pytest.approx(want, abs=1e-12)
    assert lod_shares([1]).tolist() == [1.0]


def test_draws_match_the_shares_and_cover_the_image():
    sizes = mip_sizes(24, 10)
    sampler = TexelSampler(sizes, 3, 1 << 16, CPU)
    texel, lod, _ = sampler.draw(1)
    n = len(lod)
    shares = lod_shares([w * h for w, h in sizes])
    found = torch.bincount(lod, minlength=len(sizes)) / n
    assert ((found - shares).abs() < 5 * (shares * (1 - shares) / n).sqrt()).all()
    seen = torch.bincount(texel[lod == 0], minlength=240).double()
    expected = float(seen.sum()) / 240
    assert abs(((seen - expected) ** 2 / expected).sum() - 239) < 5 * math.sqrt(2 * 239)
    x, y = (texel[lod == 0] % 24).double(), (texel[lod == 0] // 24).double()
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 5 / math.sqrt(len(x))


def test_draws_depend_on_seed_and_iteration_alone():
    sizes = mip_sizes(16, 16)
    sampler = TexelSampler(sizes, 3, 500, CPU)
    first = sampler.draw(8)
    for iteration in (9, 0):
        assert not torch.equal(sampler.draw(iteration)[0], first[0])
    torch.manual_seed(99)
    for one, other in zip(first, TexelSampler(sizes, 3, 500, CPU).draw(8)):
        assert torch.equal(one, other)
    assert not torch.equal(TexelSampler(sizes, 4, 500, CPU).draw(8)[0], first[0])
