"""Files made to hurt: what fuzzing (`python -m tests.fuzz`) and reading the readers found, one test for each.

Every refusal is one line that names the file, and costs neither much memory nor much time.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch
import yaml

import train
from common import safe_load
from common.config_file import MAX_BYTES as MAX_CONFIG_BYTES
from common.config_file import load_config_file
from common.files import parse_json
from configs import FIELDS, make_config
from describe.folder import describe_folder
from export import main as export_main
from formats.dds import read_dds
from formats.manifest import MANIFEST
from formats.textures import read_export
from tests.support.exports import edit_manifest, limited_memory, reseal
from tests.support.runs import checkpoint_of, offline, payload, quick, refusal, save_maps
from training import rates
from training.checkpoint import load_checkpoint


@pytest.fixture(autouse=True)
def _in_seconds():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 20


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with a checkpoint at 10."""
    folder = tmp_path_factory.mktemp("run")
    with offline():
        return quick("--data_dir", save_maps(folder / "maps"), "--save_dir", folder / "out", "--max_iter", 10)


@pytest.fixture
def run(finished, tmp_path):
    """A copy to break."""
    return shutil.copytree(finished, tmp_path / finished.name)


# --- configuration files ---------------------------------------------------------------------------------------------

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
)
MERGES = "\n".join(
    ["m0: &m0 {bpp: 1}"] + [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 10)]
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        MERGES,
        LAUGHS + "\nseed: *a9",
        "seed: &a [*a]",
        "seed: &a {b: *a}",
        "max_iter: !!int _",
        "bpp: !!float ''",
        "quantize: !!bool maybe",
        "seed: !!timestamp x",
        "seed: 0x" + "f" * 6000,
        "load_iter: 0x" + "f" * 6000,
        "save_interval: 0x" + "f" * 6000,
        "n_neurons: " + "9" * 5000,
        "[" * 5000,
        "hash_grid_configs: &g [&x {max_resolution: 4}" + ", *x" * 16 + "]",
        "x" * 5000 + ": 1",
        "seed: " + "- " * 3000 + "1",
        "#" * (MAX_CONFIG_BYTES + 1),
    ],
    ids=lambda text: text[:25],
)
def test_configurations_that_are_more_than_they_look(text, tmp_path, refused):
    """Nine levels of nine aliases are 10^9 entries; some tags end PyYAML with an IndexError or a KeyError; a hex
    number of 6000 digits cannot be printed."""
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with limited_memory(200 << 20), refused() as caught:
        make_config(load_config_file(str(path), FIELDS))
    assert any(name in str(caught.value) for name in ("my.yaml", "--", "hash_grid_configs"))


def test_aliases_that_stay_small_are_welcome(tmp_path):
    (tmp_path / "my.yaml").write_text("hash_grid_configs: [&g {max_resolution: 8}, *g]\nseed: 3\n")
    assert len(make_config(load_config_file(str(tmp_path / "my.yaml"), FIELDS)).hash_grid_configs) == 2
    assert yaml.safe_load((tmp_path / "my.yaml").read_text()) == load_config_file(str(tmp_path / "my.yaml"), FIELDS)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
def test_a_configuration_without_an_end(refused):
    with limited_memory(200 << 20), refused("/dev/zero"):
        load_config_file("/dev/zero", FIELDS)


# --- model.pth -------------------------------------------------------------------------------------------------------


def saved(run, state) -> None:
    torch.save(state, checkpoint_of(run, 10) / "model.pth")


def rewrite_pickle(run, change) -> None:
    """The same archive, with checksums that fit, and another data.pkl."""
    path = checkpoint_of(run, 10) / "model.pth"
    stream = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stream, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, change(old.read(entry)) if entry.endswith("data.pkl") else old.read(entry))
    path.write_bytes(stream.getvalue())


def test_a_version_that_is_a_list_of_lists_of_lists(run, refused):
    """Each list holds the last one twenty times: its repr would have 20^30 parts."""
    value = [1]
    for _ in range(30):
        value = [value] * 20
    saved(run, {**payload(checkpoint_of(run, 10)), "version": value})
    with refused("model.pth"):
        load_checkpoint(run)
    saved(run, {**payload(checkpoint_of(run, 10)), "version": 1, "iteration": value})
    with refused("model.pth"):
        load_checkpoint(run)


def test_a_version_that_is_a_tensor(run, refused):
    saved(run, {**payload(checkpoint_of(run, 10)), "version": torch.zeros(3)})
    with refused("model.pth"):
        load_checkpoint(run)


