"""Compute shaders of export.py --on_load: what they decode is what --images writes, in every language they compile."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import export
from common.errors import run_command
from engine.cpu.decoder import decode_lod
from formats.options import ON_LOAD_LANGUAGES, SHADER_LANGUAGES
from formats.textures import ExportedTexture
from maps.record import MaterialRecord
from metrics.decoded_maps import decode_maps
from shaders import generate
from shaders.on_load import SYNTAX, blocks_source, on_load_source, pack_parameters, targets_of
from tests.support.on_load_cases import CASES, LAYOUTS, make_export
from tests.support.shader_compilers import compile_with_dxc, compile_with_glslang, slangc_of_the_committed_files
from tests.support.shader_hosts import wgpu_device
from transcode import gpu
from transcode.gpu import GpuDecoder, device_for_textures

STORAGES = [("baked", 32), ("buffer", 16)]  # of the weights, and bits of the network's products


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> dict[str, ExportedTexture]:
    return {name: make_export(case, tmp_path_factory.mktemp(name)) for name, case in (CASES | LAYOUTS).items()}


@pytest.fixture(scope="module")
def device():
    wgpu_device()  # says what is missing
    return device_for_textures()


# --- what is committed and written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", generate.ON_LOAD_TARGETS)
@pytest.mark.parametrize("name", [generate.ON_LOAD, generate.BLOCKS])
def test_committed_translations_are_up_to_date(name, target):
    slangc = slangc_of_the_committed_files()
    path = generate.GENERATED / f"{name}.{target}"
    made = generate.generated_files()[path](slangc)
    assert made == path.read_text(encoding="utf-8"), f"{path.name}: run python shaders/generate.py"


def run(*words: object) -> int:
    return run_command(lambda: export.main([str(word) for word in words]))


def test_command_writes_both_beside_the_decoders(shipped, tmp_path, capsys):
    flags = ["--shader", "wgsl,hlsl", "--weights", "buffer", "--on_load"]
    assert run("--load_dir", shipped[0], "--out_dir", tmp_path / "out", *flags) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"decoder.wgsl", "on_load.wgsl", "blocks.wgsl", "on_load.hlsl", "blocks.hlsl"}
    assert "on_load.hlsl" in capsys.readouterr().out
    text = (tmp_path / "out" / "on_load.wgsl").read_text()
    assert (tmp_path / "out" / "decoder.wgsl").read_text() in text  # a whole shader
    assert "0  albedo: R, G, B diffuse (sRGB)\n" in text and "1  orm: G roughness\n" in text
    assert "(0, 0, 12, 10, 0, 0, 12, 120), 2 x 2 workgroups and 960 bytes" in text


@pytest.mark.parametrize("flags", [["--on_load"], ["--shader", "essl,wgsl", "--on_load"],
                                   ["--shader", "metal", "--on_load"]])  # fmt: skip
def test_languages_without_compute_shaders_are_refused(flags, shipped, tmp_path, capsys):
    assert run("--load_dir", shipped[0], "--out_dir", tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "--on_load: expected --shader" in error and not (tmp_path / "out").exists()


def test_every_language_is_either_written_or_refused():
    assert set(ON_LOAD_LANGUAGES) == set(SYNTAX) == set(generate.ON_LOAD_TARGETS) <= set(SHADER_LANGUAGES)


# --- compilers -------------------------------------------------------------------------------------------------------


def sources(exports: dict[str, ExportedTexture], language: str) -> dict[str, str]:
    """Every case with every storage, and the shader of blocks."""
    found = {"blocks": blocks_source(language)}
    for name, exported in exports.items():
        for weights, precision in STORAGES + [("buffer", 8)] * (exported.model.activation_bits == 8):
            how = {"layout": exported.manifest.layout, "precision": precision}
            source = on_load_source(exported.model, exported.manifest.material, language, weights, **how)
            found[f"{name}_{weights}_{precision}"] = source
    return found


@pytest.mark.parametrize("language", ["hlsl", "glsl"])
def test_glslang_and_the_validator_take_them(language, exports, tmp_path):
    validator = shutil.which("spirv-val")
    for name, source in sources(exports, language).items():
        (tmp_path / name).write_text(source)
        module = compile_with_glslang(language, tmp_path / name, "comp")
        if validator:
            done = subprocess.run([validator, "--target-env", "vulkan1.1", module], capture_output=True, text=True)
            assert done.returncode == 0, name + done.stdout + done.stderr


HLSL = ["all_baked_32", "blocks_baked_32", "filterable_buffer_16", "integers_buffer_8", "blocks"]


@pytest.mark.parametrize("name", HLSL)
def test_dxc_takes_the_hlsl(name, exports, tmp_path):
    path, source = tmp_path / "shader.hlsl", sources(exports, "hlsl")[name]
    path.write_text(source)
    done = compile_with_dxc(path, stage="compute")
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr
    path.write_text(source.replace("void ntStore(int index, uint word)", "void ntStore(int index)"))
    assert compile_with_dxc(path, stage="compute").returncode != 0


# --- what they decode ------------------------------------------------------------------------------------------------


def worst(exported: ExportedTexture, decoder: GpuDecoder, lod: int) -> int:
    """The largest difference to what --images writes, in codes of 8 bits, of all maps of a LOD."""
    texels, material = decoder.decode(lod), exported.manifest.material
    maps = decode_maps(exported.model, material, lod, decode_lod)
    assert texels.shape[1:] == (*next(iter(maps.values())).shape[:2], 4)
    places = [(index, name, part) for index, held in enumerate(decoder.targets.values()) for name, part in held.items()]
    assert sorted(name for _, name, _ in places) == sorted(maps)
    return max(int(np.abs(texels[index][..., part].astype(int) - maps[name]).max()) for index, name, part in places)


@pytest.mark.parametrize("name", CASES)
def test_every_lod_is_what_images_are_written_of(name, exports, device):
    exported = exports[name]
    decoder = GpuDecoder(device, exported.model, exported.manifest.material)
    assert max(worst(exported, decoder, lod) for lod in range(exported.model.num_lods)) <= 1


NEUTRAL = {  # target -> what is in R, G, B, A where a material lacks the map
    "albedo": (255, 255, 255, 255), "normal": (None, None, None, 255), "orm": (255, 255, 0, 255),
    "emissive": (None, None, None, 255), "others": (0, 0, 0, 255),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_target_lacks_is_neutral(name, exports, device):
    exported = exports[name]
    decoder = GpuDecoder(device, exported.model, exported.manifest.material)
    for (target, maps), texels in zip(decoder.targets.items(), decoder.decode(0)):
        held = {channel for part in maps.values() for channel in range(4)[part]}
        for channel in set(range(4)) - held:
            assert (texels[..., channel] == NEUTRAL[target][channel]).all(), (target, channel)


def test_targets_are_those_of_engines(exports):
    found = targets_of(exports["all"].manifest.material)
    assert found == {
        "albedo": {"diffuse": slice(0, 3), "opacity": slice(3, 4)}, "normal": {"normal": slice(0, 3)},
        "orm": {"occlusion": slice(0, 1), "roughness": slice(1, 2), "metallic": slice(2, 3)},
        "emissive": {"emissive": slice(0, 3)},
        "others": {"specular": slice(0, 1), "displacement": slice(1, 2), "thickness": slice(2, 3)},
    }  # fmt: skip
    assert targets_of(exports["learned"].manifest.material) == {
        "normal": {"normal": slice(0, 3)}, "orm": {"occlusion": slice(0, 1)},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["all", "blocks", "one_texel", "oblong"])
@pytest.mark.parametrize("rectangle", [(3, 2, 9, 5), (-4, -7, 17, 11), (30, 20, 70, 33), (-200, 101, 1, 1)])
def test_a_rectangle_anywhere_is_cut_out_of_the_repeated_lod(name, rectangle, exports, device):
    exported, (x, y, width, height) = exports[name], rectangle
    decoder = GpuDecoder(device, exported.model, exported.manifest.material)
    for lod in {0, exported.model.num_lods // 2, exported.model.num_lods - 1}:
        whole = decoder.decode(lod)
        rows, columns = (np.arange(first, first + count) % side for first, count, side in
                         ((y, height, whole.shape[1]), (x, width, whole.shape[2])))  # fmt: skip
        assert np.array_equal(decoder.decode(lod, rectangle), whole[:, rows][:, :, columns])


def test_rectangles_side_by_side_in_one_buffer(exports, device):
    """Pages of an atlas: first, row and layer place them, and nothing beside them is written."""
    import wgpu

    exported, usage = exports["all"], wgpu.BufferUsage
    decoder = GpuDecoder(device, exported.model, exported.manifest.material)
    whole, count = decoder.decode(0), len(decoder.targets)
    row, layer, first = 40, 40 * 12 + 5, 3
    atlas = np.full(first + count * layer, 0xABCDEF12, np.uint32)
    texels = device.create_buffer_with_data(data=atlas.tobytes(), usage=usage.STORAGE | usage.COPY_SRC)
    for left, x, width in ((0, 4, 10), (20, 30, 19)):
        parameters = pack_parameters((x, 6, width, 11, 0, first + left, row, layer))
        uniform = device.create_buffer_with_data(data=parameters, usage=usage.UNIFORM)
        group = decoder.kernel.group(1, [{"buffer": uniform}, {"buffer": texels}])
        decoder.kernel.run([decoder._bound, group], width, 11)
        words = whole.view(np.uint32)[:, 6:17, np.arange(x, x + width) % 40, 0]
        for target in range(count):
            at = first + left + target * layer + row * np.arange(11)[:, None] + np.arange(width)
            atlas[at] = words[target]
    assert np.array_equal(np.frombuffer(device.queue.read_buffer(texels), np.uint32), atlas)


MISTAKES = {  # of a case -> what is wrong, as a replacement in the WGSL
    "half a texel": ("oblong", ") + vec2<f32>(0.5f)) / vec2<f32>(size_1)", ")) / vec2<f32>(size_1)"),
    "no sRGB": ("oblong", "const NT_ENCODE_DIFFUSE: i32 = 1;", "const NT_ENCODE_DIFFUSE: i32 = 0;"),
    "no unit normals": ("learned", "const NT_NORMAL_HALF_ROOM: f32 = 0.5;", "const NT_NORMAL_HALF_ROOM: f32 = 0.0;"),
    "a constant x is turned": ("constants", "const NT_NORMAL_FREE_X: f32 = 0.0;", "const NT_NORMAL_FREE_X: f32 = 1.0;"),
    "red and blue": ("all", "(u32(16))", "(u32(0))"),
    "the wrong LOD": ("all", "f32(_S25)", "0.0"),
    "another map": ("all", "material_0.roughness", "material_0.occlusion"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_caught(what, exports, device, monkeypatch):
    name, right, wrong = MISTAKES[what]
    exported = exports[name]
    source = on_load_source(exported.model, exported.manifest.material, "wgsl", "buffer")
    head, found, tail = source.rpartition(right)
    assert found
    monkeypatch.setattr(gpu, "on_load_source", lambda *_, **more: head + wrong + tail)
    decoder = GpuDecoder(device, exported.model, exported.manifest.material)
    assert max(worst(exported, decoder, lod) for lod in range(2)) > 1


def test_a_map_in_units_of_its_own_says_so(exports):
    exported = exports["all"]
    material: MaterialRecord = exported.manifest.material
    units = {"color_space": "linear", "file_color_space": "linear", "value_range": (0.0, 50.0), "log_scale": 0.25}
    maps = tuple(replace(entry, **units) if entry.name == "emissive" else entry for entry in material.maps)
    text = on_load_source(exported.model, replace(material, maps=maps), "hlsl")
    assert "// Emissive of the file is ntFileEmissive of it, a function below." in text
    assert "emissive: R, G, B emissive\n" in text and "float3 ntFileEmissive(float3 t)" in text
