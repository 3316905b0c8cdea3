"""Reading the frames of a day: order, depth, masks, high range, and everything that a folder can have wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from lightmap.data import Encoding, load_day, load_half_hours
from lightmap.frame_files import natural_key
from lightmap.pictures import tone_mapped
from lightmap.sample_scene import Scene
from lightmap.sampling import Sampler, split_texels
from maps.images import encode_png
from tests.support.lightmap_days import moving_frames, save_frames, scene

CPU = torch.device("cpu")


def quiet(_):
    pass


def test_natural_order():
    names = ["tod_10.png", "tod_2.png", "Tod_1.png", "tod_02b.png", "a9.png", "a10.png", "10.png", "9.png"]
    ordered = sorted(names, key=natural_key)
    assert ordered == ["9.png", "10.png", "a9.png", "a10.png", "Tod_1.png", "tod_2.png", "tod_02b.png", "tod_10.png"]


def test_frames_in_the_order_of_the_hours(tmp_path):
    frames = moving_frames()
    said = []
    day = load_day(save_frames(tmp_path, frames), said.append, workers=2)
    assert not said and (day.height, day.width, day.bits) == (9, 14, 8)
    assert day.times()[13] == 13 and day.times(0.5)[23] == 23.5
    for hour in (0, 2, 10, 23):
        assert np.array_equal(np.rint(day.image(hour) * 255), frames[hour])
    assert torch.equal(
        day.values(torch.tensor([17]), torch.tensor([5]))[0], torch.from_numpy(frames[5, 1, 3] / 255).float()
    )


def test_another_count_warns_and_spreads(tmp_path):
    said = []
    day = load_day(save_frames(tmp_path, moving_frames(5)), said.append)
    assert len(said) == 1 and "found 5" in said[0] and "4.8" in said[0]
    assert day.times() == pytest.approx([0, 4.8, 9.6, 14.4, 19.2])


def test_one_frame_is_a_day(tmp_path):
    said = []
    day = load_day(save_frames(tmp_path, moving_frames(1)), said.append)
    assert len(said) == 1 and "found 1, which stands for the whole day" in said[0]
    assert day.times() == [0] and day.step == 24 and np.array_equal(np.rint(day.image(0) * 255), moving_frames(1)[0])


def test_files_that_are_no_frames_are_named_and_left_out(tmp_path):
    said, frames = [], moving_frames()
    save_frames(tmp_path, frames)
    for name in ("preview.png", "contact_sheet_1.png"):  # of another size, as a preview may be
        PillowImage.fromarray(frames[0][:3]).save(tmp_path / name)
    day = load_day(tmp_path, said.append)
    assert day.names == tuple(f"tod_{hour}.png" for hour in range(24))
    assert len(said) == 1 and "preview.png" in said[0] and "contact_sheet_1.png" in said[0] and "tod_0.png" in said[0]


@pytest.mark.parametrize("names", [["b.png", "a.png", "c.png"], ["0_night.png", "1_morning.png", "2_noon.png"],
                                   ["t1.png", "t1.5.png", "t2.png"], ["night.png", "t1.png"]])  # fmt: skip
def test_names_without_one_pattern_are_all_frames(tmp_path, names):
    for name in names:
        PillowImage.fromarray(moving_frames(1)[0]).save(tmp_path / name)
    said = []
    assert sorted(load_day(tmp_path, said.append).names) == sorted(names) and "left out" not in said[0]


def test_alpha_is_left_out_with_a_note(tmp_path):
    frames, said = moving_frames(), []
    for index, frame in enumerate(frames):
        alpha = np.full(frame.shape[:2], 255, np.uint8)
        alpha[2:4] = 90 if index in (3, 20) else 255
        PillowImage.fromarray(np.dstack([frame, alpha])).save(tmp_path / f"tod_{index:02}.png")
    day = load_day(tmp_path, said.append)
    assert len(said) == 1 and "alpha of 2 frames (tod_03.png ...)" in said[0] and "mask.png" in said[0]
    assert np.array_equal(np.rint(day.image(3) * 255), frames[3])
    (tmp_path / "tod_03.png").unlink(), (tmp_path / "tod_20.png").unlink()
    said.clear()
    load_day(tmp_path, said.append)
    assert len(said) == 1 and "the alpha of" not in said[0]  # opaque throughout: nothing is lost


def test_16_bits_grey_and_jpeg(tmp_path):
    deep = moving_frames(24, 4, 5).astype(np.uint16) * 257 - 3 * (moving_frames(24, 4, 5) > 9).astype(np.uint16)
    for index, frame in enumerate(deep):
        (tmp_path / f"{index}.png").write_bytes(encode_png(frame))
    day = load_day(tmp_path, quiet)
    assert day.bits == 16 and np.array_equal(np.rint(day.image(20) * 65535), deep[20])
    grey = tmp_path / "grey"
    grey.mkdir()
    for index in range(24):
        PillowImage.fromarray(moving_frames(24, 16, 16)[index, ..., 0]).save(grey / f"{index}.jpeg")
    day = load_day(grey, quiet)
    assert np.array_equal(day.image(3)[..., 0], day.image(3)[..., 2])
    assert day.file_kind == "JPEG" and day.file_bytes == sum(path.stat().st_size for path in grey.iterdir())


def test_high_range_formats_agree(tmp_path):
    cv2, exr = pytest.importorskip("cv2"), pytest.importorskip("OpenEXR")
    light = (moving_frames(24, 6, 8).astype(np.float32) / 255) ** 2 * 30
    for kind in ("npy", "exr", "hdr"):
        folder = tmp_path / kind
        folder.mkdir()
        for index, frame in enumerate(light):
            path = folder / f"{index}.{kind}"
            if kind == "npy":
                np.save(path, frame)
            elif kind == "exr":
                exr.File({"type": exr.scanlineimage}, {"RGB": np.ascontiguousarray(frame)}).write(str(path))
            else:
                cv2.imwrite(str(path), frame[..., ::-1])
        day = load_day(folder, quiet)
        assert day.bits == 32 and day.encoding.hdr and max(day.image(hour).max() for hour in range(24)) == 1
        back, tolerance = day.encoding.decode(day.image(7)), 8e-3 if kind == "hdr" else 1e-4
        assert (np.abs(back - light[7]) <= tolerance * np.maximum(light[7].max(axis=2), 0.1)[..., None]).all()


def test_median_and_peak_are_those_of_all_frames(tmp_path, monkeypatch):
    light = np.random.default_rng(2).gamma(1, 1, (5, 7, 9, 3)).astype(np.float32)
    light[0, 0, 0], light[4, 6, 8, 2] = -1, 60
    for index, frame in enumerate(light):
        np.save(tmp_path / f"{index}.npy", frame)
    encoding, said = load_day(tmp_path, quiet).encoding, []
    assert encoding.scale == np.median(light[light > 0]) and encoding.peak == 60
    day = load_day(tmp_path, said.append)
    assert "below 0 (down to -1)" in said[1] and day.image(0)[0, 0].max() == 0
    assert day.encoding.decode(day.image(4))[6, 8, 2] == pytest.approx(60, rel=1e-4)
    monkeypatch.setattr("lightmap.data.MEDIAN_VALUES", 100)  # of a large day, every n-th value
    assert load_day(tmp_path, quiet).encoding.scale == pytest.approx(encoding.scale, rel=0.4)


def test_light_that_no_file_can_hold_is_refused_and_huge_light_is_not(tmp_path, refused):
    light = np.ones((2, 3, 3, 3), np.float32)
    for peak in (1e30, 3e38):
        light[1, 1, 1] = peak
        for index, frame in enumerate(light):
            np.save(tmp_path / f"{index}.npy", frame)
        if peak < 1e38:
            day = load_day(tmp_path, quiet)
            with np.errstate(all="raise"):
                shown = tone_mapped(day.encoding.decode(day.image(1)), day.encoding)
            assert shown[1, 1].min() > 0.99 and np.isfinite(shown).all()
            continue
        with refused(str(tmp_path), "1e+38", "3e+38"):
            load_day(tmp_path, quiet)


def test_encoding_is_undone_and_counts_negative_light_as_none():
    encoding = Encoding(True, 0.5, 40.0)
    light = np.float32([0, 1e-3, 0.5, 40])
    assert np.allclose(encoding.decode(encoding.encode(light)), light, rtol=1e-5, atol=1e-7)
    assert encoding.encode(np.float32([-3]))[0] == 0 and encoding.encode(np.float32([40]))[0] == pytest.approx(1)


def test_mask(tmp_path, refused):
    save_frames(tmp_path, moving_frames())
    mask = np.zeros((9, 14), np.uint8)
    mask[2:7, 3:] = 255
    PillowImage.fromarray(mask).save(tmp_path / "mask.png")
    day = load_day(tmp_path, quiet)
    assert day.n_frames == 24 and np.array_equal(day.mask.view(9, 14).numpy(), mask > 0)
    train, held_out = split_texels(day.mask, 3)
    assert len(train) + len(held_out) == 55 and day.mask[train].all() and day.mask[held_out].all()
    PillowImage.fromarray(mask[:, :5]).save(tmp_path / "mask.png")
    with refused("mask.png", "14x9", "5x9"):
        load_day(tmp_path, quiet)
    PillowImage.fromarray(mask * 0).save(tmp_path / "mask.png")
    with refused("mask.png", "black"):
        load_day(tmp_path, quiet)


def test_bad_folders_end_in_one_line(tmp_path, refused):
    with refused("no such folder"):
        load_day(tmp_path / "nothing", quiet)
    (tmp_path / "empty").mkdir()
    with refused("1 to", "found 0"):
        load_day(tmp_path / "empty", quiet)
    sizes = save_frames(tmp_path / "sizes", moving_frames())
    PillowImage.fromarray(moving_frames()[0][:4]).save(sizes / "tod_7.png")
    with refused("tod_7.png", "14x9", "14x4"):
        load_day(sizes, quiet)
    depth = save_frames(tmp_path / "depth", moving_frames())
    (depth / "tod_8.png").write_bytes(encode_png(moving_frames()[8].astype(np.uint16)))
    with refused("tod_8.png", "8 bits", "16 bits"):
        load_day(depth, quiet)
    broken = save_frames(tmp_path / "broken", moving_frames())
    (broken / "tod_5.png").write_bytes((broken / "tod_5.png").read_bytes()[:90])
    with refused("tod_5.png"):
        load_day(broken, quiet)
    halves = save_frames(tmp_path / "halves", moving_frames())
    save_frames(halves / "half_hours", moving_frames(23))
    with refused("half_hours", "expected 24", "found 23"):
        load_half_hours(halves, load_day(halves, quiet))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n"])
@pytest.mark.parametrize("suffix", ["npy", "hdr", "exr"])
def test_damaged_high_range_files_end_in_one_line(tmp_path, refused, content, suffix):
    for index in range(2):
        (tmp_path / f"{index}.{suffix}").write_bytes(content)
    with refused(f"0.{suffix}"):
        load_day(tmp_path, quiet)


def test_arrays_of_other_kinds_end_in_one_line(tmp_path, refused):
    for array, word in ((np.zeros((3, 4, 2), np.float32), "(3, 4, 2)"), (np.full((2, 2, 3), np.nan), "NaN"),
                        (np.zeros((2, 2, 3), np.int64), "int64"), (np.array([{}]), "damaged")):  # fmt: skip
        for index in range(2):
            np.save(tmp_path / f"{index}.npy", array)
        with refused("0.npy", word):
            load_day(tmp_path, quiet)


# --- the scene -------------------------------------------------------------------------------------------------------


def test_scene_is_a_function_of_the_time_of_day():
    made = Scene(24)
    assert np.array_equal(made.light(7.3), made.light(31.3)) and np.array_equal(made.light(0), made.light(24))
    assert made.light(12).mean() > 3 * made.light(7).mean() > 3 * made.light(0).mean()
    assert np.array_equal(made.light(2), made.light(20))  # the same lamps all night
    shadow = made.light(9).reshape(-1, 3).mean(axis=1)
    assert shadow.min() < 0.3 * shadow.max()
    night = made.light(3)
    assert night[..., 0].max() > 2 * night[..., 2].max()  # warm lamps


def test_scene_matches_a_ray_by_ray_reference():
    """One texel, traced with plain Python along the sun's disc."""
    from lightmap import sample_scene

    made, size, t = Scene(16), 16, 8.5
    angle = np.pi * (t - 6) / 12
    rays = sample_scene._disc(np.array([np.cos(angle), sample_scene.SUN_TILT, np.sin(angle)]))

    def blocked(point, ray):
        for x0, y0, x1, y1, top in sample_scene.BOXES:
            inside = point + ray * np.linspace(1e-4, 2, 4001)[:, None]
            if ((inside > [x0, y0, 0]) & (inside < [x1, y1, top])).all(axis=1).any():
                return True
        return False

    open_to = made._open_to(rays).reshape(size, size)
    for row, column in ((3, 1), (9, 5), (12, 9), (8, 8)):
        point = made.points[:, row * size + column]
        free = sum(not blocked(point, ray) for ray in rays) / len(rays)
        assert open_to[row, column] == pytest.approx(free, abs=1.01 / len(rays))


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_batches_are_what_they_say():
    day, _ = scene()
    train, held_out = split_texels(day.mask, 5)
    assert not set(train.tolist()) & set(held_out.tolist()) and len(held_out) == 41
    batch = Sampler(day, train, True, torch.Generator().manual_seed(1), CPU).draw(2001)
    assert not set(batch.texels.tolist()) & set(held_out.tolist())
    assert (batch.hours[:1000] % 1 == 0).all() and (batch.hours[1000:] % 1 != 0).sum() > 990
    assert batch.hours.max() > 23 and batch.hours.min() == 0  # between the last hour and the first, too
    frames = day.frames.numpy() / np.float32(255)
    for texel, hour, value in zip(batch.texels.tolist(), batch.hours.tolist(), batch.values.numpy()):
        lower, share = int(hour), hour % 1
        want = frames[texel, lower] * (1 - share) + frames[texel, (lower + 1) % 24] * share
        assert np.abs(value - want).max() < 1e-4


def test_without_blending_only_hours_are_drawn():
    day, _ = scene()
    batch = Sampler(day, split_texels(day.mask, 5)[0], False, torch.Generator().manual_seed(1), CPU).draw(500)
    assert (batch.hours % 1 == 0).all() and len(batch.hours.unique()) == 24
