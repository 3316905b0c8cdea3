"""What keeps a test that hangs from taking others with it (tests/support/browser.py)."""

from __future__ import annotations

import threading
import time

import pytest


def test_a_page_that_hangs_ends_with_its_browser(open_browsers):
    hanging = open_browsers()
    for script in ("new Promise(() => {})", "for (;;) {}"):
        began, watchdog = time.monotonic(), threading.Timer(1, hanging.end)
        watchdog.start()
        with pytest.raises(Exception, match="closed"):
            hanging.tab.evaluate(script)
        assert time.monotonic() - began < 20
        other = open_browsers()
        assert other is not hanging and other.tab.evaluate("1 + 1") == 2
        hanging = other


def test_one_browser_for_all_tests_that_pass(open_browsers, browser):
    assert open_browsers() is browser
