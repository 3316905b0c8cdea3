"""A set of renders that is made material by material, and gone on with after a kill.

input/render_progress.jsonl has a line with the settings, then one for each finished material. render_metadata.json is
written last: a set without it is not complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import UserError, brief, quote
from common.files import make_folder, parse_json, write_bytes, write_json

METADATA, PROGRESS, SPLIT = "render_metadata.json", "render_progress.jsonl", "split.json"
SOURCES = ("clean", "dirty")
SAMPLE = re.compile(r"sample_(\d{4,})")


class RenderedSet:
    """The folder of renders, with what is finished in it.

    Args:
        settings: plain values; an unfinished set of others is refused.
        overwrite: remove what is there; add: go on with a complete set.
    Raises: UserError.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], overwrite: bool = False, add: bool = False):
        self.folder, self.settings = folder, settings
        self.done: dict[str, dict[str, Any]] = {}  # label -> {"root", "samples": {sample: piece}}
        if overwrite:
            self._clear()
        complete, begun = (folder / METADATA).exists(), (folder / PROGRESS).exists()
        if complete and not (add and begun):
            raise UserError(
                f"{quote(folder / METADATA)}: there is a set already; give another --input-dir, --overwrite to replace "
                f"it{', or --add to make what is new in --data-dir' if begun else ''}"
            )
        if begun:
            self._read()
            (folder / METADATA).unlink(missing_ok=True)
            self._remove_unfinished()
        else:
            make_folder(folder)
            write_bytes(folder / PROGRESS, _line({"settings": settings}))

    def _read(self) -> None:
        path = self.folder / PROGRESS
        lines = path.read_bytes().split(b"\n")
        whole, torn = lines[:-1], lines[-1]  # a line that a kill has cut has no end
        try:
            entries = [parse_json(line) for line in whole]
            there = entries[0]["settings"]
            self.done = {entry["material"]: entry for entry in entries[1:]}
            for entry in self.done.values():
                assert all(SAMPLE.fullmatch(name) for name in entry["samples"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
            raise UserError(f"{quote(path)}: expected the progress of make_renders.py, found {brief(whole[:1])}; "
                            "--overwrite starts again") from error  # fmt: skip
        if there != self.settings:
            other = ", ".join(f"--{name} {there.get(name)}" for name in there if there[name] != self.settings.get(name))
            raise UserError(f"{quote(path)}: the set there is of {other}; give the same, or --overwrite to replace it")
        if torn:
            write_bytes(path, b"".join(line + b"\n" for line in whole))

    def _clear(self) -> None:
        names: list[str] = []
        with contextlib.suppress(OSError, ValueError, TypeError):
            names = list(parse_json((self.folder / METADATA).read_bytes()))
        if (self.folder / PROGRESS).exists():
            names += [path.name for path in self._sample_folders()]
        for name in names:
            if SAMPLE.fullmatch(name):
                for source in SOURCES:
                    shutil.rmtree(self.folder / source / name, ignore_errors=True)
        for name in (METADATA, PROGRESS, SPLIT):
            (self.folder / name).unlink(missing_ok=True)

    def _sample_folders(self) -> Iterator[Path]:
        for source in SOURCES:
            yield from (path for path in (self.folder / source).glob("sample_*") if SAMPLE.fullmatch(path.name))

    def _remove_unfinished(self) -> None:
        finished = set(self.samples)
        for path in self._sample_folders():
            if path.name not in finished:
                shutil.rmtree(path)

    @property
    def samples(self) -> dict[str, str]:
        """sample -> the folder of its maps, of all that is finished, by number."""
        found = {name: piece for entry in self.done.values() for name, piece in entry["samples"].items()}
        return {name: found[name] for name in sorted(found, key=lambda name: (len(name), name))}

    def free_numbers(self) -> Iterator[int]:
        """Numbers of samples that are not taken, ascending."""
        taken = {int(SAMPLE.fullmatch(name)[1]) for name in self.samples}
        number = 0
        while True:
            if number not in taken:
                yield number
            number += 1

    def finish(self, label: str, root: str, samples: dict[str, str]) -> None:
        """Note that a material is made."""
        self.done[label] = {"material": label, "root": root, "samples": samples}
        with (self.folder / PROGRESS).open("ab") as stream:
            stream.write(_line(self.done[label]))
            stream.flush()
            os.fsync(stream.fileno())

    def complete(self, held_out: set[str] | None) -> None:
        """Write the metadata, and, of labels that are `held_out`, the split."""
        if held_out is not None:
            sides: dict[str, list[str]] = {"val": [], "train": []}
            for label, entry in sorted(self.done.items()):
                sides["val" if label in held_out else "train"] += sorted(set(entry["samples"].values()))
            write_json(self.folder / SPLIT, sides)
        write_json(self.folder / METADATA, self.samples)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
