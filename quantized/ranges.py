"""Ranges of activations of 8 bits: the lowest and the highest of what each layer takes in."""

from __future__ import annotations

from collections.abc import Sequence

from quantized.network import INPUT_RANGE

MOST_RANGE = 1e6  # of an activation
LEAST_SWISH = -0.375  # of hard swish, at -1.5
LEAST_RANGE = 0.125  # from the lowest to the highest activation


def first_ranges(hidden_layers: int) -> list[tuple[float, float]]:
    """Of a network that nothing has calibrated: about what fresh weights make."""
    return [INPUT_RANGE] + [(LEAST_SWISH, 8.0)] * hidden_layers


def ranges_problem(numbers: Sequence[float], layers: int) -> str | None:
    """What is wrong with ranges, lowest and highest of each layer one after the other; None: nothing."""
    if len(numbers) != 2 * layers:
        return f"expected {2 * layers} numbers for {layers} layers, found {len(numbers)}"
    for layer, (low, high) in enumerate(zip(numbers[::2], numbers[1::2])):
        wanted = (low, high) == INPUT_RANGE if layer == 0 else -MOST_RANGE <= low <= 0 < high <= MOST_RANGE
        if not wanted:
            expected = "-1 and 1" if layer == 0 else f"{-MOST_RANGE:g} <= lowest <= 0 < highest <= {MOST_RANGE:g}"
            return f"expected {expected} in layer {layer}, found {low:g} and {high:g}"
    return None
