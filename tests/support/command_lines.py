"""Parses command lines with the parsers of the programs that they start, and stops each program there.

`python -m tests.support.command_lines` reads a JSON list of {"folder", "program", "lines"} from stdin and writes, for
each, {"errors": one text or null per line, "flags": [...]}. A program is ["train.py"] or ["-m", "bench.rate"]. It runs
in a fork of this process, and parses before it imports PyTorch (test_startup.py), so that a program costs a moment.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from common.errors import UserError
from tests.support.paths import ROOT


def check_lines(programs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the programs' parsers answer, from a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__], cwd=ROOT, input=json.dumps(programs), capture_output=True,
                          text=True, timeout=600, check=True)  # fmt: skip
    return json.loads(done.stdout)


class _Stopped(BaseException):
    """The program has reached its parser."""


def _answer(folder: str, program: list[str], lines: list[list[str]]) -> dict[str, Any]:
    """In the fork: run the program up to its parser, and give that every line in turn."""
    answer: dict[str, Any] = {"errors": ["the program did not parse anything"] * len(lines), "flags": []}
    parse = argparse.ArgumentParser.parse_args

    def parse_lines(parser, args=None, namespace=None):
        answer["flags"] = [flag for action in parser._actions for flag in action.option_strings]
        for number, line in enumerate(lines):
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                try:
                    parse(parser, line)
                except SystemExit:  # of --help too
                    pass
                except UserError as error:
                    said.write(str(error))
            answer["errors"][number] = said.getvalue().splitlines()[-1] if said.getvalue() else None
        raise _Stopped

    argparse.ArgumentParser.parse_args = parse_lines
    os.chdir(folder)
    sys.argv = [program[-1]]
    try:
        if program[0] == "-m":
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(program[0]).resolve().parent)
            runpy.run_path(program[0], run_name="__main__")
    except _Stopped:
        pass
    except BaseException:
        answer["errors"] = [traceback.format_exc()] * len(lines)
    return answer


def _in_a_fork(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile("r") as file:
        child = os.fork()
        if child == 0:
            try:
                answer = _answer(**request)
                Path(file.name).write_text(json.dumps(answer))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        text = file.read()
    return json.loads(text) if text else {"errors": ["the process died"] * len(request["lines"]), "flags": []}


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    json.dump([_in_a_fork(request) for request in json.load(sys.stdin)], out)
