"""Ids, the reader of frames, uv maps and directions, and the crops of a training step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deferred.dataset.crops import Batch, collate, plan_crops
from deferred.dataset.frames import Frame, FrameSet, split_ids
from deferred.util import format_ids, masked_l1, parse_ids, surface_psnr
from tests.support.deferred_views import plain_uv, sphere_folder, write_frame

UP = np.array([0, 1, 0], np.float32)


@pytest.fixture
def folder(tmp_path):
    """Three frames of 9x14 whose red is u, whose green is v, with a hole."""
    uv = plain_uv(9, 14)
    uv[2:4, 5:8] = np.nan
    uv[8, 0] = -1, 0.5
    image = np.concatenate([plain_uv(9, 14), np.zeros((9, 14, 1), np.float32)], axis=2)
    for number in (0, 1, 5):
        write_frame(tmp_path, number, (image * 255).round().astype(np.uint8), uv, UP)
    return tmp_path


def test_ids():
    assert parse_ids("0-3, 7", "--train") == [0, 1, 2, 3, 7]
    assert parse_ids("0003 0001\n2 - 4", "--train") == [3, 1, 2, 4]
    assert format_ids([0, 1, 2, 7, 9, 10]) == "0-2, 7, 9-10" and format_ids([]) == ""
    assert parse_ids(format_ids(range(899)), "--train") == list(range(899))


def test_ids_from_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("# first ones\n0-2\n9  # alone\n")
    assert parse_ids(str(tmp_path / "ids.txt"), "--train") == [0, 1, 2, 9]


@pytest.mark.parametrize("text", ["3-1", "1-", "--", "none.txt", "0-999999999", ","])
def test_bad_ids(text, refused):
    with refused("--test"):
        parse_ids(text, "--test")


def test_split(folder, refused):
    assert split_ids(folder, None, None) == ([0, 1, 5], [])
    assert split_ids(folder, [1], None) == ([1], [0, 5])
    assert split_ids(folder, None, [1]) == ([0, 5], [1])
    assert split_ids(sphere_folder(), None, None) == (list(range(12)), [12, 13])
    with refused("--val", "1"):
        split_ids(folder, [0, 1], [1])
    with refused("no uv maps"):
        split_ids(folder / "uv", None, None)


def test_frame_is_read_and_masked(folder):
    frame = FrameSet(folder, [5]).load(5)
    assert frame.image.shape == (9, 14, 3) and frame.image.dtype == np.uint8 and frame.size == (9, 14)
    expected = np.ones((9, 14), bool)
    expected[2:4, 5:8] = expected[8, 0] = False
    assert np.array_equal(frame.mask, expected) and np.isfinite(frame.uv).all() and not frame.uv[~expected].any()
    assert np.array_equal(frame.uv[expected], plain_uv(9, 14)[expected])
    assert np.array_equal(frame.direction, UP.reshape(1, 1, 3))


def test_direction_for_each_pixel(folder):
    seen = np.full((9, 14, 3), np.nan, np.float32)
    seen[...] = (0, 0.6, 0.8)
    seen[2, 5] = np.nan  # in the hole
    np.save(folder / "extrinsics" / "0001.npy", seen)
    frame = FrameSet(folder, [1]).load(1)
    assert (
        frame.direction.shape == (9, 14, 3) and np.isfinite(frame.direction).all() and not frame.direction[2, 5].any()
    )
    batch = collate([frame, FrameSet(folder, [0]).load(0)])
    assert batch.direction.shape == (2, 9, 14, 3) and batch.direction[1, 3, 3].tolist() == [0, 1, 0]


def test_16_bit_frames_keep_their_bits(folder):
    from maps.images import encode_png

    image = np.full((9, 14, 3), 1000, np.uint16)
    (folder / "frame" / "0000.png").write_bytes(encode_png(image))
    assert FrameSet(folder, [0]).load(0).image[0, 0, 0] == np.float32(1000) / np.float32(65535)


def test_missing_files_are_named(folder, refused):
    (folder / "extrinsics" / "0001.npy").unlink()
    with refused("extrinsics", "0001.npy", "1 of 3", "0, 5"):
        FrameSet(folder, [0, 1, 5])
    with refused("0002.png", "2 of 3"):
        FrameSet(folder, [0, 2, 3])
    with refused("uv", "0007.npy", "1 of 4"):  # of which there is the rest
        (folder / "frame" / "0007.png").write_bytes((folder / "frame" / "0005.png").read_bytes())
        FrameSet(folder, [*split_ids(folder, None, None)[0]], with_images=False)
    (folder / "frame" / "0005.png").unlink()
    with refused("0005.png"):
        FrameSet(folder, [5])
    assert FrameSet(folder, [5], with_images=False).load(5).image is None


BAD = {
    "uv": [np.zeros((9, 14)), np.zeros((9, 14, 3)), np.full((9, 14, 2), 1.5), np.full((9, 14, 2), np.inf),
           np.zeros((8, 14, 2)), np.zeros((9, 14, 2), complex)],
    "extrinsics": [np.zeros(3), np.array([0, 2.0, 0]), np.array([np.nan, 0, 0]), np.ones((14, 9, 3)),
                   np.zeros((9, 14, 3))],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "index"), [(kind, i) for kind, arrays in BAD.items() for i in range(len(arrays))])
def test_mismatching_arrays_are_named(folder, kind, index, refused):
    np.save(folder / kind / "0001.npy", BAD[kind][index])
    with refused("0001.npy", "expected", "found"):
        FrameSet(folder, [1]).load(1)


def test_damaged_arrays_are_named(folder, refused):
    whole = (folder / "uv" / "0001.npy").read_bytes()
    huge = whole.replace(b"(9, 14, 2)", b"(99999, 99999, 2)").replace(b" " * 7 + b"\n", b"\n")
    for payload in (b"", whole[:40], whole[:-4], huge, b"text"):
        (folder / "uv" / "0001.npy").write_bytes(payload)
        with refused("0001.npy"):
            FrameSet(folder, [1]).load(1)
    np.save(folder / "uv" / "0001.npy", np.array([{}]), allow_pickle=True)
    with refused("0001.npy"):
        FrameSet(folder, [1])


@pytest.mark.parametrize("crop", [(4, 6), (100, 100), (9, 5)])
@pytest.mark.parametrize("scaled", [False, True])
def test_crops_keep_pixels_and_places_together(crop, scaled):
    """Red is u and green is v in every frame: blended or shifted uv would differ from it."""
    frames = []
    for height, width in ((40, 60), (37, 64)):
        uv = plain_uv(height, width)
        image = np.concatenate([uv, uv[..., :1]], axis=2)
        mask = uv[..., 0] > 0.3
        frames.append(made_frame(image, uv, mask))
    shapes = set()
    random = np.random.default_rng(1)
    for _ in range(12):
        batch = drawn(frames, crop, random, scaled)
        assert torch.equal(batch.image[:, :2].permute(0, 2, 3, 1), batch.uv)
        assert torch.equal(batch.mask.bool(), batch.uv[..., 0] > 0.3)
        assert batch.direction.shape == (2, 1, 1, 3)
        shapes.add(tuple(batch.mask.shape[1:]))
    height, width = min(crop[0], 37), min(crop[1], 60)
    assert all(shape[0] <= crop[0] and shape[1] <= crop[1] for shape in shapes)
    if not scaled:
        assert shapes == {(height, width)}
    elif crop == (100, 100):
        assert shapes == {(37, 60), (36, 60), (19, 30)}  # as it is, half of it twice, every second pixel


def drawn(frames, crop, random, scaled=False):
    """A batch of crops of frames that are in no file."""

    class InMemory:
        @staticmethod
        def part(number, *window):
            frame = frames[number]
            return Frame(frame.image[window], frame.uv[window], frame.direction, frame.mask[window])

    sizes = {number: frame.size for number, frame in enumerate(frames)}
    return plan_crops(sizes, list(sizes), crop, random, scaled).read(InMemory)


def made_frame(image, uv, mask):
    """A frame that is in no file."""
    return Frame(image, uv, UP.reshape(1, 1, 3), mask)


def test_crops_are_drawn_from_everywhere():
    uv = plain_uv(12, 12)
    frame = made_frame(np.zeros((12, 12, 3), np.uint8), uv, np.ones((12, 12), bool))
    random = np.random.default_rng(0)
    corners = {tuple(drawn([frame], (9, 9), random).uv[0, 0, 0].tolist()) for _ in range(200)}
    assert len(corners) == 16


def test_masked_l1_against_plain_python():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 4, 5, generator=generator) for _ in range(2))
    mask = (torch.rand(2, 4, 5, generator=generator) > 0.5).float()
    errors = [abs(float(a[i, c, y, x] - b[i, c, y, x])) for i in range(2) for c in range(3) for y in range(4)
              for x in range(5) if mask[i, y, x]]  # fmt: skip
    assert float(masked_l1(a, b, mask)) == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert float(masked_l1(a, b, torch.zeros(2, 4, 5))) == 0


def test_surface_psnr_counts_pixels_of_all_views():
    black, grey = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)
    one, all_four = np.array([[True, False], [False, False]]), np.ones((2, 2), bool)
    expected = -10 * np.log10(0.2**2 * 1 / 5)
    assert surface_psnr([(grey, black, one), (black, black, all_four)]) == pytest.approx(expected)


def test_batch_moves():
    batch = Batch(None, torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 1, 3), torch.ones(1, 2, 2)).to(torch.device("cpu"))
    assert batch.image is None and batch.uv.shape == (1, 2, 2, 2)
