"""Folders of public sets become renders and maps, also where a run was killed on the way."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from neuropbr.utils.dataset import PBRDataset
from neuropbr.utils.maps import MAPS, read_map
from neuropbr.utils.material_folders import held_out, label_of
from neuropbr.utils.rendered_set import PROGRESS, SPLIT, RenderedSet
from tests.support import neuropbr_tools as tools

SIDE = 24
ALBEDO, ROUGH, METAL, AO = (200, 100, 50), 180, 250, 230
TILT = (128, 178, 240)  # towards the top of the image, in OpenGL's convention


def flat(path, value):
    size = (SIDE, SIDE)
    PillowImage.new("L" if isinstance(value, int) else "RGB", size, value).save(path, quality=100)


def turned_over(normal):
    return (normal[0], 255 - normal[1], normal[2])


def write_sets(root):
    """A material of each set, as they are unpacked."""
    acg, haven, packed, synth = (root / name for name in ("Bricks052", "brick_wall_1k", "rusty_1k", "matsynth/oak"))
    for folder in (acg, haven / "textures", packed, synth):
        folder.mkdir(parents=True)
    flat(acg / "Bricks052_1K-JPG.png", (1, 2, 3))  # a preview
    for word, value in (("Color", ALBEDO), ("NormalGL", TILT), ("NormalDX", turned_over(TILT)), ("Roughness", ROUGH),
                        ("AmbientOcclusion", AO), ("Displacement", 90)):  # fmt: skip
        flat(acg / f"Bricks052_1K-JPG_{word}.jpg", value)
    (acg / "Bricks052_1K-JPG.mtlx").write_text("<x/>")
    for word, value in (("diff", ALBEDO), ("nor_gl", TILT), ("rough", ROUGH), ("metal", METAL), ("ao", AO)):
        flat(haven / "textures" / f"brick_wall_{word}_1k.jpg", value)
    for word, value in (("diff", ALBEDO), ("nor_dx", turned_over(TILT)), ("arm", (AO, ROUGH, METAL))):
        flat(packed / f"rusty_{word}_1k.png", value)
    for word, value in (("basecolor", ALBEDO), ("diffuse", (9, 9, 9)), ("metallic", METAL), ("normal", TILT),
                        ("roughness", ROUGH), ("height", 70), ("specular", 128)):  # fmt: skip
        flat(synth / f"{word}.png", value)
    (root / "matsynth" / "broken").mkdir()
    flat(root / "matsynth" / "broken" / "basecolor.png", ALBEDO)


def words_of(folder, *more):
    return ["--data-dir", folder / "sets", "--input-dir", folder / "input", "--output-dir", folder / "output", *more]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    write_sets(folder / "sets")
    assert tools.run("make_renders", *words_of(folder, "--samples", 2, "--no-dirty", "--val-ratio", 0.3)) == 0
    return folder


def test_every_set_becomes_maps_of_one_layout(imported):
    names = {"Bricks052": 0, "brick_wall_1k": METAL, "rusty_1k": METAL, "matsynth_oak": METAL}
    assert {path.name for path in (imported / "output").iterdir()} == set(names)
    for name, metal in names.items():
        folder = imported / "output" / name
        maps = {kind: read_map(folder / f"{kind}.png", kind).mean((1, 2)) for kind in MAPS}
        assert torch.allclose(maps["albedo"] * 255, torch.tensor(ALBEDO).float(), atol=3), name
        assert abs(float(maps["roughness"]) * 255 - ROUGH) < 2 and abs(float(maps["metallic"]) * 255 - metal) < 2, name
        assert maps["normal"][1] > 0.3, name  # DirectX's are turned


def test_what_is_left_out_and_what_is_missing_is_said(imported, capsys):
    assert tools.run("make_renders", *words_of(imported, "--samples", 2, "--no-dirty", "--add")) == 0
    said = capsys.readouterr()
    assert "4 materials made already" in said.out and "8 samples of 4 materials" in said.out
    assert "broken: no roughness, normal map" in said.err.replace("'", "")
    assert "metallic taken as 0" in said.err and "1 material (Bricks052)" in said.err


def test_the_split_is_by_material_and_the_file_decides(imported):
    split = json.loads((imported / "input" / SPLIT).read_text())
    data = {"input_dir": imported / "input", "output_dir": imported / "output", "image_size": 16}
    sides = {side: {s.material for s in PBRDataset(**data, split=side).samples} for side in ("train", "val")}
    assert sides == {side: set(names) for side, names in split.items()} and sides["val"]
    assert not PBRDataset(**data, split="val", val_ratio=0.0).samples
    (imported / "input" / SPLIT).write_text('{"val": "oak"}')
    with pytest.raises(Exception, match=r"split\.json"):
        PBRDataset(**data)
    (imported / "input" / SPLIT).write_text(json.dumps(split))


def test_labels_stay_on_their_side_when_others_come():
    labels = [f"m{i}" for i in range(200)]
    few, many = held_out(labels[:100], 0.2, 1), held_out(labels, 0.2, 1)
    assert few == {label for label in many if label in labels[:100]} and 25 < len(many) < 55
    assert len(held_out(["a", "b"], 0.001, 0)) == 1 and not held_out(["a"], 0.001, 0)
    assert held_out(labels, 0.2, 1) != held_out(labels, 0.2, 2)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def killed(folder, monkeypatch, *more):
    """A run that dies in the third material, after its first picture."""
    from neuropbr.utils import renders

    real, calls = renders.write_sample, []

    def write(maps, where, seed):
        calls.append(seed)
        if len(calls) == 5:
            flat(next(iter(where.values())).parent / "half.png", 3)
            shutil.copytree(where["clean"].parent / "sample_0000", where["clean"])
            raise KeyboardInterrupt
        real(maps, where, seed)

    monkeypatch.setattr(renders, "write_sample", write)
    assert tools.run("make_renders", *words_of(folder, *more)) == 130
    monkeypatch.setattr(renders, "write_sample", real)
    (folder / "input" / "clean" / "half.png").unlink()


def test_a_killed_run_goes_on_and_makes_what_a_whole_one_makes(imported, tmp_path, monkeypatch, capsys):
    flags = ["--samples", 2, "--no-dirty"]
    shutil.copytree(imported / "sets", tmp_path / "sets")
    killed(tmp_path, monkeypatch, *flags)
    assert not (tmp_path / "input" / "render_metadata.json").exists()
    with (tmp_path / "input" / PROGRESS).open("ab") as stream:
        stream.write(b'{"material": "torn')
    kept = tmp_path / "output" / "Bricks052" / "albedo.png"
    stamp = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert tools.run("make_renders", *words_of(tmp_path, "--samples", 3, "--no-dirty")) == 2
    assert "--samples 2" in capsys.readouterr().err
    assert tools.run("make_renders", *words_of(tmp_path, *flags)) == 0
    assert "2 materials made already" in capsys.readouterr().out and kept.stat().st_mtime_ns == stamp
    for side in ("input", "output"):
        assert contents(tmp_path / side) == contents(imported / side)
    metadata = [json.loads((folder / "input" / "render_metadata.json").read_text()) for folder in (tmp_path, imported)]
    assert metadata[0] == metadata[1]


def test_a_half_written_material_that_is_gone_leaves_nothing(imported, tmp_path, monkeypatch):
    shutil.copytree(imported / "sets", tmp_path / "sets")
    killed(tmp_path, monkeypatch, "--samples", 2, "--no-dirty")
    assert (tmp_path / "input" / "clean" / "sample_0004").is_dir()
    shutil.rmtree(tmp_path / "sets" / "matsynth")
    shutil.rmtree(tmp_path / "sets" / "rusty_1k")
    assert tools.run("make_renders", *words_of(tmp_path, "--samples", 2, "--no-dirty")) == 0
    assert len(PBRDataset(tmp_path / "input", tmp_path / "output", image_size=16)) == 4


# The command with processes that are forked where that is safe: spawned ones import PyTorch, each for seconds.
FORKED = """
import multiprocessing, sys
from neuropbr import make_renders

