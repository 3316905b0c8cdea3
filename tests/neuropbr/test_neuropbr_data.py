"""NeuroPBR's renders, dataset and configuration."""

import json
import math
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from common.errors import UserError
from neuropbr.train_config import PRESETS, TrainConfig, apply_overrides, finalize, load_config
from neuropbr.utils.dataset import Augmentation, PBRDataset, choose_split, turned, turned_targets
from neuropbr.utils.ggx import Camera, Light, render, shade
from neuropbr.utils.maps import MAPS, read_map, read_rgb, split_targets, unit
from tests.support import neuropbr_tools as tools


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tools.write_set(tmp_path_factory.mktemp("set"), materials=3, size=48)


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "data")


def dataset(folder, **more):
    return PBRDataset(folder / "input", folder / "output", image_size=32, **more)


# --- renderer ------------------------------------------------------------------------------------------------------


def radiance_by_hand(albedo, roughness, metallic, normal, position, eye, lamp, power):
    """The lamp's part, one texel, in plain numbers: Walter et al. 2007, equations 23, 33 and 34."""
    l, v = np.array(lamp) - position, np.array(eye) - position
    irradiance = power * math.pi / (l @ l)
    l, v = l / np.linalg.norm(l), v / np.linalg.norm(v)
    h = (l + v) / np.linalg.norm(l + v)
    a2 = roughness**4
    tan2 = 1 / (normal @ h) ** 2 - 1
    d = a2 / (math.pi * (normal @ h) ** 4 * (a2 + tan2) ** 2)

    def mean_slope(w):  # Heitz 2014, equation 72
        cosine = normal @ w
        return (-1 + math.sqrt(1 + a2 * (1 / cosine**2 - 1))) / 2

    g = 1 / (1 + mean_slope(l) + mean_slope(v))
    f0 = 0.04 * (1 - metallic) + np.array(albedo) * metallic
    f = f0 + (1 - f0) * (1 - h @ v) ** 5
    specular = f * d * g / (4 * (normal @ l) * (normal @ v))
    return ((1 - f) * np.array(albedo) * (1 - metallic) / math.pi + specular) * irradiance * (normal @ l)


@pytest.mark.parametrize("roughness, metallic", [(0.3, 0.0), (0.8, 1.0), (0.5, 0.4)])
def test_the_shading_of_a_lamp_is_that_of_the_papers(roughness, metallic):
    albedo, normal = [0.7, 0.3, 0.1], np.array([0.1, -0.2, 0.97])
    normal /= np.linalg.norm(normal)
    position, eye, lamp = np.array([0.1, -0.3, 0.0]), [0.4, 0.1, 1.8], [-0.8, 0.6, 1.1]
    surface = {"albedo": albedo, "roughness": [roughness], "metallic": [metallic], "normal": normal, "occlusion": [1]}
    surface = {name: torch.tensor(np.array(value)[None], dtype=torch.float64) for name, value in surface.items()}
    dark = Light(tuple(lamp), 0.9, sky=(0, 0, 0), ground=(0, 0, 0))
    got = shade(surface, torch.tensor(position[None]), torch.tensor(eye, dtype=torch.float64), dark)[0].numpy()
    np.testing.assert_allclose(
        got, radiance_by_hand(albedo, roughness, metallic, normal, position, eye, lamp, 0.9), 1e-6
    )


def test_the_view_from_above_is_the_material_texel_by_texel():
    maps = {"albedo": torch.rand(3, 16, 16), "roughness": torch.ones(1, 16, 16), "metallic": torch.zeros(1, 16, 16)}
    maps["normal"] = torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1).expand(3, 16, 16).contiguous()
    maps["albedo"] = torch.nn.functional.interpolate(maps["albedo"][None, :, ::4, ::4], (16, 16), mode="bilinear")[0]
    sky_alone = Light((0, 0, 1.0), 0.0, sky=(1, 1, 1), ground=(1, 1, 1))
    flat = render({**maps, "albedo": torch.zeros(3, 16, 16)}, Camera(0, 0), sky_alone, 16)  # its reflection
    seen = render(maps, Camera(0, 0), sky_alone, 16) - flat
    assert (seen - maps["albedo"]).abs().max() < 0.03  # a quarter of a texel's bilinear blend
    tilted = render(maps, Camera(0.3, 0.0), sky_alone, 16) - flat
    assert (tilted - maps["albedo"]).abs().max() > 0.06


