"""The files of a run in its folder: whether there is one already, and how it is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError, quote
from common.events import TENSORBOARD
from lightmap.checkpoints import BEST, LAST
from lightmap.exports import (
    DAY,
    F2_META,
    F2_ONNX,
    F2_SCRIPT,
    F2_STATE,
    LATENT_MAP,
    LATENT_Q8,
    NETWORKS,
    NETWORKS_HALF,
    PAGE,
)
from lightmap.shader import STEM, WEIGHT_FILE
from lightmap.summary import REPORT

CHECKPOINTS = (BEST, LAST)
CURVES = f"{TENSORBOARD}/events.*"
SIGNS = (*CHECKPOINTS, REPORT, F2_META)  # of which every run and every export has one
# All that a run, its report and its exports write, in this version and in older ones.
PATTERNS = (
    *SIGNS, LATENT_MAP, LATENT_Q8, "latent_*_*.dds", F2_STATE, F2_SCRIPT, F2_ONNX, NETWORKS, NETWORKS_HALF, DAY,
    f"{STEM}.*", WEIGHT_FILE, PAGE, CURVES,
)  # fmt: skip


def files_of_run(folder: Path) -> Iterator[Path]:
    """The files in a folder that bear names of a run's."""
    return (path for pattern in PATTERNS for path in sorted(folder.glob(pattern)) if path.is_file())


def check_unused(folder: Path) -> None:
    """Raises: UserError where a folder holds a run or exports, which another run would mix with its own."""
    found = next((name for name in SIGNS if (folder / name).is_file()), None)
    if found is None:
        return
    goes_on = "--resume goes on with it" if found in CHECKPOINTS else "it holds no checkpoint to go on with"
    raise UserError(f"--out_dir {quote(folder)}: expected a folder without a run, found {found} in it; {goes_on}, "
                    "--overwrite removes its files, or give another folder")  # fmt: skip


def remove_run(folder: Path) -> None:
    """Remove the files of a run; others stay."""
    for path in files_of_run(folder):
        path.unlink()


def remove_curves(folder: Path) -> None:
    """Remove the curves of a run, which another one writes anew."""
    for path in folder.glob(CURVES):
        path.unlink()
