"""--cpu_precision bf16: gradients of rounded factors, an exact forward pass, and what happens without such a CPU."""

from __future__ import annotations

import pytest
import torch

from engine.cpu import library
from engine.cpu.engine import CpuEngine
from tests.support.engine_cases import CASES, engine_of, material_of, moments_of
from tests.support.kernel_cases import _kernels  # noqa: F401  # fixture

ROUNDING = 2.0**-8  # of a factor, relative

has_bfloat16 = pytest.mark.skipif(
    not library.load_kernels().nt_has_bfloat16(), reason="this CPU, or its compiler, has no AVX-512 BF16"
)


def parameters_of(engine) -> torch.Tensor:
    engine.sync()
    return torch.cat([parameters.detach().reshape(-1) for parameters in engine.model.parameters()])


@has_bfloat16
@pytest.mark.parametrize(
    "name",
    ["two bit depths", "deep", "learned", "bands", "seven samples", "one sample", "no layers", "floats", "opacity",
     "blocks", "blocks, ties", "oblong"],
)  # fmt: skip
def test_gradients_are_those_of_rounded_factors(name):
    """The first moment after a step is a share of the gradient. Seen (November 2026): up to 0.006 of the largest."""
    make, values = CASES[name]
    exact, rounded = (engine_of(CpuEngine, make(), **values, cpu_precision=word) for word in ("float32", "bf16"))
    assert exact.step(1) == rounded.step(1), "the forward pass is exact"
    wanted, found = moments_of(exact), moments_of(rounded)
    differs = False
    for index, state in wanted.items():
        one, other = state["exp_avg"], found[index]["exp_avg"]
        torch.testing.assert_close(other, one, rtol=0, atol=4 * ROUNDING * float(one.abs().max()))
        differs = differs or not torch.equal(one, other)
    assert differs, "the products are those of float32"


@has_bfloat16
@pytest.mark.parametrize("name", ["two bit depths", "learned", "blocks"])
def test_a_run_learns_as_with_float32(name):
    make, values = CASES[name]
    exact, rounded = (engine_of(CpuEngine, make(), **values, cpu_precision=word) for word in ("float32", "bf16"))
    for _ in range(5):
        assert rounded.step(10) == pytest.approx(exact.step(10), rel=0.03)


@has_bfloat16
def test_threads_give_the_same_bits():
    one, three = (
        engine_of(CpuEngine, material_of(61, 90), batch_size=3000, num_threads=n, cpu_precision="bf16") for n in (1, 3)
    )
    assert one.step(12) == three.step(12)
    assert torch.equal(parameters_of(one), parameters_of(three))


def test_a_cpu_without_it_says_so_and_computes_float32(monkeypatch):
    kernels = library.load_kernels()

    class Without:
        def __getattr__(self, name):
            return getattr(kernels, name)

        def nt_has_bfloat16(self):
            return 0

    exact = engine_of(CpuEngine, material_of())
    monkeypatch.setattr(library, "load_kernels", lambda say=None: Without())
    said: list[str] = []
    with_word = engine_of(lambda *given: CpuEngine(*given, say=said.append), material_of(), cpu_precision="bf16")
    assert said == ["note: --cpu_precision bf16: this CPU does not multiply bfloat16; float32 takes its place"]
    assert exact.step(3) == with_word.step(3)
    assert torch.equal(parameters_of(exact), parameters_of(with_word))
