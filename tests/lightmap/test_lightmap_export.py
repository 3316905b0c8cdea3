"""Exports: every form says what the checkpoint says, and infer.py renders the same from all of them."""

from __future__ import annotations

import json
import re
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from common.errors import UserError
from common.video import write_video
from formats.dds import read_dds
from lightmap import checkpoints, infer
from lightmap.compressor import harmonics_of, time_features
from lightmap.export_latent import main as export_latent
from lightmap.exports import onnx_bytes, write_exports
from lightmap.quantised import read_npz
from lightmap.rendering import from_checkpoint, from_exports
from lightmap.shader import Decoder, own_names, shader_source, weight_bytes, weight_columns
from lightmap.siren import siren_from_state
from lightmap.translate_shader import GENERATED, SOURCE, translated
from shaders.generate import SLANG_VERSION, TARGETS, find_slangc, version_of
from shaders.languages import LANGUAGES
from tests.support.lightmap_days import tiny, trained
from tests.support.metal_host import run_metal
from tests.support.shader_hosts import Job, wgpu_device

RUNS = [("f1", 1, "png"), ("f1", 2, "png"), ("direct", 1, "png"), ("direct", 2, "png"), ("f1", 1, "npy"),
        ("basis", 1, "png"), ("basis", 2, "npy")]  # fmt: skip
HOURS = (0.0, 5.25, 12.0, 23.9)


def render(*flags) -> int:
    return infer.main([str(flag) for flag in flags])


@pytest.mark.parametrize("n", [1, 2, 1000])
@pytest.mark.timeout(300)
def test_script_onnx_and_state_agree_with_the_checkpoint(n):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnxruntime")
    folder = trained(4)
    f2 = checkpoints.load(folder / "best.ckpt").model.f2
    x = torch.rand(n, f2.sizes[0], generator=torch.Generator().manual_seed(n)) * 2 - 1
    want = f2(x).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(str(folder / "f2_ts.pt"))
    state = siren_from_state(torch.load(folder / "f2_state_dict.pt", weights_only=True))
    session = runtime.InferenceSession(str(folder / "f2.onnx"), providers=["CPUExecutionProvider"])
    onnx = torch.from_numpy(session.run(None, {"latent_and_time": x.numpy()})[0])
    for name, got in (("TorchScript", script(x)), ("state dict", state(x)), ("ONNX", onnx)):
        assert got.shape == (n, 3)
        assert (got - want).abs().max() < 1e-5, name
    with torch.no_grad():
        f2.weights[1][3, 4] += 0.01  # sabotage is seen
    assert (f2(x) - onnx).abs().max() > 1e-5


def test_without_onnx_the_rest_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    loaded = checkpoints.load(tiny("f1", 1) / "best.ckpt")
    with pytest.raises(UserError, match="requirements/lightmap"):
        onnx_bytes(loaded.model.f2)
    notes = write_exports(tmp_path, loaded.model, loaded.day)
    assert "f2.onnx is left out" in notes[0] and not (tmp_path / "f2.onnx").exists()
    assert (tmp_path / "viewer.html").exists()


@pytest.mark.parametrize(("mode", "scale", "kind"), RUNS)
def test_all_forms_render_the_same(tmp_path, mode, scale, kind):
    folder = tiny(mode, scale, kind)
    whole = from_checkpoint(folder / "best.ckpt")
    parts = from_exports(folder / "latent_map.npy", folder / "f2_state_dict.pt")
    latent = np.load(folder / "latent_map.npy")
    assert latent.shape == (9, 14, 5) and latent.dtype == np.float32
    for hours in HOURS:
        assert np.array_equal(whole.light(hours), parts.light(hours))
    if mode == "f1":
        networks = from_checkpoint(folder / "f1_f2.npz")
        assert np.array_equal(whole.light(7.7), networks.light(7.7))
        half = np.abs(from_checkpoint(folder / "f1_f2_float16.npz").encoded(7.7) - whole.encoded(7.7)).max()
        assert 0 < half < 0.05
    stored = from_exports(folder / "latent_map_q8.npz", folder / "f2_state_dict.pt")
    off = np.abs(stored.encoded(7.7) - whole.encoded(7.7)).max()
    assert off < (1e-5 if mode == "direct" else 0.1)  # a learned grid was trained in its codes


