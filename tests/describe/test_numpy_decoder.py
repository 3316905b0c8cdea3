"""numpy_decoder: the same texels as the reference decoder, from files of every width, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.errors import UserError
from dataset import Constant
from describe import numpy_decoder
from describe.numpy_decoder import FileTexture, decode, read_texture
from formats.network_file import network_info
from formats.textures import read_export, write_export
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import FILES, make_model

# Learned grids have sizes at which no texel centre lies where they jump from one texel to the next.
CASES = {
    "words of 32 and of 8 bits": ([GridSpec(8, 3, 4, 32), GridSpec(3, 1, 2, 8)], DecoderSpec(3, 16, 2)),
    "learned, two planes": ([GridSpec(10, 2, 8, 64, "learned"), GridSpec(4, 3, 1, 16)],
                            DecoderSpec(0, 16, 1, 3, "hard_swish")),
    "codes of 16 bits, no hidden layer": ([GridSpec(5, 1, 16, 32)], DecoderSpec(1, 16, 0, negative_slope=0.2)),
    "blocks and words": ([GridSpec(10, 2, 0, 4, "learned", "bc1"), GridSpec(8, 3, 0, 4, "linear", "bc1"),
                          GridSpec(3, 1, 4, 8)], DecoderSpec(2, 16, 1, 2)),
    "LODs that share the finest level": (
        [GridSpec(8, 3, 4, 32, finest_lods=2), GridSpec(8, 2, 0, 4, "linear", "bc1", 3)],
        DecoderSpec(2, 16, 1, 1, negative_slope=0.0),
    ),
    "as large as the material": ([GridSpec(12, 2, 8, 32)], DecoderSpec(2, 16, 1)),
}  # fmt: skip


@pytest.fixture(params=CASES)
def written(request, make_material, tmp_path):
    material = make_material(12, 7)
    grids, decoder = CASES[request.param]
    model = make_model(grids, decoder, material)
    model.constants = {6: Constant(9, 8)}
    write_export(tmp_path, model, material.hashed_record)
    return tmp_path


def test_every_lod_is_the_reference_s(written):
    exported = read_export(written)
    model, form = exported.model, exported.manifest.form
    texture = read_texture(written, form)
    plain = reference.load_export(
        written, model.num_lods, [grid.interpolation for grid in form.grids], form.decoder.n_texel_frequencies,
        form.decoder.activation,
    )
    plain.negative_slope = form.decoder.negative_slope
    for read, grid in zip(plain.grids, form.grids):
        read.finest_lods = grid.finest_lods
    for lod in range(model.num_lods):
        width, height = max(12 >> lod, 1), max(7 >> lod, 1)
        found = decode(texture, lod, width, height)
        want = reference.decode(plain, lod, width, height)
        want[..., 6] = 9 / 255
        assert found.shape == (height, width, 11) and found.dtype == np.float32
        np.testing.assert_allclose(found, want, atol=2e-6)
        assert np.ptp(want[..., :3]) > 0.01 or lod == model.num_lods - 1  # something to be wrong about
        np.testing.assert_allclose(found, model.decode(lod, width, height).numpy(), atol=2e-6)


def test_bands_and_rows_are_parts_of_the_whole(written, monkeypatch):
    exported = read_export(written)
    texture = read_texture(written, exported.manifest.form)
    whole = decode(texture, 0, 12, 7)
    monkeypatch.setattr(numpy_decoder, "CHUNK", 24)
    np.testing.assert_allclose(decode(texture, 0, 12, 7), whole, atol=1e-6)
    np.testing.assert_allclose(decode(texture, 0, 12, 7, slice(2, 6)), whole[2:6], atol=1e-6)


def test_another_form_gives_other_texels(shipped):
    """What the comparison above rests on: interpolation, activation and waves each change the result."""
    folder, model, _ = shipped
    texture = read_texture(folder, model.form)
    right = decode(texture, 0, 12, 10)
    swish = replace(model.form, decoder=replace(model.form.decoder, activation="hard_swish"))
    assert np.abs(decode(read_texture(folder, swish), 0, 12, 10) - right).max() > 0.01
    assert np.abs(decode(texture, 1, 12, 10) - right).max() > 0.01


def test_files_that_do_not_fit_are_refused(shipped, folder, refused):
    form = shipped[1].form
    with refused("network_data.npz", "1280 weights", "manifest"):
        read_texture(folder, network_info(form).reference_form(4))  # which these files are not
    for name in FILES[:3]:
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept[:-1])
        with refused(name):
            read_texture(folder, form)
        (folder / name).write_bytes(kept)
    (folder / "hash_grid_0.dds").write_bytes((folder / "hash_grid_1.dds").read_bytes())
    with refused("hash_grid_0.dds", "2 mips", "(6, 6, 4)", "(3, 3, 2)"):
        read_texture(folder, form)


# --- the ancestor's samplings ----------------------------------------------------------------------------------------


def one_grid(sampling: str, resolution=5, output="none") -> FileTexture:
    """A grid whose feature is the texel's number, and a network that hands it through."""
    levels = [np.arange(resolution**2, dtype=np.float32).reshape(resolution, resolution, 1)]
    weight = np.zeros((16, 16), np.float32)
    weight[0, 0] = 1
    return FileTexture([levels], [weight], 1, DecoderSpec(0), sampling=sampling, output_activation=output)


