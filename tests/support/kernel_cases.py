"""Models of every shape, their float64 twins and positions to decode at; fixtures that need or forbid the kernels."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from configs import QUANTIZE_BITS, SAVE_BITS
from engine.cpu import decoder, library
from engine.errors import KernelsUnavailable
from maps.channels import CHANNELS, outputs_of
from model import NeuralTexture, Noise
from quantize import stream_key
from shape import DecoderSpec, GridSpec
from tests.support import reference

# Of the largest number of a result. Seen: 1e-6 with four hidden layers, 5e-7 with two (November 2026).
CLOSE = 4e-6


@pytest.fixture(autouse=True)
def _kernels(request):
    if "no_kernels" not in request.fixturenames:
        try:
            library.load_kernels()
        except KernelsUnavailable as error:
            pytest.skip(str(error))


@pytest.fixture
def no_kernels(monkeypatch):
    def fail(say=None):
        raise KernelsUnavailable("no C++ compiler found")

    monkeypatch.setattr(library, "load_kernels", fail)
    monkeypatch.setattr(decoder, "load_kernels", fail)


def make_model(
    *grids, lods=4, quantized=True, seamless=True, frequencies=3, texel_frequencies=0, neurons=16, layers=1,
    channels=tuple(range(CHANNELS)), slope=0.01, activation="leaky_relu", weight_bits=32,
) -> NeuralTexture:  # fmt: skip
    """Features beyond the range of the codes, and weights that keep activations near 1."""
    spec = DecoderSpec(
        frequencies, neurons, layers, texel_frequencies, activation, slope, outputs_of(channels), weight_bits
    )
    model = NeuralTexture(
        [GridSpec(*grid) for grid in grids], spec, lods, quantized=quantized, present_channels=channels,
        seamless=seamless,
    )  # fmt: skip
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.6, 0.6)
        for weight in model.weights:
            weight.mul_(2)
    return model


def twin(model: NeuralTexture, noise: Noise | None = None) -> NeuralTexture:
    """The same texture in float64; its weights, and its features or what its blocks hold, are noisy and rounded
    already, as in float32."""
    other = NeuralTexture(
        model.grids, model.decoder, model.num_lods, quantized=False, seamless=bool(model.unused_inputs)
    ).double()
    with torch.no_grad():
        for index, grid in enumerate(model.grids):
            if grid.compressed:
                other.grid_parameters[index].copy_(_rounded_blocks(model, index, noise).reshape(-1))
                continue
            features = model._fetch(index, torch.arange(grid.n_texels), noise)
            other.grid_parameters[index].copy_(features.reshape(-1))
        for weight, value in zip(other.weights, model.exported_weights()):
            weight.copy_(value)
    return other


def _rounded_blocks(model: NeuralTexture, index: int, noise: Noise | None) -> torch.Tensor:
    """(blocks, parameters) that stand, unrounded, for what those of the model are rounded to."""
    flat = model.grid_parameters[index].detach().numpy()
    units = reference.of_blocks(model.grids[index], flat, noise, noise.keys[index] if noise else 0, model.quantized)
    return torch.from_numpy(units - 0.5)


def samples(n: int, lods: int, whole=False) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions in six tiles of either axis, a third of them on edges and centres of texels, and LODs, half of them
    between two and some beyond the last. So many bits that float32 places each as float64 does."""
    uv = torch.randint(-3 << 20, 3 << 20, (n, 2)) / 2.0**20
    uv[::3] = (uv[::3] * 16).round() / 16
    lod = torch.randint(-200, 256 * lods + 100, (n,)) / 256
    lod[::2] = lod[::2].round()
    return uv, lod.round().clamp(0, lods - 1).long() if whole else lod


def assert_close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = CLOSE):
    assert found.shape == wanted.shape
    scale = float(wanted.detach().abs().max())
    error = float((found.double() - wanted.detach().double()).abs().max()) / scale
    assert error < tolerance, f"{error:.1e} of {scale:.3g}"


def noise_of(model: NeuralTexture, strength: float) -> Noise:
    return Noise(strength, tuple(stream_key(3, 17, 2 + index) for index in range(len(model.grids))))


