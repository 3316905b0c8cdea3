"""--positions filtered: where samples are drawn, and what training there promises; its steps are in engine_cases.py."""

from __future__ import annotations

import pytest
import torch

from configs import make_config
from engine.cpu.engine import CpuEngine
from engine.sampling import FilteredSampler, lod_shares, whole_lod_share
from engine.torch.engine import TorchEngine
from maps.mips import mip_sizes
from metrics.filtered import filtered_psnr
from tests.support import reference
from tests.support.engine_cases import (
    BLOCKS,
    CPU,
    FILTERED,
    FINE,
    FINE_BLOCKS,
    LEARNED_BLOCKS,
    engine_of,
    in_astc,
    material_of,
    reloaded,
)
from tests.support.runs import differences

SIZES = [(22, 10), (11, 5), (5, 2), (2, 1), (1, 1)]


# --- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [0.0, 0.3, 1.0])
def test_samples_equal_the_plain_formula(whole):
    """Any other engine must draw the same ones: LODs as at texel centres, and stream 64 for the way to the next."""
    seed, iteration = 7, 12345
    uv, lod = FilteredSampler(SIZES, seed, 300, CPU, whole).draw_positions(iteration)
    assert uv.dtype == lod.dtype == torch.float32 and uv.shape == (300, 2) and lod.shape == (300,)
    ends = lod_shares([w * h for w, h in SIZES]).cumsum(0)[:-1].float().tolist()
    lod_key, texel_key, fraction_key = (reference.stream_key(seed, iteration, stream) for stream in (0, 1, 64))
    for i in range(300):
        lower = sum(reference.hash_uniform(i, lod_key) >= end for end in ends)
        drawn = reference.hash_uniform(i, fraction_key)
        fraction = (drawn - whole) / (1 - whole) if lower < 4 and drawn > whole else 0.0
        assert float(lod[i]) == pytest.approx(lower + fraction, abs=1e-6)
        assert uv[i].tolist() == [reference.hash_uniform(2 * i + axis, texel_key) for axis in (0, 1)]


def test_samples_spread_over_positions_and_lods():
    uv, lod = FilteredSampler(mip_sizes(64, 64), 3, 1 << 16, CPU, 0.25).draw_positions(1)
    assert uv.min() >= 0 and uv.max() < 1 and lod.min() == 0 and lod.max() == 6
    for axis in (0, 1):
        counts = torch.histc(uv[:, axis], 64, 0, 1)
        assert ((counts - 1024) ** 2 / 1024).sum() < 63 + 5 * (2 * 63) ** 0.5
    fraction = lod[lod < 6] % 1
    assert float((fraction == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(fraction[fraction > 0].mean()) == pytest.approx(0.5, abs=0.01)


def test_a_model_that_blends_decoded_lods_is_trained_at_whole_ones():
    for grids, whole in ((BLOCKS, False), (FINE, True), (LEARNED_BLOCKS, True)):
        engine = engine_of(TorchEngine, material_of(), hash_grid_configs=grids, **FILTERED)
        assert (whole_lod_share(engine.model) == 1) == whole


# --- loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TorchEngine, CpuEngine])
@pytest.mark.parametrize("grids", [BLOCKS, LEARNED_BLOCKS], ids=["linear", "learned"])
def test_the_loss_is_the_error_against_the_filtered_source(kind, grids):
    material = material_of()
    engine = engine_of(kind, material, hash_grid_configs=grids, noise_std=0.0, **FILTERED)
    sampler = FilteredSampler(material.lod_sizes, 5, 256, CPU, whole_lod_share(engine.model))
    uv, lod = sampler.draw_positions(0)
    with torch.no_grad():
        decoded = engine.model(uv, lod)[:, material.present_channels]
    wanted = (decoded - material.filtered(uv, lod)).square().mean()
    assert engine.step(1) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("kind", [TorchEngine, CpuEngine])
def test_the_probe_stays_at_texel_centres(kind):
    """Its PSNR is compared with that of LOD 0, and between runs."""
    one, other = (engine_of(kind, material_of(), positions=p) for p in ("centres", "filtered"))
    assert one.probe() == other.probe()
    assert one.step(1) != other.step(1)


@pytest.mark.parametrize("kind", [TorchEngine, CpuEngine])
def test_it_decodes_the_filtered_material(kind):
    """Of random texels, with a learned grid of half the size; centres alone leave the rest to chance."""
    grids = [{"max_resolution": 16, "n_levels": 5, "interpolation": "learned"}]
    scores = {}
    for positions in ("centres", "filtered"):
        values = {"batch_size": 1024, "max_iter": 300, "n_neurons": 32, "n_texel_frequencies": 3, "noise_std": 0.0}
        engine = engine_of(kind, material_of(32, 32, noise=0.3, diffuse=8), None, hash_grid_configs=grids,
                           positions=positions, **values)  # fmt: skip
        engine.step(300)
        engine.sync()
        scores[positions] = filtered_psnr(engine.model, engine.material)["all"]
    assert scores["filtered"] > scores["centres"] + 1


# --- the same bits ---------------------------------------------------------------------------------------------------

BITS = {**FILTERED, "batch_size": 3000, "wrap_interval": 3, "lr_scheduler": "cosine"}
GRIDS = {"packed": FINE[:1], "learned": FINE, "blocks": FINE_BLOCKS[:1] + BLOCKS}
GRIDS["ASTC blocks"] = in_astc([*BLOCKS[:1] * 2, BLOCKS[1]])


def contents(engine) -> list:
    engine.sync()
    return [engine.state(), [p.detach() for p in engine.model.parameters()]]


@pytest.mark.parametrize("grids", GRIDS)
def test_same_seed_same_bits(grids):
    """Whatever the number of threads."""

    def trained(**values):
        engine = engine_of(CpuEngine, material_of(50, 61), **{**BITS, "hash_grid_configs": GRIDS[grids], **values})
        return [engine.step(6), contents(engine)]

    one = trained(num_threads=1)
    for threads in (2, 3):
        assert differences(one, trained(num_threads=threads)) == []
    assert len(differences(one, trained(seed=6))) > 5


@pytest.mark.parametrize("kind", [TorchEngine, CpuEngine])
@pytest.mark.parametrize("grids", GRIDS)
def test_a_resumed_run_goes_on_bit_for_bit(grids, kind):
    values = {**BITS, "batch_size": 300, "hash_grid_configs": GRIDS[grids]}
    whole = engine_of(kind, material_of(), **values)
    whole.step(13)
    whole.sync()
    saved = reloaded({"model": whole.model.state_dict(), "engine": whole.state()})
    other = engine_of(kind, material_of(), **values)
    other.model.load_state_dict(saved["model"])
    other.load_state(saved["engine"])
    assert [whole.step(5), whole.step(20)] == [other.step(5), other.step(20)]
    one, two = ([p.detach() for p in engine.model.parameters()] for engine in (whole, other) if not engine.sync())
    assert differences(one, two) == []


# --- refusals --------------------------------------------------------------------------------------------------------


def test_unknown_positions_are_refused(refused):
    with refused("--positions", "centres", "filtered"):
        make_config({"positions": "edges"})
