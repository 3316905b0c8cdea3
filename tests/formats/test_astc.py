"""--latents_format astc: BC1 blocks as ASTC 4x4 blocks, read by an independent decoder (texture2ddecoder)."""

import numpy as np
import pytest
import torch

import blocks
import export
from common.errors import run_command
from formats import bc1 as bc1_file
from formats.astc import BLOCK_BYTES, blocks_from_bc1
from formats.textures import write_export
from shape import DecoderSpec, GridSpec
from tests.support.bc1_decoders import decode_bc1
from tests.support.exports import make_model
from tests.support.shader_cases import bc1, uploads
from tests.support.texture_files import ktx2_levels

texture2ddecoder = pytest.importorskip("texture2ddecoder", reason="reads ASTC; in requirements-test.txt")

ACROSS = 32  # blocks
STEP = 1 / 255
# 1/3 as 21/64 is off by 255 * (1/3 - 21/64) = 1.33 steps at most, the decoder's own rounding by 1/2 (seen: 1.67)
LARGEST_ERROR = (255 * (1 / 3 - 21 / 64) + 0.5) * STEP


def random_parameters() -> blocks.Parameters:
    """Blocks with end points in any order, and some whose end points are equal."""
    parameters = torch.rand(ACROSS**2, blocks.BC1.parameters, generator=torch.Generator().manual_seed(0)) - 0.5
    parameters[:8, blocks.FEATURES : blocks.WEIGHT] = parameters[:8, : blocks.FEATURES]
    return parameters


def decoded(astc: np.ndarray) -> np.ndarray:
    """RGBA of each texel of each block, (blocks, 16, 4) in 0..1."""
    side = ACROSS * blocks.BC1.side
    bgra = np.frombuffer(texture2ddecoder.decode_astc(astc.tobytes(), side, side, 4, 4), np.uint8)
    texels = bgra.reshape(ACROSS, blocks.BC1.side, ACROSS, blocks.BC1.side, 4).transpose(0, 2, 1, 3, 4)
    return texels.reshape(-1, blocks.BC1.texels, 4)[..., [2, 1, 0, 3]] * STEP


def test_an_independent_decoder_reads_the_features():
    parameters = random_parameters()
    astc = blocks_from_bc1(bc1_file.encode(parameters))
    assert astc.shape == (ACROSS**2, BLOCK_BYTES)
    texels = decoded(astc)
    places = [torch.full((len(parameters),), place) for place in range(blocks.BC1.texels)]
    features = [blocks.block_features(blocks.BC1, parameters, place) for place in places]
    wanted = torch.stack(features, dim=1).numpy() + 0.5
    assert np.abs(texels[..., :3] - wanted).max() < LARGEST_ERROR + 1e-6
    assert (texels[..., 3] == 1).all()


def test_end_points_are_exact():
    parameters = random_parameters()
    parameters[:, blocks.WEIGHT :] = (parameters[:, blocks.WEIGHT :] > 0).float() - 0.5  # places 0 and 1
    bc1 = bc1_file.encode(parameters)
    side = ACROSS * blocks.BC1.side
    bgra = np.frombuffer(texture2ddecoder.decode_bc1(bc1.tobytes(), side, side), np.uint8)
    wanted = bgra.reshape(ACROSS, 4, ACROSS, 4, 4).transpose(0, 2, 1, 3, 4).reshape(-1, 16, 4)[..., 2::-1] * STEP
    assert np.abs(decoded(blocks_from_bc1(bc1))[..., :3] - wanted).max() < 1e-9


def test_three_colour_blocks_are_refused():
    with pytest.raises(ValueError, match="three colours"):
        blocks_from_bc1(np.array([[0, 0, 255, 255, 255, 0, 0, 0]], np.uint8))


def test_files_of_an_export(make_material, tmp_path):
    """Every mip of the grids of blocks, padded ones too, within the error of the weights; words are left alone."""
    material, folder = make_material(22, 14), tmp_path / "exported"
    folder.mkdir()
    grids = (bc1(20, 3), GridSpec(6, 2, 4, 16), bc1(10, 1))
    write_export(folder, make_model(grids, DecoderSpec(2, 16, 1), material), material.hashed_record)
    before = {path.name for path in folder.iterdir()}
    command = ["--load_dir", str(folder), "--out_dir", str(folder), "--latents_format", "astc"]
    assert run_command(lambda: export.main(command)) == 0
    assert {path.name for path in folder.iterdir()} - before == {"hash_grid_0_astc.ktx2", "hash_grid_2_astc.ktx2"}
    for index, side in ((0, 20), (2, 10)):
        written = (folder / f"hash_grid_{index}_astc.ktx2").read_bytes()
        header, levels = ktx2_levels(written, len(grids[index].mip_sizes))
        stored = uploads((folder / f"hash_grid_{index}.dds").read_bytes(), as_blocks=True)
        assert header["vk"] == 157 and len(levels) == len(stored) == len(grids[index].mip_sizes)
        for mip, (level, blocks_of_level) in enumerate(zip(levels, stored)):
            size = max(side >> mip, 1)
            texels = np.frombuffer(texture2ddecoder.decode_astc(bytes(level), size, size, 4, 4), np.uint8)
            found = texels.reshape(size, size, 4)[..., 2::-1].astype(float)
            wanted = decode_bc1(blocks_of_level, "exact")[:size, :size]
            assert np.abs(found - wanted).max() < LARGEST_ERROR / STEP + 1e-6


def test_words_alone_are_refused(make_material, tmp_path, capsys):
    material, folder = make_material(8, 8), tmp_path / "words"
    folder.mkdir()
    write_export(folder, make_model([GridSpec(4, 1, 8, 32)], DecoderSpec(2, 16, 1), material), material.hashed_record)
    command = ["--load_dir", str(folder), "--out_dir", str(tmp_path / "out"), "--latents_format", "astc"]
    assert run_command(lambda: export.main(command)) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "--latents bc1" in message
