"""Processes that need not import PyTorch: forked from one that has, which takes them 0.1 s instead of 3 to 6.

`python(...)` is the beginning of a command line, to be used in place of sys.executable:

    subprocess.run([*python(), ROOT / "train.py", "--max_iter", "5"], cwd=folder, env=environment, timeout=60)

A small client runs as that process. It hands its streams, folder, environment and words to the server of this session,
whose child becomes `python words...`: with an id, a session and an exit code of its own, and with none of the
repository's modules. The client passes on SIGINT, SIGTERM and SIGHUP, takes the child with it when it is killed, and
ends as the child does. Not for tests of what precedes the imports: closed streams, and variables that Python, PyTorch
or OpenMP read once (PYTHONSAFEPATH, PYTHONIOENCODING; OMP_NUM_THREADS is seen to). Where the system is not Linux, all
processes are ordinary ones.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torch._dynamo")  # every optimizer imports the second
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP")


def python(*libraries: str) -> list[str]:
    """The beginning of a command line: Python, with PyTorch and these libraries there already."""
    if sys.platform != "linux":
        return [sys.executable]
    return [sys.executable, "-ISS", __file__, "client", _server(), ",".join((*LIBRARIES, *libraries))]


@functools.cache
def _server() -> str:
    """The path of this process's server's socket; the server ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="forked.")
    path = str(Path(folder.name) / "socket")
    words = [sys.executable, __file__, "server", path]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd="/",
                              start_new_session=True)  # fmt: skip
    assert server.stdout.read(1) == b"+", "the server of forked processes has not started"

    def stop() -> None:
        server.stdin.close()
        server.wait()
        folder.cleanup()

    atexit.register(stop)
    return path


# --- the client ------------------------------------------------------------------------------------------------------


def _client(path: str, libraries: str, *words: str) -> None:
    ignored = [name for name in PASSED_ON if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN]
    request = {"libraries": libraries.split(","), "words": words, "folder": os.getcwd(),
               "environment": dict(os.environ), "ignored": ignored}  # fmt: skip
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [b"+"], [0, 1, 2])
        server.sendall(json.dumps(request).encode() + b"\n")
        answers = server.makefile()
        child = int(answers.readline())
        for name in set(PASSED_ON) - set(ignored):
            signal.signal(getattr(signal, name), lambda number, frame: os.kill(child, number))
        code = int(answers.readline())
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


# --- the server ------------------------------------------------------------------------------------------------------


def _serve(path: str) -> dict[str, Any]:
    """Forks a child for each client. Returns: in a child, what it was asked for."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b"+")
        while True:
            ready, _, _ = select.select([listener, 0], [], [], 1)
            while _reaped():
                pass
            if 0 in ready:
                sys.exit()
            if listener in ready:
                client, _ = listener.accept()
                with client:
                    request = _request(client)
                    if request is not None:
                        return request


def _reaped() -> int:
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return 0


def _request(client: socket.socket) -> dict[str, Any] | None:
    """In the child that the client asks for: its request. In the server: None."""
    _, streams, _, _ = socket.recv_fds(client, 1, 3)
    request = json.loads(client.makefile().readline())
    for name in request["libraries"]:
        importlib.import_module(name)
    gc.freeze()
    watcher = os.fork()
    if watcher == 0:
        child = os.fork()
        if child:
            _watch(client, child, streams)
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    return None if watcher else request


def _watch(client: socket.socket, child: int, streams: list[int]) -> None:
    """Says the child's id and exit code; kills it when the client has gone."""
    for stream in (*streams, 0, 1):
        os.close(stream)
    client.sendall(b"%d\n" % child)
    handle = os.pidfd_open(child)
    ready, _, _ = select.select([client, handle], [], [])
    if handle not in ready:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if handle in ready:
        client.sendall(b"%d\n" % code)
    os._exit(0)


def _become(words: list[str], folder: str, environment: dict[str, str], ignored: list[str], libraries: list[str]):
    """`python words...`, in a child."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # found anew, in this environment
    for name in PASSED_ON:
        usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
        signal.signal(getattr(signal, name), signal.SIG_IGN if name in ignored else usual)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        lines = 1 if number == 2 or os.isatty(number) or environment.get("PYTHONUNBUFFERED") else -1
        new = open(number, old.mode, lines, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
    if "torch" in sys.modules:
        threads = environment.get("OMP_NUM_THREADS", "")
        sys.modules["torch"].set_num_threads(int(threads) if threads else len(os.sched_getaffinity(0)))
    more = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    first, sys.argv, rest = words[0], words, sys.path[1:]
    if first == "-m":
        sys.argv, sys.path[:] = words[1:], [folder, *more, *rest]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif first in ("-c", "-"):
        sys.argv, sys.path[:] = ["-c", *words[2:]] if first == "-c" else words, ["", *more, *rest]
        code = compile(words[1] if first == "-c" else sys.stdin.read(), "<string>", "exec")
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(code, main.__dict__)
    else:
        sys.path[:] = [os.path.dirname(os.path.realpath(first)), *more, *rest]
        runpy.run_path(first, run_name="__main__")


def _run_and_end(request: dict[str, Any]) -> None:
    """`_become`, and the end of a process as Python has it, but for taking PyTorch to pieces, which takes 0.5 s: one of
    some thousand forked processes hung after its signal, and this is the part that they do not share with others."""
    code = 0
    try:
        _become(**request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code == 1 and end.code != 1:
            print(end.code, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120
    os._exit(code & 0xFF)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        _client(*sys.argv[2:])
    _run_and_end(_serve(sys.argv[2]))
