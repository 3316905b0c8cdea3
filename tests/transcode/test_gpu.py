"""Blocks made by the compute shader, and whole transcodes on a device: read by others, as good as the CPU's encoder."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import export
from common.errors import run_command
from engine.cpu.decoder import decode_lod
from formats.dds import encode_block_dds
from metrics.decoded_maps import decode_maps
from shaders.on_load import blocks_source
from tests.support.on_load_cases import CASES, make_export
from tests.support.paths import ROOT
from tests.support.shader_hosts import wgpu_device
from tests.support.texture_files import dds_mips, independent_decode, ktx2_levels
from transcode import codecs, gpu
from transcode.gpu import BlockEncoder, open_device
from transcode.textures import plan_textures, transcode

SIZES = [(64, 64), (37, 10), (5, 3), (2, 1), (1, 1), (1, 9)]
SAMPLE = ROOT / "data" / "test"
SCALARS = ("Roughness", "AO", "Metallic", "Specular", "Displacement")


@pytest.fixture(scope="module")
def device():
    wgpu_device()  # says what is missing
    return open_device()


@pytest.fixture(scope="module")
def encoder(device) -> BlockEncoder:
    return BlockEncoder(device)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return -10 * np.log10(max(np.mean((one / 255.0 - other / 255.0) ** 2), 1e-10))


def sample(name: str) -> np.ndarray:
    """(128, 128, C) uint8 of a map of data/test."""
    with Image.open(SAMPLE / f"Test_{name}.png") as picture:
        pixels = np.asarray(picture)[200:328, 100:228]
    return pixels[..., :3] if pixels.ndim == 3 else pixels[..., None]


def rgba(pixels: np.ndarray, alpha: np.ndarray | int = 255) -> np.ndarray:
    """(H, W, 4) of (H, W, 3) or grey pixels."""
    colour = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return np.dstack([colour, np.broadcast_to(np.uint8(alpha), pixels.shape[:2])])


def masked() -> np.ndarray:
    """The sample's albedo with an alpha that is 0, 255, and a few texels in between."""
    y, x = np.mgrid[:128, :128]
    alpha = np.clip(128 + 60 * (np.hypot(x - 50, y - 70) - 40 + 8 * np.sin(x / 3)), 0, 255).astype(np.uint8)
    return rgba(sample("Albedo"), alpha)


IMAGES = {
    "albedo": lambda: rgba(sample("Albedo")),
    "orm": lambda: rgba(np.dstack([sample(name) for name in ("AO", "Roughness", "Metallic")])),
    "dark": lambda: rgba(sample("Albedo") // 4 * (sample("Roughness") > 120).astype(np.uint8)),
    "smooth": lambda: np.add.outer(np.arange(128), np.arange(128))[..., None].astype(np.uint8) // [[[2, 3, 1, 4]]] + 40,
    "noise": lambda: np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8),
    "mask": masked,
}


def read_bc7(blocks: bytes, width: int, height: int) -> np.ndarray:
    """(H, W, 4) by texture2ddecoder and by Pillow, which have to agree."""
    pixels = independent_decode("bc7 with alpha", blocks, width, height)
    with Image.open(io.BytesIO(encode_block_dds(width, height, 98, [blocks]))) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGBA")), pixels)
    return pixels


# --- as good as the CPU's encoder ------------------------------------------------------------------------------------


def assert_bc7(name: str, encoder: BlockEncoder) -> None:
    pytest.importorskip("ispc_texcomp", reason="not installed (pip install -r requirements/codecs.txt)")
    pixels = np.ascontiguousarray(IMAGES[name]().astype(np.uint8))
    height, width = pixels.shape[:2]
    ours = read_bc7(encoder.encode_pixels(pixels, "bc7"), width, height)
    theirs = read_bc7(codecs._compressed("bc7", pixels, "alpha_ultrafast"), width, height)
    assert psnr(ours, pixels) > psnr(theirs, pixels) - 1


@pytest.mark.parametrize("name", IMAGES)
def test_bc7_is_as_good_as_the_fastest_profile(name, encoder):
    assert_bc7(name, encoder)


def assert_bc4(name: str, encoder: BlockEncoder) -> None:
    pytest.importorskip("ispc_texcomp", reason="not installed (pip install -r requirements/codecs.txt)")
    pixels = sample(name)
    for channel in range(4):
        other = np.zeros((128, 128, 4), np.uint8)
        other[..., channel : channel + 1] = pixels
        blocks = encoder.encode_pixels(other, "bc4", channel), codecs.encode_blocks("bc4", pixels)
        ours, theirs = (psnr(independent_decode("bc4", found, 128, 128), pixels) for found in blocks)
        assert ours >= theirs


