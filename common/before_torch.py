"""Import this before anything else: standard streams that are open, and how torch's CPU threads wait for each other.

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
