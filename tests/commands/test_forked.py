"""The tests' forked processes are what they stand for: streams, environment, exit codes, signals, nothing imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.forked import python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
SHOWING = """
import os, sys, tempfile
print(__name__, sys.argv[1:], os.getcwd(), sys.path[0], tempfile.gettempdir(), "common.errors" in sys.modules)
sys.exit(3)
"""
WAITING = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def test_words_streams_and_environment(tmp_path):
    (tmp_path / "own.py").write_text(SHOWING)
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    given = {"capture_output": True, "text": True, "cwd": tmp_path / "tmp", "env": environment}
    done = subprocess.run([*python(), tmp_path / "own.py", "a", "-m"], **given)
    said = f"__main__ ['a', '-m'] {tmp_path / 'tmp'} {tmp_path} {tmp_path / 'tmp'} False\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")
    done = subprocess.run([*python(), "-"], input="1 / 0", **given)
    assert done.returncode == 1 and done.stderr.endswith("ZeroDivisionError: division by zero\n") and done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_child(number):
    with subprocess.Popen([*python(), "-c", WAITING], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(30) == -number and process.stdout.read() == ""  # the child has closed it
    with pytest.raises(ProcessLookupError):
        for _ in range(3000):  # until its parent has waited for it
            os.kill(child, 0)
            time.sleep(0.01)
