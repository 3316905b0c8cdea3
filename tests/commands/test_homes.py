"""Users without a home, homes behind `~`, and places for compiled kernels that cannot run code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.disks import mounted
from tests.support.finished_runs import maps  # noqa: F401  # fixture
from tests.support.machines import MARKS, SHORT, TIMEOUT_S, command
from tests.support.paths import ROOT
from tests.support.runs import OFFLINE, QUICK, newest_run, process, save_maps

# ruff: noqa: F811  # fixtures are imported

pytestmark = MARKS


@pytest.fixture
def public():
    """A folder that every user may write to; other sessions of pytest close those of tmp_path to others again."""
    with tempfile.TemporaryDirectory(prefix="public.") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def nobody(public):
    """nobody(*words): a process of a user without an entry in passwd, a home or an environment."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.getuid() != 0:
        pytest.skip("needs setpriv, and to be root")
    private = [setpriv, "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    given = {"PATH": os.environ["PATH"], **OFFLINE}

    def run(*words, **variables) -> subprocess.CompletedProcess:
        options = {"capture_output": True, "text": True, "timeout": TIMEOUT_S, "cwd": public}
        return subprocess.run([*private, *map(str, words)], env={**given, **variables}, **options)

    if run(sys.executable, "-c", f"open({str(ROOT / 'train.py')!r})").returncode:
        pytest.skip("another user can start neither this Python nor these files")
    return run


def test_a_user_without_a_home_trains_exports_and_looks(nobody, public):
    maps, out = save_maps(public / "maps"), public / "out"
    flags = [*QUICK, "--max_iter", "20"]  # the engine is chosen: its cache needs a place
    done = nobody(*command(maps, out, settings=flags, own=True), TMPDIR=str(public))
    assert done.returncode == 0, done.stderr
    run = newest_run(out)
    for words in (["--describe", run], ["--load_dir", run, "--out_dir", public / "export", "--images"]):
        done = nobody(sys.executable, ROOT / "export.py", *words, TMPDIR=str(public))
        assert done.returncode == 0, done.stderr
    done = nobody(*command(maps, out, "--eval_metrics", "lpips", "--max_iter", "5", own=True))
    assert done.returncode == 0 and "TORCH_HOME" in done.stdout, done.stdout + done.stderr
    assert not list(public.rglob("~")), "a folder named like the home that there is none of"


def test_a_home_behind_an_equals_sign(maps, tmp_path):
    shutil.copytree(maps, tmp_path / "x")
    home = {"HOME": str(tmp_path)}
    done = process(*SHORT, "--data_dir=~/x", "--save_dir=~/out", "--max_iter", 5, environment=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = newest_run(tmp_path / "out")
    done = process("--describe=~/out/" + run.name, script="export.py", environment=home)
    assert done.returncode == 0 and not (tmp_path / "~").exists()


def test_a_cache_that_cannot_run_code(maps, tmp_path):
    cache = tmp_path / "cache"
    mounted(cache, "size=40m,noexec")
    (tmp_path / "tmp").mkdir()
    places = {"NTC_CACHE": str(cache), "TMPDIR": str(tmp_path / "tmp"), "XDG_CACHE_HOME": "", "NTC_CXXFLAGS": "-O0"}
    try:
        flags = [*QUICK, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 5, "--eval_metrics", "psnr"]
        done = process(*flags, "--engine", "cpu", environment=places, timeout=400)
        if "no C++ compiler" in done.stderr:
            pytest.skip("no C++ compiler")
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "tmp").rglob("kernels.so"))
    finally:
        subprocess.run(["umount", "-l", str(cache)], check=False)
