"""coverage.py: what lies under transparent texels, mips weighted by opacity, and LODs that keep a mask's coverage."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch

from dataset import Material
from maps import coverage
from maps.channels import map_size
from maps.mips import linear_to_srgb, mip_chain, srgb_to_linear
from maps.record import Origin
from tests.support.leaves import leaf_maps
from tests.support.map_images import randoms, reference_shrink

SIZES = [(1, 1), (2, 1), (5, 7), (16, 16), (32, 9), (37, 50)]  # width, height
OTHERS = ("diffuse", "normal", "roughness", "emissive", "thickness")


def mask_of(width, height, dtype=np.uint8, seed=3):
    """(height, width) an opacity with blots of all values, and of 0 in most of its texels; no two alike."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, np.iinfo(dtype).max + 1, (height, width)).astype(dtype)
    codes[random.random((height, width)) < 0.8] = 0
    codes[0, 0] = np.iinfo(dtype).max
    return codes


def arrays_of(width, height, dtype=np.uint8, seed=0):
    return {name: randoms((height, width, map_size(name)), dtype, seed + i) for i, name in enumerate(OTHERS)}


def digest(material):
    return hashlib.sha256(material.codes8.numpy().tobytes() + material.codes16.numpy().tobytes()).hexdigest()


def lods(material, name):
    return [material.stored(lod, name) for lod in range(material.num_lods)]


# ---- the other maps ----


@pytest.mark.parametrize("opacity", [None, 255, 77, 0])
def test_an_opacity_of_one_value_changes_nothing(opacity):
    arrays = arrays_of(37, 50)
    extra = {} if opacity is None else {"opacity": np.full((50, 37), opacity, np.uint8)}
    material = Material.from_arrays("m", {**arrays, **extra})
    for name, codes in arrays.items():
        kind = "normal" if name == "normal" else material.color_space[name]
        chain = np.concatenate([part for _, part in mip_chain(codes, kind)])
        stored = [level.reshape(-1, map_size(name)) for level in lods(material, name)]
        assert np.array_equal(np.concatenate(stored), chain)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_nothing_depends_on_what_lies_under_transparent_texels(size, dtype):
    width, height = size
    opacity, seen = mask_of(width, height), arrays_of(width, height, dtype)
    hidden = arrays_of(width, height, dtype, seed=99)
    changed = {name: np.where(opacity[..., None] > 0, codes, hidden[name]) for name, codes in seen.items()}
    before = {name: codes.copy() for name, codes in changed.items()}
    material, other = (Material.from_arrays("m", {**maps, "opacity": opacity}) for maps in (seen, changed))
    assert digest(material) == digest(other)
    assert material.unit_normals == other.unit_normals and material.constants == other.constants
    assert material.sha256 == other.sha256
    for name, codes in seen.items():
        assert np.array_equal(changed[name], before[name])  # the caller's arrays stay as they are
        assert np.array_equal(material.stored(0, name)[opacity > 0], codes[opacity > 0])  # what is seen is the file's


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["srgb", "normal", "linear"])
@pytest.mark.parametrize("size", SIZES[1:], ids=str)
def test_averages_are_weighted_by_opacity(size, kind, dtype):
    """Against float64 averages by brute force, from level to level, where there is any coverage."""
    width, height = size
    name, top = {"srgb": "diffuse", "normal": "normal", "linear": "roughness"}[kind], np.iinfo(dtype).max
    codes, opacity = randoms((height, width, map_size(name)), dtype, 5), mask_of(width, height, dtype)
    if kind == "normal":
        codes[..., 2] |= 3 << (codes.itemsize * 8 - 2)
    material = Material.from_arrays("m", {name: codes, "opacity": opacity})
    weight = np.where(opacity[..., None] >= top / 510, opacity[..., None] / top, 0)
    values = codes / top
    values = srgb_to_linear(values) if kind == "srgb" else 2 * values - 1 if kind == "normal" else values
    values = values * weight
    for lod in range(1, material.num_lods):
        shape = material.lod_sizes[lod][::-1]
        values, weight = reference_shrink(values, *shape), reference_shrink(weight, *shape)
        covered = weight[..., 0] > 0
        wanted = values[covered] / weight[covered]
        if kind == "srgb":
            wanted = linear_to_srgb(wanted)
        if kind == "normal":
            wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True) / 2 + 0.5
        tolerance = 0.5 + (0.1 if dtype == np.uint16 else 1e-2)  # the rounding, and float32 against float64
        assert np.abs(material.stored(lod, name)[covered] - wanted * top).max() <= tolerance


