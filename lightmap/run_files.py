"""The files of a run in its folder: whether there is one already, and how it is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError, quote
from common.events import TENSORBOARD

CHECKPOINTS = ("best.ckpt", "last.ckpt")
CURVES = f"{TENSORBOARD}/events.*"
SIGNS = (*CHECKPOINTS, "report.json", "f2_meta.json")  # of which every run and every export has one
# All that a run, its report and its exports write, in this version and in older ones.
PATTERNS = (
    *SIGNS, "latent_map.npy", "latent_map_q8.npz", "latent_*_*.dds", "f2_state_dict.pt", "f2_ts.pt", "f2.onnx",
    "f1_f2.npz", "f1_f2_float16.npz", "day.npz", "lightmap_decoder.*", "lightmap_decoder_weights.bin", "viewer.html",
    CURVES,
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
