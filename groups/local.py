"""Runs groups in processes of this machine: whatever ends one of them costs that group alone."""

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

from engine.cpu.library import thread_count
from groups.gpus import use_gpu
from groups.journal import LOG, settle
from groups.worker import Job, Outcome, train_group

# On Linux a server process imports PyTorch once, seconds, and forks for each group, milliseconds; it never starts a
# thread, which is what makes that safe. Elsewhere each process begins anew.
START_METHOD = "forkserver" if sys.platform.startswith("linux") else "spawn"
PARENT_GONE_S = 600  # what a process gets to save when its parent has died, before it ends for good
OOM_SCORE = 500  # the kernel takes a group when memory runs out, not the batch or the server


def share_threads(workers: int, num_threads: int, groups: int, gpus: int = 0) -> tuple[int, int]:
    """How many groups at a time, and threads for each (0: all cores).

    Args:
        workers: --groups_max_workers; 0: one per GPU, or as many as there are cores for, `num_threads` each, or one.
        groups: how many there are to train.
        gpus: how many they are spread over; 0: they are trained on the CPU, or on one GPU.
    """
    cores = thread_count()
    workers = workers or gpus or max(1, cores // (num_threads or 1))
    workers = max(1, min(workers, groups))
    return workers, num_threads or (0 if workers == 1 else max(1, cores // workers))


class LocalPool:
    """Processes that train one group each, at most `workers` of them; a context manager that leaves none behind.

    Each gets one of `gpus` for itself, or the one that has the fewest where there are more processes; see group_gpus.
    """

    queues = False  # a group that was started is at work

    def __init__(self, workers: int, gpus: Sequence[str] = ()):
        self.workers, self.gpus = workers, list(gpus)
        self._context = multiprocessing.get_context(START_METHOD)
        # by the sentinel of the process; the last is its GPU's index, where there are any
        self._running: dict[int, tuple[Job, Any, connection.Connection, int | None]] = {}

    def __enter__(self) -> LocalPool:
        if START_METHOD == "forkserver":
            from multiprocessing import forkserver

            self._context.set_forkserver_preload([train_group.__module__])
            with _importable():
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
        """Whether any group is in work."""
        return bool(self._running)

    @property
    def free(self) -> bool:
        """Whether another group may be started."""
        return len(self._running) < self.workers

    def start(self, job: Job) -> None:
        """Begin with a group."""
        taken = [gpu for *_, gpu in self._running.values()]
        gpu = min(range(len(self.gpus)), key=taken.count, default=None)
        receiver, sender = self._context.Pipe(duplex=False)
        given = (job, sender, None if gpu is None else self.gpus[gpu])
        process = self._context.Process(target=_work, args=given, name=f"group {job.name}", daemon=False)
        process.start()
        sender.close()
        self._running[process.sentinel] = (job, process, receiver, gpu)

    def wait(self, timeout_s: float) -> list[tuple[Job, Outcome]]:
        """The groups that have ended since, after `timeout_s` seconds at the latest."""
        ended = []
        for sentinel in connection.wait(list(self._running), timeout_s) if self._running else ():
            job, process, receiver, _ = self._running.pop(sentinel)
            process.join()
            ended.append((job, _received(receiver) or _died(job, process.exitcode)))
            receiver.close()
            process.close()
        return ended

    def stop(self) -> None:
        """Tell every group to save and end; `wait` returns them."""
        for _, process, _, _ in self._running.values():
            process.terminate()


@contextlib.contextmanager
def _importable():
    """Let the server find this code, and nothing of the same name in the folder that the batch was started in.

    It looks in its working folder first (unless Python is told not to), then along PYTHONPATH. The groups' processes
    go back to the batch's working folder and have its paths.
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
    """What the process sent before it ended."""
    try:
        return receiver.recv() if receiver.poll() else None
    except (EOFError, OSError):
        return None


def _died(job: Job, code: int | None) -> Outcome:
    """The outcome of a process that sent none; its folder is put in order, and its record and log say what happened."""
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
        os.setsid()  # a terminal's Ctrl-C goes to the batch, which tells its groups once
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)  # training itself listens in another way, trainer.stop_signals
    threading.Thread(target=_follow_parent, daemon=True).start()
    outcome = train_group(job)
    with contextlib.suppress(OSError):  # the batch is gone; the record says it all
        sender.send(outcome)


def _end(signal_number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + signal_number)


def _follow_parent() -> None:
    """Save and end when the batch has died."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PARENT_GONE_S)
    os._exit(128 + signal.SIGTERM)
