"""The source of a viewer page where it is a model's material."""

from __future__ import annotations

import pytest

import train
from common.errors import UserError
from formats.manifest import read_manifest
from groups.journal import read_record
from tests.support.models import encoded, orm_images, pixels, whole, write_model
from tests.support.runs import QUICK, offline
from training.source import find_source
from viewer.page import write_viewer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of two materials and the folder of their batch."""
    folder = tmp_path_factory.mktemp("viewer")
    second = {"name": "Rust/1", "normalTexture": {"index": 1}}
    path = write_model(folder, [whole(), second], [*orm_images(), encoded(pixels(seed=9))])
    flags = ["--data_dir", path, "--save_dir", folder / "out", "--max_iter", 4, "--refine", 0, "--eval_metrics", "psnr"]
    with offline():
        assert train.main([*QUICK, *map(str, flags)]) == 0
    return path, folder / "out" / "m.glb"


@pytest.mark.parametrize("name", ["Wood", "Rust_1"])
def test_the_source_is_found_and_can_be_given(name, trained):
    path, out = trained
    export = read_record(out / name).checkpoint(out / name)
    material = read_manifest(export).material
    for given in (None, path, path / name):
        source, why_not = find_source(export, material, given, 2**20)
        assert why_not == "" and source.origin == material.origin
    with pytest.raises(UserError, match=r"other\.glb"):
        find_source(export, material, path.with_name("other.glb"), 2**20)


def test_a_page_of_all_materials(trained, tmp_path, capsys):
    path, out = trained
    for given in (None, path):
        assert write_viewer(tmp_path / "page.html", out, -1, given, None, 2**20) == 0
        assert capsys.readouterr().out.count("source embedded at 12x8") == 2
