"""Machines that lack something: a home, streams, a terminal, memory, room on a disk. Real ones, not stand-ins."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.disks import mounted
from tests.support.finished_runs import maps  # noqa: F401  # fixture
from tests.support.paths import ROOT
from tests.support.runs import OFFLINE, QUICK, leftovers, newest_run, process, refusal_line, save_maps
from training.checkpoint import load_checkpoint

# ruff: noqa: F811  # fixtures are imported

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="signals, mounts and descriptors as Linux has them"),
    pytest.mark.timeout(300),  # processes that import PyTorch, several a test, and one compiles kernels twice
]
SHORT = (*QUICK, "--eval_metrics", "psnr", "--engine", "torch", "--num_threads", "1")
LONG = (*SHORT, "--max_iter", "100000", "--save_interval", "100000", "--early_stop", "False")
TIMEOUT_S = 400  # a first start may have to compile the kernels, on a busy machine


def command(maps, out, *flags, settings=SHORT) -> list[str]:
    words = [ROOT / "train.py", *settings, "--data_dir", maps, "--save_dir", out, *flags]
    return [sys.executable, *map(str, words)]


def shell(line: str, *words, **options) -> subprocess.CompletedProcess:
    """A line of sh, whose "$@" are the words."""
    options = {"capture_output": True, "text": True, "timeout": TIMEOUT_S, "env": {**os.environ, **OFFLINE}, **options}
    return subprocess.run(["sh", "-c", line, "sh", *map(str, words)], **options)


def wait_for_training(out: Path, run: subprocess.Popen) -> Path:
    """Wait until the loop has begun: its TensorBoard file has more than its header."""
    end = time.monotonic() + TIMEOUT_S
    while run.poll() is None and time.monotonic() < end:
        if any(path.stat().st_size > 100 for path in out.glob("tensorboard/*/*")):
            time.sleep(0.3)
            return newest_run(out)
        time.sleep(0.05)
    raise AssertionError(f"training did not begin: {run.poll()}")


def saved_iteration(run: Path) -> int:
    assert leftovers(run) == []
    return load_checkpoint(run).iteration


# --- a user without a home -------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _hangup_ends_processes():
    """As from a terminal: under nohup the tests, and so the processes that they start, would ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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
    done = nobody(*command(maps, out, settings=flags), TMPDIR=str(public))
    assert done.returncode == 0, done.stderr
    run = newest_run(out)
    for words in (["--describe", run], ["--load_dir", run, "--out_dir", public / "export", "--images"]):
        done = nobody(sys.executable, ROOT / "export.py", *words)
        assert done.returncode == 0, done.stderr
    done = nobody(*command(maps, out, "--eval_metrics", "lpips", "--max_iter", "5", settings=SHORT))
    assert done.returncode == 0 and "TORCH_HOME" in done.stdout, done.stdout + done.stderr
    assert not list(public.rglob("~")), "a folder named like the home that there is none of"


# --- streams that are missing, lost or full --------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed, maps, tmp_path):
    out, seen = tmp_path / "out", tmp_path / "seen"
    done = shell(f'"$@" {closed}', *command(maps, out, "--max_iter", 20))
    assert done.returncode == 0, done.stderr
    run = newest_run(out)
    assert saved_iteration(run) == 20
    words = [sys.executable, ROOT / "export.py", "--load_dir", run, "--viewer", seen]
    assert shell(f'"$@" {closed}', *words).returncode == 0
    for flags in (["--max_iter", 30], ["--mode", "infer", "--eval_metrics", "psnr"]):
        words = [sys.executable, ROOT / "train.py", "--load_dir", run, *flags]
        assert shell(f'"$@" {closed}', *words).returncode == 0


