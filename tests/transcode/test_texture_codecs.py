"""transcode/codecs.py: rates, channel order, decoders against plain ones, and PSNR as evaluate_lod has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dataset import Material
from maps.channels import ALL_CHANNELS, CHANNELS, MAPS, map_size, map_slice
from transcode import codecs as texture_codecs
from transcode.codecs import (
    BLOCK_CODECS,
    CODECS,
    DEFAULT_QUALITY,
    IMAGE_CODECS,
    encode_decode,
    image_layout,
    interpolate_at_rate,
    missing_packages,
)

ALL_MAPS = tuple(MAPS)


def need(*codecs: str) -> None:
    """Skip the test unless these codecs work here."""
    missing = sorted({name for codec in codecs for name in missing_packages(codec)})
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (pip install -r requirements/codecs.txt)")


def smooth(width=32, height=24, present=ALL_MAPS, deep=()) -> Material:
    """Slow waves, another one in each channel: what every codec stores well, if it stores the right channel."""
    y, x = np.mgrid[:height, :width]
    arrays = {}
    for name in present:
        first = map_slice(name).start
        channels = range(first, first + map_size(name))
        waves = [0.5 + 0.4 * math.cos(c) + 0.1 * np.sin(x / 9 + y / 13 + c) for c in channels]
        if name == "normal":  # unit vectors that lean a little
            lean = [0.2 * np.sin(x / 15 + 1), 0.2 * np.cos(y / 12)]
            waves = [0.5 + 0.5 * v for v in (*lean, np.sqrt(1 - lean[0] ** 2 - lean[1] ** 2))]
        values = np.clip(np.stack(waves, axis=2), 0, 1)
        top, dtype = (65535, np.uint16) if name in deep else (255, np.uint8)
        arrays[name] = (values * top).round().astype(dtype)
    return Material.from_arrays("smooth", arrays)


# --- layout and rates ----------------------------------------------------------------------------------------------


def test_an_engine_packs_colour_normal_and_three_scalars_an_image():
    scalars = ("roughness", "occlusion", "metallic")
    assert image_layout(ALL_MAPS, "bc7") == [
        (("diffuse",), 3), (("normal",), 3), (scalars, 3), (("specular", "displacement"), 3)
    ]  # fmt: skip
    assert image_layout(("metallic", "normal"), "astc8x8") == [(("normal",), 3), (("metallic",), 1)]
    for codec in ("bc7+bc5+bc4", *IMAGE_CODECS):
        assert image_layout(("roughness", "diffuse", "occlusion"), codec) == [
            (("diffuse",), 3), (("roughness",), 1), (("occlusion",), 1)
        ]  # fmt: skip


def test_opacity_is_alpha_where_blocks_have_one():
    maps = ("diffuse", "roughness", "opacity", "emissive", "thickness")
    colour, light = (("diffuse", "opacity"), 4), (("emissive",), 3)
    for codec in ("bc7", "astc6x6"):
        assert image_layout(maps, codec) == [colour, light, (("roughness", "thickness"), 3)]
    assert image_layout(maps, "bc1") == [(("diffuse",), 3), light, (("roughness", "opacity", "thickness"), 3)]
    assert image_layout(maps, "bc7+bc5+bc4") == [colour, light, (("roughness",), 1), (("thickness",), 1)]
    assert image_layout(maps, "avif") == [
        (("diffuse",), 3), light, (("roughness",), 1), (("opacity",), 1), (("thickness",), 1)
    ]  # fmt: skip
    assert image_layout(("roughness", "opacity"), "bc7") == [(("roughness", "opacity"), 3)]


# of seven maps: four images, or with BC4 two and five planes
BLOCK_RATES = {"bc1": 4 * 4, "bc7": 4 * 8, "bc7+bc5+bc4": 8 + 8 + 5 * 4}
BLOCK_RATES |= {f"astc{n}x{n}": 4 * 128 / n**2 for n in (4, 5, 6, 8, 10, 12)}


@pytest.mark.parametrize("codec", BLOCK_CODECS)
def test_bits_of_whole_blocks(codec):
    need(codec)
    result = encode_decode(smooth(120, 120), codec)  # every block size divides these
    assert result.bpp == pytest.approx(BLOCK_RATES[codec])
    assert result.bytes * 8 == pytest.approx(result.bpp * 120 * 120)
    assert result.seconds > 0 and result.settings


# --- what comes back -----------------------------------------------------------------------------------------------

# dB that a codec reaches on slow waves; a swapped channel gives less than 20
LEAST = {"bc1": 33, "astc8x8": 40, "astc10x10": 37, "astc12x12": 36, "avif": 38, "jxl": 38}


@pytest.mark.parametrize("codec", CODECS)
def test_every_channel_comes_back_where_it_was(codec):
    need(codec)
    material = smooth(97, 61)  # no block size divides these
    result = encode_decode(material, codec)
    assert result.decoded.shape == (61, 97, CHANNELS) and result.decoded.dtype == torch.float32
    assert result.decoded.min() >= 0 and result.decoded.max() <= 1
    assert torch.equal(result.decoded * 255, (result.decoded * 255).round())
    errors = ((result.decoded - material.texels(0)) ** 2).mean(dim=(0, 1))
    assert (-10 * torch.log10(errors)).min() > LEAST.get(codec, 43), errors
    assert result.quality == DEFAULT_QUALITY.get(codec)


@pytest.mark.parametrize("codec", CODECS)
def test_extra_maps_come_back_where_they_were(codec):
    need(codec)
    maps = ("diffuse", "roughness", "opacity", "emissive", "thickness")
    material = smooth(97, 61, maps, deep=("emissive",))
    result = encode_decode(material, codec)
    assert result.decoded.shape == (61, 97, ALL_CHANNELS)
    channels = material.present_channels.tolist()
    errors = ((result.decoded - material.texels(0)) ** 2).mean(dim=(0, 1))
    assert (-10 * torch.log10(errors[channels])).min() > LEAST.get(codec, 43), errors
    assert not result.decoded[..., [c for c in range(ALL_CHANNELS) if c not in channels]].any()
    assert set(result.psnr) == {"all", *maps} and min(result.psnr.values()) > LEAST.get(codec, 43)


@pytest.mark.parametrize("codec", ["bc7", "astc4x4"])
def test_a_smooth_picture_survives_above_45_db(codec):
    need(codec)
    assert encode_decode(smooth(64, 64, ("diffuse",)), codec).psnr["diffuse"] > 45


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3)])
def test_tiny_sizes(codec, width, height):
    need(codec)
    result = encode_decode(smooth(width, height, ("normal", "roughness", "metallic")), codec)
    assert result.decoded.shape == (height, width, CHANNELS)
    assert result.bytes > 0 and result.psnr["all"] > 30


@pytest.mark.parametrize("codec", ["bc7+bc5+bc4", "astc6x6", "avif"])
def test_missing_maps_are_zero_and_cost_nothing(codec):
    need(codec)
    few, many = (encode_decode(smooth(48, 48, present), codec) for present in (("occlusion",), ALL_MAPS))
    channels = few.decoded.abs().amax(dim=(0, 1)).nonzero().flatten().tolist()
    assert channels == [map_slice("occlusion").start]
    assert set(few.psnr) == {"all", "occlusion"} and few.psnr["all"] == few.psnr["occlusion"]
    assert few.bytes < many.bytes / 3


@pytest.mark.parametrize("codec", ["bc7", "jxl"])
def test_psnr_is_that_of_the_decoded_pixels(codec, make_material):
    need(codec)
    material = make_material(40, 30)
    result = encode_decode(material, codec)
    squares = (result.decoded.double() - material.texels(0).double()) ** 2
    parts = {"all": material.present_channels.tolist(), **{name: map_slice(name) for name in material.present}}
    expected = {name: -10 * math.log10(squares[..., part].mean()) for name, part in parts.items()}
    assert result.psnr == pytest.approx(expected, abs=1e-4) and next(iter(result.psnr)) == "all"


def test_sixteen_bits_are_compared_with_all_of_them():
    need("avif")
    deep, flat = (smooth(32, 32, ("roughness",), deep) for deep in (("roughness",), ()))
    coded = [encode_decode(material, "avif", 100).decoded for material in (deep, flat)]
    assert torch.equal(*coded)  # the same 8 bits went in
    rounding = ((deep.texels(0) - flat.texels(0)) ** 2).mean().item() * CHANNELS
    found = encode_decode(deep, "avif", 100).psnr["all"]
    assert rounding > 0 and found < -10 * math.log10(rounding) + 0.5


def test_linear_colour_is_coded_as_the_file_has_it():
    need("bc7")
    codes = smooth(32, 32, ("diffuse",)).stored(0, "diffuse")
    linear = Material.from_arrays("linear", {"diffuse": codes}, linear_color=True)
    srgb = Material.from_arrays("srgb", {"diffuse": codes})
    assert linear.bit_depth != srgb.bit_depth
    assert torch.equal(encode_decode(linear, "bc7").decoded, encode_decode(srgb, "bc7").decoded)


@pytest.mark.parametrize("codec", IMAGE_CODECS)
def test_quality_buys_psnr_with_bits(codec, make_material):
    need(codec)
    material = make_material(64, 64)
    results = [encode_decode(material, codec, quality) for quality in (10, 50, 90)]
    assert [r.quality for r in results] == [10, 50, 90]
    assert results[0].bpp < results[1].bpp < results[2].bpp
    assert results[0].psnr["all"] < results[1].psnr["all"] < results[2].psnr["all"]


def test_scalars_are_no_colours(make_material):
    """Noise in one scalar leaves its neighbours alone; as R of an RGB picture it would not."""
    need("avif")
    material = make_material(64, 64, ("roughness", "occlusion"))
    flat = np.full((64, 64), 77, np.uint8)
    mixed = Material.from_arrays("mixed", {"roughness": material.stored(0, "roughness"), "occlusion": flat})
    result = encode_decode(mixed, "avif", 30)
    assert result.psnr["roughness"] < 35 and result.psnr["occlusion"] > 50


# --- decoders against plain ones -----------------------------------------------------------------------------------


def bc1_texels(block: bytes) -> np.ndarray:
    """(4, 4, 3) float of an opaque BC1 block. Source: Direct3D 11.3 specification, 19.5.6 BC1."""
    ends = np.frombuffer(block[:4], "<u2").astype(int)
    r, g, b = ends >> 11, ends >> 5 & 63, ends & 31
    colours = np.stack([(r << 3) | (r >> 2), (g << 2) | (g >> 4), (b << 3) | (b >> 2)], axis=1).astype(float)
    if ends[0] > ends[1]:
        palette = [colours[0], colours[1], (2 * colours[0] + colours[1]) / 3, (colours[0] + 2 * colours[1]) / 3]
    else:
        palette = [colours[0], colours[1], (colours[0] + colours[1]) / 2, np.zeros(3)]
    word = int.from_bytes(block[4:], "little")
    return np.array([palette[word >> 2 * i & 3] for i in range(16)]).reshape(4, 4, 3)


def bc4_texels(block: bytes) -> np.ndarray:
    """(4, 4) float of a BC4 block. Source: Direct3D 11.3 specification, 19.5.9 BC4."""
    a, b = float(block[0]), float(block[1])
    if a > b:
        palette = [a, b] + [((7 - i) * a + i * b) / 7 for i in range(1, 7)]
    else:
        palette = [a, b] + [((5 - i) * a + i * b) / 5 for i in range(1, 5)] + [0.0, 255.0]
    word = int.from_bytes(block[2:], "little")
    return np.array([palette[word >> 3 * i & 7] for i in range(16)]).reshape(4, 4)


@pytest.fixture
def captured(monkeypatch):
    """The compressed bytes of the last image that went through a block codec."""
    kept = []

    class Timer(texture_codecs._Timer):
        def run(self, call, *arguments, **options):
            result = super().run(call, *arguments, **options)
            kept.append(bytes(result))
            return result

    monkeypatch.setattr(texture_codecs, "_Timer", Timer)
    return kept


@pytest.mark.parametrize("form", ["bc1", "bc4"])
def test_plain_decoders_agree(form, captured, make_material):
    codec, size = ("bc1", 8) if form == "bc1" else ("bc7+bc5+bc4", 8)
    need(codec)
    name = "diffuse" if form == "bc1" else "roughness"
    result = encode_decode(make_material(12, 8, (name,)), codec)
    blocks = [captured[-1][i * size : (i + 1) * size] for i in range(6)]  # row by row
    decode = bc1_texels if form == "bc1" else bc4_texels
    texels = [decode(block).reshape(4, 4, -1) for block in blocks]
    expected = np.concatenate([np.concatenate(texels[row : row + 3], axis=1) for row in (0, 3)])
    found = result.decoded[..., map_slice(name)].numpy() * 255
    assert np.abs(found - expected).max() <= 1.01  # decoders may round thirds and sevenths either way


@pytest.mark.parametrize("codec", ["bc7", "astc6x6"])
def test_a_second_decoder_agrees(codec, captured, make_material):
    need(codec)
    second = pytest.importorskip("texture2ddecoder")
    result = encode_decode(make_material(36, 24, ("diffuse",)), codec)
    if codec == "bc7":
        pixels = second.decode_bc7(captured[-1], 36, 24)
    else:
        pixels = second.decode_astc(captured[-1], 36, 24, 6, 6)
    bgra = np.frombuffer(pixels, np.uint8).reshape(24, 36, 4)
    found = (result.decoded[..., map_slice("diffuse")].numpy() * 255).round()
    # of the 16 bits that ASTC interpolates to, one decoder takes the upper 8 and the other rounds
    assert np.abs(found - bgra[..., 2::-1]).max() <= (0 if codec == "bc7" else 1)


def test_rebuilt_z():
    need("bc7+bc5+bc4")
    pixels = np.array([[[128, 128], [255, 128], [0, 0], [128, 26]]], np.uint8)
    assert texture_codecs._rebuilt_z(pixels).tolist() == [[255, 128, 128, 205]]


# --- interpolation -------------------------------------------------------------------------------------------------


def test_interpolation_is_linear_in_the_logarithm_of_the_rate():
    rates, values = [4, 1, 16], [36, 30, 50]  # in any order
    assert interpolate_at_rate(rates, values, 2) == pytest.approx(33)
    assert interpolate_at_rate(rates, values, 8) == pytest.approx(43)
    assert [interpolate_at_rate(rates, values, rate) for rate in rates] == pytest.approx(values)


def test_beaten_measurements_do_not_take_part():
    assert interpolate_at_rate([1, 2, 4], [30, 29, 36], 2) == pytest.approx(33)  # more bits for less
    assert interpolate_at_rate([1, 2, 4], [30, 38, 36], 3) == pytest.approx(38)
    assert interpolate_at_rate([2, 2], [30, 31], 2) == 31


def test_nothing_is_extrapolated():
    assert interpolate_at_rate([1, 4], [30, 36], 0.99) is None
    assert interpolate_at_rate([1, 4], [30, 36], 4.01) is None
    assert interpolate_at_rate([], [], 1) is None
    assert interpolate_at_rate([2], [30], 2) == 30


# --- refusals ------------------------------------------------------------------------------------------------------


def test_refusals(refused, make_material):
    material = make_material(8, 8)
    with refused("bc9", "astc12x12"):
        encode_decode(material, "bc9")
    with refused("bc7", "quality"):
        encode_decode(material, "bc7", 50)
    for quality in (-1, 101):
        with refused("avif", str(quality)):
            encode_decode(material, "avif", quality)


@pytest.mark.parametrize(("codec", "package"), [("bc1", "ispc_texcomp"), ("astc4x4", "astc_encoder"),
                                                ("jxl", "imagecodecs")])  # fmt: skip
def test_a_missing_package_is_named(codec, package, refused, make_material, monkeypatch):
    imported = texture_codecs.importlib.import_module

    def absent(name):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name)

    monkeypatch.setattr(texture_codecs.importlib, "import_module", absent)
    texture_codecs._package.cache_clear()
    try:
        with refused(package, "pip install -r requirements/codecs.txt"):
            encode_decode(make_material(8, 8), codec)
        assert package in missing_packages(codec)
    finally:
        texture_codecs._package.cache_clear()


def test_pillow_without_avif_is_named(refused, make_material, monkeypatch):
    from PIL import features

    monkeypatch.setattr(features, "check", lambda name: False)
    with refused("avif", "pip install -r requirements/codecs.txt"):
        encode_decode(make_material(8, 8), "avif")
    assert missing_packages("avif")
