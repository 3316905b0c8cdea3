"""Materials of glTF models as groups: found, trained as a batch, recognised when they are finished, resumed."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest

import train
from common.errors import UserError
from describe.folder import describe_folder
from formats.manifest import read_manifest
from groups.batch import find_groups
from groups.journal import read_batch, read_record, run_folders
from groups.models import folder_names
from maps.record import Origin
from tests.support.batches import (
    _forked,  # noqa: F401  # autouse
    signal_batch_at,
)
from tests.support.models import encoded, gltf, orm_images, pixels, textures, whole, write_model
from tests.support.runs import (
    QUICK,
    _offline,  # noqa: F401  # autouse
    checkpoint_differences,
    checkpoint_of,
    leftovers,
    newest_run,
    patch_step,
    quick,
    refusal,
    save_maps,
    tree,
)
from training.checkpoint import load_checkpoint

FOUR = ("--max_iter", "4", "--refine", "0", "--eval_metrics", "psnr")


def chair(folder, name="chair.glb", second=4, **more):
    """Wood and Cloth share an image; a third material has none."""
    cloth = whole("Cloth", first=1, alphaMode="BLEND")
    cloth["pbrMetallicRoughness"]["baseColorTexture"]["index"] = 4
    images = [*orm_images(1), encoded(pixels(3, 2)), encoded(pixels(4, second))]
    return write_model(folder, [whole(), {"name": "plain"}, cloth], images, name, **more)


def train_model(path, *flags):
    return train.main([*QUICK, *FOUR, "--data_dir", str(path), "--save_dir", str(path.parent / "out"), *flags])


def states(found):
    return {group.name: group.skipped[:11] or group.failed[-20:] or group.material for group in found}


# --- what is found ---------------------------------------------------------------------------------------------------


def test_models_and_folders_of_a_batch(tmp_path):
    batch = tmp_path / "batch"
    save_maps(batch / "brick")
    shutil.copy(chair(tmp_path), batch / "brick" / "preview.glb")  # beside maps: the folder is the material
    shutil.copy(tmp_path / "chair.glb", batch / "Chair.GLB")
    (batch / "broken.glb").write_bytes(b"glTF")
    (batch / "table" / "textures").mkdir(parents=True)
    save_maps(batch / "table" / "textures")
    document = {"materials": [whole("Top")], "textures": textures(3)}
    images = [{"uri": f"textures/made_{name}.png"} for name in ("diffuse", "normal", "roughness")]
    (batch / "table" / "t.gltf").write_text(gltf({**document, "images": images}))
    (batch / "deep" / "er").mkdir(parents=True)
    shutil.copy(tmp_path / "chair.glb", batch / "deep" / "er")
    models = {"Chair.GLB/Wood": "Wood", "Chair.GLB/plain": "no textures", "Chair.GLB/Cloth": "Cloth"}
    found = states(find_groups(batch))
    assert found.pop("broken.glb")
    assert found == {**models, "brick": "", "deep": "no image na", "table/t.gltf/Top": "Top"}
    deep = {name.replace("Chair.GLB", "deep/er/chair.glb"): state for name, state in models.items()}
    found = states(find_groups(batch, recursive=True))
    assert found.pop("broken.glb")
    assert found == {**models, "brick": "", "deep": "no image na", "table/t.gltf/Top": "Top", **deep}


def test_a_model_is_a_batch_by_itself(tmp_path):
    assert states(find_groups(chair(tmp_path))) == {"Wood": "Wood", "plain": "no textures", "Cloth": "Cloth"}


def test_one_bad_material_does_not_stop_the_others(tmp_path, capsys):
    path = write_model(tmp_path, [whole("Good"), whole("Bad", alphaMode="GLASS")], orm_images())
    assert train_model(path) == 1
    said = capsys.readouterr().out
    assert "failed: Bad: " in said and "alphaMode" in said and "Good: PSNR" in said


def test_folders_are_named_as_the_materials_where_they_can_be():
    labels = ["Wood", "wood", "a/b:c", "..", "  x. ", "größe 2", "con\u0301", "é" * 99, "é" * 99, "a?b:c"]
    names = folder_names(labels)
    assert names[:6] == ["Wood", "wood#1", "a_b_c", "material_3", "x", "größe 2"]
    assert len({name.casefold() for name in names}) == len(labels) and max(map(len, names)) < 70


# --- training --------------------------------------------------------------------------------------------------------


def test_all_materials_then_again(tmp_path, capsys):
    path = chair(tmp_path)
    assert train_model(path) == 0
    out = tmp_path / "out" / "chair.glb"
    said = capsys.readouterr().out
    assert "skipped: plain: no textures" in said and "2 of 2 materials trained" in said
    assert {row["name"]: row["status"] for row in read_batch(out)["groups"]} == {
        "Wood": "done", "plain": "skipped", "Cloth": "done"}  # fmt: skip
    before = tree(out)
    assert train_model(path) == 0
    assert "2 of 2 materials were finished before" in capsys.readouterr().out
    assert {name for name, payload in tree(out).items() if payload != before[name]} <= {"batch.json", "batch.html"}
    assert leftovers(out) == []


@pytest.mark.parametrize(("change", "again"), [("mesh", 0), ("one image", 1), ("a factor", 1), ("a rename", 1)])
def test_only_materials_that_have_changed_are_trained_again(change, again, tmp_path, capsys):
    path = chair(tmp_path)
    assert train_model(path) == 0
    if change == "mesh":
        chair(tmp_path, nodes=[{"translation": [1, 2, 3]}])
    elif change == "one image":
        chair(tmp_path, second=9)
    else:
        payload = path.read_bytes()
        old, new = (b'"Cloth", ', b'"Linen", ') if change == "a rename" else (b'"BLEND"', b'"MASK" ')
        assert payload.count(old) == 1
        path.write_bytes(payload.replace(old, new))
    capsys.readouterr()
    assert train_model(path) == 0
    said = capsys.readouterr().out
    assert f"{2 - again} of 2 materials were finished before" in said and said.count("PSNR") == again


def test_the_record_names_the_model_and_the_material(tmp_path):
    path = chair(tmp_path)
    run = quick(*FOUR, "--data_dir", path, "--material", "Cloth", "--save_dir", tmp_path / "out")
    config = json.loads((run / "config.json").read_text())
    assert (config["data_dir"], config["material"]) == (str(path), "Cloth")
    manifest = read_manifest(checkpoint_of(run, 4))
    assert manifest.material.origin == Origin("chair.glb", "Cloth", 2) == load_checkpoint(run).material.origin
    assert manifest.material.name == "Cloth" and manifest.material.map("opacity").file == "image_4:A"
    assert any("chair.glb" in line for line in describe_folder(checkpoint_of(run, 4)).lines)
    path = checkpoint_of(run, 4) / "manifest.json"
    values = json.loads(path.read_text())
    for origin in ({"model": 3, "material": "x", "index": 0}, {"model": "x", "material": "x", "index": -1}, [], None):
        path.write_text(json.dumps({**values, "material": {**values["material"], "origin": origin}}))
        with pytest.raises(UserError, match="damaged or of another layout"):
            read_manifest(path.parent)


def test_a_run_goes_on_and_is_evaluated(tmp_path, capsys):
    path = chair(tmp_path)
    flags = [*FOUR, "--data_dir", path, "--material", "Wood", "--save_dir", tmp_path / "out", "--save_interval", 4]
    run = quick(*flags, "--max_iter", 8)
    shutil.copytree(checkpoint_of(run, 8), tmp_path / "whole")
    quick("--load_dir", run, "--load_iter", 4)
    assert checkpoint_differences(tmp_path / "whole", checkpoint_of(run, 8)) == []
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    assert train.main(["--mode", "infer", "--load_dir", str(run), "--data_dir", str(path)]) == 0
    assert train.main(["--maps", "--load_dir", str(run)]) == 0
    assert "normalTexture" in capsys.readouterr().out
    assert "was trained on" in refusal(capsys, "--mode", "infer", "--load_dir", run, "--material", "Cloth")
    path.unlink()
    assert "chair.glb" in refusal(capsys, "--mode", "infer", "--load_dir", run)


def test_an_interrupted_batch_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys):
    path = chair(tmp_path)
    flags = ("--max_iter", "300", "--save_interval", "100")
    assert train_model(path, *flags, "--save_dir", str(tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:
        signal_batch_at(patch, signal.SIGTERM, 100)
        assert train_model(path, *flags) == 128 + signal.SIGTERM
    out = tmp_path / "out" / "chair.glb"
    assert read_record(out / "Wood").status == "running"
    assert train_model(path, *flags) == 0
    for name in ("Wood", "Cloth"):
        runs = [newest_run_of(folder / "chair.glb" / name) for folder in (tmp_path / "whole", tmp_path / "out")]
        assert checkpoint_differences(*(checkpoint_of(run, 300) for run in runs)) == []
        assert len(run_folders(out / name)) == 1


def newest_run_of(folder):
    return run_folders(folder)[-1]


def test_a_model_that_changes_while_it_is_trained_on_fails(tmp_path, monkeypatch, capsys):
    path = chair(tmp_path)

    def make_step(step):
        def stepping(self, n):
            chair(tmp_path, second=time.time_ns() % 1000 + 10)
            return step(self, n)

        return stepping

    patch_step(monkeypatch, make_step)
    assert train_model(path) == 1
    assert "failed: Cloth: chair.glb: changed while it was trained on" in capsys.readouterr().out


# --- flags -----------------------------------------------------------------------------------------------------------


def test_dry_run_and_listing(tmp_path, capsys):
    path = chair(tmp_path)
    assert train_model(path, "--groups_dry_run") == 0
    said = capsys.readouterr().out
    assert "train     Wood: 12x8, 4 iterations" in said and "skipped   plain" in said
    assert train.main(["--data_dir", str(path), "--maps"]) == 0
    assert "Cloth:\n" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_wrong_flags(tmp_path, capsys):
    path = chair(tmp_path)
    assert "--material" in refusal(capsys, "--groups_batching", "--groups_batch_dir", path, "--material", "Wood")
    assert "did you mean 'Wood'" in refusal(capsys, "--data_dir", path, "--material", "Woo")
    assert "--maps" in refusal(capsys, "--data_dir", path, "--maps", "diffuse=a.png")
    bare = write_model(tmp_path, [{"name": "plain"}], [], "bare.glb")
    assert "found 1 material without" in refusal(capsys, "--data_dir", bare)
    assert "none of its 1 material" in refusal(capsys, "--groups_batching", "--groups_batch_dir", bare)


def test_one_material_is_a_run_of_its_own(tmp_path):
    path = write_model(tmp_path, [{"name": "plain"}, whole()], orm_images())
    assert train_model(path) == 0
    assert read_manifest(checkpoint_of(newest_run(tmp_path / "out"), 4)).material.origin.index == 1
