"""Latent mode basis before its first step: PCA of the day, refined once, in float16 or float32, whichever is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lightmap.basis import shipped_bytes, start_from_pca
from lightmap.basis_step import BasisStep
from lightmap.compressor import CHUNK, Compressor
from lightmap.data import Day, Numbers
from lightmap.evaluation import stack_of, stored
from lightmap.options import TrainOptions
from lightmap.shape import Shape
from metrics.scores import psnr_of

FINE_DB = 50.0  # below it rounding to float16, which is 75 dB and more away from float32, costs nothing
GAIN_DB = 0.1  # that float32 has to bring

State = dict[str, torch.Tensor]


@dataclass
class Start:
    """A model before its first step.

    pca_db: of PCA in float32; best_db, best_state: of the best of PCA and what followed, in the floats of the shape.
    """

    model: Compressor
    engine: BasisStep
    generator: torch.Generator
    pca_db: float
    best_db: float
    best_state: State


def start_day(shape: Shape, options: TrainOptions, day: Day, device: torch.device,
              measure: Callable[[Compressor], float]) -> Start:  # fmt: skip
    """PCA of the day, refined once; with float32 for the network and the basis instead of float16 (Shape.weight_bits)
    where it fits, and brings GAIN_DB or is needed to be as good as PCA in float32.

    measure: dB of a model.
    """
    start = _started(shape, options, day, device, measure)
    exact = in_float32(shape, options)
    if start.pca_db < FINE_DB or exact is None:
        return start
    other = _started(exact, options, day, device, measure)
    return other if other.best_db > start.best_db + GAIN_DB or start.best_db < start.pca_db else start


def _started(shape: Shape, options: TrainOptions, day: Day, device: torch.device,
             measure: Callable[[Compressor], float]) -> Start:  # fmt: skip
    generator = torch.Generator().manual_seed(options.seed)
    model = Compressor(shape, generator).to(device)
    start_from_pca(model, day, device)
    pca_db = measure(model)
    engine = BasisStep(model, day, options.lr)
    found = []
    for improve in (engine.round, engine.refine):
        improve()
        found.append((measure(model), state_of(model)))
    best = found[1] if found[1][0] >= found[0][0] else found[0]
    return Start(model, engine, generator, pca_db, *best)


def in_float32(shape: Shape, options: TrainOptions) -> Shape | None:
    """The shape with float32 for float16, with fewer neurons where --bytes are too few; None: it does not fit."""
    most = options.wanted_bytes
    counts = [shape.hidden_f2] if options.hidden_f2 else range(shape.hidden_f2, 0, -1)
    shapes = (dataclasses.replace(shape, weight_bits=32, hidden_f2=count) for count in counts)
    return next((wide for wide in shapes if not most or shipped_bytes(wide) <= most), None)


def state_of(model: Compressor) -> State:
    """A copy of a model's numbers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def day_db(model: Compressor, day: Day, texels: Numbers) -> float:
    """PSNR in dB of texels in all frames, as files of the day's depth store them."""
    squares, device = 0.0, model.grid.device
    for part in texels.split(CHUNK):
        found = model.f2(model.latents(part.to(device))).cpu()
        squares += float((stored(found, day.bits) - stack_of(day, part)).double().square().sum())
    return psnr_of(squares / (len(texels) * 3 * day.n_frames))
