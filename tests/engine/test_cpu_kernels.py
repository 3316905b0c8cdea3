"""engine/cpu: what the kernels decode, and what they derive, against the reference in float64, on several builds."""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path

import pytest
import torch

from engine.cpu import build, decoder, library
from engine.cpu.decoder import decode_lod, decode_samples, differentiate
from engine.errors import KernelsUnavailable
from maps.channels import CHANNELS
from model import NeuralTexture
from quantize import round_features
from tests.support.engine_cases import CASES, assert_steps_equal_the_reference
from tests.support.kernel_cases import (  # noqa: F401  # fixtures
    SHAPES,
    WORDS,
    _kernels,
    assert_close,
    channels_of,
    every_shape,
    every_word,
    exact_gradients,
    make_model,
    no_kernels,
    noise_of,
    samples,
    twin,
)
from tests.support.other_systems import joined_sources

# --- decoding --------------------------------------------------------------------------------------------------------


@every_shape
def test_decoded_samples(name):
    model = SHAPES[name]()
    exact = twin(model)
    absent = sorted(set(range(model.decoder.outputs)) - set(channels_of(name)))
    uv, lod = samples(500, model.num_lods)
    wanted = exact(uv.double(), lod.double()).detach()
    for n in (500, 67, 66, 65, 5, 1):  # a block of the kernels is 66
        found = decode_samples(model, uv[:n], lod[:n])
        assert_close(found, wanted[:n])
        assert (found[:, absent] == 0).all()
    uv, lod = samples(100, model.num_lods, whole=True)
    assert_close(decode_samples(model, uv, lod), exact(uv.double(), lod.double()))
    assert decode_samples(model, uv[:0], lod[:0]).shape == (0, model.decoder.outputs)


@every_word
@pytest.mark.parametrize("quantized", [True, False])
def test_every_word(quantized, bits, word):
    model = make_model((8, 2, bits, word), (5, 1, bits, word, "learned"), quantized=quantized)
    uv, lod = samples(130, model.num_lods)
    assert_close(decode_samples(model, uv, lod), twin(model)(uv.double(), lod.double()))
    linear = make_model((8, 2, bits, word), quantized=quantized)  # whose inputs are blended between two LODs
    assert_close(decode_samples(linear, uv, lod), twin(linear)(uv.double(), lod.double()))


def test_any_position():
    """All bits of a float32, on both sides of the border of a tile: with the rounding that the reference has."""
    model = make_model((12, 3, 4, 32), (8, 1, 8, 32, "learned"), frequencies=16, neurons=64, layers=2, seamless=False)
    edges = [0, 1, -1, -1e-9, 1e-9, 1 - 2**-24, -(2**-24), 2**-23, 0.5, 1 / 24, 23 / 24, 1 / 3, 1e5 + 1 / 3, -1e5]
    edges = torch.tensor([(u, v) for u in edges for v in edges])
    uv = torch.cat([edges, torch.rand(2000, 2) * 6 - 3])
    lod = torch.rand(len(uv)) * 4 - 0.5
    assert_close(decode_samples(model, uv, lod), model(uv, lod))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_decode_the_same_bits(threads):
    model = make_model((8, 2, 4, 32), layers=2, neurons=32)
    uv, lod = samples(7000, model.num_lods)
    assert torch.equal(decode_samples(model, uv, lod, threads), decode_samples(model, uv, lod, 1))


def test_inputs_of_other_types_and_strides():
    model = make_model((8, 2, 4, 32))
    uv, lod = samples(40, model.num_lods, whole=True)
    wanted = decode_samples(model, uv, lod)
    assert torch.equal(decode_samples(model, uv.double(), lod.int()), wanted)
    assert torch.equal(decode_samples(model, uv.t().contiguous().t(), lod.repeat_interleave(2)[::2]), wanted)


# --- what reaches the network, bit for bit ---------------------------------------------------------------------------


def seen_inputs(model: NeuralTexture, decode) -> torch.Tensor:
    """The inputs of a network without hidden layers, 11 at a time: each output is one of them, times 1."""
    n_inputs = model.weights[0].shape[1]
    parts = []
    for first in range(0, n_inputs, CHANNELS):
        columns = range(first, min(first + CHANNELS, n_inputs))
        with torch.no_grad():
            model.weights[0].zero_()
            for row, column in enumerate(columns):
                model.weights[0][row, column] = 1
        parts.append(decode()[:, : len(columns)])
    return torch.cat(parts, dim=1)


