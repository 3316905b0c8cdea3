"""export.py --transcode: DDS, KTX2 and PNG, each read back by a reader that is not the writer."""

from __future__ import annotations

import io
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from dataset import Constant, load_material
from engine.cpu.decoder import decode_lod
from formats.dds import encode_block_dds
from formats.ktx2 import encode_ktx2
from formats.manifest import NETWORK
from formats.options import EXPORT_FIELDS, SCALAR_TEXTURES, TEXTURE_FORMATS, build_export_parser, parse_formats
from formats.textures import read_export, write_export
from maps.channels import MAPS, map_slice
from metrics.decoded_maps import decode_maps
from shape import DecoderSpec, GridSpec
from tests.support.exports import edit_manifest, make_model, run
from tests.support.map_images import write_exr
from tests.support.texture_files import dds_mips, independent_decode, ktx2_levels
from transcode import codecs as texture_codecs
from transcode import textures as module
from transcode.textures import plan_textures, transcode

SIZES = [(64, 64), (37, 10), (5, 3), (2, 1), (1, 1), (1, 9)]


@pytest.fixture
def encoder():
    pytest.importorskip("ispc_texcomp", reason="not installed (pip install -r requirements/codecs.txt)")


@pytest.fixture
def no_encoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "ispc_texcomp", None)
    texture_codecs._package.cache_clear()
    yield
    texture_codecs._package.cache_clear()


@pytest.fixture
def exported(make_material, tmp_path):
    """exported(width, height, present=...) -> (model, manifest's material) of a made export; slow waves in each LOD."""

    def make(width, height, present=tuple(MAPS), constants=None, **changes):
        material = make_material(width, height, present=present)
        for name, value in changes.items():
            setattr(material, name, value)
        model = make_model([GridSpec(8, 4, 8, 32)], DecoderSpec(1, 16, 1), material)
        model.constants = constants or {}
        folder = tmp_path / "export"
        folder.mkdir()
        write_export(folder, model, material.hashed_record)
        result = read_export(folder)
        return result.model, result.manifest.material

    return make


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return -10 * np.log10(max(np.mean((one / 255.0 - other / 255.0) ** 2), 1e-10))


# --- whole transcodes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scalars", SCALAR_TEXTURES)
def test_every_mip_of_every_texture_is_its_own_lod(size, scalars, encoder, exported, tmp_path):
    model, material = exported(*size)
    lods = [decode_maps(model, material, lod, decode_lod) for lod in range(material.num_lods)]
    out = tmp_path / "out"
    paths = transcode(model, material, out, scalars=scalars, quality="slow")
    assert sorted(paths) == sorted(out.iterdir())
    names = ["diffuse", "normal", "specular", "displacement"]
    names += ["roughness", "occlusion", "metallic"] if scalars == "bc4" else ["orm"]
    forms = {"diffuse": ("bc7", 99, 146), "normal": ("bc5", 83, 141)}
    forms["orm"] = {"orm_bc7": ("bc7", 98, 145), "orm_bc1": ("bc1", 71, 131)}.get(scalars)
    assert {path.name for path in paths} == {
        "material.glb", *(f"{n}.dds" for n in names), *(f"{n}.ktx2" for n in names),
        *(f"{n}_lod{lod}.png" for n in names for lod in range(len(lods))),
    }  # fmt: skip
    for name in names:
        form, dxgi, vk = forms.get(name, ("bc4", 80, 139))
        head, mips = dds_mips((out / f"{name}.dds").read_bytes())
        assert head == {"dxgi": dxgi, "width": size[0], "height": size[1]}
        other, levels = ktx2_levels((out / f"{name}.ktx2").read_bytes())
        assert other == {"vk": vk, "width": size[0], "height": size[1]}
        assert b"".join(levels) == (out / f"{name}.dds").read_bytes()[148:]
        for lod, (decoded, mip, blocks) in enumerate(zip(lods, mips, levels)):
            source = decoded.get(name)
            if name == "orm":
                source = np.concatenate([decoded[n] for n in ("occlusion", "roughness", "metallic")], axis=2)
            with Image.open(out / f"{name}_lod{lod}.png") as picture:
                assert np.array_equal(np.asarray(picture).reshape(source.shape), source)
            stored = source[..., :2] if form == "bc5" else source
            least = 28 if form == "bc1" else 34
            assert psnr(mip[..., : stored.shape[2]], stored) > least
            height, width = source.shape[:2]
            assert psnr(independent_decode(form, blocks, width, height), stored) > least


