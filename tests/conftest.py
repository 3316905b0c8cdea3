"""What every test gets: a fixed seed, one thread, small materials, and a check of errors meant for users."""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import contextlib

import numpy as np
import pytest
import torch

from common.errors import UserError
from dataset import Material
from engine.cpu import engine as cpu_engine
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from maps.channels import MAPS
from tests.support.browser import (
    LIMIT_S,
    browser,  # noqa: F401  # fixtures of the tests of pages
    open_browsers,  # noqa: F401  # fixtures of the tests of pages
)
from tests.support.exports import (
    folder,  # noqa: F401  # fixtures of the tests of exports
    shipped,  # noqa: F401  # fixtures of the tests of exports
    shipped_blocks,  # noqa: F401  # fixtures of the tests of exports
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)  # arrays here are tiny: two threads on a busy machine with two cores take 20 times as long


@pytest.fixture(autouse=True, scope="session")
def _short_chunks():
    """Runs here have some dozens of iterations: chunks as short as the torch engine's let them meet their borders."""
    before, cpu_engine.CHUNKS = cpu_engine.CHUNKS, (25,)
    yield
    cpu_engine.CHUNKS = before


def pytest_configure(config):
    """pytest-xdist takes the files with the most tests first: those with few and long ones, such as tests/commands, are
    then left to one worker at the end. In their own order they come among the first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_sessionstart(session):
    """Compile the kernels before the workers start: the first test that needs them has a minute, like any other."""
    if not hasattr(session.config, "workerinput"):
        with contextlib.suppress(KernelsUnavailable):
            load_kernels()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))  # kernels are compiled
        if "open_browsers" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(3 * LIMIT_S))  # the fixture's own limit comes first


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def make_material():
    """make_material(width, height, present=..., seed=0): a Material of smooth and of noisy uint8 maps."""

    def make(width, height, present=("diffuse", "normal", "roughness"), seed=0) -> Material:
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        arrays = {}
        for name in present:
            planes = []
            for channel in range(MAPS[name]):
                turns = 2 * np.pi * ((1 + channel) * x / width + (2 - channel) * y / height + random.random())
                planes.append(127.5 + 70 * np.sin(turns) + random.uniform(-50, 50, (height, width)))
            arrays[name] = np.stack(planes, axis=2).round().astype(np.uint8)
        return Material.from_arrays("made", arrays)

    return make


@pytest.fixture
def refused():
    """with refused() as caught: ... must raise a UserError of one line that says something."""

    @contextlib.contextmanager
    def check(*words):
        with pytest.raises(UserError) as caught:
            yield caught
        message = str(caught.value)
        assert len(message) > 10 and len(message.splitlines()) == 1, repr(message)
        for word in words:
            assert word in message

    return check
