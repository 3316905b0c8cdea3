"""Readers for `python -m tests.fuzz`: files of grids, packed and of blocks."""

from __future__ import annotations

import contextlib
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError
from dataset import Material
from formats.block_textures import grid_blocks, load_blocks, read_blocks
from formats.dds import HEADER_BYTES, read_dds, read_dds_info
from formats.dds_layouts import LAYOUTS, codes_from_textures, grid_file_names, grid_format, layout_problem
from formats.ktx2 import ktx2_from_dds
from formats.textures import encoded_grids, write_export
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.fuzz.base import Reader
from tests.fuzz.inputs import mutate_bytes
from tests.support.bc1_decoders import decode_bc1
from tests.support.exports import make_model
from tests.support.reference_blocks import astc_block


def small_material() -> Material:
    random_ = np.random.default_rng(4)
    shapes = {"diffuse": 3, "normal": 3, "roughness": 1}
    return Material.from_arrays(
        "made", {name: random_.integers(0, 256, (10, 12, count), dtype=np.uint8) for name, count in shapes.items()}
    )


class DdsReader(Reader):
    """A DDS file: its levels, its codes in each layout, and its header alone."""

    def prepare(self) -> None:
        self.seeds = []
        material = small_material()
        for quantize_bits, save_bits, layout in (
            (8, 64, "packed"),
            (4, 16, "packed"),
            (2, 8, "packed"),
            (4, 32, "bgra4"),
            (2, 16, "filterable"),
            (0, 4, "packed"),
        ):
            grid = GridSpec(6, 2, quantize_bits, save_bits, storage="packed" if quantize_bits else "bc1")
            model = make_model([grid], DecoderSpec(2, 16, 1), material)
            stage = self.folder / "seeds"
            stage.mkdir(exist_ok=True)
            write_export(stage, model, material.hashed_record, None, layout)
            self.seeds += [(grid, layout, path.read_bytes()) for path in sorted(stage.glob("*.dds"))]
            shutil.rmtree(stage)

    def run(self, rng: random.Random) -> None:
        grid, layout, seed = rng.choice(self.seeds)
        payload = seed if rng.random() < 0.02 else mutate_bytes(seed, rng, [payload for _, _, payload in self.seeds])
        path = self.write(f"{rng.randrange(4)}.dds", payload)
        refusals = []
        try:
            read_dds_info(path)
        except UserError as error:
            refusals.append(error)
        if rng.random() < 0.5:
            grid = rng.choice(self.seeds)[0]
        if grid.compressed:
            levels = read_blocks(path, grid)
            load_blocks(NeuralTexture([grid], DecoderSpec(2, 16, 1), 3), 0, levels, str(path))
        else:
            self.read_codes(grid, rng.choice(LAYOUTS) if rng.random() < 0.3 else layout, path)
        if refusals:
            raise refusals[0]

    def read_codes(self, grid: GridSpec, layout: str, path: Path) -> None:
        texture = read_dds(path)
        if layout_problem([grid], layout) is None:
            grid_format(grid, layout)
            codes_from_textures(grid, [texture] * len(grid_file_names(0, grid, layout)), [str(path)] * 9, layout)


