"""--maps, maps.yaml and --size: what the user says comes before what names say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

import train
from common.errors import run_command
from configs import make_config
from dataset import load_material
from tests.support.map_images import failure, folder, randoms, write  # noqa: F401  # fixture

# ruff: noqa: F811  # fixtures are imported


@pytest.fixture
def odd(folder):
    """Files whose names say nothing, and one whose name says something wrong."""
    write(folder / "one.png", randoms((4, 6, 3), seed=1))
    write(folder / "pack,1.png", randoms((4, 6, 4), seed=2))
    write(folder / "wall_normal.png", randoms((4, 6), seed=3))
    return folder


def check(material):
    folder = randoms((4, 6, 4), seed=2)
    assert material.present == ("diffuse", "roughness", "occlusion", "displacement")
    assert np.array_equal(material.stored(0, "diffuse"), randoms((4, 6, 3), seed=1))
    assert np.array_equal(material.stored(0, "roughness")[..., 0], 255 - folder[..., 3])
    assert np.array_equal(material.stored(0, "occlusion")[..., 0], folder[..., 1])
    assert np.array_equal(material.stored(0, "displacement")[..., 0], randoms((4, 6), seed=3))
    assert material.files["occlusion"] == "pack,1.png:G" and material.warnings == []


def test_by_flag(odd):
    text = "diffuse=one.png, gloss=pack,1.png:a,occlusion=pack,1.png:G,displacement=wall_normal.png"
    check(load_material(odd, by_hand=text))


def test_by_file(odd):
    (odd / "maps.yaml").write_text("""
diffuse: one.png
smoothness: "pack,1.png:a"
occlusion: "pack,1.png:g"
displacement: wall_normal.png
""")
    check(load_material(odd))


def test_what_is_not_named_is_recognised(odd):
    write(odd / "wall_ao.png", randoms((4, 6)))
    assert load_material(odd, by_hand="diffuse=one.png,normal=none").present == ("diffuse", "occlusion")
    write(odd / "wall_color.png", randoms((4, 6, 3)))
    write(odd / "wall_albedo.png", randoms((4, 6, 3)))  # two files for one map: the flag is the way out
    assert "--maps" in failure(lambda: load_material(odd, by_hand="normal=none"))
    assert load_material(odd, by_hand="normal=none,diffuse=wall_color.png").files["diffuse"] == "wall_color.png"


@pytest.mark.parametrize(
    "text, word",
    [
        ("one.png", "MAP=FILE"), ("diffuse=", "MAP=FILE"), ("difuse=one.png", "did you mean 'diffuse'"),
        ("diffuse=two.png", "two.png"), ("diffuse=../Wood/one.png", "found none"),
        ("diffuse=one.png,diffuse=one.png", "two"),
        ("gloss=one.png,roughness=one.png", "two"), ("roughness=wall_normal.png:a", "alpha"),
        ("roughness=wall_normal.png:g", "grey"),
    ],
)  # fmt: skip
def test_refused(odd, text, word):
    from common.errors import UserError

    with pytest.raises(UserError) as caught:
        load_material(odd, by_hand=text)
    assert word in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["diffuse: [1]", "- one", "diffuse: {", "wood: one.png"])
def test_bad_file(odd, content, refused):
    (odd / "maps.yaml").write_text(content)
    with refused("maps.yaml"):
        load_material(odd)


def test_maps_alone_says_what_each_file_is(odd, capsys, tmp_path):
    write(odd / "wall_rough_ao.png", randoms((4, 6, 3)))
    before = sorted(odd.iterdir())
    (odd / "wall_normal.png").unlink()
    assert run_command(lambda: train.main(["--data_dir", str(odd), "--maps"])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("wall_rough_ao.png" in line and "roughness in R" in line and "occlusion in G" in line for line in lines)
    assert any(line.startswith("one.png") and "no keyword" in line for line in lines)
    assert sorted(odd.iterdir()) == [path for path in before if path.name != "wall_normal.png"]


@pytest.mark.parametrize("size, wanted", [("", (2, 2)), ("largest", (8, 4)), ("5x3", (5, 3))])
def test_size(folder, size, wanted):
    PillowImage.fromarray(randoms((2, 2, 3))).save(folder / "a_albedo.png")
    PillowImage.fromarray(randoms((4, 8))).save(folder / "a_rough.png")
    material = load_material(folder, size=size)
    assert (material.width, material.height) == wanted
    shrunk = [note for note in material.warnings if "; --size largest" in note]
    assert len(shrunk) == (1 if not size else 0)


@pytest.mark.parametrize("size", ["5", "0x4", "5x", "large", "5x5x5", "-1x4"])
def test_bad_size(size, refused):
    with refused("--size", "WxH"):
        make_config({"size": size})
