"""Starts commands in one process in which importing a heavy package is noted and fails.

`python -m tests.support.startups` reads a JSON list of {"program", "line", "folder"} from stdin and writes, for each,
{"code", "said", "asked"}: its exit code, what it wrote to stdout and stderr, and the heavy packages that it asked for;
`said` ends where it asked for the first one. A program is a file of the repository, "-m bench.rate" one that is started
as a module. Before each the modules of the repository are forgotten; numpy and Pillow stay, which take a while.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HEAVY = frozenset({
    "coremltools", "cv2", "imageio", "imagecodecs", "lpips", "matplotlib", "onnx", "onnxruntime", "optuna", "ray",
    "scipy", "sklearn", "tensorboard", "tensorboardX", "torch", "torchmetrics", "torchtyping", "torchvision", "triton",
    "wgpu",
})  # fmt: skip


def start(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What becomes of the commands, in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__], cwd=ROOT, input=json.dumps(requests), capture_output=True,
                          text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


class _Refusing:
    """A finder that has none of HEAVY."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in HEAVY:
            self.asked.append(name)
            raise _Asked(name)


class _Asked(BaseException):
    """A command has asked for one of HEAVY; no `except ImportError` gets hold of it."""


def _own(module: Any) -> bool:
    file = getattr(module, "__file__", None) or ""
    return file.startswith(str(ROOT) + os.sep) and f"{os.sep}site-packages{os.sep}" not in file


def _run(program: str, line: list[str], folder: str) -> dict[str, Any]:
    for name in [name for name, module in sys.modules.items() if _own(module) and name != "__main__"]:
        del sys.modules[name]
    finder, said, code = _Refusing(), io.StringIO(), 0
    module = program.removeprefix("-m ")
    sys.argv, before, path = [module, *line], list(sys.meta_path), list(sys.path)
    sys.meta_path.insert(0, finder)
    os.chdir(folder)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if module == program:
                sys.path[:] = [str((ROOT / program).parent), *path[1:]]
                runpy.run_path(str(ROOT / program), run_name="__main__")
            else:
                sys.path[:] = [str(ROOT), *path[1:]]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        except _Asked:
            code = None
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            code = traceback.format_exc()
    sys.meta_path[:], sys.path[:] = before, path
    return {"code": code, "said": said.getvalue(), "asked": finder.asked}


if __name__ == "__main__":
    answers = [_run(**request) for request in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)
