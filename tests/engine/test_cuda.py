"""engine/cuda without a GPU: its kernels interpreted, compiled for GPUs that are not there, and refusals."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch

from common.errors import run_command
from configs import make_config
from engine import create as engines
from engine.create import create_decoder, create_engine
from engine.cuda import decoder, library
from engine.cuda.block_size import BLOCKS, block_size
from engine.cuda.compiled import signature_of
from engine.cuda.plan import CENTRES, KernelPlan, SamplePositions, Unsupported, touched_units
from engine.errors import KernelsUnavailable
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from model import build_model
from shape import GridSpec
from tests.support.engine_cases import CPU, material_of
from tests.support.kernel_cases import assert_close, make_model
from tests.support.runs import ROOT, process, refusal_line, save_maps

with_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


# --- the interpreter, in a process of its own: Triton decides when it is imported -------------------------------------


@with_triton
@pytest.mark.timeout(600)
def test_in_the_interpreter():
    """All in one process, which takes some seconds to start."""
    tests = sorted((ROOT / "tests/engine").glob("cuda_interpreted*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, tests)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert len(tests) == 4
    if " passed" not in done.stdout:
        pytest.skip(done.stdout[-300:])


# --- compiled ahead of time -------------------------------------------------------------------------------------------


# two planes in a stack and one by itself, in blocks of another kind
SMALL_BLOCKS = [{"max_resolution": 64, "storage": "bc1", "interpolation": "learned"}] * 2 + [
    {"max_resolution": 20, "n_levels": 1, "storage": "astc6x6"}
]
OTHER_BLOCKS = {"bc1": "astc6x6", "astc6x6": "bc1"}


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """The module, where it works."""
    pytest.importorskip("triton.backends.compiler")
    from engine.cuda import compiled

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    try:
        compiled.cuobjdump()
    except KernelsUnavailable as error:
        pytest.skip(str(error))
    return compiled


def distinct(launches) -> list:
    """One of those that differ only in the number of their grid, by which they read its rate."""
    found = {}
    for launch in launches:
        constants = {name: value for name, value in launch.constants.items() if name != "GRID"}
        arguments = {name: signature_of(value) for name, value in launch.arguments.items()}
        found.setdefault((launch.kernel.__name__, repr(constants), repr(arguments), repr(launch.options)), launch)
    return list(found.values())


@with_triton
@pytest.mark.parametrize(("form", "target"), [("packed", 90), ("blocks", 80)])
def test_every_kernel_compiles(form, target, compiled):
    """For A100 and H100/H200: tensor cores where there are products, and what a thread has fits into registers."""
    deterministic = target == 80
    values = {**compiled.FORMS["reference 1x16"], "deterministic": deterministic}
    names = {"step_kernel", "dense_kernel", "touched_kernel", "network_kernel", "advance_kernel", "sweep_kernel",
             "decode_kernel"}  # fmt: skip
    if form == "blocks":
        values["hash_grid_configs"] = SMALL_BLOCKS
        names |= {"gradient_kernel", "listed_kernel", "tie_kernel"}
    else:
        names |= {"border_kernel"}
    launches = compiled.launches_of(values)
    small = compiled.with_block(launches[0], BLOCKS[-1])
    found = [compiled.facts_of(launch, target) for launch in distinct([*launches, small])]
    assert {facts.kernel for facts in found} == names
    for facts in found:
        assert facts.tensor_cores == (facts.kernel in ("step_kernel", "decode_kernel")), facts
        most = 32 if form == "blocks" else 8  # seen: blocks on sm_80 24, packed on sm_90 8
        assert facts.registers <= 255 and facts.programs >= 1 and facts.spilled <= most, facts


@with_triton
@pytest.mark.parametrize(("form", "target"), [("packed", 90), ("blocks", 80)])
def test_kernels_of_filtered_positions_compile(form, target, compiled):
    """Those of linear grids, which read two LODs, keep to the registers of those at texel centres."""
    values = {**compiled.FORMS["reference 1x16"], "positions": "filtered"}
    if form == "blocks":
        values["hash_grid_configs"] = [{**plane, "interpolation": "linear", "storage": OTHER_BLOCKS[plane["storage"]]}
                                       for plane in SMALL_BLOCKS]  # fmt: skip
    launches = [launch for launch in compiled.launches_of(values)
                if launch.constants.get("POSITIONS", CENTRES.constant) != CENTRES.constant]  # fmt: skip
    names = ["step_kernel", *["gradient_kernel"] * 3, *["touched_kernel"] * 2]
    assert [launch.kernel.__name__ for launch in launches] == (names if form == "blocks" else names[::4])
    for launch in distinct(launches):
        facts = compiled.facts_of(launch, target)
        assert facts.programs >= 1 and facts.spilled <= 32, facts  # seen: 0


@with_triton
@pytest.mark.parametrize("activation", ["hard_swish", "leaky_relu"])
def test_kernels_with_rounded_activations_compile(activation, compiled):
    values = {**compiled.FORMS["reference 1x16"], "activation": activation, "activation_bits": 8}
    found = [compiled.facts_of(launch, 90) for launch in compiled.launches_of(values)
             if launch.constants.get("ACTIVATIONS") or "WEIGHT_BITS" in launch.constants]  # fmt: skip
    assert {facts.kernel for facts in found} == {"step_kernel", "decode_kernel", "network_kernel"}
    for facts in found:
        assert facts.registers <= 255 and facts.programs >= 1 and facts.spilled <= 32, facts


# --- choosing, and refusing -------------------------------------------------------------------------------------------


def chosen(name, say, device=CPU, **values):
    material = material_of()
    config = make_config({"engine": name, "batch_size": 64, "n_neurons": 16, **values})
    model = build_model(config, material.width, material.height, material.present_channels.tolist())
    return create_engine(model, material, Schedule(config), device, say)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device(refused):
    with refused("--engine cuda", "CUDA device", "cpu", "--engine auto"):
        chosen("cuda", print)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_command_without_a_device(tmp_path):
    maps = save_maps(tmp_path / "maps")
    done = process("--data_dir", maps, "--save_dir", tmp_path / "out", "--engine", "cuda")
    assert "--engine cuda" in refusal_line(done.returncode, done.stderr)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_without_triton(refused, monkeypatch):
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    with refused("--engine cuda", "Triton is not installed"):
        chosen("cuda", print)


@with_triton
def test_an_older_triton(refused, monkeypatch):
    import triton

    library.load.cache_clear()
    monkeypatch.setattr(library, "check_device", lambda device: None)
    monkeypatch.setattr(triton, "__version__", "3.4.0")
    with refused("--engine cuda", "expected Triton 3.5", "PyTorch 2.9", "found 3.4.0"):
        chosen("cuda", print)


@pytest.mark.parametrize("error", [KernelsUnavailable("the GPU kernels failed their self-check"), Unsupported("no")])
def test_auto_does_without(error, monkeypatch, refused):
    """On a CUDA device: one line, and PyTorch. The device here is the one that tensors without memory have."""

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(engines, "CudaEngine", fail)
    monkeypatch.setattr(engines, "TorchEngine", lambda model, material, schedule: "torch")
    said = []
    device = type("Device", (), {"type": "cuda"})()
    assert chosen("auto", said.append, device) == "torch"
    assert len(said) == 1 and str(error) in said[0] and "PyTorch" in said[0]
    assert chosen("torch", said.append, device) == "torch" and len(said) == 1
    with refused("--engine cuda", str(error)):
        chosen("cuda", said.append, device)


def test_auto_says_that_the_engine_is_new(monkeypatch):
    monkeypatch.setattr(engines, "CudaEngine", lambda *arguments: "cuda")
    checked, said = [], []
    monkeypatch.setattr(engines, "check_engine", checked.append)
    device = type("Device", (), {"type": "cuda"})()
    assert chosen("auto", said.append, device) == "cuda" and checked == ["cuda"]
    assert len(said) == 1 and all(word in said[0] for word in ("cuda engine is new", "report", "--engine torch"))
    assert chosen("cuda", said.append, device) == "cuda" and len(said) == 1  # asked for by name


def test_other_devices_go_through_torch(monkeypatch):
    monkeypatch.setattr(engines, "TorchEngine", lambda model, material, schedule: "torch")
    assert chosen("auto", print, type("Device", (), {"type": "mps"})()) == "torch"
    assert TorchEngine is not engines.TorchEngine


def test_importing_the_engine_needs_no_triton():
    code = "import engine.create, sys; sys.exit('triton' in sys.modules and 'engine.cuda.kernels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


# --- what a machine with a GPU would do -------------------------------------------------------------------------------


def test_kernels_run_on_the_device_of_their_tensors(monkeypatch):
    """Triton takes CUDA's current device, which --device cuda:1 is not."""
    current, seen = [torch.device("cuda:0")], []

    @contextlib.contextmanager
    def device(where):
        current.append(where)
        yield
        current.pop()

    class Kernel:
        def __getitem__(self, grid):
            return lambda **arguments: seen.append((grid, current[-1], arguments["count"]))

    monkeypatch.setattr(torch.cuda, "device", device)
    there = torch.device("cuda:1")
    tensor = type("There", (torch.Tensor,), {"device": there})()
    library.Launch(Kernel(), (3,), {"count": 7, "values": tensor}, {})()
    assert seen == [((3,), there, 7)] and len(current) == 1


