"""Bytes taken out of a buffer, where the rest keeps its alignment."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

ALIGNMENT = 16  # of payloads, and of what bytes are moved by: accessors need 4, blocks and words of textures up to 16

Span = tuple[int, int]  # first byte, and the one behind the last


def cuts_of(payload: bytes, gone: Sequence[Span], live: Sequence[Span]) -> list[Span]:
    """What is in `gone` and not in `live`, with zeros behind it that only fill up; ascending, none touches another."""
    live = _joined(live)
    cuts = []
    for start, end in _joined(gone):
        for first, last in _joined([span for span in live if span[0] < end and span[1] > start]):
            if first > start:
                cuts.append((start, first))
            start = max(start, last)
        if start < end:
            cuts.append((start, end))
    starts = [start for start, _ in live] + [len(payload)]
    filled = []
    for start, end in cuts:
        limit = min(starts[bisect.bisect_left(starts, end)], end + ALIGNMENT - 1)
        filled.append((start, limit if end < limit and not any(payload[end:limit]) else end))
    return _joined(filled)


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The same bytes in spans that do not touch, ascending."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _removed(cut: Span) -> int:
    """How many bytes of a cut go: what is behind it moves by a multiple of ALIGNMENT."""
    return (cut[1] - cut[0]) // ALIGNMENT * ALIGNMENT


def shifted(offset: int, cuts: Sequence[Span]) -> int:
    """Where a byte lies that is in none of the cuts, once they are made."""
    return offset - sum(_removed(cut) for cut in cuts if cut[1] <= offset)


def without(payload: bytes, cuts: Sequence[Span]) -> list[bytes]:
    """The pieces of a buffer that are left; what stays of a cut, fewer than ALIGNMENT bytes, is zeros."""
    pieces, place = [], 0
    for start, end in cuts:
        pieces += [payload[place:start], bytes(0 if end == len(payload) else end - start - _removed((start, end)))]
        place = end
    return [*pieces, payload[place:]]
