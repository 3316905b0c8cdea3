"""Channels with one value: found, not trained, kept in the files, and decoded to exactly that value everywhere."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import dataset
import export
from configs import make_config
from dataset import Constant, Material, load_material
from engine.cpu.decoder import decode_lod, decode_samples
from engine.cpu.engine import CpuEngine
from engine.create import create_engine
from engine.sampling import PROBE, TexelSampler
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from formats.textures import read_export
from maps.channels import CHANNELS, MAPS, map_channels
from maps.mips import mip_sizes
from metrics.decoded_maps import decode_in_file_space
from metrics.evaluate import evaluate_model
from metrics.file_space import constant_listing
from model import NeuralTexture, build_model
from shape import DecoderSpec, GridSpec
from tests.support.exports import edit_manifest
from tests.support.reference import parse_npz
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_differences,
    checkpoint_of,
    newest_run,
    payload,
    quick,
    save_maps,
)
from training.checkpoint import load_checkpoint

CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 7), (5, 3), (33, 17), (64, 8)]


def varied(name, width, height, dtype=np.uint8, seed=0):
    """Codes of a map of which every channel varies, where there is more than one texel."""
    codes = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, MAPS[name]), dtype)
    codes[0, 0], codes[-1, -1] = 0, 200
    return codes


def flat(name, width, height, code, dtype=np.uint8):
    return np.full((height, width, MAPS[name]), code, dtype)


# --- finding them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("linear_color", [False, True])
def test_constants_are_the_channels_with_one_code_in_every_lod(width, height, dtype, linear_color):
    arrays = {"diffuse": varied("diffuse", width, height), "roughness": varied("roughness", width, height, dtype, 1)}
    arrays["diffuse"][..., 1] = 77
    arrays["metallic"] = flat("metallic", width, height, np.iinfo(dtype).max, dtype)
    arrays["normal"] = varied("normal", width, height, dtype, 2)
    material = Material.from_arrays("made", arrays, linear_color=linear_color)
    expected = {}
    for name in material.present:
        for axis, channel in enumerate(map_channels(name)):
            codes = {int(c) for lod in range(material.num_lods) for c in material.stored(lod, name)[..., axis].flat}
            if len(codes) == 1:
                expected[channel] = Constant(codes.pop(), material.bit_depth[name])
    assert material.constants == expected and list(material.constants) == sorted(expected)
    assert {1, 8} <= set(expected) and (width * height == 1 or set(expected) == {1, 8})
    assert expected[1].bit_depth == (16 if linear_color else 8)
    gathered = material.gather(torch.arange(material.num_texels))
    for channel, constant in expected.items():
        column = material.present_channels.tolist().index(channel)
        assert torch.equal(gathered[:, column], torch.full((material.num_texels,), constant.value))


def test_a_normal_channel_that_moves_in_smaller_lods_is_no_constant():
    """x = z = 255 has length 1.41: LOD 1 has unit vectors."""
    codes = varied("normal", 8, 8)
    codes[..., 2] = 255
    assert Material.from_arrays("made", {"normal": codes}).constants == {}
    level = flat("normal", 8, 8, 128)
    level[..., 2] = 255
    assert {c: k.code for c, k in Material.from_arrays("made", {"normal": level}).constants.items()} == {
        3: 128, 4: 128, 5: 255}  # fmt: skip


def test_one_other_texel_far_down_is_enough_to_vary():
    codes = flat("roughness", 600, 600, 9)
    codes[599, 599] = 10
    assert not Material.from_arrays("made", {"roughness": codes}).constants


@pytest.mark.parametrize("code", [0, 1, 10, 76, 128, 200, 254, 255])
@pytest.mark.parametrize("linear_color", [False, True])
def test_a_constant_stays_one_in_area_averages(code, linear_color):
    arrays = {"diffuse": flat("diffuse", 37, 23, code), "roughness": flat("roughness", 37, 23, 257 * code, np.uint16)}
    constants = Material.from_arrays("made", arrays, linear_color=linear_color).constants
    assert list(constants) == [0, 1, 2, 6] and constants[6] == (257 * code, 16)


def test_the_listing_for_readers():
    constants = {0: Constant(7, 8), 5: Constant(65535, 16), 8: Constant(255, 8)}
    assert constant_listing(constants) == "diffuse r 7, normal z 65535/65535, metallic 255"
    assert constant_listing({}) == ""


# --- training ------------------------------------------------------------------------------------------------------

ENGINES = {"torch": TorchEngine, "cpu": CpuEngine}
SETTINGS = {"batch_size": 96, "n_neurons": 16, "n_frequencies": 3, "max_iter": 40, "num_threads": 1}


def make_engine(kind, material, **settings):
    config = make_config({**SETTINGS, **settings})
    present = material.present_channels.tolist()
    model = build_model(config, material.width, material.height, present, material.constants)
    return ENGINES[kind](model, material, Schedule(config))


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("size", [(19, 11), (2, 1)], ids=str)
def test_training_is_that_of_the_material_without_its_constants(kind, size):
    """Bit for bit: no loss, no gradient, no draw of a random number comes from them."""
    arrays = {"diffuse": varied("diffuse", *size), "roughness": varied("roughness", *size, np.uint16)}
    more = {"metallic": flat("metallic", *size, 255), "displacement": flat("displacement", *size, 300, np.uint16)}
    weights = {"diffuse": 2.0, "roughness": 0.5, "metallic": 7.0}
    plain = make_engine(kind, Material.from_arrays("made", arrays), texture_loss_weights=weights)
    other = make_engine(kind, Material.from_arrays("made", {**arrays, **more}), texture_loss_weights=weights)
    assert other.channels == [0, 1, 2, 6] and list(other.model.constants) == [8, 10]
    assert [plain.step(7), plain.step(23)] == [other.step(7), other.step(23)]
    plain.sync(), other.sync()
    for one, two in zip(plain.model.parameters(), other.model.parameters()):
        assert torch.equal(one, two)
    assert not other.model.weights[-1][[3, 8, 10]].any() and other.model.weights[-1][[0, 1, 2, 6]].abs().sum() > 0
    moments = other.state()["optimizer"][len(other.model.weights) - 1]
    assert not moments["exp_avg"][[3, 8, 10]].any() and not moments["exp_avg_sq"][[3, 8, 10]].any()
    assert math.isclose(other.probe(), plain.probe() * 4 / 6, rel_tol=1e-9)


@pytest.mark.parametrize("kind", ENGINES)
def test_the_probe_counts_constants_as_right(kind):
    arrays = {name: varied(name, 9, 5) for name in ("diffuse", "normal")}
    arrays["specular"] = flat("specular", 9, 5, 3)
    arrays["diffuse"][..., 2] = 40  # a constant between channels that vary
    material = Material.from_arrays("made", arrays)
    engine = make_engine(kind, material)
    engine.step(5)
    engine.sync()
    texel, lod, uv = TexelSampler(material.lod_sizes, 0, SETTINGS["batch_size"], CPU).draw(PROBE)
    with torch.no_grad():
        decoded = engine.model(uv, lod)[:, material.present_channels]
    assert engine.channels == [0, 1, 3, 4, 5]
    assert engine.probe() == pytest.approx(float((decoded - material.gather(texel)).square().mean()), rel=1e-5)


def test_both_engines_learn_the_same_beside_constants():
    arrays = {"diffuse": varied("diffuse", 13, 21), "occlusion": flat("occlusion", 13, 21, 9)}
    arrays["diffuse"][..., 0] = 255
    material = Material.from_arrays("made", arrays)
    engines = [make_engine(kind, material, noise_std=0.0) for kind in ENGINES]
    losses = [engine.step(10) for engine in engines]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for engine in engines:
        engine.sync()
    images = [decode(engines[0].model, 0, 13, 21) for decode in (NeuralTexture.decode, decode_lod)]
    assert torch.allclose(*images, atol=1e-5) and torch.equal(images[0][..., 0], images[1][..., 0])


def test_weights_of_zero_on_all_that_varies_are_refused(refused):
    arrays = {"diffuse": varied("diffuse", 4, 4), "metallic": flat("metallic", 4, 4, 1)}
    with refused("texture_loss_weights", "diffuse", "made") as caught:
        make_engine("torch", Material.from_arrays("made", arrays), texture_loss_weights={"diffuse": 0})
    assert "metallic" not in str(caught.value)


def test_an_engine_without_channels_does_nothing():
    material = Material.from_arrays("made", {"diffuse": flat("diffuse", 4, 4, 1)})
    config = make_config({**SETTINGS, "engine": "cpu"})
    model = build_model(config, 4, 4, [0, 1, 2], material.constants)
    engine = create_engine(model, material, Schedule(config), CPU)
    assert engine.channels == [] and engine.probe() == 0.0
    with pytest.raises(ValueError, match="nothing to train"):
        CpuEngine(model, material, Schedule(config))


# --- decoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["linear", "learned"])
@pytest.mark.parametrize(
    "constants", [{8: (255, 8)}, {0: (12345, 16), 3: (0, 8), 10: (1, 8)}, {c: (c, 8) for c in range(11)}], ids=len
)
def test_every_decoder_gives_exactly_the_constants(interpolation, constants):
    constants = {channel: Constant(*pair) for channel, pair in constants.items()}
    model = NeuralTexture([GridSpec(4, 2, 8, 32, interpolation)], DecoderSpec(2, 16, 1), 3, constants=constants)
    with torch.no_grad():
        model.weights[-1].normal_()  # also where the rows are not 0: a file may say anything
        model.weights[-1][1] = math.inf
    uv, lod = torch.rand(50, 2), torch.rand(50) * 2
    decodes = [model.decode(1, 3, 2), decode_lod(model, 1, 3, 2), model(uv, lod), decode_samples(model, uv, lod)]
    decodes.append(model(uv, torch.full((50,), 2)))
    for decoded in decodes:
        for channel, (code, bits) in constants.items():
            want = np.float32(code) / np.float32(2**bits - 1)
            assert (decoded[..., channel].detach().numpy() == want).all()
        others = [c for c in range(2, CHANNELS) if c not in constants]
        assert not others or decoded[..., others].std() > 0


def test_no_gradient_goes_through_a_constant():
    model = NeuralTexture([GridSpec(4, 1, 8, 32)], DecoderSpec(2, 16, 1), 3, constants={4: Constant(9, 8)})
    model(torch.rand(20, 2), torch.zeros(20, dtype=torch.int64)).square().sum().backward()
    gradient = model.weights[-1].grad
    assert not gradient[4].any() and gradient[[3, 5]].abs().sum() > 0


# --- whole runs ----------------------------------------------------------------------------------------------------


def save_constant(folder, name, value, width, height, dtype=np.uint8):
    pixels = np.full((height, width, MAPS[name]), value, dtype)
    PillowImage.fromarray(pixels[..., 0] if MAPS[name] == 1 else pixels).save(folder / f"made_{name}.png")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """19 x 11: the diffuse's blue is 77, roughness varies, metallic is 255, displacement 16 bits of 12345."""
    folder = save_maps(tmp_path_factory.mktemp("maps") / "made", 19, 11, ("diffuse", "roughness"))
    with PillowImage.open(folder / "made_diffuse.png") as picture:
        pixels = np.array(picture)
    pixels[..., 2] = 77
    PillowImage.fromarray(pixels).save(folder / "made_diffuse.png")
    save_constant(folder, "metallic", 255, 19, 11)
    save_constant(folder, "displacement", 12345, 19, 11, np.uint16)
    return folder


