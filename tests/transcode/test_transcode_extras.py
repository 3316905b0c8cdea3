"""export.py --transcode of opacity, emission, the named map, and light above 1."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from dataset import Material
from engine.cpu.decoder import decode_lod
from maps.channels import map_size, map_slice
from metrics.decoded_maps import decode_in_file_space, decode_maps
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model
from tests.support.paths import ROOT
from tests.support.texture_files import dds_mips, independent_decode, ktx2_levels
from transcode import codecs as texture_codecs
from transcode.textures import PROFILES, plan_textures, summary, transcode

EXTRAS = ("opacity", "emissive", "thickness")
HIGH, SCALE = 50.0, 0.05


@pytest.fixture
def encoder():
    pytest.importorskip("ispc_texcomp", reason="not installed (pip install -r requirements/codecs.txt)")
    return pytest.importorskip("imagecodecs", reason="not installed (pip install -r requirements/codecs.txt)")


def made(width, height, present, **changes):
    """(model, record) of random grids; `changes` are fields of the maps' records, by map name."""
    random = np.random.default_rng(2)
    arrays = {name: random.integers(0, 256, (height, width, map_size(name)), dtype=np.uint8) for name in present}
    material = Material.from_arrays("made", arrays)
    model = make_model([GridSpec(8, 4, 8, 32)], DecoderSpec(1, 16, 1, outputs=material.channels), material)
    record = material.record
    maps = tuple(replace(entry, **changes.get(entry.name, {})) for entry in record.maps)
    return model, replace(record, maps=maps)


def spaces(name: str) -> dict:
    return {"color_space": name, "file_color_space": name}


def bright(name: str, log_scale: float | None = SCALE) -> dict:
    return {name: {**spaces("linear"), "bit_depth": 16, "value_range": (0.0, HIGH), "log_scale": log_scale}}


def expected_light(model, record, name: str, lod: int, log_scale: float | None = SCALE) -> np.ndarray:
    t = decode_in_file_space(model, record, lod, decode_lod)[..., map_slice(name)].double().clamp(0, 1).numpy()
    return t * HIGH if log_scale is None else log_scale * (2 ** (t * np.log2(1 + HIGH / log_scale)) - 1)


def as_srgb(values: np.ndarray) -> np.ndarray:
    """Codes from 0 to 255, not rounded."""
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055) * 255


