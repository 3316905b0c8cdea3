"""export.py --gltf: which runs and model it takes, what it says, and what it refuses with one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from common import files
from common.errors import run_command
from formats.manifest import MANIFEST
from tests.support.gltf_reader import Read
from tests.support.model_runs import export_gltf, make_batch, make_run
from tests.support.models import encoded, orm_images, pixels, whole, write_model
from tests.support.runs import refusal
from training import gltf

NAME = "NTX_neural_texture"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model with three materials, one of them without textures, and its batch in outputs/chair.glb."""
    folder = tmp_path_factory.mktemp("trained")
    leather = {"name": "Leather", "pbrMetallicRoughness": {"baseColorTexture": {"index": 3}}}
    path = write_model(folder, [whole(), {"name": "plain"}, leather], [*orm_images(), encoded(pixels(seed=5))],
                       "chair.glb")  # fmt: skip
    return path, make_batch(path, folder / "outputs" / "chair.glb")


@pytest.fixture
def chair(trained, tmp_path, monkeypatch):
    """(model, batch): copies to break, below the working directory."""
    path, batch = shutil.copy(trained[0], tmp_path), shutil.copytree(trained[1], tmp_path / "outputs" / "chair.glb")
    for config in batch.glob("*/*/config.json"):
        config.write_text(json.dumps({**json.loads(config.read_text()), "data_dir": str(path)}))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "chair.glb", batch


def neural(path) -> list[str]:
    """The names of the materials that have a neural texture."""
    return [m["name"] for m in Read(Path(path)).document["materials"] if NAME in m.get("extensions", {})]


def material_folder(batch, label: str):
    """Where the runs of one material are."""
    [config] = [path for path in batch.glob("*/*/config.json") if json.loads(path.read_text())["material"] == label]
    return config.parent.parent


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_a_batch(chair, tmp_path, capsys):
    path, batch = chair
    assert export_gltf("--load_dir", batch, "--gltf", "out/chair.ntx.glb") == 0
    lines, out = capsys.readouterr().out.splitlines(), tmp_path / "out/chair.ntx.glb"
    assert [line.partition(":")[0] for line in lines[:-1]] == ["Wood", "Leather"] == neural(out)
    assert all("bytes neural, trained at" in line and "fallback" in line for line in lines[:-1])
    assert f"{path.stat().st_size} -> {out.stat().st_size} bytes" in lines[-1] and "GPU memory" in lines[-1]
    assert os.listdir(out.parent) == [out.name]


def test_the_newest_run_of_each_material_is_found(chair, tmp_path, capsys):
    path, batch = chair
    newer = make_run(path, "Wood", batch.parent, "2026-02-01-00-00-00")
    make_run(write_model(tmp_path, [whole("Other")], orm_images(), "table.glb"), "Other", batch.parent,
             "2026-01-01-00-00-00")  # fmt: skip
    shutil.copytree(newer.parent.parent, batch.parent / ".hidden" / "2026-03-01-00-00-00")
    assert export_gltf("--gltf", "x.glb") == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}: 2 materials, of each the newest run in ") and first.endswith("outputs")
    shutil.rmtree(newer)
    assert lines[0].startswith("Wood: ") and neural("x.glb") == ["Wood", "Leather"]
    assert export_gltf("--gltf", "y.glb", "--data_dir", "table.glb") == 0
    assert neural("y.glb") == ["Other"]


def test_the_documented_line(chair, capsys):
    assert export_gltf("--gltf", "chair.ntx.glb") == 0
    assert "of each the newest run in" in capsys.readouterr().out and neural("chair.ntx.glb") == ["Wood", "Leather"]


@pytest.mark.parametrize("what", ["run", "export"])
def test_one_material(what, chair, capsys):
    """Others stay as they are, and that is no failure."""
    path, batch = chair
    [checkpoint] = material_folder(batch, "Leather").glob("*/models/*")
    folder = checkpoint.parent.parent if what == "run" else shutil.copytree(checkpoint, "exported")
    given = () if what == "run" else ("--data_dir", path)
    assert export_gltf("--load_dir", folder, "--gltf", "x.glb", *given) == 0
    assert neural("x.glb") == ["Leather"] and "Wood" not in capsys.readouterr().out


def test_a_model_elsewhere_under_another_name(chair, capsys):
    path, batch = chair
    path.rename("stool.GLB")
    assert export_gltf("--load_dir", batch, "--gltf", "x.glb", "--data_dir", "stool.GLB") == 0
    assert neural("x.glb") == ["Wood", "Leather"]