@pytest.mark.parametrize(
    ("batch", "processors", "block"),
    [(2048, 132, 16), (4096, 132, 32), (8192, 132, 64), (1 << 18, 132, 64), (2048, 108, 32), (4096, 128, 32),
     (1, 1, 16), (8192, 64, 64), (300, 3, 64)],
)  # fmt: skip
def test_small_batches_are_spread(batch, processors, block):
    """Over as many processors as there are, and never in more turns than with the largest block."""
    assert block_size(batch, processors) == block
    assert -(-batch // (block * processors)) == -(-batch // (64 * processors))


def test_decoding_does_without_kernels_that_fail(monkeypatch):
    """Where training has gone on with PyTorch, say for want of a C compiler, so does the evaluation; it tries once."""
    model, tried = make_model((8, 2, 4, 16), lods=4), []

    def fail(*arguments, **options):
        tried.append(1)
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(decoder, "_checked", {})
    monkeypatch.setattr(decoder, "decode_lod", fail)
    decode = create_decoder(make_config({"engine": "cuda"}))
    for _ in range(2):
        assert_close(decode(model, 0, 9, 7), model.decode(0, 9, 7))
    assert len(tried) == 1
    with pytest.raises(KernelsUnavailable, match="RuntimeError: Failed to find C compiler"):
        decoder.decode_checked(model, 0, 9, 7)


OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has 8 GiB")


def test_without_enough_memory(monkeypatch, capsys):
    """One line; images are decoded by PyTorch in smaller pieces, and the next one by the kernels again."""

    def fail(*arguments, **options):
        raise OUT_OF_MEMORY

    assert run_command(fail) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "GPU is out of memory" in said and "9.00 GiB" in said and "--batch_size" in said
    with pytest.raises(torch.cuda.OutOfMemoryError), library.failures():
        fail()
    monkeypatch.setattr(decoder, "_checked", {})
    monkeypatch.setattr(decoder, "decode_lod", fail)
    model = make_model((8, 2, 4, 16), lods=4)
    assert_close(create_decoder(make_config({"engine": "cuda"}))(model, 0, 9, 7), model.decode(0, 9, 7))
    assert decoder._checked == {}


@pytest.mark.parametrize("wrong", [0.0, 1e-2, math.nan])
def test_decoding_is_compared_once(wrong, monkeypatch):
    model, seen = make_model((8, 2, 4, 16), lods=4), []

    def decoded(model, lod, width, height, rows):
        seen.append(rows)
        return model.decode(lod, width, height, rows=rows) * (1 + wrong)

    monkeypatch.setattr(decoder, "_checked", {})
    monkeypatch.setattr(decoder, "decode_lod", decoded)
    decode, rows = create_decoder(make_config({"engine": "cuda"})), slice(3, 7)
    for _ in range(2):
        assert_close(decode(model, 0, 40, 30, rows=rows), model.decode(0, 40, 30, rows=rows))
    assert len(seen) == (1 if wrong else 2)


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{"neurons": 144}, {"lods": 17}])
def test_unsupported_shapes(values):
    with pytest.raises(Unsupported, match="at most"):
        KernelPlan(make_model((4, 1, 4, 16), **values))
    with pytest.raises(Unsupported, match="grids"):
        KernelPlan(make_model(*[(4, 1, 4, 16)] * 17))


