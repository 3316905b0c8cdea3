"""A headless Chromium that opens pages from files and keeps what they say; no test in it lasts longer than LIMIT_S."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.support.shader_hosts import CHROMIUM_FLAGS, chromium

LIMIT_S = 50  # for one test, and for the start of a browser; pytest-timeout would leave Playwright unusable
VIEWPORT = {"width": 770, "height": 280}
READ_MAP = """async ([map, lod, layer]) => {
    const { width, height, channels, data } = await nt.readMap(map, lod, layer);
    let text = "";
    for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
    return [height, width, channels, btoa(text)];
}"""


class Browser:
    """One tab of a Chromium of its own, and what it said."""

    def __init__(self, playwright, profile: Path):
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=chromium(), args=CHROMIUM_FLAGS, timeout=1000 * LIMIT_S,
            viewport=VIEWPORT, color_scheme="dark",
        )  # fmt: skip
        self._process = int(os.readlink(profile / "SingletonLock").rpartition("-")[2])  # Chromium writes its id there
        self.tab, self.said, self.asked, self.ended = context.new_page(), [], [], False
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))

    def end(self) -> None:
        """End all processes of this browser; whatever waits for it raises."""
        if not self.ended:
            self.ended = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process, signal.SIGKILL)  # Playwright starts every browser as a group of its own

    def open(self, page: Path) -> None:
        self.said.clear()
        self.tab.goto(page.as_uri())
        if not self.tab.evaluate("nt.ready.then(() => !!nt.data && document.querySelector('#name').textContent)"):
            pytest.skip(f"this Chromium has no WebGL 2: {self.tab.inner_text('#status')}")

    def read(self, map_name: str, lod: int, layer: str = "decoded") -> np.ndarray:
        *shape, data = self.tab.evaluate(READ_MAP, [map_name, lod, layer])
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(shape).astype(int)

    def screenshot(self, **clip) -> np.ndarray:
        self.tab.evaluate("nt.settled()")
        self.tab.wait_for_timeout(150)  # the picture is copied to the canvas after that
        return np.asarray(PillowImage.open(io.BytesIO(self.tab.screenshot(**clip))).convert("RGB")).astype(int)

    def flat_texels(self, width: int, height: int) -> np.ndarray:
        """The pixels of a screenshot of the flat view at the texel centres of LOD 0, (height, width, 3)."""
        stage = self.tab.locator("#canvas").bounding_box()
        picture = self.screenshot(clip=stage)
        texel = 0.94 * min(stage["width"], stage["height"]) / max(width, height)
        x = stage["width"] / 2 + (np.arange(width) + 0.5 - width / 2) * texel
        y = stage["height"] / 2 + (np.arange(height) + 0.5 - height / 2) * texel
        return picture[y.astype(int)[:, None], x.astype(int)]


@pytest.fixture(scope="module")
def open_browsers(tmp_path_factory):
    """A function that returns the Browser of this module, a new one after end()."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    opened = []
    with api.sync_playwright() as playwright:

        def browser() -> Browser:
            if not opened or opened[-1].ended:
                opened.append(Browser(playwright, tmp_path_factory.mktemp("profile")))
            return opened[-1]

        yield browser
        for each in opened:
            each.end()


@pytest.fixture
def browser(request, open_browsers):
    """A Browser. It is ended after LIMIT_S seconds, so that a test that hangs fails, and after a failure."""
    found, failures = open_browsers(), request.session.testsfailed
    watchdog = threading.Timer(LIMIT_S, found.end)
    watchdog.start()
    found.tab.set_viewport_size(VIEWPORT)
    yield found
    watchdog.cancel()
    if request.session.testsfailed > failures:
        found.end()
