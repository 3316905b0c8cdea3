"""Photographs as people have them, and maps larger than the network was trained for."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from PIL import ImageOps

from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import TrainConfig, apply_overrides, finalize
from neuropbr.utils.checkpoints import save_checkpoint
from neuropbr.utils.inference import predict_fitted
from neuropbr.utils.maps import MAPS, read_rgb, resized, unit
from neuropbr.utils.photographs import fit_views, only_inside, read_photograph, three_pictures
from neuropbr.utils.tiles import places, predict_large
from tests.support import neuropbr_tools as tools


def picture(width, height, seed=0):
    """A smooth picture that no turn or mirroring maps to itself."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    waves = [0.5 + 0.3 * np.sin(3 * x + 5 * y + c + seed) + 0.2 * (x > y) for c in range(3)]
    return PillowImage.fromarray((np.stack(waves, -1).clip(0, 1) * 255).astype(np.uint8))


def tensor(image):
    return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255).permute(2, 0, 1)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path, suffix, orientation):
    """As Pillow turns them, another reader of the tag."""
    path, exif = tmp_path / f"a.{suffix}", PillowImage.Exif()
    exif[0x0112] = orientation
    picture(23, 14).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with PillowImage.open(path) as stored:
        want = tensor(ImageOps.exif_transpose(stored))
    got = read_photograph(path)
    assert got.shape == want.shape and float((got - want).abs().max()) < 0.03


