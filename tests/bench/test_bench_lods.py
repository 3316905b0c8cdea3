"""bench.lods: the filtered source by hand, and the command on a run."""

from __future__ import annotations

import json

import pytest
import torch

from bench import lods, lods_work
from common.errors import UserError
from tests.support.runs import quick, save_maps


@pytest.mark.parametrize(("width", "height"), [(8, 8), (7, 5), (1, 4)])
def test_the_source_at_texel_centres_is_the_source(width, height, make_material):
    material = make_material(width, height)
    for lod, (w, h) in enumerate(material.lod_sizes):
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        uv = torch.stack(((x.reshape(-1) + 0.5) / w, (y.reshape(-1) + 0.5) / h), dim=1)
        want = material.texels(lod)[..., material.present_channels].reshape(w * h, -1)
        assert torch.allclose(lods_work.bilinear(material, lod, uv), want, atol=1e-5)
        assert torch.allclose(lods_work.blended(material, float(lod), uv), want, atol=1e-5)


def test_between_texels_and_lods_by_hand(make_material):
    material = make_material(8, 4)
    texels = [material.texels(lod)[..., material.present_channels] for lod in range(2)]
    uv = torch.tensor([[0.0, 2.5 / 4]])  # on the border between the last and the first column, in the middle of row 2
    fine = (texels[0][2, 7] + texels[0][2, 0]) / 2
    assert torch.allclose(lods_work.bilinear(material, 0, uv)[0], fine, atol=1e-6)
    coarse = 0.25 * (texels[1][0, 3] + texels[1][0, 0]) / 2 + 0.75 * (texels[1][1, 3] + texels[1][1, 0]) / 2
    assert torch.allclose(lods_work.blended(material, 0.3, uv)[0], 0.7 * fine + 0.3 * coarse, atol=1e-6)


def test_the_command_on_a_run(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 16, 8)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 30)
    capsys.readouterr()
    assert lods.main([str(run), "--out", str(tmp_path / "bench")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "0.5:" in lines[0] and "anywhere" in lines[1]
    entry = json.loads((tmp_path / "bench" / "lods.json").read_text())["entries"][0]
    assert all(5 < psnr < 60 for values in (entry["lods"], entry["anywhere"]) for psnr in values.values())
    with pytest.raises(UserError, match="no such folder"):
        lods.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "bench")])
