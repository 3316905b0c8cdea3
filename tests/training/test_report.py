"""report.py: events, pictures, the bar and the summary, each against what went in."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import struct
import time

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from common.events import progress_bar, readable_bytes
from configs import make_config
from maps.channels import MAPS
from maps.images import _quiet_decoders
from maps.mips import mip_sizes
from metrics import tiles
from metrics.scores import evaluate_lod
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    leftovers,
)
from training import report
from training.pictures import picture_lod, save_strips
from training.report import RunLog, save_metrics
from training.summary import Result, bc7_bytes, run_summary


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def metrics_of(material, iteration, noise=0.1):
    lods = []
    for lod, (width, height) in enumerate(material.lod_sizes):
        source = material.texels(lod)
        scores = evaluate_lod(source + noise * torch.randn(source.shape), source, material.present)
        lods.append({"lod": lod, "width": width, "height": height, **scores})
    filtered = {name: 31 + value / 7 for name, value in lods[0]["psnr"].items()}
    return {"iteration": iteration, "psnr": lods[0]["psnr"], "psnr_filtered": filtered, "lods": lods}


def codes_of(material, lod):
    return {name: material.file_codes(lod, name) for name in material.present}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "outputs" / "2026-01-31-12-00-00"
    folder.mkdir(parents=True)
    return folder


# --- TensorBoard ---------------------------------------------------------------------------------------------------


def test_events(run, make_material):
    material = make_material(16, 12, ("diffuse", "roughness"))
    log = RunLog(run)
    log.training(25, 0.5, {"network": 0.01, "grid_0": 0.02}, 0.75)
    log.training(50, 0.25, {"network": 0.005, "grid_0": 0.01}, 0.5)
    metrics = metrics_of(material, 50)
    log.evaluation(metrics)
    sources = [codes_of(material, lod) for lod in range(material.num_lods)]
    brighter = {name: (np.minimum(codes + 77.0, 255)).astype(np.uint8) for name, codes in sources[0].items()}
    for lod, source in enumerate(sources):
        log.pictures(50, lod, source if lod else brighter, source, material)
    log.close()
    source, decoded = (images["diffuse"].astype(float) for images in (sources[0], brighter))
    events = read_events(run.parent / "tensorboard" / run.name)
    got = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert got["Loss/train"] == [(25, 0.5), (50, 0.25)] and got["Noise/strength"] == [(25, 0.75), (50, 0.5)]
    assert got["LearningRate/network"] == [(25, pytest.approx(0.01)), (50, pytest.approx(0.005))]
    for lod, scores in enumerate(metrics["lods"]):
        for name in ("psnr", "ssim", "lpips"):
            tag, value = f"{name.upper()}/LOD{lod}", scores[name]["all"]
            assert got.get(tag) == (None if value is None else [(50, pytest.approx(value, rel=1e-6))]), tag
    assert got["PSNR/filtered"] == [(50, pytest.approx(metrics["psnr_filtered"]["all"], rel=1e-6))]
    per_map = {tag: value for tag, value in got.items() if re.search(r"^PSNR_?map", tag, re.IGNORECASE)}
    assert len(per_map) == 2
    assert set(events.Tags()["images"]) == {f"{m}/{kind}" for m in ("diffuse", "roughness")
                                            for kind in ("decoded", "source", "error_x8")}  # fmt: skip
    errors = np.minimum(abs(decoded - source) * 8, 255)
    for kind, expected in (("decoded", decoded), ("source", source), ("error_x8", errors)):
        shown, = events.Images(f"diffuse/{kind}")
        pixels = np.asarray(PillowImage.open(io.BytesIO(shown.encoded_image_string)))
        assert shown.step == 50 and (shown.height, shown.width) == (12, 16) and pixels.shape == (12, 16, 3)
        assert (pixels == expected).all()
    assert json.loads((run / "metrics.json").read_text()) == metrics


def test_large_materials_show_a_smaller_lod(run, make_material, monkeypatch):
    monkeypatch.setattr(report, "TENSORBOARD_IMAGE_SIZE", 8)
    material = make_material(32, 4, ("roughness",))
    log = RunLog(run)
    for lod in range(material.num_lods):
        log.pictures(5, lod, codes_of(material, lod), codes_of(material, lod), material)
    log.close()
    shown, = read_events(run.parent / "tensorboard" / run.name).Images("roughness/source")
    assert (shown.width, shown.height) == (8, 1)


def test_a_resumed_log_replaces_what_came_after(run):
    first = RunLog(run)
    for iteration in (25, 50, 75):
        first.training(iteration, 1.0, {}, 0.0)
    first.close()
    name = next((run.parent / "tensorboard" / run.name).iterdir()).name
    while int(name.split(".")[3]) >= int(time.time()):  # event files are named by the second
        time.sleep(0.05)
    second = RunLog(run, 50)
    for iteration in (75, 100):
        second.training(iteration, 2.0, {}, 0.0)
    second.close()
    events = read_events(run.parent / "tensorboard" / run.name).Scalars("Loss/train")
    assert [(event.step, event.value) for event in events] == [(25, 1.0), (50, 1.0), (75, 2.0), (100, 2.0)]


def test_events_can_be_watched_while_they_are_written(run):
    log = RunLog(run)
    log.training(25, 1.0, {}, 0.0)
    assert len(read_events(run.parent / "tensorboard" / run.name).Scalars("Loss/train")) == 1
    log.close()


def test_a_full_disk_reaches_the_caller(run, monkeypatch):
    """Neither a hang nor a traceback from another thread (tensorboardX writes in a second one)."""
    log = RunLog(run)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(log._events._writer, "flush", full)
    with pytest.raises(OSError, match="No space"):
        for iteration in range(1, 100):
            log.training(iteration, 1.0, {}, 0.0)
            log._flush_at = 0.0
    log.close()


# --- files of a run ------------------------------------------------------------------------------------------------


def test_save_metrics(run, make_material):
    metrics = metrics_of(make_material(16, 12, ("diffuse", "normal")), 7)
    save_metrics(run, metrics)
    assert json.loads((run / "metrics.json").read_text()) == metrics
    table = (run / "metrics.txt").read_text()
    for scores in metrics["lods"]:
        for name in ("all", "diffuse", "normal"):
            assert f"{scores['psnr'][name]:.2f}" in table
    for name, value in metrics["psnr_filtered"].items():
        assert f"{name} {value:.2f}" in table.splitlines()[-1]
    assert {path.name for path in run.iterdir()} == {"metrics.json", "metrics.txt"} and leftovers(run) == []


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("band", [1, 2**19])
def test_strips(run, make_material, monkeypatch, threads, band):
    torch.set_num_threads(threads)
    monkeypatch.setattr(tiles, "TILE_VALUES", band)
    material = make_material(10, 6, ("diffuse", "normal", "occlusion"))
    source = codes_of(material, 0)
    random = np.random.default_rng(0)
    decoded = {name: random.integers(0, 256, codes.shape, np.uint8) for name, codes in source.items()}
    save_strips(run / "media", decoded, source)
    assert {path.name for path in (run / "media").iterdir()} == {f"{name}.png" for name in material.present}
    for name in material.present:
        image = np.asarray(PillowImage.open(run / "media" / f"{name}.png")).astype(int).reshape(6, 30, -1)
        left, middle, right = np.split(image, 3, axis=1)
        assert (left == decoded[name]).all() and (middle == source[name]).all()
        assert (right == np.minimum(abs(left - middle) * 8, 255)).all()


@pytest.mark.parametrize("asked, size, shown", [(0, 4096, 0), (0, 8192, 1), (1, 8192, 1), (2, 8192, 2), (9, 4, 2)])
def test_pictures_show_no_more_than_4096_texels_a_side(asked, size, shown):
    sizes = mip_sizes(size, 3)
    material = type("Stub", (), {"lod_sizes": sizes, "num_lods": len(sizes)})()
    assert picture_lod(make_config({"picture_lod": asked}), material) == shown


# --- the bar -------------------------------------------------------------------------------------------------------


class Stream(io.StringIO):
    def __init__(self, tty):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return self.tty


@pytest.mark.parametrize("tty, quiet, shown", [(True, False, True), (False, False, False), (True, True, False)])
def test_progress_bar(monkeypatch, tty, quiet, shown):
    stream = Stream(tty)
    monkeypatch.setattr("sys.stderr", stream)
    with progress_bar(100, 40, quiet) as bar:
        bar.set_postfix_str("PSNR 31.41 dB", refresh=False)
        bar.update(60)
    text = stream.getvalue()
    assert bool(text) is shown
    if shown:
        assert "100/100" in text and "PSNR 31.41 dB" in text and "40/100" in text


def test_progress_bar_is_seen_while_images_are_decoded(monkeypatch):
    """Decoders' lines are kept off the terminal, the bar's are not."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo terminals")
    import fcntl
    import termios

    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = os.dup(2)
    os.dup2(terminal, 2)
    try:
        monkeypatch.setattr("sys.stderr", os.fdopen(2, "w", closefd=False))
        bar = progress_bar(7, 0)
        with _quiet_decoders:
            bar.update(7)
            os.write(2, b"libpng warning")
            bar.close()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    os.set_blocking(screen, False)
    text = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            text += os.read(screen, 65536)
    os.close(screen)
    os.close(terminal)
    assert b"7/7" in text and b"libpng" not in text


