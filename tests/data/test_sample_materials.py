"""data/: the committed files are what the script makes, tile, and are what data/README.md says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from data import make_test_material as script
from dataset import load_material
from tests.support.paths import ROOT

LEAVES = ROOT / "data" / "test_leaves"


def read(path: Path) -> np.ndarray:
    """The codes of a PNG, or the float16 values of an EXR."""
    if path.suffix == ".exr":
        return OpenEXR.File(str(path)).channels()["RGB"].pixels
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("name", list(script.MATERIALS))
def test_the_committed_files_are_what_the_script_makes(name, tmp_path):
    """But for the last bit of some texels, which depends on numpy's version."""
    assert script.main(["--material", name, "--out", str(tmp_path)]) == 0
    committed = ROOT / script.MATERIALS[name][3]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in committed.iterdir())
    for path in sorted(tmp_path.iterdir()):
        made, kept = read(path), read(committed / path.name)
        assert made.shape == kept.shape and made.dtype == kept.dtype
        if made.dtype == np.float16:
            assert np.allclose(made.astype(float), kept.astype(float), rtol=0.01, atol=1e-3)
        else:
            off = np.abs(made.astype(int) - kept.astype(int))
            assert off.max() <= 2 and (off > 0).mean() < 0.01, path.name


def test_the_same_seed_is_the_same_ivy(tmp_path):
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert script.main(["--material", "leaves", "--size", "32", "--seed", str(seed),
                            "--out", str(tmp_path / folder)]) == 0  # fmt: skip
    for path in (tmp_path / "a").iterdir():
        payloads = [(tmp_path / folder / path.name).read_bytes() for folder in "abc"]
        assert payloads[0] == payloads[1] != payloads[2]


def test_leaves_have_what_real_exports_have():
    assert sum(path.stat().st_size for path in LEAVES.iterdir()) < 2e6
    albedo, glow = read(LEAVES / "Leaves_Albedo.png"), read(LEAVES / "Leaves_Emissive.exr").astype(np.float64)
    assert albedo.shape == (512, 512, 4) and glow.shape == (512, 512, 3)
    alpha = albedo[..., 3]
    assert not albedo[alpha == 0][:, :3].any() and albedo[alpha == 255][:, :3].any()
    assert 0.3 < alpha.mean() / 255 < 0.5 and ((alpha > 0) & (alpha < 255)).mean() < 0.07
    assert glow.min() == 0 and glow.max() == 50 and (glow.max(axis=2) > 1).mean() > 0.005
    assert not glow[alpha == 0].any()
    normal = read(LEAVES / "Leaves_NormalGL.png") / 127.5 - 1
    assert np.abs(np.linalg.norm(normal, axis=2) - 1).max() < 0.01
    edge = albedo[(alpha > 0) & (alpha < 128)][:, :3].mean()
    assert edge > 0.6 * albedo[alpha == 255][:, :3].mean(), "edges are not darkened by the black around them"


@pytest.mark.parametrize("path", sorted([*LEAVES.iterdir(), *(ROOT / "data" / "test").iterdir()]),
                         ids=lambda path: path.name)  # fmt: skip
@pytest.mark.parametrize("axis", [0, 1])
def test_they_tile(path, axis):
    """The step over the border is like those within."""
    pixels = np.minimum(read(path).astype(np.float64), 1 if path.suffix == ".exr" else 255)
    steps = np.abs(pixels - np.roll(pixels, 1, axis)).reshape(*pixels.shape[:2], -1).mean(axis=(1 - axis, 2))
    assert steps[0] < np.quantile(steps, 0.99) * 1.5 + 1e-9


@pytest.mark.parametrize("arguments", [["--size", "8"], ["--seed", "-1"], ["--material", "roof"]])
def test_wrong_flags(arguments):
    with pytest.raises(SystemExit):
        script.main(arguments)


def test_the_toolkit_finds_opacity_and_glow():
    material = load_material(str(LEAVES))
    assert material.present == ("diffuse", "normal", "roughness", "opacity", "emissive")
    assert material.normal_convention == "gl" and material.file_color_space["emissive"] == "linear"
    assert np.array_equal(material.file_codes(0, "opacity")[..., 0], read(LEAVES / "Leaves_Albedo.png")[..., 3])
