"""Training, rendering: the five commands on a small sphere, and what they must not do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from common.errors import run_command
from common.event_file import EventFile
from deferred import (
    baselines,
    checkpoints,
    config_example,
    options,
    render,
    render_texture,
    train_texture,
    train_unet,
)
from deferred import prepare as deferred_prepare
from deferred import train as deferred_train
from deferred.baselines import LinearTexture, mean_image_db, nearest_view_db
from deferred.dataset.frames import FrameSet, split_ids
from deferred.evaluation import render_views, score
from deferred.options import make_options, parse_args, read_settings
from deferred.training import make_trainer, options_for, train
from tests.support.deferred_views import (
    SIZE,
    flags,
    keep,
    plain_uv,
    quietly,
    run_of,
    sphere_folder,
    trained,
    write_frame,
)
from tests.support.forked import python
from tests.support.paths import ROOT

CPU = torch.device("cpu")


def sets() -> tuple[FrameSet, FrameSet]:
    return tuple(FrameSet(sphere_folder(), ids) for ids in split_ids(sphere_folder(), None, None))


def pngs(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(PillowImage.open(path)) for path in sorted(folder.glob("*.png"))}


# --- quality -------------------------------------------------------------------------------------------------------


def test_colour_texture_comes_close_to_the_best_one(tmp_path):
    """At most 1 dB below the texture with the smallest squared error, and well above a mean image."""
    quietly("train_texture", flags(tmp_path, batch=1, lr=0.05, epoch=12))
    report = json.loads((run_of(tmp_path) / "report.json").read_text())
    train_set, held_out = sets()
    best = LinearTexture(train_set, 16, 32, harmonics=False).db(held_out)
    assert report["psnr"] == report["psnr_texture"] > best - 1, (report["psnr"], best)
    assert report["psnr_mean_image"] == pytest.approx(mean_image_db(train_set, held_out)) and report["psnr"] > report[
        "psnr_mean_image"] + 2  # fmt: skip
    assert report["psnr_nearest_view"] == pytest.approx(nearest_view_db(train_set, held_out))


def test_closed_form_is_the_least_squares_solution(monkeypatch):
    """Against numpy's on the written-out matrix, ridge included; harmonics come closer still."""
    monkeypatch.setattr(baselines, "CG_TOLERANCE", 1e-7)  # also for texels that are hardly seen
    train_set, _ = sets()
    few = FrameSet(sphere_folder(), train_set.ids[:8])
    found = LinearTexture(few, 4, 5, harmonics=False)
    rows, colours = [], []
    for number in few.ids:
        frame = few.load(number)
        index, weight = found._design(frame)
        rows.append(np.zeros((len(index), 20)))
        np.add.at(rows[-1], (np.arange(len(index))[:, None], index.numpy()), weight.numpy())
        colours.append(frame.image[frame.mask] / 255)
    matrix, target = np.concatenate(rows), np.concatenate(colours)
    expected = np.linalg.solve(matrix.T @ matrix + 1e-3 * np.eye(20), matrix.T @ target)
    assert np.abs(found.values.numpy() - expected).max() < 1e-4
    assert LinearTexture(few, 4, 5, harmonics=True).db(few) > found.db(few) + 1


# --- the commands --------------------------------------------------------------------------------------------------


def test_train_leaves_a_whole_run(capsys):
    run = trained()
    names = {path.name for path in run.iterdir()}
    files = {"report.json", "report.html", "comparison.png", "texture.png"}
    assert names == {"config.json", "epoch_2.pt", "best.pt", *files}
    report = json.loads((run / "report.json").read_text())
    assert report["epochs"] == 2 and report["steps"] == 6 and report["images"] == 24 and len(report["history"]) == 2
    assert np.asarray(PillowImage.open(run / "texture.png")).shape == (16, 32, 3)
    strip = np.asarray(PillowImage.open(run / "comparison.png"))
    assert strip.shape[1] == 4 * 4 * SIZE and strip.shape[0] == 16 + 2 * 4 * SIZE
    page = (run / "report.html").read_text()
    assert page.count("<img") == 2 and "<svg" in page and f"{report['psnr']:.2f} dB" in page and "http" not in page
    assert list((run.parent / "tensorboard" / run.name).glob("events*"))


