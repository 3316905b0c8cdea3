"""blocks.py and the files of blocks: against other people's decoders, both ways, and the constraint at the border."""

from __future__ import annotations

import numpy as np
import pytest
import texture2ddecoder
import torch

import blocks
from formats import bc1
from formats.block_textures import CODECS
from shape import BLOCKS, BlockShape, GridSpec
from tests.support.reference_blocks import rounded_block

BC1 = BLOCKS["bc1"]


def parameters_of(kind: str, n: int = 400, block: BlockShape = BC1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    parameters = blocks.initial_parameters(block, n, generator)
    if kind == "anywhere":
        parameters = torch.rand(n, block.parameters, generator=generator) * 1.4 - 0.7
    elif kind == "equal end points":
        parameters[:, 3:6] = parameters[:, :3]
    elif kind == "first below second by blue":
        parameters[:, 3:6] = parameters[:, :3]
        parameters[:, 5] += 0.2
    return parameters


def features_of(parameters: torch.Tensor, block: BlockShape = BC1) -> np.ndarray:
    """(n, texels, 3)"""
    places = [torch.full((len(parameters),), t) for t in range(block.texels)]
    return torch.stack([blocks.block_features(block, parameters, place) for place in places], dim=1).numpy()


every_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
every_kind = pytest.mark.parametrize("kind", ["start", "anywhere", "equal end points", "first below second by blue"])


@every_kind
def test_an_independent_decoder_reads_the_trained_features(kind):
    """texture2ddecoder rounds the thirds down to whole numbers."""
    parameters = parameters_of(kind)
    n = len(parameters)
    payload = bc1.encode(parameters).tobytes()
    bgra = np.frombuffer(texture2ddecoder.decode_bc1(payload, 4 * n, 4), np.uint8).reshape(4, n, 4, 4)
    shown = bgra.transpose(1, 0, 2, 3).reshape(n, 16, 4)
    thirds = np.round((features_of(parameters).astype(np.float64) + 0.5) * 765)
    assert np.array_equal(shown[..., 2::-1], thirds // 3)
    assert (shown[..., 3] == 255).all()  # index 3 of three-colour blocks is transparent


@every_block
@every_kind
def test_blocks_read_back_have_the_same_features_to_the_bit(kind, block):
    parameters, codec = parameters_of(kind, block=block), CODECS[block.name]
    payload = codec.encode(parameters)
    assert payload.shape == (len(parameters), block.bytes)
    again = blocks.parameters_of(block, *codec.split(payload))
    assert np.array_equal(features_of(again, block), features_of(parameters, block))
    assert np.array_equal(codec.encode(again), payload)


@every_block
def test_rounding_is_that_of_the_format(block):
    parameters = parameters_of("anywhere", 50, block)
    want = np.array([rounded_block(block.name, unit) for unit in parameters.numpy()])
    first, second, places = want[:, None, :3], want[:, None, 3:6], want[:, 6:, None]
    expected = first + places * (second - first) - 0.5
    np.testing.assert_allclose(features_of(parameters, block), expected, rtol=0, atol=1e-6)


@every_block
def test_not_a_number_is_the_lowest_code(block):
    payload = CODECS[block.name].encode(torch.full((1, block.parameters), float("nan")))
    ends, codes = CODECS[block.name].split(payload)
    assert not ends.any() and not codes.any()


@every_block
@pytest.mark.parametrize("quantized", [True, False])
def test_gradients_pass_rounding_unchanged(block, quantized):
    """Those of the line between end points, where rounding has put all of them."""
    parameters = parameters_of("anywhere", 30, block).clamp(-0.5, 0.5)
    place = torch.arange(30) % block.texels
    upstream = torch.randn(30, 3, generator=torch.Generator().manual_seed(4))
    leaf = parameters.clone().requires_grad_()
    (blocks.block_features(block, leaf, place, quantized) * upstream).sum().backward()
    rounded = torch.tensor([rounded_block(block.name, unit) for unit in parameters.numpy()]).double() - 0.5
    exact = (rounded if quantized else parameters.double()).requires_grad_()
    share = exact.gather(1, place[:, None] + 6) + 0.5
    ((exact[:, :3] + share * (exact[:, 3:6] - exact[:, :3])) * upstream).sum().backward()
    np.testing.assert_allclose(leaf.grad, exact.grad, rtol=0, atol=1e-5)


def test_blocks_of_three_colours_are_refused():
    for words in ([1, 2, 0, 0], [5, 5, 0, 0x4000]):
        with pytest.raises(ValueError, match="block 1 has three colours"):
            bc1.split(np.array([[9, 8, 7, 6], words], "<u2").view(np.uint8))


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 4), (5, 5), (8, 8), (13, 13), (2, 9), (24, 3), (5, 17)])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@every_block
def test_borders_come_as_close_as_their_end_points_allow(size, strength, block):
    n = block.side
    across, down = (-(-side // n) for side in size)
    level = parameters_of("start", across * down, block).view(down, across, block.parameters)
    level[..., 6:] *= 0.2  # not so far out that a limit acts
    before = level.clone()
    blocks.tie_borders(block, level, size, strength)
    right, bottom = size[0] - 1, size[1] - 1
    texel = lambda grid, x, y: grid[y // n, x // n]  # noqa: E731
    groups = [[(0, i), (right, i)] for i in range(1, bottom)] + [[(i, 0), (i, bottom)] for i in range(1, right)]
    groups.append([(x, y) for x in (0, right) for y in (0, bottom)])
    tied = set()
    for group in groups:
        places = [6 + y % n * n + x % n for x, y in group]
        was = np.array([
            (p := texel(before, x, y).double().numpy())[:3] + (p[place] + 0.5) * (p[3:6] - p[:3])
            for (x, y), place in zip(group, places)
        ])  # fmt: skip
        for (x, y), place, feature in zip(group, places, was):
            p = texel(before, x, y).double().numpy()
            span = p[3:6] - p[:3]
            want = p[place] + strength * ((was.mean(axis=0) - feature) @ span) / (span @ span)
            assert float(texel(level, x, y)[place]) == pytest.approx(np.clip(want, -0.5, 0.5), abs=1e-5)
            tied.add((y // n, x // n, place))
    for index in np.ndindex(*level.shape):
        if index not in tied:
            assert level[index] == before[index]


def test_borders_that_cannot_meet_stop_at_their_end_points():
    """Dark blocks on the left, bright ones on the right; a short way between end points is a way, none is none."""
    level = torch.zeros(2, 2, 22)
    level[:, 0, :3], level[:, 0, 3:6] = -0.5, -0.45
    level[:, 1, :3], level[:, 1, 3:6] = 0.45, 0.5
    level[1, 1, 3:6] = level[1, 1, :3]
    before = level.clone()
    blocks.tie_borders(BC1, level, (8, 8), 1.0)
    middle = 6 + 4 * torch.arange(1, 4)  # of the left column; texel 0 of these is a corner
    assert (level[0, 0, middle] == 0.5).all() and (level[0, 1, middle + 3] == -0.5).all()
    assert (level[1, 0, middle - 4] == 0.5).all() and torch.equal(level[1, 1], before[1, 1])


def test_shapes_count_whole_blocks():
    grid = GridSpec(20, 3, 0, 4, "linear", "bc1")  # 5, 10, 20 texels: 2, 3, 5 blocks a side
    assert (grid.n_units, grid.n_texels, grid.n_parameters) == (4 + 9 + 25, 16 * 38, 22 * 38)
    assert [grid.level_offset(level) for level in range(4)] == [0, 64, 208, 608]
    assert grid.stored_texels == 16 * (25 + 9 + 4 + 1 + 1)  # down to 2 and 1
    assert (grid.features, grid.decoder_inputs) == (3, 3)
    with pytest.raises(ValueError, match="leave out quantize_bits"):
        GridSpec(20, 3, 4, 32, "linear", "bc1")


def test_shapes_count_whole_blocks_of_36_texels():
    grid = GridSpec(20, 3, 0, 6, "linear", "astc6x6")  # 5, 10, 20 texels: 1, 2, 4 blocks a side
    assert (grid.n_units, grid.n_texels, grid.n_parameters) == (1 + 4 + 16, 36 * 21, 42 * 21)
    assert grid.stored_texels == 36 * (16 + 4 + 1 + 1 + 1) and grid.bits_per_texel == 128 / 36