def test_other_exports_beside_it(chair, tmp_path):
    path, batch = chair
    [checkpoint] = material_folder(batch, "Wood").glob("*/models/*")
    exported = shutil.copytree(checkpoint, "exported")
    flags = ["--gltf", "x.glb", "--out_dir", "files", "--dds_layout", "filterable", "--viewer", "page.html"]
    assert export_gltf("--load_dir", exported, "--data_dir", path, *flags) == 0
    assert json.loads((tmp_path / "files" / MANIFEST).read_text())["dds_layout"] == "filterable"
    [entry] = Read(tmp_path / "x.glb").document["extensions"][NAME]["neuralTextures"]
    assert entry["layout"] == "filterable" and (tmp_path / "page.html").exists()


# --- materials that stay as they are ---------------------------------------------------------------------------------


def changed_texture(path, batch):
    images = orm_images()
    images[1] = encoded(pixels(seed=77))
    other = write_model(path.parent / "new", [whole(), {"name": "plain"}, {"name": "Leather", "pbrMetallicRoughness": {
        "baseColorTexture": {"index": 3}}}], [*images, encoded(pixels(seed=5))])  # fmt: skip
    shutil.copy(other, path)


def not_trained(path, batch):
    shutil.rmtree(material_folder(batch, "Wood"))


def damaged(path, batch):
    [network] = material_folder(batch, "Wood").glob("*/models/*/network_data.npz")
    network.write_bytes(network.read_bytes()[:-7])


def damaged_manifest(path, batch):
    [manifest] = material_folder(batch, "Wood").glob(f"*/models/*/{MANIFEST}")
    manifest.write_text("{")


def not_quantized(path, batch):
    [manifest] = material_folder(batch, "Wood").glob(f"*/models/*/{MANIFEST}")
    manifest.unlink()


LEFT = {
    changed_texture: "no longer those that it was trained on; train it again",
    not_trained: "it is not trained",
    damaged: "damaged, its bytes differ from the manifest's hash; export again",
    damaged_manifest: "damaged, not valid JSON",
    not_quantized: "manifest.json: cannot be read",
}


@pytest.mark.parametrize("change", LEFT, ids=lambda change: change.__name__)
def test_a_material_that_cannot_be_taken_stays(change, chair, capsys):
    path, batch = chair
    change(path, batch)
    before = Read(path)
    assert export_gltf("--load_dir", batch, "--gltf", "x.glb") == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Wood: ")]
    assert (line.startswith("Wood: left as it is: ") and line.endswith(LEFT[change])) or LEFT[change] in line
    after = Read(batch.parent.parent / "x.glb")
    assert neural(after.path) == ["Leather"] and after.document["materials"][0] == before.document["materials"][0]
    assert [after.image(index) for index in range(3)] == [before.image(index) for index in range(3)]


def test_an_export_that_cannot_be_read(chair, tmp_path, capsys):
    """It says nothing of its model, nor does a run."""
    path, batch = chair
    for label in ("Wood", "Leather"):
        shutil.copytree(next(material_folder(batch, label).glob("*/models/*")), tmp_path / "exports" / label)
    (tmp_path / "exports" / "Wood" / MANIFEST).write_text("[]")
    assert export_gltf("--load_dir", "exports", "--data_dir", path, "--gltf", "x.glb") == 1
    assert "Wood: left as it is: exports/Wood/manifest.json: expected" in capsys.readouterr().out
    assert neural("x.glb") == ["Leather"]


