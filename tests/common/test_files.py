"""files.py: whole or not there, readable by others, strict JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from common import files
from common.files import atomic_write, sha256_of, staged_folder, write_bytes, write_json, write_text


def test_writes_what_it_is_given(tmp_path):
    write_bytes(tmp_path / "a", b"\x00\xff")
    write_bytes(tmp_path / "a", b"")
    assert (tmp_path / "a").read_bytes() == b""
    write_text(str(tmp_path / "b é"), "größe\n")
    assert (tmp_path / "b é").read_bytes() == "größe\n".encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b é"]


def test_nothing_is_visible_before_the_block_ends(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_write(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
        assert all(other.name.startswith(".") for other in tmp_path.iterdir() if other != path)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")], ids=repr)
@pytest.mark.parametrize("old", [b"old", None], ids=str)
def test_an_error_in_the_block_leaves_the_old_content(tmp_path, error, old):
    path = tmp_path / "a"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(type(error)), atomic_write(path) as stream:
        stream.write(b"half of the n")
        raise error
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if old is None else {"a": old})


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failing_system_call_leaves_the_old_content(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*args, **options):
        raise OSError(number, os.strerror(number), *[str(a) for a in args if isinstance(a, str)][:1])

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(OSError) as caught:
        write_bytes(path, b"new")
    assert caught.value.errno == number
    assert caught.value.filename == str(path), "the file that the user knows, not the temporary one"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


def test_the_name_of_a_missing_folder_is_in_the_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_bytes(tmp_path / "none" / "a", b"new")
    assert "none" in str(caught.value)


def test_written_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(files.os, name, lambda *a, n=name, f=original: (calls.append(n), f(*a))[1])
    write_bytes(tmp_path / "a", b"new")
    assert calls[:2] == ["fsync", "replace"]


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_stage_leaves_no_folder_of_its_own(tmp_path, there):
    folder = tmp_path / "a" / "b"
    if there:
        folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), staged_folder(folder) as stage:
        (stage / "x").write_bytes(b"x")
        raise KeyboardInterrupt
    assert folder.exists() == there
    with staged_folder(folder) as stage:
        (stage / "x").write_bytes(b"x")
    assert (folder / "x").read_bytes() == b"x"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_mode_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "a", b"")
        assert os.umask(mask) == mask, "the umask is as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, {"a": math.nan}], {1, 2}, object], ids=repr)
def test_json_is_strict(tmp_path, value):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", value)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.json": "{}"}


def test_json_round_trip(tmp_path):
    value = {"größe": [1, 2.5, None, True, "\n'\"", 0.1 + 0.2], "": {}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "größe" in text and text.endswith("\n") and text.count("\n") > 5, "for a reader"


def test_sha256(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_threads_that_write_leave_the_umask_alone(tmp_path):
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: write_bytes(tmp_path / str(i), b"x"), range(400)))
        assert os.umask(0o027) == 0o027
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(before)
