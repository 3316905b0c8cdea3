"""bench.decode's part on the shaders of --on_load: what is counted is what decodes, and makes blocks."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from bench.cost import pixel_cost
from bench.decode_load import (
    LOAD_COLUMNS,
    TEXEL,
    count_block,
    count_decode,
    measure_load,
    sample_block,
    whole_material,
)
from bench.decode_work import make_model
from engine.cpu.decoder import decode_lod
from metrics.decoded_maps import decode_maps
from shaders.on_load import targets_of
from tests.support.texture_files import independent_decode

pytestmark = pytest.mark.skipif(not shutil.which("glslangValidator"), reason="needs glslangValidator: apt install "
                                "glslang-tools")  # fmt: skip
OPTIMISE = [False] + [True] * bool(shutil.which("spirv-opt"))


@pytest.mark.parametrize("optimise", OPTIMISE)
@pytest.mark.parametrize("form", ["reference", "learned", "bc1_learned"])
def test_what_is_counted_decodes_the_texel(form, optimise):
    model, (x, y) = make_model(form, 64, (1, 16)), TEXEL
    counts, words = count_decode(model, optimise)
    material = whole_material((64, 64))
    maps = decode_maps(model, material, 0, decode_lod)
    for (_, places), word in zip(targets_of(material).items(), words):
        texel = np.frombuffer(np.uint32(word).tobytes(), np.uint8).astype(int)
        for name, part in places.items():
            assert np.abs(texel[part] - maps[name][y, x]).max() <= 1, name
    cost = pixel_cost(model.form)
    assert counts["fetch"] + counts.get("sample", 0) == cost["texture_fetches"]
    assert counts["weights"] == cost["multiply_adds"]


@pytest.mark.parametrize("optimise", OPTIMISE)
@pytest.mark.parametrize("form", ["bc7", "bc5", "bc4"])
def test_what_is_counted_makes_the_block(form, optimise):
    texels = sample_block() // 8 * 4 + 60  # noise of little contrast
    counts, words = count_block(texels, form, optimise)
    channels = {"bc7": 4, "bc5": 2, "bc4": 1}[form]
    decoded = independent_decode("bc7 with alpha" if form == "bc7" else form, np.uint32(words).tobytes(), 4, 4)
    assert np.abs(decoded.astype(int) - texels[..., :channels]).mean() < {"bc7": 13, "bc5": 4, "bc4": 4}[form]
    assert counts["weights"] == 16 and len(words) == {"bc7": 4, "bc5": 4, "bc4": 2}[form]


def test_rows_are_per_texel():
    rows = measure_load({"reference": make_model("reference", 64, (1, 16))})
    assert [(row["shader"], row["form"]) for row in rows] == [
        ("on_load", "reference"), ("blocks", "BC7"), ("blocks", "BC5"), ("blocks", "BC4"),
    ]  # fmt: skip
    assert [row["bytes_read"] for row in rows[1:]] == [4, 4, 4]
    assert [row["bytes_written"] for row in rows] == [16, 1, 1, 0.5]
    for row in rows:
        assert row["part"] == "load" and all(key in row for _, key, _ in LOAD_COLUMNS)
    assert rows[1]["float"] > rows[2]["float"] > rows[3]["float"] > 0