SHAPES = {
    "one texel, no waves, no layers": partial(make_model, (1, 1, 4, 32), lods=1, frequencies=0, layers=0),
    "odd resolution": partial(make_model, (5, 1, 8, 8), lods=3, frequencies=1, neurons=48, layers=3),
    "three levels of 12": partial(make_model, (12, 3, 4, 32), lods=5, frequencies=12, neurons=64, layers=2),
    "more levels than LODs": partial(make_model, (16, 5, 4, 16), lods=2, neurons=80),
    "two grids": partial(make_model, (12, 3, 4, 32), (3, 1, 8, 32), lods=6, frequencies=12, neurons=64, layers=2),
    "two learned grids": partial(
        make_model, (8, 3, 4, 32, "learned"), (3, 1, 2, 16, "learned"), texel_frequencies=3, neurons=32, layers=4
    ),
    "both kinds": partial(make_model, (8, 2, 4, 16), (12, 3, 2, 8, "learned"), texel_frequencies=3, neurons=48),
    "three grids": partial(
        make_model, (6, 2, 8, 64), (4, 3, 16, 16), (2, 1, 1, 64, "learned"), lods=5, frequencies=16, neurons=64,
        layers=2,
    ),
    "blocks": partial(make_model, (12, 3, 0, 4, "linear", "bc1"), (7, 1, 0, 4, "linear", "bc1"), layers=2, lods=5),
    "learned blocks": partial(
        make_model, (20, 2, 0, 4, "learned", "bc1"), (3, 1, 8, 32), (2, 2, 0, 4, "linear", "bc1"), texel_frequencies=3,
        neurons=32, activation="hard_swish",
    ),
    "wide and high": partial(make_model, ((24, 4), 3, 4, 16), ((6, 8), 2, 8, 32), ((1, 5), 1, 8, 8), lods=6),
    "wide and high, learned": partial(
        make_model, ((32, 2), 2, 4, 16, "learned"), ((6, 10), 2, 2, 8, "learned"), texel_frequencies=3, neurons=32,
        lods=6,
    ),
    "wide and high blocks": partial(
        make_model, ((40, 4), 3, 0, 4, "learned", "bc1"), ((5, 14), 1, 0, 4, "linear", "bc1"), ((1, 9), 1, 4, 16),
        texel_frequencies=2, lods=6,
    ),
    "blocks as floats": partial(
        make_model, (6, 2, 0, 4, "linear", "bc1"), (1, 1, 0, 4, "learned", "bc1"), quantized=False
    ),
    "ASTC blocks": partial(  # sides that are multiples of 6, less than a block, and a block and a part
        make_model, (12, 3, 0, 6, "linear", "astc6x6"), (7, 1, 0, 6, "linear", "astc6x6"),
        (8, 2, 0, 4, "linear", "bc1"), layers=2, lods=5,
    ),
    "learned ASTC blocks": partial(
        make_model, ((28, 10), 2, 0, 6, "learned", "astc6x6"), ((1, 9), 1, 0, 6, "linear", "astc6x6"), (5, 1, 4, 16),
        texel_frequencies=2, neurons=32, activation="hard_swish",
    ),
    "ASTC blocks as floats": partial(
        make_model, (13, 1, 0, 6, "linear", "astc6x6"), (2, 2, 0, 6, "learned", "astc6x6"), quantized=False
    ),
    "LODs that share the finest level": partial(
        make_model, (12, 3, 4, 32, "linear", "packed", 2), (8, 2, 0, 4, "linear", "bc1", 3), texel_frequencies=2, lods=6
    ),
    "texel waves only": partial(make_model, (12, 2, 4, 16), texel_frequencies=8, frequencies=0, layers=2),
    "floats": partial(make_model, (12, 3, 4, 32), (5, 1, 16, 32, "learned"), quantized=False, layers=2, neurons=32),
    "not seamless": partial(make_model, (8, 2, 4, 32), seamless=False, frequencies=5, neurons=32, layers=2, lods=2),
    "three channels": partial(make_model, (8, 2, 4, 32), (4, 1, 8, 8), channels=(1, 6, 10), neurons=32, layers=2),
    "extra maps": partial(make_model, (8, 2, 4, 32), (4, 1, 8, 8), channels=(0, 1, 2, 6, 11, 12, 13, 14, 15), layers=2),
    "opacity and one constant": partial(make_model, (8, 2, 4, 32, "learned"), channels=(3, 11), layers=1, lods=3),
    "one channel": partial(make_model, (8, 2, 4, 32, "learned"), channels=(4,), layers=0, lods=3),
    "steep slope": partial(make_model, (8, 2, 8, 32), slope=0.7, layers=3, neurons=32),
    "no slope": partial(make_model, (8, 2, 8, 32), slope=0.0, layers=2, neurons=32),
    "hard swish": partial(make_model, (8, 2, 4, 16), layers=3, neurons=48, activation="hard_swish"),
    "hard swish of learned grids": partial(
        make_model, (8, 3, 2, 8, "learned"), (6, 2, 4, 32), texel_frequencies=1, frequencies=0, neurons=32, layers=2,
        activation="hard_swish",
    ),
    "8-bit weights": partial(make_model, (5, 1, 4, 32), layers=2, neurons=48, weight_bits=8, activation="hard_swish"),
    "8-bit weights of a learned grid": partial(
        make_model, (8, 3, 2, 8, "learned"), (3, 1, 4, 32), texel_frequencies=3, frequencies=0, layers=0, weight_bits=8,
        channels=(1, 6, 10),
    ),
    "16-bit weights": partial(make_model, (6, 2, 4, 16), (3, 1, 8, 8), layers=1, lods=3, weight_bits=16),
    "one 1": partial(make_model, (4, 1, 8, 64), frequencies=3, seamless=False),  # beside 6 + 8 + LOD
    "no ones": partial(make_model, (4, 1, 8, 64), (4, 1, 8, 8), frequencies=3, seamless=False),  # 6 + 9 + LOD
    "three vectors": partial(make_model, (4, 2, 8, 32), neurons=48, layers=2),
}  # fmt: skip
BLOCK_SHAPES = {
    "blocks": partial(
        make_model, (12, 3, 0, 4, "linear", "bc1"), (7, 1, 0, 4, "linear", "bc1"), (2, 2, 0, 4, "linear", "bc1"), lods=5
    ),
    "learned blocks": partial(
        make_model, (10, 2, 0, 4, "learned", "bc1"), (5, 1, 4, 16), (1, 1, 0, 4, "learned", "bc1"), frequencies=0,
        texel_frequencies=3, neurons=32, layers=2, activation="hard_swish",
    ),
    "blocks as floats": partial(
        make_model, (9, 1, 0, 4, "linear", "bc1"), (8, 4, 0, 4, "learned", "bc1"), quantized=False, neurons=32
    ),
    "wide and high blocks": partial(
        make_model, ((26, 3), 1, 0, 4, "learned", "bc1"), ((4, 24), 2, 0, 4, "linear", "bc1"), lods=5
    ),
    # sides of a block and a part of one, less than one, and planes; beside BC1
    "ASTC blocks, planes": partial(
        make_model, (20, 3, 0, 6, "linear", "astc6x6"), *[(7, 1, 0, 6, "linear", "astc6x6")] * 2,
        (5, 1, 0, 4, "linear", "bc1"), lods=5,
    ),
    "learned ASTC blocks, planes": partial(
        make_model, *[((14, 26), 2, 0, 6, "learned", "astc6x6")] * 2, ((1, 9), 1, 0, 6, "linear", "astc6x6"),
        (5, 1, 4, 16), texel_frequencies=2, lods=5,
    ),
    "ASTC blocks as floats, planes": partial(
        make_model, (13, 1, 0, 6, "learned", "astc6x6"), (2, 2, 0, 6, "linear", "astc6x6"), quantized=False, layers=0
    ),
    "sixteen planes": partial(make_model, *[(4, 1, 0, 4, "learned", "bc1")] * 8, *[(2, 1, 0, 4, "linear", "bc1")] * 8,
                              lods=3, layers=0),
}  # fmt: skip
every_shape = pytest.mark.parametrize("name", SHAPES)
WORDS = [(bits, word) for bits in QUANTIZE_BITS for word in SAVE_BITS if bits <= word]
every_word = pytest.mark.parametrize(("bits", "word"), WORDS)


def channels_of(name: str) -> list[int]:
    return list(SHAPES[name].keywords.get("channels", range(CHANNELS)))


def exact_gradients(model, uv, lod, upstream, noise=None):
    """Decoded values, gradients of weights and of grids, float64, by autograd."""
    exact = twin(model, noise)
    out = exact(uv.double(), lod.double())
    out.backward(upstream.double())
    for column in model.unused_inputs:
        exact.weights[0].grad[:, column] = 0
    return out.detach(), [w.grad for w in exact.weights], [p.grad for p in exact.grid_parameters]
