"""What training chooses by itself, which epoch is kept as the best, and runs of before there was either."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from common.event_file import EventFile
from deferred import best as best_module
from deferred import checkpoints, options, render, train
from deferred.best import best_entry
from deferred.fitting import Facts, fit
from deferred.model.renderer import Form
from deferred.options import make_options
from deferred.training import make_trainer, start_options
from deferred.training import train as run_training
from tests.support.deferred_views import flags, quietly, run_of, sphere_folder, trained

CPU = torch.device("cpu")
CHOSEN = ("texturew", "textureh", "unet_width", "epoch", "batch", "cropw", "croph", "lr", "epoch_steps", "l2")


def chosen(script: str = "train", frames: int = 60, size: tuple[int, int] = (256, 256), device: str = "cpu",
           form: Form | None = None, **given) -> tuple[dict, str]:  # fmt: skip
    facts = Facts(frames, [size] * frames, device)
    made, text = fit(script, make_options(script, given), facts, form)
    return {name: getattr(made, name) for name in CHOSEN}, text


# --- what is chosen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["train", "train_texture", "train_unet"])
@pytest.mark.parametrize("frames", [899, 771])  # all, and all but the last seventh
def test_the_originals_set_gets_the_originals_settings(script, frames):
    found, _ = chosen(script, frames, (512, 512), "cuda")
    assert found == {"texturew": 1024, "textureh": 1024, "unet_width": 64, "epoch": 50, "batch": 12, "cropw": 256,
                     "croph": 256, "lr": 1e-3, "epoch_steps": 0, "l2": "0.01,0.001,0.0001,0"}  # fmt: skip


def steps(found: dict, frames: int) -> int:
    return found["epoch"] * -(-frames // found["batch"])


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (48, 200), (1080, 1920), (9, 5)])
@pytest.mark.parametrize("frames", [1, 5, 60, 300, 900])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_small_sets_get_steps(frames, size, device):
    found, text = chosen(frames=frames, size=size, device=device)
    if frames < 700 or device == "cpu":
        wanted = 1500 if device == "cpu" else 3750  # of the original
        assert wanted <= steps(found, frames) < wanted + -(-frames // found["batch"])
        assert 50 <= steps(found, frames) / found["epoch_steps"] <= 60  # with the fall of the rates
        assert found["lr"] * steps(found, frames) >= 3.7  # as far as the original moves
        assert found["l2"] == "0,0,0,0"
    assert found["batch"] <= frames and found["unet_width"] == (16 if device == "cpu" else 64)
    assert found["croph"] <= max(size[0], 8) and found["cropw"] <= max(size[1], 8) and found["cropw"] <= 256
    if device == "cpu":
        assert found["batch"] * found["croph"] * found["cropw"] <= 2 * 256**2
    assert found["texturew"] == found["textureh"] == {256: 512, 64: 128, 200: 512, 1920: 1024, 9: 64}[max(size)]
    assert all(f"--{name} {found[name]:g}" in text if name == "lr" else f"--{name} {found[name]}" in text
               for name in CHOSEN)  # fmt: skip


def test_what_is_given_stays_and_what_depends_on_it_follows():
    found, text = chosen(frames=60, batch=6, texturew=100)
    assert (found["batch"], found["texturew"], found["textureh"], found["epoch"]) == (6, 100, 512, 150)
    assert "--batch" not in text and "--texturew" not in text and "--epoch 150" in text
    short, _ = chosen(frames=60, epoch=2, batch=6)
    assert short["epoch"] == 2 and short["epoch_steps"] == 1 and short["lr"] == 0.01
    everything = {"texturew": 8, "textureh": 8, "unet_width": 2, "epoch": 3, "batch": 2, "cropw": 8, "croph": 8,
                  "lr": 0.1, "epoch_steps": 7, "upsampling": "transposed", "l2": "1, 0, 0, 0"}  # fmt: skip
    assert chosen(**everything) == ({name: everything[name] for name in CHOSEN}, "")
    given = Form(16, 32, 64, True, True, 5, "transposed")
    found, text = chosen(form=given)
    assert (found["texturew"], found["textureh"], found["unet_width"]) == (64, 32, 5) and "--upsampling transp" in text


def test_training_says_what_it_chose(tmp_path):
    """The flags with their reason; they are in the run's files, and a resumed run keeps them."""
    given = {name: value for name, value in flags(tmp_path, texturew=8, textureh=8, epoch=1).items()
             if name not in ("lr", "batch", "unet_width")}  # fmt: skip
    said = quietly("train", {**given, "unet_width": 1, "cropw": "auto", "train": "0-3"})
    (line,) = (line for line in said if line.startswith("chosen"))
    assert "--batch 4 " in line and "--lr 0.01" in line and "--cropw 32" in line and "for 1 steps" in line
    run = run_of(tmp_path)
    config = json.loads((run / "config.json").read_text())["options"]
    assert config["batch"] == 4 and config["epoch_per_checkpoint"] == 50
    asked = {"resume": str(run), "checkpoint": str(tmp_path), "epoch": 2, "lr": None, "batch": None, "l2": "auto"}
    resumed, loaded = start_options("train", asked)
    assert (resumed.batch, resumed.lr, resumed.epoch, resumed.epoch_steps) == (4, 0.01, 2, 0) and loaded.epoch == 1