@pytest.mark.parametrize("module", ["common.before_torch", "common.errors; common.errors.run_command(lambda: 0)"])
def test_no_file_gets_the_number_of_a_closed_stream(module, tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}; import os\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "assert file.fileno() > 2; os.write(1, b'stray'); os.write(2, b'stray'); print('stray', file=sys.stderr)"
    )
    done = shell('"$@" >&- 2>&-', sys.executable, "-c", program)
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
    done = shell('"$@" > /dev/full', sys.executable, ROOT / "export.py", "--describe", run)
    line = refusal_line(done.returncode, done.stderr)
    assert "the output" in line and "--" not in line
    done = shell('"$@" > /dev/full 2>&1', *command(tmp_path / "none", tmp_path))
    assert done.returncode == 2, "what the run earned"


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_closes(ignored, maps, tmp_path):
    """Without nohup SIGHUP ends the run with a checkpoint; with it, prints fail with EIO and the run goes on."""
    words = command(maps, tmp_path, settings=LONG)
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


# --- disks -----------------------------------------------------------------------------------------------------------

SIZES_KB = (4, 8, 12, 16, 24, 32, 48, 64, 80, 100, 120, 150, 200, 260, 340, 450, 600, 900, 1400, 2048)


@pytest.mark.parametrize("part", range(4))
def test_a_disk_that_fills_up_at_any_size(part, maps, tmp_path):
    """4 kB to 2 MB: the folder, the log, a texture, the inside of model.pth, ... do not fit any more."""
    for size in SIZES_KB[part::4]:
        disk = tmp_path / f"disk{size}"
        mounted(disk, f"size={size}k")
        try:
            flags = ["--data_dir", maps, "--save_dir", disk / "out", "--max_iter", 6, "--save_interval", 2]
            result = process(*SHORT[:2], *SHORT[6:], *flags)
            if result.returncode:
                line = refusal_line(result.returncode, result.stderr)
                assert "full" in line and str(disk) in line, f"{size} kB: {line}"
            assert leftovers(disk) == [], f"{size} kB"
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_cache_that_cannot_run_code(maps, tmp_path):
    cache = tmp_path / "cache"
    mounted(cache, "size=40m,noexec")
    (tmp_path / "tmp").mkdir()
    places = {"NTC_CACHE": str(cache), "TMPDIR": str(tmp_path / "tmp"), "XDG_CACHE_HOME": ""}
    try:
        flags = [*QUICK, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 5, "--eval_metrics", "psnr"]
        done = process(*flags, "--engine", "cpu", environment=places, timeout=400)
        if "no C++ compiler" in done.stderr:
            pytest.skip("no C++ compiler")
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "tmp").rglob("kernels.so"))
    finally:
        subprocess.run(["umount", "-l", str(cache)], check=False)


# --- memory ----------------------------------------------------------------------------------------------------------

