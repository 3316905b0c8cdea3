"""bench/ablation_blocks.py: free features become blocks that are near them, then only the network learns. And what
bench.ablation leaves out where something is missing."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from bench import ablation_work
from bench.ablation_blocks import EncodedAfter, encode_level
from bench.ablation_variants import OURS, OURS_TORCH, VARIANTS, bc1_planes, recipe
from blocks import BC1
from configs import make_config
from describe.numpy_decoder import block_features
from engine.errors import KernelsUnavailable
from formats import bc1
from formats.block_textures import grid_blocks

needs_encoder = pytest.mark.skipif(
    not find_spec("ispc_texcomp"), reason="needs an encoder: pip install -r requirements/codecs.txt"
)
SIZE = (24, 16)
ITERATIONS = 20
PLANES = [{"max_resolution": side, "storage": "bc1", "n_levels": n} for side, n in ((12, 3), (12, 3), (6, 1))]


@pytest.fixture
def config():
    return make_config({"batch_size": 256, "n_neurons": 16, "noise_std": 0.0, "n_frequencies": 4, "refine": 0,
                        "max_iter": ITERATIONS, "hash_grid_configs": PLANES})  # fmt: skip


def test_the_planes_are_those_of_the_command():
    """And nothing is searched."""
    ours = recipe(2.5, 1024, 1024, 70)
    planes = bc1_planes(ours, 1024, 1024)
    assert {(grid.storage, grid.interpolation) for grid in planes.hash_grid_configs} == {("bc1", "linear")}
    assert (planes.latents, planes.bpp, planes.max_iter, planes.refine) == ("bc1", 2.5, 70, 0)


@needs_encoder
def test_encoded_blocks_are_near_the_features():
    """A ramp along one line in colour is what BC1 can hold; a level of no whole blocks, and one of a single texel."""
    for side in (16, 6, 1):
        place = np.arange(side * side).reshape(side, side, 1) / max(side * side - 1, 1)
        level = (place * [0.8, -0.6, 0.3] - [0.4, -0.3, 0.1]).astype(np.float32)
        coded = encode_level(level)
        assert coded.shape == ((-(-side // 4)) ** 2, BC1.bytes)
        assert np.abs(block_features(BC1, *bc1.split(coded), (side, side)) - level).max() < 0.06
    flat = encode_level(np.full((4, 4, 3), 0.5, np.float32))
    assert np.abs(block_features(BC1, *bc1.split(flat), (4, 4)) - 0.5).max() < 1e-6


@needs_encoder
def test_planes_that_are_encoded_afterwards(make_material, config):
    """Free features are trained first, their blocks do not change after the encoding, and only the network learns."""
    material = make_material(*SIZE)
    engine = VARIANTS["bc1_after"].start(config, material)
    assert isinstance(engine, EncodedAfter)
    engine.step(15)
    free = engine._engine.model
    assert [grid.features for grid in free.grids] == [1] * 9 and [grid.quantize_bits for grid in free.grids] == [8] * 9
    engine.sync()
    before = [parameters.detach().clone() for parameters in engine.model.grid_parameters]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(engine.model.weights, free.weights))
    # the features of a plane are those of its three grids, as far as blocks can tell them
    for plane, grid in enumerate(engine.model.grids):
        blocks_of = grid_blocks(engine.model, plane, grid.n_levels)[0]
        decoded = block_features(BC1, *bc1.split(blocks_of), grid.size)
        trained = torch.cat([free.level(3 * plane + c, grid.n_levels - 1) for c in range(3)], dim=2).detach().numpy()
        other = np.roll(trained, 1, axis=2)
        assert np.abs(decoded - trained).mean() < np.abs(decoded - other).mean()
    engine.step(1)  # the sixteenth of twenty iterations is the last one before the encoding
    at_once = [parameters.detach().clone() for parameters in engine.model.grid_parameters]
    assert not all(torch.equal(one, other) for one, other in zip(before, at_once))
    weights = [weight.detach().clone() for weight in engine.model.weights]
    engine.step(4)
    engine.sync()
    assert engine.iteration == ITERATIONS and engine.model.grids[0].compressed
    for one, other in zip(at_once, engine.model.grid_parameters):
        assert torch.equal(one, other)
    assert not torch.equal(weights[0], engine.model.weights[0])
    together = VARIANTS["bc1_after"].start(config, material)
    together.step(ITERATIONS)
    together.sync()
    for one, other in zip(together.model.parameters(), engine.model.parameters()):
        assert torch.equal(one, other)  # however the iterations are cut


def test_without_the_encoder_a_row_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(ablation_work, "find_spec", lambda name: None)
    assert [variant.name for variant in ablation_work.chosen("bc1,bc1_after")][-1] == "bc1"
    assert "note: bc1_after is left out, ispc_texcomp" in capsys.readouterr().out


def test_without_kernels_everything_is_pytorch(monkeypatch, capsys):
    def unavailable(say=None):
        raise KernelsUnavailable("no compiler here")

    monkeypatch.setattr(ablation_work, "load_kernels", unavailable)
    monkeypatch.setattr(ablation_work, "find_spec", lambda name: True)
    assert [variant.name for variant in ablation_work.chosen(None)] == [name for name in VARIANTS if name != OURS_TORCH]
    assert [variant.name for variant in ablation_work.chosen("linear")] == [OURS, "linear"]
    assert "note: no compiler here" in capsys.readouterr().out
