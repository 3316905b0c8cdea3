"""A damaged or malicious model.pth, damaged exported files: one line, exit code 2, and no file is changed."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest
import torch

import train
from common import files
from common.errors import UserError
from tests.support.finished_runs import (
    finished,  # noqa: F401  # fixture
    maps,  # noqa: F401  # fixture
    run,  # noqa: F401  # fixture
)
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    payload,
    refusal,
    tree,
)
from training.checkpoint import load_checkpoint

# ruff: noqa: F811  # fixtures are imported

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
    "grids of blocks": with_config(hash_grid_configs=[{"storage": "bc1"}, {"storage": "bc1"}]),
    "unknown storage": with_config(hash_grid_configs=[{"storage": "bc9"}, {}]),
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


def test_a_header_that_promises_too_much(run, capsys):
    """A DDS that claims 16384 x 16384 with the manifest's blessing: sizes are compared before memory is taken."""
    folder = checkpoint_of(run, 20)
    content = bytearray((folder / "hash_grid_0.dds").read_bytes())
    struct.pack_into("<2I", content, 12, 16384, 16384)
    (folder / "hash_grid_0.dds").write_bytes(content)
    digest = files.sha256_of(folder / "hash_grid_0.dds")
    edit_manifest(lambda m: m["files"]["hash_grid_0.dds"].update(sha256=digest))(folder)
    assert "hash_grid_0.dds" in refusal(capsys, "--mode", "infer", "--load_dir", run)
