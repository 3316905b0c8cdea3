"""Bad input, damaged files, full and read-only disks: one line, exit code 2, and nothing half done left behind."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from runs import (
    QUICK,
    checkpoint_differences,
    checkpoint_of,
    leftovers,
    newest_run,
    offline,
    patch_step,
    payload,
    process,
    quick,
    refusal,
    refusal_line,
    save_maps,
    tree,
)

import files
import train
from checkpoint import list_checkpoints, load_checkpoint
from errors import UserError, explain_os_error, run_command


@pytest.fixture(autouse=True, scope="module")
def _offline():
    with offline():
        yield


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return save_maps(tmp_path_factory.mktemp("maps"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, maps):
    """A run folder with checkpoints at 10 and 20 of 20 iterations."""
    save_dir = tmp_path_factory.mktemp("outputs")
    return quick("--data_dir", maps, "--save_dir", save_dir, "--max_iter", 20, "--save_interval", 10)


@pytest.fixture
def run(finished, tmp_path):
    """A copy to break."""
    return shutil.copytree(finished, tmp_path / "out" / finished.name)


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, words",
    [(["--quantise", "True"], ["--quantise"]), (["--max_it", 5], ["--max_it"]), (["--max_iter"], ["--max_iter"]),
     (["--max_iter", "many"], ["--max_iter", "many"]), (["--quantize_bits", 3], ["--quantize_bits", "1, 2, 4, 8, 16"]),
     (["--quantize_bits", 16, "--save_bits", 8], ["--save_bits"]), (["--mode", "infer"], ["--load_dir"]),
     (["--load_iter", 5], ["--load_dir"]), (["--load_iter", -2], ["--load_iter"]),
     (["--device", "cuda:99"], ["--device"]),
     (["--device", "banana"], ["--device"]), (["--device", "meta"], ["--device"]), (["--device", ""], ["--device"]),
     (["--config", "none.yaml"], ["--config"]), (["--groups_max_workers", -1], ["--groups_max_workers", "0 to 1024"]),
     (["--lr_scheduler", "step\nlr"], ["--lr_scheduler"])],
    ids=str,
)  # fmt: skip
def test_flags(flags, words, maps, tmp_path, capsys):
    line = refusal(capsys, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 3, *flags)
    assert all(word in line for word in words)
    assert list(tmp_path.iterdir()) == []


def test_a_process(tmp_path):
    """What the shell sees: exit code 2, one line on stderr, nothing written."""
    result = process("--data_dir", "none", "--save_dir", "out", cwd=tmp_path)
    line = refusal_line(result.returncode, result.stderr)
    assert "none" in line and "Traceback" not in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "grids, words",
    [("{max_resolution: 24, n_levels: 5}", ["24"]), ("{quantize_bits: 16, save_bits: 8}", ["16"]),
     ("{}, {quantize_bits: 16, save_bits: 8}", ["hash_grid_configs[1]"])],
)  # fmt: skip
def test_grids_that_cannot_be_built(grids, words, maps, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text(f"hash_grid_configs: [{grids}]")
    line = refusal(capsys, "--config", tmp_path / "my.yaml", "--data_dir", maps, "--save_dir", tmp_path / "out")
    assert all(word in line for word in words)
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"], "refused before any work starts"


def test_no_present_map_has_a_weight(maps, tmp_path, capsys):
    weights = ", ".join(f"{name}: 0" for name in ("diffuse", "normal", "roughness"))
    (tmp_path / "my.yaml").write_text(f"texture_loss_weights: {{{weights}}}")
    line = refusal(capsys, "--config", tmp_path / "my.yaml", "--data_dir", maps, "--save_dir", tmp_path / "out")
    assert "texture_loss_weights" in line
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


# --- materials -----------------------------------------------------------------------------------------------------


def missing(folder):
    return ["no such", "none"]


def empty(folder):
    folder.mkdir()
    return ["empty"]


def a_file(folder):
    folder.write_bytes(b"x")
    return ["Not a directory"]


def no_map(folder):
    folder.mkdir()
    (folder / "readme.txt").write_text("x")
    PillowImage.new("RGB", (4, 4)).save(folder / "zebra.png")
    return ["zebra.png", "readme.txt"]


def truncated(folder):
    path = save_maps(folder, 32, 32) / "made_diffuse.png"
    path.write_bytes(path.read_bytes()[:-300])
    return ["made_diffuse.png"]


def truncated_16_bit(folder):
    path = save_maps(folder, 32, 32, deep=("roughness",)) / "made_roughness.png"
    path.write_bytes(path.read_bytes()[:-300])
    return ["made_roughness.png"]


def flipped(folder):
    path = save_maps(folder, 32, 32) / "made_normal.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    return ["made_normal.png"]


def zero_bytes(folder):
    (save_maps(folder) / "made_roughness.png").write_bytes(b"")
    return ["made_roughness.png", "empty"]


def text(folder):
    (save_maps(folder) / "made_normal.png").write_text("<html>404</html>")
    return ["made_normal.png"]


def two_for_one(folder):
    shutil.copy(save_maps(folder) / "made_diffuse.png", folder / "other_albedo.png")
    return ["made_diffuse.png", "other_albedo.png", "diffuse"]


def grey_normal(folder):
    PillowImage.new("L", (16, 16)).save(save_maps(folder) / "made_normal.png")
    return ["made_normal.png", "RGB"]


@pytest.mark.parametrize(
    "make", [missing, empty, a_file, no_map, truncated, truncated_16_bit, flipped, zero_bytes, text, two_for_one,
             grey_normal], ids=lambda make: make.__name__,
)  # fmt: skip
@pytest.mark.parametrize("name", ["plain", "two\nlines 'q'"], ids=["plain", "odd"])
def test_materials(make, name, tmp_path, capsys):
    words = make(tmp_path / name)
    before = sorted(tree(tmp_path))
    line = refusal(capsys, "--data_dir", tmp_path / name, "--save_dir", tmp_path / "out")
    assert (any(word.lower() in line.lower() for word in words) and "plain" in line) or name != "plain"
    assert sorted(tree(tmp_path)) == before


def test_a_name_that_no_file_can_have(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text('data_dir: "a\\0b"')
    assert "data_dir" in refusal(capsys, "--config", tmp_path / "my.yaml", "--save_dir", tmp_path / "out")


# --- run folders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_load_dir_without_a_run(mode, maps, finished, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "two\nlines").mkdir()
    for name in ("none", "file", "empty", "two\nlines", "none\nat all"):
        line = refusal(capsys, "--mode", mode, "--load_dir", tmp_path / name)
        assert "--load_dir" in line and name.split()[0] in line
    assert finished.name in refusal(capsys, "--mode", mode, "--load_dir", finished.parent), "a guess at what was meant"
    refusal(capsys, "--mode", mode, "--load_dir", checkpoint_of(finished, 20))
    line = refusal(capsys, "--mode", mode, "--load_dir", finished, "--load_iter", 15)
    assert "15" in line and "10, 20" in line


def test_export_of_what_is_not_there(finished, tmp_path, capsys):
    refusal(capsys, "--load_dir", tmp_path / "none", "--out_dir", tmp_path / "out", command="export")
    refusal(capsys, "--load_dir", finished, "--load_iter", 7, "--out_dir", tmp_path / "out", command="export")
    refusal(capsys, "--load_dir", checkpoint_of(finished, 20), "--out_dir", tmp_path / "out", command="export")
    refusal(capsys, "--load_dir", finished, command="export")
    refusal(capsys, "--load_dir", finished, "--out_dir", tmp_path / "out", "--image", command="export")
    assert list(tmp_path.iterdir()) == []


def test_floats_cannot_be_exported(maps, tmp_path, capsys):
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 2, "--quantize", "False")
    line = refusal(capsys, "--load_dir", run, "--out_dir", tmp_path / "export", command="export")
    assert "--quantize False" in line
    assert not (tmp_path / "export").exists()


# --- model.pth -----------------------------------------------------------------------------------------------------


def all_refuse(run, capsys, *words):
    """Training on, inferring and exporting refuse the newest checkpoint and change nothing."""
    before = tree(run.parent)
    for flags, command in (
        (["--load_dir", run, "--max_iter", 30], None),
        (["--load_dir", run, "--mode", "infer"], None),
        (["--load_dir", run, "--out_dir", run.parent / "export"], "export"),
    ):
        line = refusal(capsys, *flags, command=command)
        assert "model.pth" in line or "train_result" in line, line
        assert all(word in line for word in words), line
    assert tree(run.parent) == before


def test_flipped_bytes(run):
    """Every part of the file: zip structures, the pickle, tensors. What is read is right, or is refused."""
    path = checkpoint_of(run, 20) / "model.pth"
    content, right = path.read_bytes(), payload(checkpoint_of(run, 20))
    directory = content.rindex(b"PK\x01\x02", 0, content.index(b"PK\x01\x02") + 4)
    places = {*range(0, len(content), len(content) // 150), *range(0, 120, 3), *range(directory, directory + 120, 5)}
    places |= {*range(len(content) - 99, len(content), 4)}
    refused = 0
    for place in sorted(places):
        broken = bytearray(content)
        broken[place] ^= 0x41
        path.write_bytes(broken)
        try:
            loaded = load_checkpoint(run)
        except UserError as error:
            assert "model.pth" in str(error) and len(str(error).splitlines()) == 1
            refused += 1
        else:  # padding, time stamps
            assert all(torch.equal(*pair) for pair in zip(loaded.model.grid_parameters, right["grids"])), place
            assert all(torch.equal(*pair) for pair in zip(loaded.model.weights, right["network"])), place
    assert refused > 0.6 * len(places)


@pytest.mark.parametrize("keep", [0, 1, 4, 30, 0.3, 0.9, 0.999], ids=str)
def test_truncated_model(keep, run, capsys):
    path = checkpoint_of(run, 20) / "model.pth"
    content = path.read_bytes()
    path.write_bytes(content[: keep if keep in (0, 1, 4, 30) else int(len(content) * keep)])
    all_refuse(run, capsys, "damaged")
    assert train.main(["--mode", "infer", "--load_dir", str(run), "--load_iter", "10"]) == 0, "the others are intact"


@pytest.mark.parametrize("content", [b"not a zip" * 99, b"\x80\x02}q\x00.", pickle.dumps({"version": 1})], ids=repr)
def test_not_a_checkpoint(content, run, capsys):
    (checkpoint_of(run, 20) / "model.pth").write_bytes(content)
    all_refuse(run, capsys, "damaged")


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("where", ["payload", "training", "legacy", "plain", "global"])
def test_malicious_pickles(where, run, tmp_path, capsys):
    path, made = checkpoint_of(run, 20) / "model.pth", tmp_path / "made"
    state = payload(checkpoint_of(run, 20))
    if where == "payload":
        torch.save(Evil(made), path)
    elif where == "training":
        state["training"]["engine"]["x"] = Evil(made)
        torch.save(state, path)
    elif where == "legacy":
        torch.save({**state, "x": Evil(made)}, path, _use_new_zipfile_serialization=False)
    elif where == "plain":
        path.write_bytes(pickle.dumps({**state, "x": Evil(made)}))
    else:
        replace_pickle(path, b"cos\nsystem\n(V" + f"touch {made}".encode() + b"\ntR.")
    all_refuse(run, capsys)
    assert not made.exists()


def replace_pickle(path, pickled, method=zipfile.ZIP_STORED):
    """The same archive with another data.pkl."""
    stream = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stream, "w", method) as new:
        for entry in old.namelist():
            new.writestr(entry, pickled if entry.endswith("data.pkl") else old.read(entry))
    path.write_bytes(stream.getvalue())


@pytest.mark.parametrize(
    "pickled", [b".", b"N.", b"K\x01.", b"]", b"}(", b"\x80\x02X\xff\xff\xff\x7fx.", b"0.", b"(((((", b"h\x05.", b"Q.",
                b"\x80\x02csys\nexit\n.", b"\x80\x02ctorch\nload\n.", b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
                b"\x80\xff.", b"I1e9\n.", b"cbuiltins\neval\n(V1\ntR.", b"(lp0\n", b"\x8a\xff.", b"}}s.", b"Vx\nb."],
    ids=repr,
)  # fmt: skip
def test_pickles_of_another_kind(pickled, run, tmp_path):
    """With the right checksums, as somebody who means harm would write them."""
    replace_pickle(checkpoint_of(run, 20) / "model.pth", pickled)
    with pytest.raises(UserError, match=r"model\.pth") as caught:
        load_checkpoint(run)
    assert len(str(caught.value).splitlines()) == 1


def test_zip_bombs(run, capsys):
    path = checkpoint_of(run, 20) / "model.pth"
    content = path.read_bytes()
    replace_pickle(path, b"\0" * 50_000_000, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    all_refuse(run, capsys, "compressed")
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:  # many names for the same bytes
        first = archive.infolist()[0]
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(99):
            twin = zipfile.ZipInfo(f"{first.filename}{number}")
            for name in ("CRC", "compress_size", "file_size", "header_offset"):
                setattr(twin, name, getattr(largest, name))
            archive.filelist.append(twin)
        archive._didModify = True
    all_refuse(run, capsys, "overlap")


def rewrite(run, mutate, iteration=20):
    """Save what model.pth holds after `mutate` had it."""
    state = payload(checkpoint_of(run, iteration))
    mutate(state)
    torch.save(state, checkpoint_of(run, iteration) / "model.pth")


def with_config(**changes):
    def mutate(state):
        state["config"] = json.dumps({**json.loads(state["config"]), **changes})

    return mutate


def with_material(**changes):
    def mutate(state):
        state["material"] = json.dumps({**json.loads(state["material"]), **changes})

    return mutate


KEYS = ("version", "iteration", "config", "material", "metrics", "grids", "network", "training")
LAYOUTS = {
    "version 2": lambda state: state.update(version=2),
    "version text": lambda state: state.update(version="1" * 999),
    **{f"without {key}": lambda state, key=key: state.pop(key) for key in KEYS},
    **{f"{key} None": lambda state, key=key: state.update({key: None}) for key in KEYS},
    "iteration text": lambda state: state.update(iteration="20"),
    "iteration negative": lambda state: state.update(iteration=-5),
    "config no JSON": lambda state: state.update(config="{"),
    "config a list": lambda state: state.update(config="[1]"),
    "config deep": lambda state: state.update(config="[" * 100_000),
    "config unknown field": with_config(zebra=5),
    "config bad value": with_config(n_neurons="many"),
    "other network": with_config(n_neurons=32),
    "other grids": with_config(hash_grid_configs=[{"max_resolution": 8}]),
    "impossible grids": with_config(hash_grid_configs=[{"max_resolution": 24, "n_levels": 9}]),
    "other size": with_material(width=64, height=64, num_lods=7),
    "no size": with_material(width=0),
    "huge size": with_material(width=1 << 40),
    "maps no list": with_material(maps=5),
    "maps of nothing": with_material(maps=[]),
    "unknown map": with_material(maps=[{"map": "zebra"}]),
    "missing grid": lambda state: state["grids"].pop(),
    "grid of another shape": lambda state: state["grids"].__setitem__(0, state["grids"][0].reshape(2, -1)),
    "grid of another type": lambda state: state["grids"].__setitem__(0, state["grids"][0].double()),
    "grid a list": lambda state: state["grids"].__setitem__(0, [0.0]),
    "grid expanded": lambda state: state["grids"].__setitem__(0, torch.zeros(1).expand(1 << 40)),
    "network of another shape": lambda state: state["network"].__setitem__(1, state["network"][1].t()[:, :8]),
    "network sparse": lambda state: state["network"].__setitem__(0, state["network"][0].to_sparse()),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_checkpoints_of_another_layout(name, run, capsys):
    rewrite(run, LAYOUTS[name])
    all_refuse(run, capsys)


@pytest.mark.parametrize("whole", [[1], torch.zeros(3), {}, "text", None, {1: 2}], ids=str)
def test_files_that_hold_something_else(whole, run, capsys):
    torch.save(whole, checkpoint_of(run, 20) / "model.pth")
    all_refuse(run, capsys, "version")


def test_a_checkpoint_cannot_ask_for_more_memory_than_it_has_bytes(run, monkeypatch):
    """The configuration in a damaged file claims grids of 16384 x 16384; that is seen before they are made."""
    grids = [{"max_resolution": 16384, "save_bits": 64, "quantize_bits": 1}] * 4
    rewrite(run, with_config(hash_grid_configs=grids))
    rand = torch.rand

    def small_rand(*size, **options):
        if np.prod([int(n) for n in size]) > 1 << 24:
            raise AssertionError(f"asked for {size} values")
        return rand(*size, **options)

    monkeypatch.setattr(torch, "rand", small_rand)
    with pytest.raises(UserError, match=r"model\.pth"):
        load_checkpoint(run)


def in_training(*path, value):
    def mutate(state):
        target = state["training"]
        for key in path[:-1]:
            target = target[key]
        if value is KeyError:
            del target[path[-1]]
        else:
            target[path[-1]] = value

    return mutate


TRAINING = {
    "empty": lambda state: state.update(training={}),
    "without engine": in_training("engine", value=KeyError),
    "without schedule": in_training("schedule", value=KeyError),
    "without early_stopping": in_training("early_stopping", value=KeyError),
    "without seconds": in_training("seconds", value=KeyError),
    "engine None": in_training("engine", value=None),
    "engine a list": in_training("engine", value=[]),
    "schedule a list": in_training("schedule", value=[1, 2]),
    "schedule of text": in_training("schedule", "plateau_factor", value="x"),
    "without early_stopping sum": in_training("early_stopping", "sum_db", value=KeyError),
    "early_stopping of text": in_training("early_stopping", "count", value="x"),
    "early_stopping of None": in_training("early_stopping", "sum_db", value=None),
    "seconds of text": in_training("seconds", value="x"),
    "iteration of text": in_training("engine", "iteration", value="x"),
    "iteration None": in_training("engine", "iteration", value=None),
    "another iteration": in_training("engine", "iteration", value=15),
    "optimizer None": in_training("engine", "optimizer", value=None),
    "optimizer a list": in_training("engine", "optimizer", value=[1]),
    "moments None": in_training("engine", "optimizer", 0, value=None),
    "moments of text": in_training("engine", "optimizer", 0, "exp_avg", value="x"),
    "moments of another shape": in_training("engine", "optimizer", 0, "exp_avg", value=torch.zeros(3)),
    "without a moment": in_training("engine", "optimizer", 1, "exp_avg_sq", value=KeyError),
    "without a step": in_training("engine", "optimizer", 1, "step", value=KeyError),
    "step of text": in_training("engine", "optimizer", 1, "step", value="x"),
    "a parameter too many": in_training("engine", "optimizer", 99, value={}),
    "a parameter too few": in_training("engine", "optimizer", 2, value=KeyError),
    "named parameters": in_training("engine", "optimizer", "x", value={"exp_avg": torch.zeros(1)}),
}


@pytest.mark.parametrize("name", TRAINING)
def test_training_state_of_another_layout(name, run, capsys):
    """Only training on needs it. The later checkpoint stays where it is: nothing has been continued."""
    rewrite(run, TRAINING[name], iteration=10)
    before = tree(run.parent)
    line = refusal(capsys, "--load_dir", run, "--load_iter", 10)
    assert "train_result_10" in line
    assert tree(run.parent) == before


# --- exported files ------------------------------------------------------------------------------------------------


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place if place >= 0 else len(content) + place] ^= 1
    path.write_bytes(content)


def edit_manifest(change):
    def edit(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edit


EXPORTS = {
    "dds header": lambda folder: flip(folder / "hash_grid_0.dds", 16),
    "dds texel": lambda folder: flip(folder / "hash_grid_1.dds", -3),
    "dds cut": lambda folder: (folder / "hash_grid_0.dds").write_bytes(b"DDS "),
    "dds empty": lambda folder: (folder / "hash_grid_0.dds").write_bytes(b""),
    "dds missing": lambda folder: (folder / "hash_grid_0.dds").unlink(),
    "dds of the other grid": lambda folder: shutil.copy(folder / "hash_grid_1.dds", folder / "hash_grid_0.dds"),
    "npz weight": lambda folder: flip(folder / "network_data.npz", 900),
    "npz end": lambda folder: flip(folder / "network_data.npz", -9),
    "npz missing": lambda folder: (folder / "network_data.npz").unlink(),
    "npz a folder": lambda folder: ((folder / "network_data.npz").unlink(), (folder / "network_data.npz").mkdir()),
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "manifest empty": lambda folder: (folder / "manifest.json").write_text(""),
    "manifest cut": lambda folder: (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:-9]),
    "manifest a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest deep": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "manifest binary": lambda folder: (folder / "manifest.json").write_bytes(bytes(range(256))),
    "manifest version": edit_manifest(lambda m: m.update(version=2)),
    "manifest without files": edit_manifest(lambda m: m.pop("files")),
    "manifest without grids": edit_manifest(lambda m: m.pop("grids")),
    "manifest without decoder": edit_manifest(lambda m: m.pop("decoder")),
    "manifest of other lods": edit_manifest(lambda m: m["material"].update(num_lods=3)),
    "manifest of more grids": edit_manifest(lambda m: m["grids"].append(m["grids"][0])),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_infer_finds_damaged_exports(name, run, capsys):
    EXPORTS[name](checkpoint_of(run, 20))
    before = tree(run.parent)
    line = refusal(capsys, "--mode", "infer", "--load_dir", run)
    assert name.split()[0] in line.replace("network_data.npz", "npz") or "manifest" in line
    assert "train_result_20" in line
    assert tree(run.parent) == before, "no infer/"


def test_the_model_lets_a_damaged_export_be_made_again(run, tmp_path):
    import export

    EXPORTS["npz missing"](checkpoint_of(run, 20))
    assert export.main(["--load_dir", str(run), "--out_dir", str(tmp_path / "again")]) == 0


# --- disks ---------------------------------------------------------------------------------------------------------


class Failing:
    """A system call that fails with `number` from its nth call on."""

    def __init__(self, monkeypatch, name, number, after):
        self.original, self.number, self.left = getattr(os, name), number, after
        monkeypatch.setattr(files.os, name, self)

    def __call__(self, *args, **options):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        return self.original(*args, **options)


@pytest.mark.parametrize("number, word", [(errno.ENOSPC, "full"), (errno.EDQUOT, "quota")])
def test_disk_full_at_every_write(number, word, finished, tmp_path, capsys):
    """Continue from 10 of 20 iterations; the disk fills up at the first, the second, ... write, until it does not."""
    run = shutil.copytree(finished, tmp_path / "out" / finished.name)
    shutil.rmtree(checkpoint_of(run, 20))
    kept = tree(checkpoint_of(run, 10))
    for after in range(30):
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, "fsync", number, after)
            if run_command(lambda: train.main(["--load_dir", str(run)])) == 0:
                break
        line = refusal_line(2, capsys.readouterr().err)
        assert word in line and failing.left < 0
        assert leftovers(tmp_path) == [] and list(list_checkpoints(run)) == [10]
        assert tree(checkpoint_of(run, 10)) == kept
        for path in run.glob("*.json"):
            json.loads(path.read_text())
    assert after >= 8, "config, two DDS, npz, manifest, model and metrics were all tried"
    assert checkpoint_differences(checkpoint_of(finished, 20), checkpoint_of(run, 20)) == []


def test_disk_full_while_exporting(finished, tmp_path, capsys):
    """All or nothing: a folder with some of the textures would look like an export."""
    for after in range(4):
        with pytest.MonkeyPatch.context() as patch:
            Failing(patch, "fsync", errno.ENOSPC, after)
            line = refusal(capsys, "--load_dir", finished, "--out_dir", tmp_path / "out", command="export")
        assert "full" in line
        assert [name for name in tree(tmp_path) if not name.endswith("/")] == [], f"after {after} files"


def test_disk_full_in_a_new_run(maps, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, "fsync", errno.ENOSPC, 3)
        line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path, "--max_iter", 3)
    assert "full" in line and leftovers(tmp_path) == []
    assert list(tmp_path.glob("*/models/*")) == []


def mounted(folder, options):
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if result.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {result.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KiB."""
    folder = tmp_path / "disk"
    mounted(folder, "size=300k")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_that_is_really_full(maps, small_disk):
    """In a process of its own, so that a thread that dies or waits forever would show."""
    flags = ["--data_dir", maps, "--save_dir", small_disk / "out", "--max_iter", 3000, "--save_interval", 5]
    result = process(*QUICK, *flags)
    line = refusal_line(result.returncode, result.stderr)
    assert "full" in line and str(small_disk) in line
    run = newest_run(small_disk / "out")
    saved = list_checkpoints(run)
    assert len(saved) >= 2 and leftovers(small_disk) == []
    for iteration in saved:
        assert load_checkpoint(run, iteration).iteration == iteration


