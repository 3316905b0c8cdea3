"""Networks with sine activations: Sitzmann et al. 2020, "Implicit Neural Representations with Periodic Activation
Functions" (SIREN)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional
from torchtyping import TensorType

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


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator | None) -> nn.Parameter:
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)


def siren_from_state(state: Mapping[str, torch.Tensor], prefix: str = "") -> Siren:
    """The network of a state dict; its sizes are those of the weights.

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
    made = Siren(weights[0].shape[1], hidden, len(weights) - 1, len(weights[-1]), float(omega))
    own = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    try:
        made.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"other parts than weights, biases and omega: {' '.join(str(error).split())}") from error
    return made
