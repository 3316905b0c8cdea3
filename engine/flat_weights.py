"""The decoder's weights as one flat tensor: layer after layer, each (outputs, inputs) row by row, as in the file."""

from __future__ import annotations

import torch
from torchtyping import TensorType

from model import NeuralTexture
from quantize import round_weights

Flat = TensorType["weights"]


def flat_weights(model: NeuralTexture) -> Flat:
    """A copy of all weights as they are trained, detached, on the model's device."""
    return torch.cat([weight.detach().reshape(-1) for weight in model.weights])


def flat_exported_weights(model: NeuralTexture) -> Flat:
    """All weights as they are exported, on the model's device."""
    return round_flat(flat_weights(model), model)


def round_flat(flat: Flat, model: NeuralTexture) -> Flat:
    """Flat weights of the model's shapes, rounded as they are exported."""
    return torch.cat([round_weights(weight, model.weight_bits).reshape(-1) for weight in split_weights(flat, model)])


def split_weights(flat: Flat, model: NeuralTexture) -> list[torch.Tensor]:
    """Views of a flat tensor with the shapes of `model.weights`."""
    parts = flat.split([weight.numel() for weight in model.weights])
    return [part.view(weight.shape) for part, weight in zip(parts, model.weights)]
