"""Pages with three.js and viewer/three in a headless Chromium, without a server: requests are answered from folders."""

from __future__ import annotations

import base64
import json
import math
import mimetypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.browser import Browser
from tests.support.runs import ROOT
from transcode.gltf.extension import EXTENSION, VERSION

MODULE = ROOT / "viewer" / "three"
SITE = "http://neural.test"
IMPORTS = {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/",
           "neural-texture-three": "/neural/index.js"}  # fmt: skip
KIT = (Path(__file__).parent / "three_kit.js").read_text(encoding="utf-8")
PAGE = f"""<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script type="importmap">{json.dumps({"imports": IMPORTS})}</script>
<script type="module">
{KIT}
</script>"""
PLANE = {  # two units wide, before an orthographic camera; v runs down, as in glTF
    "POSITION": [[-1, 1, 0], [1, 1, 0], [-1, -1, 0], [1, -1, 0]], "NORMAL": [[0, 0, 1]] * 4,
    "TEXCOORD_0": [[0, 0], [1, 0], [0, 1], [1, 1]],
}  # fmt: skip
TYPES = {2: "VEC2", 3: "VEC3", 4: "VEC4"}


def three_folder() -> Path:
    """The npm package; skips the test where there is none."""
    folder = Path(os.environ.get("THREE_JS") or ROOT / ".tools" / "node_modules" / "three")
    if not (folder / "examples" / "jsm" / "loaders" / "GLTFLoader.js").is_file():
        pytest.skip("needs three.js: npm install --prefix .tools three, or its folder in THREE_JS")
    return folder


def open_three(browser: Browser, files: Path | None = None, page: str = PAGE, path: str = "/page.html") -> None:
    """Open a page, by default that with three_kit.js; it reaches three.js, viewer/three and the files of a folder."""
    roots = {"/neural/node_modules/three/": three_folder(), "/three/": three_folder(), "/neural/": MODULE}
    roots |= {"/files/": files} if files else {}

    def answer(route) -> None:
        asked = route.request.url.removeprefix(SITE).partition("?")[0]
        if asked == "/page.html":
            return route.fulfill(body=page, content_type="text/html")
        paths = (root / asked.removeprefix(start) for start, root in roots.items() if asked.startswith(start))
        found = next(paths, None)
        if found is None or not found.is_file():
            return route.fulfill(status=404, body=asked)
        kind = "text/javascript" if found.suffix == ".js" else mimetypes.guess_type(found.name)[0]
        return route.fulfill(body=found.read_bytes(), content_type=kind or "application/octet-stream")

    browser.tab.unroute_all()
    browser.tab.route(f"{SITE}/**", answer)
    browser.said.clear()
    browser.tab.goto(SITE + path)
    if path == "/page.html":
        browser.tab.wait_for_function("window.kit !== undefined || window.failed")
        if not browser.tab.evaluate("kit.works"):
            pytest.skip("this Chromium has no WebGL 2")


def said(browser: Browser) -> list[str]:
    """What the page said, but for the driver's remark on reading pixels."""
    return [text for text in browser.said if "GPU stall due to ReadPixels" not in text]


