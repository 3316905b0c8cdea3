"""train.py and export.py as commands: importable without side effects, flags that need another one, grouped help."""

from __future__ import annotations

import json
import re

import pytest

import export
import train
from common.errors import run_command
from tests.support.finished_runs import maps  # noqa: F401  # fixture
from tests.support.machines import SHORT
from tests.support.runs import newest_run, process, refusal, save_maps

# ruff: noqa: F811  # fixtures are imported

IMPORT = """
import os, sys, threading
before = set(os.listdir()), os.getcwd(), threading.active_count(), list(sys.argv)
import train, export
assert before == (set(os.listdir()), os.getcwd(), threading.active_count(), list(sys.argv))
assert callable(train.main) and callable(export.main)
import torch
assert not torch.cuda.is_initialized()
"""


def test_importing_the_commands_does_nothing_else(tmp_path):
    script = tmp_path / "importing.py"
    script.write_text(IMPORT)
    folder = tmp_path / "empty"
    folder.mkdir()
    path = {"PYTHONPATH": str(train.__file__).rpartition("train")[0]}
    result = process(script=script, cwd=folder, environment=path, own=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("command", [train, export])
def test_help_and_bad_flags_end_with_a_code(command, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0 and "most used:" in capsys.readouterr().out
    assert run_command(lambda: command.main(["--no_such_flag"])) == 2


@pytest.mark.parametrize(
    ("flags", "needed"),
    [(["--transcode_quality", "slow"], "--transcode"), (["--transcode_scalars", "bc4"], "--transcode"),
     (["--weights", "baked"], "--shader"), (["--weight_type", "float16"], "--shader"),
     (["--data_dir", "maps"], "--viewer or --gltf"), (["--viewer_source", "0"], "--viewer"),
     (["--fallback", "png"], "--gltf"), (["--fallback_lod", "0"], "--gltf")],
)  # fmt: skip
def test_a_flag_without_the_one_that_it_refines(flags, needed, folder, tmp_path, capsys):
    line = refusal(capsys, "--load_dir", folder, "--out_dir", tmp_path / "out", "--images", *flags, command="export")
    assert line.startswith(f"error: {flags[0]}: expected {needed} beside it") and not (tmp_path / "out").exists()


def test_help_of_export_is_grouped(capsys):
    with pytest.raises(SystemExit):
        export.main(["--help"])
    first, *others = re.split(r"\n(?=[a-z ,]+:\n)", capsys.readouterr().out)[2:]
    assert re.findall(r"^  --(\w+)", first, re.MULTILINE)[:3] == ["load_dir", "out_dir", "images"]
    assert len(others) >= 4


@pytest.mark.parametrize("rate", [10, 0.01])
def test_a_training_that_fails_says_so(rate, maps, tmp_path):
    done = process(*SHORT, "--data_dir", maps, "--save_dir", tmp_path, "--max_iter", 200, "--learning_rate", rate)
    assert done.returncode == 0
    warned = [line for line in done.stdout.splitlines() if line.startswith("warning: little was learned")]
    assert len(warned) == (rate == 10)
    if warned:
        assert "--learning_rate, now 10," in warned[0] and "mean colour" in warned[0]


@pytest.mark.parametrize("flags", [[], ["--bpp", 12, "--refine", 1], ["--preset", "preview"]], ids=str)
def test_the_configuration_that_a_run_wrote_is_accepted(flags, tmp_path):
    maps = save_maps(tmp_path / "maps", 128, 128, ("diffuse",))  # a rate needs room
    flags = [*SHORT[2:], *flags, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 5]
    assert train.main([str(flag) for flag in flags]) == 0
    config = newest_run(tmp_path / "out") / "config.json"
    assert train.main(["--config", str(config), "--save_dir", str(tmp_path / "again")]) == 0
    again, before = (json.loads(path.read_text()) for path in (newest_run(tmp_path / "again") / "config.json", config))
    assert again == {**before, "save_dir": str(tmp_path / "again")}