def damage_blocks(payload: bytes, rng: random.Random) -> bytes:
    """A DDS file of blocks with some of them replaced: end points in the order of three colours, or equal, and any
    indices, of which 3 is then black."""
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 2, 5))):
        low, high = sorted((rng.randrange(1 << 16), rng.choice((rng.randrange(1 << 16), 0, 0xFFFF))))
        ends = rng.choice(((low, high), (high, low), (low, low)))
        every = rng.choice((0, 0x55555555, 0xAAAAAAAA, 0xFFFFFFFF))  # 0, 1, 2 or 3 in all texels
        indices = rng.choice((every, 3 << 2 * rng.randrange(16), rng.randrange(1 << 32)))
        place = HEADER_BYTES + 8 * rng.randrange((len(data) - HEADER_BYTES) // 8)
        data[place : place + 8] = struct.pack("<2HI", *ends, indices)
    return bytes(data)


def damage_header(payload: bytes, rng: random.Random) -> bytes:
    """A DDS file of blocks with another size, number of mips or format, and sometimes the bytes that these ask for."""
    data = bytearray(payload)
    height, width, mips = (rng.choice((1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 16384)) for _ in range(3))
    fields = {12: height, 16: width, 28: mips, 128: rng.choice((70, 71, 72, 74, 77, 80, 83, 98, 28, 61))}
    for place in rng.sample(sorted(fields), rng.choice((1, 1, 2, 3))):
        data[place : place + 4] = fields[place].to_bytes(4, "little")
    height, width, mips = (int.from_bytes(data[place : place + 4], "little") for place in (12, 16, 28))
    if rng.random() < 0.6 and max(height, width, mips) < 100:
        sides = [(max(height >> mip, 1), max(width >> mip, 1)) for mip in range(mips)]
        size = HEADER_BYTES + sum(8 * -(-h // 4) * -(-w // 4) for h, w in sides)
        data = bytearray((bytes(data) * 100)[:HEADER_BYTES]) + (bytes(data)[HEADER_BYTES:] * 100)[: size - HEADER_BYTES]
    return bytes(data)


class BlockReader(Reader):
    """A DDS file of BC1 blocks: refused, or read as the decoder of tests/support reads it and written again as it was;
    and as KTX2."""

    shapes = ((1, 1), (2, 2), (3, 1), (5, 1), (7, 1), (6, 2), (12, 3), (16, 3), (20, 1))

    def prepare(self) -> None:
        material = small_material()
        self.seeds = []
        for side, levels in self.shapes:
            grid = GridSpec(side, levels, 0, 4, storage="bc1")
            [(_, payload)] = encoded_grids(make_model([grid], DecoderSpec(2, 16, 1), material))
            self.seeds.append((grid, payload))

    def run(self, rng: random.Random) -> None:
        grid, seed = rng.choice(self.seeds)
        kind = rng.random()
        if kind < 0.45:
            payload = damage_blocks(seed, rng)
        elif kind < 0.65:
            payload = damage_header(seed, rng)
        elif kind < 0.75:
            cut = 8 * rng.choice((1, 1, 2, 9))
            payload = rng.choice((seed[:-cut], seed + seed[-cut:], seed[:HEADER_BYTES], seed[: HEADER_BYTES - cut]))
        else:
            payload = seed if kind > 0.97 else mutate_bytes(seed, rng, [other for _, other in self.seeds])
        path = self.write(f"{rng.randrange(4)}.dds", payload)
        with contextlib.suppress(UserError):
            ktx2_from_dds(payload)
        self.check_read(grid, path, payload, damaged_header=payload[:HEADER_BYTES] != seed[:HEADER_BYTES])

    def check_read(self, grid: GridSpec, path: Path, payload: bytes, damaged_header: bool) -> None:
        """Raises: AssertionError for a file that is read as something else, or is refused without a reason."""
        model = NeuralTexture([grid], DecoderSpec(2, 16, 1), 3)
        sizes = grid.mip_sizes[: grid.n_levels]
        counts = [grid.texels_of(size) // 16 for size in sizes]
        stored = np.frombuffer(payload[HEADER_BYTES:], np.uint8, len(payload[HEADER_BYTES:]) // 8 * 8).reshape(-1, 8)
        trained = stored[: sum(counts)]
        first, second = trained.view("<u2")[:, 0], trained.view("<u2")[:, 1]
        four_colours = (first > second) | ((first == second) & (trained[:, 4:] == 0).all(axis=1))
        whole = len(payload) == HEADER_BYTES + 8 * (grid.stored_texels // 16)
        try:
            levels = read_blocks(path, grid)
            load_blocks(model, 0, levels, str(path))
        except UserError as error:
            if whole and four_colours.all() and not damaged_header:
                raise AssertionError(f"refused a file that is right: {error}") from error
            raise
        if not (whole and four_colours.all()):
            raise AssertionError("accepted a file that is not right")
        features = model._fetch(0, torch.arange(grid.n_texels), None).detach().numpy().reshape(-1, 16, 3)
        coarsest_first = np.concatenate(np.split(trained, np.cumsum(counts)[:-1])[::-1])
        shown = np.concatenate([decode_bc1(block[None, None], "exact").reshape(1, 16, 3) for block in coarsest_first])
        if np.abs((features + 0.5) * 255 - shown).max() > 1e-3:
            raise AssertionError("read as something else")
        if any((one != other).any() for one, other in zip(grid_blocks(model, 0), levels[::-1])):
            raise AssertionError("written again as something else")


class AstcReader(Reader):
    """A KTX2 file of ASTC 6x6 blocks: refused, or read as the decoder of tests/support reads it, and written again with
    the same texels: some quints have two spellings."""

    shapes = ((1, 1), (7, 1), (14, 2), (12, 3))

    def prepare(self) -> None:
        self.seeds = []
        for side, levels in self.shapes:
            grid = GridSpec(side, levels, 0, 6, storage="astc6x6")
            [(_, payload)] = encoded_grids(make_model([grid], DecoderSpec(2, 16, 1), small_material()))
            self.seeds.append((grid, payload))

    def run(self, rng: random.Random) -> None:
        grid, seed = rng.choice(self.seeds)
        kind, data = rng.random(), bytearray(seed)
        if kind < 0.5:  # bits of blocks, most of which may be anything
            for _ in range(rng.choice((1, 1, 2, 5))):
                data[-1 - rng.randrange(16 * (grid.stored_texels // 36))] ^= 1 << rng.randrange(8)
        elif kind < 0.7:
            place = 12 + 4 * rng.randrange(17 + 6 * len(grid.mip_sizes))  # of the header and its index of levels
            data[place : place + 4] = rng.choice((0, 1, 2, 7, 16, 0x7FFFFFFF)).to_bytes(4, "little")
        elif kind < 0.97:
            data = mutate_bytes(seed, rng, [other for _, other in self.seeds])
        path = self.write(f"{rng.randrange(4)}.ktx2", bytes(data))
        model = NeuralTexture([grid], DecoderSpec(2, 16, 1), 3)
        try:
            levels = read_blocks(path, grid)
            load_blocks(model, 0, levels, str(path))
        except UserError as error:
            if bytes(data) == seed:
                raise AssertionError(f"refused a file that is right: {error}") from error
            raise
        features = model._fetch(0, torch.arange(grid.n_texels), None).detach().numpy().reshape(-1, 36, 3)
        shown = np.concatenate([_astc_texels(level) for level in levels])
        if np.abs((features + 0.5) * 255 - shown).max() > 1e-3:
            raise AssertionError("read as something else")
        again = np.concatenate([_astc_texels(level) for level in grid_blocks(model, 0)[: grid.n_levels][::-1]])
        if (again != shown).any():
            raise AssertionError("written again as something else")


def _astc_texels(level: np.ndarray) -> np.ndarray:
    """(blocks, 36, 3), 0 to 255."""
    return np.stack([astc_block(block.tobytes()).reshape(36, 3) for block in level])