def picture(browser: Browser, **view) -> np.ndarray:
    """The model in a scene, see three_kit.js: (size, size, 3) codes, rows from the top."""
    pixels = np.frombuffer(base64.b64decode(browser.tab.evaluate("(view) => kit.picture(view)", view)), np.uint8)
    side = math.isqrt(len(pixels) // 4)
    return pixels.reshape(side, side, 4)[::-1, :, :3].astype(int)


class Gltf:
    """A glTF document in the making: planes with materials of ours."""

    def __init__(self):
        self.blob = bytearray()
        self.document: dict[str, Any] = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}], "nodes": [], "meshes": [],
            "materials": [], "bufferViews": [], "accessors": [],
            "extensionsUsed": [EXTENSION, "KHR_texture_transform"],
            "extensions": {EXTENSION: {"version": VERSION, "neuralTextures": []}},
        }  # fmt: skip

    @property
    def entries(self) -> list[dict[str, Any]]:
        return self.document["extensions"][EXTENSION]["neuralTextures"]

    def add(self, payload: bytes) -> int:
        """The index of a buffer view with these bytes."""
        self.blob += bytes(-len(self.blob) % 16)
        self.document["bufferViews"].append({"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(payload)})
        self.blob += payload
        return len(self.document["bufferViews"]) - 1

    def image(self, payload: bytes, kind: str = "image/png") -> int:
        """The index of a texture with this image."""
        self.document.setdefault("images", []).append({"bufferView": self.add(payload), "mimeType": kind})
        self.document.setdefault("textures", []).append({"source": len(self.document["images"]) - 1})
        return len(self.document["textures"]) - 1

    def plane(self, material: dict[str, Any], reference: dict[str, Any] | None, **attributes) -> None:
        """A plane of a new material, which refers to a neural texture; `attributes` beside those of PLANE."""
        if reference is not None:
            own = {EXTENSION: {"neuralTexture": reference}, **material.get("extensions", {})}
            material = {**material, "extensions": own}
        self.document["materials"].append(material)
        named = {name: self._accessor(values) for name, values in {**PLANE, **attributes}.items()}
        indices = self._accessor([0, 2, 1, 1, 2, 3], 5123)
        primitive = {"attributes": named, "indices": indices, "material": len(self.document["materials"]) - 1}
        self.document["meshes"].append({"primitives": [primitive]})
        self.document["scenes"][0]["nodes"].append(len(self.document["nodes"]))
        self.document["nodes"].append({"mesh": len(self.document["meshes"]) - 1})

    def _accessor(self, values, component: int = 5126) -> int:
        array = np.array(values, np.float32 if component == 5126 else np.uint16)
        entry = {"bufferView": self.add(array.tobytes()), "componentType": component, "count": len(array)}
        entry["type"] = TYPES[array.shape[1]] if array.ndim == 2 else "SCALAR"
        if array.ndim == 2:
            entry |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.document["accessors"].append(entry)
        return len(self.document["accessors"]) - 1

    def glb(self) -> bytes:
        self.blob += bytes(-len(self.blob) % 4)
        self.document["buffers"] = [{"byteLength": len(self.blob)}]
        text = json.dumps(self.document).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(self.blob), b"BIN\0") + bytes(self.blob)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def load(browser: Browser, gltf: Gltf | bytes, **options) -> None:
    """Load a model as the page's `model`, with these options of the plugin."""
    payload = gltf.glb() if isinstance(gltf, Gltf) else gltf
    text = base64.b64encode(payload).decode()
    browser.tab.evaluate("([text, options]) => kit.load(text, options)", [text, options])


def read(browser: Browser, expression: str, *views: dict[str, float], mesh: int = 0) -> list[np.ndarray]:
    """What an expression of GLSL, a vec4, is in a material's fragment shader, for each pixel of some views of a mesh.

    views: width and height in pixels; and, of what is seen of the plane, left, top, right and bottom in uv.
    Returns: (height, width, 4) float32 for each view.
    """
    given = {"mesh": mesh, "expression": expression, "views": views}
    texts = browser.tab.evaluate("(given) => kit.read(given)", given)
    shapes = [(int(view["height"]), int(view["width"]), 4) for view in views]
    pixels = (np.frombuffer(base64.b64decode(text), np.float32) for text in texts)
    return [values.reshape(shape)[::-1] for values, shape in zip(pixels, shapes)]


def scene_of(
    entry: Callable[[Callable[[bytes], int]], dict[str, Any]], material=None, reference=None, **attributes
) -> Gltf:
    """A plane with a neural texture; `entry` makes it with a function that adds a buffer view."""
    gltf = Gltf()
    gltf.entries.append(entry(gltf.add))
    gltf.plane(material or {}, {"index": 0, **(reference or {})}, **attributes)
    return gltf