def test_small_grids_share_a_product():
    """Two of 8 inputs fill one of 16 columns, alternating; what has no pair stands beside zeros."""
    plan = KernelPlan(make_model((8, 2, 4, 32), (4, 1, 8, 64), (4, 1, 8, 8), frequencies=0))
    pair, alone = plan.groups[1:]
    assert (pair.one, pair.other, pair.piece, pair.width) == ((0, 0), (1, 0), 8, 16) and alone.other == (-1, 0)
    assert plan.input_map[:17].tolist() == [*range(16, 32, 2), *range(17, 32, 2), 32]


def test_looks_of_samples():
    """Linear grids are read at two LODs by half of the samples, as whole_lod_share has it; others at one."""
    linear, learned = make_model((8, 2, 4, 32)), make_model((8, 2, 4, 32), (8, 2, 4, 16, "learned"))
    found = {form: SamplePositions.of(model, "filtered") for form, model in (("linear", linear), ("learned", learned))}
    assert found["linear"].constant == (1, 0.5, 2.0) and found["learned"].constant == (1, 1.0, 0.0)
    assert [(p.looks, p.mean_looks) for p in found.values()] == [(2, 1.5), (1, 1.0)]
    assert SamplePositions.of(linear, "centres") == CENTRES and (CENTRES.looks, CENTRES.mean_looks) == (1, 1.0)


