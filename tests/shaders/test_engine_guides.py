"""docs/engines: the code of the guides compiles with a freshly exported decoder, and the three.js page runs."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import export
from dataset import Material
from formats.dds import read_dds_info
from formats.textures import read_export, write_export
from metrics.decoded_maps import decode_maps
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model
from tests.support.runs import ROOT
from tests.support.shader_cases import bc1
from tests.support.shader_hosts import CHROMIUM_FLAGS, chromium

GUIDES = ROOT / "docs" / "engines"
NAMES = ("ue5.md", "unity.md", "godot.md", "threejs.md")
MAPS = {"diffuse": 3, "normal": 3, "roughness": 1, "occlusion": 1, "metallic": 1, "specular": 1, "displacement": 1}
SIZE = (24, 16)


def snippet(guide: str, name: str) -> str:
    """The code behind `<!-- snippet: name -->`."""
    text = (GUIDES / guide).read_text(encoding="utf-8")
    found = re.findall(rf"<!-- snippet: {re.escape(name)} -->\n```\w+\n(.*?)```\n", text, re.DOTALL)
    assert len(found) == 1, (guide, name)
    return found[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder with an export of two grids of R8G8B8A8, and its decoders in HLSL and GLSL ES."""
    return export_of(tmp_path_factory.mktemp("guide"), [GridSpec(16, 3, 4, 32), GridSpec(4, 1, 8, 32)])


@pytest.fixture(scope="module")
def exported_bc1(tmp_path_factory) -> Path:
    """The same with two grids of BC1."""
    return export_of(tmp_path_factory.mktemp("guide_bc1"), [bc1(16, 3), bc1(8, 1)])


def export_of(folder: Path, grids: list[GridSpec]) -> Path:
    torch.set_num_threads(1)
    random = np.random.default_rng(2)
    arrays = {name: random.integers(0, 256, (SIZE[1], SIZE[0], count), dtype=np.uint8) for name, count in MAPS.items()}
    material = Material.from_arrays("guide", arrays)
    torch.manual_seed(3)
    model = make_model(grids, DecoderSpec(2, 16, 1), material)
    with torch.no_grad():  # around the middle of the range, so that images are not black and white
        model.start_biases([0.5] * 11)
    positions = "filtered" if grids[0].compressed else "centres"
    write_export(folder, model, material.hashed_record, positions=positions)
    assert export.main(["--load_dir", str(folder), "--out_dir", str(folder), "--shader", "hlsl,essl"]) == 0
    return folder


def glslang(path: Path, *flags: str) -> subprocess.CompletedProcess:
    compiler = shutil.which("glslangValidator")
    if not compiler:
        pytest.skip("needs glslangValidator: apt install glslang-tools")
    return subprocess.run([compiler, *flags, path], capture_output=True, text=True, cwd=path.parent)


def dxc(path: Path) -> subprocess.CompletedProcess:
    """Microsoft's compiler, of its own or beside Slang's; skips the test where there is none."""
    target = path.with_suffix(".dxil")
    if shutil.which("dxc"):
        command = ["dxc", "-T", "ps_6_0", "-E", "main", path, "-Fo", target]
    else:
        slangc = shutil.which("slangc")
        if not slangc or not (Path(slangc).parent / "libdxcompiler.so").exists():
            pytest.skip("needs DXC: dxc, or libdxcompiler.so beside slangc")
        command = [slangc, path, "-pass-through", "dxc", "-target", "dxil", "-profile", "sm_6_0"]
        command += ["-entry", "main", "-stage", "fragment", "-o", target]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent)


# --- all guides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", NAMES)
def test_every_guide_stands_on_its_own(guide):
    text = (GUIDES / guide).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200 and f"docs/engines/{guide}" in (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = [GUIDES / name for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)]
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 150_000
        with PillowImage.open(picture) as image:
            assert min(image.size) >= 200 and np.asarray(image.convert("L")).std() > 20


@pytest.mark.parametrize("guide", NAMES)
def test_the_short_way_is_at_most_half_as_long(guide):
    """In lines that say something, against the sections on packed grids."""
    text = (GUIDES / guide).read_text(encoding="utf-8")
    start, packed, end = (text.index(f"\n## {title}") for title in ("The short way: BC1", "1. ", "Texel centres"))
    short, long = ([line for line in part.splitlines() if line] for part in (text[start:packed], text[packed:end]))
    assert 10 < len(short) <= len(long) / 2
    assert "A run with `--latents bc1` has ordinary textures" in text[start:packed]  # linear, at filtered positions