@every_word
@pytest.mark.parametrize("strength", [0.0, 1.7])
def test_inputs_are_exact(strength, bits, word):
    """Waves, LOD, ones and noisy rounded features of the four texels around any position, and of linear grids at the
    centre of a texel. A single number that is rounded otherwise, or one wrong bit of the noise, is seen."""
    model = make_model(
        (8, 3, bits, word), (12, 2, bits, word, "learned"), layers=0, frequencies=12, texel_frequencies=3, lods=5,
    )  # fmt: skip
    uv, lod = torch.rand(120, 2), torch.arange(120) % 5
    resolution = model.get_buffer("lod_size_0")[lod]
    uv[:60] = ((uv * resolution).floor()[:60] + 0.5) / resolution[:60]
    noise = noise_of(model, strength) if strength else None
    nothing = torch.zeros(120, CHANNELS)
    found = seen_inputs(model, lambda: differentiate(model, uv, lod, nothing, noise)[0])
    with torch.no_grad():
        wanted = model._inputs(uv, lod, lod.float(), noise)
    first, used = 24, [c for c in range(found.shape[1]) if c not in model.unused_inputs]
    linear = range(first, first + model.grids[0].features)
    others = [column for column in used if column not in linear]
    assert torch.equal(found[:60, used], wanted[:60, used])
    assert torch.equal(found[:, others], wanted[:, others])
    torch.testing.assert_close(found[60:, linear], wanted[60:, linear], rtol=0, atol=1e-6)
    assert not strength or not torch.equal(wanted, model._inputs(uv, lod, lod.float(), None))


@pytest.mark.parametrize("strength", [0.0, 1.7])
@pytest.mark.parametrize(("storage", "side"), [("bc1", 4), ("astc6x6", 6)])
def test_inputs_from_blocks_are_exact(storage, side, strength):
    """Features of the four texels around any position, whatever a rounded block makes of its codes, and their noise."""
    learned = [(size, 2, 0, side, "learned", storage) for size in (14, (26, 10))]
    model = make_model(*learned, layers=0, frequencies=0, lods=3)
    uv, lod = torch.rand(2000, 2), torch.arange(2000) % 3
    noise = noise_of(model, strength) if strength else None
    found = seen_inputs(model, lambda: differentiate(model, uv, lod, torch.zeros(2000, CHANNELS), noise)[0])
    with torch.no_grad():
        wanted = model._inputs(uv, lod, lod.float(), noise)
    assert torch.equal(found, wanted)
    assert not strength or not torch.equal(wanted, model._inputs(uv, lod, lod.float(), None))


