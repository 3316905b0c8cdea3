"""Runs that were stopped or killed go on with the same bits, runs that are over can be made longer."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from common.event_file import EventFile
from common.stop import StopRequest
from deferred import checkpoints
from deferred.options import make_options
from deferred.training import make_trainer, train
from tests.support.deferred_views import flags, trained

CPU = torch.device("cpu")


class StopAfter(StopRequest):
    """Asks to stop when it has been looked at so many times."""

    def __init__(self, looks: int):
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path):
    whole = checkpoints.load(trained() / "epoch_2.pt")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"script": "train"}')
    trainer = make_trainer("train", make_options("train", flags(tmp_path)), None, CPU)
    events = EventFile(tmp_path / "events")
    assert not trainer.train(run, events, StopAfter(4), quiet=True)  # in the second epoch
    events.close()
    assert {path.name for path in run.iterdir()} == {"config.json", "interrupted.pt", "best.pt"} and trainer.step == 4
    said = []
    assert train("train", {"resume": "newest", "checkpoint": str(tmp_path)}, said.append, quiet=True) == 0
    assert not (run / "interrupted.pt").exists()
    again = checkpoints.load(run / "epoch_2.pt")
    state = whole.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.model.state_dict().items())
    assert again.training["history"] == whole.training["history"] and again.images == whole.images == 24


def test_a_killed_run_goes_on_from_the_last_epoch_that_was_kept(tmp_path, monkeypatch):
    """kill -9 leaves no time to save: every few minutes an epoch's end is kept besides the checkpoints."""
    from deferred import trainer as module

    class Killed(Exception):
        pass

    def kill(entry):
        if entry["epoch"] == 2:
            raise Killed

    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"script": "train"}')
    whole = make_trainer("train", make_options("train", flags(tmp_path, epoch=3)), None, CPU)
    events = EventFile(tmp_path / "events")
    with pytest.raises(Killed):
        whole.train(run, events, quiet=True, on_epoch=kill)
    events.close()
    assert {path.name for path in run.glob("*.pt")} == {"best.pt", "interrupted.pt"}
    assert train("train", {"resume": str(run)}, lambda _: None, quiet=True) == 0
    assert {path.name for path in run.glob("*.pt")} == {"best.pt", "epoch_3.pt"}
    straight = make_trainer("train", make_options("train", flags(tmp_path, epoch=3)), None, CPU)
    events = EventFile(tmp_path / "events-2")
    (tmp_path / "straight").mkdir()
    assert straight.train(tmp_path / "straight", events, quiet=True)
    events.close()
    state = checkpoints.load(run / "epoch_3.pt").model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in straight.model.state_dict().items())


def test_a_run_that_is_over_can_be_made_longer(tmp_path, refused):
    shutil.copytree(trained(), tmp_path / "run")
    common = {"checkpoint": str(tmp_path), "logdir": str(tmp_path / "tensorboard"), "resume": str(tmp_path / "run")}
    with refused("--lr", "0.02"):
        train("train", {**common, "lr": 0.5}, quiet=True)
    with refused("--resume", "train.py"):
        train("train_texture", common, quiet=True)
    assert train("train", {**common, "epoch": 3}, lambda _: None, quiet=True) == 0
    assert checkpoints.load(tmp_path / "run" / "epoch_3.pt").epoch == 3


def test_checkpoints_are_read_with_care(tmp_path, refused):
    payload = torch.load(trained() / "epoch_2.pt", weights_only=True)
    path = tmp_path / "bad.pt"
    for change in (
        {"version": 2}, {"kind": "other"}, {"script": "rm"}, {"form": "[]"}, {"epoch": -1}, {"config": '{"lr": "x"}'},
        {"form": payload["form"].replace('"texturew": 32', '"texturew": 16384')}, {"model": {}},
        {"form": re.sub(r'"unet_width": \d+', '"unet_width": 100000', payload["form"])},
    ):  # fmt: skip
        torch.save({**payload, **change}, path)
        with refused("bad.pt"):
            checkpoints.load(path)
    path.write_bytes((trained() / "epoch_2.pt").read_bytes()[:5000])
    with refused("bad.pt"):
        checkpoints.load(path)