@pytest.mark.parametrize("engine", ["torch", "cpu"])
@pytest.mark.parametrize("linear_color", [False, True])
@pytest.mark.parametrize("quantize", [False, True])
def test_a_run_keeps_its_constants(maps, tmp_path, capsys, engine, linear_color, quantize):
    flags = ["--data_dir", maps, "--save_dir", tmp_path, "--max_iter", 30, "--engine", engine]
    run = quick(*flags, "--linear_color", linear_color, "--quantize", quantize, quiet=False)
    assert "constant channels" in capsys.readouterr().out
    folder, material = checkpoint_of(run, 30), load_material(maps, linear_color)
    checkpoint = load_checkpoint(run)
    assert checkpoint.model.constants == material.constants and list(material.constants) == [2, 8, 10]
    models = [checkpoint.model]
    if quantize:
        exported = read_export(folder)
        models.append(exported.model)
        constants = json.loads((folder / "manifest.json").read_text())["material"]["constants"]
        entries = {entry["channel"]: entry for entry in constants}
        assert entries[8] == {"map": "metallic", "channel": 8, "code": 255, "bit_depth": 8, "value": 1.0}
        assert entries[10] == {"map": "displacement", "channel": 10, "code": 12345, "bit_depth": 16,
                               "value": 12345 / 65535}  # fmt: skip
        assert entries[2]["map"] == "diffuse" and entries[2]["bit_depth"] == (16 if linear_color else 8)
        last = parse_npz((folder / "network_data.npz").read_bytes())["network"][-16 * 16 :].reshape(16, 16)
        assert not last[[2, 8, 10]].any() and last[[0, 1, 6]].all(axis=1).any()
    for model in models:
        for lod in range(material.num_lods):
            decoded = decode_in_file_space(model, checkpoint.material, lod, decode_lod)
            assert torch.equal(decoded[..., [2, 8, 10]], material.texels(lod)[..., [2, 8, 10]])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["psnr"]["metallic"] == metrics["psnr"]["displacement"] == 100
    assert metrics["error_share"]["metallic"] == metrics["error_share"]["displacement"] == 0
    assert metrics["psnr"]["all"] < 60
    assert set(metrics["psnr"]) == {"all", *material.present}

    assert quick("--mode", "infer", "--load_dir", run) == run
    for lod, (width, height) in enumerate(mip_sizes(19, 11)):
        images = {}
        for name in ("diffuse", "metallic", "displacement"):
            with PillowImage.open(run / "infer" / f"{name}_lod{lod}.png") as picture:
                images[name] = np.array(picture).reshape(height, width, -1)
        assert (images["diffuse"][..., 2] == 77).all() and (images["metallic"] == 255).all()
        assert (images["displacement"] == round(12345 / 257)).all()