def png(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return -10 * np.log10(max(np.mean((one / 255.0 - other / 255.0) ** 2), 1e-10))


# --- whole transcodes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (37, 10), (1, 1)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_extra_map_at_every_mip(size, encoder, tmp_path):
    model, record = made(*size, ("diffuse", "roughness", *EXTRAS), emissive=spaces("srgb"))
    paths = transcode(model, record, tmp_path, quality="slow")
    names = {"diffuse": (99, 146), "roughness": (80, 139), "emissive": (99, 146), "thickness": (80, 139)}
    assert {path.stem for path in paths if path.suffix == ".dds"} == set(names)
    for name, (dxgi, vk) in names.items():
        payload = (tmp_path / f"{name}.dds").read_bytes()
        head, mips = dds_mips(payload)
        other, levels = ktx2_levels((tmp_path / f"{name}.ktx2").read_bytes())
        assert (head["dxgi"], other["vk"]) == (dxgi, vk) and b"".join(levels) == payload[148:]
        assert int.from_bytes(payload[144:148], "little") == (1 if name == "diffuse" else 3)  # straight, opaque
        for lod, mip in enumerate(mips):
            decoded = decode_maps(model, record, lod, decode_lod)
            source = decoded[name]
            if name == "diffuse":
                source = np.dstack([source, decoded["opacity"]])
            assert np.array_equal(png(tmp_path / f"{name}_lod{lod}.png").reshape(source.shape), source)
            channels = source.shape[2]
            assert psnr(mip[..., :channels], source) > 33
            form = "bc7 with alpha" if name == "diffuse" else "bc4" if dxgi == 80 else "bc7"
            assert psnr(independent_decode(form, levels[lod], *source.shape[1::-1]), source) > 33


@pytest.mark.parametrize("log_scale", [SCALE, None])
def test_light_above_1_is_in_the_files_units(log_scale, encoder, tmp_path):
    model, record = made(64, 64, ("emissive",), **bright("emissive", log_scale))
    said = []
    transcode(model, record, tmp_path, quality="slow", say=said.append)
    assert "emissive reaches 50" in said[0] and "rounded" not in " ".join(said)
    payload = (tmp_path / "emissive.dds").read_bytes()
    assert dds_mips(payload)[0]["dxgi"] == 95
    header, levels = ktx2_levels((tmp_path / "emissive.ktx2").read_bytes())
    assert header["vk"] == 143 and b"".join(levels) == payload[148:]
    peaks = []
    for lod, blocks in enumerate(levels):
        want = expected_light(model, record, "emissive", lod, log_scale)
        size = want.shape[0]
        sides = (max(size, 4),) * 2
        found = encoder.bcn_decode(blocks, 6, shape=(*sides, 3))[:size, :size].astype(float)
        seen = want > 0.5
        assert np.median(np.abs(found - want)[seen] / want[seen]) < 0.04
        peaks.append(found.max() / want.max())
        codes = png(tmp_path / f"emissive_lod{lod}.png")
        assert np.abs(codes.astype(float) - as_srgb(want / HIGH)).max() < 0.6
    assert np.abs(np.array(peaks) - 1).max() < 0.05


def test_a_linear_emission_is_srgb_in_every_texture(encoder, tmp_path):
    """Dark glow keeps its steps; the format says sRGB, so that a sampler returns linear light."""
    model, record = made(32, 32, ("emissive",), emissive={**spaces("linear"), "bit_depth": 16})
    transcode(model, record, tmp_path)
    values = decode_in_file_space(model, record, 0, decode_lod)[..., map_slice("emissive")].double().numpy()
    want = as_srgb(values)
    assert np.abs(png(tmp_path / "emissive_lod0.png") - want).max() < 0.6
    head, mips = dds_mips((tmp_path / "emissive.dds").read_bytes())
    assert head["dxgi"] == 99 and psnr(mips[0][..., :3], want) > 33


def test_a_diffuse_above_1_has_its_opacity_beside_it(encoder, tmp_path):
    model, record = made(16, 16, ("diffuse", "opacity"), **bright("diffuse"))
    assert [(plan.name, plan.form, plan.srgb) for plan in plan_textures(record)] == [
        ("diffuse", "bc6h", False), ("opacity", "bc4", False)
    ]  # fmt: skip
    said = []
    transcode(model, record, tmp_path, say=said.append)
    assert "clipped to 1" in said[0]
    want = expected_light(model, record, "diffuse", 0)
    assert np.abs(png(tmp_path / "diffuse_lod0.png") - as_srgb(want)).max() < 0.6 and want.max() > 1
    alpha = decode_maps(model, record, 0, decode_lod)["opacity"]
    assert np.array_equal(png(tmp_path / "opacity_lod0.png"), alpha[..., 0])
    assert psnr(dds_mips((tmp_path / "opacity.dds").read_bytes())[1][0], alpha) > 33
    payload = (tmp_path / "material.glb").read_bytes()
    with Image.open(io.BytesIO(payload[payload.index(b"\x89PNG") :])) as picture:
        assert np.array_equal(np.asarray(picture)[..., 3:], alpha)


def test_opacity_alone_is_bc4():
    _, record = made(4, 4, ("roughness", "opacity"))
    assert [(plan.name, plan.form) for plan in plan_textures(record)] == [("roughness", "bc4"), ("opacity", "bc4")]


def test_alpha_is_told(encoder, tmp_path):
    _, record = made(8, 8, ("diffuse", "opacity", "thickness"))
    text = summary([], record, ("dds",), "bc4")[0]
    assert text.startswith("diffuse BC7 sRGB with alpha, thickness BC4: 12 bits per texel")


# --- BC7 with alpha --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["veryfast", "basic", "slow"])
def test_what_is_opaque_and_what_is_not_stays_so(profile, encoder):
    """Blocks within a leaf decode to alpha 255 and blocks outside to 0; their colours are as good as without alpha."""
    y, x = np.mgrid[:64, :128]
    colours = np.stack([127 + 60 * np.sin(x / (9 + c)) + 50 * np.cos(y / 7 - c * x / 19) for c in range(3)], axis=2)
    colours += np.random.default_rng(3).normal(0, 1.5, colours.shape)
    alpha = np.clip((40 - np.hypot(x - 60, y - 30)) * 255, 0, 255)
    pixels = np.dstack([colours.clip(0, 255), alpha]).astype(np.uint8)
    blocks = texture_codecs.encode_blocks("bc7", pixels, profile)
    found = independent_decode("bc7 with alpha", blocks, 128, 64)
    of_block = pixels[..., 3].reshape(16, 4, 32, 4)
    whole, none = ((of_block == level).all(axis=(1, 3)).repeat(4, 0).repeat(4, 1) for level in (255, 0))
    assert (found[whole][:, 3] == 255).all() and (found[none][:, 3] == 0).all()
    opaque = independent_decode("bc7", texture_codecs.encode_blocks("bc7", pixels[..., :3], profile), 128, 64)
    assert np.array_equal(found[whole][:, :3], opaque[whole]) and psnr(found[..., 3], pixels[..., 3]) > 38
    assert ((found[..., 3] >= 128) != (pixels[..., 3] >= 128)).mean() < 0.002


@pytest.mark.parametrize("profile", ["veryfast", "basic", "slow"])
def test_light_keeps_its_scale_in_bc6h(profile, encoder):
    y, x = np.mgrid[:10, :7]
    light = np.stack([HIGH * np.exp(-(x + y) / (3 + c)) for c in range(3)], axis=2).astype(np.float16)
    blocks = texture_codecs.encode_blocks("bc6h", light, profile)
    assert len(blocks) == 3 * 2 * 16
    found = encoder.bcn_decode(blocks, 6, shape=(12, 8, 3))[:10, :7].astype(float)
    assert np.abs(found / light.astype(float) - 1).max() < 0.35 and np.median(np.abs(found / light - 1)) < 0.05
    assert found.max() == pytest.approx(HIGH, rel=0.02)


def test_small_lamps_keep_their_peak(encoder):
    """Of the sample: buds of a few texels on nothing."""
    light = OpenEXR.File(str(ROOT / "data/test_leaves/Leaves_Emissive.exr")).channels()["RGB"].pixels
    for profile in PROFILES.values():
        blocks = texture_codecs.encode_blocks("bc6h", light, profile)
        found = encoder.bcn_decode(blocks, 6, shape=light.shape).astype(float)
        assert found.max() == pytest.approx(50, rel=0.05)
        lit = light > 0.05
        assert np.median(np.abs(found - light)[lit] / light[lit]) < 0.04
        assert found[light == 0].max() < 1e-3
