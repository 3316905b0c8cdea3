"""bench.decode of decoders in whole numbers: counts by hand, and numpy's texels to the last bit in GLSL, HLSL and WGSL.

The SPIR-V of GLSL and HLSL is executed by bench/spirv.py.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from bench import decode_work
from bench.decode_device import LodDecoder
from bench.decode_shader import compile_decoder, count_operations, decoder_source, shader_textures, unorm
from bench.spirv import Invocation, Module
from describe import numpy_decoder
from formats.textures import write_textures
from maps.record import MaterialRecord
from shaders.device import NoDevice
from shaders.weights import weight_bytes
from tests.support.shader_compilers import compile_with_glslang

needs_glslang = pytest.mark.skipif(not shutil.which("glslangValidator"), reason="needs glslangValidator: apt install "
                                   "glslang-tools")  # fmt: skip
OPTIMISE = [False] + [True] * bool(shutil.which("spirv-opt"))


@needs_glslang
@pytest.mark.parametrize("optimise", OPTIMISE)
@pytest.mark.parametrize("form", ["reference", "learned"])
@pytest.mark.parametrize("network", [(0, 16), (1, 24), (2, 18)], ids=str)
def test_whole_numbers_by_hand(form, network, optimise, tmp_path):
    """What numpy decodes of the files to the last bit, with dot products and without."""
    model = decode_work.make_model(form, 32, network, 8)
    write_textures(tmp_path, model)
    texture = numpy_decoder.read_texture(tmp_path, model.form)
    source = decoder_source(model, (32, 32), "glsl", "packed", 8)
    programs = compile_decoder(source, optimise), compile_decoder(source.replace("#ifdef NT_DOTS", "#if 0"), optimise)
    for lod in (0, 1):
        side = 32 >> lod
        want = numpy_decoder.decode(texture, lod, side, side)
        for x, y in ((5, 2), (0, side - 1), (11, 11)):
            uv = (x + 0.5) / side, (y + 0.5) / side
            runs = [count_operations(binary, model, "packed", uv, float(lod), 8) for binary in programs]
            for _, found in runs:
                assert np.float32(found).tolist() == want[y, x].tolist()
    counts, plain = (counts for counts, _ in runs)
    blocks = [(-(-rows // 4), -(-inputs // 4)) for rows, inputs in model.form.layer_sizes]
    assert counts["dot"] == sum(4 * rows * words for rows, words in blocks) and not plain.get("dot")
    constants = 8 * network[0] + sum(8 * rows for rows, _ in blocks)
    assert counts["weights"] == plain["weights"] == counts["dot"] + constants
    assert plain["integer"] - counts["integer"] > 8 * counts["dot"]


HLSL_ENTRY = """
RWStructuredBuffer<float4> Texel : register(u9);

[numthreads(1, 1, 1)]
void main()
{
    NtMaterial m = ntDecode(Texel[0].xy, Texel[0].z);
    Texel[1] = float4(m.diffuse, m.normal.x);
    Texel[2] = float4(m.normal.yz, m.roughness, m.occlusion);
    Texel[3] = float4(m.metallic, m.specular, m.displacement, 0.0);
}
"""


@needs_glslang
@pytest.mark.parametrize("form", ["reference", "learned"])
def test_whole_numbers_in_hlsl(form, tmp_path):
    """The same of the HLSL decoder, as glslang reads it: without dot products."""
    model = decode_work.make_model(form, 32, (2, 18), 8)
    write_textures(tmp_path, model)
    texture = numpy_decoder.read_texture(tmp_path, model.form)
    path = tmp_path / "a.comp"
    path.write_text(decoder_source(model, (32, 32), "hlsl", "packed", 8) + HLSL_ENTRY)
    module = Module(compile_with_glslang("hlsl", path, "comp").read_bytes())
    table = np.frombuffer(weight_bytes(model, precision=8), "<i4").reshape(-1, 4).tolist()
    for lod, x, y in ((0, 5, 2), (1, 3, 15), (4, 1, 0)):
        side = 32 >> lod
        want = numpy_decoder.decode(texture, lod, side, side)[y, x]
        query = [(x + 0.5) / side, (y + 0.5) / side, float(lod), 0.0]
        resources = {name: unorm(levels) for name, levels in shader_textures(model, "packed").items()}
        resources |= {"ntWeightTable": [table], "Texel": [[query, *([0.0] * 4 for _ in range(3))]]}
        run = Invocation(module, resources)
        run.run()
        assert np.float32(np.ravel(run.buffer("Texel")[0][1:])[:11]).tolist() == want.tolist()


@pytest.mark.parametrize("form", ["reference", "learned"])
def test_whole_numbers_of_every_lod(form, tmp_path):
    """A material of the size of data/test through wgpu: coarse LODs, and rows of the fine ones."""
    model = decode_work.make_model(form, 1024, (2, 32), 8)
    write_textures(tmp_path, model)
    texture = numpy_decoder.read_texture(tmp_path, model.form)
    try:
        decoder = LodDecoder(model, MaterialRecord("made", 1024, 1024, ()), 8)
    except NoDevice as error:
        pytest.skip(str(error))
    for lod in range(model.num_lods):
        side = 1024 >> lod
        rows = slice(side // 3, side // 3 + 17) if lod < 3 else slice(None)
        got = decoder(model, lod, side, side, rows=rows).numpy()
        np.testing.assert_array_equal(got, numpy_decoder.decode(texture, lod, side, side, rows))
