"""Fuzzing of everything that reads a file: `python -m tests.fuzz [--inputs 100000] [--seed 0] [--readers dds,npz]`.

Valid files are damaged (inputs.py) and read (readers.py) in a process per reader, which has a limit of
memory. An input is fine when the reader takes it, or refuses it with a UserError of one line that names the file. What
counts as a finding: any other exception, the death of the process, more time or memory than the reader's limits, a
byte on stdout or stderr, a file written outside of the reader's folder, an object unpickled, a process or a connection
started. Exit code 1 when there are findings; `--readers NAME --first N --inputs 1` repeats one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import multiprocessing
import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

SLOTS = struct.Struct("<6q")  # next input, accepted, refused, slowest (ns), its number, highest memory (bytes)
MAX_FINDINGS = 20  # of a reader, after which it is left
START_S = 120.0  # until the first input
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.mkdir": (0, 2),
    "os.rename": (1, 3),
    "os.remove": (0, 1),
    "os.rmdir": (0, 1),
    "os.symlink": (1, 2),
    "os.link": (1, 3),
    "os.chmod": (0, 2),
}  # audit event -> its path, and the folder that this is relative to
FORBIDDEN = (
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "socket.connect",
    "socket.bind",
    "urllib.Request",
)


# --- in the reader's process -----------------------------------------------------------------------------------------


class Watch:
    """What a process does besides reading: an audit hook, and what reaches its stdout and stderr."""

    def __init__(self, folder: Path):
        self.allowed = (str(folder), "/dev/null")
        self.seen: list[str] = []
        self.active = False
        self.noise = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        if event == "open" and arguments[2] and arguments[2] & WRITING:
            self._path(event, arguments[0])
        elif event in CHANGES:
            path, folder = (arguments[index] for index in CHANGES[event])
            if folder in (-1, None):
                self._path(event, path)
            else:
                self._path(event, f"/proc/self/fd/{folder}/{os.fsdecode(path)}")
        elif event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.200}")

    def _path(self, event: str, path: Any) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith(self.allowed):
                self.seen.append(f"{event} {real!r}")

    def silence(self) -> None:
        sys.stdout.flush()
        for descriptor in (1, 2):
            os.dup2(self.noise.fileno(), descriptor)

    def findings(self) -> list[str]:
        """Since the last call."""
        sys.stdout.flush()
        sys.stderr.flush()
        size = os.fstat(self.noise.fileno()).st_size
        found, self.seen = self.seen, []
        if size:
            found.append(f"printed {os.pread(self.noise.fileno(), 400, 0)!r}")
            os.ftruncate(self.noise.fileno(), 0)
            os.lseek(self.noise.fileno(), 0, os.SEEK_SET)
        return found


def reader_class(name: str) -> Any:
    import common.before_torch  # isort: skip  # noqa: F401  # before torch

    import torch

    from engine.cpu.library import load_kernels
    from engine.errors import KernelsUnavailable
    from tests.fuzz.readers import READERS

    torch.set_num_threads(1)
    with contextlib.suppress(KernelsUnavailable):
        load_kernels()  # asks for the compiler's version, once
    return READERS[name]


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text[text.index(f"{field}:") :].split(None, 2)[1]) << 10


def work(reader_name: str, seed: int, first: int, last: int, folder: str, shared: mmap.mmap, findings: Any) -> None:
    """Read the inputs from the one that `shared` says up to `last`."""
    from tests.fuzz.base import Sabotage, input_of, outcome

    kind = Sabotage if reader_name == "sabotage" else reader_class(reader_name)
    home = Path(tempfile.mkdtemp(prefix=f"{reader_name}.", dir=folder)).resolve()
    tempfile.tempdir = str(home)
    watch = Watch(home)
    reader = kind(home)
    for number in range(20):  # what is imported, compiled and cached once
        try:
            outcome(reader, random.Random(f"{seed}/warm {reader_name}/{number}"))
        except BaseException:
            continue
    watch.silence()
    limit = memory("VmSize") + ((reader.memory_mib + 256) << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    number, accepted, refused, slowest, which, most = SLOTS.unpack(shared[: SLOTS.size])
    number = max(number, first)
    watch.active = True
    while number < last:
        shared[: SLOTS.size] = SLOTS.pack(number, accepted, refused, slowest, which, most)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is used now
        before, started, text = memory("VmRSS"), time.monotonic_ns(), None
        watch.findings()
        try:
            verdict = outcome(reader, input_of(seed, reader_name, number))
        except BaseException:
            text = traceback.format_exc(limit=-6)
        else:
            accepted, refused = accepted + (verdict == "accepted"), refused + (verdict == "refused")
        taken, peak = time.monotonic_ns() - started, memory("VmHWM") - before
        if taken > slowest:
            slowest, which = taken, number
        most = max(most, peak)
        texts = watch.findings()
        if peak > reader.memory_mib << 20:
            texts.append(f"took {peak >> 20} MiB")
        if taken > reader.limit_s * 1e9:
            texts.append(f"took {taken / 1e9:.1f} s")
        for each in [*([text] if text else []), *texts]:
            findings.put((number, each))
        number += 1
    shared[: SLOTS.size] = SLOTS.pack(number, accepted, refused, slowest, which, most)


# --- around it -------------------------------------------------------------------------------------------------------


def fuzz(reader_name: str, seed: int, first: int, count: int, folder: Path, limit_s: float) -> dict[str, Any]:
    """Feed `count` inputs to one reader. A process that dies or hangs is replaced and the next input follows.

    Returns: {"reader", "inputs", "accepted", "refused", "slowest_ms", "slowest_input", "peak_mib", "seconds",
        "findings": [[input, text], ...]}.
    """
    context = multiprocessing.get_context("spawn")
    started, found, last = time.monotonic(), [], first + count
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(SLOTS.pack(first - 1, 0, 0, 0, first, 0))
        file.flush()
        state = mmap.mmap(file.fileno(), SLOTS.size)
        while SLOTS.unpack(state[:])[0] < last and len(found) < MAX_FINDINGS:  # a process each time
            queue = context.SimpleQueue()
            process = context.Process(
                target=_worker, args=(reader_name, seed, first, last, str(folder), file.name, queue), daemon=True
            )
            process.start()
            before, since = None, time.monotonic()
            while process.is_alive() and len(found) < MAX_FINDINGS:
                process.join(0.2)
                drain(queue, found)
                now = SLOTS.unpack(state[:])[0]
                if now != before:
                    before, since = now, time.monotonic()
                elif time.monotonic() - since > (START_S if now < first else 2 * limit_s):
                    process.kill()
                    found.append((now, f"hangs: more than {2 * limit_s:.0f} s"))
            process.kill() if process.is_alive() else None
            process.join()
            drain(queue, found)
            number, *rest = SLOTS.unpack(state[:])
            if number < first:
                raise SystemExit(f"{reader_name}: no process that reads could be started, see above")
            if number < last and process.exitcode and len(found) < MAX_FINDINGS:
                if not found or found[-1][0] != number:
                    found.append((number, f"the process ended with exit code {process.exitcode}"))
                state[:] = SLOTS.pack(number + 1, *rest)
        number, accepted, refused, slowest, which, most = SLOTS.unpack(state[:])
    return {
        "reader": reader_name,
        "inputs": number - first,
        "accepted": accepted,
        "refused": refused,
        "slowest_ms": slowest / 1e6,
        "slowest_input": which,
        "peak_mib": most / 2**20,
        "seconds": time.monotonic() - started,
        "findings": found,
    }


def drain(queue: Any, found: list[tuple[int, str]]) -> None:
    """Take over findings that are of another kind than those that are known: where it was raised, or what it says."""

    def kind(text: str) -> str:
        lines = text.strip().splitlines()
        return "".join([line for line in lines if line.startswith("  File ")][-2:]) or re.sub(
            r"[\d.]+|'.*|b\".*", "", lines[0]
        )

    while not queue.empty():
        number, text = queue.get()
        if kind(text) not in {kind(known) for _, known in found}:
            found.append((number, text))


def _worker(reader_name: str, seed: int, first: int, last: int, folder: str, shared: str, findings: Any) -> None:
    with open(shared, "r+b") as stream:  # noqa: PTH123
        work(reader_name, seed, first, last, folder, mmap.mmap(stream.fileno(), SLOTS.size), findings)


def main(argv: list[str] | None = None) -> int:
    from tests.fuzz.base import NAMES

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together [default 100000]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each reader [default 0]")
    parser.add_argument("--readers", default=",".join(NAMES), help="some of them, commas between [default all]")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds after which an input hangs [default 10]")
    parser.add_argument("--json", default="", help="where to write the results")
    arguments = parser.parse_args(argv)
    names = arguments.readers.split(",")
    results = []
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
        for index, name in enumerate(names):
            count = arguments.inputs * (index + 1) // len(names) - arguments.inputs * index // len(names)
            result = fuzz(name, arguments.seed, arguments.first, count, Path(folder), arguments.limit)
            results.append(result)
            print(
                f"{name:10}  {result['inputs']:6} inputs  {result['refused']:6} refused  "
                f"{result['accepted']:6} accepted  slowest {result['slowest_ms']:7.1f} ms ({result['slowest_input']})  "
                f"peak {result['peak_mib']:6.1f} MiB  {result['seconds']:6.1f} s  {len(result['findings'])} findings",
                flush=True,
            )
            for number, text in result["findings"]:
                print(
                    f"  --readers {name} --seed {arguments.seed} --first {number} --inputs 1\n    "
                    + text.strip().replace("\n", "\n    "),
                    flush=True,
                )
    total, findings = (sum(result[key] for result in results) for key in ("inputs", "seconds"))
    found = sum(len(result["findings"]) for result in results)
    print(f"{total} inputs in {findings:.0f} s, {found} findings")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
