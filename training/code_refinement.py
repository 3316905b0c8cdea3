"""--refine, after training: rounds that tune the network to the codes and search for better codes.

Training with straight-through rounding leaves codes that become better by one step up or down. Rock058 at 2.5 bpp,
34.24 dB after training: one sweep of the search gains 0.43 dB in 1.3 s, and rounds of tuning and sweeping 0.67 dB in
15 s, in which training gains less than 0.1. At 10 bpp the first sweep gains 0.9 dB. The same material in BC1 planes at
2.5 bpp, 33.08 dB after 5000 iterations: one sweep gains 0.31 dB in 1.1 s of one core, and three rounds gain 0.49. Eight
planes at 10 bpp, 37.16 dB after 3000: a sweep of all together gains 0.76 dB in 7.9 s (of one after the other 0.86 in
17.6), and three rounds gain 1.4.
The search itself is in engine/torch/code_search.py, that of blocks in block_search.py.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from configs import Config
from dataset import Material
from engine.create import create_code_search, create_decoder, create_engine
from engine.sample_loss import SampleLoss
from engine.sampling import channel_loss_weights, learned_channels, lod_shares
from engine.schedule import Schedule
from maps.channels import opacity_place
from model import NeuralTexture
from shape import planes_of, resolve_grids

MOST_BITS = 4  # above 4 bits one code step is below the remaining error
# A sweep takes as long for a small grid as for a large one. A grid with fewer codes than this share of the largest one
# is therefore tuned with the network, and searched in the last round alone: a sweep of it gains 0.03 dB, a round 0.1.
SMALL_GRID = 0.2
# Blocks of a quarter of the texels count as small, too: with those searched in each round, three rounds end 0.012 dB
# higher and take 13 % longer.
SMALL_GRID_OF_BLOCKS = 0.3
# Above so many texels of the material small grids are not searched at all: at 2048 x 2048 and 2.5 bpp three materials
# gain 0.03 dB from it, in the time in which training longer by a third gains 0.07.
LARGE_TEXELS = 2**22
# Up to so many texels a round that does not lower the error is taken back, at the cost of decoding all LODs: weights of
# 8 bits end a tuning on this or that side of a rounding. Facade005, 256 x 256 at 2.5 bpp, rounds 1 to 6 without: 46.35,
# 46.45, 46.20, 46.49, 46.66, 45.56 dB. With six kinds of tuning they end at 45.56 to 47.03, with it at 46.45 to 47.04.
TAKEN_BACK_TEXELS = 2**18
# NETWORK_FACTOR where rounds can be taken back: the same material ends eight rounds at 47.03 dB, with 0.3 at 46.57,
# with 0.05 at 46.74; six rounds of Rock058 at 33.26 (0.3: 33.26), of Metal055A at 46.60 (0.3: 46.63).
SMALL_NETWORK_FACTOR = 0.1
# Tuning: the best of 250 and 500 iterations, of rates 0.003 and 0.006 for the network, 0, 0.002 and 0.005 for grids
TUNE_ITERATIONS = 500
TUNE_BATCH = 8192
NETWORK_FACTOR = 0.3  # learning rate over the one that training began with
GRID_FACTOR = 0.13


class Refinement:
    """Rounds of tuning and code search for a trained model, on the model's device.

    Args:
        model: its parameters change in place.
        material: what it was trained on.
        config: of its training; `refine` is the number of rounds.
    """

    def __init__(self, model: NeuralTexture, material: Material, config: Config):
        self.model, self.config = model, config
        self.device = model.weights[0].device
        self.material = material.to(self.device)
        self.channels = learned_channels(model, material)
        self.channel_weights = channel_loss_weights(material, config.texture_loss_weights, self.channels)
        texels = torch.tensor([width * height for width, height in material.lod_sizes])
        shares = lod_shares(texels.tolist())
        self.lod_weights = (shares / texels * texels[0]).to(torch.float32)  # of a texel: how often training samples it
        codes = [grid.n_parameters * (grid.quantize_bits <= MOST_BITS) for grid in model.grids]
        # per grid: True: each round searches it; False: each round tunes it
        small = [SMALL_GRID_OF_BLOCKS if grid.compressed else SMALL_GRID for grid in model.grids]
        self.searched = [count > 0 and count >= share * max(codes) for count, share in zip(codes, small)]
        self.search = create_code_search(config, self.device)
        self.can_take_back = material.width * material.height <= TAKEN_BACK_TEXELS

    @property
    def possible(self) -> bool:
        """Whether a round can change anything: a grid of blocks or at most MOST_BITS bits, and a learned channel."""
        return self.model.quantized and any(self.searched) and bool(self.channels)

    def round(self, index: int) -> int:
        """Round `index` of config.refine: tune, except in round 0, then search. Returns how many codes have changed."""
        if index == 0:
            return self._search(last=False)
        last = index == self.config.refine - 1 and self.material.width * self.material.height <= LARGE_TEXELS
        if not self.can_take_back:
            self._tune(index)
            return self._search(last)
        before, error = [(values, values.detach().clone()) for values in self._changing()], self._error()
        self._tune(index)
        changed = self._search(last)
        if self._error() < error:
            return changed
        for parameters, values in before:
            parameters.data.copy_(values)
        return 0

    def _changing(self) -> list[torch.Tensor]:
        """What a round may change."""
        ranges = [self.model.activation_ranges] if self.model.activation_bits == 8 else []
        return [*self.model.parameters(), *ranges]

    def _search(self, last: bool) -> int:
        """One sweep over each grid that each round searches, in the last round over all. Returns the changed codes."""
        changed = 0
        for planes in planes_of(self.model.grids):
            grid = self.model.grids[planes[0]]
            if self.searched[planes[0]] or (last and grid.quantize_bits <= MOST_BITS):
                for level in reversed(range(grid.n_levels)):
                    changed += self.search(
                        self.model, self.material, planes, level, self.channels, self.channel_weights, self.lod_weights
                    )
        return changed

    def _error(self) -> float:
        """The error that the search lowers: the weighted squares of all texels of all LODs, as they are exported."""
        columns = [self.material.present_channels.tolist().index(channel) for channel in self.channels]
        loss, weights = SampleLoss(opacity_place(self.channels)), self.channel_weights.to(self.device)
        total, decode = 0.0, create_decoder(self.config)
        for lod, (width, height) in enumerate(self.material.lod_sizes):
            decoded = decode(self.model, lod, width, height).reshape(width * height, -1)[:, self.channels]
            texels = torch.arange(width * height, device=self.device) + self.material.lod_offsets[lod]
            wanted = self.material.gather(texels)[:, columns]
            squares = loss.squares(decoded, wanted, weights)
            total += self.lod_weights[lod].item() * squares.sum().item()
        return total

    def _tune(self, index: int) -> None:
        """Train the network and the grids that are not searched; searched grids keep their codes."""
        config = self.config
        tuned = [grid for grid, searched in zip(self.model.grid_parameters, self.searched) if not searched]
        tuned += self.model.weights
        tuned += [self.model.activation_ranges] if self.model.activation_bits == 8 else []
        before = [(values, values.detach().clone()) for values in tuned]
        resolved = resolve_grids(config, self.material.width, self.material.height)
        grids = [
            dataclasses.replace(grid, learning_rate=0.0 if searched else GRID_FACTOR * grid.learning_rate)
            for grid, searched in zip(resolved, self.searched)
        ]
        factor = SMALL_NETWORK_FACTOR if self.can_take_back else NETWORK_FACTOR
        tuning = dataclasses.replace(
            config, hash_grid_configs=grids, learning_rate=factor * config.learning_rate, noise_std=0.0,
            weight_round_start=0.0,
            max_iter=TUNE_ITERATIONS, batch_size=TUNE_BATCH, lr_scheduler="poly", lr_decay_start=0.0,
            lr_decay_power=1.0, seed=config.seed + index,  # other samples than the training's first
        )  # fmt: skip
        engine = create_engine(self.model, self.material, Schedule(tuning), self.device)
        while engine.iteration < TUNE_ITERATIONS:
            loss = engine.step(min(engine.chunk, TUNE_ITERATIONS - engine.iteration))
            if not math.isfinite(loss):  # tuning diverged: keep the parameters from before it
                for parameters, values in before:
                    parameters.data.copy_(values)
                return
        engine.sync()