def test_mips_are_not_smaller_copies_of_level_0(encoder, exported, tmp_path):
    """The LODs of this model have nothing in common: a chain made by downsampling would be far off."""
    model, material = exported(64, 64, present=("diffuse",))
    transcode(model, material, tmp_path / "out", ("dds",))
    _, mips = dds_mips((tmp_path / "out" / "diffuse.dds").read_bytes())
    small = mips[0][..., :3].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    own = decode_maps(model, material, 1, decode_lod)["diffuse"]
    assert psnr(small, own) < 20 < 34 < psnr(mips[1][..., :3], own)


def test_linear_diffuse_has_no_srgb_flag(encoder, exported, tmp_path):
    model, material = exported(8, 8, present=("diffuse",), file_color_space={"diffuse": "linear"},
                               color_space={"diffuse": "linear"})  # fmt: skip
    transcode(model, material, tmp_path / "out", ("dds", "ktx2"))
    assert dds_mips((tmp_path / "out" / "diffuse.dds").read_bytes())[0]["dxgi"] == 98
    assert ktx2_levels((tmp_path / "out" / "diffuse.ktx2").read_bytes())[0]["vk"] == 145


def test_a_linear_exr_albedo_is_srgb_in_png_and_glb(encoder, tmp_path):
    """Encoded before rounding, so that dark colours keep their steps; DDS and KTX2 stay linear, and say so."""
    random = np.random.default_rng(4)
    write_exr(tmp_path / "a_albedo.exr", (random.random((16, 16, 3)) ** 4).astype(np.float32))
    material = load_material(tmp_path)
    record = material.hashed_record
    assert (record.map("diffuse").color_space, record.map("diffuse").file_color_space) == ("linear", "linear")
    model = make_model([GridSpec(8, 4, 8, 32)], DecoderSpec(1, 16, 1), material)
    transcode(model, record, tmp_path / "out")
    linear = np.clip(decode_lod(model, 0, 16, 16)[..., :3].numpy().astype(np.float64), 0, 1)
    want = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.ptp(want) > 100
    with Image.open(tmp_path / "out" / "diffuse_lod0.png") as picture:
        pixels = np.asarray(picture)
    assert np.abs(pixels - want).max() <= 0.501
    payload = (tmp_path / "out" / "material.glb").read_bytes()
    start = payload.index(b"\x89PNG")
    with Image.open(io.BytesIO(payload[start:])) as picture:
        assert np.array_equal(np.asarray(picture), pixels)
    head, mips = dds_mips((tmp_path / "out" / "diffuse.dds").read_bytes())
    assert head["dxgi"] == 98 and psnr(mips[0][..., :3], linear * 255) > 30
    assert ktx2_levels((tmp_path / "out" / "diffuse.ktx2").read_bytes())[0]["vk"] == 145


def test_constant_channels_are_exact(encoder, exported, tmp_path):
    channel = map_slice("metallic").start
    model, material = exported(16, 16, present=("diffuse", "metallic"), constants={channel: Constant(77, 8)})
    transcode(model, material, tmp_path / "out", ("dds",))
    for mip in dds_mips((tmp_path / "out" / "metallic.dds").read_bytes())[1]:
        assert (mip == 77).all()


def test_packed_textures_leave_missing_maps_neutral(exported, tmp_path):
    model, material = exported(8, 4, present=("roughness", "specular"))
    paths = transcode(model, material, tmp_path / "out", ("png",), scalars="orm_bc7")
    assert {path.name for path in paths if "lod0" in path.name} == {"orm_lod0.png", "specular_lod0.png"}
    with Image.open(tmp_path / "out" / "orm_lod0.png") as picture:
        pixels = np.asarray(picture)
    assert (pixels[..., 0] == 255).all() and (pixels[..., 2] == 0).all()
    assert np.array_equal(pixels[..., 1:2], decode_maps(model, material, 0, decode_lod)["roughness"])


