"""export.py --tsnc: a reader that knows only the form of the sample's files shows what --images shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import export
import train
from dataset import Constant
from formats import tsnc
from formats.textures import write_export
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support import tsnc_reader
from tests.support.runs import newest_run, refusal, save_maps, tree

FILES = ["mlp_0.bin", "tex0_0.bc1", "tex1_0.bc1", "tex2_0.bc1", "tex3_0.bc1"]
NETWORK = DecoderSpec(0, 64, 2, 0, "leaky_relu", 0.0)


def planes(side: int, levels: int, half_levels: int) -> list[GridSpec]:
    fine = GridSpec(side, levels, 0, 4, "linear", "bc1")
    return [fine, fine, *[GridSpec(side // 2, half_levels, 0, 4, "linear", "bc1", 2)] * 2]


def written(folder: Path, material, grids, decoder=NETWORK, constants=None, record=None) -> Path:
    """An export of a model with every weight in use, and outputs mostly between 0 and 1."""
    model = NeuralTexture(grids, decoder, material.num_lods, constants=constants,
                          present_channels=material.present_channels.tolist())  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.copy_(torch.rand(parameters.shape, generator=generator) * 1.2 - 0.6)
        model.start_biases([0.5] * 11)
        for weight in model.weights:
            weight += (torch.rand(weight.shape, generator=generator) - 0.5) * 0.2 * (weight.abs().sum(1) > 0)[:, None]
    folder.mkdir()
    write_export(folder, model, record or material.hashed_record)
    return folder


def texel_centres(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack(((x.ravel() + 0.5) / width, (y.ravel() + 0.5) / height), axis=1)


def shown(folder: Path, lod: int, width: int, height: int, unit_normals: bool = False) -> dict[str, np.ndarray]:
    """What the sample shows where a pixel covers 2^lod texels of plane 0, clamped, at texel centres of an LOD."""
    texture = tsnc_reader.read_texture_set(folder)
    step = 2**lod / len(texture.planes[0].mips[0])
    maps = tsnc_reader.decode(texture, texel_centres(width, height), (step, step))
    if unit_normals:
        vectors = 2 * maps["normal"] - 1
        maps["normal"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) / 2 + 0.5
    return {name: values.clip(0, 1).reshape(height, width, -1) for name, values in maps.items()}


def assert_shown_as_images(files: Path, images: Path, present, size, lods, unit_normals=False) -> None:
    for lod in lods:
        width, height = (max(side >> lod, 1) for side in size)
        maps = shown(files, lod, width, height, unit_normals)
        for name in present:
            image = np.asarray(Image.open(images / f"{name}_lod{lod}.png"), np.float64) / 255
            image = image.reshape(height, width, -1)
            assert np.abs(maps[name] - image).max() < 0.51 / 255, (name, lod)
            assert image.std() > 0.01 or min(width, height) < 8


EVERY = ("diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement")
SHAPES = {  # the material's size, the planes, LODs that the sample can show: its LOD input ends at plane 0's levels
    "the whole side": ((32, 32), planes(32, 4, 3), 4, EVERY),
    "about 0.7 of it": ((44, 44), planes(32, 4, 3), 4, ("diffuse", "normal", "displacement")),
    "few levels, not square": ((33, 20), planes(24, 2, 1), 2, ("normal", "roughness")),
    "as small as can be": ((16, 16), planes(8, 2, 1), 2, ("occlusion", "diffuse")),
    "fewer levels than halve": ((32, 32), planes(32, 2, 1), 2, ("metallic",)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_sample_shows_the_images(shape, make_material, tmp_path):
    size, grids, last, present = SHAPES[shape]
    source, out, files = written(tmp_path / "source", make_material(*size, present), grids), tmp_path / "out", "files"
    flags = ["--load_dir", source, "--out_dir", out, "--images", "--tsnc", tmp_path / files]
    assert export.main([str(flag) for flag in flags]) == 0
    assert sorted(tree(tmp_path / files)) == FILES
    read = tsnc_reader.read_texture_set(tmp_path / files)
    side = grids[0].max_resolution
    assert [plane.blocks for plane in read.planes] == [(side // 4,) * 2] * 2 + [(side // 8,) * 2] * 2
    assert [len(plane.mips) for plane in read.planes] == [grid.n_levels for grid in grids]  # trained ones alone
    assert read.header == (3, 13, 1)
    assert [weights.shape for weights, _ in read.layers] == [(13, 64), (64, 64), (64, 13)]
    shown_maps = [name for name in present if name != "specular"]
    assert_shown_as_images(tmp_path / files, out / "images", shown_maps, size, range(last + 1))


def test_network_file_has_the_size_of_theirs(make_material, tmp_path):
    source = written(tmp_path / "source", make_material(32, 32), planes(32, 4, 3))
    assert export.main(["--load_dir", str(source), "--tsnc", str(tmp_path / "files")]) == 0
    assert (tmp_path / "files" / "mlp_0.bin").stat().st_size == 23640
    assert not (tmp_path / "files" / "manifest.json").exists() and sorted(tree(source))[0] == "hash_grid_0.dds"


def test_missing_maps_and_constant_channels(make_material, tmp_path):
    material = make_material(32, 32, ("diffuse", "roughness"))
    constants = {1: Constant(77, 8), 6: Constant(40000, 16)}
    source = written(tmp_path / "source", material, planes(32, 4, 3), constants=constants)
    assert export.main(["--load_dir", str(source), "--tsnc", str(tmp_path / "files")]) == 0
    maps = shown(tmp_path / "files", 0, 32, 32)
    wanted = {"normal": [0.5, 0.5, 1], "occlusion": [1], "metallic": [0], "thickness": [0], "mask": [0, 0],
              "displacement": [0], "roughness": [40000 / 65535]}  # fmt: skip
    for name, value in wanted.items():
        np.testing.assert_allclose(maps[name], np.broadcast_to(value, maps[name].shape), atol=1e-7)
    np.testing.assert_allclose(maps["diffuse"][..., 1], 77 / 255, atol=1e-7)
    assert maps["diffuse"][..., 0].std() > 0.01
    source = written(tmp_path / "without", make_material(32, 32, ("displacement",)), planes(32, 4, 3))
    assert export.main(["--load_dir", str(source), "--tsnc", str(tmp_path / "white")]) == 0
    maps = shown(tmp_path / "white", 0, 32, 32)
    assert (maps["diffuse"] == 1).all() and (maps["roughness"] == 1).all() and maps["displacement"].std() > 0.01


def test_specular_is_named_as_left_out(make_material, tmp_path, capsys):
    source = written(tmp_path / "source", make_material(16, 16, ("diffuse", "specular")), planes(16, 3, 2))
    assert export.main(["--load_dir", str(source), "--tsnc", str(tmp_path / "files")]) == 0
    said = capsys.readouterr().out
    assert "without specular" in said and all(name in said for name in FILES)


def test_unit_normals_are_those_of_the_images_once_normalised(make_material, tmp_path):
    material = make_material(32, 32, ("normal",))
    record = replace(material.hashed_record, maps=(replace(material.hashed_record.maps[0], unit_normals=True),))
    source = written(tmp_path / "source", material, planes(32, 4, 3), record=record)
    flags = ["--load_dir", source, "--out_dir", tmp_path / "out", "--images", "--tsnc", tmp_path / "files"]
    assert export.main([str(flag) for flag in flags]) == 0
    assert_shown_as_images(tmp_path / "files", tmp_path / "out" / "images", ["normal"], (32, 32), range(4), True)


# --- what the sample cannot load -------------------------------------------------------------------------------------

FINE, HALF = planes(32, 4, 3)[1:3]
MISFITS = {
    "packed grids": ([GridSpec(16, 3, 4, 16)] * 4, NETWORK, "16 linear packed"),
    "three planes": ([FINE, FINE, HALF], NETWORK, "found 32 linear bc1, 32 linear bc1, 16 linear bc1"),
    "other order": ([FINE, HALF, FINE, HALF], NETWORK, "two of one side and two of half of it"),
    "learned": ([replace(FINE, interpolation="learned"), FINE, HALF, HALF], NETWORK, "32 learned bc1"),
    "quarter": ([FINE, FINE, *[GridSpec(8, 2, 0, 4, "linear", "bc1", 2)] * 2], NETWORK, "8 linear bc1"),
    "odd side": ([GridSpec(9, 1, 0, 4, "linear", "bc1")] * 2 + [GridSpec(4, 1, 0, 4, "linear", "bc1")] * 2, NETWORK,
                 "9 linear bc1"),
    "cut blocks": (planes(32, 5, 3), NETWORK, "whole blocks of 4x4 texels at every level, found 2 in grid 0"),
    "cut blocks in a half plane": (planes(24, 2, 2), NETWORK, "found 6 in grid 2"),
    "unequal levels": ([FINE, replace(FINE, n_levels=3), HALF, HALF], NETWORK, "as many levels"),
    "a level for each LOD": ([FINE, FINE, *[replace(HALF, finest_lods=1)] * 2], NETWORK, "finest_lods 2 of grid 2"),
    "shared in plane 0": ([*[replace(FINE, finest_lods=2)] * 2, HALF, HALF], NETWORK, "finest_lods 1 of grid 0"),
    "waves": (planes(32, 4, 3), replace(NETWORK, n_frequencies=2), "no position waves, found 2"),
    "texel waves": (planes(32, 4, 3), replace(NETWORK, n_texel_frequencies=1), "no position waves, found 1"),
    "narrow": (planes(32, 4, 3), replace(NETWORK, n_neurons=32), "2 hidden layers of 64 neurons, found 2 of 32"),
    "deep": (planes(32, 4, 3), replace(NETWORK, n_hidden_layers=3), "found 3 of 64"),
    "leaky": (planes(32, 4, 3), replace(NETWORK, negative_slope=0.01), "relu between the layers, found leaky_relu"),
    "hard swish": (planes(32, 4, 3), replace(NETWORK, activation="hard_swish"), "found hard_swish"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_are_refused(misfit, make_material, tmp_path, capsys):
    *form, reason = MISFITS[misfit]
    source, files = written(tmp_path / "source", make_material(32, 32), *form), tmp_path / "files"
    out = tmp_path / "out"
    line = refusal(capsys, "--load_dir", source, "--out_dir", out, "--images", "--tsnc", files, command="export")
    assert line.startswith("error: --tsnc: expected ") and reason in line and "--decoder tsnc" in line
    assert not files.exists() and not out.exists()


def test_a_folder_without_an_export_is_refused(tmp_path, capsys):
    assert "no such folder" in refusal(capsys, "--load_dir", tmp_path / "no", "--tsnc", tmp_path / "files",
                                       command="export")  # fmt: skip
    assert not (tmp_path / "files").exists()


def test_nothing_is_half_written(make_material, tmp_path, monkeypatch):
    source, files = written(tmp_path / "source", make_material(32, 32), planes(32, 4, 3)), tmp_path / "files"
    files.mkdir()
    (files / "tex0_0.bc1").write_bytes(b"older")
    real = tsnc.write_bytes

    def failing(path, payload):
        if path.name == "mlp_0.bin":
            raise OSError(28, "No space left on device")
        real(path, payload)

    monkeypatch.setattr(tsnc, "write_bytes", failing)
    with pytest.raises(OSError, match="No space"):
        export.main(["--load_dir", str(source), "--tsnc", str(files)])
    assert tree(files) == {"tex0_0.bc1": b"older"}


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_in_this_form(tmp_path, capsys):
    """From the flags to the files: --describe, the manifest and the sample agree on what was trained."""
    present = ("diffuse", "normal", "occlusion")
    maps = save_maps(tmp_path / "maps", 128, 96, present)
    flags = ["--data_dir", maps, "--save_dir", tmp_path / "runs", "--latents", "bc1", "--decoder", "tsnc",
             "--bpp", "20", "--max_iter", "60", "--batch_size", "512", "--refine", "0", "--eval_metrics", "psnr",
             "--unit_normals", "never"]  # fmt: skip
    assert train.main([str(flag) for flag in flags]) == 0
    run, files, out = newest_run(tmp_path / "runs"), tmp_path / "files", tmp_path / "out"
    flags = ["--load_dir", run, "--out_dir", out, "--images", "--tsnc", files]
    assert export.main([str(flag) for flag in flags]) == 0
    levels = len(tsnc_reader.read_texture_set(files).planes[0].mips)
    assert levels >= 2
    assert_shown_as_images(files, out / "images", present, (128, 96), range(levels + 1))
    capsys.readouterr()
    assert export.main(["--describe", str(run)]) == 0
    said = capsys.readouterr().out
    assert "relu, without biases" in said and "leaky" not in said and "LODs 0 to 1 at mip 0" in said
