"""bench.gltf: sizes are those of files, pictures those of three.js, goals those of the docs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from bench import gltf, gltf_work
from bench.browser import find_chromium
from common.errors import run_command
from tests.support.gltf_reader import Read
from tests.support.model_runs import export_gltf, make_batch
from tests.support.paths import ROOT
from tests.support.scenes import NTX, courtyard, figure

THREE = ROOT / ".tools/node_modules/three"
needs_browser = pytest.mark.skipif(
    find_chromium() is None or not THREE.is_dir(),
    reason="needs Chromium (apt install chromium) and three.js (npm install --prefix .tools three)",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(the courtyard, the same with neural textures and their LOD 0 as fallback)."""
    folder = tmp_path_factory.mktemp("models")
    path, out = courtyard(folder), folder / "out.glb"
    runs = make_batch(path, folder / "runs")
    assert export_gltf("--load_dir", runs, "--gltf", out, "--fallback", "png", "--fallback_lod", 0) == 0
    return path, out


def test_mips_of_any_size():
    assert gltf_work.mip_bytes([(8, 2)], 1, 4) == 4 * (16 + 4 + 2 + 1)
    assert gltf_work.mip_bytes([(8, 2), (1, 1)], 4, 16) == 16 * (2 + 1 + 1 + 1) + 16


def test_sizes_are_counted_in_what_is_loaded(models):
    source, out = models
    found = gltf_work.sizes_of(source, out)
    read = Read(out)
    entries = read.document["extensions"][NTX]["neuralTextures"]
    views = [texture["bufferView"] for entry in entries for grid in entry["grids"] for texture in grid["textures"]]
    views += [entry["decoder"]["weights"]["bufferView"] for entry in entries]
    assert found["neural"] == sum(len(read.view(view)) for view in views)
    stay = [(128, 64), (64, 64)]  # the occlusion on uv set 1, and the clearcoat
    assert found["gpu"] == found["neural"] + gltf_work.mip_bytes(stay, 1, 4)
    all_images = [(128, 64)] * 3 + [(64, 64)] * 2 + [(96, 96)]
    assert found["rgba8"] == gltf_work.mip_bytes(all_images, 1, 4)
    assert found["bc7"] == gltf_work.mip_bytes(all_images, 4, 16)
    assert (found["file"], found["file_before"]) == (out.stat().st_size, source.stat().st_size)


def test_files_beside_a_model_count(tmp_path):
    path = figure(tmp_path)
    assert gltf_work.file_bytes(path) == sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file())


def entries(psnr, flip) -> list[dict]:
    cameras = [{"psnr": psnr + camera, "psnr_model": psnr, "flip": flip} for camera in range(gltf_work.JUDGED)]
    return [*cameras, {"psnr": 5.0, "psnr_model": 4.0, "flip": 0.9}]


@pytest.mark.parametrize("psnr, flip, word", [(36, 0.04, "reaches"), (34, 0.04, "misses"), (36, 0.06, "misses")])
def test_goals(psnr, flip, word):
    """Of the cameras that see the whole model; the near one is only shown."""
    said = gltf_work.verdict(entries(psnr, flip), gltf_work.GOALS[2.5])
    assert f"at least {psnr:.2f} dB" in said and f"{word} 35 dB and 0.05" in said and "near by 5.00 dB" in said
    assert "reaches" not in gltf_work.verdict(entries(psnr, flip), None)


def test_psnr_of_a_picture_and_of_a_part():
    one = np.zeros((4, 4, 3), np.uint8)
    other, mask = one.copy(), np.zeros((4, 4), bool)
    other[0, 0], mask[0, 0] = 255, True
    assert gltf_work.psnr(one, other, mask) == pytest.approx(0) and gltf_work.psnr(one, one) == 100
    assert gltf_work.psnr(one, other) == pytest.approx(10 * np.log10(16))


def test_refusals(models, tmp_path, capsys):
    def refused(*flags):
        assert run_command(lambda: gltf.main([str(flag) for flag in flags])) == 2
        return capsys.readouterr().err

    assert "expected a run for each of the 2 rates" in refused(models[0], "--load_dir", tmp_path)
    assert "expected three.js there" in refused(
        models[0], "--bpp", 5, "--load_dir", models[0].parent / "runs", "--three", tmp_path, "--out", tmp_path
    )


@needs_browser
def test_the_whole_command(models, tmp_path, capsys, monkeypatch):
    """Pictures of all kinds, which are not the source's, as the features are random; and nobody complains."""
    monkeypatch.setattr(gltf_work, "CAMERAS", gltf_work.CAMERAS[::4])
    monkeypatch.setitem(gltf_work.VIEW, "cameras", gltf_work.CAMERAS)
    flags = [models[0], "--bpp", 5, "--load_dir", models[0].parent / "runs", "--size", 32, "--out", tmp_path]
    assert gltf.main([str(flag) for flag in [*flags, "--three", THREE]]) == 0
    said = capsys.readouterr().out
    assert "the console is silent" in said and "three.js, neural at 5 bpp: at least" in said
    found = json.loads((tmp_path / "gltf.json").read_text())
    drawn = [each for each in found["entries"] if each.get("renderer") == "three.js" and "what" in each]
    assert [each["what"] for each in drawn] == ["neural"] * 2 + ["fallback"] * 2
    assert all(5 < each["psnr_model"] <= each["psnr"] < 60 and 0 < each["flip"] < 1 for each in drawn), drawn
    assert drawn[0]["psnr"] != drawn[2]["psnr"] and found["settings"]["size"] == 32
    picture = np.asarray(PillowImage.open(tmp_path / "gltf" / "courtyard_three.png"))
    assert picture.shape == (3 * 32, 2 * 32, 3)