def test_a_read_only_disk(finished, maps, tmp_path, capsys):
    disk = tmp_path / "disk"
    mounted(disk, "size=4m")
    try:
        run = shutil.copytree(finished, disk / "out" / finished.name)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        before = tree(disk)
        line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", disk / "out", "--max_iter", 3)
        assert "read-only" in line and str(disk) in line
        for flags in (["--load_iter", 10], ["--max_iter", 30], ["--mode", "infer"]):
            assert "read-only" in refusal(capsys, "--load_dir", run, *flags)
        assert "read-only" in refusal(capsys, "--load_dir", run, "--out_dir", disk / "export", command="export")
        assert tree(disk) == before
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_no_permission(maps, finished, tmp_path, monkeypatch, capsys):
    """Root may write anywhere, so the system call itself says no."""

    def denied(path, *args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", denied)
    line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path / "out")
    assert "permission" in line and str(tmp_path / "out") in line
    line = refusal(capsys, "--load_dir", finished, "--out_dir", tmp_path / "export", command="export")
    assert "permission" in line


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_where_a_folder_should_be(below, finished, maps, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"x")
    target = f"{tmp_path / 'file'}{below}"
    assert "file" in refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", target, "--max_iter", 3)
    assert "file" in refusal(capsys, "--load_dir", finished, "--out_dir", target, command="export")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_name_that_is_too_long(maps, tmp_path, capsys):
    assert "too long" in refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path / ("x" * 300))


