"""Networks with sine activations: Sitzmann et al. 2020, "Implicit Neural Representations with Periodic Activation
Functions" (SIREN)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional
from torchtyping import TensorType

from lightmap.data import HOURS

Inputs = TensorType["n", "inputs"]
Outputs = TensorType["n", "outputs"]


class Siren(nn.Module):
    """`layers` layers sin(omega (W x + b)) of `hidden` neurons, and a linear one.

    First layer: W, b uniform in +-1/inputs; later ones, the last included: +-sqrt(6/inputs)/omega (the paper's section
    3.2 and appendix 1.5). omega is a buffer, so that the network can be rebuilt from its state dict alone.

    Args:
        omega: angular frequency, the same in all layers; 30 in the paper.
        generator: for the initial values.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int,
        outputs: int,
        omega: float,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        sizes = [inputs, *[hidden] * layers, outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for index, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
            bound = 1 / n_in if index == 0 else math.sqrt(6 / n_in) / omega
            self.weights.append(_uniform((n_out, n_in), bound, generator))
            self.biases.append(_uniform((n_out,), bound, generator))
        self.register_buffer("omega", torch.tensor(float(omega)))

    def forward(self, x: Inputs) -> Outputs:
        omega = self.omega  # multiplies the weights, of which there are fewer than values
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            if index < last:
                x = torch.sin(functional.linear(x, weight * omega, bias * omega))
            else:
                x = functional.linear(x, weight, bias)
        return x

    @property
    def sizes(self) -> list[int]:
        """Inputs, neurons of each layer, outputs."""
        return [self.weights[0].shape[1], *(len(weight) for weight in self.weights)]


class DaySiren(Siren):
    """A sine network of the latent alone, with three outputs for each frame of the day, and a linear part beside it.

    The colours of all frames are W sin(...) + b + basis z: with W = 0 they are b, a mean day, plus the weights z of a
    few basis days, as PCA has it. Between two frames, and from the last to the first, colours are interpolated.
    """

    def __init__(
        self, inputs: int, hidden: int, layers: int, frames: int, omega: float,
        generator: torch.Generator | None = None,
    ):  # fmt: skip
        super().__init__(inputs, hidden, layers, 3 * frames, omega, generator)
        self.basis = _uniform((3 * frames, inputs), 1 / inputs, generator)

    @property
    def frames(self) -> int:
        return len(self.basis) // 3

    def sines(self, z: Inputs) -> Outputs:
        """The last sine layer."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            z = torch.sin(functional.linear(z, weight * self.omega, bias * self.omega))
        return z

    def forward(self, x: Inputs) -> Outputs:
        """The colours of all frames, (n, 3 * frames): frame by frame, RGB."""
        return functional.linear(self.sines(x), self.weights[-1], self.biases[-1]) + functional.linear(x, self.basis)

    def at(self, z: Inputs, hour: float) -> Outputs:
        """RGB of latents at one hour, any number; evaluates the rows of two frames only."""
        first, second, share = self.around(hour)

        def mixed(rows: torch.Tensor) -> torch.Tensor:
            return torch.lerp(rows[3 * first : 3 * first + 3], rows[3 * second : 3 * second + 3], share)

        linear = functional.linear(z, mixed(self.basis), mixed(self.biases[-1]))
        return linear + functional.linear(self.sines(z), mixed(self.weights[-1]))

    def around(self, hour: float) -> tuple[int, int, float]:
        """The two frames around an hour, and the share of the second, 0 to 1."""
        position = hour % HOURS / HOURS * self.frames
        first = min(int(position), self.frames - 1)
        return first, (first + 1) % self.frames, position - first


class AtHours(nn.Module):
    """A DaySiren as a function of (latent, hours), (N, C + 1) -> (N, 3), without branches, so that it can be traced."""

    def __init__(self, net: DaySiren):
        super().__init__()
        self.net, self.frames = net, net.frames
        self.register_buffer("numbers", torch.arange(net.frames).float())

    def forward(self, x: Inputs) -> Outputs:
        colors = self.net(x[:, :-1]).view(-1, self.frames, 3)
        return (colors * frame_shares(x[:, -1:], self.numbers, self.frames)[:, :, None]).sum(dim=1)


def frame_shares(hours: Inputs, numbers: Outputs, frames: int) -> Outputs:
    """(n, 1) hours -> (n, frames): the share of each frame, 0 but for the two around the hour; a single one has all."""
    away = hours * ((frames > 1) * frames / HOURS) - numbers
    away = away - frames * torch.floor(away / frames + 0.5)  # -frames / 2 to frames / 2
    return torch.relu(1 - away.abs())


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator | None) -> nn.Parameter:
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)


def siren_from_state(state: Mapping[str, torch.Tensor], prefix: str = "") -> Siren:
    """The network of a state dict; its sizes are those of the weights, and it is a DaySiren if it has a basis.

    Raises: ValueError if the tensors are not those of a Siren.
    """
    weights = [state.get(f"{prefix}weights.{index}") for index in range(len(state))]
    weights = weights[: weights.index(None)] if None in weights else weights
    omega = state.get(f"{prefix}omega")
    if not weights or omega is None or omega.numel() != 1 or any(weight.ndim != 2 for weight in weights):
        raise ValueError("no weights.0, weights.1, ... and omega of a sine network")
    if not (all(min(weight.shape) for weight in weights) and math.isfinite(float(omega)) and float(omega) > 0):
        raise ValueError(f"empty layers, or omega {float(omega)}")
    hidden = len(weights[0]) if len(weights) > 1 else 1
    expected = [(hidden, hidden)] * len(weights)
    expected[0], expected[-1] = (hidden, weights[0].shape[1]), (len(weights[-1]), hidden)
    if len(weights) > 1 and [tuple(weight.shape) for weight in weights] != expected:  # before allocating
        raise ValueError("layers of sizes that do not follow from each other")
    inputs, outputs = weights[0].shape[1], len(weights[-1])
    basis = state.get(f"{prefix}basis")
    if basis is None:
        made = Siren(inputs, hidden, len(weights) - 1, outputs, float(omega))
    elif outputs % 3 or tuple(basis.shape) != (outputs, inputs):
        raise ValueError(f"a basis of {tuple(basis.shape)} for {inputs} inputs and {outputs} outputs")
    else:
        made = DaySiren(inputs, hidden, len(weights) - 1, outputs // 3, float(omega))
    own = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    try:
        made.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"other parts than weights, biases and omega: {' '.join(str(error).split())}") from error
    return made