def test_a_resumed_run_is_the_uninterrupted_one(maps, tmp_path):
    flags = ["--data_dir", maps, "--max_iter", 60, "--save_interval", 30, "--eval_interval", 30]
    whole = quick(*flags, "--save_dir", tmp_path / "one")
    other = quick(*flags, "--save_dir", tmp_path / "two")
    quick("--mode", "train", "--load_dir", other, "--load_iter", 30, "--save_dir", tmp_path / "two")
    assert not checkpoint_differences(checkpoint_of(whole, 60), checkpoint_of(other, 60))


@pytest.mark.parametrize("engine", ["torch", "cpu"])
@pytest.mark.parametrize("varies", [True, False])
def test_a_run_from_before_there_were_constants_goes_on_as_it_began(
    maps, tmp_path, monkeypatch, capsys, engine, varies
):
    if not varies:
        maps = tmp_path / "flat"
        maps.mkdir()
        save_constant(maps, "metallic", 255, 9, 9)
    flags = ["--data_dir", maps, "--max_iter", 60, "--save_interval", 30, "--eval_interval", 30, "--engine", engine]
    with monkeypatch.context() as before:
        before.setattr(dataset, "_uniform_columns", lambda codes: [])
        whole, other = (quick(*flags, "--save_dir", tmp_path / name) for name in ("one", "two"))
    path = checkpoint_of(other, 30) / "model.pth"
    state = payload(path.parent)
    material = json.loads(state["material"])
    assert material.pop("constants") == []  # a key that older checkpoints do not have
    torch.save({**state, "material": json.dumps(material)}, path)
    quick("--load_dir", other, "--load_iter", 30, quiet=False)
    assert "constant" not in capsys.readouterr().out
    assert not checkpoint_differences(checkpoint_of(whole, 60), checkpoint_of(other, 60))
    assert load_checkpoint(other).model.weights[-1][8].any()


