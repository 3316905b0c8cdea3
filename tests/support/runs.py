"""What the tests of commands share: material folders, short runs, and a look at what they left behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import export
import train
from common.errors import EXIT_BAD_INPUT, run_command
from engine.cpu.engine import CpuEngine
from engine.torch.engine import TorchEngine
from maps.channels import MAPS
from metrics import perceptual
from tests.support.forked import python
from tests.support.paths import ROOT

QUICK = ("--batch_size", "64", "--n_neurons", "16", "--n_frequencies", "4")


def save_maps(folder: Path, width=16, height=16, present=("diffuse", "normal", "roughness"), seed=0, deep=()) -> Path:
    """A material folder of waves with noise, one PNG per map; maps named in `deep` have 16 bits."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    folder.mkdir(parents=True, exist_ok=True)
    for name in present:
        turns = [(1 + c) * x / width + (2 - c) * y / height + random.random() for c in range(MAPS[name])]
        waves = 0.5 + 0.3 * np.sin(2 * np.pi * np.stack(turns, axis=2))
        waves += random.uniform(-0.15, 0.15, (height, width, 1))
        top, dtype = (65535, np.uint16) if name in deep else (255, np.uint8)
        pixels = (waves * top).round().astype(dtype)
        PillowImage.fromarray(pixels[..., 0] if MAPS[name] == 1 else pixels).save(folder / f"made_{name}.png")
    return folder


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """LPIPS is off, so that no test depends on the network; two threads, as in every other test."""
    torch.set_num_threads(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "_lpips_network", lambda: (None, "LPIPS is left out: switched off for the test"))
        yield


@pytest.fixture(autouse=True, scope="module")
def _offline():
    """For the modules that import it."""
    with offline():
        yield


# --- commands ------------------------------------------------------------------------------------------------------


def quick(*flags, quiet: bool = True) -> Path:
    """`python train.py --mode train` with a small network; it must end well. Returns the newest run folder."""
    flags = [str(flag) for flag in flags]
    with contextlib.redirect_stdout(None) if quiet else contextlib.nullcontext():
        code = train.main([*QUICK, *flags] if "--load_dir" not in flags else flags)
    assert code == 0
    if "--load_dir" in flags:
        return Path(flags[flags.index("--load_dir") + 1])
    return newest_run(Path(flags[flags.index("--save_dir") + 1]))


def newest_run(save_dir: Path) -> Path:
    return max((path for path in save_dir.iterdir() if path.name != "tensorboard"), key=lambda p: p.stat().st_mtime_ns)


def checkpoint_of(run: Path, iteration: int) -> Path:
    return run / "models" / f"train_result_{iteration}"


def refusal(capsys, *flags, command=None) -> str:
    """The one line with which a command refuses `flags`: exit code 2, no traceback, nothing else on stderr."""
    capsys.readouterr()
    main = {None: train.main, "export": export.main}[command]
    code = run_command(lambda: main([str(flag) for flag in flags]))
    return refusal_line(code, capsys.readouterr().err)


def refusal_line(code: int, stderr: str) -> str:
    assert code == EXIT_BAD_INPUT, stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and stderr.endswith("\n"), repr(stderr)
    assert len(stderr) < 700, "a line to read, not a dump"
    return stderr.rstrip("\n")


# a refused connection at once, instead of a search for a server that may or may not answer
OFFLINE = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}


def process(*arguments, script="train.py", environment=(), own=False, **options) -> subprocess.CompletedProcess:
    """`python SCRIPT ARGUMENTS` in a process of its own; own: with imports of its own too."""
    start = [sys.executable] if own else python()
    command = [*start, str(ROOT / script), *map(str, arguments)]
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run(command, env={**os.environ, **OFFLINE, **dict(environment)}, **options)


def patch_step(monkeypatch, make_step: Callable) -> None:
    """Replace step(self, n) of every engine by make_step(the engine's own step)."""
    for engine in (TorchEngine, CpuEngine):
        monkeypatch.setattr(engine, "step", make_step(engine.step))


def signal_at(monkeypatch, number: int, iteration: int) -> None:
    """Let this process receive the signal in the chunk that reaches `iteration`, once."""
    sent = []

    def make_step(step):
        def stepping(self, n):
            if not sent and self.iteration + n >= iteration:
                sent.append(os.kill(os.getpid(), number))
            return step(self, n)

        return stepping

    patch_step(monkeypatch, make_step)


# --- what is left behind -------------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, with its bytes; folders end in a slash."""
    paths = sorted(folder.rglob("*"))
    return {f"{p.relative_to(folder)}{'/' * p.is_dir()}": b"" if p.is_dir() else p.read_bytes() for p in paths}


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders, which no command may leave."""
    return [name for name in tree(folder) if any(part.startswith(".") for part in Path(name).parts)]


def payload(folder: Path) -> dict:
    """What model.pth of a checkpoint folder holds."""
    return torch.load(folder / "model.pth", weights_only=True)


def differences(one, other, path="") -> list[str]:
    """Where two nested values differ in a single bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        kinds = [(value.dtype, value.shape, value.numpy().tobytes()) for value in (one, other)]
        return [] if kinds[0] == kinds[1] else [path]
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        return [where for key in one for where in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [w for i, pair in enumerate(zip(one, other)) for w in differences(*pair, f"{path}/{i}")]
    return [] if type(one) is type(other) and (one == other or one != one != other) else [f"{path}: {one!r} {other!r}"]


def checkpoint_differences(one: Path, other: Path) -> list[str]:
    """Where two checkpoints differ: parameters, moments, stopping state, configuration, metrics, exported bytes."""
    states = [payload(folder) for folder in (one, other)]
    for state in states:
        state["training"].pop("seconds")  # wall time
        config = json.loads(state["config"])
        state["config"] = {name: config[name] for name in sorted(config) if name not in ("save_dir", "data_dir")}
    exported = [{k: v for k, v in tree(folder).items() if k != "model.pth"} for folder in (one, other)]
    return differences(*states, "model.pth") + differences(*exported, "files")
