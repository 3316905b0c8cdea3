"""Many materials, one after the other: every sub-folder of --groups_batch_dir is a material."""

from __future__ import annotations

import dataclasses
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from configs import Config
from errors import UserError, explain_os_error, one_line
from train import Result, train_material

LOG = "log.txt"


def find_groups(folder: Path) -> list[Path]:
    """The sub-folders that each hold one material, by name.

    Raises: UserError when the folder is missing or has none.
    """
    if not folder.is_dir():
        raise UserError(f"--groups_batch_dir {folder}: no such folder; give one with a sub-folder per material")
    groups = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not groups:
        raise UserError(f"--groups_batch_dir {folder}: no sub-folders; put the maps of each material into one")
    return groups


def train_groups(config: Config, given: Mapping[str, Any]) -> int:
    """Train every group in turn; a group that fails does not stop the others.

    Returns: 0 when all are done, 1 when some failed, 128 + signal when interrupted.
    """
    groups = find_groups(Path(config.groups_batch_dir))
    failed: dict[str, str] = {}
    with tqdm(total=len(groups), unit="material", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        for group in groups:
            name = one_line(group.name)
            bar.set_description(name)
            started = time.perf_counter()
            save_dir = Path(config.groups_save_dir) / group.name
            save_dir.mkdir(parents=True, exist_ok=True)
            member = dataclasses.replace(config, data_dir=str(group), save_dir=str(save_dir), groups_batching=False)
            with (save_dir / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
                result = _train_group(member, given, name, log, failed)
            bar.update()
            bar.clear()
            if result is None:
                print(f"{name}: failed: {failed[name]}", flush=True)
                continue
            if not result.completed:
                print(f"{name}: interrupted at iteration {result.iteration}; saved in {one_line(str(result.run))}")
                return 128 + result.interrupted_by
            seconds = time.perf_counter() - started
            psnr, bpp = result.metrics["psnr"]["all"], result.rates["bpp"]
            run = one_line(str(result.run))
            print(f"{name}: PSNR {psnr:.2f} dB, {bpp:.2f} bpp, {seconds:.0f} s, {run}", flush=True)
            if result.interrupted_by:
                return 128 + result.interrupted_by
    print(f"{len(groups) - len(failed)} of {len(groups)} materials trained, in {one_line(config.groups_save_dir)}")
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    return 1 if failed else 0


def _train_group(
    config: Config, given: Mapping[str, Any], name: str, log: TextIO, failed: dict[str, str]
) -> Result | None:
    """Train one material with its output going to its log; a failure is noted in `failed`."""

    def say(text: str) -> None:
        print(text, file=log, flush=True)
        if config.groups_verbose:
            for line in text.splitlines():
                print(f"[{name}] {line}", flush=True)

    try:
        return train_material(config, given, say, quiet=True)
    except UserError as error:
        failed[name] = str(error)
    except OSError as error:
        failed[name] = explain_os_error(error) or one_line(f"{type(error).__name__}: {error}")
    except Exception as error:  # a bug in one material must not cost the others; its traceback is in the log
        failed[name] = one_line(f"{type(error).__name__}: {error} (see {LOG})")
        traceback.print_exc(file=log)
    say(f"failed: {failed[name]}")
    return None
