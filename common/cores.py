"""How many CPU cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(quota: bool = True, cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Cores that the scheduler gives this process: those of its affinity mask, or fewer by its containers' limits.

    A share of a core counts as one: `docker run --cpus 1.5` gives 2.

    Args:
        quota: look at the limits of control groups too, versions 1 and 2.
        cgroups: where their files are.
        own: the file that says in which of them this process is.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota:
        count = min([count, *(math.ceil(limit) for limit in _quotas(cgroups, own))])
    return max(1, count)


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """The limits, in cores, of the groups that this process is in and of those above them."""
    for group in own_groups("cpu", cgroups, own):
        yield from _limit(group)


def own_groups(controller: str, cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> Iterator[Path]:
    """The folders of the control groups that limit this process's `controller`, and of those above them."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        for folder in {cgroups / name for name in (controllers, controller)} if controllers else {cgroups}:
            group = folder / path.lstrip("/")
            for level in (group, *group.parents):  # inside a container `folder` itself is often its own group
                yield level
                if level == folder:
                    break


def _limit(group: Path) -> Iterator[float]:
    """The limit of one group, in cores, if it has one."""
    with contextlib.suppress(OSError, ValueError, ArithmeticError, IndexError):
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()[:2]  # "max 100000": no limit
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        if float(quota) > 0:
            yield float(quota) / float(period)
