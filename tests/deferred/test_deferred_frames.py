"""What training does with its frames before the first step and beside the others: checks, masks, cache, threads."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from common.errors import UserError
from deferred import checkpoints, render
from deferred.dataset import ahead, opening
from deferred.dataset.ahead import read_batches
from deferred.dataset.frames import FrameCache, FrameSet, split_ids
from deferred.dataset.opening import cache_bytes, open_frames
from deferred.dataset.uv_maps import constant_uv, decode_uv, open_uv, parse_background, uv_type, write_uv
from deferred.options import make_options
from deferred.precision import Precision
from deferred.training import make_trainer, train
from maps.images import encode_png
from tests.support.deferred_views import flags, plain_uv, quietly, run_of, sphere_folder, trained, write_frame

CPU = torch.device("cpu")
UP = np.array([0, 1, 0], np.float32)


@pytest.fixture
def folder(tmp_path):
    """Six frames of 24x36 whose red is u and whose green is v, of which the left third is background at uv (0, 0)."""
    uv = plain_uv(24, 36)
    image = np.concatenate([uv, uv[..., :1]], axis=2)
    uv[:, :12] = 0
    for number in range(6):
        write_frame(tmp_path, number, (image * 255).round().astype(np.uint8), uv, UP)
    return tmp_path


def opened(folder, said=None, **given):
    options = make_options("train", given)
    return open_frames(folder, *split_ids(folder, None, [4, 5]), options, (said if said is not None else []).append)


# --- uv maps -------------------------------------------------------------------------------------------------------


def test_16_bits_are_half_a_code_off_at_most(tmp_path):
    uv = np.random.default_rng(0).random((33, 47, 2)).astype(np.float32)
    uv[0, :6] = [(0, 0), (1, 1), (np.nan, 0.5), (0.5, -1), (np.nan, np.nan), (0, 1)]
    write_uv(tmp_path / "a.npy", uv)
    raw = np.load(tmp_path / "a.npy")
    found, mask = decode_uv(raw)
    with np.errstate(invalid="ignore"):
        expected = (uv >= 0).all(axis=2)
    assert raw.dtype == np.uint16 and found.dtype == np.float32 and np.array_equal(mask, expected)
    assert np.abs(found - uv)[mask].max() <= 0.5 / 65534 + 1e-7 and not found[~mask].any()
    assert found[0, :2].tolist() == [[0, 0], [1, 1]] and (raw[0, 2:5] == 65535).all()
    for other in (raw.astype(">u2"), np.asfortranarray(raw), np.asfortranarray(uv), uv.astype(">f4")):
        np.save(tmp_path / "c.npy", other)
        other, same = decode_uv(open_uv(tmp_path / "c.npy"))
        assert np.abs(other - found).max() <= 1e-5 and np.array_equal(same, mask)
    for kind in (np.float32, np.float64, np.float16):  # float16 is coarse near 1, but read as it is
        other, same = decode_uv(uv.astype(kind))
        assert np.array_equal(other[mask], uv.astype(kind).astype(np.float32)[mask]) and np.array_equal(same, mask)
    write_uv(tmp_path / "b.npy", uv, "float32")
    assert np.array_equal(np.load(tmp_path / "b.npy"), uv, equal_nan=True)
    assert [uv_type("auto", texels) for texels in (0, 4096, 4097)] == ["uint16", "uint16", "float32"]
    assert uv_type("uint16", 16384) == "uint16"


def test_whole_numbers_are_no_uv(folder, refused):
    np.save(folder / "uv" / "0001.npy", np.zeros((24, 36, 2), np.int32))
    with refused("0001.npy", "uint16", "int32"):
        FrameSet(folder, [1])


def test_constant_uv_is_counted_among_others():
    uv, mask = plain_uv(300, 500), np.ones((300, 500), bool)
    assert constant_uv(uv, mask) is None
    uv[100:200, 50:250] = 0.25, 0.5
    mask[:, :150] = False
    assert constant_uv(uv, mask) == ((0.25, 0.5), pytest.approx(100 * 100 / 150000))
    assert constant_uv(uv, ~mask & False) is None


# --- parts and batches ---------------------------------------------------------------------------------------------


def varied(folder):
    """Frames of every kind: 16-bit and float uv, a direction for each pixel, alpha, grey, 16-bit colours."""
    random = np.random.default_rng(3)
    images = [random.integers(0, 256, (20, 31, bands), dtype=np.uint8) for bands in (3, 4, 3, 3)]
    for number, image in enumerate(images):
        write_frame(folder, number, image, plain_uv(20, 31), UP)
    write_uv(folder / "uv" / "0000.npy", np.where(random.random((20, 31, 1)) < 0.3, np.nan, plain_uv(20, 31)))
    per_pixel = np.full((20, 31, 3), np.nan)
    per_pixel[...] = 0, 0.6, 0.8
    np.save(folder / "extrinsics" / "0001.npy", per_pixel)
    PillowImage.fromarray(images[2][..., 0]).save(folder / "frame" / "0002.png")
    deep = random.integers(0, 65536, (20, 31, 3), dtype=np.uint16)
    (folder / "frame" / "0003.png").write_bytes(encode_png(deep))
    return FrameSet(folder, range(4))


@pytest.mark.parametrize("cached", [0, 1 << 20])
def test_a_part_is_that_of_the_whole_frame(tmp_path, cached):
    frames = varied(tmp_path)
    frames.cache = FrameCache(cached)
    for number in frames.ids:
        for rows, columns in ((slice(3, 17), slice(30, 31)), (slice(0, 20, 2), slice(5, 25, 2))):
            whole, part = frames.load(number), frames.part(number, rows, columns)
            assert np.array_equal(part.image, whole.image[rows, columns]) and part.image.dtype == whole.image.dtype
            assert np.array_equal(part.uv, whole.uv[rows, columns])
            assert np.array_equal(part.mask, whole.mask[rows, columns])
            own = whole.direction if number != 1 else whole.direction[rows, columns]
            assert np.array_equal(part.direction, own)
    assert len(frames.cache) == (4 if cached else 0)
    alpha = np.asarray(PillowImage.open(tmp_path / "frame" / "0001.png"))[..., 3]
    assert np.array_equal(frames.load(1).mask, alpha >= 128)


def test_the_cache_takes_no_more_than_it_may(tmp_path):
    frames = varied(tmp_path)
    frames.cache = FrameCache(2 * 20 * 31 * 3)
    for number in frames.ids:  # colours and alpha; three bands, as the second did not fit; grey and deep do not fit
        frames.load(number)
    assert len(frames.cache) == 1 + 1 and frames.cache.free == 2 * 20 * 31 * 3 - 20 * 31 * 3 - 20 * 31


@pytest.mark.parametrize("workers", [1, 5])
def test_threads_change_nothing_about_the_batches(folder, workers):
    """Nor does where the epoch is taken up again."""
    frames = FrameSet(folder, range(6))
    order = [3, 0, 5, 1, 4, 2, 3, 3, 1]

    def batches(order, random, workers):
        with closing(read_batches(frames, order, 2, (9, 12), random, True, workers)) as found:
            return list(found)

    random = np.random.default_rng(7)
    before = random.bit_generator.state
    plain, early = batches(order, random, 0), batches(order, random, workers)
    assert random.bit_generator.state == before and [read.numbers for read in early] == [
        [3, 0], [5, 1], [4, 2], [3, 3], [1]
    ]  # fmt: skip
    random.bit_generator.state = early[1].state
    again = batches(order[4:], random, workers)
    for a, b in (*zip(plain, early), *zip(plain[2:], again)):
        assert a.numbers == b.numbers and a.state == b.state
        assert torch.equal(a.batch.image, b.batch.image) and torch.equal(a.batch.uv, b.batch.uv)


def test_readers_stop_when_nobody_waits_for_them(folder, monkeypatch):
    """Ctrl-C: after the frame that a thread is at, though 24 more of two batches were asked for."""
    read, frames, part, closing_down = [], FrameSet(folder, range(6)), FrameSet.part, Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, **options):
            closing_down.set()
            super().shutdown(**options)

    def counted(self, *window):
        read.append(1)
        assert len(read) <= 12 or closing_down.wait(60)
        return part(self, *window)

    monkeypatch.setattr(ahead, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(FrameSet, "part", counted)
    found = read_batches(frames, [*range(6)] * 400, 12, (8, 8), np.random.default_rng(0), False, 1)
    next(found)
    found.close()
    assert len(read) in (12, 13) and not list(found)


def test_a_bad_frame_is_named_by_the_reader(folder, refused):
    frames = FrameSet(folder, range(6))
    write_uv(folder / "uv" / "0004.npy", plain_uv(10, 36))
    with refused("0004.npy", "36x24", "36x10"):
        list(read_batches(frames, range(6), 2, (8, 8), np.random.default_rng(0), False, 3))


# --- before the first step -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["frame", "uv", "extrinsics"])
def test_a_truncated_held_out_file_is_found_before_the_first_step(kind, tmp_path, refused):
    data = tmp_path / "data"
    shutil.copytree(sphere_folder(), data)
    path = next((data / kind).glob("0013.*"))
    path.write_bytes(path.read_bytes()[: -1 if kind == "uv" else -40])
    with refused(path.name):
        train("train", flags(tmp_path, data=str(data)), quiet=True)
    assert not list(tmp_path.glob("*/config.json"))


def test_uv_of_a_corner_is_taken_as_background(folder):
    said = []
    frames, held_out = opened(folder, said)
    assert frames.background == held_out.background == (0, 0)
    assert not frames.load(0).mask[:, :12].any() and frames.load(0).mask[:, 12:].all()
    assert len(said) == 1 and "(0, 0) in 33% of the pixels of 6 of 6 frames" in said[0] and "--background_uv" in said[0]
    said.clear()
    frames, _ = opened(folder, said, background_uv="none")
    assert frames.background is None and frames.load(0).mask.all() and not said


def test_another_constant_uv_is_said_and_left_to_the_user(folder):
    said = []
    for number in range(6):
        uv = np.load(folder / "uv" / f"{number:04d}.npy")
        uv[:, :12] = 0.25, 0.5
        write_uv(folder / "uv" / f"{number:04d}.npy", uv, "uint16" if number % 2 else "float32")
    frames, _ = opened(folder, said)
    assert frames.background is None and frames.load(0).mask.all()
    said.clear()
    for number in range(6):
        np.save(folder / "uv" / f"{number:04d}.npy", uv)
    opened(folder, said)
    assert len(said) == 1 and '--background_uv "0.25,0.5"' in said[0]
    said.clear()
    frames, _ = opened(folder, said, background_uv="0.25, 0.5")
    assert not frames.load(0).mask[:, :12].any() and not said


def test_alpha_is_a_mask_and_said(folder, refused):
    said = []
    for number in range(6):
        path = folder / "frame" / f"{number:04d}.png"
        alpha = np.full((24, 36, 1), 255, np.uint8)
        alpha[:6], alpha[6:12] = 127, 128
        PillowImage.fromarray(np.concatenate([np.asarray(PillowImage.open(path)), alpha], axis=2)).save(path)
        write_uv(folder / "uv" / f"{number:04d}.npy", plain_uv(24, 36))
    frames, _ = opened(folder, said)
    mask = frames.load(2).mask
    assert not mask[:6].any() and mask[6:].all() and not frames.load(2).uv[:6].any()
    assert len(said) == 1 and "alpha of 6 of 6" in said[0] and "25.0%" in said[0] and "--alpha False" in said[0]
    said.clear()
    assert opened(folder, said, alpha=False)[0].load(2).mask.all() and not said
    for number in (4, 5):
        clear = np.zeros((24, 36, 4), np.uint8)
        PillowImage.fromarray(clear).save(folder / "frame" / f"{number:04d}.png")
    with refused("--val", "surface", "--alpha False"):
        opened(folder)


def test_a_background_that_is_everything_is_refused(folder, refused):
    for number in (4, 5):
        write_uv(folder / "uv" / f"{number:04d}.npy", np.zeros((24, 36, 2)))
    with refused("--val", "surface", "--background_uv none"):
        opened(folder)


def test_what_else_is_said(folder, monkeypatch):
    for number in range(6):
        write_uv(folder / "uv" / f"{number:04d}.npy", plain_uv(24, 36))
    said = []
    opened(folder, said, cache=str(3 * 24 * 36 * 3 / 2**30), texturew=16384)
    assert len(said) == 2 and "0.25 texels" in said[0] and "--uv_type float32" in said[0]
    assert "3 of 6 decoded images" in said[1] and "--cache" in said[1]
    monkeypatch.setattr(opening, "free_memory", lambda: 10 << 30)
    assert cache_bytes("auto") == 5 << 30 and cache_bytes("0") == 0 and cache_bytes("1.5") == 3 << 29
    monkeypatch.setattr(opening, "free_memory", lambda: None)
    assert cache_bytes("auto") == 2 << 30


@pytest.mark.parametrize(("flag", "value"), [("cache", "much"), ("cache", "-1"), ("cache", "nan"),
                                             ("background_uv", "0"), ("background_uv", "0,2"),
                                             ("background_uv", "black"), ("precision", "fp16")])  # fmt: skip
def test_bad_values_name_their_flag(flag, value, tmp_path, refused):
    with refused(f"--{flag}"):
        train("train", flags(tmp_path, **{flag: value}), quiet=True)
    assert not list(tmp_path.glob("*/config.json"))


def test_a_background_goes_with_the_model(folder, tmp_path):
    """Found in training, it is no surface in rendering either, and a run that goes on keeps it."""
    given = flags(tmp_path / "runs", data=str(folder), epoch=1, cropw=16, croph=16)
    said = quietly("train", given)
    assert sum("taken as background" in line for line in said) == 1
    loaded = checkpoints.load(run_of(tmp_path / "runs") / "epoch_1.pt")
    assert loaded.config["background_uv"] == "0,0" and parse_background("0,0") == (0, 0)
    common = ["--data", str(folder), "--load", str(run_of(tmp_path / "runs")), "--test", "4"]
    for more, black in (([], True), (["--background_uv", "none"], False)):
        assert render.main([*common, *more, "--save", str(tmp_path / "out")]) == 0
        image = np.asarray(PillowImage.open(tmp_path / "out" / "0004_render.png"))
        assert image[:, 12:].any() and image[:, :12].any() != black


def test_older_runs_go_on_as_they_were(tmp_path):
    """Their checkpoints say nothing of background, alpha or precision, and they had none."""
    run = tmp_path / "run"
    shutil.copytree(trained(), run)
    payload = torch.load(run / "epoch_2.pt", weights_only=True)
    config = checkpoints.parse_json(payload["config"])
    for name in ("alpha", "background_uv", "precision", "num_workers", "cache"):
        del config[name]
    payload["config"] = checkpoints.json.dumps(config)
    del payload["training"]["scaler"]
    torch.save(payload, run / "epoch_2.pt")
    more = {"checkpoint": str(tmp_path), "logdir": str(tmp_path / "tensorboard"), "resume": str(run), "epoch": 3}
    assert train("train", more, lambda _: None, quiet=True) == 0
    after = checkpoints.load(run / "epoch_3.pt").config
    assert (after["alpha"], after["background_uv"], after["precision"]) == (False, "none", "float32")


# --- precision -----------------------------------------------------------------------------------------------------


def test_bf16_leaves_texture_and_coordinates_in_float32(tmp_path, monkeypatch):
    seen = []
    trainer = make_trainer("train", make_options("train", flags(tmp_path, precision="bf16")), None, CPU, lambda _: None)
    sample = torch.nn.functional.grid_sample

    def watched(texture, grid, *more, **options):
        found = sample(texture, grid, *more, **options)
        seen.append({texture.dtype, grid.dtype, found.dtype})
        return found

    monkeypatch.setattr(torch.nn.functional, "grid_sample", watched)
    convolved = []
    trainer.model.unet.down[0].register_forward_hook(lambda _, inputs, found: convolved.append(found.dtype))
    trainer._begin_epoch()
    for read in trainer._batches():
        trainer._step(read)
    assert seen and all(kinds == {torch.float32} for kinds in seen) and set(convolved) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in trainer.model.parameters())


def test_the_scale_of_fp16_is_part_of_a_run():
    precision = [Precision("float32", CPU) for _ in range(2)]
    assert precision[0].name == Precision("auto", CPU).name == "float32" and precision[0].state() == {}
    for own in precision:
        own.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.SGD([weight], lr=0.5)
    for factor in (1.0, float("inf"), 1.0):  # the second overflows: no step, and half the scale
        precision[0].step((weight * factor).sum(), optimiser)
    assert weight.tolist() == [0, 0, 0] and precision[0].state()["scale"] == 32
    precision[1].restore({})  # a run that began without
    assert precision[1].state()["scale"] == 64
    precision[1].restore(precision[0].state())
    assert precision[1].state() == precision[0].state()
    with pytest.raises(UserError, match="fp16"):
        Precision("fp16", CPU)