def test_flags_may_say_auto(capsys, refused):
    assert options.parse_args("train", "", ["--lr", "auto", "--epoch", "7"]) == {"lr": None, "epoch": 7}
    with pytest.raises(SystemExit):
        train.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "times that every training frame is seen [1 to 1e+06; epochs; or auto; default auto]" in said
    for value in ("Auto", "0", "x"):
        with refused("--batch"):
            options.parse_args("train", "", ["--batch", value])


def test_rates_follow_steps(tmp_path):
    given = flags(tmp_path, epoch=2, epoch_steps=2, train="0-4", batch=1, lr=0.01, texturew=8, textureh=8)
    trainer = make_trainer("train", make_options("train", given), None, CPU)
    seen = []
    step = trainer._step
    trainer._step = lambda batch: (seen.append(trainer.optimiser.param_groups[0]["lr"]), step(batch))
    events = EventFile(tmp_path / "events")
    (tmp_path / "run").mkdir()
    trainer.train(tmp_path / "run", events, quiet=True)
    events.close()
    assert seen == pytest.approx([0.002, 0.002, 0.004, 0.004, 0.006, 0.006, 0.008, 0.008, 0.01, 0.01])


# --- the best epoch ------------------------------------------------------------------------------------------------


def test_the_best_epoch_is_kept(tmp_path, monkeypatch):
    """It is neither the last nor the first here; rendering takes it, and going on does not."""
    monkeypatch.setattr(best_module, "WRITE_SECONDS", 1e9)  # written by what is saved after it
    trainer = make_trainer("train", make_options("train", flags(tmp_path, epoch=4)), None, CPU)
    scores, states = iter([10.0, 12.0, 11.0, 12.0]), []

    def validate():
        states.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        return {"psnr": next(scores), "psnr_texture": 5.0, "ssim": None}

    trainer.validate = validate
    run, events = tmp_path / "run", EventFile(tmp_path / "events")
    run.mkdir()
    (run / "config.json").write_text('{"script": "train"}')
    assert trainer.train(run, events, quiet=True)
    events.close()
    kept = checkpoints.load(run / "best.pt")
    assert (kept.epoch, kept.images, best_entry(trainer.history)["epoch"]) == (2, 24, 2) and not kept.training
    assert all(torch.equal(value, states[1][name]) for name, value in kept.model.state_dict().items())
    assert (run / "best.pt").stat().st_size < 0.6 * (run / "epoch_4.pt").stat().st_size  # without Adam's moments
    assert checkpoints.find_checkpoint(str(run), tmp_path, ()) == run / "best.pt"
    assert checkpoints.find_checkpoint("", tmp_path, ("train",), to_resume=True) == run / "epoch_4.pt"


