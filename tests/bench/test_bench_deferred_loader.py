"""The benchmark of deferred/'s reader, on a few small frames."""

from __future__ import annotations

import json

from bench import deferred_loader
from deferred.dataset.frames import FrameSet


def test_frames_are_those_of_a_data_folder(tmp_path):
    deferred_loader.make_frames(tmp_path, 10, 40, "uint16")
    frames = FrameSet(tmp_path, range(10))
    assert set(frames.sizes.values()) == {(40, 40)} and 0.5 < frames.load(9).mask.mean() < 0.7
    assert (frames.load(9).image == frames.load(9 - deferred_loader.DIFFERENT).image).all()


def test_every_row_is_measured(tmp_path, capsys, refused):
    small = ["--frames", "10", "--size", "48", "--crop", "24", "--batch", "4", "--epochs", "2", "--step", "0.001"]
    assert deferred_loader.main([*small, "--num_workers", "3", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "wait ms" in said and "CPU ms" in said
    found = json.loads((tmp_path / "deferred_loader.json").read_text())
    assert found["settings"]["frames"] == 10 and "processor" in found["machine"] and len(found["entries"]) == 8
    for entry in found["entries"]:
        assert entry["steps"] == 6 and entry["step"] >= entry["wait"] + 0.001
        assert entry["longest"] >= max(entry["wait"], entry["median"]) > 0
        assert (entry["cached_bytes"] > 0) == (entry["cached"] == "all")
    disk = {entry["uv_type"]: entry["disk"] for entry in found["entries"]}
    assert 1.8 < disk["float32"] / disk["uint16"] <= 2
    with refused("--batch"):
        deferred_loader.main([*small, "--batch", "0"])
