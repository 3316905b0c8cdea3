"""README.md and docs/: every link within the repository leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

READMES = [ROOT / folder / "README.md" for folder in ("", "data", "viewer/three")]
PAGES = sorted([*READMES, *ROOT.glob("docs/**/*.md")])


def anchors(page: Path) -> set[str]:
    """What GitHub names the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    links = re.findall(r"\]\((?!https?:)([^)\s]*)\)", page.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page):
    assert broken_links(page) == []


def test_broken_ones_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One, two\n[a](#one-two) [b](#three) [c](none.md) [d](page.md#one) [e](https://x.y/z)\n")
    assert broken_links(page) == ["#three", "none.md", "page.md#one"]


def test_every_page_is_reached_from_the_readme():
    linked = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    for page in PAGES:
        assert page.name in linked, page
