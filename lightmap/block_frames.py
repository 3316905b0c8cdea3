"""The frames of a day as engines ship them: block-compressed, BC1 and BC7, and BC6H for HDR light.

The encoder and the decoder are optional packages (requirements/lightmap.txt); without them only bytes are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.errors import UserError
from formats.dds import BLOCK_BYTES
from lightmap.data import Day, HalfHours, Numbers, unit
from lightmap.evaluation import BLOCK, Blocks, Sample, Stack, blended, score

ADVICE = "pip install -r requirements/lightmap.txt"
LARGEST_HALF = 65504.0  # of float16, which BC6H encoders read


@dataclass(frozen=True)
class BlockForm:
    """A block format for the frames of a day. of_encoding: it holds HDR light as codes of the day's encoding."""

    name: str
    title: str
    codec: str  # of transcode.codecs.encode_blocks
    of_encoding: bool = False

    def bytes_of(self, day: Day) -> int:
        """Bytes of all frames, without mips and headers."""
        blocks = -(-day.height // BLOCK) * -(-day.width // BLOCK)
        return blocks * BLOCK_BYTES[self.codec] * day.n_frames


def block_forms(day: Day) -> list[BlockForm]:
    """Those that hold such a day; the first is the usual one."""
    if not day.encoding.hdr:
        return [BlockForm("bc7", "frames as BC7", "bc7"), BlockForm("bc1", "frames as BC1", "bc1")]
    return [
        BlockForm("bc6h", "frames as BC6H", "bc6h"),
        BlockForm("bc7_log", "frames, log encoded, as BC7", "bc7", True),
        BlockForm("bc1_log", "frames, log encoded, as BC1", "bc1", True),
    ]


def missing_codec() -> str | None:
    """Why blocks cannot be encoded or decoded here; None if they can."""
    try:
        import imagecodecs  # noqa: F401

        from transcode.codecs import block_encoder

        block_encoder()
    except UserError as error:
        return str(error).partition(";")[0]
    except ImportError as error:
        return f"{error}"
    return None


def block_scores(
    form: BlockForm, sample: Sample, half: HalfHours | None, tick: Callable[[], Any] = lambda: None
) -> dict[str, Any]:
    """evaluation.score of the frames after encoding and decoding the sample's blocks, which are independent of others.

    Half-hours are the blend of the decoded frames. tick: called for each frame.
    """
    day = sample.day
    decoded = _round_trip(form, day, sample.blocks, tick)[sample.inside].flatten(1)
    bright = None
    if len(sample.bright):
        blocks, index = _blocks_around(day, sample.bright)
        bright = _round_trip(form, day, blocks)[torch.arange(len(blocks)), index].flatten(1)
    return score(decoded, blended(decoded), bright, sample, half)


def _blocks_around(day: Day, texels: Numbers) -> tuple[Blocks, Numbers]:
    """The block that each texel lies in, and its place there."""
    x, y = texels % day.width, texels // day.width
    steps = torch.arange(BLOCK)
    across = ((x // BLOCK * BLOCK)[:, None] + steps).clamp(max=day.width - 1)
    down = ((y // BLOCK * BLOCK)[:, None] + steps).clamp(max=day.height - 1)
    return (down[:, :, None] * day.width + across[:, None]).flatten(1), y % BLOCK * BLOCK + x % BLOCK


def _round_trip(form: BlockForm, day: Day, blocks: Blocks, tick: Callable[[], Any] = lambda: None) -> Stack:
    """(blocks, 16, frames, 3) encoded values in [0, 1] of the blocks, after their codec."""
    found = torch.empty(*blocks.shape, day.n_frames, 3)
    for frame in range(day.n_frames):
        tick()
        values = unit(day.frames[:, frame][blocks]).numpy()
        if form.codec == "bc6h":
            light = day.encoding.decode(values).clip(0, LARGEST_HALF).astype(np.float16)
            back = day.encoding.encode(_decoded("bc6h", light).astype(np.float32))
        else:
            back = _decoded(form.codec, np.floor(values * 255 + np.float32(0.5)).astype(np.uint8)) / np.float32(255)
        found[:, :, frame] = torch.from_numpy(np.ascontiguousarray(back, np.float32))
    return found


def _decoded(codec: str, texels: np.ndarray) -> np.ndarray:
    """(blocks, 16, 3) texels after encoding and decoding, of the same type."""
    import imagecodecs

    from transcode.codecs import encode_blocks

    count = len(texels)
    strip = texels.reshape(count, BLOCK, BLOCK, 3).swapaxes(0, 1).reshape(BLOCK, count * BLOCK, 3)  # a row of blocks
    payload = encode_blocks(codec, np.ascontiguousarray(strip))
    channels = 3 if codec == "bc6h" else 4
    back = imagecodecs.bcn_decode(payload, int(codec[2]), shape=(BLOCK, count * BLOCK, channels))
    back = back.reshape(BLOCK, count, BLOCK, channels)[..., :3]
    return back.swapaxes(0, 1).reshape(count, BLOCK**2, 3)
