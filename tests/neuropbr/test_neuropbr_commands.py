"""Every command and snippet of the specification, as written, from inside neuropbr/, on a tiny set at 64 px.

Flags are added that make them small. Most run in this process; one of each kind is started as a user does, from a
folder that looks like neuropbr/.
"""

import shlex
import shutil
import sys

import pytest
import torch

from common.errors import UserError
from neuropbr.utils.maps import MAPS
from tests.support import neuropbr_tools as tools

DATA = "--input-dir ./data/input --output-dir ./data/output"
FAST = {"training__gan_start_epoch": 0}
STUDENT = {"model__encoder_type": "mobilenetv3", "model__encoder_backbone": "mobilenet_v3_small",
           "data__image_size": 32, "data__output_size": 64}  # fmt: skip

VERIFICATION = """
from utils.dataset import PBRDataset
from train_config import get_default_config
cfg = get_default_config()
ds = PBRDataset(
    input_dir='./data/input',
    output_dir='./data/output',
    metadata_path='./data/input/render_metadata.json',
    transform_mean=cfg.transform.mean,
    transform_std=cfg.transform.std,
    image_size=cfg.data.image_size,
  use_dirty=cfg.data.use_dirty_renders,
  curriculum_mode=cfg.data.render_curriculum
)
print('Total samples:', len(ds))
inputs, targets = ds[0]
print('Input shape:', inputs.shape)
print('Target shape:', targets.shape)
"""

EXPORT = """
import torch
ckpt = torch.load('checkpoints/best_model.pth')
state = ckpt['generator_state_dict']
cfg = ckpt['config']
torch.save({'config': cfg, 'model_state_dict': state}, 'model_inference.pth')
from train import MultiViewPBRGenerator
ckpt = torch.load('model_inference.pth')
model = MultiViewPBRGenerator(ckpt['config']).eval()
model.load_state_dict(ckpt['model_state_dict'])
inputs = torch.zeros(1, 3, 3, 64, 64)
with torch.no_grad():
    outputs = model(inputs)
print({name: tuple(values.shape) for name, values in outputs.items()})
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A stand-in for neuropbr/ with a tiny set."""
    folder = tools.workplace(tmp_path_factory.mktemp("place") / "neuropbr")
    tools.write_set(folder, materials=3, size=64)
    samples = folder / "data" / "input" / "clean"
    shutil.copytree(samples / "sample_0001", folder / "my_renders")
    return folder


def run(place, command, *more):
    words = shlex.split(command)
    words = words[1:] if words[0].startswith("python") else words
    with tools.inside(place):
        assert tools.run(words[0].removeprefix("training/").removesuffix(".py"), *words[1:], *map(str, more)) == 0, (
            command
        )


@pytest.fixture(scope="module")
def trained(place):
    """The commands of training, each for one epoch; the first in a process of its own."""
    words = shlex.split(f"train.py {DATA}") + ["--epochs", "1", *tools.sets(**FAST)]
    done = tools.in_process(place, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        "[Validation] Epoch 1 - Loss" in done.stdout and "Saved best model: checkpoints/best_model.pth" in done.stdout
    )
    shutil.copy(place / "checkpoints" / "latest.pth", place / "checkpoints" / "checkpoint_epoch_0050.pth")
    run(place, "python teacher_infer.py --checkpoint checkpoints/best_model.pth --data-root ./data "
               "--shards-dir ./data/shards_1024 --shard-output-size 1024")  # fmt: skip
    student = (f"python student/train.py --config configs/mobilenetv3_512.py --shards-dir ./data/shards_1024 {DATA} "
               "--checkpoint-dir ./checkpoints_student")  # fmt: skip
    run(place, student, "--epochs", 1, *tools.sets(**STUDENT))
    shutil.copy(place / "checkpoints_student" / "best_student.pth", place / "checkpoints" / "best_student.pth")
    return place


@pytest.mark.parametrize("command", [
    f"python train.py {DATA} --device cpu",
    f"python train.py {DATA} --render-curriculum 1",
    f"python train.py {DATA} --checkpoint-dir ./my_checkpoints",
    f"python train.py --config quick_test {DATA} --batch-size 2",
    f"python train.py --config lightweight {DATA}",
    f"python train.py --config configs/my_config.py {DATA}",
    f"python train.py --config configs/high_quality.py {DATA} --use-dirty",
    f"python train.py --config configs/fast_iteration.py {DATA} --batch-size auto",
    f"python train.py --config configs/normal_focused.py {DATA}",
    f"python train.py --config configs/mobilenetv3_2048.py {DATA}",
], ids=lambda command: command.replace(DATA, "").replace("python train.py", "").strip())  # fmt: skip
def test_training_commands(place, command):
    more = [] if "--checkpoint-dir" in command else ["--checkpoint-dir", "other"]
    run(place, command, "--epochs", 1, *more, *tools.sets(**FAST))
    folder = place / ("my_checkpoints" if "my_" in command.split()[-1] else "other")
    assert (folder / "best_model.pth").is_file()


def test_resume_alone(trained):
    run(trained, "python train.py --resume checkpoints/checkpoint_epoch_0050.pth", "--epochs", 2)
    assert torch.load(trained / "checkpoints" / "latest.pth")["epoch"] == 2


def test_snippets(trained):
    """Dataset verification, export for inference, inline inference."""
    done = tools.in_process(trained, "-", stdin=VERIFICATION + EXPORT)
    assert done.returncode == 0, done.stderr[-2000:]
    shapes = ("Input shape: torch.Size([3, 3, 2048, 2048])", "Target shape: torch.Size([4, 3, 2048, 2048])")
    for word in ("Total samples: 3", *shapes, "'albedo': (1, 3, 64, 64)", "'normal': (1, 3, 64, 64)"):
        assert word in done.stdout