def test_a_lamp_to_the_right_lights_what_faces_right():
    maps = {"albedo": torch.full((3, 8, 8), 0.5), "roughness": torch.full((1, 8, 8), 0.9),
            "metallic": torch.zeros(1, 8, 8)}  # fmt: skip
    tilt = lambda x, y: unit(torch.tensor([x, y, 1.0]).reshape(3, 1, 1).expand(3, 8, 8), 0)  # noqa: E731
    means = {}
    for name, lamp in (("right", (2.0, 0.0, 1.0)), ("up", (0.0, 2.0, 1.0))):
        for facing, normal in (("right", tilt(0.5, 0.0)), ("up", tilt(0.0, 0.5))):
            scene = {**maps, "normal": normal}
            means[name, facing] = render(scene, Camera(0, 0), Light(lamp, 4.0, (0, 0, 0), (0, 0, 0)), 8).mean()
    assert means["right", "right"] > 1.2 * means["right", "up"]
    assert means["up", "up"] > 1.2 * means["up", "right"]


def test_make_renders_refuses_to_mix_two_sets(tiny, capsys):
    words = ["--data-dir", tiny.parent / "materials", "--input-dir", tiny / "input", "--output-dir", tiny / "output"]
    assert tools.run("make_renders", *words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert tools.run("make_renders", "--data-dir", tiny / "input") == 2  # no materials there
    assert len(capsys.readouterr().err.strip().splitlines()[-1]) > 10


def test_clean_and_dirty_show_the_same_scene(tiny):
    clean, dirty = (read_rgb(tiny / "input" / kind / "sample_0000" / "1.png") for kind in ("clean", "dirty"))
    assert (clean - dirty).abs().mean() > 0.01
    correlation = np.corrcoef(clean.flatten().numpy(), dirty.flatten().numpy())[0, 1]
    assert correlation > 0.8


# --- maps and dataset ----------------------------------------------------------------------------------------------


def test_items_have_the_ranges_that_the_network_works_in(tiny):
    data = PBRDataset(tiny / "input", tiny / "output", image_size=(32, 40), output_size=24)
    inputs, targets = data[0]
    assert inputs.shape == (3, 3, 32, 40) and targets.shape == (4, 3, 24, 24) and inputs.dtype == torch.float32
    assert inputs.min() < -0.2 and inputs.max() <= 1 and inputs.min() >= -1
    maps = {name: values[0] for name, values in split_targets(targets[None]).items()}
    for name in ("albedo", "roughness", "metallic"):
        assert maps[name].min() >= 0 and maps[name].max() <= 1
    assert torch.allclose(maps["normal"].norm(dim=0), torch.ones(24, 24), atol=1e-5)
    assert maps["normal"][2].mean() > 0.5


def test_native_size_is_the_files_own_values(tiny):
    stored = np.asarray(PillowImage.open(tiny / "output" / "m0" / "albedo.png")) / 255
    data = PBRDataset(tiny / "input", tiny / "output", image_size=48)
    np.testing.assert_allclose(data[0][1][0].permute(1, 2, 0).numpy(), stored, atol=1e-6)
    larger = PBRDataset(tiny / "input", tiny / "output", image_size=64)[0]
    assert larger[0].shape[-1] == larger[1].shape[-1] == 64


def test_sixteen_bits_are_read_as_such(tmp_path):
    codes = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    cv2.imwrite(str(tmp_path / "r.png"), codes)
    np.testing.assert_allclose(read_map(tmp_path / "r.png", "roughness")[0].numpy(), codes / 65535, atol=1e-7)


def test_files_cut_short_are_refused_by_name(copy, refused):
    path = copy / "output" / "m0" / "normal.png"
    path.write_bytes(path.read_bytes()[:-40])
    with refused("m0", "normal.png"):
        for item in dataset(copy):
            assert item


def test_curricula(copy):
    shutil.rmtree(copy / "input" / "dirty" / "sample_0001")
    names = {mode: [(s.name[-1], s.source) for s in dataset(copy, curriculum_mode=mode).samples] for mode in (0, 1, 2)}
    assert names[0] == [("0", "clean"), ("1", "clean"), ("2", "clean")]
    assert names[1] == [("0", "clean"), ("0", "dirty"), ("1", "clean"), ("2", "clean"), ("2", "dirty")]
    assert names[2] == [("0", "dirty"), ("2", "dirty")]
    assert [(s.name[-1], s.source) for s in dataset(copy, use_dirty=True).samples] == names[2]
    shutil.rmtree(copy / "input" / "dirty")
    assert len(dataset(copy, curriculum_mode=1)) == 3
    with pytest.raises(FileNotFoundError, match="dirty"):
        dataset(copy, curriculum_mode=2)


def test_what_is_missing_is_said(copy):
    metadata = copy / "input" / "render_metadata.json"
    entries = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({name: value for name, value in entries.items() if name != "sample_0002"}))
    with pytest.raises(KeyError, match="sample_0002"):
        dataset(copy)
    metadata.write_text(json.dumps(dict.fromkeys(entries, "../m0")))
    with pytest.raises(UserError, match="folder's name"):
        dataset(copy)
    metadata.unlink()
    with pytest.raises(FileNotFoundError, match=r"render_metadata\.json"):
        dataset(copy)
    metadata.write_text(json.dumps(entries))
    (copy / "output" / "m1" / "albedo.png").unlink()
    with pytest.warns(UserWarning, match=r"1 sample of 3.*albedo\.png"):
        assert len(dataset(copy)) == 2
    shutil.rmtree(copy / "output")
    with pytest.raises(UserError, match="No samples found"), pytest.warns(UserWarning):
        dataset(copy)


