"""train.py and run_inference.py of NeuroPBR: what is written, what goes on, and what is refused."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.stop import StopRequest
from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import load_config
from neuropbr.utils.checkpoints import load_checkpoint, load_generator, plain_names, unwrapped
from neuropbr.utils.logs import Logs
from neuropbr.utils.maps import MAPS
from neuropbr.utils.schedule import Schedule
from neuropbr.utils.teacher_loop import TeacherLoop
from tests.support import neuropbr_tools as tools
from tests.support.forked import python
from tests.support.runs import QUICK


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tools.write_set(tmp_path_factory.mktemp("set"), materials=4, size=64)


def words_of(data, checkpoints, **more):
    return ["--input-dir", data / "input", "--output-dir", data / "output", "--checkpoint-dir", checkpoints,
            *tools.sets(training__gan_start_epoch=1, training__log_every_n_steps=1, **more)]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Checkpoint folder of three epochs with a GAN from the second on."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    more = {"training__save_every_n_epochs": 2, "data__val_ratio": 0.3, "data__use_augmentation": True}
    assert tools.run("train", *words_of(tiny, folder, **more), "--epochs", 3) == 0
    return folder


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b or (isinstance(a, float) and math.isnan(a))


def test_what_a_run_writes(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {"latest.pth", "best_model.pth", "checkpoint_epoch_0002.pth", "logs"}
    checkpoint = torch.load(finished / "latest.pth", weights_only=True)
    assert checkpoint["epoch"] == 3 and checkpoint["global_step"] == 6
    assert {"generator_state_dict", "discriminator_state_dict", "g_optimizer_state_dict", "d_optimizer_state_dict",
            "g_scheduler_state_dict", "random_state", "config", "val_loss", "best_val_loss"} <= {*checkpoint}
    events = EventAccumulator(str(finished / "logs"), size_guidance={"images": 0})
    events.Reload()
    scalars, images = set(events.Tags()["scalars"]), set(events.Tags()["images"])
    assert {f"train/{name}" for name in (
        "g_loss", "d_loss", "g_lr", "l1_albedo", "l1_roughness", "l1_metallic", "l1_normal", "loss_l1_total",
        "loss_ssim", "loss_normal", "normal_angle_deg", "loss_gan_g", "mae_albedo", "rmse_albedo", "loss_total",
    )} <= scalars  # fmt: skip
    assert {"val/loss", "val/albedo_psnr", "val/overall_psnr", "val/normal_angle_p95", "val/metallic_ssim"} <= scalars
    assert {"val/input_views", "val/comparison"} | {f"val/{m}_{k}" for m in MAPS for k in ("pred", "target")} == images
    assert [event.step for event in events.Scalars("train/g_loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("train/d_loss")] == [3, 4, 5, 6]


def test_weights_and_biases_get_the_same_names(tmp_path, monkeypatch, capsys):
    """By a stand-in for the package, which wants an account; and a line where it is not installed."""
    seen = []
    stand_in = SimpleNamespace(init=lambda **words: seen.append(words) or stand_in, log=seen.append,
                               Image=lambda pixels: pixels.shape, finish=lambda: seen.append("end"))  # fmt: skip
    config = load_config("default")
    config.training.use_wandb, config.training.wandb_run_name = True, "first"
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    logs = Logs(tmp_path, config)
    logs.scalars("train", {"g_loss": torch.tensor(0.5)}, 7)
    logs.scalars("val", {"loss": 0.25}, 2)
    logs.image("val/comparison", torch.zeros(3, 4, 5), 2)
    logs.close()
    assert seen == [{"project": "neuropbr", "name": "first", "config": config.to_dict()},
                    {"train/g_loss": 0.5, "global_step": 7}, {"val/loss": 0.25, "epoch": 2},
                    {"val/comparison": (4, 5, 3), "epoch": 2}, "end"]  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", None)
    Logs(tmp_path / "without", config).close()
    assert "pip install wandb" in capsys.readouterr().err


@pytest.mark.parametrize("stop_after", [2, 3], ids=["between epochs", "inside an epoch"])
def test_a_resumed_run_gives_the_same_bits(tiny, finished, tmp_path, stop_after):
    """Stopped as Ctrl-C does it, resumed with --resume alone; the reference is `finished`."""
    module, folder = tools.script("train"), tmp_path / "checkpoints"
    more = {"training__save_every_n_epochs": 2, "data__val_ratio": 0.3, "data__use_augmentation": True}
    options = module.parse_args([str(word) for word in [*words_of(tiny, folder, **more), "--epochs", "3"]])
    config = module.resolve_config(options)
    loop, stop = TeacherLoop(config, module.resolve_device(config, options)), StopRequest()
    step = loop.train_step

    def stopping(batch):
        scalars = step(batch)
        if loop.global_step + 1 == stop_after:
            stop(signal.SIGINT, None)
        return scalars

    loop.train_step = stopping
    assert loop.run(stop) is False
    torch.manual_seed(1234)  # nothing may depend on what the process did before
    assert tools.run("train", "--resume", folder / "latest.pth") == 0
    ours, reference = (torch.load(path / "latest.pth", weights_only=True) for path in (folder, finished))
    for values in (ours, reference):
        values["config"]["training"].update(checkpoint_dir="", resume_from=None)
    assert same(ours, reference)
    reference["generator_state_dict"]["decoder.heads.albedo.bias"] += 1e-6
    assert not same(ours, reference)


def test_the_best_model_is_the_model_alone_and_goes_on_with_a_note(tiny, finished, tmp_path, capsys):
    best = torch.load(finished / "best_model.pth", weights_only=True)
    assert not {"g_optimizer_state_dict", "d_optimizer_state_dict", "discriminator_state_dict"} & set(best)
    parts = ("generator_state_dict", "config", "epoch", "val_loss", "random_state", "g_scheduler_state_dict")
    assert set(parts) <= set(best)
    assert (finished / "best_model.pth").stat().st_size < 0.5 * (finished / "latest.pth").stat().st_size
    module = tools.script("train")
    words = ["--resume", str(finished / "best_model.pth"), "--checkpoint-dir", str(tmp_path), "--epochs", "4"]
    config = module.resolve_config(module.parse_args(words))
    loop = TeacherLoop(config, torch.device("cpu"))
    assert "g optimizer" in capsys.readouterr().out and loop.epoch == best["epoch"]
    weights = loop.state()["generator_state_dict"]
    assert same(weights, best["generator_state_dict"])
    rate = loop.optimizers["g_optimizer"].param_groups[0]["lr"]
    assert rate == best["g_scheduler_state_dict"]["curve"]["_last_lr"][0] != config.optimizer.g_lr
    torch.save({key: value for key, value in best.items() if key != "random_state"}, tmp_path / "part.pth")
    assert tools.run("train", "--resume", tmp_path / "part.pth", "--epochs", 4) == 2
    assert "random_state" in capsys.readouterr().err


def test_resume_takes_paths_from_the_checkpoint_and_flags_win(finished, tmp_path, capsys):
    with tools.inside(tmp_path):
        assert tools.run("train", "--resume", finished / "latest.pth", "--checkpoint-dir", "more", "--epochs", 4) == 0
    assert torch.load(tmp_path / "more" / "latest.pth", weights_only=True)["epoch"] == 4
    assert tools.run("train", "--resume", tmp_path / "none.pth") == 2
    assert tools.run("train", "--resume", finished / "latest.pth", "--device", "cuda:99") == 2
    (tmp_path / "bad.pth").write_bytes((finished / "latest.pth").read_bytes()[:5000])
    assert tools.run("train", "--resume", tmp_path / "bad.pth") == 2
    assert tools.run("train", "--resume", finished / "latest.pth", "--set", "model.encoder_channels=(8,16,32)") == 2
    assert tools.run("train", "--resume", finished / "latest.pth", "--set", "optimizer.g_optimizer=sgd") == 2
    torch.save({"config": torch.load(finished / "latest.pth")["config"]}, tmp_path / "part.pth")
    assert tools.run("train", "--resume", tmp_path / "part.pth") == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 6 and all(line.startswith("error:") for line in lines)
    assert "g_optimizer: expected adamw" in lines[4] and "latest.pth" in lines[5]
    assert tools.run("train", "--resume", finished / "latest.pth", "--checkpoint-dir", tmp_path / "same") == 0
    assert "all 3 epochs are done" in capsys.readouterr().out


def test_a_compiled_checkpoint_loads_elsewhere(finished, tmp_path):
    model, config = load_generator(finished / "latest.pth")
    wrapped = torch.compile(model, backend="eager")
    state = wrapped.state_dict()
    assert all(name.startswith("_orig_mod.") for name in state) and unwrapped(wrapped) is model
    torch.save({"config": config.to_dict(), "model_state_dict": state}, tmp_path / "compiled.pth")
    views = torch.randn(1, 3, 3, 64, 64)
    again, _ = load_generator(tmp_path / "compiled.pth")
    assert torch.equal(again(views)["albedo"], model(views)["albedo"])
    assert plain_names({"module._orig_mod.a": 1}) == {"a": 1}


@pytest.mark.parametrize("change", ["a changed weight", "compressed parts", "an object that unpacks to gigabytes"])
def test_checkpoints_that_torch_would_load_are_refused(finished, tmp_path, refused, change):
    path = tmp_path / "changed.pth"
    if change == "a changed weight":  # torch.load does not compare checksums
        content = bytearray((finished / "latest.pth").read_bytes())
        with zipfile.ZipFile(finished / "latest.pth") as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        content[largest.header_offset + largest.file_size // 2] ^= 1
        path.write_bytes(content)
    elif change == "compressed parts":
        with zipfile.ZipFile(finished / "latest.pth") as archive, zipfile.ZipFile(path, "w", 8) as deflated:
            for entry in archive.infolist():
                deflated.writestr(entry.filename, archive.read(entry))
    else:
        torch.save({"config": bytearray(8)}, path)
    with refused("changed.pth"):
        load_checkpoint(path)


def test_checkpoints_that_would_run_code_are_refused(tmp_path, refused):
    class Harm:
        def __reduce__(self):
            return os.system, ("touch harmed",)

    torch.save({"config": Harm()}, tmp_path / "harm.pth")
    with tools.inside(tmp_path), refused("harm.pth"):
        load_generator(tmp_path / "harm.pth")
    assert not (tmp_path / "harmed").exists()
    torch.save({"config": load_config("default").to_dict()}, tmp_path / "empty.pth")
    with refused("empty.pth", "generator_state_dict"):
        load_generator(tmp_path / "empty.pth")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_cut_short_ends_training_in_one_line(tiny, tmp_path, capsys, workers):
    data = shutil.copytree(tiny, tmp_path / "data")
    for path in data.glob("output/*/normal.png"):
        path.write_bytes(path.read_bytes()[:900])
    more = {"data__num_workers": workers, "model__use_gan": False}
    assert tools.run("train", *words_of(data, tmp_path / "out", **more), "--epochs", 1) == 2
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "error" in line]
    assert len(lines) == 1 and "normal.png" in lines[0] and "Traceback" not in lines[0]


def test_training_learns(tiny, tmp_path):
    more = {"model__use_gan": False, "data__val_ratio": 0.0, "optimizer__g_lr": 6e-3, "data__batch_size": 4,
            "data__image_size": 32, "optimizer__scheduler_warmup_epochs": 0,
            "training__val_every_n_epochs": 20}  # fmt: skip
    assert tools.run("train", *words_of(tiny, tmp_path, **more), "--epochs", 20) == 0
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    losses = [event.value for event in events.Scalars("train/g_loss")]
    assert losses[-1] < 0.5 * losses[0]  # 0.36 times


def test_schedules():
    def rates(epochs=10, **more):
        settings = load_config("default").optimizer
        for name, value in {"scheduler_warmup_epochs": 2, **more}.items():
            setattr(settings, name, value)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
        schedule, seen = Schedule(optimizer, settings, epochs, True), []
        for _ in range(epochs):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step(1.0)
        return seen

    cosine = rates(scheduler="cosine", scheduler_min_lr=0.1)
    assert cosine[:3] == pytest.approx([0.55, 1.0, 1.0]) and cosine[6] == pytest.approx(0.55)
    assert rates(scheduler="step", scheduler_step_size=3)[2:] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert rates(scheduler="plateau", scheduler_patience=2)[-1] == pytest.approx(0.25)
    assert rates(scheduler="none")[2:] == [1.0] * 8


# torchrun, whose processes are forked from it: they need not import PyTorch again.
TORCHRUN = """
import runpy, sys
from torch.distributed import run

