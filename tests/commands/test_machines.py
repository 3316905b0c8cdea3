"""Too little memory, Python in its safe-path mode, and two processes at one run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support.finished_runs import maps  # noqa: F401  # fixture
from tests.support.forked import python
from tests.support.machines import MARKS, SHORT, TIMEOUT_S, command, saved_iteration, shell
from tests.support.paths import ROOT
from tests.support.runs import newest_run, process, refusal_line

# ruff: noqa: F811  # fixtures are imported

pytestmark = MARKS


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
    done = subprocess.run([*python(), "-c", LIMITED, *map(str, words)], capture_output=True, text=True,
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
    done = subprocess.run([*python("torchvision", "torchmetrics"), "-c", program], capture_output=True, text=True,
                          timeout=TIMEOUT_S, cwd=ROOT)  # fmt: skip
    line = refusal_line(done.returncode, done.stderr)
    assert "out of memory" in line and flag in line


def test_python_in_safe_path_mode(maps, tmp_path):
    if sys.version_info < (3, 11):
        pytest.skip("Python has it since 3.11")
    safe = {"PYTHONSAFEPATH": "1"}
    flags = [*SHORT, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 5]
    assert process(*flags, environment=safe, own=True, cwd=tmp_path).returncode == 0
    words = ["--describe", newest_run(tmp_path / "out")]
    done = process(*words, script="export.py", environment=safe, own=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.copytree(maps, tmp_path / "in" / "one")
    flags = ["--groups_batching", "--groups_batch_dir", tmp_path / "in", "--groups_save_dir", tmp_path / "batch"]
    assert process(*SHORT, "--max_iter", 5, *flags, environment=safe, own=True, cwd=tmp_path).returncode == 0
    for script in ("lightmap/train.py", "deferred/render.py", "neuropbr/train.py", "neuropbr/student/train.py"):
        done = process("--help", script=script, environment={**safe, "PYTHONPATH": str(tmp_path)}, own=True,
                       cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_two_resumes_of_one_run_at_once(maps, tmp_path):
    assert shell('"$@"', *command(maps, tmp_path, "--max_iter", 20)).returncode == 0
    folder = newest_run(tmp_path)
    flags = ["--load_dir", str(folder), "--max_iter", "100000", "--early_stop", "False"]
    words = [*python(), str(ROOT / "train.py"), *flags]
    size = sum(path.stat().st_size for path in tmp_path.glob("tensorboard/*/*"))
    first = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + TIMEOUT_S
        while sum(path.stat().st_size for path in tmp_path.glob("tensorboard/*/*")) < size + 1000:
            assert first.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        words[-3] = "40"  # without a lock it would soon be done
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
