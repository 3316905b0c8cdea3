"""State of a batch: batch.json, batch.csv and batch.html, the lock of the save folder, and threads shared out."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import time
from urllib.parse import unquote

import pytest
from PIL import Image as PillowImage

from common.errors import UserError
from groups import journal as group_journal
from groups import local as group_local
from groups.journal import RECORD, batch_lock, read_batch, read_record
from tests.support.batches import (
    _forked,  # noqa: F401  # autouse
    batch,  # noqa: F401  # fixture
    mended,  # noqa: F401  # fixture
    run_of,
    train_batch,
)
from tests.support.runs import (
    QUICK,
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    patch_step,
    refusal,
    tree,
)

# ruff: noqa: F811  # fixtures are imported


def test_the_files_of_the_batch(batch, tmp_path):
    (batch / "d empty").mkdir()
    shutil.copytree(batch / "a brick", batch / "=<b>\"it's\"&\n")
    assert train_batch(batch) == 1
    out = tmp_path / "out"
    state = read_batch(out)
    assert [(row["name"], row["status"]) for row in state["groups"]] == [
        ("=<b>\"it's\"&\n", "done"), ("a brick", "done"), ("b broken", "failed"), ("c größe", "done"),
        ("d empty", "skipped")]  # fmt: skip
    assert state["ended"] and state["settings"]["max_iter"] == 4 and "save_dir" not in state["settings"]
    metrics = json.loads((run_of(out, "a brick") / "metrics.json").read_text())
    manifest = json.loads((checkpoint_of(run_of(out, "a brick"), 4) / "manifest.json").read_text())
    row = state["groups"][1]
    assert row["psnr"] == metrics["psnr"] and row["bytes"] == manifest["bytes_on_disk"]
    assert row["bpp"] == pytest.approx(manifest["rates"]["bpp"], abs=1e-6) and 0 < row["seconds"] < 60
    assert out / row["run"] == run_of(out, "a brick")
    assert "made_normal.png" in state["groups"][2]["reason"] and state["groups"][2]["psnr"] == {}
    with (out / "batch.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [line["name"] for line in table] == [row["name"] for row in state["groups"]]
    assert float(table[1]["psnr_normal"]) == row["psnr"]["normal"] and table[1]["psnr_metallic"] == ""
    assert table[2]["reason"] == state["groups"][2]["reason"] and int(table[1]["bytes"]) == row["bytes"]


def test_the_page(batch, tmp_path):
    shutil.copytree(batch / "a brick", batch / "=<b>\"it's\"&\n")
    train_batch(batch)
    text = (tmp_path / "out" / "batch.html").read_text(encoding="utf-8")
    assert "<b>" not in text and "=&lt;b&gt;&quot;it&#x27;s&quot;&amp;\\n" in text
    assert text.count("src=\"data:image/jpeg;base64,") == 3 and "refresh" not in text
    assert "http" not in text.replace("http-equiv", ""), "self-contained"
    links = [unquote(link) for link in re.findall('href="([^"]*)/"', text)]
    assert [tmp_path / "out" / link for link in links] == [
        run_of(tmp_path / "out", name) for name in ("=<b>\"it's\"&\n", "a brick", "c größe")]  # fmt: skip
    thumbnail = PillowImage.open(run_of(tmp_path / "out", "a brick") / "media" / "thumbnail.jpg")
    assert thumbnail.size == (3 * 96, 64)


def test_the_state_while_it_works(mended, tmp_path, monkeypatch):
    """Read by another process at any time: whole JSON, with what is running."""
    seen = []

    def make_step(step):
        def stepping(self, n):
            time.sleep(0.1)
            seen.append(read_batch(tmp_path / "out"))
            (tmp_path / f"{self.material.name}.json").write_text(json.dumps(seen[-1]))
            return step(self, n)

        return stepping

    patch_step(monkeypatch, make_step)
    monkeypatch.setattr(group_journal, "SHORTEST_PAUSE_S", 0)
    monkeypatch.setattr(group_journal, "PAUSE_FACTOR", 0)
    assert train_batch(mended) == 0
    state = json.loads((tmp_path / "b broken.json").read_text())
    assert [row["status"] for row in state["groups"]] == ["done", "running"] and state["ended"] is None


def test_a_second_batch_in_the_same_folder_is_refused(mended, tmp_path, capsys):
    train_batch(mended)
    before = tree(tmp_path)
    with batch_lock(tmp_path / "out"):
        line = refusal(capsys, *QUICK, "--groups_batching", "--groups_batch_dir", mended, "--groups_save_dir",
                       tmp_path / "out")  # fmt: skip
    assert "another batch works there" in line and str(os.getpid()) in line
    assert tree(tmp_path) == before


def test_a_stale_lock_is_recognised(mended, tmp_path, capsys):
    train_batch(mended)
    path = tmp_path / "out" / "batch.json"
    path.write_text(path.read_text().replace('"ended": "', '"ended": null, "was": "'))
    assert train_batch(mended) == 0
    first = capsys.readouterr().out.splitlines()[-3]
    assert first.startswith("note: the last batch in") and f"process {os.getpid()} on " in first


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(group_local, "usable_cores", lambda: 8)
    assert group_local.share_threads(1, 0, 50) == (1, 0)
    assert group_local.share_threads(1, 3, 50) == (1, 3)
    assert group_local.share_threads(2, 0, 50) == (2, 4)
    assert group_local.share_threads(0, 0, 50) == (8, 1)
    assert group_local.share_threads(0, 4, 50) == (2, 4)
    assert group_local.share_threads(0, 0, 3) == (3, 2)
    assert group_local.share_threads(100, 0, 50) == (50, 1)


def test_nothing_is_written_where_the_lock_cannot_be(mended, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    before = tree(tmp_path)
    assert "expected a folder" in refusal(capsys, "--groups_batching", "--groups_batch_dir", mended,
                                          "--groups_save_dir", tmp_path / "out")  # fmt: skip
    assert tree(tmp_path) == before


def test_damaged_batch_files_do_no_harm(mended, tmp_path):
    train_batch(mended)
    for text in ("", "[]", "{", '{"format": "neural-texture-batch", "process": 3}', "[" * 100_000):
        (tmp_path / "out" / "batch.json").write_text(text)
        with contextlib.redirect_stdout(None):
            assert train_batch(mended) == 0
    for text in ("", "[]", "{}", '{"version": 1}', "[" * 100_000):
        (tmp_path / "out" / "a brick" / RECORD).write_text(text)
        assert read_record(tmp_path / "out" / "a brick") is None
    with pytest.raises(UserError), batch_lock(tmp_path / "out"), batch_lock(tmp_path / "out"):
        pass
