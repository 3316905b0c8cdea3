"""Trains groups in processes of this machine, so that a crash costs one group alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from common.cores import usable_cores
from groups.gpus import use_gpu
from groups.job import Job, Outcome
from groups.journal import LOG, settle

# On Linux a server process imports PyTorch once (seconds) and forks for each group (milliseconds). That is safe because
# the server starts no threads. Elsewhere each process imports everything itself.
START_METHOD = "forkserver" if sys.platform.startswith("linux") else "spawn"
# What GNU timeout, systemd and Slurm send to whole process groups, and a terminal that closes.
GROUP_SIGNALS = (signal.SIGTERM, signal.SIGHUP) if START_METHOD == "forkserver" else ()
PARENT_GONE_S = 600  # time that a process has to save after its parent has died
OOM_SCORE = 500  # makes the kernel end a group when memory runs out, rather than the batch or the server


def share_threads(workers: int, num_threads: int, groups: int, gpus: int = 0) -> tuple[int, int]:
    """How many groups to train at a time, and threads for each (0: all cores).

    Args:
        workers: --groups_max_workers; 0: one per GPU, else one per `num_threads` cores.
        num_threads: --num_threads; 0: the cores are shared out between the workers.
        groups: how many there are to train.
        gpus: how many they are spread over; 0: training runs on the CPU, or on one GPU.
    """
    cores = usable_cores()
    workers = workers or gpus or max(1, cores // (num_threads or 1))
    workers = max(1, min(workers, groups))
    return workers, num_threads or (0 if workers == 1 else max(1, cores // workers))


class LocalPool:
    """At most `workers` processes that train one group each; a context manager that ends them all.

    Each process sees one GPU of `gpus` (names of gpus.gpus_of): the one with the fewest processes.
    """

    queues = False  # a started group runs at once

    def __init__(self, workers: int, gpus: Sequence[str] = ()):
        self.workers, self.gpus = workers, list(gpus)
        self._context = multiprocessing.get_context(START_METHOD)
        # sentinel of the process -> job, process, receiver of its outcome, index of its GPU (None without GPUs)
        self._running: dict[int, tuple[Job, Any, connection.Connection, int | None]] = {}

    def __enter__(self) -> LocalPool:
        if START_METHOD == "forkserver":
            from multiprocessing import forkserver, resource_tracker

            resource_tracker.ensure_running()  # first: where it starts, it unblocks SIGTERM
            self._context.set_forkserver_preload(["groups.worker"])
            with _importable(), _signals_blocked():
                forkserver.ensure_running()
        return self

    def __exit__(self, *exception) -> None:
        for _, process, _, _ in self._running.values():
            process.kill()
        for _, process, receiver, _ in self._running.values():
            process.join()
            receiver.close()
        self._running.clear()

    @property
    def busy(self) -> bool:
        """Whether any group is running."""
        return bool(self._running)

    @property
    def free(self) -> bool:
        """Whether another group may be started."""
        return len(self._running) < self.workers

    def start(self, job: Job) -> None:
        """Start the process of a group."""
        taken = [gpu for *_, gpu in self._running.values()]
        gpu = min(range(len(self.gpus)), key=taken.count, default=None)
        receiver, sender = self._context.Pipe(duplex=False)
        given = (job, sender, None if gpu is None else self.gpus[gpu])
        process = self._context.Process(target=_work, args=given, name=f"group {job.name}", daemon=False)
        process.start()
        sender.close()
        self._running[process.sentinel] = (job, process, receiver, gpu)

    def wait(self, timeout_s: float) -> list[tuple[Job, Outcome]]:
        """Wait up to `timeout_s` seconds for a group to end. Returns: those that have ended since the last call."""
        ended = []
        for sentinel in connection.wait(list(self._running), timeout_s) if self._running else ():
            job, process, receiver, _ = self._running.pop(sentinel)
            process.join()
            ended.append((job, _received(receiver) or _died(job, process.exitcode)))
            receiver.close()
            process.close()
        return ended

    def stop(self) -> None:
        """Signal every group to save and end; `wait` returns them."""
        for _, process, _, _ in self._running.values():
            process.terminate()


@contextlib.contextmanager
def _signals_blocked():
    """Start a server that no signal to the batch's process group ends: its groups could not report how they ended.

    A process inherits what is blocked; `_work` unblocks it for its group. Here a signal is only late.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _importable():
    """Let the fork server import this repository, and no module of the same name in the working folder of the batch.

    The server imports from its working folder first, then from PYTHONPATH; so both are the repository while it starts.
    The processes of the groups get the working folder of the batch.
    """
    root, before = str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = root
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [before])])
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _received(receiver: connection.Connection) -> Outcome | None:
    """The outcome that the process sent; None when it ended before."""
    try:
        return receiver.recv() if receiver.poll() else None
    except (EOFError, OSError):
        return None


def _died(job: Job, code: int | None) -> Outcome:
    """The outcome of a process that sent none. Its folder is cleaned, the reason goes into its record and log."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = ", as by the system when memory runs out" * (name == "SIGKILL")
        reason = f"its process was ended by {name}{why} (see {LOG})"
    else:
        reason = f"its process ended with exit code {code} (see {LOG})"
    if code == 128 + signal.SIGTERM:
        return Outcome("stopped", "stopped while it did not train")
    settle(job.folder, reason)
    return Outcome("failed", reason)


# --- in the group's process ------------------------------------------------------------------------------------------


def _work(job: Job, sender: connection.Connection, gpu: str | None) -> None:
    if gpu is not None:
        use_gpu(gpu)
    with contextlib.suppress(OSError, AttributeError):
        os.setsid()  # a terminal's Ctrl-C reaches the batch alone, which signals its groups
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)  # during training common.stop.stop_signals takes its place
    if GROUP_SIGNALS:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the batch has it too, and sends SIGTERM
        signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    threading.Thread(target=_follow_parent, daemon=True).start()
    from groups.worker import train_group  # which imports PyTorch; the batch itself needs none

    outcome = train_group(job)
    with contextlib.suppress(OSError):  # the batch has ended; the record has the outcome
        sender.send(outcome)


def _end(signal_number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + signal_number)


def _follow_parent() -> None:
    """Signal this process to save and end when the batch has died."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PARENT_GONE_S)
    os._exit(128 + signal.SIGTERM)