@pytest.mark.parametrize("name", SCALARS)
def test_bc4_is_as_good_as_the_cpu_encoder(name, encoder):
    assert_bc4(name, encoder)


def test_bc5_is_as_good_as_the_cpu_encoder(encoder):
    pytest.importorskip("ispc_texcomp", reason="not installed (pip install -r requirements/codecs.txt)")
    pixels = sample("Normal")
    ours, theirs = (independent_decode("bc5", blocks, 128, 128) for blocks in
                    (encoder.encode_pixels(rgba(pixels), "bc5"), codecs.encode_blocks("bc5", pixels)))  # fmt: skip
    assert psnr(ours, pixels[..., :2]) > psnr(theirs, pixels[..., :2])


# --- exact where it has to be ----------------------------------------------------------------------------------------


def assert_opaque(name: str, encoder: BlockEncoder) -> None:
    pixels = masked()
    decoded = read_bc7(encoder.encode_pixels(pixels, "bc7"), 128, 128)
    blocks, after = (image[..., 3].reshape(32, 4, 32, 4) for image in (pixels, decoded))
    for level in (0, 255):
        whole = (blocks == level).all(axis=(1, 3))
        assert whole.sum() > 50 and (after.swapaxes(1, 2)[whole] == level).all()
    assert (read_bc7(encoder.encode_pixels(IMAGES["dark"](), "bc7"), 128, 128)[..., 3] == 255).all()


