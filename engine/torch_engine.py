"""The reference engine: plain PyTorch on any device. Every other engine is compared with this one."""

from __future__ import annotations

import contextlib

import torch

from dataset import Material, PresentValues
from engine.adam_state import ADAM_BETAS, ADAM_EPSILON, up_to_date
from engine.sampling import (
    PROBE,
    STREAM_NOISE,
    Indices,
    Positions,
    TexelSampler,
    channel_loss_weights,
    learned_channels,
)
from engine.schedule import Schedule
from model import Decoded, NeuralTexture, Noise
from quantize import FEATURE_LIMIT, stream_key
from shape import resolve_grids


class TorchEngine:
    """Trains a NeuralTexture on a Material.

    Args:
        model: on `device`; its parameters are updated in place.
        material: the target.
        schedule: learning rates and noise; the engine asks it every iteration.
        device: where to compute.
    """

    name = "torch"
    chunk = 25

    def __init__(self, model: NeuralTexture, material: Material, schedule: Schedule, device: torch.device):
        config = schedule.config
        self.model = model
        self.material = material.to(device)
        self.schedule = schedule
        self.iteration = 0
        self.sampler = TexelSampler(material.lod_sizes, config.seed, config.batch_size, device)
        self._probe = self.sampler.draw(PROBE)
        self.channels = learned_channels(model, material)
        present = material.present_channels.tolist()
        self._learned = torch.tensor(self.channels, dtype=torch.int64, device=device)
        columns = torch.tensor([present.index(c) for c in self.channels], dtype=torch.int64, device=device)
        self._columns = None if len(columns) == len(present) else columns  # of what Material.gather returns
        self._share = len(self.channels) / len(present)
        self._loss_weights = channel_loss_weights(material, config.texture_loss_weights, self.channels).to(device)
        self._rates = [config.learning_rate] + [
            grid.learning_rate for grid in resolve_grids(config, material.width, material.height)
        ]
        groups = [{"params": list(model.weights)}] + [{"params": [p]} for p in model.grid_parameters]
        self.optimizer = _adam(groups)

    def step(self, n: int) -> float:
        """Run `n` iterations; return their mean loss, training noise included."""
        losses = []
        for _ in range(n):
            losses.append(self._iterate())
            self.iteration += 1
        return float(torch.stack(losses).cpu().double().mean())  # not every device has float64

    @torch.no_grad()
    def probe(self) -> float:
        """Mean squared error over the present channels of one fixed batch, without noise; constants have none.

        The training loss goes down while the noise is annealed, whether or not anything is learned; and new texels
        every time would make the comparison of two segments noisy.
        """
        if not self.channels:
            return 0.0
        texel, lod, uv = self._probe
        decoded = self._decode(uv, lod, None).index_select(1, self._learned)
        return float((decoded - self._target(texel)).square().mean()) * self._share

    def _target(self, texel: Indices) -> PresentValues:
        """What the learned channels should be at these texels."""
        values = self.material.gather(texel)
        return values if self._columns is None else values.index_select(1, self._columns)

    def _iterate(self) -> torch.Tensor:
        config = self.schedule.config
        factor = self.schedule.factor(self.iteration)
        for group, rate in zip(self.optimizer.param_groups, self._rates):
            group["lr"] = rate * factor
        texel, lod, uv = self.sampler.draw(self.iteration)
        target = self._target(texel)
        decoded = self._decode(uv, lod, self._noise()).index_select(1, self._learned)
        error = (decoded - target).square().mean(dim=0)
        loss = (error * self._loss_weights).sum()
        self.optimizer.zero_grad(set_to_none=True)
        self._descend(loss)
        self._constrain(config)
        return loss.detach()

    def _decode(self, uv: Positions, lod: Indices, noise: Noise | None) -> Decoded:
        """What the model decodes at these samples; of its channels, those that are trained count."""
        return self.model(uv, lod, noise)

    def _descend(self, loss: torch.Tensor) -> None:
        """One step of the optimiser along the gradient of `loss`."""
        loss.backward()
        self._drop_unused_inputs()
        self.optimizer.step()

    def _drop_unused_inputs(self) -> None:
        """Inputs that the model leaves out keep their weights of 0."""
        for column in self.model.unused_inputs:
            self.model.weights[0].grad[:, column] = 0

    def _noise(self) -> Noise | None:
        strength = self.schedule.noise_strength(self.iteration)
        if strength <= 0:
            return None
        seed = self.schedule.config.seed
        keys = tuple(stream_key(seed, self.iteration, STREAM_NOISE + g) for g in range(len(self.model.grids)))
        return Noise(strength, keys)

    @torch.no_grad()
    def _constrain(self, config) -> None:
        """Keep features where codes can reach them, and the borders of the grids together."""
        if config.quantize:
            for parameters in self.model.grid_parameters:
                parameters.clamp_(-FEATURE_LIMIT, FEATURE_LIMIT)
        if config.wrap_boundary and (self.iteration + 1) % config.wrap_interval == 0:
            for index, rate in enumerate(self._rates[1:]):
                if rate > 0:
                    self.model.sync_wrap_boundary(index, config.wrap_strength, config.wrap_levels)

    def sync(self) -> None:
        """Leave the trained parameters in the model: they are there all the time."""

    def reload(self) -> None:
        """Go on from the model's parameters, which something else has changed: they are the engine's own."""

    def learning_rates(self) -> dict[str, float]:
        """Current rate of the network and of each grid."""
        return self.schedule.named_rates(self._rates, self.iteration)

    def state(self) -> dict:
        """Iteration and optimiser, as tensors and plain values. Samples and noise follow from seed and iteration."""
        return {"iteration": self.iteration, "optimizer": self.optimizer.state_dict()["state"]}

    def load_state(self, state: dict) -> None:
        """The inverse of state(). Raises: ValueError when it is not the state of such an engine."""
        own = self.optimizer.state_dict()
        moments = up_to_date(state, self.model)
        self.iteration = int(state["iteration"])
        self.optimizer.load_state_dict({"state": moments, "param_groups": own["param_groups"]})


def _adam(groups: list[dict]) -> torch.optim.Adam:
    options = {"lr": 0.0, "betas": ADAM_BETAS, "eps": ADAM_EPSILON}
    with contextlib.suppress(RuntimeError, TypeError):  # PyTorch before 2.4, or a device without the fused kernel
        return torch.optim.Adam(groups, fused=True, **options)
    return torch.optim.Adam(groups, **options)