@pytest.mark.parametrize("shared", [False, True], ids=["one number", "one storage"])
def test_tensors_that_are_larger_than_the_file(shared, run, refused):
    """Views of one number, or of each other's: with grids to match, a few bytes would ask for gigabytes."""
    state = payload(checkpoint_of(run, 10))
    grids = [{"max_resolution": 1024, "n_levels": 1, "save_bits": 32, "quantize_bits": 4}] * 8
    flat = torch.zeros(1024 * 1024 * 8) if shared else torch.zeros(1).expand(1024 * 1024 * 8)
    config = {**json.loads(state["config"]), "hash_grid_configs": grids}
    inputs = 2 * config["n_frequencies"] + 8 * 8 + 1
    first = torch.zeros(16, inputs + -inputs % 16)
    saved(
        run,
        {
            **state,
            "config": json.dumps(config),
            "grids": [flat[:]] * 8 if not shared else [flat[:] for _ in range(8)],
            "network": [first, *state["network"][1:]],
        },
    )
    with refused("model.pth", "tensors"):
        load_checkpoint(run)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x70\x85R.",
        b"\x80\x02cbuiltins\nset\n]\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93K\x05\x85R.",
        b"\x80\x02ctorch\nFloatTensor\n.",
        b"\x80\x05N.",
    ],
    ids=repr,
)
def test_objects_that_torch_would_make(pickled, run, refused, capfd):
    """torch.load(weights_only=True) knows bytearray, and would make one of 1.9 GB here."""
    rewrite_pickle(run, lambda _: pickled)
    tracemalloc.start()
    try:
        with refused("model.pth"):
            load_checkpoint(run)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert capfd.readouterr().err == "", "no warning of torch's"


def test_two_lists_of_entries(run, refused):
    """The end of a zip file says where its list of entries begins, counted from the start of the file. Python looks for
    the list in front of that end instead, where another one lies here: it would check parts that torch never reads."""
    path = checkpoint_of(run, 10) / "model.pth"
    good = path.read_bytes()
    for broken in (b"x" * 64 + good, good[:-2] + struct.pack("<H", 5) + b"extra"):
        path.write_bytes(broken)
        with refused("model.pth"):
            load_checkpoint(run)


@pytest.mark.parametrize(
    "part, value",
    [
        ("refined", {}),
        ("engine", torch.zeros(2)),
        ("refined", "x"),
        ("schedule", torch.zeros(2, 2)),
        ("early_stopping", torch.zeros(2)),
        ("stopped", []),
        ("seconds", float("nan")),
        ("schedule", {"plateau_factor": [1], "noise_ended": False}),
    ],
    ids=str,
)
def test_training_states_of_another_kind(part, value, run, refused):
    state = payload(checkpoint_of(run, 10))
    state["training"][part] = value
    saved(run, state)
    with refused("model.pth"):
        load_checkpoint(run)


@pytest.mark.parametrize("text", ["NaN", "[1, Infinity]", "1e999", "[" * 200 + "]" * 200])
def test_metrics_that_could_not_be_written_again(text, run, folder, refused, tmp_path):
    """json.dumps(allow_nan=False) would end an export with a ValueError, deep lists with a RecursionError."""
    saved(run, {**payload(checkpoint_of(run, 10)), "metrics": text})
    with refused("model.pth"):
        load_checkpoint(run)
    content = (folder / MANIFEST).read_text().replace("31.5", text)
    assert text in content
    (folder / MANIFEST).write_text(content)
    with refused(MANIFEST):
        read_export(folder)


def test_parse_json_takes_what_json_is():
    value = {"a": [1, 2.5, None, True, "x", {"b": []}], "c": -1e300}
    assert parse_json(json.dumps(value)) == value
    nested = "[" * 64 + "]" * 64
    assert parse_json(nested) == json.loads(nested)
    for text in ("[" + nested + "]", "", "{", "NaN", "-Infinity", "[1e400]"):
        with pytest.raises(ValueError):
            parse_json(text)


# --- exports ---------------------------------------------------------------------------------------------------------


def test_a_material_without_a_name(folder, refused):
    """It was read, and ended --transcode with a KeyError."""
    for name in (None, 5, ["x"], "removed"):
        edit_manifest(folder, lambda m, name=name: m["material"].update(name=name))
        if name == "removed":
            edit_manifest(folder, lambda m: m["material"].pop("name"))
        with refused(MANIFEST):
            read_export(folder)


def test_a_manifest_without_metrics(folder, tmp_path, capsys):
    """It was read, and ended --dds_layout with a KeyError."""
    edit_manifest(folder, lambda m: m.pop("metrics"))
    flags = ["--load_dir", folder, "--out_dir", tmp_path / "out", "--dds_layout", "filterable"]
    assert MANIFEST in refusal(capsys, *flags, command="export")