def test_materials_that_the_model_no_longer_has(chair, tmp_path, capsys):
    _, batch = chair
    write_model(tmp_path, [{"name": "Leather", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
                [encoded(pixels(seed=5))], "chair.glb")  # fmt: skip
    assert export_gltf("--load_dir", batch, "--gltf", "x.glb") == 1
    said = capsys.readouterr().out
    assert "Wood: left as it is: " in said and "has no material of this name" in said
    assert neural("x.glb") == ["Leather"]


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(capsys, *flags) -> str:
    """The line; nothing was written."""
    before = sorted(os.listdir())
    line = refusal(capsys, *flags, command="export")
    assert sorted(os.listdir()) == before
    return line


def test_places_that_cannot_be_written(chair, tmp_path, capsys):
    path, batch = chair
    for target, expected in ((".", "found a folder"), ("x.gltf", "a name that ends in .glb"), ("x", "ends in .glb"),
                             (path, "another file than the model itself")):  # fmt: skip
        assert expected in refused(capsys, "--load_dir", batch, "--gltf", target)
    if Path("/proc/self").is_dir():
        assert "/proc/x.glb" in refused(capsys, "--load_dir", batch, "--gltf", "/proc/x.glb")
    os.link(path, "same.glb")
    assert "another file than the model" in refused(capsys, "--load_dir", batch, "--gltf", "same.glb")


def test_folders_without_materials_of_a_model(chair, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for flags, expected in (
        (["--load_dir", "nowhere"], "--load_dir nowhere: no such folder"),
        (["--load_dir", "empty"], "expected runs of a glTF model's materials, found no runs"),
        (["--data_dir", "empty"], "expected the .glb or .gltf that was trained on, found a folder"),
        (["--data_dir", "none.glb"], "found no such file"),
    ):
        assert expected in refused(capsys, *flags, "--gltf", "x.glb")
    write_model(tmp_path, [whole()], orm_images(), "table.glb")
    line = refused(capsys, "--data_dir", "table.glb", "--gltf", "x.glb")
    assert "of table.glb, found 2 runs of others" in line
    shutil.rmtree("outputs")
    assert "expected runs of a glTF model's materials, found no runs" in refused(capsys, "--gltf", "x.glb")


def test_a_model_that_is_gone(chair, capsys):
    path, batch = chair
    path.rename("elsewhere.glb")
    for flags in (["--load_dir", batch], []):
        line = refused(capsys, *flags, "--gltf", "x.glb")
        assert "chair.glb" in line and line.endswith("give it with --data_dir")


def test_materials_of_several_models(chair, tmp_path, capsys):
    _, batch = chair
    make_run(write_model(tmp_path, [whole("Other")], orm_images(), "table.glb"), "Other", batch.parent)
    line = refused(capsys, "--load_dir", batch.parent, "--gltf", "x.glb")
    assert "found chair.glb, table.glb; choose with --data_dir" in line
    assert export_gltf("--load_dir", batch.parent, "--data_dir", "table.glb", "--gltf", "x.glb") == 0
    assert neural("x.glb") == ["Other"]


def test_a_model_that_none_fits(chair, tmp_path, capsys):
    _, batch = chair
    other = [whole(), {"name": "plain"}, {"name": "Leather", "normalTexture": {"index": 0}}]
    write_model(tmp_path, other, [encoded(pixels(seed=50 + seed)) for seed in range(3)], "chair.glb")
    capsys.readouterr()
    assert export_gltf("--load_dir", batch, "--gltf", "x.glb") == 2
    said = capsys.readouterr()
    assert said.out.count("left as it is") == 2 and "expected a trained material, found none that fits" in said.err
    assert not (tmp_path / "x.glb").exists()


def test_a_model_that_has_neural_textures_already(chair, tmp_path, capsys):
    _, batch = chair
    assert export_gltf("--load_dir", batch, "--gltf", "x.glb") == 0
    line = refused(capsys, "--load_dir", batch, "--gltf", "y.glb", "--data_dir", "x.glb")
    assert line.endswith(f"found {NAME}; give the model that it was made of")


def test_flags_that_do_not_go_together(chair, capsys):
    _, batch = chair
    flags = ["--load_dir", batch, "--gltf", "x.glb"]
    assert "bgra4: expected packed, filterable or rgba8" in refused(capsys, *flags, "--dds_layout", "bgra4")
    assert "--fallback: expected one of jpeg, png, none" in refused(capsys, *flags, "--fallback", "webp")
    assert "--fallback_lod" in refused(capsys, *flags, "--fallback_lod", "-1")
    assert "expected --load_dir beside it" in refused(capsys, "--gltf", "x.glb", "--out_dir", "files")


def test_a_full_disk_leaves_nothing(chair, tmp_path, monkeypatch, capsys):
    _, batch = chair
    (tmp_path / "x.glb").write_bytes(b"older")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    line = refused(capsys, "--load_dir", batch, "--gltf", "x.glb")
    assert "x.glb" in line and (tmp_path / "x.glb").read_bytes() == b"older"


def test_a_model_that_changes_while_it_is_read(chair, tmp_path, monkeypatch, capsys):
    path, batch = chair
    line = gltf._line

    def change(*arguments):
        path.write_bytes(path.read_bytes() + b"")
        os.utime(path, ns=(1, 1))
        return line(*arguments)

    monkeypatch.setattr(gltf, "_line", change)
    assert run_command(lambda: gltf.write_model(tmp_path / "x.glb", batch, -1, None, gltf.Wanted())) == 2
    assert "changed while it was read" in capsys.readouterr().err and not (tmp_path / "x.glb").exists()
