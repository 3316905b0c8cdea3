"""Streams that are missing, lost or full, terminals that close, and signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support.finished_runs import maps  # noqa: F401  # fixture
from tests.support.forked import python
from tests.support.machines import LONG, MARKS, SHORT, TIMEOUT_S, command, saved_iteration, shell, wait_for_training
from tests.support.paths import ROOT
from tests.support.runs import newest_run, refusal_line

# ruff: noqa: F811  # fixtures are imported

pytestmark = MARKS


@pytest.fixture(autouse=True)
def _hangup_ends_processes():
    """As from a terminal: under nohup the tests, and so the processes that they start, would ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed, maps, tmp_path):
    out, seen = tmp_path / "out", tmp_path / "seen"
    done = shell(f'"$@" {closed}', *command(maps, out, "--max_iter", 20, own=True))
    assert done.returncode == 0, done.stderr
    run = newest_run(out)
    assert saved_iteration(run) == 20
    words = [sys.executable, ROOT / "export.py", "--load_dir", run, "--viewer", seen]
    assert shell(f'"$@" {closed}', *words).returncode == 0
    for flags in (["--max_iter", 30], ["--mode", "infer", "--eval_metrics", "psnr"]):
        words = [sys.executable, ROOT / "train.py", "--load_dir", run, *flags]
        assert shell(f'"$@" {closed}', *words).returncode == 0


@pytest.mark.parametrize("module", ["common.before_torch", "common.errors; common.errors.run_command(lambda: 0)"])
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed, module, tmp_path):
    """Neither here nor in a process that this one starts, to which closed descriptors would be closed too."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}; import os\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "assert file.fileno() > 2; os.write(1, b'stray'); os.write(2, b'stray'); print('stray', file=sys.stderr)\n"
        "import subprocess; subprocess.run(['sh', '-c', 'echo stray && echo stray >&2'], check=True)"
    )
    done = shell(f'"$@" {closed}', sys.executable, "-c", program)
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_a_batch_without_streams(maps, tmp_path):
    shutil.copytree(maps, tmp_path / "in" / "one")
    flags = ["--groups_batching", "--groups_batch_dir", tmp_path / "in", "--groups_save_dir", tmp_path / "out"]
    words = [sys.executable, ROOT / "train.py", *SHORT, "--max_iter", 20, *flags]
    assert shell('"$@" >&- 2>&-', *words).returncode == 0
    assert json.loads((tmp_path / "out" / "batch.json").read_text())["groups"][0]["status"] == "done"


def test_a_reader_that_goes_away(maps, tmp_path):
    done = shell('("$@"; echo "code $?" >&2) | head -n 1', *command(maps, tmp_path, "--max_iter", 40))
    assert "code 0" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert saved_iteration(newest_run(tmp_path)) == 40


def test_output_on_a_full_device(maps, tmp_path):
    done = shell('"$@" > /dev/full', *command(maps, tmp_path, "--max_iter", 40))
    assert done.returncode == 0 and "output" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    run = newest_run(tmp_path)
    assert saved_iteration(run) == 40
    done = shell('"$@" > /dev/full', *python(), ROOT / "export.py", "--describe", run)
    line = refusal_line(done.returncode, done.stderr)
    assert "the output" in line and "--" not in line
    done = shell('"$@" > /dev/full 2>&1', *command(tmp_path / "none", tmp_path))
    assert done.returncode == 2, "what the run earned"


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_closes(ignored, maps, tmp_path):
    """Without nohup SIGHUP ends the run with a checkpoint; with it, prints fail with EIO and the run goes on."""
    words = command(maps, tmp_path, settings=LONG, own=True)
    master, slave = os.openpty()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        run = subprocess.Popen(["setsid", "--ctty", *words], stdin=slave, stdout=slave, stderr=slave)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.close(slave)
    try:
        folder = wait_for_training(tmp_path, run)
        os.close(master)  # the kernel sends SIGHUP to the session of the terminal
        if ignored:
            time.sleep(2)
            assert run.poll() is None, "it goes on"
            run.send_signal(signal.SIGTERM)
        assert run.wait(TIMEOUT_S) == 128 + (signal.SIGTERM if ignored else signal.SIGHUP)
    finally:
        run.kill()
        run.wait()
    assert saved_iteration(folder) > 0


@pytest.mark.parametrize("twice", [False, True])
def test_hangup_and_a_signal_that_comes_twice(twice, maps, tmp_path):
    """GNU timeout sends SIGTERM to its command and then to the command's group."""
    number = signal.SIGTERM if twice else signal.SIGHUP
    words = command(maps, tmp_path, settings=LONG)
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        folder = wait_for_training(tmp_path, run)
        for _ in range(1 + twice):
            run.send_signal(number)
            time.sleep(0.001)
        said, errors = run.communicate(timeout=TIMEOUT_S)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 128 + number and errors == ""
    assert f"stopped by {number.name} at iteration {saved_iteration(folder)}" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_process_group_of_a_batch(number, maps, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(maps, tmp_path / "in" / name)
    out = tmp_path / "out"
    flags = ["--groups_batching", "--groups_batch_dir", tmp_path / "in", "--groups_save_dir", out]
    words = [sys.executable, ROOT / "train.py", *LONG, *flags, "--groups_max_workers", 2]
    run = subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           start_new_session=True)  # fmt: skip
    try:
        for name in ("one", "two"):
            wait_for_training(out / name, run)
        os.killpg(run.pid, number)
        said, errors = run.communicate(timeout=TIMEOUT_S)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 128 + number, said + errors
    assert "failed" not in said and len(re.findall(r"interrupted at iteration \d+; saved", said)) == 2, said + errors
