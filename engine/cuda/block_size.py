"""How many samples a program of the training kernel computes together."""

from __future__ import annotations

BLOCKS = (64, 32, 16)  # tl.dot needs 16


def block_size(batch: int, processors: int) -> int:
    """The smallest of BLOCKS that needs no more turns than the largest, with one program per processor.

    A batch of 2048 is 32 blocks of 64, which would leave 100 of 132 processors idle, or 128 blocks of 16.
    """

    def turns(block: int) -> int:
        return -(-batch // (block * processors))

    return min(block for block in BLOCKS if turns(block) == turns(BLOCKS[0]))