PLANE, OTHER = (8, 2, 0, 4, "linear", "bc1"), (8, 2, 0, 4, "learned", "bc1")


def test_grids_of_blocks_of_one_shape_make_stacks():
    """Of as many grids as a power of two; what is trained otherwise, or has another shape, stands by itself."""
    model = make_model(PLANE, PLANE, PLANE, OTHER, (4, 1, 4, 16), (4, 1, 4, 16), *[PLANE] * 7, frequencies=0)
    stacks = KernelPlan(model).stacks
    assert [(s.start, len(s)) for s in stacks] == [(0, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 4), (10, 2), (12, 1)]
    lazy, moves = (True,) + (False,) * 12, (True,) * 11 + (False,) * 2
    assert [len(s) for s in KernelPlan(model, lazy, moves).stacks] == [1, 2, 1, 1, 1, 4, 1, 2]


def test_touched_blocks():
    """Of all places in a grid of whole blocks, those whose texels lie in one, two or four of them."""
    for storage, bits, side in (("bc1", 4, 4), ("astc6x6", 6, 6)):
        x = range(5 * side)
        blocks = len([(left, right) for left in x for right in {left // side, (left + 1) % len(x) // side}])
        assert touched_units(GridSpec(len(x), 1, 0, bits, "linear", storage)) == pytest.approx((blocks / len(x)) ** 2)
    assert touched_units(GridSpec(20, 1, 4, 16)) == 4


def test_columns_of_blocks():
    """A texel of a plane has three inputs and a column of zeros; corners, then planes, then features."""
    plan = KernelPlan(make_model(PLANE, OTHER, OTHER, frequencies=0))
    plane, others = plan.groups[1:]
    assert (plane.piece, plane.width, others.piece, others.width) == (4, 16, 32, 32)
    assert plan.input_map[:3].tolist() == [plane.column + 4 * f for f in range(3)]
    for at, of_plane in ((3, 0), (15, 4)):
        wanted = [others.column + 8 * corner + of_plane + f for corner in range(4) for f in range(3)]
        assert plan.input_map[at : at + 12].tolist() == wanted
    assert plan.constants["GRIDS"] == (4, 0, 0, 0, 1, 0, 4, 8, 0, 1, 0, 1, 1, 4)


def test_packed_weights():
    """Every input has its own place, ones share one, inputs without a gradient have none."""
    model = make_model((8, 2, 4, 32), (4, 1, 8, 8, "learned"), (4, 1, 8, 16), texel_frequencies=2, neurons=48, layers=2)
    plan = KernelPlan(model, precision="ieee")
    weights = torch.cat([weight.detach().reshape(-1) for weight in model.weights])
    places, packed = plan.places(), plan.pack(weights)
    ones = sum(count for _, count in model.layout.ones)
    kept = places[places >= 0]
    assert (places < 0).sum() == 2 * 48 and len(kept) - len(kept.unique()) == 48 * (ones - 1)
    assert packed.sum() == pytest.approx(float(weights[places >= 0].sum()), rel=1e-5)
    assert plan.neurons == 64 and len(packed) == plan.size and kept.max() < plan.size
    gradient = plan.unpack_gradient(torch.arange(plan.size, dtype=torch.float32))
    assert torch.equal(gradient[places >= 0], kept.float()) and (gradient[places < 0] == 0).all()
    rounded = KernelPlan(model, precision="tf32").pack(weights)
    assert 0 < ((rounded - packed).abs() / packed.abs().clamp(min=1e-20)).max() <= 2.0**-11
    assert [group.width for group in plan.groups] == [16] * 4  # of 8, 4 and 2 inputs, which make no pairs
