"""Makes `import files` and the like find the repository's shared modules, whatever this was started from.

Everything here imports by bare name from this folder (`from utils.dataset import PBRDataset`), as the commands and
snippets of docs/neuropbr.md do, and the repository's root comes right after it for errors, files, images, metrics,
report and trainer. One name is in both places: `train`. Nothing in this folder imports it, so that a process that
has the root's `train` (pytest) can import all the rest. The folder `configs/` is no package: `configs` is the root's.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def _put_on_path() -> None:
    there = [Path(entry or ".").resolve() for entry in sys.path]
    if HERE not in there:
        sys.path.insert(0, str(HERE))
        there.insert(0, HERE)
    if ROOT not in there:
        sys.path.insert(there.index(HERE) + 1, str(ROOT))


_put_on_path()