def test_export_latent_is_what_compute_latent_writes(tmp_path):
    folder = tiny("f1", 2)
    assert export_latent(["--ckpt", str(folder / "best.ckpt"), "--out_dir", str(tmp_path)]) == 0
    for path in tmp_path.iterdir():
        # the page has the scores of the run; TorchScript notes from where it was called
        if path.name not in ("viewer.html", "f2_ts.pt", "f2_meta.json"):
            assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    meta = json.loads((tmp_path / "f2_meta.json").read_text())
    assert meta["f2"]["sizes"] == [11, 9, 9, 3] and meta["shape"]["time_harmonics"] == 3
    assert meta["f2"]["omega"] == 30 and len(meta["sha256"]["f2.onnx"]) == 64


def test_day_without_metadata_is_rendered_from_the_weights(tmp_path):
    folder = tiny("f1", 1)
    for name in ("latent_map.npy", "f2_state_dict.pt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    alone = from_exports(tmp_path / "latent_map.npy", tmp_path / "f2_state_dict.pt")
    assert alone.harmonics == 3 and np.array_equal(alone.light(3.3), from_checkpoint(folder / "best.ckpt").light(3.3))


# --- infer.py --------------------------------------------------------------------------------------------------------


def test_images_of_both_forms_are_equal_and_the_day_repeats(tmp_path):
    folder = tiny("f1", 1)
    pair = ["--latent_path", folder / "latent_map.npy", "--f2_path", folder / "f2_state_dict.pt"]
    for name, source, time in (("a", ["--ckpt", folder / "best.ckpt"], 18.5), ("b", pair, 18.5), ("c", pair, 42.5),
                               ("d", pair, -5.5), ("0", pair, 0), ("24", pair, 24)):  # fmt: skip
        assert render(*source, "--time", time, "--out", tmp_path / f"{name}.png") == 0
    pixels = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert pixels["a"] == pixels["b"] == pixels["c"] == pixels["d"] and pixels["0"] == pixels["24"] != pixels["a"]
    image = np.asarray(PillowImage.open(tmp_path / "a.png"))
    assert image.shape == (9, 14, 3)
    want = from_checkpoint(folder / "best.ckpt").light(18.5)
    assert np.abs(image / 255 - want).max() <= 0.5 / 255 + 1e-6


def test_high_range_goes_out_as_light_and_tone_mapped(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    folder = tiny("f1", 1, "npy")
    want = from_checkpoint(folder / "best.ckpt").light(12)
    assert want.max() > 1.5
    for suffix in ("npy", "exr", "png"):
        assert render("--ckpt", folder / "best.ckpt", "--time", 12, "--out", tmp_path / f"noon.{suffix}") == 0
    assert np.array_equal(np.load(tmp_path / "noon.npy"), want)
    assert np.array_equal(exr.File(str(tmp_path / "noon.exr")).channels()["RGB"].pixels, want)
    picture = np.asarray(PillowImage.open(tmp_path / "noon.png")).astype(int)
    brightest = np.unravel_index(want.sum(axis=2).argmax(), want.shape[:2])
    assert picture.max() > 60 and (picture.sum(axis=2)[brightest] >= picture.sum(axis=2) - 3).all()


def test_contact_sheet_and_videos(tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    folder = tiny("f1", 1)
    sheet = tmp_path / "sheet.png"
    assert render("--ckpt", folder / "best.ckpt", "--contact_sheet", sheet) == 0
    tiles = np.asarray(PillowImage.open(sheet))
    assert tiles.shape == (4 * 9, 6 * 14, 3)
    noon = infer.display(from_checkpoint(folder / "best.ckpt"), 12.0)
    assert np.array_equal(tiles[18:27, :14], noon)
    for missing in (False, True):
        if missing:
            monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
        path = tmp_path / "day.mp4"
        frames = (np.full((33, 47, 3), 10 * index, np.uint8) for index in range(12))
        codec = write_video(path, frames, (33, 47), 12, infer.ADVICE)
        assert ("requirements/lightmap.txt" in codec) == ("MPEG" in codec) and (not missing or "MPEG" in codec)
        reader = cv2.VideoCapture(str(path))
        read = []
        while True:
            good, frame = reader.read()
            if not good:
                break
            read.append(frame)
        assert len(read) == 12 and read[0].shape == (34, 48, 3)  # odd sizes are filled up
        assert abs(float(read[11].mean()) - 110) < 8 and abs(float(read[2].mean()) - 20) < 8
    assert render("--ckpt", folder / "best.ckpt", "--video", path, "--fps", 5, "--video_seconds", 1) == 0


def test_bad_input_ends_in_one_line(tmp_path, refused):
    folder, other = tiny("f1", 1), trained(4)
    out = ["--time", 3, "--out", tmp_path / "x.png"]
    state, latent = folder / "f2_state_dict.pt", folder / "latent_map.npy"
    for flags, words in (
        (["--ckpt", folder / "best.ckpt", "--time", "inf", "--out", "x.png"], ("--time", "inf")),
        (["--ckpt", folder / "best.ckpt"], ("nothing would be written",)),
        (["--ckpt", folder / "best.ckpt", "--time", 3], ("--out",)),
        (["--ckpt", folder / "best.ckpt", "--time", 3, "--out", "x.gif"], ("x.gif", ".exr")),
        (["--ckpt", folder / "best.ckpt", "--video", "x.avi"], ("x.avi", ".mp4")),
        (["--ckpt", folder / "best.ckpt", "--video", "x.mp4", "--fps", 0], ("--fps",)),
        (out, ("--ckpt",)),
        (["--latent_path", latent, *out], ("--f2_path",)),
        (["--ckpt", folder / "best.ckpt", "--latent_path", latent, "--f2_path", state, *out], ("--ckpt",)),
        (["--ckpt", tmp_path / "none.ckpt", *out], ("none.ckpt",)),
        (["--ckpt", state, *out], ("f2_state_dict.pt", "train.py")),
        (["--latent_path", other / "latent_map.npy", "--f2_path", state, *out], ("latent_map.npy", "5 channels", "32")),
        (["--latent_path", state, "--f2_path", state, *out], ("f2_state_dict.pt",)),
        (["--latent_path", latent, "--f2_path", folder / "best.ckpt", *out], ("best.ckpt",)),
        (["--latent_path", latent, "--f2_path", folder / "f2.onnx", *out], ("f2.onnx",)),
        (["--latent_path", latent, "--f2_path", folder / "f2_ts.pt", *out], ("TorchScript", "f2_state_dict.pt")),
    ):  # fmt: skip
        with refused(*words):
            render(*flags)
    assert not (tmp_path / "x.png").exists()
    for name, content in (("latent_map.npy", b"\x93NUMPY"), ("f1_f2.npz", b"PK"), ("f2_state_dict.pt", b"x")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "f2_meta.json").write_text("[]")
    with refused("latent_map.npy"):
        from_exports(tmp_path / "latent_map.npy", state)
    with refused("f1_f2.npz"):
        from_checkpoint(tmp_path / "f1_f2.npz")
    (tmp_path / "f2_state_dict.pt").write_bytes(state.read_bytes())
    with refused("f2_meta.json"):
        from_exports(latent, tmp_path / "f2_state_dict.pt")


# --- textures and shaders --------------------------------------------------------------------------------------------


def decoder_of(folder: Path) -> Decoder:
    loaded = checkpoints.load(folder / "best.ckpt")
    f2, stored = loaded.model.f2, read_npz(folder / "latent_map_q8.npz")
    return Decoder(f2, stored, harmonics_of(f2, stored.codes.shape[2]), loaded.encoding)


def plain_decoder(folder: Path, hours: float) -> np.ndarray:
    """What the shader does at the lightmap's texels, in float64 from the exported files."""
    stored = read_npz(folder / "latent_map_q8.npz")
    height, width, channels = stored.codes.shape
    paths = sorted(folder.glob("latent_[0-9]*.dds"), key=lambda path: int(path.stem.split("_")[1]))
    bytes_ = np.concatenate([read_dds(path).levels[0] for path in paths], axis=2)[..., :channels]
    assert np.array_equal(bytes_, stored.codes)
    z = stored.low.astype(float) + stored.span.astype(float) * bytes_ / 255
    rows, columns = stored.size
    y, x = (np.arange(rows) + 0.5) / rows * height - 0.5, (np.arange(columns) + 0.5) / columns * width - 0.5

    def blend(values, position, axis):
        low = np.floor(position).astype(int)
        top, shape = values.shape[axis] - 1, [1, 1, 1]
        shape[axis] = -1
        share = (position - low).reshape(shape)
        return (
            np.take(values, low.clip(0, top), axis) * (1 - share)
            + np.take(values, (low + 1).clip(0, top), axis) * share
        )

    z = blend(blend(z, y, 0), x, 1).reshape(-1, channels)
    state = torch.load(folder / "f2_state_dict.pt", weights_only=True)
    basis = state["basis"].double().numpy() if "basis" in state else None
    harmonics = (state["weights.0"].shape[1] - channels) // 2
    angles = [2 * np.pi * k * hours / 24 for k in range(1, harmonics + 1)]
    value = np.concatenate([z, np.tile([f(a) for a in angles for f in (np.sin, np.cos)], (len(z), 1))], axis=1)
    layers = sum(name.startswith("weights") for name in state)
    for index in range(layers):
        value = value @ state[f"weights.{index}"].double().numpy().T + state[f"biases.{index}"].double().numpy()
        value = np.sin(float(state["omega"]) * value) if index < layers - 1 else value
    if basis is not None:  # all frames, of which two are blended
        frames = (value + z @ basis.T).reshape(rows, columns, -1, 3)
        position = hours / 24 * frames.shape[2]
        first, share = int(position), position % 1
        return frames[:, :, first] * (1 - share) + frames[:, :, (first + 1) % frames.shape[2]] * share
    return value.reshape(rows, columns, 3)


@pytest.mark.parametrize(("mode", "scale", "kind"), RUNS)
def test_files_alone_are_enough_for_numpy(mode, scale, kind):
    folder = tiny(mode, scale, kind)
    want = from_exports(folder / "latent_map_q8.npz", folder / "f2_state_dict.pt").encoded(16.3)
    assert np.abs(plain_decoder(folder, 16.3) - want).max() < 2e-5


WGSL_ENTRY = """
@group(1) @binding(0) var<storage, read> queries: array<vec4<f32>>;
@group(1) @binding(1) var<storage, read_write> results: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>)
{
    if (id.x >= arrayLength(&queries)) { return; }
    let query = queries[id.x];
    results[2u * id.x] = vec4<f32>(lmDecode(query.xy, query.z), 0.0);
    results[2u * id.x + 1u] = vec4<f32>(lmLight(lmDecode(query.xy, query.z)), 0.0);
}
"""


@pytest.mark.parametrize(
    ("mode", "scale", "kind", "baked"), [("f1", 2, "png", True), ("direct", 1, "png", False), ("f1", 1, "npy", False),
                                      ("basis", 1, "png", False), ("basis", 2, "npy", False)]
)  # fmt: skip
def test_wgsl_decodes_the_same(mode, scale, kind, baked):
    device = wgpu_device()
    import wgpu

    folder = tiny(mode, scale, kind)
    decoder = decoder_of(folder)
    rows, columns = decoder.latent.size
    y, x = np.mgrid[:rows, :columns]
    hours = 40.3
    queries = np.zeros((rows * columns, 4), np.float32)
    queries[:, 0], queries[:, 1], queries[:, 2] = ((x + 0.5) / columns).ravel(), ((y + 0.5) / rows).ravel(), hours
    module = device.create_shader_module(code=shader_source(decoder, "wgsl", baked) + WGSL_ENTRY)
    pipeline = device.create_compute_pipeline(layout="auto", compute={"module": module, "entry_point": "main"})
    first = []
    for path in decoder.texture_names.values():
        plane = read_dds(folder / path).levels[0]
        size = (plane.shape[1], plane.shape[0], 1)
        texture = device.create_texture(
            size=size, format="rgba8unorm", usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST
        )
        layout = {"bytes_per_row": plane.shape[1] * 4, "rows_per_image": plane.shape[0]}
        device.queue.write_texture({"texture": texture}, plane.tobytes(), layout, size)
        first.append(texture.create_view())
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
    if not baked:
        first.append({"buffer": device.create_buffer_with_data(data=weight_bytes(decoder), usage=usage)})
    results = device.create_buffer(size=len(queries) * 32, usage=usage)
    second = [{"buffer": device.create_buffer_with_data(data=queries.tobytes(), usage=usage)}, {"buffer": results}]
    encoder = device.create_command_encoder()
    compute = encoder.begin_compute_pass()
    compute.set_pipeline(pipeline)
    for group, resources in enumerate((first, second)):
        entries = [{"binding": index, "resource": resource} for index, resource in enumerate(resources)]
        compute.set_bind_group(
            group, device.create_bind_group(layout=pipeline.get_bind_group_layout(group), entries=entries)
        )
    compute.dispatch_workgroups(-(-len(queries) // 64))
    compute.end()
    device.queue.submit([encoder.finish()])
    got = np.frombuffer(device.queue.read_buffer(results), np.float32).reshape(rows, columns, 2, 4)[..., :3]
    want = plain_decoder(folder, hours % 24)
    assert np.abs(got[..., 0, :] - want).max() < 1e-4
    light = decoder.encoding.decode(want.astype(np.float32))
    assert np.abs(got[..., 1, :] - light).max() < 1e-3 * max(1, light.max())


METAL_QUERY = """
        float3 encoded = decoder.lmDecode(float2(query.x, query.y), query.z), light = decoder.lmLight(encoded);
        float results[6] = {encoded.x, encoded.y, encoded.z, light.x, light.y, light.z};
"""


@pytest.mark.parametrize(("mode", "scale", "kind", "baked"), [("f1", 2, "png", True), ("f1", 1, "npy", False),
                                                               ("basis", 2, "npy", False)])  # fmt: skip
def test_metal_decodes_the_same_as_cpp(tmp_path, mode, scale, kind, baked):
    folder = tiny(mode, scale, kind)
    decoder = decoder_of(folder)
    rows, columns = decoder.latent.size
    y, x = np.mgrid[:rows, :columns]
    queries = np.stack([(x + 0.5) / columns, (y + 0.5) / rows, x * 0 + 16.3, x * 0.0], axis=2).astype(np.float32)
    textures = {name: [read_dds(folder / file).levels[0]] for name, file in decoder.texture_names.items()}
    weights = b"" if baked else weight_bytes(decoder)
    source = shader_source(decoder, "metal", baked)
    job = Job("day", source, textures, weights, element="float4", queries=queries.reshape(-1, 4))
    got = run_metal(job, tmp_path, "LmDecoder", METAL_QUERY, 6).reshape(rows, columns, 6)
    want = plain_decoder(folder, 16.3)
    assert np.abs(got[..., :3] - want).max() < 1e-4
    light = decoder.encoding.decode(want.astype(np.float32))
    assert np.abs(got[..., 3:] - light).max() < 1e-3 * max(1, light.max())


def test_weight_columns_are_where_the_shader_reads_them():
    decoder = decoder_of(tiny("f1", 1))
    columns, f2 = weight_columns(decoder), decoder.f2
    assert f2.sizes == [11, 9, 9, 3]
    assert np.array_equal(columns[1], [decoder.latent.low[4], 0, 0, 0])
    turns = 30 / (2 * np.pi)
    assert np.allclose(columns[4], f2.biases[0][:4].detach().numpy() * turns)
    assert np.allclose(columns[5 + 7], f2.weights[0][:4, 7].detach().numpy() * turns)
    second = 4 + 3 * 12
    assert np.allclose(columns[second + 1 + 8], f2.weights[1][:4, 8].detach().numpy() * turns)
    assert not columns[second + 1 + 9 : second + 1 + 12].any()  # neurons that fill up to 12
    last = second + 3 * 13
    assert np.allclose(columns[last + 1][:3], f2.weights[2][:, 0].detach().numpy()) and len(columns) == last + 13


def test_names_do_not_meet_those_of_the_material_decoder():
    assert own_names("ntDecode NtWeights NT_WIDTH int count_nt antNt printNT_X") == (
        "lmDecode LmWeights LM_WIDTH int count_nt antNt printNT_X"
    )
    for language in LANGUAGES:
        text = shader_source(decoder_of(tiny("f1", 1)), language)
        assert "lmDecode(" in text and not re.search(r"\b(nt[A-Z]|Nt[A-Z]|NT_)", text)


@pytest.mark.parametrize("target", TARGETS)
def test_committed_shaders_are_those_of_the_source(target):
    slangc = find_slangc()
    if slangc is None or version_of(slangc) != SLANG_VERSION:
        pytest.skip(f"needs slangc {SLANG_VERSION}: pip install --no-deps slangtorch==1.3.22")
    assert translated(target, slangc) == (GENERATED / f"f2.{target}").read_text(encoding="utf-8"), SOURCE


@pytest.mark.parametrize(("mode", "kind"), [("f1", "png"), ("basis", "npy")])
@pytest.mark.parametrize("language", ["hlsl", "glsl"])
def test_compilers_accept_the_decoder(tmp_path, language, mode, kind):
    import shutil

    if not shutil.which("glslangValidator"):
        pytest.skip("needs glslangValidator: apt install glslang-tools")
    source = shader_source(decoder_of(tiny(mode, 2, kind)), language)
    if language == "hlsl":
        source += (
            "float4 main(float4 p : SV_Position) : SV_Target"
            "{ return float4(lmLight(lmDecode(p.xy, p.z)), lmDecodeTexel(int2(p.xy), 1.0).x); }"
        )
        flags = ["-D", "-V", "-S", "frag", "-e", "main"]
    else:
        source = (
            "#version 450\n"
            + source
            + (
                "layout(location = 0) in vec3 p; layout(location = 0) out vec4 color;\n"
                "void main() { color = vec4(lmLight(lmDecode(p.xy, p.z)), lmDecodeTexel(ivec2(p.xy), 1.0).x); }"
            )
        )
        flags = ["-V", "-S", "frag"]
    path = tmp_path / "shader.txt"
    path.write_text(source)
    done = subprocess.run(
        ["glslangValidator", *flags, path, "-o", tmp_path / "out.spv"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


# --- page ------------------------------------------------------------------------------------------------------------

READ = """async (hours) => {
    const { width, height, data } = await lm.read(hours);
    let text = "";
    for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
    return [height, width, btoa(text)];
}"""


def test_page_shows_what_infer_writes(tmp_path, browser):
    """Texels of the page, read back, and the picture on the screen; a day of high range is tone-mapped alike."""
    import base64
    import io

    runs = {
        "large": trained(4),
        **{f"{kind}{scale}": tiny("f1", scale, kind) for kind, scale in (("png", 2), ("npy", 1))},
        **{f"basis {kind}": tiny("basis", scale, kind) for kind, scale in (("png", 1), ("npy", 2))},
    }
    for name, folder in runs.items():
        browser.tab.goto((folder / "viewer.html").as_uri())
        if not browser.tab.evaluate("lm.ready"):
            pytest.skip(f"this Chromium has no WebGL 2: {browser.tab.inner_text('#status')}")
        for hours in (16.25, 24.0):
            out = tmp_path / f"{name}.png"
            files = ["--latent_path", folder / "latent_map_q8.npz", "--f2_path", folder / "f2_state_dict.pt"]
            assert render(*files, "--time", hours, "--out", out) == 0
            want = np.asarray(PillowImage.open(out)).astype(int)
            height, width, data = browser.tab.evaluate(READ, hours)
            got = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 3).astype(int)
            assert got.shape == want.shape and np.abs(got - want).max() <= 1
            assert (got != want).mean() < 0.05
    browser.tab.goto((trained(4) / "viewer.html").as_uri())
    browser.tab.evaluate("lm.ready")
    shown = []
    for hours in (0, 12):
        browser.tab.locator("#time").fill(str(hours))  # as a hand on the slider
        browser.tab.evaluate("lm.settled()")
        picture = browser.tab.locator("#canvas").screenshot()
        shown.append(np.asarray(PillowImage.open(io.BytesIO(picture)).convert("RGB")).mean())
    assert shown[1] > 4 * shown[0] and browser.tab.inner_text("#clock") == "12:00"
    assert "dB" in browser.tab.inner_text("#quality") and "F1 + F2" in browser.tab.inner_text("#forms")
    # a context that is lost while the hour changes comes back
    browser.tab.evaluate("""async () => {
        const { gl } = lm, loss = gl.getExtension("WEBGL_lose_context");
        const event = (name) => new Promise((resolve) => gl.canvas.addEventListener(name, resolve));
        const lost = event("webglcontextlost"), restored = event("webglcontextrestored"), shown = lm.setTime(13);
        loss.loseContext();
        await Promise.all([lost, shown]);
        await new Promise((resolve) => setTimeout(resolve));
        loss.restoreContext();
        await restored;
        await lm.settled();
    }""")
    picture = browser.tab.locator("#canvas").screenshot()
    assert np.asarray(PillowImage.open(io.BytesIO(picture)).convert("RGB")).mean() > 3 * shown[0]
    assert browser.said == [] and all(url.startswith("file:") for url in browser.asked)


def test_time_features_and_shader_agree_on_the_order():
    features = time_features(torch.tensor([6.0]), 2)[0]
    assert torch.allclose(features, torch.tensor([1.0, 0.0, 0.0, -1.0]), atol=1e-6)


def test_networks_with_an_impossible_day_end_in_one_line(tmp_path, refused):
    from lightmap.weight_file import pack_weights

    loaded = checkpoints.load(tiny("f1", 1) / "best.ckpt")
    good = loaded.day
    for change in ({"bits": 7}, {"encoding": {"hdr": True, "scale": 0.0, "peak": 1.0}}, {"encoding": {"hdr": "x"}}):
        path = tmp_path / "f1_f2.npz"
        path.write_bytes(pack_weights(loaded.model, {**good, **change}))
        with refused("f1_f2.npz"):
            from_checkpoint(path)