def test_grey_and_deep_pictures_are_read(tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    PillowImage.fromarray(values).save(tmp_path / "deep.png")
    got = read_photograph(tmp_path / "deep.png")
    assert got.shape == (3, 3, 4) and torch.allclose(got[1], torch.from_numpy(values.astype(np.float32)) / 65535)


def test_three_are_taken_in_order_and_more_are_said(tmp_path, refused):
    for name in ("c.webp", "A.JPG", "b.png", "d.tiff"):
        picture(8, 8).save(tmp_path / name)
    for name in (".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    said = []
    assert [path.name for path in three_pictures(tmp_path, said.append)] == ["A.JPG", "b.png", "c.webp"]
    assert len(said) == 1 and "4 pictures" in said[0] and "A.JPG, b.png, c.webp" in said[0]
    (tmp_path / "d.tiff").unlink()
    assert three_pictures(tmp_path, said.append) and len(said) == 1
    (tmp_path / "b.png").unlink()
    with refused("found 2 among 3 files"):
        three_pictures(tmp_path)
    with refused("none"):
        three_pictures(tmp_path / "no")


def test_heic_without_its_package_is_said(tmp_path, monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with refused("requirements/neuropbr-heic.txt"):
        read_photograph(tmp_path / "IMG_1.HEIC")


def test_heic(tmp_path, refused):
    heif = pytest.importorskip("pillow_heif", reason="not installed (pip install -r requirements/neuropbr-heic.txt)")
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    stored = picture(60, 40)
    heif.from_pillow(stored).save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    upright = stored.transpose(PillowImage.Transpose.ROTATE_270)
    got = read_photograph(tmp_path / "a.heic")
    assert got.shape == (3, 60, 40) and float((got - tensor(upright)).abs().mean()) < 0.02
    (tmp_path / "b.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with refused("b.heic"):
        read_photograph(tmp_path / "b.heic")


# --- proportions ---------------------------------------------------------------------------------------------------


def test_views_of_any_size_are_fitted_alike():
    pictures = [tensor(picture(90, 60)), tensor(picture(180, 120)), tensor(picture(31, 47))]
    cut = fit_views(pictures, (30, 30), "crop")
    assert cut.inside == (1, 1) and len(cut.notes) == 3 and "90x60" in cut.notes[0] and "60x60" in cut.notes[0]
    for fitted, whole in zip(cut.views, pictures):
        height, width = whole.shape[-2:]
        side = min(height, width)
        middle = whole[:, (height - side) // 2 :, (width - side) // 2 :][:, :side, :side]
        assert torch.allclose(fitted, resized(middle, (30, 30)), atol=1e-5)
    padded = fit_views(pictures, (90, 90), "pad")
    assert torch.allclose(padded.views[0][:, 15:75], pictures[0], atol=1e-5)
    assert torch.allclose(padded.views[0][:, 14], pictures[0][:, 0]) and padded.inside == (60 / 90, 1)
    assert only_inside({"albedo": padded.views[0]}, padded.inside)["albedo"].shape == (3, 60, 90)
    assert not fit_views(pictures[:1], (6, 9), "crop").notes


def test_a_panorama_is_mirrored_as_often_as_it_takes():
    row = torch.arange(3.0).reshape(1, 3, 1).expand(3, 3, 40) / 2
    tall = fit_views([row], (40, 40), "pad").views[0][0, :, 0] * 2
    steps = tall.diff()
    assert tall.shape == (40,) and set(steps.tolist()) == {-1.0, 0.0, 1.0}


# --- tiles ---------------------------------------------------------------------------------------------------------


def by_texel(ratio=1):
    """A network without context: each texel of the maps follows from that texel of the views alone."""

    def predict(views):
        grown = torch.nn.functional.interpolate(views[:, 0], scale_factor=ratio, mode="area")
        tilt = torch.cat([grown[:, :2] - 0.5, torch.ones_like(grown[:, :1])], 1)
        return {"albedo": grown, "roughness": grown[:, :1], "metallic": grown[:, 1:2] ** 2, "normal": unit(tilt, 1)}

    return predict


@pytest.mark.parametrize("ratio, size, tile", [
    (1, (50, 50), (32, 32)), (2, (33, 33), (32, 32)), (0.5, (66, 100), (32, 32)), (1, (90, 61), (24, 16)),
])  # fmt: skip
def test_tiles_of_a_network_without_context_are_what_it_says_at_once(ratio, size, tile):
    torch.manual_seed(0)
    views = torch.rand(3, 3, *size)
    predict = by_texel(ratio)
    whole = predict(views[None])
    small = predict(torch.nn.functional.interpolate(views, tile, mode="bilinear", antialias=True)[None])
    got = predict_large(predict, views, small, tile, quiet=True)
    for name in MAPS:
        linear = name in ("albedo", "roughness")  # of the others the small picture's coarse part is not quite the same
        assert got[name].shape == whole[name][0].shape
        most = (1e-5 if ratio == 1 else 0.1) if linear else 0.3
        assert float((got[name] - whole[name][0]).abs().max()) < most, name


def test_tiles_cover_all_and_overlap_by_a_quarter():
    for tile in (16, 128):
        for side in (tile, tile + 1, 2 * tile - 3, 5 * tile + 7):
            starts = places(side, tile, 1)
            assert starts[0] == 0 and starts[-1] == side - tile
            assert all(b - a <= tile - tile // 4 + 1 for a, b in zip(starts, starts[1:]))
    assert places(66, 32, 2)[-1] == 34 and not any(start % 2 for start in places(66, 32, 2))


def seam_ratio(values, starts, tile):
    """Steps across the borders of tiles in those of everywhere else; values (C, H, W), of a smooth picture."""
    steps = values.diff(dim=-1).abs().mean((0, 1))
    borders = [x - 1 for start in starts for x in (start, start + tile) if 0 < x < values.shape[-1]]
    elsewhere = [x for x in range(len(steps)) if x not in borders]
    return float(steps[borders].mean() / steps[elsewhere].mean())


def test_no_seams_though_tiles_disagree():
    """A network whose tiles differ in what is even over all of a tile, and which is wrong at its border."""
    count = iter(range(10**6))

    def predict(views):
        maps = by_texel()(views)
        edge = torch.zeros(views.shape[-2:])
        edge[[0, -1]] = edge[:, [0, -1]] = 0.3
        for sample in range(len(views)):
            maps["albedo"][sample] += edge + 0.1 * (next(count) % 3 - 1)
        return maps

    views = torch.stack([tensor(picture(160, 160))] * 3) * 0.4 + 0.2
    views = torch.nn.functional.avg_pool2d(views, 31, 1, 15, count_include_pad=False)
    starts = places(160, 64, 1)
    whole = by_texel()(torch.nn.functional.interpolate(views, (64, 64), mode="bilinear", antialias=True)[None])
    albedo = predict_large(predict, views, whole, (64, 64), quiet=True)["albedo"]
    assert seam_ratio(albedo[:, 1:-1, 1:-1], [start - 1 for start in starts], 64) < 1.25
    wrong = (albedo - views[0])[:, 2:-2, 2:-2].abs()
    assert float(wrong.mean()) < 0.02 and float(wrong.max()) < 0.1  # tiles alone: 0.07 on average


def test_large_maps_take_no_more_of_the_network_than_a_batch_of_tiles(monkeypatch):
    seen = []

    def predict(views):
        seen.append(tuple(views.shape))
        return by_texel()(views)

    monkeypatch.setattr("neuropbr.utils.tiles.BATCH_PIXELS", 3 * 32 * 32)
    views = torch.rand(3, 3, 100, 100)
    predict_large(predict, views, by_texel()(views[:, :, :32, :32][None]), (32, 32), quiet=True)
    assert {shape[1:] for shape in seen} == {(3, 3, 32, 32)} and max(shape[0] for shape in seen) == 3
    assert sum(shape[0] for shape in seen) == 16


@pytest.mark.parametrize("fit, wanted, size", [
    ("crop", None, (48, 48)), ("pad", None, (48, 72)), ("crop", 100, (100, 100)), ("pad", 101, (67, 101)),
    ("crop", 20, (20, 20)), ("crop", 0, (32, 32)),
])  # fmt: skip
def test_the_size_of_the_maps(fit, wanted, size):
    pictures = [tensor(picture(72, 48, seed)) for seed in range(3)]
    _, maps = predict_fitted(by_texel(), pictures, (32, 32), fit, wanted, lambda line: None)
    assert all(tuple(values.shape[-2:]) == size for values in maps.values()), maps["albedo"].shape
    if fit == "pad":
        want = resized(pictures[0], size)
        assert float((maps["albedo"] - want).abs().mean()) < 0.02
    assert torch.allclose(maps["normal"].norm(dim=0), torch.ones(size), atol=1e-4)


def test_small_photographs_give_maps_of_the_training_and_very_large_ones_say_so():
    said = []
    small = [tensor(picture(9, 12))] * 3
    assert predict_fitted(by_texel(), small, (32, 32), "crop", None, said.append)[1]["albedo"].shape[-1] == 32
    said.clear()
    large = [tensor(picture(300, 300))] * 3
    assert predict_fitted(by_texel(), large, (32, 32), "crop", None, said.append)[1]["albedo"].shape[-1] == 128
    assert len(said) == 1 and "--size 300" in said[0]


# --- commands ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network as it starts."""
    torch.manual_seed(0)
    config = TrainConfig()
    apply_overrides(config, [word for word in tools.sets(data__image_size=32) if word != "--set"])
    path = tmp_path_factory.mktemp("network") / "net.pth"
    model = MultiViewPBRGenerator(finalize(config))
    save_checkpoint(path, {"config": config.to_dict(), "model_state_dict": model.state_dict()})
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for i, (size, suffix) in enumerate((((90, 60), "jpg"), ((60, 90), "png"), ((120, 81), "webp"))):
        picture(*size, i).save(folder / f"IMG_{i}.{suffix}")
    return folder


@pytest.mark.parametrize("command", ["run_inference", "student/run_inference"])
@pytest.mark.parametrize("flags, size, word", [
    ([], (60, 60), "cut to the middle"), (["--fit", "pad", "--size", 48], (48, 32), "mirrored out"),
], ids=["crop", "pad"])  # fmt: skip
def test_photographs_become_maps(checkpoint, photographs, tmp_path, capsys, command, flags, size, word):
    words = ["--checkpoint", checkpoint, "--input-dir", photographs, "--out-dir", tmp_path / "out", *flags]
    assert tools.run(command, *words) == 0
    said = capsys.readouterr().out
    assert word in said and f"{size[0]}x{size[1]}" in said
    assert {PillowImage.open(tmp_path / "out" / f"{name}.png").size for name in MAPS} == {size}


def test_wrong_sizes_are_named(checkpoint, photographs, capsys):
    for size in ("0", "-3", "9000", "x"):
        assert tools.run("run_inference", "--checkpoint", checkpoint, "--input-dir", photographs, "--size", size) == 2
        assert "expected 1 to 8192" in capsys.readouterr().err


def test_converted_models_take_the_same_photographs(checkpoint, photographs, tmp_path, capsys):
    pytest.importorskip("onnx", reason="not installed (pip install -r requirements/neuropbr.txt)")
    pytest.importorskip("onnxruntime", reason="not installed (pip install -r requirements/neuropbr.txt)")
    model, out = tmp_path / "net.onnx", tmp_path / "out"
    assert tools.run("coreml/converter", checkpoint, "--output", model) == 0
    assert tools.run("run_inference", "--checkpoint", checkpoint, "--input-dir", photographs, "--out-dir", out) == 0
    for flags, size in ((["--tiles", "--size", 60], (60, 60)), (["--fit", "pad", "--size", 0], (32, 21))):
        words = [model, "--input", photographs, "--output", tmp_path / "onnx", *flags]
        assert tools.run("coreml/run_inference", *words) == 0
        assert PillowImage.open(tmp_path / "onnx" / "metallic.png").size == size
        if "--tiles" in flags:
            for name in MAPS:
                difference = read_rgb(tmp_path / "onnx" / f"{name}.png") - read_rgb(out / f"{name}.png")
                assert float(difference.abs().max()) < 0.02, name
    assert tools.run("coreml/run_inference", model, "--input", photographs, "--tiles", "--size", 0) == 2
