"""Opens the frames of a training run: every file is read and checked before the first step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import Say, UserError, quote
from common.events import progress_bar, readable_bytes
from common.memory import free_memory
from common.parallel import map_threads
from deferred.dataset.frames import CACHE_BYTES, Facts, FrameCache, FrameSet
from deferred.dataset.uv_maps import TOP, UINT16_TEXELS, Background, parse_background
from deferred.options import TrainOptions, cache_gib

MEMORY_SHARE = 0.5  # of what is free, for --cache auto; the model and the system need the rest
CONSTANT_SHARE = 0.05  # of a frame's pixels that have one uv, from which it looks like a background
CHECKERS = 8  # threads at most, each with a whole frame in floats
CORNERS = frozenset((u, v) for u in (0.0, 1.0) for v in (0.0, 1.0))  # which renderers leave where they drew nothing


def cache_bytes(wanted: str) -> int:
    """The bytes of --cache. Raises: UserError."""
    size = cache_gib(wanted, "--cache")
    if size is not None:
        return int(size * 2**30)
    free = free_memory()
    return CACHE_BYTES if free is None else int(MEMORY_SHARE * free)


def open_frames(
    folder: Path, train: Sequence[int], val: Sequence[int], options: TrainOptions, say: Say = print
) -> tuple[FrameSet, FrameSet | None]:
    """The frames to train on and the held-out ones, all of them checked, their images in one cache.

    What the user may not know of is said: background, alpha, uv too coarse for the texture, a cache that is too small.

    Raises: UserError naming the first file that is bad, or the flag whose frames show no surface.
    """
    background, cache = parse_background(options.background_uv), FrameCache(cache_bytes(options.cache))
    sets = {flag: FrameSet(folder, ids, background=background, alpha=options.alpha, cache=cache)
            for flag, ids in (("--train", train), ("--val", val)) if ids or flag == "--train"}  # fmt: skip
    facts = {flag: inspect_all(frames) for flag, frames in sets.items()}
    every = [found for group in facts.values() for found in group.values()]
    if options.background_uv == "auto":
        background = _find_background(every, say)
        for frames in sets.values():
            frames.background = background
    for flag, group in facts.items():
        if not any(_surface(found, background) > 0 for found in group.values()):
            raise UserError(f"{flag}: expected frames of {quote(folder)} with a surface, found {len(group)} whose uv "
                            f"is NaN or negative everywhere{_reasons(group, background)}; name others, or prepare them "
                            "again")  # fmt: skip
    _say_alpha(every, say)
    _say_precision(every, max(options.texturew or 0, options.textureh or 0), say)
    if len(cache) < len(every):
        say(f"note: {len(cache)} of {len(every)} decoded images fit into a cache of {readable_bytes(cache.n_bytes)}, "
            "the others are decoded in every epoch; --cache GIB makes it larger, --num_workers decodes in more threads")
    return sets["--train"], sets.get("--val")


def inspect_all(frames: FrameSet) -> dict[int, Facts]:
    """FrameSet.inspect of every frame, in threads and with a progress bar. Raises: UserError."""
    found = {}
    with progress_bar(len(frames), 0) as bar:
        bar.set_description("checking")
        for number, facts in zip(frames.ids, map_threads(frames.inspect, frames.ids, CHECKERS)):
            found[number] = facts
            bar.update(1)
    return found


# --- what is said --------------------------------------------------------------------------------------------------


def _find_background(facts: Sequence[Facts], say: Say) -> Background | None:
    """The corner of the texture that is no surface, if there is such; said, as is any other uv that looks like it."""
    shares: Mapping[Background, list[float]] = defaultdict(list)
    for found in facts:
        if found.constant is not None and found.constant[1] >= CONSTANT_SHARE:
            shares[found.constant[0]].append(found.constant[1])
    place, own = max(shares.items(), key=lambda item: len(item[1]), default=(None, []))
    if place is None or 2 * len(own) < len(facts):
        return None
    text = f"{place[0]:.6g},{place[1]:.6g}"
    what = f"uv is exactly ({text.replace(',', ', ')}) in {sum(own) / len(own):.0%} of the pixels of {len(own)} of " \
           f"{len(facts)} frames"  # fmt: skip
    if place in CORNERS:
        say(f"note: {what}; that is taken as background, not as surface (--background_uv none: as surface)")
        return place
    say(f'note: {what}, and is trained as surface; if it is background, give --background_uv "{text}"')
    return None


def _surface(found: Facts, background: Background | None) -> float:
    """The share of a frame that is surface once a background is known."""
    gone = found.constant is not None and found.constant[0] == background
    return found.surface - (found.constant[1] if gone else 0)


def _reasons(group: Mapping[int, Facts], background: Background | None) -> str:
    alpha = any(found.transparent > 0 for found in group.values())
    corner = background is not None and any(found.surface > 0 for found in group.values())
    return (", or whose alpha is below 1/2 (--alpha False ignores it)" if alpha else "") + (
        f", or is the background's {background} (--background_uv none)" if corner else ""
    )


def _say_alpha(facts: Sequence[Facts], say: Say) -> None:
    gone = [found.transparent for found in facts if found.transparent > 0]
    if gone:
        say(f"note: the alpha of {len(gone)} of {len(facts)} images is below 1/2 where uv has a surface, in "
            f"{sum(gone) / len(gone):.1%} of their pixels; these count as background (--alpha False: as surface)")


def _say_precision(facts: Sequence[Facts], texels: int, say: Say) -> None:
    if texels > UINT16_TEXELS and any(found.short_uv for found in facts):
        say(f"note: uv maps of 16 bits resolve {texels / TOP:.2g} texels of a texture of {texels}; prepare them with "
            "--uv_type float32 for a finer one")  # fmt: skip
