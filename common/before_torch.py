"""Import this before torch: how its CPU threads wait for each other.

A training step is a hundred short parallel regions, and between them GNU OpenMP lets its threads spin for a long time.
While the machine is idle that is as good as anything, but as soon as another program wants a core, spinning threads
burn the time that the others need. Measured on 2 cores, ms per iteration, idle | two other busy processes:
as it comes 20 | 450 to 980; OMP_WAIT_POLICY=PASSIVE 38 to 44 | 55 to 70; GOMP_SPINCOUNT=5000 20 | 69.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