@pytest.mark.parametrize(("bits", "word"), [(1, 8), (2, 8), (4, 16), (8, 32), (16, 64)])
def test_every_code_and_every_edge(bits, word):
    """Features on the edges between two codes, the floats just beside these, and some far outside."""
    n, features = 1 << bits, word // bits
    edges = torch.arange(-1, n + 2, dtype=torch.float32) / n - 0.5
    others = torch.tensor([0.0, -0.0, 0.6, -0.6, 5.0, -5.0, 1e9, -1e9, float("inf"), -float("inf")])
    values = torch.cat([edges, edges.nextafter(edges + 1), edges.nextafter(edges - 1), others])
    resolution = next(r for r in (4, 16, 32, 512) if r * r * features >= len(values))
    model = make_model((resolution, 1, bits, word), lods=1, layers=0, frequencies=0)
    with torch.no_grad():
        parameters = model.grid_parameters[0]
        parameters.copy_(values.repeat(-(-len(parameters) // len(values)))[: len(parameters)])
        model.weights[0].zero_()
        model.weights[0][range(features), range(features)] = 1
    decoded = decode_lod(model, 0, resolution, resolution)[..., :features].reshape(-1)
    assert torch.equal(decoded, round_features(parameters.detach(), bits))
    assert len(decoded.unique()) == n


# --- whole LODs ------------------------------------------------------------------------------------------------------

SIZES = [(1, 1), (2, 1), (1, 3), (37, 21), (64, 64), (3, 900)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("interpolation", ["linear", "learned"])
def test_decoded_lods(interpolation, width, height):
    lods = max(width, height).bit_length()
    model = make_model((12, 3, 4, 32, interpolation), (5, 1, 8, 16), lods=lods, neurons=32, layers=2)
    for lod in range(lods):
        size = max(width >> lod, 1), max(height >> lod, 1)
        assert_close(decode_lod(model, lod, *size), model.decode(lod, *size))


@pytest.mark.usefixtures("no_kernels")
def test_decoded_lods_without_kernels():
    model = make_model((12, 3, 4, 32))
    said = []
    assert torch.equal(decode_lod(model, 1, 9, 5, said.append), model.decode(1, 9, 5))
    assert said == []


def test_decoded_lods_elsewhere(monkeypatch):
    model = make_model((12, 3, 4, 32)).to("meta")
    monkeypatch.setattr(NeuralTexture, "decode", lambda self, *size, rows: (self, size, rows))
    assert decode_lod(model, 1, 9, 5) == (model, (1, 9, 5), slice(None))
    assert decode_lod(model, 1, 9, 5, rows=slice(2, 4)) == (model, (1, 9, 5), slice(2, 4))


# --- gradients -------------------------------------------------------------------------------------------------------


def assert_same_gradients(model, uv, lod, upstream, noise=None, channels=range(CHANNELS)):
    out, of_weights, of_grids = differentiate(model, uv, lod, upstream, noise, channels)
    wanted, wanted_weights, wanted_grids = exact_gradients(model, uv, lod, upstream, noise)
    assert_close(out, wanted)
    for found, exact in zip([*of_weights, *of_grids], [*wanted_weights, *wanted_grids]):
        assert exact.abs().max() > 0
        assert_close(found, exact)
    for found, exact in zip(of_grids, wanted_grids):
        assert torch.equal(found != 0, exact != 0)  # no texel got a gradient but those that were looked at
    return of_weights, of_grids


@every_shape
@pytest.mark.parametrize("strength", [0.0, 1.3])
def test_gradients(strength, name):
    model = SHAPES[name]()
    channels = channels_of(name)
    upstream = torch.zeros(150, model.decoder.outputs)
    upstream[:, channels] = torch.randn(150, len(channels))
    for n in (150, 1):
        uv, lod = samples(n, model.num_lods)
        noise = noise_of(model, strength) if strength else None
        assert_same_gradients(model, uv, lod, upstream[:n], noise, channels)


@every_word
def test_gradients_of_every_word(bits, word):
    model = make_model((8, 2, bits, word), (5, 1, bits, word, "learned"))
    linear = make_model((8, 2, bits, word))
    for each in (model, linear):
        uv, lod = samples(70, each.num_lods)
        assert_same_gradients(each, uv, lod, torch.randn(70, CHANNELS), noise_of(each, 0.8))


def test_absent_channels_have_no_gradient():
    """Whatever a loss says about them, and though the model's weights for them are not 0 here."""
    model = make_model((8, 2, 4, 32), neurons=32)
    uv, lod = samples(70, model.num_lods)
    upstream = torch.randn(70, CHANNELS)
    channels = [0, 3, 9]
    absent = sorted(set(range(16)) - set(channels))
    out, of_weights, of_grids = differentiate(model, uv, lod, upstream, channels=channels)
    assert (out[:, absent[:-5]] == 0).all() and (of_weights[-1][absent] == 0).all()
    upstream[:, absent[:-5]] = 0
    _, wanted_weights, wanted_grids = exact_gradients(model, uv, lod, upstream)
    for found, exact in zip([*of_weights, *of_grids], [*wanted_weights, *wanted_grids]):
        assert_close(found, exact)


def test_rounding_passes_gradients_everywhere():
    """Straight through, also where a feature is so far out that its code cannot change."""
    model = make_model((4, 1, 2, 16), lods=1)
    with torch.no_grad():
        model.grid_parameters[0].uniform_(0.6, 3).mul_(torch.rand(len(model.grid_parameters[0])).sub(0.5).sign())
    uv, lod = torch.rand(300, 2), torch.zeros(300)
    _, _, (gradient,) = differentiate(model, uv, lod, torch.randn(300, CHANNELS))
    assert (gradient != 0).all()


def test_activations_of_exactly_zero():
    """Their derivative is the slope, as in torch. The neurons' own weights get a gradient through those behind."""
    model = make_model((8, 2, 4, 32), neurons=32, layers=2, slope=0.25)
    with torch.no_grad():
        model.weights[0][::3] = 0
        model.weights[1][1::3] = 0
    uv, lod = samples(150, model.num_lods)
    of_weights, _ = assert_same_gradients(model, uv, lod, torch.randn(150, CHANNELS))
    assert (of_weights[0][::3].abs().amax(dim=1) > 0).all() and (of_weights[1][1::3].abs().amax(dim=1) > 0).all()


# --- the interface ---------------------------------------------------------------------------------------------------


def test_the_header_and_python_declare_the_same():
    """A field more, or two in another order, would be read as something else without a word."""
    header = re.sub(r"/\*.*?\*/", "", (build.SOURCES / "nt.h").read_text(), flags=re.DOTALL)
    assert int(re.search(r"#define NT_INTERFACE (\d+)", header)[1]) == library.INTERFACE
    functions = set(re.findall(r"NT_API [^;(]*?(nt_\w+)\(", header))
    assert functions == {"nt_self_test", *library._SIGNATURES}
    for name in ("Grid", "Model", "Material", "Settings"):
        fields = re.search(rf"typedef struct nt_{name.lower()} {{(.*?)}}", header, re.DOTALL)[1]
        declared = re.findall(r"(\w+)(?=[,;])", fields)
        assert declared == [field for field, _ in getattr(library, name)._fields_]
    for name, arguments in re.findall(r"NT_API [^;(]*?(nt_\w+)\(([^;]*)\);", header):
        count = 0 if arguments.strip() == "void" else arguments.count(",") + 1
        assert name == "nt_self_test" or len(library._SIGNATURES[name][1]) == count, name


def test_another_interface_is_refused(monkeypatch):
    monkeypatch.setattr(library, "INTERFACE", library.INTERFACE + 1)
    with pytest.raises(KernelsUnavailable, match="interface"):
        library.load_kernels()
    monkeypatch.setitem(library._SIGNATURES, "nt_of_another_version", (None, []))
    with pytest.raises(KernelsUnavailable, match="nt_of_another_version"):
        library.load_kernels()


def test_only_dense_tensors_are_handed_over():
    dense = torch.zeros(4, 4)
    assert library.pointer(dense) == dense.data_ptr() and library.pointer(None) is None
    for tensor in (dense[:, ::2], dense[:, 1], dense.to("meta")):
        with pytest.raises(ValueError, match="dense"):
            library.pointer(tensor)


# --- other builds ----------------------------------------------------------------------------------------------------

# Name -> flags, instructions that it needs, floats per vector: all numbers of floats and of registers that x86-64 has,
# fused multiply-adds with and without 16-bit pairs, and another compiler. That of this CPU, with the flags of users, is
# what all other tests run; these are quick to compile, and clang at -O0 would fuse nothing.
BUILDS = {
    "SSE2": ("-O0 -march=x86-64", (), 4),
    "AVX2": ("-O1 -march=haswell", ("avx2", "fma", "bmi1", "bmi2", "movbe", "f16c"), 8),
    "AVX-512": ("-O0 -march=skylake-avx512", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "clwb"), 16),
    "64 bytes, 32 registers": ("-O0 -DNT_VECTOR_BYTES=64 -DNT_REGISTERS=32 -Wno-psabi", (), 16),
    "clang": ("-O1 -march=native -DNT_REGISTERS=16", (), None),
}


def lacking(instructions) -> list[str]:
    """Those that this CPU does not have, as far as /proc/cpuinfo says."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        flags = None
    return [name for name in instructions if flags is None or name not in flags[1].split()]


def choose_build(name: str, monkeypatch, cache: Path, joined: bool) -> None:
    """Let this process compile this build and use it; skips where it cannot be made."""
    if name == "clang" and shutil.which("clang++") is None:
        pytest.skip("there is no clang++")
    if name in ("SSE2", "AVX2", "AVX-512") and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"not an x86-64 machine: {platform.machine()}")
    monkeypatch.setenv("NTC_CXXFLAGS", BUILDS[name][0])
    monkeypatch.setenv("NTC_CACHE", str(cache))
    if name == "clang":
        monkeypatch.setenv("CXX", "clang++")
    if joined:
        monkeypatch.setattr(build, "SOURCES", joined_sources(cache.parent / "joined"))
    monkeypatch.setattr(build, "_outcome", [])


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.timeout(300)
def test_other_builds(name, monkeypatch, tmp_path):
    """The tests that matter most, on vectors of every length and with another compiler."""
    _, instructions, width = BUILDS[name]
    if lacking(instructions):
        pytest.skip(f"this CPU lacks {', '.join(lacking(instructions))}")
    if name == "64 bytes, 32 registers" and not lacking(BUILDS["AVX-512"][1]):
        pytest.skip("this CPU has them: AVX-512 above")
    choose_build(name, monkeypatch, tmp_path / "cache", joined=True)
    used = library.load_kernels()
    assert Path(used._name).is_relative_to(tmp_path) and used.nt_vector_width() == (width or used.nt_vector_width())
    for shape in SHAPES:
        test_decoded_samples(shape)
        test_gradients(1.3, shape)
    for bits, word in WORDS:
        test_inputs_are_exact(1.7, bits, word)
    for case in CASES:
        assert_steps_equal_the_reference(case)
    assert decoder.load_kernels() is used


def test_avx_512_compiles(tmp_path, monkeypatch):
    """Also where no CPU is at hand to run it."""
    choose_build("AVX-512", monkeypatch, tmp_path, joined=False)
    if not lacking(BUILDS["AVX-512"][1]):
        pytest.skip("it is run by the test above")
    recipe = build.Recipe(build.SOURCES, build.find_compilers()[0], build.split_variable("NTC_CXXFLAGS"))
    commands = []
    for unit in recipe.units:
        flags = [*build.COMPILE_FLAGS, build.CONTRACTION.get(unit, build.NO_CONTRACTION), *recipe.flag_sets[0]]
        commands.append([*recipe.compiler, *flags, "-c", unit, "-o", str(tmp_path / f"{unit}.o")])
    build.run_together(commands, recipe, tmp_path)
    assert len(list(tmp_path.glob("*.o"))) == len(recipe.units) > 4
