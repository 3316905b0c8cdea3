"""What a sample adds to the loss: coverage, which says how much it counts elsewhere, and light, whose codes are
logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchtyping import TensorType

from dataset import Material
from maps.channels import map_channels, opacity_place

# What a texel without coverage counts in maps other than opacity, as NT_COVERAGE_FLOOR of engine/cpu/src/nt.h: nobody
# sees it, but a filter reaches it from its neighbours.
COVERAGE_FLOOR = 0.05
# A wanted value within END of 0, or of 1 where it is a coverage, which 8 bits round to it, has no error up to ROOM
# beyond it; as NT_END and NT_ROOM. The texture of tests/support/leaves.py, 512 x 512, at 5 bpp, `balanced`, with
# margins of 0.05 (see maps.coverage): opacity 46.2 dB instead of 43.8, the other maps where they are covered 38.37
# instead of 38.09, all maps filtered 31.3 instead of 30.9. Without an end of the room 47.3, 38.39 and 28.9 dB; opacity
# of LOD 0 is -1.2 to 3.3 then, which cannot be blended with another LOD before it is clipped. A weight of 2 or 4 for
# opacity instead of room and margins, 44.9 or 46.3 dB, costs the others 0.8 or 1.3. Room below the light of
# data/test_leaves at 5 bpp: all maps 33.71 dB instead of 33.40, light 41.7 instead of 40.9.
END, ROOM = 0.5 / 255, 0.1
# Light of the value t (maps.ranges.to_units) counts in proportion to 1 + LIGHT_GAIN t**4, as NT_LIGHT_GAIN: bright
# light covers little and is what people see. In data/test_leaves at 5 bpp, five seeds, the brightest lamp is decoded at
# 93 to 100 % of its light without, at 100 % with it, for 0.2 dB of the other maps; with t**8 and twice the gain at 95
# to 100 %, with a weight of 2 or 3 for all that is lit at 95 and 93 to 100 %.
LIGHT_GAIN = 4.0
ROWS_AT_A_TIME = 256

Values = TensorType["samples", "learned"]


@dataclass(frozen=True)
class SampleLoss:
    """How the errors of a sample count, beside the weights of its channels.

    coverage: place of the channel that is the coverage; -1: none.
    light: per channel, what light counts in proportion to 1 + LIGHT_GAIN t**4; 0 where there is none, () nowhere.
    """

    coverage: int
    light: tuple[float, ...] = ()

    @property
    def has_light(self) -> bool:
        return any(self.light)

    def coverage_weights(self, target: Values) -> Values:
        """What samples count in each channel: COVERAGE_FLOOR + (1 - COVERAGE_FLOOR) * coverage, in the coverage itself
        1.

        Args:
            target: the values that the samples should have.
        """
        if self.coverage < 0:
            return torch.ones_like(target)
        weights = COVERAGE_FLOOR + (1 - COVERAGE_FLOOR) * target[:, self.coverage, None]
        own = torch.zeros(target.shape[1], dtype=torch.bool, device=target.device)
        own[self.coverage] = True
        return torch.where(own, 1.0, weights)

    def squares(self, decoded: Values, target: Values, channel_weights: Values) -> Values:
        """Squared errors as a search of codes counts them: of what a file shows, decoded values clipped to 0..1.

        Args:
            channel_weights: (learned) or of each sample.
        """
        squares = (decoded.clamp(0, 1) - target).square() * channel_weights
        return squares if self.coverage < 0 else squares * self.coverage_weights(target)

    def errors_of(self, decoded: Values, target: Values) -> Values:
        """decoded - target, but less by ROOM, or 0, for a coverage or light of 0 where less is decoded, or a coverage
        of 1 where more is.

        Decoded values are clipped, so a network may draw an edge as a slope that goes on beyond both.
        """
        errors = decoded - target
        if self.coverage < 0 and not self.has_light:
            return errors
        column = torch.arange(target.shape[1], device=target.device)
        light = torch.tensor(self.light or (0.0,), device=target.device)
        below = ((light > 0) | (column == self.coverage)) & (target < END) & (errors < 0)
        above = (column == self.coverage) & (target > 1 - END) & (errors > 0)
        errors = torch.where(below, (errors + ROOM).clamp_max(0), errors)
        return torch.where(above, (errors - ROOM).clamp_min(0), errors)

    def squared_errors(self, decoded: Values, target: Values) -> Values:
        """What samples add to the loss in each channel, before the weights of the maps."""
        squares = self.errors_of(decoded, target).square()
        if self.coverage >= 0:
            squares = squares * self.coverage_weights(target)
        if self.has_light:
            light = torch.tensor(self.light, device=target.device)
            squares = squares * torch.where(light > 0, light * (1 + LIGHT_GAIN * target**4), 1.0)
        return squares


def sample_loss(material: Material, channels: Sequence[int]) -> SampleLoss:
    """The SampleLoss of these channels of a material: over LOD 0, the mean weight of a map's light is 1."""
    light = {}
    for name in material.log_scale:
        largest, total = 2 ** material.bit_depth[name] - 1, 0.0
        codes = material.stored(0, name)
        for first in range(0, len(codes), ROWS_AT_A_TIME):
            total += float(((codes[first : first + ROWS_AT_A_TIME] / largest) ** 4).sum())
        light.update(dict.fromkeys(map_channels(name), 1 / (1 + LIGHT_GAIN * total / codes.size)))
    return SampleLoss(opacity_place(channels), tuple(light.get(channel, 0.0) for channel in channels))