@pytest.mark.parametrize("guide", NAMES)
def test_the_commands_of_the_guides_run(guide, exported, exported_bc1, tmp_path, capsys):
    text = (GUIDES / guide).read_text(encoding="utf-8")
    commands = list(re.finditer(r"(?:^|`)python export\.py (.*?)(?:$|`)", text, re.MULTILINE))
    assert any("--shader" in command[1] for command in commands)
    for found in commands:
        command, source = found[1], exported_bc1 if found.start() < text.index("## 1. ") else exported
        replaced = {"outputs/<run>": str(source), "exported/rock": str(source), "DIR": str(source)}
        words = [replaced.get(word, word) for word in command.split()]
        if "--out_dir" in words:
            words[words.index("--out_dir") + 1] = str(tmp_path / "out")
        assert export.main(words) == 0, command
    capsys.readouterr()


def test_flags_of_training_exist():
    from configs import build_parser
    from formats.options import build_export_parser

    known = {flag for action in build_parser()._actions for flag in action.option_strings}
    known |= {flag for action in build_export_parser()._actions for flag in action.option_strings}
    for guide in NAMES:
        for flag in re.findall(r"(?<![\w-])(--[a-z_]+)", (GUIDES / guide).read_text(encoding="utf-8")):
            assert flag in known | {"--directory"}, (guide, flag)


# --- Unreal ----------------------------------------------------------------------------------------------------------

# How the engine wraps a Custom node: includes at the top, then a function with the inputs and outputs as parameters.
UNREAL = """{include}
struct FMaterialPixelParameters {{ float4 unused; }};

float3 CustomExpression0(FMaterialPixelParameters Parameters, Texture2D Grid0, SamplerState Grid0Sampler,
    Texture2D Grid1, SamplerState Grid1Sampler, float2 UV, float2 UVdx, float2 UVdy,
    inout float3 Normal, inout float Roughness, inout float Metallic, inout float Occlusion)
{{
{code}}}

Texture2D Material_Texture2D_0;
SamplerState Material_Texture2D_0Sampler;
Texture2D Material_Texture2D_1;
SamplerState Material_Texture2D_1Sampler;

float4 main(float2 uv : TEXCOORD0) : SV_Target
{{
    FMaterialPixelParameters parameters = (FMaterialPixelParameters)0;
    float3 normal = 0;
    float roughness = 0, metallic = 0, occlusion = 0;
    float3 color = CustomExpression0(parameters, Material_Texture2D_0, Material_Texture2D_0Sampler,
        Material_Texture2D_1, Material_Texture2D_1Sampler, uv, ddx(uv), ddy(uv),
        normal, roughness, metallic, occlusion);
    return float4(color + normal, roughness + metallic + occlusion);
}}
"""


def unreal(folder: Path, exported: Path, change=lambda code: code, of: str = "") -> Path:
    node = snippet("ue5.md", "RockNode.ush" + of)
    assert '#include "/Project/Rock.ush"' in node
    shutil.copy(exported / "decoder.hlsl", folder / "Rock.ush")
    (folder / "RockNode.ush").write_text(node.replace("/Project/", "").replace("#pragma once\n", ""))
    code = change(snippet("ue5.md", "custom node" + of))
    (folder / "node.hlsl").write_text(UNREAL.format(include='#include "RockNode.ush"', code=code))
    return folder / "node.hlsl"


HLSL = ("-D", "-V", "-S", "frag", "-e", "main", "-o", "out.spv")


def test_unreal_by_glslang(exported, tmp_path):
    done = glslang(unreal(tmp_path, exported), *HLSL)
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout


def test_unreal_by_dxc(exported, tmp_path):
    done = dxc(unreal(tmp_path, exported))
    assert done.returncode == 0, done.stderr


def test_unreal_with_bc1(exported_bc1, tmp_path):
    path = unreal(tmp_path, exported_bc1, of=" of BC1")
    done = glslang(path, *HLSL)
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout
    done = dxc(path)
    assert done.returncode == 0, done.stderr