LIMITED = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
import torch
import numpy
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
import train, export
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("engine", ["torch", "cpu"])
def test_memory_that_does_not_suffice(engine, maps, tmp_path):
    flags = ["--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 3, "--engine", engine]
    words = [ROOT / "train.py", *flags, "--eval_metrics", "psnr", "--batch_size", 4_000_000, "--num_threads", 2]
    done = subprocess.run([sys.executable, "-c", LIMITED, *map(str, words)], capture_output=True, text=True,
                          timeout=TIMEOUT_S)  # fmt: skip
    line = refusal_line(done.returncode, done.stderr)
    assert "out of memory" in line and "--batch_size" in line


@pytest.mark.parametrize("script, flag", [
    ("lightmap/train.py", "--batch_size"), ("deferred/train.py", "--batch,"), ("deferred/train_texture.py", "--batch,"),
    ("neuropbr/train.py", "--batch-size"), ("neuropbr/student/train.py", "--batch-size"),
])  # fmt: skip
def test_companions_name_their_own_flag(script, flag):
    """In the script's own call of run_command, with a command that asks PyTorch for what no machine has."""
    program = (
        "import runpy, sys, torch, common.errors as errors\n"
        "run = errors.run_command\n"
        "def instead(command, **options): return run(lambda: torch.empty(1 << 50).fill_(0) and 0, **options)\n"
        "errors.run_command = instead\n"
        f"sys.argv = [{script!r}]\n"
        f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT)
    line = refusal_line(done.returncode, done.stderr)
    assert "out of memory" in line and flag in line


# --- runs, flags and files -------------------------------------------------------------------------------------------


def test_two_resumes_of_one_run_at_once(maps, tmp_path):
    assert shell('"$@"', *command(maps, tmp_path, "--max_iter", 20)).returncode == 0
    folder = newest_run(tmp_path)
    flags = ["--load_dir", str(folder), "--max_iter", "100000", "--early_stop", "False"]
    words = [sys.executable, str(ROOT / "train.py"), *flags]
    size = sum(path.stat().st_size for path in tmp_path.glob("tensorboard/*/*"))
    first = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + TIMEOUT_S
        while sum(path.stat().st_size for path in tmp_path.glob("tensorboard/*/*")) < size + 1000:
            assert first.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        second = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
        line = refusal_line(second.returncode, second.stderr)
        assert str(folder) in line and "another process" in line
        first.send_signal(signal.SIGTERM)
        assert first.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    finally:
        first.kill()
        first.communicate()
    assert saved_iteration(folder) > 20
    assert process("--load_dir", folder, "--max_iter", saved_iteration(folder) + 5).returncode == 0


def test_python_in_safe_path_mode(maps, tmp_path):
    if sys.version_info < (3, 11):
        pytest.skip("Python has it since 3.11")
    safe = {"PYTHONSAFEPATH": "1"}
    flags = [*SHORT, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 5]
    assert process(*flags, environment=safe, cwd=tmp_path).returncode == 0
    done = process("--describe", newest_run(tmp_path / "out"), script="export.py", environment=safe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.copytree(maps, tmp_path / "in" / "one")
    flags = ["--groups_batching", "--groups_batch_dir", tmp_path / "in", "--groups_save_dir", tmp_path / "batch"]
    assert process(*SHORT, "--max_iter", 5, *flags, environment=safe, cwd=tmp_path).returncode == 0
    for script in ("lightmap/train.py", "deferred/render.py", "neuropbr/train.py", "neuropbr/student/train.py"):
        done = process("--help", script=script, environment={**safe, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_home_behind_an_equals_sign(maps, tmp_path):
    shutil.copytree(maps, tmp_path / "x")
    home = {"HOME": str(tmp_path)}
    done = process(*SHORT, "--data_dir=~/x", "--save_dir=~/out", "--max_iter", 5, environment=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = newest_run(tmp_path / "out")
    done = process("--describe=~/out/" + run.name, script="export.py", environment=home)
    assert done.returncode == 0 and not (tmp_path / "~").exists()


@pytest.mark.parametrize("rate", [10, 0.01])
def test_a_training_that_fails_says_so(rate, maps, tmp_path):
    done = process(*SHORT, "--data_dir", maps, "--save_dir", tmp_path, "--max_iter", 200, "--learning_rate", rate)
    assert done.returncode == 0
    warned = [line for line in done.stdout.splitlines() if line.startswith("warning: little was learned")]
    assert len(warned) == (rate == 10)
    if warned:
        assert "--learning_rate, now 10," in warned[0] and "mean colour" in warned[0]


def test_the_configuration_that_a_run_wrote_is_accepted(maps, tmp_path):
    for flags in ([], ["--bpp", 12], ["--preset", "preview"]):
        out = tmp_path / "out"
        done = process(*SHORT[2:], *flags, "--data_dir", maps, "--save_dir", out, "--max_iter", 5)
        if done.returncode and "--bpp" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        config = newest_run(out) / "config.json"
        done = process("--config", config, "--save_dir", tmp_path / "again")
        assert done.returncode == 0, done.stderr
        again = json.loads((newest_run(tmp_path / "again") / "config.json").read_text())
        assert again["resolved_grids"] == json.loads(config.read_text())["resolved_grids"]