def test_a_material_is_on_one_side_of_the_split(tiny):
    whole = dataset(tiny, curriculum_mode=1)
    for seed in range(5):
        train, held_out = (choose_split(whole.samples, split, 0.4, seed) for split in ("train", "val"))
        assert sorted(train + held_out) == sorted(whole.samples)
        assert not {s.material for s in train} & {s.material for s in held_out}
        assert len(held_out) == 2 and choose_split(whole.samples, "val", 0.4, seed) == held_out
    assert len({tuple(choose_split(whole.samples, "val", 0.1, seed)) for seed in range(20)}) == 3
    assert choose_split(whole.samples, "val", 0.0, 0) == []


@pytest.mark.parametrize(
    "across, down, turns", [(True, False, 0), (False, True, 0), (False, False, 1), (True, True, 3)]
)
def test_turned_normals_are_those_of_the_turned_heights(across, down, turns):
    def normals_of(height):  # y is up, rows go down
        dx = torch.roll(height, -1, 1) - torch.roll(height, 1, 1)
        dy = torch.roll(height, 1, 0) - torch.roll(height, -1, 0)
        return unit(torch.stack([-dx, -dy, torch.ones_like(dx)]), 0)

    height = torch.nn.functional.avg_pool2d(torch.rand(1, 16, 16), 3, 1, 1)[0]
    targets = torch.rand(4, 3, 16, 16)
    targets[list(MAPS).index("normal")] = normals_of(height)
    after = turned_targets(targets, across, down, turns)
    want = normals_of(turned(height, across, down, turns))
    assert torch.allclose(after[list(MAPS).index("normal")], want, atol=1e-6)
    assert torch.equal(after[0], turned(targets[0], across, down, turns))


def test_augmentation_is_off_by_default_and_follows_epoch_and_index(tiny):
    plain = dataset(tiny)
    assert torch.equal(plain[0, 0][0], plain[7, 0][0])
    moved = dataset(tiny, augmentation=Augmentation(True, True, True))
    seen = [moved[epoch, 0][0] for epoch in range(8)]
    assert torch.equal(seen[3], moved[3, 0][0]) and len({float(views[0, 0, 0, 0]) for views in seen}) > 2


# --- validate_dataset ----------------------------------------------------------------------------------------------