def test_what_unreal_imports_of_bc1(exported_bc1, tmp_path):
    """The files that the guide names, with all mips, in a format that the importers take."""
    command = "--shader hlsl --latents_format rgba8"
    assert command in (GUIDES / "ue5.md").read_text(encoding="utf-8")
    assert export.main(["--load_dir", str(exported_bc1), "--out_dir", str(tmp_path), *command.split()]) == 0
    infos = [read_dds_info(path) for path in sorted(tmp_path.glob("hash_grid_*_rgba8.dds"))]
    assert [(info.format, info.width, info.mips) for info in infos] == [
        ("R8G8B8A8_UNORM", 16, 5), ("R8G8B8A8_UNORM", 8, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("change", [
    lambda code: code.replace("ntUnitNormal", "ntUnitNormals"),
    lambda code: code.replace("material.metallic", "material.x"),
    lambda code: code.replace("ntGrid1 =", "ntGrid2 ="),
    lambda code: code.replace("return ", "return 1 + (int2)"),
])  # fmt: skip
def test_a_wrong_node_does_not_compile(change, exported, tmp_path):
    assert glslang(unreal(tmp_path, exported, change), *HLSL).returncode != 0


# --- Unity -----------------------------------------------------------------------------------------------------------

UNITY = """#include "NeuralTexture.hlsl"

float4 main(float2 uv : TEXCOORD0) : SV_Target
{
    float3 color, normal;
    float smoothness, metallic, occlusion;
    NeuralTexture_float(uv, color, normal, smoothness, metallic, occlusion);
    return float4(color + normal, smoothness + metallic + occlusion);
}
"""


def unity(folder: Path, exported: Path, name: str = "NeuralTexture.hlsl") -> Path:
    shutil.copy(exported / "decoder.hlsl", folder)
    (folder / "NeuralTexture.hlsl").write_text(snippet("unity.md", name))
    (folder / "shader.hlsl").write_text(UNITY)
    return folder / "shader.hlsl"


def test_unity_by_glslang(exported, tmp_path):
    done = glslang(unity(tmp_path, exported), *HLSL)
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout


def test_unity_by_dxc(exported, tmp_path):
    done = dxc(unity(tmp_path, exported))
    assert done.returncode == 0, done.stderr


def test_unity_with_bc1(exported_bc1, tmp_path):
    path = unity(tmp_path, exported_bc1, "NeuralTextureBc1.hlsl")
    done = glslang(path, *HLSL)
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout
    done = dxc(path)
    assert done.returncode == 0, done.stderr
    assert "NT_TEXTURE(ntGrid1, 1);" in (exported_bc1 / "decoder.hlsl").read_text()


def test_what_the_guides_say_of_the_declarations(exported):
    """Floats, not integers, declared by NT_TEXTURE; the weights inside."""
    source = (exported / "decoder.hlsl").read_text()
    assert "#define NT_TEXTURE(name, index) Texture2D<float4> name : NT_REGISTER(index)" in source
    assert re.findall(r"^NT_TEXTURE\((\w+), (\d)\);", source, re.MULTILINE) == [("ntGrid0", "0"), ("ntGrid1", "1")]
    assert "ntGrid0.Load(int3(" in source and "uint4>" not in source and "StructuredBuffer" not in source
    essl = (exported / "decoder.es.glsl").read_text()
    assert "uniform highp sampler2D ntGrid0;" in essl and "texelFetch(ntGrid0" in essl and "usampler" not in essl
    names = re.findall(r'"(\w+)"', re.search(r"names = \{(.*?)\}", snippet("unity.md", "NeuralTexture.cs"))[1])
    assert names == ["ntGrid0", "ntGrid1"]


def test_the_header_that_the_guides_read(exported):
    """Width, height, mips, format and the first texel, where the C# and the JavaScript look for them."""
    dds = (exported / "hash_grid_0.dds").read_bytes()
    words = np.frombuffer(dds[:148], "<u4")
    assert (words[3], words[4], words[7], words[32]) == (16, 16, 5, 28)  # of the JavaScript
    source = snippet("unity.md", "NeuralTexture.cs")
    assert [int(offset) // 4 for offset in re.findall(r"ToInt32\(dds, (\d+)\)", source)] == [3, 4, 7, 32]
    assert len(dds) - 148 == 4 * (16 * 16 + 8 * 8 + 4 * 4 + 2 * 2 + 1) and "dds.Length - 148" in source


# --- Godot -----------------------------------------------------------------------------------------------------------

# Godot's own names, and GLSL's entry point; `shader_type` is taken away.
GODOT = """#version 300 es
precision highp float;
precision highp int;
#line 1
{decoder}
in vec2 UV;
out vec4 result;
vec3 ALBEDO, NORMAL_MAP;
float ROUGHNESS, METALLIC, AO;
{shader}
void main() {{ fragment(); result = vec4(ALBEDO + NORMAL_MAP, ROUGHNESS + METALLIC + AO); }}
"""


def test_godot_as_glsl_es(exported, tmp_path):
    command = snippet("godot.md", "convert")
    assert "exported/rock/" in command
    command = command.replace("exported/rock/", f"{exported}/")
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    decoder = (tmp_path / "decoder.gdshaderinc").read_text()
    code = re.sub(r"//.*", "", decoder)
    assert not re.search(r"\b(precision|highp|layout|in|const in)\b", code), "not in Godot's language"
    assert not re.search(r"\dU", code) and "<< uint(" in code
    assert len(decoder.splitlines()) == len((exported / "decoder.es.glsl").read_text().splitlines()) - 2
    shader = snippet("godot.md", "rock.gdshader")
    kept = shader.replace("shader_type spatial;\n", "").replace('#include "decoder.gdshaderinc"\n', "")
    assert len(kept.splitlines()) == len(shader.splitlines()) - 2
    path = tmp_path / "shader.frag"
    path.write_text(GODOT.format(decoder=decoder, shader=kept))
    done = glslang(path, "-S", "frag")
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout
    path.write_text(GODOT.format(decoder=decoder, shader=kept.replace("decoded.metallic", "decoded.metalness")))
    assert glslang(path, "-S", "frag").returncode != 0


def test_godot_with_bc1_as_glsl_es(exported_bc1, tmp_path):
    command = snippet("godot.md", "convert BC1").replace("exported/rock/", f"{exported_bc1}/")
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    decoder = (tmp_path / "decoder.gdshaderinc").read_text()
    hints = " : repeat_enable, filter_linear_mipmap_anisotropic;"
    found = re.findall(r"^uniform sampler2D (\w+)(.*)", decoder, re.MULTILINE)
    assert found == [("ntGrid0", hints), ("ntGrid1", hints)]
    shader = snippet("godot.md", "rock_bc1.gdshader")
    kept = shader.replace("shader_type spatial;\n", "").replace('#include "decoder.gdshaderinc"\n', "")
    path = tmp_path / "shader.frag"
    path.write_text(GODOT.format(decoder=decoder.replace(hints, ";"), shader=kept))
    done = glslang(path, "-S", "frag")
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout


# --- three.js --------------------------------------------------------------------------------------------------------

# Three targets of four values each of a LOD, read back.
CHECK = """<!doctype html><meta charset="utf-8"><pre id="out">the script did not end</pre>
<script type="importmap">{"imports": {"three": "./three/three.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import { neuralTexture } from "./neural-texture.js";
const out = document.getElementById("out");
try {
    const { decoder, uniforms } = await neuralTexture(THREE, "material");
    const renderer = new THREE.WebGLRenderer();
    const answers = [];
    for (const [lod, width, height] of LODS) for (const part of [0, 1, 2]) {
        const material = new THREE.RawShaderMaterial({
            glslVersion: THREE.GLSL3, uniforms,
            vertexShader: "in vec3 position; void main() { gl_Position = vec4(position.xy, 0.0, 1.0); }",
            fragmentShader: decoder + `out vec4 color; void main() {
                NtMaterial m = ntDecode(gl_FragCoord.xy / vec2(${width}.0, ${height}.0), ${lod}.0);
                color = ${["vec4(m.diffuse, m.normal.x)", "vec4(m.normal.yz, m.roughness, m.occlusion)",
                           "vec4(m.metallic, m.specular, m.displacement, 1.0)"][part]}; }`,
        });
        const target = new THREE.WebGLRenderTarget(width, height);
        const quad = new THREE.Mesh(new THREE.PlaneGeometry(2, 2), material);
        quad.frustumCulled = false;
        renderer.setRenderTarget(target);
        renderer.render(quad, new THREE.Camera());
        const pixels = new Uint8Array(width * height * 4);
        renderer.readRenderTargetPixels(target, 0, 0, width, height, pixels);
        answers.push(btoa(String.fromCharCode(...pixels)));
    }
    out.textContent = "answers:" + answers.join(",") + ":answers";
} catch (error) { out.textContent = "error: " + error; }
</script>"""


@pytest.fixture
def web(exported, tmp_path) -> Path:
    """The folder of the guide, with three.js; skips the test where there is none."""
    return web_folder(exported, tmp_path)


def web_folder(exported: Path, tmp_path: Path) -> Path:
    three = Path(os.environ.get("THREE_JS") or ROOT / ".tools" / "node_modules" / "three")
    if not (three / "build" / "three.module.js").is_file():
        pytest.skip("needs three.js: npm install --prefix .tools three, or its folder in THREE_JS")
    shutil.copytree(three / "build", tmp_path / "web" / "three")
    shutil.copytree(exported, tmp_path / "web" / "material")
    for name in ("neural-texture.js", "index.html"):
        (tmp_path / "web" / name).write_text(snippet("threejs.md", name))
    return tmp_path / "web"


@pytest.fixture
def web_bc1(exported_bc1, tmp_path) -> Path:
    """The folder of the short way: another reader, and one decode of filtered features."""
    folder = web_folder(exported_bc1, tmp_path)
    script = snippet("threejs.md", "neural-texture.js")
    start = script.index("// { decoder, uniforms }")
    (folder / "neural-texture.js").write_text(snippet("threejs.md", "neural-texture-bc1.js") + script[start:])
    guide = (GUIDES / "threejs.md").read_text(encoding="utf-8")
    (one_decode,) = re.findall(r"`(NtMaterial m = ntDecodeGrad.*;)`", guide)
    page = re.sub(r"float lod = .*\n *NtMaterial m = .*", one_decode, snippet("threejs.md", "index.html"))
    assert one_decode in page and "ntTexelCentre" not in page
    (folder / "index.html").write_text(page)
    return folder


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(folder: Path):
    """The address of a server on this machine."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def browse(url: str, profile: Path, *flags: str) -> subprocess.CompletedProcess:
    given = [flag for flag in CHROMIUM_FLAGS if not flag.startswith(("--timeout", "--dump-dom"))]
    given += ["--virtual-time-budget=5000", "--enable-logging=stderr", f"--user-data-dir={profile}", *flags]
    return subprocess.run([chromium(), *given, url], capture_output=True, text=True, timeout=120)


def test_three_js_shows_the_material(web, exported, tmp_path):
    """Every texel of LOD 0 and 2, to the rounding of a byte."""
    assert_shows_the_material(web, exported, tmp_path, 1)


def test_three_js_shows_bc1(web_bc1, exported_bc1, tmp_path):
    """GPUs round the thirds of BC1 in their ways, which moves a random material by a code or two."""
    assert_shows_the_material(web_bc1, exported_bc1, tmp_path, 3)


def assert_shows_the_material(web: Path, exported: Path, tmp_path: Path, codes: int) -> None:
    read = read_export(exported)
    lods = [(lod, max(SIZE[0] >> lod, 1), max(SIZE[1] >> lod, 1)) for lod in (0, 2)]
    (web / "check.html").write_text(CHECK.replace("LODS", str([list(lod) for lod in lods]), 1))
    with served(web) as address:
        done = browse(f"{address}/check.html", tmp_path / "profile", "--dump-dom")
    found = re.search("answers:(.*):answers", done.stdout)
    assert found, (done.stdout[-600:], done.stderr[-1500:])
    answers = iter(found[1].split(","))
    for lod, width, height in lods:
        parts = [np.frombuffer(base64.b64decode(next(answers)), np.uint8).reshape(height, width, 4) for _ in range(3)]
        pixels = np.concatenate(parts, axis=2)[..., :11].astype(int)
        maps = decode_maps(read.model, read.manifest.material, lod, NeuralTexture.decode)
        want = np.concatenate([maps[name] for name in MAPS], axis=2).astype(int)
        assert np.abs(pixels - want).max() <= codes, lod
        assert lod or want.std() > 10


def test_the_page_of_three_js_draws(web, tmp_path):
    assert_draws(web, tmp_path)


def test_the_page_of_three_js_draws_bc1(web_bc1, tmp_path):
    """With hardware filtering and anisotropy 8."""
    assert_draws(web_bc1, tmp_path)


def assert_draws(web: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    with served(web) as address:
        done = browse(f"{address}/index.html", tmp_path / "profile", f"--screenshot={picture}", "--window-size=400,300")
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "GPU stall" not in line]
    assert not messages, messages
    image = np.asarray(PillowImage.open(picture).convert("RGB")).astype(int)
    drawn = image[image.sum(axis=2) > 3 * 40]  # brighter than the page
    assert 0.05 < len(drawn) / image[..., 0].size < 0.9 and (drawn.std(axis=0) > 15).all()
