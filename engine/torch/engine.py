"""The reference engine: plain PyTorch on any device. Every other engine is compared with this one."""

from __future__ import annotations

import contextlib
import functools

import torch

from dataset import Material, PresentValues
from engine.adam_state import ADAM_BETAS, ADAM_EPSILON, Optimizer, optimizer_entries, up_to_date
from engine.base import BaseEngine
from engine.protocol import State
from engine.sampling import (
    PROBE,
    STREAM_NOISE,
    FilteredSampler,
    Indices,
    Lods,
    Positions,
    TexelSampler,
    whole_lod_share,
)
from engine.schedule import Schedule
from model import Decoded, NeuralTexture, Noise
from quantize import FEATURE_LIMIT, stream_key


class TorchEngine(BaseEngine):
    """Trains a NeuralTexture on a Material.

    Args:
        model: its parameters are updated in place, on its device.
        material: the target.
        schedule: asked for rates and noise at every iteration.
    """

    name = "torch"
    chunk = 25

    def __init__(self, model: NeuralTexture, material: Material, schedule: Schedule):
        super().__init__(model, material, schedule)
        config, present = schedule.config, material.present_channels
        drawn = material.lod_sizes, config.seed, config.batch_size, self.device
        self.sampler = TexelSampler(*drawn)
        whole_lods, filtered = whole_lod_share(model), config.positions == "filtered"
        self._filtered = FilteredSampler(*drawn, whole_lods) if filtered else None
        self._whole_lods = whole_lods == 1  # then the network runs once a sample
        self._probe = self.sampler.draw(PROBE)
        self._learned = torch.tensor(self.channels, dtype=torch.int64, device=self.device)
        columns = torch.tensor(self.columns, dtype=torch.int64, device=self.device)
        self._columns = None if len(columns) == len(present) else columns
        self.loss_weights = self.loss_weights.to(self.device)
        self._kept: Optimizer = {}  # moments that the optimiser begins with
        moving = [parameters for parameters, moves in zip(model.grid_parameters, self.moves) if moves]
        self._trained_parameters = [*model.weights, *moving]  # others have no gradients, and so no moments

    @functools.cached_property
    def optimizer(self) -> torch.optim.Adam:
        """Made for the first step: for its first optimiser PyTorch imports 160 MB of modules in 1.2 s, which one at
        rest does without."""
        parameters = [list(self.model.weights), *([each] for each in self.model.grid_parameters)]
        optimizer = _adam([{"params": group} for group in parameters])
        if self._kept:
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": self._kept, "param_groups": groups})
        self._kept = {}
        return optimizer

    def step(self, n: int) -> float:
        """See Engine.step."""
        losses = []
        for _ in range(n):
            losses.append(self._iterate())
            self.iteration += 1
        return float(torch.stack(losses).cpu().double().mean())  # not every device has float64

    @torch.no_grad()
    def probe(self) -> float:
        """See Engine.probe."""
        if not self.channels:
            return 0.0
        texel, lod, uv = self._probe
        decoded = self._decode(uv, lod, None, True).index_select(1, self._learned)
        return float(self.sample_loss.errors_of(decoded, self._target(texel)).square().mean()) * self.probe_share

    def _target(self, texel: Indices) -> PresentValues:
        """The material's values of the trained channels at these texels."""
        return self._trained(self.material.gather(texel))

    def _trained(self, values: PresentValues) -> PresentValues:
        return values if self._columns is None else values.index_select(1, self._columns)

    def _draw(self) -> tuple[Positions, Indices | Lods, PresentValues]:
        """uv, LOD and target of the samples of this iteration."""
        if self._filtered is not None:
            uv, lod = self._filtered.draw_positions(self.iteration)
            target = self._trained(self.material.filtered(uv, lod))
            return uv, lod.long() if self._whole_lods else lod, target
        texel, lod, uv = self.sampler.draw(self.iteration)
        return uv, lod, self._target(texel)

    def _iterate(self) -> torch.Tensor:
        factor = self.schedule.factor(self.iteration)
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * factor
        uv, lod, target = self._draw()
        rounded = self.schedule.rounds_weights(self.iteration)
        if not rounded:
            self.calibrated = self.model.activation_bits == 32
        elif not self.calibrated:
            self.calibrate()
            self.calibrated = True
        decoded = self._decode(uv, lod, self._noise(), rounded).index_select(1, self._learned)
        error = self.sample_loss.squared_errors(decoded, target)
        loss = (error.mean(dim=0) * self.loss_weights).sum()
        self.optimizer.zero_grad(set_to_none=True)
        self._descend(loss)
        self._constrain()
        return loss.detach()

    def _decode(self, uv: Positions, lod: Indices | Lods, noise: Noise | None, rounded: bool) -> Decoded:
        """The decoded samples. Only the trained channels have to be right. rounded: with `exported_weights`."""
        return self.model(uv, lod, noise, rounded=rounded)

    def _descend(self, loss: torch.Tensor) -> None:
        """One step of the optimiser along the gradient of `loss`."""
        loss.backward(inputs=self._trained_parameters)
        self._drop_unused_inputs()
        self.optimizer.step()

    def _drop_unused_inputs(self) -> None:
        """Keep the weights of inputs that the model does not use at 0, and neurons that stay as they are."""
        for column in self.model.unused_inputs:
            self.model.weights[0].grad[:, column] = 0
        for weight in self.model.weights[:-1] if self.model.keeps_biases else ():
            weight.grad[0] = 0

    def _noise(self) -> Noise | None:
        strength = self.schedule.noise_strength(self.iteration)
        if strength <= 0:
            return None
        seed = self.schedule.config.seed
        keys = tuple(stream_key(seed, self.iteration, STREAM_NOISE + g) for g in range(len(self.model.grids)))
        return Noise(strength, keys)

    @torch.no_grad()
    def _constrain(self) -> None:
        """Keep features in the range of the codes, and opposite borders of each trained grid together."""
        config = self.schedule.config
        if config.quantize:
            for parameters in self.model.grid_parameters:
                parameters.clamp_(-FEATURE_LIMIT, FEATURE_LIMIT)
        if config.wrap_boundary and (self.iteration + 1) % config.wrap_interval == 0:
            for index, moves in enumerate(self.moves):
                if moves:
                    self.model.sync_wrap_boundary(index, config.wrap_strength, config.wrap_levels)

    def sync(self) -> None:
        """See Engine.sync. Training updates the model's own parameters: gradients alone are let go."""
        if self._has_optimizer:
            self.optimizer.zero_grad(set_to_none=True)
        if not self.calibrated:
            self.calibrate()

    @property
    def _has_optimizer(self) -> bool:
        return "optimizer" in vars(self)

    def state(self) -> State:
        """See Engine.state. Samples and noise follow from seed and iteration, and need no state."""
        moments = self.optimizer.state_dict()["state"] if self._has_optimizer else self._kept
        if moments:
            for index in self._still:
                still = torch.zeros_like(self.model.grid_parameters[index - len(self.model.weights)]).detach()
                entry = optimizer_entries(self.iteration, [(still, still.clone())])[0]
                moments = {**moments, index: entry}
        return self.with_calibration({"iteration": self.iteration, "optimizer": dict(sorted(moments.items()))})

    @property
    def _still(self) -> list[int]:
        """Numbers, in the optimiser, of the grids that are not trained."""
        return [len(self.model.weights) + index for index, moves in enumerate(self.moves) if not moves]

    def settled_state(self) -> State:
        """See Engine.settled_state. Nothing is ever pending."""
        return self.state()

    def load_state(self, state: State) -> None:
        """See Engine.load_state. Raises: ValueError for another layout."""
        moments = {index: entry for index, entry in up_to_date(state, self.model).items() if index not in self._still}
        self.iteration, self._kept = int(state["iteration"]), moments
        self.load_calibration(state)
        vars(self).pop("optimizer", None)  # another will begin with these


def _adam(groups: list[dict]) -> torch.optim.Adam:
    options = {"lr": 0.0, "betas": ADAM_BETAS, "eps": ADAM_EPSILON}
    with contextlib.suppress(RuntimeError, TypeError):  # PyTorch before 2.4, or a device without the fused kernel
        return torch.optim.Adam(groups, fused=True, **options)
    return torch.optim.Adam(groups, **options)
