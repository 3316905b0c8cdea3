"""Pages that are one HTML file: how bytes, JSON and scripts are written into it; page.js and webgl.js read them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SHARED_SCRIPTS = ("page.js", "webgl.js")


def encode_bytes(payload: bytes) -> str:
    """Base64: 33 % more than the bytes. Deflating codes first saves 1 to 7 % of that, and would make reading async."""
    return base64.b64encode(payload).decode("ascii")


def blob_scripts(blobs: Sequence[str]) -> str:
    """The elements that blobBytes(index) of page.js reads; `blobs` are texts of encode_bytes."""
    return "\n".join(blob_script(index, blob) for index, blob in enumerate(blobs))


def blob_script(index: int, blob: str) -> str:
    """One of them."""
    return f'<script type="text/plain" id="blob-{index}">{blob}</script>'


def json_for_html(value: Any) -> str:
    """JSON for the inside of a <script>: ASCII, without `<`, so that no text in it can end the element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def one_script(own: Sequence[Path]) -> str:
    """The shared scripts and a page's own ones as one text that leaves no names behind; of modules that import nothing,
    the names that they export are those of the text."""
    paths = [*(Path(__file__).with_name(name) for name in _SHARED_SCRIPTS), *own]
    return '"use strict";\n(() => {\n' + "\n".join(map(_script, paths)) + "})();\n"


def _script(path: Path) -> str:
    return re.sub(r"^export (?=const|function)", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def fill_template(template: str, filled: Mapping[str, str]) -> str:
    """A text with every {{name}} replaced; a {{name}} inside a replacement stays as it is."""
    pieces = template.split("{{")
    text = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        text += [filled[name], rest]
    return "".join(text)