def test_tensorboard_has_losses_rates_scores_and_pictures():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trained()
    events = EventAccumulator(str(run.parent / "tensorboard" / run.name))
    events.Reload()
    wanted = {
        "loss/total",
        "loss/texture",
        "loss/render",
        "lr/texture",
        "lr/unet",
        "psnr/val",
        "psnr_texture/val",
        "ssim/val",
    }
    assert set(events.Tags()["scalars"]) == wanted and events.Tags()["images"] == ["val/truth_texture_ours_error"]
    rates = {name: [entry.value for entry in events.Scalars(f"lr/{name}")] for name in ("texture", "unet")}
    assert rates["texture"] == pytest.approx([0.004, 0.008]) and rates["unet"] == pytest.approx([0.0004, 0.0008])
    assert [entry.step for entry in events.Scalars("loss/total")] == [12, 24]


def test_saved_loaded_and_rendered_are_the_same(tmp_path):
    """The model in memory, its checkpoint, and render.py one by one and in batches: the same bytes."""
    given = flags(tmp_path, epoch=1)
    trainer = make_trainer("train", make_options("train", given), None, CPU)
    events = EventFile(tmp_path / "events")
    (tmp_path / "run").mkdir()
    assert trainer.train(tmp_path / "run", events, quiet=True)
    events.close()
    _, held_out = sets()
    loaded = checkpoints.load(tmp_path / "run" / "epoch_1.pt").model
    kept = [list(render_views(model, held_out, batch, CPU)) for model, batch in ((trainer.model, 2), (loaded, 1))]
    assert all(np.array_equal(a.image, b.image) and np.array_equal(a.colour, b.colour) for a, b in zip(*kept))
    arguments = ["--data", str(sphere_folder()), "--load", str(tmp_path / "run"), "--test", "12-13", "--batch", "1"]
    assert render.main([*arguments, "--save", str(tmp_path / "a")]) == 0
    assert render_texture.main([*arguments, "--save", str(tmp_path / "b")]) == 0
    for folder, name in (("a", "image"), ("b", "colour")):
        files = pngs(tmp_path / folder)
        assert list(files) == ["0012_render.png", "0013_render.png"]
        assert all(np.array_equal(image, getattr(view, name)) for image, view in zip(files.values(), kept[0]))
        assert not any(image[~view.frame.mask].any() for image, view in zip(files.values(), kept[0]))


def test_unet_on_a_texture_that_stays(tmp_path):
    quietly("train_texture", flags(tmp_path / "texture", batch=4))
    texture = run_of(tmp_path / "texture")
    before = checkpoints.load(texture / "epoch_2.pt").model.texture
    quietly("train_unet", flags(tmp_path / "unet", load=str(texture), texture_dim=13, epoch=1))
    model = checkpoints.load(run_of(tmp_path / "unet") / "epoch_1.pt").model
    assert all(torch.equal(own[:3], given) for own, given in zip(model.texture.levels, before.levels))
    assert not any(bool(level[3:].any()) for level in model.texture.levels[:-1]) and bool(
        (model.texture.levels[-1][3:12] == 1).all()
    )
    # what came of it can be trained further, all of it, and so can the colours alone
    quietly(
        "train", flags(tmp_path / "joint", load=str(run_of(tmp_path / "unet")), texture_dim=13, epoch=1, load_step=1000)
    )
    after = checkpoints.load(run_of(tmp_path / "joint") / "epoch_1.pt")
    assert not torch.equal(after.model.texture.levels[0][:3], before.levels[0]) and after.images == 1012
    quietly("train", flags(tmp_path / "colours", load=str(texture), epoch=1))


def test_image_as_a_texture(tmp_path):
    """render_texture.py with a picture: what the texture's own colours give, but for the rounding of the picture."""
    run = trained()
    common = ["--data", str(sphere_folder()), "--test", "12", "--out_mode", "image"]
    assert render_texture.main([*common, "--load", str(run / "texture.png"), "--save", str(tmp_path / "picture")]) == 0
    assert render_texture.main([*common, "--load", str(run / "epoch_2.pt"), "--save", str(tmp_path / "run")]) == 0
    a, b = (pngs(tmp_path / name)["0012_render.png"].astype(int) for name in ("picture", "run"))
    assert a.any() and np.abs(a - b).max() <= 4