# --- nothing to train ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (13, 7)], ids=str)
@pytest.mark.parametrize("flags", [(), ("--engine", "cpu", "--linear_color"), ("--quantize", "False")], ids=str)
def test_a_material_of_constants_ends_at_once_and_is_exact(tmp_path, capsys, size, flags):
    folder = tmp_path / "maps"
    folder.mkdir()
    save_constant(folder, "diffuse", (200, 77, 3), *size)
    save_constant(folder, "roughness", 128, *size)
    save_constant(folder, "displacement", 12345, *size, np.uint16)
    run = quick("--data_dir", folder, "--save_dir", tmp_path / "out", "--max_iter", 50, *flags, quiet=False)
    assert "nothing to train" in capsys.readouterr().out
    assert list((run / "models").iterdir()) == [checkpoint_of(run, 0)]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["psnr"] == {"all": 100, "diffuse": 100, "roughness": 100, "displacement": 100}
    assert metrics["error_share"] == {"diffuse": 0, "roughness": 0, "displacement": 0}
    sizes = [path.stat().st_size for path in checkpoint_of(run, 0).glob("*.dds")]
    assert sum(sizes) == (0 if "False" in flags else 2 * 152)  # headers, and a texel each
    quick("--mode", "infer", "--load_dir", run)
    quick("--load_dir", run)  # continues to the same end
    assert load_checkpoint(run).iteration == 0
    with PillowImage.open(run / "infer" / "diffuse_lod0.png") as picture:
        assert picture.size == size and (np.array(picture) == (200, 77, 3)).all()
    if "False" not in flags:
        assert export.main(["--load_dir", str(run), "--out_dir", str(tmp_path / "exported"), "--images"]) == 0
        with PillowImage.open(tmp_path / "exported" / "images" / "roughness_lod0.png") as picture:
            assert (np.array(picture) == 128).all()


