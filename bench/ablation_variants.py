"""What bench.ablation compares: our recipe, and the recipe without one of its parts.

Whatever the recipe has no flag for is a subclass here: nothing in the toolkit knows of it. Those run on the PyTorch
engine, the others on the compiled kernels as we do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torchtyping import TensorType

from bench.ablation_blocks import EncodedAfter
from configs import Config, make_config
from dataset import Material
from engine.create import create_engine
from engine.protocol import Engine
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from model import NeuralTexture, Noise, build_model, new_model
from quantize import hash_uniform, round_features
from shape import model_shape
from training import plan as rates

Scalars = TensorType["n"]
Positions = TensorType["n", 2]
Inputs = TensorType["n", "inputs"]

CPU = torch.device("cpu")
LARGE_BATCH = 16384  # random samples: the ancestors' batch
DEFAULT_BETAS, DEFAULT_EPSILON = (0.9, 0.999), 1e-8  # Kingma & Ba 2015, and the defaults of torch.optim.Adam


def recipe(
    bpp: float, width: int, height: int, iterations: int | None = None, n_threads: int = 0, decoder: str = "auto",
    latents: str = "packed",
) -> Config:  # fmt: skip
    """What `train.py --bpp B --preset balanced` does with a material of this size.

    Args:
        iterations: of the run, whose schedules end there; None: the preset's.
        decoder: auto is learned; reference is the FNTC plug-in's form at the same rate.
        latents: as of --latents.
    Raises: UserError when the rate cannot be met.
    """
    given: dict[str, Any] = {"bpp": bpp, "preset": "balanced", "num_threads": n_threads}
    if decoder != "auto":  # a flag that is given is not the plan's to decide
        given["decoder"] = decoder
    if latents != "packed":
        given["latents"] = latents
    if iterations is not None:
        given["max_iter"] = iterations
    return rates.plan(make_config(given), width, height)


# --- features in training ------------------------------------------------------------------------------------------


def half_step_noise(index: TensorType, bits: int, noise: Noise, grid: int) -> TensorType:
    """Uniform noise of +- half a quantisation step times the strength; one number for each of `index`."""
    return (hash_uniform(index, noise.keys[grid]) - 0.5) * (noise.strength / (1 << bits))


class NoiseOnly(NeuralTexture):
    """Features that are disturbed while they are trained, and never rounded: noise stands for the rounding."""

    def _fetch(self, index: int, texel: Scalars, noise: Noise | None) -> Inputs:
        if noise is None:  # nobody trains: as exported
            return super()._fetch(index, texel, noise)
        grid = self.grids[index]
        features = self.grid_parameters[index].view(-1, grid.features).index_select(0, texel)
        parameter = texel[:, None] * grid.features + torch.arange(grid.features, device=texel.device)
        return features + half_step_noise(parameter, grid.quantize_bits, noise, index)


class RoundedAfter(NeuralTexture):
    """Features that are rounded where a linear grid has blended them: not the values that an export holds.

    A learned grid blends nothing, so there it is what NeuralTexture does.
    """

    def _fetch(self, index: int, texel: Scalars, noise: Noise | None) -> Inputs:
        return self.grid_parameters[index].view(-1, self.grids[index].features).index_select(0, texel)

    def _sample(self, index: int, uv: Positions, lod: Scalars, noise: Noise | None) -> Inputs:
        return round_features(super()._sample(index, uv, lod, noise), self.grids[index].quantize_bits)


class NoiseAfter(RoundedAfter):
    """Both at once: blended features are disturbed, and never rounded."""

    def _sample(self, index: int, uv: Positions, lod: Scalars, noise: Noise | None) -> Inputs:
        if noise is None:
            return super()._sample(index, uv, lod, noise)
        features = NeuralTexture._sample(self, index, uv, lod, noise)  # blended by it, fetched unrounded by us
        numbers = torch.arange(features.numel(), device=features.device).view_as(features)
        return features + half_step_noise(numbers, self.grids[index].quantize_bits, noise, index)


class SteadyNoise(Schedule):
    """Noise of half a step from the first iteration to the last."""

    def noise_strength(self, iteration: int) -> float:
        return 1.0


class DefaultAdam(TorchEngine):
    """TorchEngine with Adam's usual constants."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        for group in self.optimizer.param_groups:
            group["betas"], group["eps"] = DEFAULT_BETAS, DEFAULT_EPSILON


# --- configurations ------------------------------------------------------------------------------------------------

Change = Callable[[Config, int, int], Config]  # our recipe, the material's width and height -> another one


def same(config: Config, width: int, height: int) -> Config:
    return config


def constant_rates(config: Config, width: int, height: int) -> Config:
    return dataclasses.replace(config, lr_floor=1.0)  # every scheduler ends where it began


def large_batch(config: Config, width: int, height: int) -> Config:
    return dataclasses.replace(config, batch_size=LARGE_BATCH)


