"""--latents_format rgba8: the grids of BC1 blocks as R8G8B8A8 textures, for importers that encode blocks themselves."""

from __future__ import annotations

import numpy as np
import pytest

from formats.textures import read_export, write_export
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.bc1_decoders import decode_bc1
from tests.support.exports import make_model, run
from tests.support.shader_cases import bc1, uploads

GRIDS = (bc1(20, 3), GridSpec(6, 2, 4, 16), bc1(10, 1), bc1(64, 7))


@pytest.fixture
def exported(make_material, tmp_path):
    material = make_material(22, 14)
    (tmp_path / "exported").mkdir()
    write_export(tmp_path / "exported", make_model(GRIDS, DecoderSpec(2, 16, 1), material), material.hashed_record)
    return tmp_path / "exported"


def test_they_hold_the_texels_of_the_blocks(exported, tmp_path):
    """Every mip, thirds to the nearest, opaque; they stand beside an export, which stays what it was."""
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert run("--load_dir", exported, "--out_dir", exported, "--latents_format", "rgba8") == 0
    added = {path.name for path in exported.iterdir()} - set(before)
    assert added == {f"hash_grid_{index}_rgba8.dds" for index in (0, 2, 3)}
    assert {name: (exported / name).read_bytes() for name in before} == before
    for index in (0, 2, 3):
        found = reference.parse_dds((exported / f"hash_grid_{index}_rgba8.dds").read_bytes())
        blocks = uploads(before[f"hash_grid_{index}.dds"], as_blocks=True)
        assert found["dxgiFormat"] == 28 and len(found["levels"]) == len(blocks)
        for level, stored in zip(found["levels"], blocks):
            want = decode_bc1(stored, "nearest")[: len(level), : len(level)]
            np.testing.assert_array_equal(level[..., :3], want)
            assert (level[..., 3] == 255).all()
    read_export(exported)


def test_an_encoder_finds_the_blocks_again(exported, tmp_path):
    """Nearly: random blocks to an 8-bit step or two; those of a trained material to half a step."""
    encoder = pytest.importorskip("ispc_texcomp", reason="not installed (pip install -r requirements/codecs.txt)")
    assert run("--load_dir", exported, "--out_dir", tmp_path / "out", "--latents_format", "rgba8") == 0
    image = reference.parse_dds((tmp_path / "out" / "hash_grid_3_rgba8.dds").read_bytes())["levels"][0]
    surface = encoder.RGBASurface(np.ascontiguousarray(image).tobytes(), 64, 64, 256)
    blocks = np.frombuffer(encoder.compress_blocks_bc1(surface), np.uint8)[: 64 * 64 // 2].reshape(16, 16, 8)
    error = decode_bc1(blocks, "nearest") - image[..., :3]
    assert np.sqrt((error**2).mean()) < 2 and image[..., :3].std() > 40


def test_words_alone_are_refused(make_material, tmp_path, capsys):
    material, folder = make_material(8, 8), tmp_path / "words"
    folder.mkdir()
    write_export(folder, make_model([GridSpec(4, 1, 8, 32)], DecoderSpec(2, 16, 1), material), material.hashed_record)
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", "--latents_format", "rgba8") == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "--latents bc1" in message and "--dds_layout rgba8" in message
    assert not list((tmp_path / "out").glob("*.dds"))
