"""Shards, students, and their conversion to ONNX and Core ML."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from neuropbr.coreml.wrapper import INPUTS, OUTPUTS, ImageModel
from neuropbr.train_config import finalize, load_config
from neuropbr.utils.checkpoints import load_generator
from neuropbr.utils.maps import MAPS
from tests.support import neuropbr_tools as tools

TEACHER = {"model__use_gan": False, "data__val_ratio": 0.3}
STUDENT = {  # the small brother of configs/mobilenetv3_512.py: the same geometry, 2x super-resolution
    "model__encoder_type": "mobilenetv3", "model__encoder_backbone": "mobilenet_v3_small", "data__image_size": 32,
    "data__output_size": 64, "data__val_ratio": 0.3, "training__log_every_n_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tools.write_set(tmp_path_factory.mktemp("set"), materials=3, size=64)


@pytest.fixture(scope="module")
def teacher(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    words = ["--input-dir", tiny / "input", "--output-dir", tiny / "output", "--checkpoint-dir", folder]
    assert tools.run("train", *words, "--epochs", 1, *tools.sets(**TEACHER)) == 0
    return folder / "best_model.pth"


@pytest.fixture(scope="module")
def shards(tiny, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "shards_48"
    words = ["--checkpoint", teacher, "--data-root", tiny, "--shards-dir", folder]
    assert tools.run("teacher_infer", *words, "--shard-size", 2, "--shard-output-size", 48, "--batch-size", 2) == 0
    return folder


def student_words(tiny, folder, *more, **changes):
    return ["--config", tools.HOME / "configs" / "mobilenetv3_512.py", "--input-dir", tiny / "input", "--output-dir",
            tiny / "output", "--checkpoint-dir", folder, *tools.sets(**{**STUDENT, **changes}), *more]  # fmt: skip


@pytest.fixture(scope="module")
def student(tiny, shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    words = student_words(tiny, folder, "--shards-dir", shards, "--epochs", 2, "--set", "optimizer.scheduler=none")
    assert tools.run("student/train", *words) == 0
    return folder


# --- shards --------------------------------------------------------------------------------------------------------


def test_shards_hold_the_teachers_maps(tiny, teacher, shards):
    assert {path.name for path in shards.iterdir()} == {"shard_00000.pt", "shard_00001.pt", "shards.json"}
    shard = torch.load(shards / "shard_00001.pt", weights_only=True)
    assert shard["indices"] == [2] and shard["names"] == ["clean/sample_0002"] and len(shard["sources"][0]) == 64
    assert {name: (tuple(v.shape), v.dtype) for name, v in shard["teacher_outputs"].items()} == {
        name: ((1, channels, 48, 48), torch.float16) for name, channels in MAPS.items()
    }
    model, config = load_generator(teacher)
    pictures = [np.asarray(PillowImage.open(tiny / f"input/clean/sample_0002/{i}.png"), np.float32) for i in range(3)]
    views = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[None] / 255 * 2 - 1
    with torch.no_grad():
        roughness = model(views)["roughness"]
    small = torch.nn.functional.interpolate(roughness, (48, 48), mode="bilinear", antialias=True)
    assert (small - shard["teacher_outputs"]["roughness"].float()).abs().max() < 1e-3
    assert config.data.image_size == (64, 64)


@pytest.mark.parametrize("change", ["seed", "curriculum", "renders", "damage", "missing", "unfinished"])
def test_shards_of_something_else_are_refused(tiny, shards, tmp_path, capsys, change):
    data, folder, more = tiny, shutil.copytree(shards, tmp_path / "shards"), []
    if change == "seed":
        more = ["--set", "training.seed=7"]
    elif change == "curriculum":
        more = ["--render-curriculum", 1]
    elif change == "renders":
        data = shutil.copytree(tiny, tmp_path / "data")
        shutil.copy(data / "input/clean/sample_0000/1.png", data / "input/clean/sample_0001/1.png")
    elif change == "damage":
        (folder / "shard_00000.pt").write_bytes((folder / "shard_00000.pt").read_bytes()[:900])
    elif change == "missing":
        (folder / "shard_00001.pt").unlink()
    else:
        (folder / "shards.json").unlink()
    words = student_words(data, tmp_path / "out", "--shards-dir", folder, "--epochs", 1, *more)
    capsys.readouterr()
    assert tools.run("student/train", *words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "shard" in lines[0], lines
    assert not (tmp_path / "out" / "latest_student.pth").exists()


# --- student -------------------------------------------------------------------------------------------------------


def test_the_student_is_trained_at_the_size_that_is_exported(student, tiny):
    checkpoint = torch.load(student / "best_student.pth", weights_only=True)
    assert checkpoint["distillation_temperature"] == 4 and checkpoint["distillation_alpha"] == 0.3
    model, config = load_generator(student / "latest_student.pth")
    assert (config.data.image_size, config.data.output_size) == ((32, 32), (64, 64))
    out = model(torch.zeros(1, 3, 3, 32, 32))
    assert out["albedo"].shape[-2:] == (64, 64)
    for name, sizes in (
        ("mobilenetv3_512", (512, 1024)),
        ("convattn_student", (512, 1024)),
        ("mobilenetv3_2048", (2048, 2048)),
    ):
        config = finalize(load_config(str(tools.HOME / "configs" / f"{name}.py")))
        assert (config.data.image_size[0], config.data.output_size[0]) == sizes
        assert config.model.bottleneck == ("plk" if name == "convattn_student" else "vit")


def test_the_student_resumes_to_the_same_bits(student, tiny, shards, tmp_path):
    words = student_words(tiny, tmp_path, "--shards-dir", shards)
    assert tools.run("student/train", *words, "--epochs", 1, "--set", "optimizer.scheduler=none") == 0
    first = torch.load(tmp_path / "latest_student.pth", weights_only=True)["student_state_dict"]
    more = ["--shards-dir", shards, "--resume", tmp_path / "latest_student.pth", "--epochs", 2]
    assert tools.run("student/train", *more) == 0
    ours, whole = (torch.load(path / "latest_student.pth", weights_only=True) for path in (tmp_path, student))
    for name, value in whole["student_state_dict"].items():
        assert torch.equal(ours["student_state_dict"][name], value), name
    assert any(not torch.equal(first[name], value) for name, value in whole["student_state_dict"].items())


def test_a_teacher_may_run_beside_the_student(tiny, teacher, tmp_path, capsys):
    words = student_words(tiny, tmp_path, "--teacher-checkpoint", teacher, "--epochs", 1, "--alpha", 0.9,
                          "--temperature", 2, "--no-amp")  # fmt: skip
    assert tools.run("student/train", *words) == 0
    checkpoint = torch.load(tmp_path / "latest_student.pth", weights_only=True)
    assert checkpoint["distillation_temperature"] == 2 and checkpoint["distillation_alpha"] == 0.9
    assert tools.run("student/train", *student_words(tiny, tmp_path)) == 2
    assert (
        tools.run("student/train", *student_words(tiny, tmp_path, "--teacher-checkpoint", teacher, "--alpha", 3)) == 2
    )
    assert "alpha" in capsys.readouterr().err.splitlines()[-1]


def test_student_inference(student, tiny, tmp_path):
    words = ["--checkpoint", student / "best_student.pth", "--out-dir", tmp_path / "out"]
    assert tools.run("student/run_inference", *words) == 0
    views = {f"input_view_{i}.png" for i in range(3)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*(f"{name}.png" for name in MAPS), *views}
    assert np.asarray(PillowImage.open(tmp_path / "out" / "normal.png"), int).mean((0, 1))[2] > 100


# --- conversion ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tiny):
    return tiny / "input" / "clean" / "sample_0001"


def read_views(folder, side):
    views = [PillowImage.open(folder / f"{i}.png").resize((side, side), PillowImage.Resampling.BOX) for i in range(3)]
    return [torch.from_numpy(np.asarray(view, np.float32)).permute(2, 0, 1)[None] for view in views]


def test_the_wrapper_bakes_the_normalisation_in(student, pictures):
    model, config = load_generator(student / "best_student.pth")
    views = read_views(pictures, 32)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        want = model(torch.stack([(view[0] / 255 - mean) / std for view in views])[None])
        got = dict(zip(OUTPUTS, ImageModel(model, config).eval()(*views)))
    for name in MAPS:
        values = (want[name] + 1) / 2 if name == "normal" else want[name]
        torch.testing.assert_close(got[name], values * 255, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("flags, sides", [
    ([], (32, 64)), (["--test-resolution", 64], (64, 64)), (["--test-resolution", 64, "--use-sr"], (64, 128)),
], ids=["as trained", "test resolution", "with SR"])  # fmt: skip
def test_onnx_gives_what_torch_gives(student, pictures, tmp_path, flags, sides):
    pytest.importorskip("onnx", reason="not installed (pip install -r requirements/neuropbr.txt)")
    runtime = pytest.importorskip("onnxruntime", reason="not installed (pip install -r requirements/neuropbr.txt)")
    path = tmp_path / "model.onnx"
    assert tools.run("coreml/converter", student / "best_student.pth", "--output", path, *flags) == 0
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == list(INPUTS)
    views = read_views(pictures, sides[0])
    results = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {n: v.numpy() for n, v in zip(INPUTS, views)})))
    model, config = load_generator(student / "best_student.pth")
    if flags and "--use-sr" not in flags:
        model.decoder.sr, model.config.model.decoder_sr_scale = torch.nn.Identity(), 0
    with torch.no_grad():
        want = dict(zip(OUTPUTS, ImageModel(model, config).eval()(*views)))
    for name, channels in MAPS.items():
        assert results[name].shape == (1, channels, sides[1], sides[1])
        assert np.abs(results[name] - want[name].numpy()).max() < 0.05
    words = [path, "--input", pictures, "--output", tmp_path / "out", "--size", 96]
    assert tools.run("coreml/run_inference", *words) == 0
    assert PillowImage.open(tmp_path / "out" / "roughness.png").size == (96, 96)


def test_what_cannot_be_converted_is_said_in_one_line(student, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    package = tmp_path / "a.mlpackage"
    best = student / "best_student.pth"
    for words in ([best, "--output", package], [best, "--use-sr"], [best, "--output", tmp_path / "a.bin"],
                  [tmp_path / "none.pth", "--output", "a.onnx"]):  # fmt: skip
        capsys.readouterr()
        assert tools.run("coreml/converter", *words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not package.exists()
    package.mkdir()
    monkeypatch.setattr(sys, "platform", "linux")
    assert tools.run("coreml/run_inference", package, "--input", pictures) == 2
    assert "needs macOS" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [[], ["--no-fp16"], ["--palettization", "--test-resolution", "64"]], ids=["fp16", "fp32", "palettes"]
)
def test_the_core_ml_package_says_what_it_should(student, tmp_path, flags):
    try:
        ct = tools.script("coreml/convert").import_coremltools()
    except Exception as error:
        pytest.skip(str(error))
    if "--palettization" in flags:
        pytest.importorskip("sklearn", reason="not installed (pip install -r requirements/neuropbr-coreml.txt)")
    path = tmp_path / "model.mlpackage"
    assert tools.run("coreml/converter", student / "best_student.pth", "--output", path, *flags) == 0
    spec = ct.utils.load_spec(str(path))
    rgb, grey = (spec.description.input[0].type.imageType.RGB, spec.description.input[0].type.imageType.GRAYSCALE)
    sides = (64, 64) if flags[1:] else (32, 64)
    described = {e.name: (e.type.imageType.width, e.type.imageType.height, e.type.imageType.colorSpace) for e in
                 [*spec.description.input, *spec.description.output]}  # fmt: skip
    assert described == {
        **dict.fromkeys(INPUTS, (sides[0], sides[0], rgb)),
        **{name: (sides[1], sides[1], rgb if channels == 3 else grey) for name, channels in MAPS.items()},
    }
    assert spec.specificationVersion == ct.target.iOS17
    program = str(spec.mlProgram)
    assert ("constexpr_lut_to_dense" in program) == ("--palettization" in flags)
    weights = (path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    model, config = load_generator(student / "best_student.pth")
    values = sum(p.numel() for p in model.parameters())
    per_value = weights / values
    assert (3.5 < per_value < 4.5) if "--no-fp16" in flags else per_value < (1.6 if "--palettization" in flags else 2.4)
    assert json.dumps(config.to_dict())
