"""export.py and manifest.py: what is written decodes to the same bits, here and elsewhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import export
from common.errors import UserError, run_command
from common.files import sha256_of
from configs import QUANTIZE_BITS, SAVE_BITS
from dataset import Material
from engine.cpu.decoder import decode_lod
from formats.dds_layouts import grid_textures
from formats.export import save_images
from formats.manifest import MANIFEST, NETWORK, FileRecord, read_manifest, write_manifest
from formats.network_file import read_network
from formats.textures import read_export, write_export
from maps.channels import MAPS, map_slice
from maps.mips import linear_to_srgb
from metrics.decoded_maps import decode_in_file_space, to_8_bit
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import FILES, edit_manifest, limited_memory, make_model, manifest_json
from tests.support.runs import checkpoint_of, offline, quick, save_maps

PAIRS = [(q, s) for q in QUANTIZE_BITS for s in SAVE_BITS if q <= s]
SIZES = {(64, 64): (16, 5, 6, 2), (40, 24): (20, 3, 5, 1), (1, 1): (1, 1, 1, 1)}  # two grids' resolutions and levels


def assert_same_decodes(one: NeuralTexture, other: NeuralTexture, width: int, height: int):
    for lod in range(one.num_lods):
        size = max(width >> lod, 1), max(height >> lod, 1)
        a, b = one.decode(lod, *size), other.decode(lod, *size)
        assert torch.equal(a.view(torch.int32), b.view(torch.int32))
        np.testing.assert_array_equal(to_8_bit(a), to_8_bit(b))


def test_the_memory_limit_limits():
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    with limited_memory(), pytest.raises(MemoryError):
        np.ones(100_000_000)


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("quantize_bits", "save_bits"), PAIRS)
def test_an_export_decodes_to_the_same_bits(quantize_bits, save_bits, size, make_material, tmp_path):
    """Read back by the toolkit: bit for bit. By the reference, from DDS and npz alone: to float32 rounding."""
    material = make_material(*size)
    first, first_levels, second, second_levels = SIZES[size]
    grids = [
        GridSpec(first, first_levels, quantize_bits, save_bits),
        GridSpec(second, second_levels, min(4, quantize_bits), save_bits),
    ]
    model = make_model(grids, DecoderSpec(12, 16, 2), material)
    write_export(tmp_path, model, material.hashed_record)
    exported = read_export(tmp_path)
    assert exported.model.grids == model.grids and exported.model.num_lods == material.num_lods
    for index in range(2):
        assert torch.equal(exported.model.codes(index), model.codes(index))
    for one, other in zip(exported.model.weights, model.weights):
        assert torch.equal(one, other)
    assert_same_decodes(model, exported.model, *size)

    texture = reference.load_export(tmp_path, material.num_lods)
    for lod, (width, height) in enumerate(material.lod_sizes):
        want = reference.decode(texture, lod, width, height)
        np.testing.assert_allclose(model.decode(lod, width, height).numpy(), want, rtol=0, atol=2e-5)
        assert want[..., material.present_channels].any() and not want[..., 7:].any()


OTHER_FORMS = {
    "learned": ([GridSpec(12, 2, 4, 32, "learned")], DecoderSpec(5, 32, 2, 3)),
    "mixed": (
        [GridSpec(10, 2, 8, 16), GridSpec(6, 2, 2, 64, "learned"), GridSpec(1, 1, 16, 16)], DecoderSpec(3, 16, 1, 1),
    ),
    "linear with texel waves": ([GridSpec(8, 4, 8, 32)], DecoderSpec(3, 16, 2, 9)),
    "no waves, no hidden layer": ([GridSpec(8, 1, 1, 8)], DecoderSpec(0, 16, 0)),
    "sixteen grids": ([GridSpec(2, 2, 8, 8)] * 16, DecoderSpec(12, 64, 4)),
    "hard swish": ([GridSpec(8, 2, 2, 8, "learned")], DecoderSpec(0, 16, 2, 1, "hard_swish")),
    "blocks": ([GridSpec(20, 3, 0, 4, "linear", "bc1"), GridSpec(7, 1, 0, 4, "linear", "bc1")], DecoderSpec(3, 16, 2)),
    "blocks and words": (
        [GridSpec(12, 3, 0, 4, "learned", "bc1"), GridSpec(6, 2, 2, 64, "learned"),
         GridSpec(1, 1, 0, 4, "linear", "bc1")], DecoderSpec(3, 16, 1, 1),
    ),
    "relu, LODs that share the finest level": (
        [GridSpec(8, 2, 8, 16, finest_lods=2), GridSpec(8, 2, 0, 4, "linear", "bc1", 3)],
        DecoderSpec(0, 16, 2, 0, "leaky_relu", 0.0),
    ),
    "another leak": ([GridSpec(8, 2, 8, 16)], DecoderSpec(3, 16, 2, 0, "leaky_relu", 0.25)),
}  # fmt: skip


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_survive_too(form, make_material, tmp_path):
    material = make_material(23, 9, present=("normal", "displacement"))
    model = make_model(*OTHER_FORMS[form], material)
    write_export(tmp_path, model, material.hashed_record)
    exported = read_export(tmp_path)
    assert exported.model.grids == model.grids and exported.model.decoder == model.decoder
    assert_same_decodes(model, exported.model, 23, 9)
    exported_again = tmp_path / "again"
    exported_again.mkdir()
    write_export(exported_again, exported.model, exported.manifest.material)
    assert sorted(path.read_bytes() for path in exported_again.iterdir()) == sorted(
        path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    )


@pytest.mark.parametrize(
    "form", ["learned", "mixed", "linear with texel waves", "hard swish", "blocks", "blocks and words"]
)
def test_the_reference_decodes_other_forms_with_what_the_manifest_says(form, make_material, tmp_path):
    material = make_material(23, 9)
    model = make_model(*OTHER_FORMS[form], material)
    write_export(tmp_path, model, material.hashed_record)
    manifest = manifest_json(tmp_path)
    interpolations = [grid["interpolation"] for grid in manifest["grids"]]
    texture = reference.load_export(
        tmp_path, manifest["material"]["num_lods"], interpolations, manifest["decoder"]["n_texel_frequencies"],
        manifest["decoder"]["activation"],
    )
    uv = np.random.default_rng(0).random((500, 2)).astype(np.float32)
    for lod in range(material.num_lods):
        got = model(torch.from_numpy(uv), torch.full((500,), lod)).detach().numpy()
        want = reference.forward(texture, uv, np.full(500, lod))
        near = np.zeros(500, bool)  # on the lines between texels `learned` jumps, and the last bit decides
        for grid in texture.grids:
            for level in grid.levels:
                p = uv.astype(np.float64) * len(level) - 0.5
                near |= (np.abs(p - np.round(p)) < 1e-5).any(axis=1)
        assert near.mean() < 0.05
        np.testing.assert_allclose(got[~near], want[~near], rtol=0, atol=5e-5)


def test_only_quantised_models_are_exported(make_material, tmp_path):
    material = make_material(8, 8)
    model = NeuralTexture([GridSpec(4, 1, 8, 32)], DecoderSpec(2, 16, 1), 4, quantized=False)
    with pytest.raises(ValueError, match="quantised"):
        write_export(tmp_path, model, material.hashed_record)
    assert not list(tmp_path.iterdir())


# --- files -----------------------------------------------------------------------------------------------------------


def test_nothing_but_the_promised_files(shipped):
    assert sorted(path.name for path in shipped[0].iterdir()) == sorted([*FILES, MANIFEST])


def test_info_by_hand(shipped):
    folder, model, _ = shipped
    info, network, *_ = read_network(folder / NETWORK)
    # grids; base resolution, levels, features, quantize_bits, save_bits of each; frequencies, neurons, layers, outputs
    assert info.tolist() == [2, 3, 2, 8, 8, 64, 3, 1, 4, 4, 16, 3, 16, 1, 16]
    assert info.dtype == np.int32 and network.dtype == np.float32
    # 2*3 waves + 4*8 features + 4 + LOD = 43, padded to 48, + 2*3 texel waves padded to 16
    assert len(network) == 16 * 64 + 16 * 16
    want = [float(w) for weight in model.weights for row in weight.tolist() for w in row]
    assert network.tolist() == want
    with np.load(folder / NETWORK, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["info", "network"]
        np.testing.assert_array_equal(archive["info"], info)
        np.testing.assert_array_equal(archive["network"], network)
    parsed = reference.parse_npz((folder / NETWORK).read_bytes())
    np.testing.assert_array_equal(parsed["info"], info)
    np.testing.assert_array_equal(parsed["network"], network)


def test_planes_and_levels_of_the_textures(shipped):
    """64-bit words are two planes: bytes 0 to 3 in the first, 4 to 7 in _p1. The finest level is mip 0."""
    folder, model, _ = shipped
    planes = [reference.parse_dds((folder / name).read_bytes()) for name in FILES[:3]]
    assert [plane["dxgiFormat"] for plane in planes] == [28, 28, 49]
    assert [[level.shape for level in plane["levels"]] for plane in planes] == [
        [(6, 6, 4), (3, 3, 4), (1, 1, 4)], [(6, 6, 4), (3, 3, 4), (1, 1, 4)], [(3, 3, 2)],
    ]  # fmt: skip
    codes = model.codes(0).numpy()
    for mip, first, resolution in ((0, 9, 6), (1, 0, 3)):
        for y, x in ((0, 0), (0, 1), (resolution - 1, 1)):
            word = reference.pack_word(codes[first + y * resolution + x], 8, 64)
            assert planes[0]["levels"][mip][y, x].tobytes() == word[:4]
            assert planes[1]["levels"][mip][y, x].tobytes() == word[4:]
    codes = model.codes(1).numpy()
    assert planes[2]["levels"][0][2, 1].tobytes() == reference.pack_word(codes[2 * 3 + 1], 4, 16)
    assert [texture.dxgi_format for texture in grid_textures(model, 0)] == [28, 28]


@pytest.mark.parametrize(("save_bits", "files", "name"), [
    (8, ["hash_grid_0.dds"], "R8_UNORM"), (16, ["hash_grid_0.dds"], "R8G8_UNORM"),
    (32, ["hash_grid_0.dds"], "R8G8B8A8_UNORM"), (64, ["hash_grid_0.dds", "hash_grid_0_p1.dds"], "R8G8B8A8_UNORM"),
])  # fmt: skip
def test_files_of_each_word_size(save_bits, files, name, make_material, tmp_path):
    material = make_material(4, 4)
    model = make_model([GridSpec(4, 3, 8, save_bits)], DecoderSpec(1, 16, 1), material)
    write_export(tmp_path, model, material.hashed_record)
    manifest = manifest_json(tmp_path)
    assert manifest["grids"][0]["files"] == files and manifest["grids"][0]["format"] == name
    assert manifest["grids"][0]["features"] == save_bits // 8
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*files, NETWORK, MANIFEST])
    data = sum((tmp_path / file).stat().st_size - 148 for file in files)
    assert data == (16 + 4 + 1) * save_bits // 8  # a word costs what save_bits says


def test_manifest_by_hand(shipped):
    folder, _, material = shipped

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"), parse_constant=refuse)
    assert manifest["format"] == "neural-texture" and manifest["version"] == 1

    assert set(manifest["files"]) == set(FILES)
    for name, entry in manifest["files"].items():
        payload = (folder / name).read_bytes()
        assert entry == {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    assert manifest["bytes_on_disk"] == sum((folder / name).stat().st_size for name in FILES)

    described = manifest["material"]
    assert (described["name"], described["width"], described["height"], described["num_lods"]) == ("made", 12, 10, 4)
    assert [(entry["map"], entry["channels"], entry["color_space"]) for entry in described["maps"]] == [
        ("diffuse", [0, 1, 2], "srgb"), ("roughness", [6], "linear"),
    ]  # fmt: skip
    pixels = b"".join(material.stored(0, name).tobytes() for name in ("diffuse", "roughness"))
    assert described["sha256"] == hashlib.sha256(pixels).hexdigest()

    first, second = manifest["grids"]
    assert first == {
        "files": FILES[:2], "format": "R8G8B8A8_UNORM", "max_resolution": 6, "base_resolution": 3, "n_levels": 2,
        "features": 8, "quantize_bits": 8, "save_bits": 64, "interpolation": "learned", "mips": 3,
    }  # fmt: skip
    assert second == {
        "files": FILES[2:3], "format": "R8G8_UNORM", "max_resolution": 3, "base_resolution": 3, "n_levels": 1,
        "features": 4, "quantize_bits": 4, "save_bits": 16, "interpolation": "linear", "mips": 1,
    }  # fmt: skip

    decoder = manifest["decoder"]
    assert decoder["layers"] == [[16, 64], [16, 16]]
    assert (decoder["activation"], decoder["negative_slope"], decoder["biases"]) == ("leaky_relu", 0.01, False)
    assert (decoder["n_frequencies"], decoder["n_texel_frequencies"]) == (3, 3)
    assert (decoder["outputs"], decoder["padded_outputs"]) == (11, 16)
    counts = [(group["first"], group["count"]) for group in decoder["inputs"]]
    # waves of uv | 4 texels of 8 features | 4 features | LOD | ones | texel waves | ones
    assert counts == [(0, 6), (6, 32), (38, 4), (42, 1), (43, 5), (48, 6), (54, 10)]

    rates, texels, network = manifest["rates"], 12 * 10, 32 * (16 * 64 + 16 * 16)
    assert rates["grids"] == pytest.approx((36 * 64 + 9 * 16) / texels)
    assert rates["network"] == pytest.approx(network / texels)
    assert rates["bpp"] == pytest.approx((36 * 64 + 9 * 16 + network) / texels)
    assert rates["all_mips"] == pytest.approx(((36 + 9 + 1) * 64 + 9 * 16 + network) / texels)
    assert manifest["metrics"] == {"psnr": {"all": 31.5}}


def test_a_manifest_is_read_into_records(shipped, tmp_path):
    """What the model and the material have, and written again it is the same bytes."""
    folder, model, material = shipped
    manifest = read_manifest(folder)
    assert (manifest.material, manifest.form, manifest.layout) == (material.hashed_record, model.form, "packed")
    assert set(manifest.files) == set(manifest.file_names) == set(FILES)
    assert manifest.files[NETWORK] == FileRecord((folder / NETWORK).stat().st_size, sha256_of(folder / NETWORK))
    assert manifest.bytes_on_disk == sum(entry.bytes for entry in manifest.files.values())
    assert manifest.metrics == {"psnr": {"all": 31.5}} and manifest.rates == manifest_json(folder)["rates"]
    write_manifest(tmp_path, manifest)
    assert (tmp_path / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


def test_positions_are_told_where_they_are_not_centres(shipped, tmp_path):
    """A manifest without them is of a model trained at texel centres, and still the same bytes."""
    folder, model, material = shipped
    assert "positions" not in manifest_json(folder) and read_manifest(folder).positions == "centres"
    write_export(tmp_path, model, material.hashed_record, {"psnr": {"all": 31.5}}, positions="filtered")
    told = manifest_json(tmp_path)
    assert told == {**manifest_json(folder), "positions": "filtered"}
    assert read_manifest(tmp_path).positions == "filtered"
    again = tmp_path / "again"
    export.main(["--load_dir", str(tmp_path), "--out_dir", str(again), "--dds_layout", "filterable"])
    assert manifest_json(again)["positions"] == "filtered"
    edit_manifest(tmp_path, lambda manifest: manifest.update(positions=["filtered"]))
    with pytest.raises(UserError, match="positions"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("positions", ["centres", "filtered"])
def test_checkpoints_tell_the_positions_of_their_run(positions, tmp_path):
    maps = save_maps(tmp_path / "maps", 16, 16, present=("diffuse",))
    with offline():
        run = quick("--data_dir", maps, "--save_dir", tmp_path / "outputs", "--positions", positions, "--max_iter", 2)
    assert export.main(["--load_dir", str(run), "--out_dir", str(tmp_path / "out")]) == 0
    assert [read_manifest(folder).positions for folder in (checkpoint_of(run, 2), tmp_path / "out")] == [positions] * 2


@pytest.mark.parametrize("decoder", [DecoderSpec(2, 16, 0), DecoderSpec(12, 64, 2), DecoderSpec(0, 16, 1, 8)], ids=str)
def test_decoder_inputs_of_the_manifest_fill_the_first_layer(decoder, make_material, tmp_path):
    material = make_material(8, 8)
    model = make_model([GridSpec(4, 1, 8, 32, "learned"), GridSpec(2, 1, 8, 8)], decoder, material)
    write_export(tmp_path, model, material.hashed_record)
    described = manifest_json(tmp_path)["decoder"]
    position = 0
    for group in described["inputs"]:
        assert group["first"] == position and group["count"] > 0
        position += group["count"]
    assert position == described["layers"][0][1] == model.weights[0].shape[1]


def test_strange_names_are_kept(make_material, tmp_path):
    material = make_material(4, 4)
    material.name = "größe \"x\"\n材质"
    material.files["diffuse"] = "\\weird\u2028.png"
    model = make_model([GridSpec(4, 1, 8, 32)], DecoderSpec(1, 16, 1), material)
    write_export(tmp_path, model, material.hashed_record)
    described = read_export(tmp_path).manifest.material
    assert described.name == material.name and described.maps[0].file == material.files["diffuse"]


# --- images ----------------------------------------------------------------------------------------------------------


def test_8_bit_rounding():
    values = torch.tensor([-1.0, -0.001, 0.0, 0.499 / 255, 0.5 / 255, 1 / 255, 254.5 / 255, 1.0, 1.5, float("inf")])
    assert to_8_bit(values).tolist() == [0, 0, 0, 0, 1, 1, 255, 255, 255, 255]


def test_images_hold_the_decoded_values(shipped, tmp_path):
    folder, model, material = shipped
    paths = save_images(tmp_path / "images", read_export(folder))
    assert len(paths) == 2 * 4 and all(path.is_file() for path in paths)
    for lod, (width, height) in enumerate(material.lod_sizes):
        decoded = model.decode(lod, width, height).numpy().astype(np.float64)
        for name in material.present:
            with Image.open(tmp_path / "images" / f"{name}_lod{lod}.png") as picture:
                assert picture.size == (width, height) and picture.mode == ("RGB" if MAPS[name] == 3 else "L")
                pixels = np.asarray(picture).reshape(height, width, -1)
            want = np.floor(np.clip(decoded[..., map_slice(name)], 0, 1) * 255 + 0.5)
            # the toolkit rounds in float32, which may go the other way at a tie
            assert np.abs(pixels - want).max() <= 1 and (pixels == want).mean() > 0.99


def test_linear_colour_is_encoded_again_in_images(tmp_path):
    random = np.random.default_rng(0)
    arrays = {"diffuse": random.integers(0, 256, (6, 5, 3), dtype=np.uint8),
              "roughness": random.integers(0, 256, (6, 5, 1), dtype=np.uint8)}  # fmt: skip
    material = Material.from_arrays("linear", arrays, linear_color=True)
    model = make_model([GridSpec(4, 2, 8, 32)], DecoderSpec(2, 16, 1), material)
    write_export(tmp_path, model, material.hashed_record)
    exported = read_export(tmp_path)
    decoded = model.decode(0, 5, 6)
    shown = decode_in_file_space(exported.model, exported.manifest.material, 0, decode_lod)
    torch.testing.assert_close(shown[..., :3], linear_to_srgb(decoded[..., :3]))
    torch.testing.assert_close(shown[..., 3:], decoded[..., 3:])
    assert not torch.allclose(shown[..., :3], decoded[..., :3])


# --- the command -----------------------------------------------------------------------------------------------------


def test_command_decodes_an_export(folder, tmp_path, capsys):
    assert export.main(["--load_dir", str(folder), "--out_dir", str(tmp_path / "out"), "--images"]) == 0
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 8
    assert "8 images" in capsys.readouterr().out


def test_command_refuses_what_it_cannot_do(folder, tmp_path, refused, capsys):
    out = ["--out_dir", str(tmp_path / "out")]
    with refused("--images"):
        export.main(["--load_dir", str(folder), *out])
    with refused("nowhere"):
        export.main(["--load_dir", str(tmp_path / "nowhere"), *out])
    with refused("--load_dir"):
        export.main(out)
    (folder / NETWORK).unlink()
    assert run_command(lambda: export.main(["--load_dir", str(folder), *out, "--images"])) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