def test_a_convention_that_is_none(folder, refused):
    edit_manifest(folder, lambda m: m["material"]["maps"][0].update(convention="??/\n#error"))
    with refused(MANIFEST):
        read_export(folder)


def test_a_cell_of_a_megabyte_in_a_table(folder):
    """Columns are as wide as their longest cell: 500 rows of 200 KB each were to be printed, and more of them would not
    fit into memory."""

    lods = [{"lod": lod, "psnr": {"all": 1.0}} for lod in range(501)]
    edit_manifest(folder, lambda m: m.update(metrics={"psnr": {"x" * 200_000: 1.0}, "lods": lods}))
    with limited_memory(100 << 20):
        lines = describe_folder(folder).lines
    assert max(map(len, lines)) < 2000


@pytest.mark.parametrize("reader", ["export", "describe", "dds"])
def test_files_of_terabytes(reader, folder, refused):
    """Sparse: they take no room on the disk, and would be read or hashed for hours."""
    path = folder / "hash_grid_0.dds"
    size = 4 << 40
    try:
        with path.open("r+b") as stream:
            stream.truncate(size)
    except OSError:
        pytest.skip("no file of that size here")
    edit_manifest(folder, lambda m: m["files"][path.name].update(bytes=size))
    if reader == "describe":
        assert path.name in "".join(describe_folder(folder).problems)
        return
    with refused(path.name), limited_memory(200 << 20):
        read_dds(path) if reader == "dds" else read_export(folder)


def test_a_manifest_of_more_texels_than_are_to_be_decoded(folder, tmp_path, capsys):
    """A few bytes that claim 16384 x 16384 texels would be minutes of work and gigabytes of pictures."""
    edit_manifest(folder, lambda m: m["material"].update(width=16384, height=16384, num_lods=15))
    read_export(folder)
    for flags in (["--images"], ["--transcode", "png,glb"]):
        line = refusal(capsys, "--load_dir", folder, "--out_dir", tmp_path / "out", *flags, command="export")
        assert "--max_pixels" in line and "16384x16384" in line
    line = refusal(
        capsys, "--load_dir", folder, "--out_dir", tmp_path / "out", "--images", "--max_pixels", 0, command="export"
    )
    assert "--max_pixels" in line
    assert not (tmp_path / "out").exists()


def test_the_limit_of_texels_can_be_moved(folder, tmp_path, capsys):
    flags = ["--load_dir", folder, "--out_dir", tmp_path / "out", "--images", "--max_pixels"]
    assert "12x10" in refusal(capsys, *flags, 119, command="export")
    assert export_main([str(flag) for flag in (*flags, 120)]) == 0
    assert len(list((tmp_path / "out" / "images").iterdir())) == 8


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", [MANIFEST, "hash_grid_0.dds", "network_data.npz"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(name, folder, refused):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with refused(name):
        read_export(folder)
    if name.endswith(".dds"):
        with refused(name):
            read_dds(folder / name)
        (folder / MANIFEST).unlink()
        with refused(name):
            describe_folder(folder)


# --- rates.json ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("learned"),
        lambda t: t["learned"].clear(),
        lambda t: t["learned"].reverse(),
        lambda t: t["presets"].pop("fast"),
        lambda t: t["learned"][0].update(cost=0),
        lambda t: t["learned"][0].update(fine=[3, 5]),
        lambda t: t["learned"][0].pop("bpp"),
        lambda t: t["reference"][0].update(n_neurons=17),
        lambda t: t["presets"]["best"].update(iterations=-1),
        lambda t: t["presets"]["best"].update(x=1),
        lambda t: t["learned"].__setitem__(0, None),
        lambda t: t.update(presets=[]),
    ],
)
def test_tables_of_rates_that_make_no_sense(change, tmp_path, refused):
    """Such a table was believed, and ended runs with a KeyError or a ZeroDivisionError."""
    table = json.loads(rates.TABLE.read_text())
    change(table)
    (tmp_path / "rates.json").write_text(json.dumps(table))
    with refused("rates.json"):
        rates.read_table(tmp_path / "rates.json")
    assert rates.read_table(rates.TABLE) == rates.load_table()


def test_reseal_is_still_what_the_reader_wants(folder):
    reseal(folder)
    assert read_export(folder)


def test_the_names_that_checkpoints_use_are_let_through(run):
    """Of both engines: with --engine torch, and with the pending updates of the kernels."""
    assert load_checkpoint(run).iteration == 10
    assert train.main(["--load_dir", str(run), "--max_iter", "13", "--engine", "torch"]) == 0
    assert load_checkpoint(run).iteration == 13
    assert safe_load.PICKLED.fullmatch("torch FloatStorage") and not safe_load.PICKLED.fullmatch("torch FloatTensor")