def test_tiny_cuda_nn_s_positions_by_hand():
    """p = u (R - 1) + 0.5, at texel corners; past the right border lies the next row's first texel."""
    found = decode(one_grid("vertex"), 0, 10, 10)[..., 0]
    for y in range(10):
        for x in range(10):
            px, py = x / 10 * 4 + 0.5, y / 10 * 4 + 0.5
            cx, cy = int(px), int(py)
            want = 0.0
            for dx, wx in ((0, 1 - (px - cx)), (1, px - cx)):
                for dy, wy in ((0, 1 - (py - cy)), (1, py - cy)):
                    want += wx * wy * (((cy + dy) * 5 + cx + dx) % 25)
            assert abs(found[y, x] - want) < 1e-4, (x, y)


def test_aligned_is_the_sampler_moved_by_half_a_texel():
    """Inside, where neither repeats: the value at uv * R, and the sampler's at uv * R - 0.5."""
    sampler, aligned = (decode(one_grid(name, 8), 0, 16, 16)[..., 0] for name in ("sampler", "aligned"))
    np.testing.assert_allclose(aligned[4:11, 4:11] - sampler[4:11, 4:11], 0.5 + 0.5 * 8, atol=1e-4)


def test_output_activations_by_hand():
    x = decode(one_grid("sampler", 2), 0, 2, 2)[..., 0] - 0  # 0, 1, 2, 3
    torch_x = torch.from_numpy(x)
    np.testing.assert_allclose(
        decode(one_grid("sampler", 2, "hard_swish"), 0, 2, 2)[..., 0], torch.nn.functional.hardswish(torch_x), atol=1e-6
    )
    np.testing.assert_allclose(
        decode(one_grid("sampler", 2, "hard_gelu"), 0, 2, 2)[..., 0], [[0, 1 * 2.5 / 3], [2, 3]], atol=1e-6
    )
    assert numpy_decoder.OUTPUT_ACTIVATIONS == ("none", "leaky_relu", "hard_swish", "hard_gelu")


def test_other_layouts_are_refused(make_material, tmp_path):
    material = make_material(12, 7)
    model = make_model([GridSpec(8, 3, 4, 32)], DecoderSpec(3, 16, 2), material)
    write_export(tmp_path, model, material.hashed_record, layout="filterable")
    with pytest.raises(UserError, match="expected files of the layout packed, found filterable"):
        read_texture(tmp_path, model.form, read_export(tmp_path).manifest.layout)
