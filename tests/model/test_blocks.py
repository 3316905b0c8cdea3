"""blocks.py: BC1 blocks against other people's decoders, in both directions, and the constraint at the border."""

from __future__ import annotations

import numpy as np
import pytest
import texture2ddecoder
import torch

import blocks
from shape import GridSpec
from tests.support import reference


def parameters_of(kind: str, n: int = 400) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    parameters = blocks.initial_parameters(n, generator)
    if kind == "anywhere":
        parameters = torch.rand(n, 22, generator=generator) * 1.4 - 0.7
    elif kind == "equal end points":
        parameters[:, 3:6] = parameters[:, :3]
    elif kind == "first below second by blue":
        parameters[:, 3:6] = parameters[:, :3]
        parameters[:, 5] += 0.2
    return parameters


def features_of(parameters: torch.Tensor) -> np.ndarray:
    """(n, 16, 3)"""
    places = [torch.full((len(parameters),), t) for t in range(16)]
    return torch.stack([blocks.block_features(parameters, place) for place in places], dim=1).numpy()


every_kind = pytest.mark.parametrize("kind", ["start", "anywhere", "equal end points", "first below second by blue"])


@every_kind
def test_an_independent_decoder_reads_the_trained_features(kind):
    """texture2ddecoder rounds the thirds down to whole numbers."""
    parameters = parameters_of(kind)
    n = len(parameters)
    payload = blocks.encode_blocks(parameters).tobytes()
    bgra = np.frombuffer(texture2ddecoder.decode_bc1(payload, 4 * n, 4), np.uint8).reshape(4, n, 4, 4)
    shown = bgra.transpose(1, 0, 2, 3).reshape(n, 16, 4)
    thirds = np.round((features_of(parameters).astype(np.float64) + 0.5) * 765)
    assert np.array_equal(shown[..., 2::-1], thirds // 3)
    assert (shown[..., 3] == 255).all()  # index 3 of three-colour blocks is transparent


@every_kind
def test_blocks_read_back_have_the_same_features_to_the_bit(kind):
    parameters = parameters_of(kind)
    payload = blocks.encode_blocks(parameters)
    again = blocks.decode_blocks(payload)
    assert np.array_equal(features_of(again), features_of(parameters))
    assert np.array_equal(blocks.encode_blocks(again), payload)


def test_rounding_is_that_of_the_format():
    parameters = parameters_of("anywhere", 50)
    want = np.array([reference.rounded_block("bc1", unit) for unit in parameters.numpy()])
    first, second, places = want[:, None, :3], want[:, None, 3:6], want[:, 6:, None]
    np.testing.assert_allclose(features_of(parameters), first + places * (second - first) - 0.5, rtol=0, atol=1e-6)


def test_not_a_number_is_the_lowest_code():
    nothing = blocks.encode_blocks(torch.full((1, 22), float("nan")))
    assert nothing.tolist() == [[0] * 8]


def test_blocks_of_three_colours_are_refused():
    for words in ([1, 2, 0, 0], [5, 5, 0, 0x4000]):
        with pytest.raises(ValueError, match="block 1 has three colours"):
            blocks.decode_blocks(np.array([[9, 8, 7, 6], words], "<u2").view(np.uint8))


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 4), (5, 5), (8, 8), (13, 13), (2, 9), (24, 3), (5, 17)])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_borders_come_as_close_as_their_end_points_allow(size, strength):
    across, down = (-(-side // 4) for side in size)
    level = parameters_of("start", across * down).view(down, across, 22)
    level[..., 6:] *= 0.2  # not so far out that a limit acts
    before = level.clone()
    blocks.tie_borders(level, size, strength)
    right, bottom = size[0] - 1, size[1] - 1
    texel = lambda grid, x, y: grid[y // 4, x // 4]  # noqa: E731
    groups = [[(0, i), (right, i)] for i in range(1, bottom)] + [[(i, 0), (i, bottom)] for i in range(1, right)]
    groups.append([(x, y) for x in (0, right) for y in (0, bottom)])
    tied = set()
    for group in groups:
        places = [6 + y % 4 * 4 + x % 4 for x, y in group]
        was = np.array([
            (p := texel(before, x, y).double().numpy())[:3] + (p[place] + 0.5) * (p[3:6] - p[:3])
            for (x, y), place in zip(group, places)
        ])  # fmt: skip
        for (x, y), place, feature in zip(group, places, was):
            p = texel(before, x, y).double().numpy()
            span = p[3:6] - p[:3]
            want = p[place] + strength * ((was.mean(axis=0) - feature) @ span) / (span @ span)
            assert float(texel(level, x, y)[place]) == pytest.approx(np.clip(want, -0.5, 0.5), abs=1e-5)
            tied.add((y // 4, x // 4, place))
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
    blocks.tie_borders(level, (8, 8), 1.0)
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
