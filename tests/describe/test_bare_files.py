"""export.py --images on files without a manifest: the ancestor's by plain loops, ours without theirs, and damage."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

import export
from common.errors import UserError
from describe.bare_files import Assumptions, parse_assumptions, read_bare_files
from describe.numpy_decoder import decode
from formats.manifest import MANIFEST, NETWORK
from formats.textures import write_export
from maps.channels import MAPS, map_slice
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import make_model, npy, npz
from tests.support.runs import leftovers, refusal, tree

WIDTH, HEIGHT = 12, 10


def rgba_dds(texels: np.ndarray, dx10: bool) -> bytes:
    """One level of R8G8B8A8 as the ancestor writes it: its early versions with masks, later ones with a DX10 header."""
    height, width, _ = texels.shape
    pixel_format = (32, 0x4, int.from_bytes(b"DX10", "little"), 0, 0, 0, 0, 0)
    if not dx10:
        pixel_format = (32, 0x41, 0, 32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    head = struct.pack("<7I44x8I5I", 124, 0x100F, height, width, width * 4, 0, 1, *pixel_format, 0x1000, 0, 0, 0, 0)
    return b"DDS " + head + (struct.pack("<5I", 28, 3, 0, 1, 0) if dx10 else b"") + texels.tobytes()


class Ancestor:
    """Files of the ancestor's, of random numbers, and what they decode to by plain loops.

    grids: (resolution, levels, bits, word bits) of each; hidden: layers of 16 neurons.
    """

    def __init__(self, folder: Path, grids, hidden=1, frequencies=2, seed=0, dx10=True):
        random = np.random.default_rng(seed)
        self.folder, self.frequencies, self.codes, self.bits = folder, frequencies, [], [grid[2] for grid in grids]
        info = [len(grids)]
        features = 0
        for index, (resolution, levels, bits, word) in enumerate(grids):
            count = word // bits
            features += count
            info += [resolution >> (levels - 1), levels, count, bits, word]
            codes = random.integers(0, 2**bits, (resolution, resolution, count))
            self.codes.append(codes)
            stretched = np.zeros((resolution, resolution, 4), np.uint8)
            scale = 255 / (2**bits - 1)
            stretched[..., : min(count, 4)] = np.floor(codes[..., :4] * scale + 1e-9)
            (folder / f"hash_grid_{index}.dds").write_bytes(rgba_dds(stretched, dx10))
        info += [frequencies, 16, hidden, 16]
        inputs = 2 * frequencies + features + 1
        widths = [inputs + -inputs % 16, *[16] * hidden, 16]
        self.weights = [random.normal(0, 0.4, (o, i)).astype(np.float32) for i, o in zip(widths, widths[1:])]
        network = np.concatenate([weight.ravel() for weight in self.weights])
        members = {"info.npy": npy(np.array(info, np.int32)), "network.npy": npy(network)}
        (folder / NETWORK).write_bytes(npz(members))

    def decoded(self, x: int, y: int, sampling="vertex", output="leaky_relu") -> np.ndarray:
        """The 11 values of a texel of LOD 0."""
        shift = 0 if sampling == "vertex" else 0.5
        u, v = (x + shift) / WIDTH, (y + shift) / HEIGHT
        values = [reference.wave(c, i) for c in (u, v) for i in range(self.frequencies)]
        for codes, bits in zip(self.codes, self.bits):
            r = len(codes)
            places = []
            for c in (u, v):
                if sampling == "sampler":
                    places.append(c * r - 0.5)
                elif sampling == "vertex":
                    places.append(c * (r - 1) + 0.5)
                else:
                    places.append(min(max(c * r - 0.5, 0), r - 1) + 0.5)
            cx, cy = map(math.floor, places)
            blended = np.zeros(codes.shape[2])
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                share = abs(1 - dx - (places[0] - cx)) * abs(1 - dy - (places[1] - cy))
                if sampling == "sampler":
                    texel = codes[(cy + dy) % r, (cx + dx) % r]
                else:
                    texel = codes.reshape(r * r, -1)[((cy + dy) * r + cx + dx) % (r * r)]
                blended += share * np.array([reference.feature_of(int(code), bits) for code in texel])
            blended[4:] = 0  # not in the file
            values += blended.tolist()
        values.append(0.0)
        hidden = np.array(values + [1.0] * (self.weights[0].shape[1] - len(values)))
        for weight in self.weights[:-1]:
            hidden = weight @ hidden
            hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        result = (self.weights[-1] @ hidden)[:11]
        if output == "hard_swish":
            return result * np.clip(result + 3, 0, 6) / 6
        return np.where(result > 0, result, 0.01 * result) if output == "leaky_relu" else result


SIZE = f"size={WIDTH}x{HEIGHT}"
GRIDS = {
    "4 bits in words of 16": [(6, 2, 4, 16)],
    "8 bits in words of 32, two grids": [(6, 1, 8, 32), (3, 1, 8, 32)],
    "2 bits, of 16 features 4": [(8, 3, 2, 32), (5, 1, 1, 8)],
}


@pytest.mark.parametrize("sampling", ["vertex", "aligned", "sampler"])
@pytest.mark.parametrize("dx10", [False, True])
@pytest.mark.parametrize("grids", GRIDS)
def test_every_value_by_loops(grids, dx10, sampling, tmp_path):
    made = Ancestor(tmp_path, GRIDS[grids], dx10=dx10)
    bare = read_bare_files(tmp_path, Assumptions((WIDTH, HEIGHT), sampling))
    found = decode(bare.texture, 0, WIDTH, HEIGHT)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            np.testing.assert_allclose(found[y, x], made.decoded(x, y, sampling), atol=1e-5)
    assert found.std() > 0.1
    told = "\n".join(bare.assumed)
    assert f"sampling {sampling}" in told and ("are not in the file" in told) == (grids == "2 bits, of 16 features 4")


def test_images_of_the_command(tmp_path, capsys):
    made = Ancestor(tmp_path, GRIDS["4 bits in words of 16"], hidden=0)
    out = tmp_path / "out"
    command = ["--describe", str(tmp_path), "--images", "--out_dir", str(out), "--assume", f"{SIZE},output=hard_swish"]
    assert export.main(command) == 0
    text = capsys.readouterr().out
    assert "the ancestor project's layout" in text and "assumed, since the files do not say" in text
    assert "size 12 x 10\n" in text and "LOD 0 alone is decoded" in text and "7 images in" in text
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(f"{name}_lod0.png" for name in MAPS)
    for name in MAPS:
        image = np.array(PillowImage.open(out / "images" / f"{name}_lod0.png")).reshape(HEIGHT, WIDTH, -1)
        for y in range(HEIGHT):
            for x in range(WIDTH):
                want = np.clip(made.decoded(x, y, output="hard_swish")[map_slice(name)], 0, 1) * 255
                assert np.abs(image[y, x] - want).max() <= 0.501


def test_without_assumptions_they_are_told(tmp_path, capsys):
    Ancestor(tmp_path, GRIDS["8 bits in words of 32, two grids"])
    assert export.main(["--load_dir", str(tmp_path), "--images", "--out_dir", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "size 6 x 6: as large as grid 0" in text and "sampling vertex" in text and "leaky_relu" in text
    assert "21 images" in text  # one level is every LOD's
    images = tmp_path / "out" / "images"
    assert PillowImage.open(images / "diffuse_lod0.png").size == (6, 6)
    assert PillowImage.open(images / "diffuse_lod2.png").size == (1, 1)


def test_notes_on_what_the_images_show(tmp_path, capsys):
    made = Ancestor(tmp_path, GRIDS["4 bits in words of 16"], hidden=0)
    weight = made.weights[0]
    weight[9] = 0  # specular
    weight[0, -1] = 3  # times a one
    info = np.array([1, 3, 2, 4, 4, 16, 2, 16, 0, 16], np.int32)
    (tmp_path / NETWORK).write_bytes(npz({"info.npy": npy(info), "network.npy": npy(weight.ravel())}))
    assert export.main(["--load_dir", str(tmp_path), "--images", "--out_dir", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "probably no map of the material: specular\n" in text and "perhaps --assume output=hard_swish" in text


def test_bytes_that_wrapped_around(tmp_path):
    """The ancestor stretched all grids for the bits of its command, here 4; a byte holds the number modulo 256."""
    made = Ancestor(tmp_path, [(6, 2, 8, 32)])
    (tmp_path / "hash_grid_0.dds").write_bytes(rgba_dds((made.codes[0] * 17 % 256).astype(np.uint8), True))
    bare = read_bare_files(tmp_path, Assumptions((WIDTH, HEIGHT), quantize_bits=4))
    found = decode(bare.texture, 0, WIDTH, HEIGHT)
    np.testing.assert_allclose(found[3, 7], made.decoded(7, 3), atol=1e-5)
    other = decode(read_bare_files(tmp_path, Assumptions((WIDTH, HEIGHT))).texture, 0, WIDTH, HEIGHT)
    assert np.abs(other - found).max() > 0.1


def test_upper_bits_of_long_codes(tmp_path):
    made = Ancestor(tmp_path, [(6, 1, 16, 32)])
    bare = read_bare_files(tmp_path, Assumptions((WIDTH, HEIGHT)))
    found = decode(bare.texture, 0, WIDTH, HEIGHT)
    assert np.abs(found[4, 5] - made.decoded(5, 4)).max() < 0.02
    assert any("the upper 8 bits" in line for line in bare.assumed)


# --- ours ------------------------------------------------------------------------------------------------------------


def test_an_export_whose_manifest_is_lost(make_material, tmp_path, capsys):
    material = make_material(12, 12)
    model = make_model([GridSpec(6, 2, 8, 32), GridSpec(3, 1, 4, 32)], DecoderSpec(2, 16, 1), material)
    write_export(tmp_path, model, material.hashed_record)
    assert export.main(["--load_dir", str(tmp_path), "--images", "--out_dir", str(tmp_path / "with")]) == 0
    (tmp_path / MANIFEST).unlink()
    assert export.main(["--describe", str(tmp_path), "--images", "--out_dir", str(tmp_path / "without")]) == 0
    text = capsys.readouterr().out
    assert "size 12 x 12: twice grid 0" in text and "reference form" in text
    found, want = (tree(tmp_path / name / "images") for name in ("without", "with"))
    assert len(found) == 7 * 4 and len(want) == 3 * 4
    images = [name for name in want if not name.startswith("normal")]  # made unit vectors only with a manifest
    assert images and all(found[name] == want[name] for name in images)


def test_a_single_level_is_ours_by_its_header(make_material, tmp_path):
    """Words and stretched codes look alike there; our headers count mips, the ancestor's do not."""
    material = make_material(8, 8)
    model = make_model([GridSpec(4, 1, 4, 32)], DecoderSpec(1, 16, 1), material)
    write_export(tmp_path, model, material.hashed_record)
    (tmp_path / MANIFEST).unlink()
    found = decode(read_bare_files(tmp_path, Assumptions()).texture, 0, 8, 8)
    np.testing.assert_allclose(found, model.decode(0, 8, 8), atol=1e-5)


