"""A headless Chromium that opens pages from files and keeps what they say; no test in it lasts longer than LIMIT_S."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.support.shader_hosts import CHROMIUM_FLAGS, chromium

LIMIT_S = 50  # for one test: below the limit of pytest.ini, whose exception would leave Playwright unusable
START_S = 30  # for the browser to start
VIEWPORT = {"width": 770, "height": 280}
FLAGS = [  # no timer slows down in a tab that no one looks at
    *CHROMIUM_FLAGS, "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding", "--force-color-profile=srgb", "--remote-debugging-port=0",
]  # fmt: skip
READ_MAP = """async ([map, lod, layer]) => {
    const { width, height, channels, data } = await nt.readMap(map, lod, layer);
    let text = "";
    for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
    return [height, width, channels, btoa(text)];
}"""


class Browser:
    """One tab of a Chromium of its own, and what it said."""

    def __init__(self, playwright, profile: Path):
        self.ended = False
        command = [chromium(), *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            port = self._port(profile / "DevToolsActivePort")
            context = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}").new_context(
                viewport=VIEWPORT, color_scheme="dark"
            )
            self.tab, self.said, self.asked = context.new_page(), [], []
        except BaseException:
            self.end()
            raise
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))

    def _port(self, path: Path) -> str:
        for _ in range(START_S * 20):
            if path.is_file() and path.read_text():
                return path.read_text().splitlines()[0]
            time.sleep(0.05)
        raise TimeoutError("the browser does not start")

    def end(self) -> None:
        """End all processes of this browser; whatever waits for it raises."""
        if not self.ended:
            self.ended = True
            os.killpg(self._process.pid, signal.SIGKILL)  # not reaped yet, so the id is not another's
            self._process.wait()

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
