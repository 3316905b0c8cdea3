"""bench/engines_gpu.py, devices.py, floors.py: everything but CUDA itself, with the CPU in the place of a GPU."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types

import numpy as np
import pytest
import torch

from bench import devices, engines, engines_gpu, engines_work, floors, materials, race
from bench.devices import IDLE, REST, Device, Kernel, breakdown
from bench.engines_gpu import Budget
from bench.race import Contestant, Effort
from common.errors import UserError, run_command
from configs import make_config
from dataset import Material
from engine import tcnn_engine
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from engine.sampling import lod_shares
from maps.channels import MAPS
from model import build_model
from tests.support import tcnn_standin
from tests.support.runs import offline, refusal_line, save_maps

TINY = Effort(rounds=2, turns=2, turn_s=0.002)
SMALL = {"n_frequencies": 4, "hash_grid_configs": [{"max_resolution": 8, "save_bits": 16}], "num_threads": 1}
BEST = {"copy_bytes_per_second": 1e9, "matrix_multiply_adds_per_second": 2e9, "float32_multiply_adds_per_second": 1e9}


@pytest.fixture
def kernels():
    try:
        return load_kernels()
    except KernelsUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def device(kernels, monkeypatch):
    """The CPU with the engines of a GPU: its fused one is `cpu`, tiny-cuda-nn is the stand-in."""
    monkeypatch.setitem(sys.modules, "tinycudann", tcnn_standin.as_module())
    monkeypatch.setattr(tcnn_engine, "DEVICES", ("cpu",))
    monkeypatch.setattr(race, "PAUSE_S", 0)
    monkeypatch.setitem(race.WARM_UP, "cpu", 4)
    for name, value in (("COPIED", {"cpu": 1 << 16}), ("MATRIX", {"cpu": 32})):
        monkeypatch.setattr(devices, name, value)
    found = Device(torch.device("cpu"))
    found.engines = ("torch", "cpu", "tcnn")
    return found


def complete(rows):
    """No cell of the table is empty but for memory, which a CPU does not tell, and what torch.compile would fill."""
    for row in rows:
        for _, key, _ in engines_gpu.COLUMNS[row["part"]]:
            missing = key in ("peak_bytes", "speedup_compiled", "refining_seconds", "calls")
            assert row[key] is not None or missing, key
    lines = engines_gpu.table(rows).splitlines()
    assert len(lines) == len(rows) + 1 and len({len(line.rstrip()) for line in lines}) >= 1


# --- command ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("flags", [("--device", "cuda"), ("--device", "cuda:1", "--quick"), ("--device", "cuda:x")])
def test_without_a_gpu_there_is_one_line(flags, tmp_path, capsys):
    code = run_command(lambda: engines.main([*flags, "--out", str(tmp_path)]))
    line = refusal_line(code, capsys.readouterr().err)
    assert f"--device {flags[1]}" in line and "NVIDIA GPU" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["abacus", "auto", "mps"])
def test_other_devices_are_refused(name, tmp_path, capsys):
    code = run_command(lambda: engines.main(["--device", name, "--out", str(tmp_path)]))
    assert f"--device {name}" in refusal_line(code, capsys.readouterr().err)


def run_command_on(device, tmp_path, monkeypatch, *flags) -> int:
    """The command of a GPU on another device, with efforts of 4 iterations."""
    plan = engines_gpu.plan

    def short(config, width, height):
        planned = plan(config, width, height)
        return dataclasses.replace(planned, max_iter=4, batch_size=64, refine=min(planned.refine, 1))

    for name, value in (("plan", short), ("QUICK", TINY), ("FULL", TINY), ("BATCHES", (256, 64)), ("PROFILED_S", 0.001),
                        ("QUICK_SIZE", 128), ("SIZES", (96, 128)),
                        ("BPP", 12.0)):  # fmt: skip
        monkeypatch.setattr(engines_gpu, name, value)
    folder = save_maps(tmp_path / "made", 24, 20)
    flags = [*flags, str(folder), "--out", str(tmp_path / "out"), "--num_threads", "1"]
    arguments = engines.build_parser().parse_args(flags)
    with offline():
        return engines_gpu.command(arguments, device)


def test_quick_ends_with_a_line_of_json(device, tmp_path, monkeypatch, capsys):
    assert run_command_on(device, tmp_path, monkeypatch, "--quick") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert set(found["steps_2x64"]) == {f"{e} {b}" for e in ("torch", "cpu", "tcnn") for b in (256, 64)}
    assert found["fused_engine"] == "cpu" and found["ratio_torch_2x64"] > 0 and found["ratio_compiled_2x64"] is None
    assert found["ratio_torch_2x64"] == found["steps_2x64"]["cpu 256"]["speedup"]  # of the largest batch
    assert set(found["efforts"]) == {"preview", "balanced", "best"} and found["left_out"] == []
    for row in found["efforts"].values():
        assert row["size"] == 128 and row["engine"] == "cpu" and row["iterations"] == 4 and 5 < row["psnr"] < 60
    assert {entry[0] for entry in found["profile"]} == {"cpu", "torch"}
    assert all(math.isfinite(found[key]) and found[key] > 0 for key in BEST)
    assert any(line.startswith("note") for line in lines) is False
    written = json.loads((tmp_path / "out" / "engines_gpu_quick.json").read_text())
    assert {row["part"] for row in written["entries"]} == {"step", "profile", "preset"}
    assert written["settings"]["limits"].keys() == BEST.keys()


def test_a_whole_measurement_has_every_part(device, tmp_path, monkeypatch, capsys):
    assert run_command_on(device, tmp_path, monkeypatch) == 0
    rows = json.loads((tmp_path / "out" / "engines_gpu.json").read_text())["entries"]
    steps = [(r["network"], r["batch_size"], r["engine"]) for r in rows if r["part"] == "step"]
    assert steps == [(n, b, e) for n in ("2x64", "1x16") for b in (256, 64) for e in ("torch", "cpu", "tcnn")]
    sizes = [(r["size"], r["width"], r["engine"]) for r in rows if r["part"] == "size"]
    assert sizes == [(s, s, e) for s in (96, 128) for e in ("torch", "cpu", "tcnn")]
    efforts = [(r["size"], r["preset"]) for r in rows if r["part"] == "preset"]
    assert efforts == [(s, p) for s in (96, 128) for p in ("preview", "balanced", "best")]
    assert all(r["refining_seconds"] > 0 for r in rows if r["part"] == "preset")
    for part in ("step", "size", "profile", "preset"):
        complete([row for row in rows if row["part"] == part])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(".png") or "matplotlib" in last


def test_what_there_is_no_time_for_is_named(device, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engines_gpu, "QUICK_S", 0.0)
    assert run_command_on(device, tmp_path, monkeypatch, "--quick") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["steps_2x64"] == {} and found["ratio_torch_2x64"] is None
    assert any("torch: no time left" in what for what in found["left_out"])
    assert any("preview 128: no time left" in what for what in found["left_out"])


# --- who takes part --------------------------------------------------------------------------------------------------


def test_engines_that_do_not_work_are_left_out(device, make_material, monkeypatch, capsys):
    """A package that is missing, a name that this toolkit does not have, and one that does not do the same work."""
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    monkeypatch.setattr(engines_gpu.Contestant, "turn", lambda self, n: 0.001 * n)
    started = Contestant.__init__

    def init(self, engine, *arguments, **options):
        started(self, engine, *arguments, **options)
        self.loss *= 1.1 if engine == "cpu" else 1

    monkeypatch.setattr(Contestant, "__init__", init)
    device.engines, budget = ("torch", "abacus", "cpu", "tcnn"), Budget()
    rows = engines_gpu.compete(device, make_material(16, 16), SMALL, TINY, BEST, budget, part="step", network="2x64")
    assert [row["engine"] for row in rows] == ["torch"] and rows[0]["speedup"] == 1
    assert [what.split(":")[0] for what in budget.left_out] == [f"step 2x64, {e}" for e in ("abacus", "cpu", "tcnn")]
    assert "--engine" in budget.left_out[0] and "loss" in budget.left_out[1] and "pip install" in budget.left_out[2]
    assert capsys.readouterr().out.count("note: ") == 3


def test_without_torch_the_others_have_no_ratio(device, make_material):
    device.engines = ("cpu",)
    (row,) = engines_gpu.compete(device, make_material(16, 16), SMALL, TINY, BEST, Budget(), part="step", network="x")
    assert row["speedup"] is None and row["speedup_compiled"] is None and row["samples_per_second"] > 0


def test_shares_are_of_what_was_measured(device, make_material):
    material = make_material(16, 16)
    contestant = Contestant("torch", material, {**SMALL, "batch_size": 100}, device)
    shares = engines_gpu.shares_of(contestant, 0.5, BEST)
    work, moved = floors.multiply_adds(contestant.model), floors.least_bytes(contestant.model, material, 100)
    assert shares["floor_by_arithmetic"] == pytest.approx(1000 * 100 * work / 2e9)
    assert shares["matrix_share"] == pytest.approx(100 * work / 2e9 / 0.5)
    assert shares["copy_share"] == pytest.approx(moved / 1e9 / 0.5)


def test_a_preset_that_has_no_time_is_given_up(device, make_material):
    budget = Budget(0.0)
    found = engines_gpu.measure_preset(device, make_material(128, 128), "preview", "torch", budget, num_threads=1)
    assert found is None and "stopped at iteration 0" in budget.left_out[0]


def test_turns_are_as_long_as_asked_for(make_material, monkeypatch):
    contestant = Contestant("torch", make_material(16, 16), {**SMALL, "batch_size": 16})
    asked = []
    monkeypatch.setattr(contestant, "turn", lambda n: asked.append(n) or 0.002 * n)
    assert contestant.iterations_in(0.1) == 50
    assert asked == [1, 2, 4, 8, 16]
    assert Effort(1, 1, {"torch": 7}, turn_s=0.1).of(contestant) == 7
    assert Effort(1, 1, turn_s=0.1).of(contestant) == 50


# --- floors ----------------------------------------------------------------------------------------------------------


def model_of(material, **values):
    return build_model(make_config(values), material.width, material.height, material.present_channels.tolist())


def test_multiply_adds_by_hand(make_material):
    """Inputs 8 + 8 + 4 + 1, padded to 32: forward and weights are whole, backward only the 4 features."""
    model = model_of(make_material(16, 16), n_frequencies=4, n_neurons=16, n_hidden_layers=2,
                     hash_grid_configs=[{"max_resolution": 8, "save_bits": 16}])  # fmt: skip
    assert [tuple(weight.shape) for weight in model.weights] == [(16, 16), (16, 16), (16, 16)]
    assert floors.multiply_adds(model) == 16 * (2 * 16 + 4) + 2 * 16 * 3 * 16


def test_multiply_adds_are_about_those_of_the_cpu_kernels(device, make_material):
    """Which leave out padding and channels that are not there."""
    contestant = Contestant("cpu", make_material(16, 16, tuple(MAPS)), {"num_threads": 1, "batch_size": 64}, device)
    assert floors.multiply_adds(contestant.model) == pytest.approx(engines_work.step_work(contestant), rel=0.2)


def test_least_bytes_by_counting(make_material):
    """Against the texels that random samples do touch, on average."""
    material, batch = make_material(32, 32), 200
    grids = [{"max_resolution": 16, "n_levels": 3, "save_bits": 16}, {"max_resolution": 1, "save_bits": 8}]
    model = model_of(material, hash_grid_configs=grids)
    random = np.random.default_rng(0)
    shares = lod_shares([w * h for w, h in material.lod_sizes]).numpy()
    touched = []
    for _ in range(40):
        lods = random.choice(len(shares), batch, p=shares)
        seen = [set(), set()]
        for lod in lods:
            w, h = material.lod_sizes[lod]
            u, v = (random.integers(w) + 0.5) / w, (random.integers(h) + 0.5) / h
            for index, grid in enumerate(model.grids):
                level = grid.level_of(int(lod))
                r, _ = grid.level_size(level)
                x, y = math.floor(u * r - 0.5), math.floor(v * r - 0.5)
                seen[index] |= {(level, (x + i) % r, (y + j) % r) for i in (0, 1) for j in (0, 1)}
        touched.append([len(s) for s in seen])
    means = np.mean(touched, axis=0)
    want = batch * 7 + sum(24 * grid.features * mean for grid, mean in zip(model.grids, means))
    assert floors.least_bytes(model, material, batch) == pytest.approx(want, rel=0.03)
    assert floors.least_bytes(model, material, 10**9) - 7e9 == pytest.approx(24 * (336 * 4 + 1 * 2))  # all, once


# --- devices ---------------------------------------------------------------------------------------------------------


def test_limits_are_bytes_and_multiply_adds(device, monkeypatch):
    monkeypatch.setattr(devices, "_seconds", lambda device, run: run() is None or 0.5)
    found = devices.limits(device)
    assert found["copy_bytes_per_second"] == 2 * (1 << 16) / 0.5
    assert found["matrix_multiply_adds_per_second"] == found["float32_multiply_adds_per_second"] == 32**3 / 0.5


def test_a_profile_names_what_ran(device):
    matrix = torch.ones(128, 128)
    found = device.profile(lambda: [torch.mm(matrix, matrix) for _ in range(5)])
    names = {kernel.name: kernel for kernel in found}
    assert names["aten::mm"].calls == 5 and names["aten::mm"].seconds > 0
    assert [kernel.seconds for kernel in found] == sorted((k.seconds for k in found), reverse=True)


@pytest.mark.parametrize("field", ["self_device_time_total", "self_cuda_time_total"])
def test_kernels_of_a_gpu_are_told_from_operators(field, monkeypatch):
    """Old and new PyTorch name the time differently; operators on the CPU carry that of their kernels a second time."""
    events = [types.SimpleNamespace(key="fused_step", count=4, device_type="DeviceType.CUDA", **{field: 3000.0}),
              types.SimpleNamespace(key="adam", count=4, device_type="DeviceType.CUDA", **{field: 5000.0}),
              types.SimpleNamespace(key="aten::mm", count=9, device_type="DeviceType.CPU", **{field: 3000.0}),
              types.SimpleNamespace(key="nothing", count=1, device_type="DeviceType.CUDA", **{field: 0.0})]  # fmt: skip

    class Recorded:
        def __init__(self, activities):
            assert activities == [devices.ProfilerActivity.CUDA]

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

        def key_averages(self):
            return events

    monkeypatch.setattr(devices, "profile", Recorded)
    gpu = Device(torch.device("cuda"))
    monkeypatch.setattr(gpu, "synchronize", lambda: None)
    assert gpu.profile(lambda: None) == [Kernel("adam", 4, pytest.approx(5e-3)), Kernel("fused_step", 4, 3e-3)]
    assert gpu.engines == ("torch", "compiled", "cuda", "tcnn") and gpu.fused == "cuda"


def test_a_breakdown_adds_up():
    kernels = [Kernel(f"k{i}", 10, 0.1 - 0.005 * i) for i in range(10)]
    rows = breakdown(kernels, 2.0, iterations=5)
    assert [row["kernel"] for row in rows] == [f"k{i}" for i in range(8)] + [REST, IDLE]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[0]["milliseconds"] == pytest.approx(20) and rows[0]["calls"] == 2
    assert rows[-1]["share"] == pytest.approx(1 - sum(k.seconds for k in kernels) / 2)
    overlapping = breakdown(kernels[:1], 0.05, 1)
    assert overlapping[0]["share"] == pytest.approx(2) and overlapping[-1]["share"] == 0


def test_memory_is_the_most_above_what_there_was(monkeypatch):
    """100 bytes before, 900 at most, 50 more outside of PyTorch's allocator, such as tiny-cuda-nn's."""
    state = {"allocated": 100, "peak": 5000, "reserved": 1000, "free": 8000}
    cuda = {
        "synchronize": lambda device: None, "memory_allocated": lambda device: state["allocated"],
        "max_memory_allocated": lambda device: state["peak"], "memory_reserved": lambda device: state["reserved"],
        "mem_get_info": lambda device: (state["free"], 10_000),
        "reset_peak_memory_stats": lambda device: state.update(peak=state["allocated"]),
    }  # fmt: skip
    for name, function in cuda.items():
        monkeypatch.setattr(torch.cuda, name, function)
    with Device(torch.device("cuda")).watch_memory() as found:
        assert state["peak"] == 100
        state.update(allocated=300, peak=900, reserved=1500, free=10_000 - 1500 - 1050)
    assert found["peak_bytes"] == 800 + 50
    with Device(torch.device("cpu")).watch_memory() as found:
        pass
    assert found["peak_bytes"] is None


def test_a_device_is_opened_by_name(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(engines_gpu, "resolve_device", lambda config: torch.device(config.device))
    assert engines_gpu.open_device("cuda:1").where == torch.device("cuda:1") and chosen == [torch.device("cuda:1")]
    with pytest.raises(UserError, match="expected cpu, cuda"):
        engines_gpu.open_device("mps")


# --- materials -------------------------------------------------------------------------------------------------------


def test_tiles_are_the_material_mirrored(make_material):
    source = make_material(7, 5, ("diffuse", "roughness", "specular"))
    found = materials.tiled_material(source, 20)
    assert (found.width, found.height, found.present) == (20, 20, ("diffuse", "roughness"))
    original = source.stored(0, "diffuse")
    versions = [original[::a, ::b] for a in (1, -1) for b in (1, -1)]
    image, used = found.stored(0, "diffuse"), set()
    for top in range(0, 20, 5):
        for left in range(0, 20, 7):
            tile = image[top : top + 5, left : left + 7]
            same = [i for i, v in enumerate(versions) if np.array_equal(tile, v[: tile.shape[0], : tile.shape[1]])]
            assert same
            used.add(same[0])
    assert len(used) > 1
    assert np.array_equal(materials.tiled_material(source, 20).stored(0, "roughness"), found.stored(0, "roughness"))


def test_a_large_material_is_cut(make_material):
    source = make_material(40, 50, ("roughness",))
    found = materials.tiled_material(source, 16).stored(0, "roughness")
    versions = [source.stored(0, "roughness")[::a, ::b][:16, :16] for a in (1, -1) for b in (1, -1)]
    assert any(np.array_equal(found, version) for version in versions)


def test_deep_maps_stay_deep():
    arrays = {"displacement": np.arange(64, dtype=np.uint16).reshape(8, 8, 1) * 1000}
    found = materials.tiled_material(Material.from_arrays("deep", arrays), 12)
    assert found.bit_depth["displacement"] == 16 and found.stored(0, "displacement").dtype == np.uint16