def large_batch_as_many_samples(config: Config, width: int, height: int) -> Config:
    iterations = max(config.max_iter * config.batch_size // LARGE_BATCH, 1)
    return dataclasses.replace(large_batch(config, width, height), max_iter=iterations)


def linear_grids(config: Config, width: int, height: int) -> Config:
    """The texel waves stay, which linear grids would not get by themselves: one part at a time."""
    grids = [dataclasses.replace(grid, interpolation="linear") for grid in config.hash_grid_configs]
    _, decoder = model_shape(config, width, height)
    return dataclasses.replace(config, hash_grid_configs=grids, n_texel_frequencies=decoder.n_texel_frequencies)


def leaky_relu(config: Config, width: int, height: int) -> Config:
    return dataclasses.replace(config, activation="leaky_relu")


def no_search(config: Config, width: int, height: int) -> Config:
    return dataclasses.replace(config, refine=0)


def ancestors(config: Config, width: int, height: int) -> Config:
    form = recipe(config.bpp, width, height, config.max_iter, config.num_threads, "reference")
    return no_search(constant_rates(large_batch(form, width, height), width, height), width, height)


def bc1_planes(config: Config, width: int, height: int) -> Config:
    """Linear planes without the search, which is part of training with blocks in the loop."""
    return no_search(recipe(config.bpp, width, height, config.max_iter, config.num_threads, "reference", "bc1"), width,
                     height)  # fmt: skip


# --- variants ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way of training.

    Args:
        says: for the legend of the table, and the plot's.
        engine: cpu, or torch for what the compiled kernels do not do.
        change: makes its configuration of our recipe.
        model: how it looks at features while it trains; what it is scored by is always a plain NeuralTexture.
        biases: whether model.NeuralTexture.start_biases is called.
        whole: trains in a way of its own instead of `engine`, `model`, `schedule` and `trainer`.
        needs: a package of requirements/codecs.txt, without which it is left out.
    """

    name: str
    says: str
    engine: str = "cpu"
    change: Change = same
    model: type[NeuralTexture] = NeuralTexture
    schedule: type[Schedule] = Schedule
    trainer: type[TorchEngine] = TorchEngine
    biases: bool = True
    whole: Callable[[Config, Material], Any] | None = None
    needs: str = ""

    def start(self, config: Config, material: Material) -> Engine:
        """An engine at iteration 0 with a fresh model; `config` is what `change` has made."""
        if self.whole:
            return self.whole(config, material)
        if self.biases:
            model = new_model(config, material)
        else:
            present = material.present_channels.tolist()
            model = build_model(config, material.width, material.height, present, material.constants)
        model.__class__ = self.model  # it differs in methods alone, so the same seed gives the same start
        schedule = self.schedule(config)
        if self.engine == "torch":
            return self.trainer(model, material, schedule)
        return create_engine(model, material, schedule, CPU)


OURS, OURS_TORCH = "ours", "ours_torch"
VARIANTS = {variant.name: variant for variant in (
    Variant(OURS, "our recipe"),
    Variant(OURS_TORCH, "our recipe, on PyTorch", "torch"),
    Variant("constant_rates", "learning rates do not fall", change=constant_rates),
    Variant("noise_only", "noise of +- half a step, rounded only at the export", "torch", model=NoiseOnly,
            schedule=SteadyNoise),
    Variant("rounded_after", "features rounded after interpolation, so only where a grid is linear", "torch",
            model=RoundedAfter),
    Variant("large_batch", f"{LARGE_BATCH} samples per iteration", change=large_batch),
    Variant("large_batch_equal", f"{LARGE_BATCH} samples per iteration, as many samples in all",
            change=large_batch_as_many_samples),
    Variant("linear", "all grids are interpolated, none by the network", change=linear_grids),
    Variant("leaky_relu", "leaky ReLU instead of hard swish", change=leaky_relu),
    Variant("no_biases", "a network that starts without biases", biases=False),
    Variant("no_search", "codes as training leaves them: --refine 0", change=no_search),
    Variant("default_adam", "Adam with 0.9, 0.999 and 1e-8 instead of 0.9, 0.99 and 1e-12", "torch",
            trainer=DefaultAdam),
    Variant("ancestors", "linear grids, leaky ReLU, 12 waves, no biases, constant rates, large batch, noise on "
            "interpolated features, rounded only at the export, no search", "torch", ancestors, NoiseAfter, SteadyNoise,
            biases=False),
    Variant("bc1", "linear BC1 planes, learned with their blocks in the loop, no search", change=bc1_planes),
    Variant("bc1_after", "the planes of bc1 as free 8-bit features, encoded by ISPC Texture Compressor after four "
            "fifths of the iterations, then the network alone; to be compared with bc1",
            change=bc1_planes, whole=EncodedAfter, needs="ispc_texcomp"),
)}  # fmt: skip
