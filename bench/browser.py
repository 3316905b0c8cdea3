"""Fragment shaders on the sampler of a browser: WebGL 2 in a headless Chromium, over a server of this machine.

The texture units filter: BC1, mips and anisotropy are the browser's, which on a machine without a GPU is SwiftShader.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from common.errors import UserError, one_line

PAGE = Path(__file__).with_suffix(".html")
CHANNELS = 12  # of three targets
LIMIT_S = 600  # for one job
BYTES = "application/octet-stream"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-gpu-watchdog", "--enable-unsafe-swiftshader",
)  # fmt: skip


@dataclass(frozen=True)
class Texture:
    """A texture with repeat addressing."""

    format: str  # bc1, rgba8, rg8, r8 or rgba32f
    sizes: Sequence[tuple[int, int]]  # (width, height) of each mip
    levels: Sequence[bytes]
    filtered: int = 0  # the sampler's anisotropy, with linear filters; 0: nearest


@dataclass(frozen=True)
class Job:
    """A picture to draw: main() writes layout(location = 0..2) out vec4."""

    source: str  # of the fragment shader
    textures: dict[str, Texture]  # by name in the shader
    width: int
    height: int


def find_chromium() -> str | None:
    """The browser: CHROMIUM in the environment, or on the path."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def draw(jobs: Sequence[Job]) -> list[np.ndarray]:
    """The pictures, (height, width, 12) float32 each; row 0 is at gl_FragCoord.y = 0.5.

    Raises: UserError without a browser, or when it cannot draw one.
    """
    data: list[bytes] = []
    described = json.dumps([_describe(job, data) for job in jobs]).encode()

    def answer(path: str) -> tuple[bytes, str]:
        if path == "/":
            return PAGE.read_bytes(), "text/html"
        if path.startswith("/data/"):
            return data[int(path.rpartition("/")[2])], BYTES
        return (described if path == "/jobs" else b""), BYTES

    with opened(answer) as posts:
        return [_picture(job, *next(posts)) for job in jobs]


@contextlib.contextmanager
def opened(
    answer: Callable[[str], tuple[bytes, str]], flags: Sequence[str] = (), said: IO[bytes] | None = None
) -> Iterator[Iterator[tuple[str, bytes]]]:
    """A browser that has opened "/" of a server of this machine; what it posts, as (path, body).

    Args:
        answer: path -> (body, type) of what it gets.
        flags: of Chromium, besides FLAGS.
        said: where to put what Chromium writes to stderr; None: nowhere.
    Raises: UserError without a browser, and when nothing is posted for LIMIT_S.
    """
    browser = find_chromium()
    if browser is None:
        raise UserError("expected a Chromium browser on the path or in CHROMIUM, found none; apt install chromium")
    posted: queue.Queue[tuple[str, bytes]] = queue.Queue()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer, posted))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def posts() -> Iterator[tuple[str, bytes]]:
        while True:
            try:
                yield posted.get(timeout=LIMIT_S)
            except queue.Empty:
                raise UserError(f"{browser}: expected a picture within {LIMIT_S} s, found none") from None

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [browser, *FLAGS, *flags, f"--user-data-dir={folder}", f"http://127.0.0.1:{server.server_port}/"]
        try:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said or subprocess.DEVNULL)
        except OSError as error:
            server.shutdown()
            raise UserError(f"CHROMIUM: {browser}: expected a browser, it does not start ({error.strerror})") from error
        try:
            yield posts()
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()
            server.server_close()


def _describe(job: Job, data: list[bytes]) -> dict:
    textures = []
    for name, texture in job.textures.items():
        textures.append({
            "name": name, "format": texture.format, "sizes": texture.sizes, "filtered": texture.filtered,
            "bytes": [len(level) for level in texture.levels], "data": len(data),
        })  # fmt: skip
        data.append(b"".join(texture.levels))
    return {"source": job.source, "textures": textures, "width": job.width, "height": job.height}


def _picture(job: Job, path: str, payload: bytes) -> np.ndarray:
    if path == "/failed":
        raise UserError(f"the browser cannot draw it: {one_line(payload.decode('utf-8', 'replace'))[:500]}")
    planes = np.frombuffer(payload, np.float32).reshape(3, job.height, job.width, 4)
    return np.concatenate(planes, axis=2)


def _handler(answer: Callable[[str], tuple[bytes, str]], posted: queue.Queue) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(*answer(self.path))

        def do_POST(self):
            posted.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self._send(b"", BYTES)

        def _send(self, payload: bytes, kind: str):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_):
            pass

    return Handler
