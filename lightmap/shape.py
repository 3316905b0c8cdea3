"""The shape of a compressor, without its numbers: what flags and checkpoints say of it."""

from __future__ import annotations

from dataclasses import dataclass

# a network of the position; a learned grid; a grid of the weights of a few basis days
LATENT_MODES = ("f1", "direct", "basis")
WEIGHT_BITS = (16, 32)
LARGEST = {  # value of each number of a Shape; the smallest is 1
    "height": 1 << 16, "width": 1 << 16, "latent_dim": 256, "latent_scale": 64, "latent_bits": 8, "hidden_f1": 1024,
    "layers_f1": 16, "hidden_f2": 1024, "layers_f2": 16, "time_harmonics": 32,
    "frames": 1440,
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Everything that determines the sizes of a compressor's tensors."""

    height: int
    width: int
    latent_mode: str  # of LATENT_MODES
    latent_dim: int
    latent_scale: int  # lightmap texels along a side of a latent texel
    latent_bits: int  # of a learned grid's codes, to which training rounds
    hidden_f1: int
    layers_f1: int
    hidden_f2: int
    layers_f2: int
    time_harmonics: int
    omega: float
    omega_f2: float
    frames: int = 0  # of the day, for latent mode basis; else 0, since the time of day is an input of F2
    weight_bits: int = 16  # of WEIGHT_BITS: of a float of F2 in latent mode basis, to which training rounds

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width) of the latent map."""
        return -(-self.height // self.latent_scale), -(-self.width // self.latent_scale)