@pytest.mark.parametrize("info", [[1, 4, 1, 8, 3, 32, 1, 16, 1, 16], [1, 4, 1, 7, 4, 32, 1, 16, 1, 16],
                                  [1, 4, 1, 8, 4, 32, 1, 16, 1, 32],
                                  [1, 4, 1, 8, 4, 24, 1, 16, 1, 16]], ids=str)  # fmt: skip
def test_our_files_with_an_impossible_info_are_one_line(info, make_material, tmp_path, refused):
    model = make_model([GridSpec(4, 1, 4, 32)], DecoderSpec(1, 16, 1), make_material(8, 8))
    write_export(tmp_path, model, make_material(8, 8).hashed_record)
    (tmp_path / MANIFEST).unlink()
    network = np.zeros(16 * 16 * 2, np.float32)
    (tmp_path / NETWORK).write_bytes(npz({"info.npy": npy(np.array(info, np.int32)), "network.npy": npy(network)}))
    with refused(NETWORK, "impossible"):
        read_bare_files(tmp_path, Assumptions())


def test_what_only_a_manifest_can_tell(folder, tmp_path, capsys):
    (folder / MANIFEST).unlink()
    line = refusal(capsys, "--load_dir", folder, "--images", "--out_dir", tmp_path / "o", command="export")
    assert NETWORK in line and "only a manifest can tell" in line
    for flags in (["--transcode", "png"], ["--shader", "hlsl"], ["--images", "--shader", "hlsl"]):
        line = refusal(capsys, "--load_dir", folder, "--out_dir", tmp_path / "o", *flags, command="export")
        assert MANIFEST in line and "--images alone" in line
    assert not (tmp_path / "o").exists()


