"""Training in latent mode basis: Adam for the network, and now and then exact steps for all that is linear.

A step draws texels with all their frames, and moves the sine network and what follows it. `refine` then solves the last
layer, the basis and the mean day by least squares over the whole day, and moves every latent by a step of
Levenberg-Marquardt, which is kept where it brings the texel closer. All numbers are rounded as files hold them: latents
to their codes, others to float16, or float32 (Shape.weight_bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torchtyping import TensorType

from lightmap.basis import Band, bands, lamp_texels
from lightmap.compressor import Compressor, round_latents
from lightmap.data import Day, Numbers
from lightmap.evaluation import Stack, stack_of
from lightmap.siren import DaySiren
from lightmap.torch_step import load_moments, moments_of

BETAS = (0.9, 0.99)
RIDGE = 1e-6  # of the last layer's least squares, relative to the squares of its inputs
SOLVED_TEXELS = 1 << 19  # that least squares are computed over, at most
DAMPING = (1e-4, 1e-2, 1e4)  # of Levenberg-Marquardt: least, at the start, most; relative to the curvature
EASED, DAMPED = 0.3, 8.0  # factors of the damping after a step that is kept, and after another
LEAST_CURVATURE = 1e-12
REFINEMENTS, LAST_REFINEMENTS = 16, 4
LAMP_SHARE = 1 / 32  # of the samples, and of the weight in least squares, that lamps have at least

Latents = TensorType["n", "channels"]
Curvature = TensorType["n", "channels", "channels"]
Slopes = TensorType["n", "channels", "sines"]


@dataclass(frozen=True)
class Days:
    """Samples: texel numbers (n,), and their encoded colours in all frames (n, frames * 3)."""

    texels: Numbers
    values: Stack


class DaySampler:
    """Draws texels with all their frames.

    Args:
        lamps: texels that are drawn more often, which may be none.
        generator: on the CPU; the only source of randomness here.
    """

    def __init__(self, day: Day, lamps: Numbers, generator: torch.Generator, device: torch.device):
        self.day, self.lamps, self.generator, self.device = day, lamps, generator, device
        self.texels = day.mask.nonzero()[:, 0]

    def draw(self, count: int) -> Days:
        """About `count` samples, a sample being a texel in a frame."""
        n = max(1, round(count / self.day.n_frames))
        texels = self.texels[torch.randint(len(self.texels), (n,), generator=self.generator)]
        if len(self.lamps):
            chosen = torch.randint(len(self.lamps), (max(1, round(n * LAMP_SHARE)),), generator=self.generator)
            texels = torch.cat([texels, self.lamps[chosen]])
        return Days(texels.to(self.device), stack_of(self.day, texels).to(self.device))


class BasisStep:
    """See above; has the methods of TorchStep.

    Args:
        model: as start_from_pca leaves it.
    """

    name = "torch"
    refines = True

    def __init__(self, model: Compressor, day: Day, lr: float):
        self.model, self.day, self.device = model, day, model.grid.device
        self.lamps = lamp_texels(day)
        self.parameters = list(model.f2.parameters())
        size = float(model.f2.weights[0].detach().square().mean().sqrt())
        usual = 1 / (model.shape.latent_dim**0.5 * float(model.f2.omega))  # of latents that spread over -1..1
        self.rates = [lr] * len(self.parameters)
        self.rates[0] = lr * max(1.0, size / usual)
        groups = [{"params": [value], "lr": rate} for value, rate in zip(self.parameters, self.rates)]
        self.adam = torch.optim.Adam(groups, betas=BETAS, eps=1e-8, foreach=False)
        self.damping = torch.full((len(model.grid),), DAMPING[1], device=self.device)

    # --- the network -------------------------------------------------------------------------------------------------

    def step(self, batch: Days, decay: float) -> torch.Tensor:
        """One step of Adam at `decay` times the learning rates. Returns: the loss, a scalar tensor."""
        with torch.no_grad():
            z = self.model.latents(batch.texels)
        self.adam.zero_grad(set_to_none=True)
        loss = functional.mse_loss(self.model.f2(z), batch.values)
        loss.backward()
        for group, rate in zip(self.adam.param_groups, self.rates):
            group["lr"] = rate * decay
        self.adam.step()
        return loss.detach()

    # --- exact steps -------------------------------------------------------------------------------------------------

    def refinements(self, iteration: int, total: int) -> int:
        """How often `refine` is due after step `iteration` of `total`: REFINEMENTS times in a run, and at its end."""
        if iteration == total:
            return LAST_REFINEMENTS
        return iteration * REFINEMENTS // total - (iteration - 1) * REFINEMENTS // total

    @torch.no_grad()
    def refine(self) -> None:
        """Solve what is linear, and move the latents."""
        self.round()
        self._solve_last_layer()
        self._move_latents()

    @torch.no_grad()
    def round(self) -> None:
        """Round the network and the basis to the numbers that files hold."""
        if self.model.shape.weight_bits == 16:
            for value in self.parameters:
                value.copy_(value.half())

    def _solve_last_layer(self) -> None:
        """Mean day, basis and last layer: the least squares of the day's colours on 1, the latents and the sines."""
        f2, channels = self.model.f2, self.model.shape.latent_dim
        size = 1 + channels + f2.weights[-1].shape[1]
        products = torch.zeros(size, size, dtype=torch.float64, device=self.device)
        targets = torch.zeros(size, len(f2.basis), dtype=torch.float64, device=self.device)
        texels = self.day.mask.nonzero()[:, 0]
        lamps = max(1.0, LAMP_SHARE * len(texels) / max(1, len(self.lamps))) - 1
        stride = -(-len(texels) // SOLVED_TEXELS)
        for chosen, weight in ((texels[::stride], 1.0), (self.lamps, lamps)):
            for part in chosen.split(1 << 13):
                inputs = self._inputs(part.to(self.device)).double()
                products += weight * inputs.T @ inputs
                targets += weight * inputs.T @ stack_of(self.day, part).to(self.device).double()
        products.diagonal().add_(RIDGE * products.diagonal().mean())
        solved = torch.linalg.solve(products, targets).float()
        f2.biases[-1].copy_(solved[0])
        f2.basis.copy_(solved[1 : 1 + channels].T)
        f2.weights[-1].copy_(solved[1 + channels :].T)
        self.round()

    def _inputs(self, texels: Numbers) -> torch.Tensor:
        """(n, 1 + channels + sines): what the colours are linear in."""
        z = self.model.latents(texels)
        return torch.cat([torch.ones_like(z[:, :1]), z, self.model.f2.sines(z)], dim=1)

    def _move_latents(self) -> None:
        """A step of Levenberg-Marquardt for each latent texel, kept where the colours that read it come closer.

        A smaller latent map is read interpolated: for the weights u of a colour's four latents,
        |J sum(u dz)|^2 <= sum(u |J dz|^2), so that steps taken from the right-hand side, which every latent can take on
        its own, overshoot nowhere (a majoriser). J is taken at the latent itself, of which its colours are not far.
        """
        model, channels = self.model, self.model.shape.latent_dim
        before, after, moved = torch.empty_like(self.damping), torch.empty_like(self.damping), model.grid.clone()
        for band in self._bands():
            mine = slice(band.first, band.last)
            gradient, error, count = band.gathered(self._derivatives(band)).split([channels, 1, 1], dim=1)
            z = round_latents(model.grid[mine], model.shape.latent_bits)
            curvature = self._curvature(z) * count[..., None]
            size = curvature.diagonal(dim1=1, dim2=2)
            size.add_(self.damping[mine, None] * size.mean(dim=1, keepdim=True) + LEAST_CURVATURE)
            moved[mine] -= torch.linalg.solve(curvature, gradient)
            before[mine] = error[:, 0]
        kept, model.grid.data = model.grid.data, moved.clamp_(-1, 1)
        for band in self._bands():
            after[band.first : band.last] = band.gathered(self._errors(band))[:, 0]
        better = after < before
        model.grid.data = torch.where(better[:, None], model.grid.data, kept)
        self.damping.mul_(torch.where(better, EASED, DAMPED)).clamp_(DAMPING[0], DAMPING[2])

    def _bands(self):
        return bands(self.model.shape, self.day.mask, self.device)

    def _errors(self, band: Band) -> torch.Tensor:
        """(n, 1): the squared error of each texel of a band over the day."""
        found = self.model.f2(self.model.latents(band.texels))
        return (found - self._colors(band)).square().sum(dim=1, keepdim=True)

    def _colors(self, band: Band) -> Stack:
        return stack_of(self.day, band.texels.cpu()).to(self.device)

    def _derivatives(self, band: Band) -> torch.Tensor:
        """(n, C + 2) of each texel of a band: the gradient of half its squared error over the day by its latent, that
        error, and 1."""
        z = self.model.latents(band.texels).requires_grad_()
        with torch.enable_grad():
            squares = (self.model.f2(z) - self._colors(band)).square().sum(dim=1, keepdim=True)
            (gradient,) = torch.autograd.grad(squares.sum() / 2, z)
        return torch.cat([gradient, squares.detach(), torch.ones_like(squares)], dim=1)

    def _curvature(self, z: Latents) -> Curvature:
        """J^T J, where J are the derivatives of a day's colours by a latent."""
        f2, channels = self.model.f2, z.shape[1]
        linear = torch.cat([f2.basis, f2.weights[-1]], dim=1)
        squares, slopes = linear.T @ linear, sine_slopes(f2, z)
        # (1 slopes) squares (1 slopes)^T, where 1 is the identity of the latents' own part
        inner = squares[:channels] + slopes @ squares[channels:]
        return inner[..., :channels] + inner[..., channels:] @ slopes.transpose(1, 2)

    # --- files -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """As TorchStep.state, with the rates and the damping of the latents, on the CPU."""
        kept = {"rates": list(self.rates), "damping": self.damping.cpu().clone()}
        return {**moments_of(self.adam, self.parameters), **kept}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned. Raises: ValueError for moments of other sizes."""
        load_moments(self.adam, self.parameters, state)
        if state["damping"].shape != self.damping.shape or len(state["rates"]) != len(self.rates):
            raise ValueError("a damping of another size")
        self.rates = [float(rate) for rate in state["rates"]]
        self.damping.copy_(state["damping"])


def sine_slopes(f2: DaySiren, z: Latents) -> Slopes:
    """The derivatives of the last sine layer by each latent."""
    slopes = None
    for weight, bias in zip(f2.weights[:-1], f2.biases[:-1]):
        scaled = weight * f2.omega
        phase = functional.linear(z, scaled, bias * f2.omega)
        slopes = (scaled.T if slopes is None else slopes @ scaled.T) * phase.cos()[:, None]
        z = phase.sin()
    return slopes