# --- the summary ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "present, size, textures, blocks",
    [(("diffuse",), (8, 8), 1, 4 + 1 + 1 + 1), (("roughness",), (5, 3), 1, 2 + 1 + 1),
     (("diffuse", "normal", "roughness"), (8, 4), 3, 2 + 1 + 1 + 1), (tuple(MAPS), (4, 4), 4, 1 + 1 + 1),
     (("roughness", "occlusion", "metallic"), (4, 4), 1, 3), (("diffuse", "normal"), (1, 1), 2, 1)],
    ids=str,
)  # fmt: skip
def test_bc7_bytes(make_material, present, size, textures, blocks):
    """Colour and normal one texture each, three scalars to a texture; 16 bytes per started 4x4 block of every mip."""
    assert bc7_bytes(make_material(*size, present)) == (textures, textures * blocks * 16)


@pytest.mark.parametrize(
    "count, text",
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"),
     (3 << 30, "3.0 GiB"), (5000 << 30, "5000.0 GiB")],
)  # fmt: skip
def test_readable_bytes(count, text):
    assert readable_bytes(count) == text


@pytest.mark.parametrize("shipped", [1000, None])
def test_summary(run, make_material, shipped):
    material = make_material(16, 12, ("diffuse", "metallic"))
    metrics = metrics_of(material, 300)
    rates = {"grids": 1.5, "network": 0.25, "bpp": 1.75, "all_mips": 2.125}
    text = run_summary(Result(run, 300, metrics, rates, 12.3), material, make_config({}), shipped)
    for name in ("diffuse", "metallic"):
        assert f"{name} {metrics['psnr'][name]:.2f}" in text
    assert f"filtered {metrics['psnr_filtered']['all']:.2f} dB" in text
    network = "network 0.25, 14% of it in weights of 32 bits"
    for words in (f"{metrics['psnr']['all']:.2f} dB", "1.75 bpp", "1.50", network, "2.12", "12.3 s", "300", str(run)):
        assert words in text
    assert str(run / "models" / "train_result_300") in text and str(run.parent / "tensorboard") in text
    png, bc7 = material.png_bytes(), bc7_bytes(material)[1]
    del metrics["psnr_filtered"]  # of a checkpoint of an earlier version
    assert "filtered" not in run_summary(Result(run, 300, metrics, rates, 12.3), material, make_config({}), shipped)
    if shipped is None:
        assert "BC7" not in text
    else:
        assert f"{1000 / png:.1%}" in text and f"{1000 / bc7:.1%}" in text and readable_bytes(bc7) in text