def test_best_is_rendered_and_reported(tmp_path, capsys, refused):
    run = trained()
    report = json.loads((run / "report.json").read_text())
    found = {entry["epoch"]: entry["psnr"] for entry in report["history"]}
    assert report["best_psnr"] == max(found.values()) == found[report["best_epoch"]]
    assert f"best held-out view PSNR, epoch {report['best_epoch']}" in (run / "report.html").read_text()
    given = ["--data", str(sphere_folder()), "--test", "12-13", "--save", str(tmp_path)]
    assert render.main([*given, "--load", str(run)]) == 0
    assert f"PSNR {report['best_psnr']:.2f} dB" in capsys.readouterr().out
    shutil.copytree(run, tmp_path / "run")
    with refused("best.pt", "optimiser"):
        start_options("train", {"resume": str(run / "best.pt")})
    (tmp_path / "run" / "epoch_2.pt").unlink()  # a run of which nothing else is left
    assert render.main([*given, "--checkpoint", str(tmp_path)]) == 0
    for wanted in ("newest", "run", str(tmp_path / "run")):
        with refused("best.pt alone", "--load"):
            start_options("train", {"resume": wanted, "checkpoint": str(tmp_path)})
    (tmp_path / "run" / "best.pt").unlink()
    with refused("run: expected a checkpoint in the run's folder, found none"):
        start_options("train", {"resume": "run", "checkpoint": str(tmp_path)})


def test_no_best_epoch_without_held_out_frames(tmp_path):
    quietly("train", flags(tmp_path, epoch=1, train="0-13"))
    run = run_of(tmp_path)
    assert not (run / "best.pt").exists() and "best_epoch" not in json.loads((run / "report.json").read_text())
    assert checkpoints.find_checkpoint(str(run), tmp_path, ()) == run / "epoch_1.pt"


# --- runs of before ------------------------------------------------------------------------------------------------


def test_a_run_with_transposed_convolutions_renders_and_goes_on(tmp_path, refused):
    """Its checkpoint as it was written before: without upsampling, epoch_steps and best.pt."""
    given = flags(tmp_path, upsampling="transposed", epoch_steps=0)
    quietly("train", given)
    run = run_of(tmp_path)
    (run / "best.pt").unlink()
    payload = torch.load(run / "epoch_2.pt", weights_only=True)
    form, config = json.loads(payload["form"]), json.loads(payload["config"])
    assert form.pop("upsampling") == config.pop("upsampling") == "transposed" and config.pop("epoch_steps") == 0
    assert payload["model"]["unet.up.0.weight"].shape[2:] == (4, 4) and "unet.direct.weight" not in payload["model"]
    torch.save({**payload, "form": json.dumps(form), "config": json.dumps(config)}, run / "epoch_2.pt")
    wanted = ["--data", str(sphere_folder()), "--test", "12", "--save", str(tmp_path)]
    assert render.main([*wanted, "--load", str(run)]) == 0
    again = {"resume": str(run), "checkpoint": str(tmp_path), "logdir": given["logdir"], "epoch": 3}
    assert run_training("train", again, lambda _: None, quiet=True) == 0
    longer = checkpoints.load(run / "epoch_3.pt")
    assert longer.model.form.upsampling == "transposed" and longer.config["epoch_steps"] == 0
    # it can be trained further, as what it is
    with refused("--upsampling resize", "transposed"):
        run_training("train", {**given, "load": str(run), "upsampling": "resize"}, quiet=True)
    new = {name: value for name, value in given.items() if name != "upsampling"}
    started, loaded = start_options("train", {**new, "load": str(run)})
    trainer = make_trainer("train", started, loaded, CPU)
    assert trainer.options.upsampling == "transposed"
    state = trainer.model.state_dict()
    assert all(np.array_equal(value, state[name]) for name, value in checkpoints.load(
        checkpoints.find_checkpoint(str(run), tmp_path, ())).model.state_dict().items())  # fmt: skip
