"""parallel.py: a map in threads that keeps the order, bounds what is waiting, and hands errors on."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import torch

from common.parallel import map_threads


@pytest.mark.parametrize("threads, limit", [(1, None), (2, None), (3, None), (4, 2), (4, 1)])
@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_the_order_is_that_of_the_items(threads, limit, count):
    torch.set_num_threads(threads)

    def slow_for_some(i):
        time.sleep(0.002 * (i % 3 == 0))
        return i * i

    assert list(map_threads(slow_for_some, iter(range(count)), limit)) == [i * i for i in range(count)]


def test_it_runs_in_as_many_threads_as_pytorch_has():
    torch.set_num_threads(3)
    together = threading.Barrier(3, timeout=20)  # breaks unless three wait at the same time
    assert len(list(map_threads(lambda _: together.wait(), range(6)))) == 6


@pytest.mark.parametrize("threads, limit", [(1, None), (4, 1)])
def test_one_thread_is_the_callers(threads, limit):
    torch.set_num_threads(threads)
    assert set(map_threads(lambda _: threading.get_ident(), range(5), limit)) == {threading.get_ident()}


def test_few_results_wait_to_be_taken():
    """Memory stays bounded: an endless list of images would do."""
    torch.set_num_threads(2)
    started = []
    results = map_threads(lambda i: started.append(i) or i, itertools.count())
    for taken in range(1, 20):
        assert next(results) == taken - 1
        assert len(started) <= taken + 2
    results.close()


def test_an_error_comes_where_its_result_would_have_come():
    torch.set_num_threads(2)

    def fail_at_2(i):
        if i == 2:
            raise ValueError("two")
        return i

    results = map_threads(fail_at_2, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