# --- damage ----------------------------------------------------------------------------------------------------------

DAMAGE = {
    "truncated": lambda payload: payload[:-1],
    "halved": lambda payload: payload[: len(payload) // 2],
    "extended": lambda payload: payload + b"\0",
    "empty": lambda payload: b"",
    "another size": lambda payload: rgba_dds(np.zeros((3, 6, 4), np.uint8), True),
    "no stretched code": lambda payload: payload[:-4] + b"\x01" + payload[-3:],
    "another format": lambda payload: payload.replace(struct.pack("<2I", 28, 3), struct.pack("<2I", 29, 3)),
}


@pytest.mark.parametrize("damage", [*DAMAGE, "deleted", "a folder"])
def test_a_damaged_texture_is_one_line(damage, tmp_path, capsys):
    Ancestor(tmp_path, [(6, 2, 4, 16)])
    path = tmp_path / "hash_grid_0.dds"
    payload = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "deleted":
        path.write_bytes(DAMAGE[damage](payload))
    line = refusal(capsys, "--load_dir", tmp_path, "--images", "--out_dir", tmp_path / "out", command="export")
    assert path.name in line
    assert not leftovers(tmp_path) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("info", [
    [1, 3, 2, 4, 4, 16, 2, 16, 1, 8], [1, 3, 2, 9, 4, 16, 2, 16, 1, 16], [1, 3, 2, 4, 4, 16, 9, 16, 1, 16],
    [1, 3, 2, 4, 3, 16, 2, 16, 1, 16], [1, 0, 2, 4, 4, 16, 2, 16, 1, 16], [1, 3, 2, 4, 4, 16, 2, 16, 65, 16],
    [1, 3, 2, 65536, 4, 16, 2, 16, 1, 16], [1, 3, 2, 4, 4, 16, 2, -1, 1, 16], [2, 3, 2, 4, 4, 16, 2, 16, 1, 16], [],
], ids=str)  # fmt: skip
def test_info_that_does_not_fit_is_one_line(info, tmp_path, capsys):
    made = Ancestor(tmp_path, [(6, 2, 4, 16)])
    network = np.concatenate([weight.ravel() for weight in made.weights])
    members = {"info.npy": npy(np.array(info, np.int32)), "network.npy": npy(network)}
    (tmp_path / NETWORK).write_bytes(npz(members))
    line = refusal(capsys, "--load_dir", tmp_path, "--images", "--out_dir", tmp_path / "out", command="export")
    assert NETWORK in line or "hash_grid_0.dds" in line
    assert not (tmp_path / "out").exists()


def test_a_network_of_many_inputs_is_refused(tmp_path, refused):
    Ancestor(tmp_path, [(6, 2, 4, 16)])
    info = np.array([1, 3, 2, 4, 4, 16, 2, 16, 0, 16], np.int32)
    network = npy(np.zeros(16 * 5000, np.float32))
    (tmp_path / NETWORK).write_bytes(npz({"info.npy": npy(info), "network.npy": network}))
    with refused(NETWORK, "4096", "5000"):
        read_bare_files(tmp_path, Assumptions())


def test_textures_of_different_exports_are_refused(make_material, tmp_path, refused):
    Ancestor(tmp_path, [(6, 2, 4, 16), (4, 1, 4, 16)])
    material = make_material(8, 8)
    model = make_model([GridSpec(4, 1, 4, 16)], DecoderSpec(1, 16, 1), material)
    (tmp_path / "other").mkdir()
    write_export(tmp_path / "other", model, material.hashed_record)
    (tmp_path / "hash_grid_1.dds").write_bytes((tmp_path / "other" / "hash_grid_0.dds").read_bytes())
    with refused("hash_grid_1.dds", "different exports"):
        read_bare_files(tmp_path, Assumptions())


# --- flags -----------------------------------------------------------------------------------------------------------


def test_assumptions():
    assert parse_assumptions("") == Assumptions()
    text = "size=1024x512, sampling=sampler,output=none,quantize_bits=4"
    assert parse_assumptions(text) == Assumptions((1024, 512), "sampler", "none", 4)


@pytest.mark.parametrize("text", ["size=12", "size=0x4", "size=4x99999", "sampling=linear", "output=relu", "bits=4",
                                  "quantize_bits=16", "size", "sampling="])  # fmt: skip
def test_bad_assumptions_are_one_line(text, tmp_path, capsys):
    Ancestor(tmp_path, [(6, 2, 4, 16)])
    command = ["--load_dir", tmp_path, "--images", "--out_dir", tmp_path / "out", "--assume", text]
    line = refusal(capsys, *command, command="export")
    assert "--assume" in line and text.split("=")[0] in line


def test_assumptions_are_not_for_files_with_a_manifest(folder, tmp_path, capsys):
    command = ["--load_dir", folder, "--images", "--out_dir", tmp_path / "out", "--assume", SIZE]
    assert "--assume" in refusal(capsys, *command, command="export")


def test_a_huge_material_is_refused(tmp_path, capsys):
    Ancestor(tmp_path, [(6, 2, 4, 16)])
    command = ["--load_dir", tmp_path, "--images", "--out_dir", tmp_path / "out", "--assume", "size=16384x16384"]
    from configs import MAX_PIXELS

    if MAX_PIXELS < 16384**2:
        assert "16384 x 16384" in refusal(capsys, *command, command="export")


def test_max_pixels_bounds_the_material(tmp_path, capsys):
    """Either way: a smaller bound refuses, and what the default refuses can be asked for."""
    Ancestor(tmp_path, [(6, 2, 4, 16)])
    command = ["--load_dir", str(tmp_path), "--images", "--out_dir", str(tmp_path / "out"), "--assume", SIZE]
    line = refusal(capsys, *command, "--max_pixels", WIDTH * HEIGHT - 1, command="export")
    assert "12 x 10" in line and "--max_pixels" in line and not (tmp_path / "out").exists()
    assert export.main([*command, "--max_pixels", str(WIDTH * HEIGHT)]) == 0
    with pytest.raises(UserError, match="at most 100 texels"):
        read_bare_files(tmp_path, Assumptions((WIDTH, HEIGHT)), 100)