@pytest.mark.parametrize("codec", ["H.264", "MPEG-4"])
def test_video(codec, tmp_path, capsys, monkeypatch):
    """With imageio-ffmpeg, and without it: black where no surface is, the size of the frames but for odd sides."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    folder = tmp_path / "data"
    for number in range(3):  # odd sides, which the codec does not take
        uv = plain_uv(33, 47)
        uv[:, 20:] = np.nan
        write_frame(folder, number, np.full((33, 47, 3), 200, np.uint8), uv, np.array([0, 0, 1], np.float32))
    shutil.rmtree(folder / "frame")
    arguments = [
        "--data",
        str(folder),
        "--load",
        str(trained()),
        "--save",
        str(tmp_path),
        "--out_mode",
        "video",
        "--fps",
        "12",
    ]
    if codec == "MPEG-4":
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert render.main(arguments) == 0
    said = capsys.readouterr().out
    assert "3 frames at 12 a second" in said and codec in said
    assert ("pip install -r requirements/deferred.txt" in said) == (codec == "MPEG-4")
    reader = ffmpeg.read_frames(str(tmp_path / "render.mp4"))
    facts = next(reader)
    assert facts["size"] == (48, 34) and facts["fps"] == 12
    frames = [np.frombuffer(frame, np.uint8).reshape(34, 48, 3) for frame in reader]
    # the outline rings within its block of 16 pixels
    assert len(frames) == 3 and all(frame[:, 32:].max() <= 8 and frame[:32, :16].max() > 60 for frame in frames)


@pytest.mark.parametrize("form", ["inside", "module"])
def test_commands_start_in_both_ways(form, tmp_path):
    """As a file inside deferred/, where train.py and dataset/ are others than the root's, and as a module."""
    command, where = (["train_texture.py"], ROOT / "deferred") if form == "inside" else (["-m", "deferred.train"], ROOT)
    given = flags(tmp_path, epoch=1)
    if form == "inside":
        given = {name: value for name, value in given.items() if name != "unet_width"}
    arguments = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    done = subprocess.run([*python(), *command, *arguments], cwd=where, capture_output=True, text=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout and (run_of(tmp_path) / "report.html").is_file()


# --- messages ------------------------------------------------------------------------------------------------------


def test_what_can_be_wrong(tmp_path, refused, monkeypatch):
    given = flags(tmp_path)
    with refused("train_texture.py", "--load"):  # of which it takes the newest run, and there is none
        train("train_unet", {"data": given["data"], "checkpoint": given["checkpoint"]}, quiet=True)
    with refused("0099.png", "1 of 2"):
        train("train", {**given, "train": "0, 99"}, quiet=True)
    empty = tmp_path / "empty"
    shutil.copytree(given["data"], empty)
    nothing = np.full((SIZE, SIZE, 2), np.nan)
    for ids, flag in (((12, 13), "--val"), (range(14), "--train")):
        for number in ids:
            np.save(empty / "uv" / f"{number:04d}.npy", nothing)
        with refused(flag, "surface"):
            train("train", {**given, "data": str(empty)}, quiet=True)
    with refused("--load", "64x16"):
        train("train", {**given, "texturew": 64, "load": str(trained())}, quiet=True)
    with refused("--load", "--unet_width"):
        train("train", {**given, "unet_width": 3, "load": str(trained())}, quiet=True)
    with refused("nowhere", "no runs"):
        train("train", {**given, "load": "nowhere"}, quiet=True)
    with refused("--checkpoint", "none"):
        render.main(["--checkpoint", str(tmp_path), "--data", given["data"]])
    monkeypatch.setitem(sys.modules, "optuna", None)
    from deferred import tune

    with refused("optuna", "pip install"):
        tune.main([])
    assert run_command(lambda: train("train", {**given, "device": "cuda"}) if not torch.cuda.is_available() else 2) == 2


def test_render_wants_a_unet(tmp_path, refused):
    quietly("train_texture", flags(tmp_path, epoch=1))
    with refused("render_texture.py"):
        render.main(["--load", str(run_of(tmp_path)), "--data", str(sphere_folder())])


def test_settings_of_the_user(tmp_path, refused, monkeypatch):
    path = tmp_path / "config.py"
    assert read_settings(path)["BATCH_SIZE"] == config_example.BATCH_SIZE == "auto"
    path.write_text("BATCH_SIZE = 3\nTRAIN_SET = ['0000', '0002']\n")
    monkeypatch.setattr(options, "CONFIG_FILE", path)
    monkeypatch.setattr(options.read_settings, "__defaults__", (path,))
    made = make_options("train", {})
    assert (made.batch, made.train, made.epoch) == (3, "0000, 0002", None)
    assert make_options("train", {"batch": 4}).batch == 4 and make_options("train", {"batch": "auto"}).batch is None
    for text, word in (("BATCH_SIZES = 3", "BATCH_SIZE?"), ("EPOCH = 'x'", "EPOCH"), ("EPOCH = ", "SyntaxError"),
                       ("CACHE = 'x'", "CACHE: expected auto"), ("BETAS = 'x'", "BETAS: expected")):  # fmt: skip
        path.write_text(text + "\n")
        with refused("config.py", word):
            make_options("train", {})


ADVICE = {"train": {"lr": 0.02, "batch": 3, "view_direction": False}, "train_texture": {"epoch": 7}}


def test_settings_of_a_data_folder(tmp_path, monkeypatch, refused):
    """Between config_example.py and what the user gave: a flag, or a setting of config.py that is another."""
    data, config = tmp_path / "data", tmp_path / "config.py"
    data.mkdir()
    said = []

    def made(script="train", **given):
        said.clear()
        return options_for(script, {"data": str(data), **given}, said.append)

    assert (made().lr, made().batch, made().epoch) == (None, None, None) and not said  # chosen later: fitting.py
    (data / "settings.json").write_text(json.dumps(ADVICE))
    assert (made().lr, made().batch, made().view_direction, made().epoch) == (0.02, 3, False, None)
    assert said == [f"settings of {data / 'settings.json'}: --lr 0.02 --batch 3 --view_direction False"]
    assert made(lr=0.5, batch=3).lr == 0.5 and said[0].endswith(": --batch 3 --view_direction False")
    assert made("train_texture").epoch == 7 and made("train_texture").lr is None and made("train_unet").lr is None
    monkeypatch.setattr(options, "CONFIG_FILE", config)
    monkeypatch.setattr(options.read_settings, "__defaults__", (config,))
    shutil.copy(config_example.__file__, config)
    assert (made().lr, made().batch) == (0.02, 3)  # a copy that says nothing else
    config.write_text("LEARNING_RATE = 1e-3\nBATCH_SIZE = 12\nEPOCH = 50\n")  # one of before there was "auto"
    assert (made().lr, made().batch, made().epoch) == (0.02, 3, 50)
    config.write_text("BATCH_SIZE = 5\n")
    assert (made().lr, made().batch) == (0.02, 5)
    config.unlink()
    for text, word in (("{", "cannot be read"), ("[]", "expected"), ('{"render": {}}', "expected"),
                       ('{"train": {"data": "x"}}', "data"), ('{"train": {"lr": -1}}', "lr"),
                       ('{"train": {"lr": NaN}}', "cannot be read"), ('{"train": {"speed": 1}}', "speed"),
                       ('{"train": {"background_uv": "x"}}', "json: background_uv: expected auto, none"),
                       ('{"train": {"betas": "1"}}', "json: betas: expected 2 numbers"),
                       ('{"train": {"l2": "1"}}', "json: l2: expected auto or 4 numbers"),
                       ('{"train": {"texture_dim": 5}}', "json: texture_dim 5: expected")):  # fmt: skip
        (data / "settings.json").write_text(text)
        with refused("settings.json", word):
            made()


def test_a_run_that_goes_on_takes_no_settings_of_the_data(tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sphere_folder(), data)
    given = flags(tmp_path, data=str(data), epoch=1)
    quietly("train", given)
    run = run_of(tmp_path)
    (data / "settings.json").write_text(json.dumps({"train": {"lr": 0.5, "texturew": 8}}))
    said = []
    common = {"checkpoint": str(tmp_path), "logdir": given["logdir"], "resume": str(run), "epoch": 2}
    assert train("train", common, said.append, quiet=True) == 0
    assert not any("settings of" in line for line in said)
    assert checkpoints.load(run / "epoch_2.pt").config["lr"] == 0.02


# --- the sample ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """The sample's folder, elsewhere; commands write into `tmp_path`."""
    monkeypatch.setattr(deferred_prepare, "SAMPLE", keep() / "sample")
    monkeypatch.chdir(tmp_path)
    return deferred_prepare.data_folder("", lambda _: None)


def test_simple_methods_on_the_sample(sample, monkeypatch):
    """What the specification says of a mean image, the nearest view, and a closed-form texture on such a sphere."""
    monkeypatch.setattr(baselines, "CG_STEPS", 20)  # within 0.01 dB of what 60 reach
    train_set, held_out = (FrameSet(sample, ids) for ids in split_ids(sample, None, None))
    assert (len(train_set), len(held_out), set(train_set.sizes.values())) == (120, 20, {(64, 64)})
    assert mean_image_db(train_set, held_out) == pytest.approx(16.0, abs=0.25)
    assert nearest_view_db(train_set, held_out) == pytest.approx(19.9, abs=0.25)
    assert LinearTexture(train_set, 32, 64, harmonics=False).db(held_out) == pytest.approx(20.2, abs=0.4)


def test_five_commands_on_the_sample(sample, capsys):
    """Without a flag but those that make it short: each takes the newest run of the one before."""
    started = time.process_time()
    small = ["--device", "cpu", "--epoch", "1", "--batch", "12"]
    assert train_texture.main(small) == 0
    assert train_unet.main([*small, "--unet_width", "4"]) == 0
    assert deferred_train.main([*small, "--unet_width", "4"]) == 0
    assert render.main(["--test", "120-139", "--save", "ours"]) == 0
    assert render_texture.main(["--test", "120-139", "--save", "colours"]) == 0
    assert len(pngs(Path("ours"))) == len(pngs(Path("colours"))) == 20
    said = capsys.readouterr().out
    assert said.count("settings of") == 3 and "--texturew 256 --textureh 128" in said and said.count("PSNR ") == 5
    assert "of the newest run of train_texture.py" in said
    assert time.process_time() - started < 120


def test_flags_are_those_of_the_original():
    names = "texturew textureh texture_dim use_pyramid view_direction data checkpoint logdir train epoch batch"
    names += " cropw croph lr betas l2 eps load load_step epoch_per_checkpoint unet_width device seed resume"
    made = make_options("train", {})
    assert all(hasattr(made, name) for name in names.split())
    assert made.texture_dim == 16 and made.l2 == "auto"
    assert parse_args("train", "", ["--use_pyramid", "False", "--view_direction"]) == {
        "use_pyramid": False,
        "view_direction": True,
    }
    rendering = make_options("render", {})
    wanted = ["data", "test", "checkpoint", "load", "batch", "save", "out_mode", "fps", "device"]
    assert all(hasattr(rendering, name) for name in wanted)


def test_search(tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="optuna is not installed")
    from deferred import tune

    given = {name: value for name, value in flags(tmp_path, epoch=1).items() if name != "lr"}
    arguments = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    study = ["--study", str(tmp_path / "study.db")]
    checked, inspect = [], FrameSet.inspect
    monkeypatch.setattr(FrameSet, "inspect", lambda frames, number: checked.append(number) or inspect(frames, number))
    assert tune.main(["--trials", "2", *study, *arguments]) == 0
    assert sorted(checked) == list(range(14))  # once, not in each trial
    result = json.loads((tmp_path / "tune.json").read_text())
    assert len(result["trials"]) == 2 and result["best"]["psnr"] == max(trial["psnr"] for trial in result["trials"])
    assert {"lr", "l2"} <= set(result["best"])
    assert tune.main(["--trials", "1", *study, *arguments]) == 0  # the search goes on
    assert len(json.loads((tmp_path / "tune.json").read_text())["trials"]) == 3


def test_scores_are_those_of_the_rendered_files():
    _, held_out = sets()
    views = list(render_views(checkpoints.load(trained() / "epoch_2.pt").model, held_out, 12, CPU))
    report = json.loads((trained() / "report.json").read_text())
    assert score(views)["psnr"] == pytest.approx(report["psnr"]) and keep().is_dir()
