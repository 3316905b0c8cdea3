"""BC1 planes the usual way, for bench.ablation: free features are trained, and encoded to BC1 afterwards.

Each plane is three linear grids of one 8-bit feature while it is trained, so that the network is the one of the planes.
An encoder of ordinary textures makes their blocks, and the network is tuned to what is left of the features.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

import blocks
from configs import Config, HashGridConfig
from dataset import Material
from engine.create import create_engine
from engine.protocol import Engine
from engine.schedule import Schedule
from formats.block_textures import load_blocks
from model import NeuralTexture, new_model
from shape import resolve_grids
from transcode.codecs import encode_blocks

CPU = torch.device("cpu")
TUNED_SHARE = 0.2  # of the iterations: those after the encoding, of the network alone


def free_grids(planes: list[HashGridConfig]) -> list[HashGridConfig]:
    """Grids of one 8-bit feature, as many as linear BC1 planes have channels."""
    features = [dataclasses.replace(plane, storage="packed", quantize_bits=8, save_bits=8) for plane in planes]
    return [feature for feature in features for _ in range(blocks.FEATURES)]


def encode_level(level: np.ndarray) -> np.ndarray:
    """(height, width, 3) features in [-0.5, 0.5] -> (blocks, 8) uint8 of four colours each."""
    pixels = np.round((np.clip(level, -0.5, 0.5) + 0.5) * 255).astype(np.uint8)
    return np.frombuffer(encode_blocks("bc1", pixels), np.uint8).reshape(-1, blocks.BC1.bytes)


class EncodedAfter:
    """An engine whose model has BC1 planes that were encoded after `1 - TUNED_SHARE` of the iterations.

    Before that the model is what an encoding at this moment would be.

    Args:
        config: of the model that comes out: all of its grids are linear BC1 planes.
    Raises: UserError when the encoder is not installed.
    """

    def __init__(self, config: Config, material: Material):
        self.iteration, self._config, self._material = 0, config, material
        self.model = new_model(config, material)
        planes = resolve_grids(config, material.width, material.height)
        self._tuned = max(round(config.max_iter * TUNED_SHARE), 1)
        self._frozen = [dataclasses.replace(plane, learning_rate=0.0) for plane in planes]
        free = dataclasses.replace(config, hash_grid_configs=free_grids(planes), max_iter=self._left)
        self._engine = self._created(new_model(free, material), free)
        self._encoded = False
        self.name, self.chunk = self._engine.name, self._engine.chunk

    @property
    def _left(self) -> int:
        """Iterations before the encoding."""
        return max(self._config.max_iter - self._tuned, 1)

    def _created(self, model: NeuralTexture, config: Config) -> Engine:
        return create_engine(model, self._material, Schedule(config), CPU)

    def step(self, n: int) -> float:
        """See engine.protocol.Engine."""
        loss = 0.0
        for stop in (min(self._left, self.iteration + n), self.iteration + n):
            if stop > self.iteration:
                loss = self._engine.step(stop - self.iteration)
                self.iteration = stop
            if self.iteration == self._left and not self._encoded:
                self.sync()
                tuning = dataclasses.replace(self._config, hash_grid_configs=self._frozen, max_iter=self._tuned,
                                             lr_decay_start=0.0)  # fmt: skip
                self._engine, self._encoded = self._created(self.model, tuning), True
        return loss

    @torch.no_grad()
    def sync(self) -> None:
        """See engine.protocol.Engine."""
        self._engine.sync()
        if self._encoded:
            return
        free: NeuralTexture = self._engine.model
        for mine, theirs in zip(self.model.weights, free.weights):
            mine.copy_(theirs)
        for index, grid in enumerate(self.model.grids):
            own = range(blocks.FEATURES * index, blocks.FEATURES * (index + 1))
            levels = [encode_level(torch.cat([free.level(feature, level) for feature in own], dim=2).numpy())
                      for level in range(grid.n_levels)]  # fmt: skip
            load_blocks(self.model, index, levels, f"plane {index}")
