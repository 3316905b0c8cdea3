"""What a reader is to `python -m tests.fuzz`, and how its answer to one input is judged. Imports within a moment."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from common.errors import UserError

NAMES = (
    "dds",
    "npz",
    "manifest",
    "export",
    "block_dds",
    "astc_ktx2",
    "block_export",
    "checkpoint",
    "config",
    "rates",
    "names",
    "png",
    "jpg",
    "tif",
    "tga",
    "bmp",
    "webp",
    "exr",
    "gif",
    "avif",
    "jp2",
    "psd",
    "hdr",
    "jxl",
    "image_dds",
    "gltf",
    "gltf_scene",
    "gltf_out",
)  # of readers.READERS


class Reader:
    """One reader: `prepare` makes its seeds once, `run` makes an input from a random source and reads it."""

    limit_s = 5.0  # for one input
    memory_mib = 512  # that one input may take

    def __init__(self, folder: Path):
        self.folder = folder
        self.prepare()

    def prepare(self) -> None:
        """Make valid files to start from."""

    def run(self, rng: random.Random) -> None:
        """Make an input and read it. Raises: UserError naming one of `names`."""
        raise NotImplementedError

    names: tuple[str, ...] = ()  # one of which a refusal has to name

    def write(self, name: str, payload: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(payload)
        self.names = (name,)
        return path


class Sabotage(Reader):
    """No reader: everything that fuzzing should notice, so that tests see whether it does."""

    limit_s, memory_mib = 0.5, 64
    kinds = (
        "fine",
        "refused",
        "raises",
        "sleeps",
        "hangs",
        "dies",
        "grows",
        "prints",
        "writes",
        "removes",
        "unpickles",
        "starts",
        "two lines",
        "names nothing",
    )

    def run(self, rng: random.Random) -> None:
        self.names = ("file.x",)
        kind = self.kinds[rng.number % len(self.kinds)] if hasattr(rng, "number") else "fine"
        outside = self.folder.parent / "outside"
        if kind == "refused":
            raise UserError("file.x: damaged, copy it again")
        if kind == "raises":
            raise KeyError(kind)
        if kind in ("sleeps", "hangs"):
            time.sleep(1 if kind == "sleeps" else 60)
        if kind == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "grows":
            bytearray(b"x") * (100 << 20)
        if kind == "prints":
            os.write(2, b"libx: error\n")
        if kind == "writes":
            outside.write_text("x")
        if kind == "removes":
            outside.unlink()
        if kind == "unpickles":
            pickle.loads(pickle.dumps(random.Random))
        if kind == "starts":
            subprocess.run(["true"], check=False)
        if kind == "two lines":
            error = UserError("file.x: ")
            error.args = ("file.x: two\nlines of it",)
            raise error
        if kind == "names nothing":
            raise UserError("something is wrong somewhere")


def input_of(seed: int, reader: str, number: int) -> random.Random:
    """The source of everything that input `number` is made of."""
    source = random.Random(f"{seed}/{reader}/{number}")
    source.number = number
    return source


def outcome(reader: Any, rng: random.Random) -> str | None:
    """Read one input: "accepted", or "refused" by one clean line.

    Raises: AssertionError for a refusal that is not one; whatever the reader raises that is no refusal.
    """
    try:
        reader.run(rng)
    except UserError as error:
        text = str(error)
        if not (text.isprintable() and 10 < len(text) < 1500):
            raise AssertionError(f"not one line to read: {text[:300]!r}") from error
        if not any(name in text for name in reader.names):
            raise AssertionError(f"names none of {reader.names}: {text[:300]!r}") from error
        return "refused"
    return "accepted"