@pytest.fixture(scope="module")
def started(trained):
    """Three commands of other folders as a user starts them: name -> its process."""
    run(trained, "python teacher_infer.py --checkpoint checkpoints/best_model.pth --data-root ./data "
                 "--shards-dir ./data/shards_2048", "--shard-size", 8)  # fmt: skip
    lines = {
        "inference": "training/run_inference.py --checkpoint checkpoints/latest.pth --sample-idx 1 "
                     "--out-dir inference_outputs/sample_12",
        "student": f"student/train.py --config configs/mobilenetv3_2048.py --shards-dir ./data/shards_2048 {DATA} "
                   "--checkpoint-dir ./checkpoints_2048",
        "converter": "training/coreml/converter.py checkpoints/best_student.pth "
                     "--output mobile_app/ios/pbr_model.mlpackage",
    }  # fmt: skip
    more = {"student": ["--epochs", "1", *tools.sets(**STUDENT)]}
    return {name: tools.in_process(trained, *shlex.split(line), *more.get(name, ())) for name, line in lines.items()}


def test_inference_commands(trained, started):
    assert started["inference"].returncode == 0, started["inference"]
    run(trained, "python training/run_inference.py --checkpoint checkpoints/latest.pth --input-dir ./my_renders "
                 "--out-dir inference_outputs/custom_material")  # fmt: skip
    for name in ("sample_12", "custom_material"):
        assert {f"{m}.png" for m in MAPS} <= {p.name for p in (trained / "inference_outputs" / name).iterdir()}


def test_shards_without_a_size(trained, started):
    shard = torch.load(trained / "data" / "shards_2048" / "shard_00000.pt")
    assert shard["teacher_outputs"]["albedo"].shape == (3, 3, 64, 64)
    assert (
        torch.load(trained / "data" / "shards_1024" / "shard_00000.pt")["teacher_outputs"]["normal"].shape[-1] == 1024
    )


def test_student_commands(trained, started):
    assert started["student"].returncode == 0 and "this configuration needs" in started["student"].stdout, started
    assert (trained / "checkpoints_2048" / "best_student.pth").is_file()
    run(trained, f"python student/train.py --config configs/convattn_student.py --shards-dir ./data/shards_1024 {DATA} "
                 "--checkpoint-dir ./checkpoints_convattn", "--epochs", 1, *tools.sets(**STUDENT))  # fmt: skip
    weights = torch.load(trained / "checkpoints_convattn" / "best_student.pth")["student_state_dict"]
    assert weights["fusion.kernel"].shape == (32, 1, 17, 17)


def has_coremltools():
    try:
        return bool(tools.script("coreml/convert").import_coremltools())
    except UserError:
        return False


def test_the_converter_as_a_user_starts_it(trained, started):
    code, error = started["converter"].returncode, started["converter"].stderr
    if has_coremltools():
        assert code == 0 and (trained / "mobile_app" / "ios" / "pbr_model.mlpackage").exists(), error
    else:
        assert code == 2 and "requirements/neuropbr-coreml.txt" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("flags", ["--output mobile_app/ios/pbr_model.mlpackage",
                                   "--test-resolution 64 --output pbr_768_test.mlpackage",
                                   "--test-resolution 64 --use-sr --output pbr_512_sr.mlpackage"])  # fmt: skip
def test_conversion_commands(trained, flags):
    command = f"training/coreml/converter.py checkpoints/best_student.pth {flags}"
    if not has_coremltools():
        command = command.replace(".mlpackage", ".onnx")
        pytest.importorskip("onnx", reason="neither coremltools nor onnx is installed")
    run(trained, command)
    assert (trained / command.split()[-1]).exists()


def test_prediction_says_that_it_needs_macos(trained, capsys, monkeypatch):
    (trained / "mobile_app" / "ios" / "empty.mlpackage").mkdir(parents=True, exist_ok=True)
    words = shlex.split("mobile_app/ios/empty.mlpackage --input my_renders --output inference_results")
    monkeypatch.setattr(sys, "platform", "linux")
    with tools.inside(trained):
        assert tools.run("coreml/run_inference", *words) == 2
    error = capsys.readouterr().err
    assert "macOS" in error and len(error.strip().splitlines()) == 1


def test_validation_command(place):
    run(place, "python validate_dataset.py --input_dir ./data/input --output_dir ./data/output")


def test_the_roots_modules_are_not_disturbed():
    import configs
    import train

    assert train.__file__ == str(tools.ROOT / "train.py") and configs.__file__ == str(tools.ROOT / "configs.py")


def test_homes_behind_an_equals_sign(tmp_path, capsys, monkeypatch):
    """A shell leaves the ~ of --data-dir=~/maps alone."""
    tools.write_material(tmp_path / "maps" / "m", 32)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with tools.inside(tmp_path):
        assert tools.run("make_renders", "--data-dir=~/maps", "--input-dir=~/in", "--output-dir=~/out") == 0
        assert tools.run("validate_dataset", "--input-dir=~/in", "--output-dir=~/out") == 0
        assert not (tmp_path / "~").exists() and (tmp_path / "in" / "render_metadata.json").is_file()
        for script, flag, *more in (("train", "resume"), ("student/train", "teacher-checkpoint", "--output-dir=~/out"),
                                    ("teacher_infer", "checkpoint"), ("run_inference", "checkpoint"),
                                    ("evaluate_split", "checkpoint")):  # fmt: skip
            capsys.readouterr()
            code, error = tools.run(script, f"--{flag}=~/none.pth", "--input-dir=~/in", *more), capsys.readouterr().err
            assert code == 2 and f"{tmp_path / 'none.pth'}" in error and "~" not in error, (script, error)