def work(*words):
    sys.argv = list(words)
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(ended.code) from ended

launch = run.elastic_launch
run.elastic_launch = lambda config, entrypoint: lambda *words: launch(config, work)(*words[words.index("train.py"):])
run.main(["--start_method", "fork", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_two_processes_train_one_model(tiny, tmp_path):
    words = [str(word) for word in words_of(tiny, tmp_path / "both", data__batch_size=1)]
    flags = ["--standalone", "--nproc_per_node", 2, "train.py", "--distributed", "--epochs", 2]
    done = tools.in_process(tools.HOME, "-c", TORCHRUN, *flags, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Epoch 2 Summary: 2 steps") == 1  # 3 samples, 2 processes
    model, _ = load_generator(tmp_path / "both" / "latest.pth")
    assert isinstance(model, MultiViewPBRGenerator)
    assert tools.run("train", *words, "--distributed") == 2  # not started by torchrun


def test_scores_on_held_out_materials_beside_the_training_mean(finished, tiny, tmp_path):
    words = ["--checkpoint", finished / "best_model.pth", "--json", tmp_path / "scores.json"]
    assert tools.run("evaluate_split", *words) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    values = torch.load(finished / "best_model.pth", weights_only=True)
    events = EventAccumulator(str(finished / "logs"))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("val/albedo_psnr")}
    assert scores["network"]["albedo_psnr"] == pytest.approx(logged[values["epoch"]], abs=1e-3)
    materials = {path.parent.name: picture(path) for path in tiny.glob("output/*/roughness.png")}
    errors = []
    for held_out, wanted in materials.items():  # one of them is the one that the split holds out
        mean = np.mean([image.mean() for name, image in materials.items() if name != held_out])
        errors.append(-10 * math.log10(((wanted - mean) ** 2).mean()))
    assert min(abs(scores["training_mean"]["roughness_psnr"] - psnr) for psnr in errors) < 1e-3


def picture(path):
    return np.asarray(PillowImage.open(path), np.float64) / 255


# --- inference -----------------------------------------------------------------------------------------------------


def test_inference_writes_a_material_and_what_the_network_saw(finished, tiny, tmp_path, capsys):
    out = tmp_path / "sample"
    assert tools.run("run_inference", "--checkpoint", finished / "latest.pth", "--sample-idx", 1, "--out-dir", out) == 0
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.png" for name in MAPS),
        *(f"view_{i}.png" for i in range(3)),
    }
    for i in range(3):
        pair = [np.asarray(PillowImage.open(path), int) for path in
                (out / f"view_{i}.png", tiny / "input" / "clean" / "sample_0001" / f"{i}.png")]  # fmt: skip
        assert np.abs(pair[0] - pair[1]).max() <= 1
    custom = tmp_path / "custom"
    words = ["--checkpoint", finished / "latest.pth", "--out-dir", custom, "--input-dir"]
    assert tools.run("run_inference", *words, tiny / "input" / "clean" / "sample_0001") == 0
    for name in MAPS:
        assert (custom / f"{name}.png").read_bytes() == (out / f"{name}.png").read_bytes()
    model, _ = load_generator(finished / "latest.pth")
    views = torch.stack(
        [torch.from_numpy(np.asarray(PillowImage.open(out / f"view_{i}.png"), np.float32)) for i in range(3)]
    )
    normal = model(views.permute(0, 3, 1, 2)[None] / 255 * 2 - 1)["normal"][0].permute(1, 2, 0)
    stored = np.asarray(PillowImage.open(out / "normal.png")) / 255 * 2 - 1
    assert np.abs(stored - normal.detach().numpy()).max() < 0.02
    (tmp_path / "two").mkdir()
    for name in "01":
        shutil.copy(out / "view_0.png", tmp_path / "two" / f"{name}.png")
    capsys.readouterr()
    assert tools.run("run_inference", *words, tmp_path / "two") == 2
    assert tools.run("run_inference", "--checkpoint", finished / "latest.pth", "--sample-idx", 99) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "three pictures" in lines[0] and "found 2" in lines[0] and "--sample-idx" in lines[1]


def test_the_result_goes_on_to_the_compressor(finished, tiny, tmp_path, monkeypatch):
    start = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **more: start([*python(), *words[1:]], **more))
    words = ["--checkpoint", finished / "latest.pth", "--input-dir", tiny / "input" / "clean" / "sample_0000"]
    more = [*QUICK, "--save_dir", tmp_path / "outputs", "--max_iter", 20, "--num_threads", 1,
            "--eval_metrics", "psnr", "--engine", "torch"]  # fmt: skip
    assert tools.run("run_inference", *words, "--out-dir", tmp_path / "maps", "--compress", *more) == 0
    assert len(list(tmp_path.glob("outputs/*/models/*/manifest.json"))) == 1
    assert tools.run("run_inference", *words, "--out-dir", tmp_path / "maps", "--compress", "--max_iter", -5) == 2