def test_what_is_opaque_or_transparent_throughout_a_block_stays_so(encoder):
    assert_opaque("opaque", encoder)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_constant_images_of_any_size(size, encoder):
    width, height = size
    for value in (0, 1, 77, 254, 255):
        pixels = np.full((height, width, 4), (value, 255 - value, 0, 255), np.uint8)
        blocks = {form: encoder.encode_pixels(pixels, form, 1) for form in ("bc4", "bc5", "bc7")}
        count = -(-width // 4) * -(-height // 4)
        assert [len(found) for found in blocks.values()] == [8 * count, 16 * count, 16 * count]
        assert np.array_equal(independent_decode("bc4", blocks["bc4"], width, height), pixels[..., 1:2])
        assert np.array_equal(independent_decode("bc5", blocks["bc5"], width, height), pixels[..., :2])
        assert np.abs(read_bc7(blocks["bc7"], width, height).astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("size", SIZES[1:], ids=lambda size: f"{size[0]}x{size[1]}")
def test_texels_beyond_an_edge_are_those_at_the_edge(size, encoder):
    width, height = size
    pixels = np.ascontiguousarray(masked()[40 : 40 + height, 20 : 20 + width])
    whole = np.pad(pixels, [(0, -height % 4), (0, -width % 4), (0, 0)], mode="edge")
    for form in ("bc4", "bc5", "bc7"):
        assert encoder.encode_pixels(pixels, form) == encoder.encode_pixels(whole, form)


def test_two_colours_of_a_block_are_exact_in_bc4(encoder):
    for low, high in ((0, 255), (10, 11), (3, 200)):
        pixels = np.random.default_rng(1).choice(np.uint8([low, high]), (16, 16, 4))
        for channel in range(4):
            decoded = independent_decode("bc4", encoder.encode_pixels(pixels, "bc4", channel), 16, 16)
            assert np.array_equal(decoded[..., 0], pixels[..., channel])


MISTAKES = {  # a check, and a replacement in the WGSL
    "the first index keeps its highest bit": ("albedo", "i32(0))) > (last", "i32(0))) > (99 + last"),
    "green lies elsewhere": ("albedo", "(u32(21))", "(u32(20))"),
    "indices of alphas": ("mask", "ntTwoBits(alphaIndices_0)", "ntTwoBits(indices_6)"),
    "places between end points": ("orm", "(index_0 * i32(64) +", "(index_0 * i32(40) +"),
    "an alpha of 254": ("opaque", "alphas_0 == i32(1)", "false"),
    "BC4's middle": ("Roughness", "u32(step_0 + i32(1))", "u32(step_0)"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_caught(what, device, monkeypatch):
    name, right, wrong = MISTAKES[what]
    source = blocks_source("wgsl")
    assert right in source
    monkeypatch.setattr(gpu, "blocks_source", lambda _: source.replace(right, wrong))
    wrong_one = BlockEncoder(device)
    with pytest.raises(AssertionError):
        (assert_bc4 if name in SCALARS else assert_opaque if name == "opaque" else assert_bc7)(name, wrong_one)


# --- whole transcodes ------------------------------------------------------------------------------------------------


def held(plan, maps: dict[str, np.ndarray]) -> np.ndarray:
    pixels = plan.pixels(maps)
    return pixels[..., :2] if plan.form == "bc5" else pixels


@pytest.mark.parametrize("name", ["all", "one_texel", "blocks"])
@pytest.mark.parametrize("scalars", ["bc4", "orm_bc7"])
def test_every_mip_of_every_texture_is_its_own_lod(name, scalars, device, tmp_path):
    exported = make_export(CASES[name], tmp_path / "export")
    model, material, out = exported.model, exported.manifest.material, tmp_path / "out"
    paths = transcode(model, material, out, scalars=scalars, device="gpu", say=lambda _: None)
    plans = plan_textures(material, scalars)
    endings = [".dds", ".ktx2", *(f"_lod{lod}.png" for lod in range(material.num_lods))]
    assert {path.name for path in paths} == {"material.glb", *(plan.name + end for plan in plans for end in endings)}
    for plan in plans:
        _, mips = dds_mips((out / f"{plan.name}.dds").read_bytes())
        _, levels = ktx2_levels((out / f"{plan.name}.ktx2").read_bytes())
        assert b"".join(levels) == (out / f"{plan.name}.dds").read_bytes()[148:]
        for lod, mip in enumerate(mips):
            maps = decode_maps(model, material, lod, decode_lod)
            with Image.open(out / f"{plan.name}_lod{lod}.png") as picture:
                picture = np.asarray(picture).reshape(plan.pixels(maps).shape).astype(int)
            assert np.abs(picture - plan.pixels(maps)).max() <= 1
            assert psnr(mip[..., : held(plan, maps).shape[2]], held(plan, maps)) > 25


def test_bands_of_rows_are_the_whole(device, tmp_path, monkeypatch):
    exported = make_export(CASES["all"], tmp_path / "export")
    found = []
    for texels in (1 << 18, 40 * 8):
        monkeypatch.setattr(gpu, "BAND", texels)
        transcode(exported.model, exported.manifest.material, tmp_path / f"{texels}", device="gpu", say=lambda _: None)
        found.append({path.name: path.read_bytes() for path in sorted((tmp_path / f"{texels}").iterdir())})
    assert found[0] == found[1]


def run(*words: object) -> int:
    return run_command(lambda: export.main([str(word) for word in words]))


def test_command(device, folder, tmp_path, capsys):
    flags = ["--transcode", "dds,png", "--transcode_device", "gpu", "--transcode_scalars", "orm_bc7"]
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", *flags) == 0
    names = {path.name for path in (tmp_path / "out" / "transcoded").iterdir()}
    assert names >= {"diffuse.dds", "orm.dds", "diffuse_lod0.png", "orm_lod3.png"}
    assert "10 files" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--transcode_scalars", "orm_bc1"], ["--transcode_quality", "slow"]])
def test_what_the_shaders_do_not_make_is_refused(flags, device, folder, tmp_path, capsys):
    flags = ["--transcode", "dds", "--transcode_device", "gpu", *flags]
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "cpu" in error and not (tmp_path / "out" / "transcoded").exists()


@pytest.mark.parametrize("name", ["emissive", "diffuse"])
def test_light_is_for_the_cpu(name, device, tmp_path, refused):
    exported = make_export(CASES["all"], tmp_path / "export")
    material = exported.manifest.material
    maps = tuple(replace(entry, file_color_space="linear", color_space="linear") if entry.name == name else entry
                 for entry in material.maps)  # fmt: skip
    with refused("--transcode_device gpu", name, "use cpu"):
        transcode(exported.model, replace(material, maps=maps), tmp_path / "out", device="gpu", say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_without_wgpu_there_is_one_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wgpu", None)
    open_device.cache_clear()
    try:
        assert run("--load_dir", folder, "--out_dir", tmp_path / "out", "--transcode", "--transcode_device", "gpu") == 2
    finally:
        open_device.cache_clear()
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "pip install wgpu" in error and "use cpu" in error
    assert not (tmp_path / "out").exists()