def test_validate_passes_good_files_finds_broken_ones_and_moves_only_when_told(copy, tmp_path, capsys):
    words = ["--input_dir", copy / "input", "--output_dir", copy / "output", "--workers", 2]
    with tools.inside(tmp_path):
        assert tools.run("validate_dataset", *words) == 0
        assert not (tmp_path / "corrupted_files.json").exists()
        path = copy / "input" / "clean" / "sample_0001" / "2.png"
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        assert tools.run("validate_dataset", *words) == 1
        found = json.loads((tmp_path / "corrupted_files.json").read_text())
        assert [entry["path"] for entry in found] == [str(path)] and path.exists()
        before = {file for file in copy.rglob("*.png") if file != path}
        assert tools.run("validate_dataset", *words, "--fix") == 1
        assert not path.exists() and {*copy.rglob("*.png")} == before
        assert (tmp_path / "corrupted_files" / "input" / "clean" / "sample_0001" / "2.png").exists()
        assert tools.run("validate_dataset", *words) == 0 or "sample_0001" in capsys.readouterr().out
    assert tools.run("validate_dataset", "--input_dir", tmp_path / "no", "--output_dir", copy) == 2


# --- configuration -------------------------------------------------------------------------------------------------

EVERY = [*PRESETS, *sorted(str(path) for path in (tools.HOME / "configs").glob("*.py"))]


@pytest.mark.parametrize("name", EVERY, ids=[name.rpartition("/")[2] for name in EVERY])
def test_presets_are_whole_and_survive_a_checkpoint(name):
    config = finalize(load_config(name))
    scale = max(config.model.decoder_sr_scale, 1)
    for out, size in zip(config.data.output_size, config.data.image_size):
        assert out * config.model.encoder_stride == size * scale
    values = config.to_dict()
    again = finalize(TrainConfig.from_dict(json.loads(json.dumps(values))))
    assert again.to_dict() == values


def test_edits_after_a_preset_are_checked():
    config = load_config("default")
    config.model.encoder_stride = 2
    assert finalize(config).model.decoder_sr_scale == 2
    config.data.output_size = 1024
    assert finalize(config).model.decoder_sr_scale == 0
    config.training.batch_size = 8
    assert finalize(config).data.batch_size == 8
    config.transform.use_imagenet_stats = True
    assert finalize(config).transform.mean[0] == 0.485
    config.data.use_dirty_renders = True
    assert finalize(config).data.render_curriculum == 2
    config.data.image_size, config.data.output_size = 64, None
    assert finalize(config).model.discriminator_n_layers == 4  # 64 / 2^4 - 2 = 2 scores; one layer more leaves none


@pytest.mark.parametrize("assignment, word", [
    ("data.output_size=100", "output_size"), ("model.encoder_stride=3", "encoder_stride"),
    ("model.transformer_dim=30", "transformer_dim"), ("optimizer.scheduler=cosin", "scheduler"),
    ("loss.w_l1=-1", "w_l1"), ("training.epochs=0", "epochs"), ("data.val_ratio=1.5", "val_ratio"),
    ("data.image_size=0", "image size"), ("model.discriminator_use_sigmoid=true", "bce"),
    ("data.batchsize=2", "did you mean batch_size"), ("nothing", "--set"), ("model.encoder_backbone=vgg", "resnet18"),
    ("model.output_channels=(3,1,1,4)", "output_channels"), ("model.discriminator_in_channels=7", "drop it"),
    ("transform.std=(0,1,1)", "std"), ("loss.w_l1=true", "w_l1"), ("model.plk_kernel=4", "odd"),
])  # fmt: skip
def test_wrong_values_are_named(assignment, word, refused):
    config = load_config("default")
    with refused(word):
        apply_overrides(config, [assignment])
        finalize(config)


def test_fields_that_were_never_free_may_be_named_with_their_only_value():
    config = load_config("default")
    config.model.output_channels, config.model.discriminator_in_channels = (3, 1, 1, 3), 8
    apply_overrides(config, ["model.output_channels=[3,1,1,3]"])
    values = finalize(config).to_dict()
    assert not {"output_channels", "discriminator_in_channels"} & set(values["model"])
    values["model"].update(output_channels=[3, 1, 1, 3], discriminator_in_channels=8)  # a checkpoint of before
    assert finalize(TrainConfig.from_dict(values)).to_dict() == config.to_dict()


def test_config_files_that_do_not_work_end_in_one_line(tmp_path, refused):
    path = tmp_path / "bad.py"
    for text in ("def get_config(): return 3", "x = 1", "raise RuntimeError('no')", "def get_config(:"):
        path.write_text(text)
        with refused("bad.py"):
            load_config(str(path))
    with refused("quick_test"):
        load_config("quick")
