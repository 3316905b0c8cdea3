"""Trains groups on a Ray cluster, by the same function as on this machine.

Ray places the groups, retries those whose node or process died, and starts machines if it is set up to. Nodes need the
packages of requirements.txt, and the batch and save folders at the same paths; Ray sends them the code.
"""

from __future__ import annotations

import math
import re
import signal
import socket
from pathlib import Path
from typing import Any

from common.cores import usable_cores
from common.errors import Say, UserError, one_line
from configs import Config
from groups.job import Job, Outcome
from groups.journal import settle

ROOT = Path(__file__).resolve().parents[1]
CALLS = 20  # groups per process; every new process imports PyTorch, which takes seconds
QUEUED = 64  # groups queued at the cluster, so that one that grows on demand sees the demand
CONNECT_S = 10
ANSI = re.compile(r"\x1b\[[0-9;]*m")
HINT = 'pip install "ray[default]", or leave out --groups_backend ray'


class RayPool:
    """Tasks of a Ray cluster that train one group each; has the members of groups.local.LocalPool.

    Args:
        limit: most groups at the cluster at a time, queued ones included; 0: twice as many as its CPUs can train.
    """

    queues = True  # a started group may wait for a node

    def __init__(self, config: Config, limit: int, say: Say):
        self.config, self.limit, self.say = config, limit, say
        self._running: dict[Any, Job] = {}  # by the reference of the task
        self._ray = import_ray()
        self._begun = False

    def __enter__(self) -> RayPool:
        from groups.worker import train_group  # which imports PyTorch

        ray, config = self._ray, self.config
        self._begun = not ray.is_initialized()
        if self._begun:
            self._connect()
        cpus, gpus = config.num_threads or 1, config.groups_gpus
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            self.say(f"note: no node of the cluster has {cpus} CPUs and {gpus:g} GPUs yet; groups wait until one has")
        total = sum(node.get("CPU", 0) for node in nodes)
        self.limit = self.limit or max(QUEUED, 2 * math.ceil(total / cpus))
        calls = 1 if gpus else CALLS  # CUDA of a process keeps the GPU of its first group
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=config.groups_retries, max_calls=calls)
        self._task = remote(train_group)
        return self

    def _connect(self) -> None:
        ray, address = self._ray, self.config.ray_address
        where = {"address": address} if address else {"num_cpus": usable_cores(), "include_dashboard": False}
        code = {"working_dir": str(ROOT), "excludes": [*(f"/{name}" for name in left_behind()), "__pycache__"]}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(**where, runtime_env=code, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            flag = f"--ray_address {address}" if address else "--groups_backend ray"
            reason = one_line(str(error).strip().partition("\n")[0][:200])
            raise UserError(f"{flag}: no cluster there ({reason}); start one with: ray start --head") from error
        finally:
            for number, handler in handlers.items():  # Ray has replaced them; here a signal makes groups save
                signal.signal(number, handler)

    def __exit__(self, *exception) -> None:
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        if self._begun:
            self._ray.shutdown()

    @property
    def busy(self) -> bool:
        """Whether any group is running or queued."""
        return bool(self._running)

    @property
    def free(self) -> bool:
        """Whether another group may be sent."""
        return len(self._running) < self.limit

    def start(self, job: Job) -> None:
        """Send a group."""
        self._running[self._task.options(name=f"group {job.name}").remote(job)] = job

    def wait(self, timeout_s: float) -> list[tuple[Job, Outcome]]:
        """Wait up to `timeout_s` seconds for a group to end. Returns: those that have ended since the last call."""
        if not self._running:
            return []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        return [(job, self._outcome(task, job)) for task in ended for job in [self._running.pop(task)]]

    def _outcome(self, task: Any, job: Job) -> Outcome:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.TaskCancelledError:
            return Outcome("stopped", "stopped before it began")
        except self._ray.exceptions.RayError as error:
            lines = [line for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
            said = lines[-1] if isinstance(error, self._ray.exceptions.RayTaskError) else lines[0]  # ends a traceback
            reason = one_line(f"{type(error).__name__}: {said.strip()[:300]}")
            settle(job.folder, reason)
            return Outcome("failed", reason)

    def stop(self) -> None:
        """Signal every group to save and end; `wait` returns them."""
        for task in self._running:
            self._ray.cancel(task, force=False)


def left_behind() -> list[str]:
    """Files and folders of the repository that are not sent to the nodes: all but its modules and packages."""
    return [path.name for path in ROOT.iterdir() if path.suffix != ".py" and not (path / "__init__.py").is_file()]


def check_cluster(address: str) -> None:
    """Try to connect to a cluster, because Ray itself would try for minutes.

    Raises: UserError when nobody answers, or when the package is missing.
    """
    import_ray()
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # auto, or a cluster to be started
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        hint = "start one with: ray start --head"
        raise UserError(f"--ray_address {address}: no cluster there ({error}); {hint}") from error


def import_ray() -> Any:
    """The package. Raises: UserError where it is missing."""
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--groups_backend ray: the package ray is not installed ({error}); {HINT}") from error
    return ray