def test_nothing_to_pack(exported):
    _, material = exported(4, 4, present=("normal", "displacement"))
    plans = [(plan.name, plan.form) for plan in plan_textures(material, "orm_bc1")]
    assert plans == [("normal", "bc5"), ("displacement", "bc4")]


def test_more_effort_is_better(encoder):
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([127 + 80 * np.sin(x / 5 + c) + 40 * np.cos(y / 3 - c * x / 9) for c in range(3)], axis=2)
    pixels = pixels.clip(0, 255).astype(np.uint8)
    blocks = [texture_codecs.encode_blocks("bc7", pixels, profile) for profile in module.PROFILES.values()]
    fast, normal, slow = (psnr(independent_decode("bc7", coded, 64, 64), pixels) for coded in blocks)
    assert 35 < fast < normal < slow


@pytest.mark.parametrize("profile", module.PROFILES.values())
def test_opaque_in_opaque_out(profile, encoder):
    """Two decoders find alpha 255 at every texel, and colours no worse than the encoder's own."""
    imagecodecs = pytest.importorskip("imagecodecs")
    decoder = pytest.importorskip("texture2ddecoder")
    texcomp = texture_codecs.block_encoder()
    y, x = np.mgrid[:128, :64]
    waves = [127 + 60 * np.sin(x / (9 + c)) + 50 * np.cos(y / 7 - c * x / 19) for c in range(3)]
    noise = np.random.default_rng(3).normal(0, 1.5, (128, 64, 3))
    pixels = (np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)
    pixels[:16, :32], pixels[:4, :4], pixels[:4, 4:8] = (12, 200, 77), 0, 255
    after = texture_codecs.encode_blocks("bc7", pixels, profile)
    rgba = np.dstack([pixels, np.full((128, 64), 255, np.uint8)])
    surface = texcomp.RGBASurface(rgba.tobytes(), 64, 128, 256)
    before = texcomp.compress_blocks_bc7(surface, texcomp.BC7EncSettings.from_profile(profile))
    first, own = (imagecodecs.bcn_decode(blocks, 7, shape=(128, 64, 4)) for blocks in (after, before))
    second = np.frombuffer(decoder.decode_bc7(after, 64, 128), np.uint8).reshape(128, 64, 4)[..., [2, 1, 0, 3]]
    assert own[..., 3].min() == 254, "this picture no longer shows the encoder's fault"
    assert (first == second).all() and (first[..., 3] == 255).all()
    assert psnr(first[..., :3], pixels) >= psnr(own[..., :3], pixels) > 40


def test_the_header_says_opaque():
    payload = encode_block_dds(4, 4, 99, [bytes(16)])
    assert struct.unpack_from("<5I", payload, 128) == (99, 3, 0, 1, 3)  # DDS_ALPHA_MODE_OPAQUE


# --- the writers alone -----------------------------------------------------------------------------------------------


def test_levels_of_another_size_are_refused():
    with pytest.raises(ValueError, match="mip 1"):
        encode_block_dds(8, 8, 98, [bytes(64), bytes(32)])
    with pytest.raises(ValueError, match="mip 0"):
        encode_ktx2(8, 8, "bc7", True, [bytes(63)])
    with pytest.raises(ValueError, match="expected one of"):
        encode_ktx2(4, 4, "bc5", True, [bytes(16)])


def test_formats_are_parsed(refused):
    assert parse_formats("png, DDS") == ("dds", "png") and parse_formats("glb,") == ("glb",)
    for text, found in (("", "none"), (",", "none"), ("png,tga", "found 'tga'"), ("dds;png", "found 'dds;png'")):
        with refused("--transcode", "ktx2", found):
            parse_formats(text)


# --- the command -----------------------------------------------------------------------------------------------------