context = multiprocessing.get_context
multiprocessing.get_context = lambda kind: context("fork" if sys.platform == "linux" else kind)
if __name__ == "__main__":
    sys.exit(make_renders.main(sys.argv[1:]))
"""


def test_two_at_once_make_what_one_makes(imported, tmp_path):
    shutil.copytree(imported / "sets", tmp_path / "sets")
    words = words_of(tmp_path, "--samples", 2, "--no-dirty", "--jobs", 2)
    done = tools.in_process(tools.ROOT, "-c", FORKED, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert contents(tmp_path / "input") == contents(imported / "input")


def test_a_damaged_material_is_left_out_and_new_ones_are_added(imported, tmp_path, capsys):
    shutil.copytree(imported / "sets" / "rusty_1k", tmp_path / "sets" / "rusty_1k")
    shutil.copytree(imported / "sets" / "Bricks052", tmp_path / "sets" / "Bricks052")
    rough = tmp_path / "sets" / "Bricks052" / "Bricks052_1K-JPG_Roughness.jpg"
    whole = rough.read_bytes()
    rough.write_bytes(whole[:300])
    assert tools.run("make_renders", *words_of(tmp_path, "--no-dirty")) == 0
    assert "left out" in capsys.readouterr().err
    assert tools.run("make_renders", *words_of(tmp_path, "--no-dirty")) == 2
    assert "--add" in capsys.readouterr().err
    rough.write_bytes(whole)
    other = tmp_path / "other" / "rusty_1k"
    shutil.copytree(imported / "sets" / "rusty_1k", other)
    assert tools.run("make_renders", *words_of(tmp_path, "--no-dirty", "--add")) == 0
    more = ["--data-dir", tmp_path / "other", *words_of(tmp_path)[2:], "--no-dirty", "--add"]
    assert tools.run("make_renders", *more) == 0
    assert {path.name for path in (tmp_path / "output").iterdir()} == {"rusty_1k", "Bricks052", "other_rusty_1k"}
    assert len(PBRDataset(tmp_path / "input", tmp_path / "output", image_size=16)) == 3


def test_float_maps_keep_their_own_numbers(tmp_path):
    """An EXR in linear light with a texel above 1, for which the compressor keeps codes of logarithms."""
    OpenEXR = pytest.importorskip("OpenEXR")
    write_sets(tmp_path / "sets")
    folder = tmp_path / "sets" / "brick_wall_1k" / "textures"
    (folder / "brick_wall_diff_1k.jpg").unlink()
    values = np.full((SIDE, SIDE, 3), 0.2, np.float32)
    values[3, 5] = 3
    with OpenEXR.File({}, {"RGB": values}) as file:
        file.write(str(folder / "brick_wall_diff_1k.exr"))
    assert tools.run("make_renders", *words_of(tmp_path, "--no-dirty")) == 0
    albedo = read_map(tmp_path / "output" / "brick_wall_1k" / "albedo.png", "albedo")
    srgb = 1.055 * 0.2 ** (1 / 2.4) - 0.055
    assert abs(float(albedo[0, 0, 0]) - srgb) < 0.004 and float(albedo[0, 3, 5]) == 1


def test_names_of_folders(tmp_path):
    assert label_of(tmp_path / "a" / "b" / "textures", tmp_path) == "a_b"
    assert label_of(tmp_path / "textures", tmp_path) == label_of(tmp_path, tmp_path) == tmp_path.name


def test_progress_of_another_program_is_refused(tmp_path, refused):
    (tmp_path / PROGRESS).write_text("[1, 2]\n")
    with refused("--overwrite"):
        RenderedSet(tmp_path, {})
    RenderedSet(tmp_path, {}, overwrite=True)
