"""Threads for work that holds no lock of Python's: zlib, image decoders, numpy and OpenCV on whole bands of rows.

PyTorch is left out of it: it has threads of its own, one team for each thread that calls it.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from common.cores import usable_cores

Item = TypeVar("Item")


def map_threads(function: Callable[[Item], Any], items: Iterable[Item], limit: int | None = None) -> Iterator[Any]:
    """map(function, items), computed ahead in as many threads as PyTorch has (--num_threads).

    Results come in the order of `items`. Never more than that many are computed or waiting to be taken, so that memory
    is bounded however long `items` is. An exception of `function` is raised where its result would have come.

    Args:
        limit: at most so many threads; 1, or one thread of PyTorch's, computes in the caller's own.
    """
    torch = sys.modules.get("torch")  # where nothing has imported it, nobody has told it how many threads to have
    workers = usable_cores() if torch is None else torch.get_num_threads()
    workers = workers if limit is None else min(limit, workers)
    items = iter(items)
    first = list(itertools.islice(items, 2))
    items = itertools.chain(first, items)
    if workers < 2 or len(first) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(function, item) for item in itertools.islice(items, workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
        finally:
            for future in waiting:
                future.cancel()
