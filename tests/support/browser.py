"""A headless Chromium that opens pages from files and keeps what it says."""

from __future__ import annotations

import base64
import contextlib
import io
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.support.shader_hosts import chromium

MOST_SECONDS = 600  # of one browser: several times what the tests of a file take
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--enable-unsafe-swiftshader",
]  # fmt: skip
READ_MAP = """async ([map, lod, layer]) => {
    const { width, height, channels, data } = await nt.readMap(map, lod, layer);
    return [height, width, channels, btoa(String.fromCharCode(...data))];
}"""


class Browser:
    """One tab of a headless Chromium, and what it said."""

    def __init__(self, context):
        self.tab, self.said, self.asked = context.new_page(), [], []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))

    def open(self, page: Path) -> None:
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


@contextlib.contextmanager
def open_browser(profile: Path, *flags: str):
    """A tab of a headless Chromium with more flags; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    executable = chromium()
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=executable, headless=True, args=[*FLAGS, *flags],
            viewport={"width": 770, "height": 280}, color_scheme="dark",
        )  # fmt: skip
        context.set_default_timeout(60_000)
        # Playwright waits for scripts for ever, and a crash of the browser's GPU process leaves one without an end.
        watchdog = threading.Timer(MOST_SECONDS, subprocess.run, [["pkill", "-KILL", "-f", str(profile)]])
        watchdog.start()
        try:
            yield Browser(context)
        finally:
            watchdog.cancel()
        context.close()
