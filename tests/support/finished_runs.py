"""Fixtures: a small material, a run of it that has finished, and a copy of that run to break."""

from __future__ import annotations

import shutil

import pytest

from tests.support.runs import quick, save_maps


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return save_maps(tmp_path_factory.mktemp("maps"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, maps):
    """A run folder with checkpoints at 10 and 20 of 20 iterations."""
    save_dir = tmp_path_factory.mktemp("outputs")
    return quick("--data_dir", maps, "--save_dir", save_dir, "--max_iter", 20, "--save_interval", 10)


@pytest.fixture
def run(finished, tmp_path):
    """A copy to break."""
    return shutil.copytree(finished, tmp_path / "out" / finished.name)