def test_read_only_errors_with_a_line_break_in_the_path(maps, tmp_path, monkeypatch, capsys):
    def denied(path, *args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", denied)
    refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path / "two\nlines")


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_that_diverges(value, maps, tmp_path, monkeypatch, capsys):
    def make_step(step):
        def diverging(self, n):
            loss = step(self, n)
            return value if self.iteration > 30 else loss

        return diverging

    patch_step(monkeypatch, make_step)
    line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path, "--max_iter", 60, "--save_interval", 20)
    assert "diverged" in line and "--learning_rate" in line
    assert list(list_checkpoints(newest_run(tmp_path))) == [20]
    assert leftovers(tmp_path) == []


# --- how errors are told -------------------------------------------------------------------------------------------


def raising(error):
    def command():
        raise error

    return command


def test_run_command(capsys):
    assert run_command(lambda: 7) == 7
    assert run_command(raising(UserError("what: where"))) == 2
    assert capsys.readouterr().err == "error: what: where\n"
    assert run_command(raising(KeyboardInterrupt())) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        run_command(raising(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        run_command(raising(FileNotFoundError(errno.ENOENT, "x", "y")))


def test_run_command_prints_one_line(capsys):
    assert run_command(raising(UserError("a folder named two\nlines: not there"))) == 2
    refusal_line(2, capsys.readouterr().err)


EXPLAINED = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG]


@pytest.mark.parametrize("number", EXPLAINED)
def test_explained_errors_name_the_file_and_a_way_out(number):
    text = explain_os_error(OSError(number, "x", "some/file"))
    assert text.startswith("some/file: ") and (";" in text)
    assert explain_os_error(OSError(number, "x")) is not None
    assert explain_os_error(OSError(errno.EBADF, "x")) is None


def test_a_header_that_promises_too_much(run, capsys):
    """A DDS that claims 16384 x 16384 with the manifest's blessing: sizes are compared before memory is taken."""
    folder = checkpoint_of(run, 20)
    content = bytearray((folder / "hash_grid_0.dds").read_bytes())
    struct.pack_into("<2I", content, 12, 16384, 16384)
    (folder / "hash_grid_0.dds").write_bytes(content)
    digest = files.sha256_of(folder / "hash_grid_0.dds")
    edit_manifest(lambda m: m["files"]["hash_grid_0.dds"].update(sha256=digest))(folder)
    assert "hash_grid_0.dds" in refusal(capsys, "--mode", "infer", "--load_dir", run)


def test_a_folder_of_folders(tmp_path, capsys):
    (tmp_path / "library" / "oak").mkdir(parents=True)
    flags = ["--data_dir", str(tmp_path / "library")]
    line = refusal_line(run_command(lambda: train.main(flags)), capsys.readouterr().err)
    assert "found only folders: oak" in line and "--groups_batching" in line
    (tmp_path / "library" / "oak").rmdir()
    line = refusal_line(run_command(lambda: train.main(flags)), capsys.readouterr().err)
    assert "an empty folder" in line and "rename" not in line


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which no folders can be made")
def test_where_no_folder_can_be_made(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 16, 16)
    flags = ["--data_dir", str(maps), "--save_dir", "/proc/x", "--max_iter", "1"]
    assert "permission denied" in refusal_line(run_command(lambda: train.main(flags)), capsys.readouterr().err)
