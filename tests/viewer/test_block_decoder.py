"""viewer/three/blocks.js: it reads blocks as the toolkit does, and refuses what that refuses."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from formats.block_textures import CODECS, level_texels
from shape import BLOCKS, BlockShape
from tests.support.three_pages import open_three

CALL = """async ([name, storage, jobs]) => {
    const blocks = await import("/neural/blocks.js");
    return jobs.map(([text, ...size]) => {
        try {
            return kit.textOf(blocks[name](kit.bytesOf(text), ...size, storage) ?? new Uint8Array());
        } catch (error) {
            return `refused: ${error.message}`;
        }
    });
}"""


def call(browser, name: str, block: BlockShape, jobs: list[tuple]) -> list[str]:
    """What a function of the module makes of each (blocks, further arguments)."""
    texts = [[base64.b64encode(stored.tobytes()).decode(), *more] for stored, *more in jobs]
    return browser.tab.evaluate(CALL, [name, block.name, texts])


def refused(block: BlockShape, stored: np.ndarray) -> bool:
    try:
        CODECS[block.name].split(stored)
    except ValueError:
        return True
    return False


def random_blocks(block: BlockShape, count: int) -> np.ndarray:
    """(count, bytes) that files may have: any bits where end points and weights lie."""
    stored = np.random.default_rng(4).integers(0, 256, (4 * count + 20, block.bytes), dtype=np.uint8)
    if block.name == "astc6x6":
        stored[:, :2] = [0x08, 0x01]  # the mode
        stored[:, 2] |= 1
        stored[:, 6] &= 0x7F  # the bit between end points and weights
    good = [one for one in stored if not refused(block, one[None])]
    assert len(good) >= count
    return np.array(good[:count])


@pytest.mark.parametrize("storage", BLOCKS)
def test_any_block_of_any_level(storage, browser):
    """To the last integer, rounded to the nearest; of blocks that reach beyond the level what lies within it."""
    open_three(browser)
    block, jobs, wanted = BLOCKS[storage], [], []
    for size in ((180, 60), (13, 7), (6, 11), (4, 12), (1, 1), (1, 40)):
        across, down = (-(-side // block.side) for side in size)
        stored = random_blocks(block, across * down)
        jobs.append((stored, *size))
        last, exact = block.places[-1], level_texels(block, stored, size)
        wanted.append(np.pad((exact + last // 2) // last, [(0, 0), (0, 0), (0, 1)], constant_values=255))
    for want, text in zip(wanted, call(browser, "decodeBlocks", block, jobs)):
        got = np.frombuffer(base64.b64decode(text), np.uint8)
        np.testing.assert_array_equal(got, want.ravel())


@pytest.mark.parametrize("storage", BLOCKS)
def test_other_blocks_are_refused(storage, browser):
    """Those with any one bit flipped that are none of a grid: another mode of ASTC, or three colours of BC1."""
    open_three(browser)
    block = BLOCKS[storage]
    whole, jobs = random_blocks(block, 3), []
    for bit in range(8 * block.bytes):
        jobs.append((whole.copy(),))
        jobs[-1][0][1, bit // 8] ^= 1 << bit % 8
    jobs += [(whole,), (whole[:0],)]
    expected = [refused(block, stored) for (stored,) in jobs]
    found = call(browser, "checkBlocks", block, jobs)
    assert [text.startswith("refused") for text in found] == expected and any(expected) and not expected[-2]
    assert all(text.endswith("block 1") and "expected" in text for text in found if text)
    size = block.side * 3, block.side
    decoded = call(browser, "decodeBlocks", block, [(stored, *size) for (stored,) in jobs[:-1]])
    assert [text.startswith("refused") for text in decoded] == expected[:-1]