def test_grids_that_were_asked_for_are_made_for_a_material_of_constants(tmp_path):
    (tmp_path / "maps").mkdir()
    save_constant(tmp_path / "maps", "metallic", 255, 4, 4)
    (tmp_path / "my.yaml").write_text("hash_grid_configs: [{max_resolution: 2}]")
    run = quick("--data_dir", tmp_path / "maps", "--save_dir", tmp_path / "out", "--config", tmp_path / "my.yaml")
    assert newest_run(tmp_path / "out") == run
    grids = load_checkpoint(run).model.grids
    assert [grid.max_resolution for grid in grids] == [2]


# --- damage --------------------------------------------------------------------------------------------------------


def entry(**changes):
    return {"map": "roughness", "channel": 6, "code": 51, "bit_depth": 8, "value": 0.2, **changes}


@pytest.mark.parametrize(
    "constants",
    [7, "roughness", [7], [[]], {"6": 1}, [{}], [entry(channel=11)], [entry(channel=3)], [entry(channel=-1)],
     [entry(channel="6")], [entry(channel=6.0)], [entry(channel=[6])], [entry(code=256)], [entry(code=-1)],
     [entry(code=1.5)], [entry(code=None)], [entry(bit_depth=12)], [entry(bit_depth=True)], [entry(value=0.3)],
     [entry(value=None)], [entry(map="normal")], [entry(), entry()],
     [entry(), {"map": "diffuse", "channel": 0, "code": 0, "bit_depth": 8, "value": 0.0}]],
    ids=lambda c: str(c)[:60],
)  # fmt: skip
def test_damaged_constants_in_a_manifest_are_refused(folder, refused, constants):
    edit_manifest(folder, lambda manifest: manifest["material"].update(constants=constants))
    with refused("manifest.json", "damaged"):
        read_export(folder)


def test_a_manifest_without_constants_and_one_with_them_are_read(folder):
    edit_manifest(folder, lambda manifest: manifest["material"].pop("constants"))
    assert read_export(folder).model.constants == {}
    edit_manifest(folder, lambda manifest: manifest["material"].update(constants=[entry()]))
    model = read_export(folder).model
    assert model.constants == {6: (51, 8)} and (model.decode(0, 5, 5)[..., 6] == np.float32(0.2)).all()


def test_an_evaluation_of_other_images_does_not_borrow_their_constants():
    """What the model holds counts, not what the source of the evaluation has."""
    arrays = {"diffuse": varied("diffuse", 6, 5), "metallic": flat("metallic", 6, 5, 255)}
    trained, other = (Material.from_arrays("made", {**arrays, "metallic": m})
                      for m in (arrays["metallic"], flat("metallic", 6, 5, 0)))  # fmt: skip
    model = build_model(make_config(SETTINGS), 6, 5, [0, 1, 2, 8], trained.constants)
    slow = {"decode": decode_lod, "with_ssim": False, "with_lpips": False, "with_flip": False}
    assert evaluate_model(model, trained, 0, **slow)["psnr"]["metallic"] == 100
    assert evaluate_model(model, other, 0, **slow)["psnr"]["metallic"] == 0