def test_the_digest_is_of_what_is_seen():
    """The fill may differ in a last bit on another processor, and the source is still the same."""
    maps = leaf_maps(32)
    y, x = np.argwhere(maps["opacity"] == 0)[7]
    material = Material.from_arrays("m", maps)
    filled = material.sha256
    material.codes8[y * 32 + x, :7] += 1
    del material.sha256
    assert material.sha256 == filled
    y, x = np.argwhere(maps["opacity"] == 255)[7]
    material.codes8[y * 32 + x, 2] += 1
    del material.sha256
    assert material.sha256 != filled


def test_what_does_not_vary_where_it_is_seen_is_a_constant():
    opacity = mask_of(37, 50)
    arrays = {name: np.where(opacity[..., None] > 0, np.uint8(201), codes) for name, codes in arrays_of(37, 50).items()
              if name != "normal"}  # fmt: skip
    material = Material.from_arrays("m", {**arrays, "opacity": opacity})
    assert sorted(material.constants) == [0, 1, 2, 6, 12, 13, 14, 15]
    assert {constant.code for constant in material.constants.values()} == {201}


@pytest.mark.parametrize("code, filled", [(0, True), (128, True), (129, False)])
def test_an_opacity_that_8_bits_round_to_0_is_transparent(code, filled):
    opacity = np.full((8, 8), 65535, np.uint16)
    opacity[2, 3] = code
    roughness = np.full((8, 8), 50, np.uint8)
    roughness[2, 3] = 200
    stored = Material.from_arrays("m", {"roughness": roughness, "opacity": opacity}).stored(0, "roughness")
    assert stored[2, 3, 0] == (50 if filled else 200)


def test_filled_colours_are_smooth_and_between_those_around_them():
    opacity, roughness = np.zeros((64, 64), np.uint8), randoms((64, 64))
    opacity[:, [8, 40]], roughness[:, 8], roughness[:, 40] = 255, 40, 220
    material = Material.from_arrays("m", {"roughness": roughness, "opacity": opacity})
    filled = material.stored(0, "roughness")[..., 0].astype(int)
    assert filled.min() == 40 and filled.max() == 220
    assert np.abs(filled - filled[:1]).max() <= 1  # rows are alike, so their fill is
    assert np.abs(np.diff(filled[0])).max() <= 180 / 6  # random texels would differ by 180


