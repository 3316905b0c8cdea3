"""Import this before anything else: standard streams that are open, and how torch's CPU threads wait for each other.

How a command begins: this module first, then at the top of the file only what its flags need (common, configs, options
and numpy; no PyTorch, OpenCV, TensorBoard or Matplotlib, and no room that imports them). main() parses, refuses what it
can, and imports what works inside of the functions that use it, or from a module of its own (bench/rate.py has the
flags, bench/rate_work.py the work). So --help and a wrong flag take 0.2 s, where importing PyTorch alone takes 2.
Annotations get their classes under `if TYPE_CHECKING`. tests/commands/test_startup.py starts every command.

A training step is a hundred short parallel regions, and between them GNU OpenMP lets its threads spin for a long time.
While the machine is idle that is as good as anything, but as soon as another program wants a core, spinning threads
burn the time that the others need. Measured on 2 cores, ms per iteration, idle | two other busy processes:
as it comes 20 | 450 to 980; OMP_WAIT_POLICY=PASSIVE 38 to 44 | 55 to 70; GOMP_SPINCOUNT=5000 20 | 69.
"""

import os

from common.cores import usable_cores
from common.streams import open_missing_streams

open_missing_streams()
if usable_cores() < usable_cores(quota=False):  # PyTorch and NumPy look at the cores alone
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