def test_command_writes_all_formats(encoder, folder, tmp_path, capsys):
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", "--transcode") == 0
    names = sorted(path.name for path in (tmp_path / "out" / "transcoded").iterdir())
    assert len(names) == 2 * (2 + 4) + 1
    out = capsys.readouterr().out
    assert "13 files" in out and "diffuse BC7 sRGB, roughness BC4: 12 bits per texel" in out and "12 x 10" in out
    assert run("--describe", tmp_path / "out" / "transcoded") == 0
    assert "BC7_UNORM_SRGB, 12 x 10, 4 mips" in capsys.readouterr().out


def test_without_the_encoder_png_and_glb_still_work(no_encoder, folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("--load_dir", folder, "--out_dir", out, "--transcode") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "requirements/codecs.txt" in error and "png,glb" in error
    assert not out.exists()
    assert run("--load_dir", folder, "--out_dir", out, "--transcode", "png,glb") == 0
    assert len(list((out / "transcoded").iterdir())) == 2 * 4 + 1


def test_flags_offer_what_there_is():
    flags = {action.dest: action for action in build_export_parser()._actions}
    assert EXPORT_FIELDS["transcode_scalars"].metadata["choices"] == SCALAR_TEXTURES
    assert EXPORT_FIELDS["transcode_quality"].metadata["choices"] == tuple(module.PROFILES)
    assert parse_formats(flags["transcode"].const) == TEXTURE_FORMATS


@pytest.mark.parametrize("arguments", [
    ["--transcode", "tga"], ["--transcode="], ["--transcode", "--transcode_quality", "best"],
    ["--transcode", "--transcode_scalars", "bc3"],
])  # fmt: skip
def test_wrong_flags_are_one_line(arguments, folder, tmp_path, capsys):
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", *arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_wrong_folders_are_one_line(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for source, out in [(tmp_path / "nowhere", tmp_path / "out"), (folder, tmp_path / "file"),
                        (folder, tmp_path / "file" / "out")]:  # fmt: skip
        assert run("--load_dir", source, "--out_dir", out, "--transcode", "png") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    payload = bytearray((folder / NETWORK).read_bytes())
    payload[-200] ^= 1
    (folder / NETWORK).write_bytes(payload)
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", "--transcode", "png") == 2
    assert NETWORK in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_failure_leaves_nothing_behind(exported, tmp_path, monkeypatch):
    model, material = exported(8, 8, present=("diffuse",))

    def full(*arguments):
        raise UserError("the disk is full, as far as this test goes")

    monkeypatch.setattr(module, "encode_glb", full)
    with pytest.raises(UserError):
        transcode(model, material, tmp_path / "out", ("png", "glb"))
    assert not (tmp_path / "out").exists()


def test_a_missing_encoder_is_found_before_anything_is_decoded(no_encoder, exported, tmp_path, refused):
    model, material = exported(8, 8, present=("diffuse",))
    with refused("png,glb"):
        transcode(model, material, tmp_path / "out", ("png", "ktx2"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--transcode=png", "--images"])
def test_places_that_make_no_folders_are_one_line(flag, folder, capsys):
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    assert run("--load_dir", folder, "--out_dir", "/proc/nothing", flag) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("convention", "word"), [("dx", "DirectX"), ("unknown", "not known"), ("gl", None), (None, "not known")]
)
def test_the_convention_of_normals_is_told(convention, word, exported, tmp_path):
    model, material = exported(4, 4, present=("normal",))
    material = replace(material, maps=(replace(material.maps[0], convention=convention),))
    said = []
    transcode(model, material, tmp_path / "out", ("glb",), say=said.append)
    assert (word is None and not said) or word in said[0]


def test_strange_names_do_not_reach_the_glb(folder, tmp_path):
    edit_manifest(folder, lambda manifest: manifest["material"].update(name="a\udc80\n\"'材"))
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", "--transcode", "glb") == 0
    payload = (tmp_path / "out" / "transcoded" / "material.glb").read_bytes()
    assert b"\\udc80" not in payload and b"a?\\n" in payload