def test_filling_reaches_across_the_borders():
    """A texture that repeats: moved by half its size, it is filled alike."""
    opacity, roughness = np.zeros((32, 64), np.uint8), randoms((32, 64))
    opacity[4:9, 58:62] = 255
    moved = [np.roll(a, (16, 32), (0, 1)) for a in (opacity, roughness)]
    first, second = (Material.from_arrays("m", {"opacity": o, "roughness": r})
                     for o, r in ((opacity, roughness), moved))  # fmt: skip
    for lod in range(first.num_lods):
        height, width, _ = first.stored(lod, "roughness").shape
        again = np.roll(first.stored(lod, "roughness"), (height // 2, width // 2), (0, 1))
        assert np.array_equal(again, second.stored(lod, "roughness"))


def test_filled_normals_are_unit_vectors():
    maps = leaf_maps(128)
    maps["normal"][maps["opacity"] == 0] = 0  # a render over black, which has no normals there
    material = Material.from_arrays("m", maps)
    assert material.unit_normals
    for level in lods(material, "normal"):
        lengths = np.linalg.norm(level / 127.5 - 1, axis=2)
        assert np.abs(lengths - 1).max() < 0.01
    flat = np.where(maps["opacity"][..., None] > 0, np.uint8(128), randoms((128, 128, 3)))
    assert (Material.from_arrays("m", {**maps, "normal": flat}).stored(0, "normal") == 128).all()


def test_linear_colour_is_filled_too():
    maps = leaf_maps(64)
    black = {**maps, "diffuse": maps["diffuse"].copy()}
    black["diffuse"][maps["opacity"] == 0] = 250
    first, second = (Material.from_arrays("m", arrays, linear_color=True) for arrays in (maps, black))
    assert digest(first) == digest(second) and first.bit_depth["diffuse"] == 16


def test_light_above_1_is_averaged_as_light_where_it_is_covered():
    high, scale = 50.0, 0.5
    light = np.float64([[4.0, 40.0], [0.25, 7.0]])[..., None] * np.ones(3)
    opacity = np.uint8([[255, 51], [0, 102]])

    def codes(values):
        return np.log2(1 + values / scale) / math.log2(1 + high / scale) * 65535

    material = Material.from_arrays(
        "m", {"emissive": codes(light).round().astype(np.uint16), "opacity": opacity},
        color_space={"emissive": "linear"}, value_range={"emissive": (0.0, high)}, log_scale={"emissive": scale},
    )  # fmt: skip
    mean = (4.0 * 255 + 40.0 * 51 + 7.0 * 102) / 408
    assert np.abs(material.stored(1, "emissive") - codes(mean)).max() <= 2
    assert np.abs(material.stored(0, "emissive")[1, 0] - codes(mean)).max() <= 2  # all around it is the smaller LOD


def test_bands_change_nothing(monkeypatch):
    arrays = {**arrays_of(37, 50), "opacity": mask_of(37, 50)}
    whole = digest(Material.from_arrays("m", arrays))
    monkeypatch.setattr(coverage, "ROWS_OF_TEXELS", 100)
    assert digest(Material.from_arrays("m", arrays)) == whole


def corners(texels):
    """What a sampler returns at the corners of texels."""
    return sum(np.roll(texels, (down, right), (0, 1)) for down in (0, 1) for right in (0, 1)) / 4


@pytest.mark.parametrize("lod", range(4))
def test_no_dark_fringe_over_white(lod):
    """Leaves over black in the file, filtered and blended over white, in linear light; the colour that should be there
    is the average of what is covered. Averages of all texels alike are darker by 0.014 at LOD 0 and 0.03 at LOD 3."""
    maps = leaf_maps(256)
    material = Material.from_arrays("m", maps)
    share = maps["opacity"][..., None] / 255.0
    premultiplied = srgb_to_linear(maps["diffuse"] / 255.0) * share
    shape = material.lod_sizes[lod][::-1]
    covered = corners(reference_shrink(share, *shape))
    wanted = corners(reference_shrink(premultiplied, *shape)) / np.maximum(covered, 1e-6)
    opacity = corners(material.stored(lod, "opacity") / 255.0)
    color = corners(srgb_to_linear(material.stored(lod, "diffuse") / 255.0))
    edges = ((opacity > 0.02) & (opacity < 0.98) & (covered > 0.02))[..., 0]
    darker = (opacity * (wanted - color)).mean(axis=2)[edges]
    assert edges.sum() > 100 and abs(darker.mean()) < 0.001 and darker.max() < 0.04


# ---- opacity ----


def shares(opacity):
    material = Material.from_arrays("m", {"opacity": opacity})
    return [float((level * 2.0 >= np.iinfo(level.dtype).max).mean()) for level in lods(material, "opacity")], material


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("picture", [lambda: leaf_maps(256)["opacity"], lambda: 255 - leaf_maps(256)["opacity"],
                                     lambda: leaf_maps(256)["opacity"][:251, :203]],
                         ids=["leaves", "holes", "odd"])  # fmt: skip
def test_lods_of_a_mask_keep_its_coverage(picture, dtype):
    opacity = picture().astype(dtype) * (257 if dtype == np.uint16 else 1)
    found, material = shares(opacity)
    for lod, (width, height) in enumerate(material.lod_sizes):
        nearest = round(found[0] * width * height) / (width * height)
        assert abs(found[lod] - nearest) <= max(0.001, 0.5 / (width * height))  # texels of one value move together
    assert np.array_equal(material.stored(0, "opacity")[..., 0], opacity)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_model_is_averaged_as_renderers_do_it(dtype):
    """All maps alike, and with what lies hidden in them; of a folder none is so."""
    maps = {name: codes[:61, :51].astype(dtype) * (257 if dtype == np.uint16 else 1)
            for name, codes in leaf_maps(64).items() if name != "emissive"}  # fmt: skip
    folder = Material.from_arrays("m", maps)
    model = Material.from_arrays("m", maps, origin=Origin("m.glb", "Leaf", 0))
    for name, codes in maps.items():
        codes = codes if codes.ndim == 3 else codes[..., None]
        kind = {"normal": "normal", "diffuse": "srgb"}.get(name, "linear")
        plain = np.concatenate([part for _, part in mip_chain(codes, kind)])[codes.shape[0] * codes.shape[1] :]
        found, others = (np.concatenate([level.reshape(-1, codes.shape[2]) for level in lods(material, name)[1:]])
                         for material in (model, folder))  # fmt: skip
        assert np.array_equal(found, plain)
        assert not np.array_equal(found, others)
    assert model.sha256 == folder.sha256  # texels that are seen in LOD 0 are the same


def test_thin_parts_do_not_vanish():
    random = np.random.default_rng(0)
    hair = np.zeros((256, 256), np.uint8)
    for start in random.integers(0, 256, 30):  # lines of one texel that lean
        hair[np.arange(256), (start + np.arange(256) // 3) % 256] = 255
    found, _ = shares(hair)
    plain = np.concatenate([part for _, part in mip_chain(hair[..., None], "linear")])
    level_3 = plain[256**2 + 128**2 + 64**2 :][: 32**2]
    assert (level_3 >= 128).mean() < 0.3 * found[0] < 0.9 * found[3]  # of averages most would be gone


@pytest.mark.parametrize("opacity", [leaf_maps(256)["opacity"], 255 - leaf_maps(256)["opacity"]], ids=["few", "many"])
def test_opaque_and_transparent_texels_of_a_mask_stay_so_and_the_order_of_all(opacity):
    """Also where a LOD's averages let too many texels pass."""
    material = Material.from_arrays("m", {"opacity": opacity})
    plain = np.concatenate([part for _, part in mip_chain(opacity[..., None], "linear")])[:, 0]
    kept, scaled = material.codes8[:, 0].numpy(), 0
    for first, (width, height) in zip(material.lod_offsets, material.lod_sizes):
        level = slice(first, first + width * height)
        before, after = plain[level], kept[level]
        scaled += (before != after).any()
        assert (after[before == 0] <= 1).all() and (after[before == 255] >= 254).all()
        assert (np.diff(after[np.lexsort((after, before))].astype(int)) >= 0).all()
    assert scaled >= 3


def test_averages_that_pass_as_often_stay():
    opacity = np.zeros((64, 64), np.uint8)
    opacity[:, :32], opacity[:, 32] = 255, 64
    material = Material.from_arrays("m", {"opacity": opacity})
    assert material.stored(1, "opacity")[0, 14:18, 0].tolist() == [255, 255, 32, 0]
    assert material.stored(4, "opacity")[0, :, 0].tolist() == [255, 255, 4, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_trained_of_a_mask_keeps_away_from_the_alpha_test(dtype):
    """On its side of it, and nothing else moves; the file's opacity is what is shown and scored."""
    top = np.iinfo(dtype).max
    opacity = leaf_maps(64)["opacity"].astype(dtype) * (top // 255)
    opacity[::9, ::7] = randoms((8, 10), dtype)  # of all values
    opacity[9, 7], opacity[18, 14] = top // 2, top // 2 + 1
    material = Material.from_arrays("m", {"diffuse": randoms((64, 64, 3)), "opacity": opacity})
    trained = material.gather(torch.arange(material.num_texels))[:, 3].numpy()
    first = trained[: 64 * 64].reshape(64, 64)
    assert np.abs(first - 0.5).min() > coverage.MARGIN - 0.002
    assert np.abs(trained[64 * 64 :] - 0.5).min() > coverage.LOD_MARGIN - 0.002
    assert np.array_equal(first >= 0.5, opacity / top >= 0.5)
    assert np.abs(first - opacity / top).max() < coverage.MARGIN + 0.002
    far = np.abs(opacity / top - 0.5) > coverage.MARGIN + 0.002
    assert np.allclose(first[far], opacity[far] / top, atol=1e-6) and not far.all()
    assert np.array_equal(material.stored(0, "opacity")[..., 0], opacity)
    assert np.array_equal(material.stored(0, "opacity", slice(9, 31))[..., 0], opacity[9:31])
    assert np.allclose(material.texels(0)[..., 11].numpy(), opacity / top, atol=1e-6)
    smaller = material.stored(1, "opacity").ravel() / top
    assert np.allclose(smaller, trained[64 * 64 :][: 32 * 32], atol=1e-6)


def glass():
    codes = np.full((64, 64), 76, np.uint8)  # 0.3
    codes[::16] = codes[:, ::16] = 255  # and a frame
    return codes


@pytest.mark.parametrize("opacity", [
    np.full((64, 64), 76, np.uint8) + randoms((64, 64)) // 32, glass(),
    np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None] * 4, (64, 64)).copy(), randoms((64, 64)),
], ids=["glass", "framed glass", "gradient", "noise"])  # fmt: skip
def test_an_opacity_that_is_no_mask_keeps_its_averages(opacity):
    material = Material.from_arrays("m", {"opacity": opacity})
    plain = np.concatenate([part for _, part in mip_chain(opacity[..., None], "linear")])
    assert np.array_equal(material.codes8.numpy(), plain)
