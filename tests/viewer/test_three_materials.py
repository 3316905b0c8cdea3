"""viewer/three: materials of models against the same ones with textures, in scenes, and from bad files."""

from __future__ import annotations

import copy
import functools
import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.support.three_cases import entry_of, exported_case, values_of
from tests.support.three_pages import Gltf, load, open_three, picture, read, said, scene_of
from transcode.gltf.extension import EXTENSION

TANGENT = [[1, 0, 0, 1]] * 4
FACTORS = {"baseColorFactor": [0.1, 0.2, 0.3, 0.4], "metallicFactor": 0.3, "roughnessFactor": 0.6}


def scene(name: str = "learned", material=None, reference=None, **attributes) -> Gltf:
    return scene_of(functools.partial(entry_of, name), material, reference, **attributes)


def png(*planes: np.ndarray) -> bytes:
    """An image of values in [0, 1], (height, width, channels) each."""
    codes = np.round(np.concatenate(planes, axis=2) * 255).astype(np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(codes).save(stream, "PNG")
    return stream.getvalue()


def srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def textured(material, **attributes) -> Gltf:
    """The plane of `scene` with textures of what the toolkit decodes of LOD 0."""
    maps, gltf = values_of(exported_case("learned"), 0), Gltf()
    orm = gltf.image(png(maps["occlusion"], maps["roughness"], maps["metallic"]))
    base, glow = gltf.image(png(srgb(maps["diffuse"]), maps["opacity"])), gltf.image(png(srgb(maps["emissive"] / 4)))
    whole = {
        "pbrMetallicRoughness": {"baseColorTexture": {"index": base}, "metallicRoughnessTexture": {"index": orm}},
        "normalTexture": {"index": gltf.image(png(maps["normal"]))}, "occlusionTexture": {"index": orm},
        "emissiveTexture": {"index": glow}, "emissiveFactor": [1, 1, 1],
        "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 4}},
    }  # fmt: skip
    gltf.document["extensionsUsed"].append("KHR_materials_emissive_strength")
    extensions = {**whole["extensions"], **material.get("extensions", {})}
    gltf.plane({**whole, **material, "extensions": extensions}, None, **attributes)
    return gltf


# --- the picture -----------------------------------------------------------------------------------------------------

LOOKS = {
    "opaque": ({}, {}, {}),
    "tangents": ({}, {"TANGENT": TANGENT}, {}),
    "holes": ({"alphaMode": "MASK", "doubleSided": True}, {}, {}),  # one side of a plane casts no shadow in three.js
    "holes and a point light": ({"alphaMode": "MASK", "doubleSided": True}, {}, {"point": True}),
    "glass": ({"alphaMode": "BLEND"}, {}, {}),
    "from behind": ({"doubleSided": True}, {}, {"eye": [0.4, 0.3, -0.7]}),
    "from behind, tangents": ({"doubleSided": True}, {"TANGENT": TANGENT}, {"eye": [0.4, 0.3, -0.7]}),
    "physical": ({"extensions": {"KHR_materials_clearcoat": {"clearcoatFactor": 1}}}, {}, {}),
}


@pytest.mark.parametrize("look", LOOKS)
def test_it_looks_like_its_textures(look, browser):
    """Factors, light, normals with tangents and without, both sides, holes and their shadows."""
    material, attributes, view = LOOKS[look]
    open_three(browser)
    load(browser, textured(material, **attributes), plain=True)
    want = picture(browser, **view)
    load(browser, scene("learned", {"pbrMetallicRoughness": FACTORS, **material}, **attributes))
    got = picture(browser, **view)
    off = np.abs(got - want)
    assert said(browser) == []
    share = 0.05 if "holes" in look else 0.005  # at an outline, and that of a shadow, the last bit decides
    assert want.std() > 20 and (off > 6).mean() < share and np.median(off) <= 1, (off > 6).mean()


def test_what_the_entry_lacks_stays(browser):
    """An emissive texture with its factor, and the alpha of the base colour's texture with its factor."""
    open_three(browser)
    gltf, random = Gltf(), np.random.default_rng(3)
    gltf.entries.append(entry_of("linear", gltf.add))
    own, glow = random.random((2, 8, 8, 4))
    base, emissive = gltf.image(png(own)), gltf.image(png(glow[..., :3]))
    gltf.plane(
        {"alphaMode": "BLEND", "emissiveTexture": {"index": emissive}, "emissiveFactor": [0.5, 0.5, 0.5],
         "pbrMetallicRoughness": {"baseColorTexture": {"index": base}, "baseColorFactor": [0.3, 0.3, 0.3, 0.5]}},
        {"index": 0},
    )  # fmt: skip
    load(browser, gltf)
    size = {"width": 8, "height": 8}
    (alpha,), (light,) = (
        read(browser, f"vec4( {value}, 1.0 )", size) for value in ("vec3( diffuseColor.a )", "totalEmissiveRadiance")
    )
    assert np.abs(alpha[..., 0] - 0.5 * own[..., 3]).max() < 1 / 255
    codes = np.round(glow[..., :3] * 255) / 255
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    assert np.abs(light[..., :3] - 0.5 * linear).max() < 1 / 255
    (base,) = read(browser, "vec4( diffuseColor.rgb, 1.0 )", {"width": 16, "height": 12})
    assert np.abs(base[..., :3] - values_of(exported_case("linear"), 0)["diffuse"]).max() < 1 / 255
    assert said(browser) == []


def test_a_uv_set_and_a_transform(browser):
    """As KHR_texture_transform defines them: scaled, rotated, moved."""
    open_three(browser)
    second = [[0.2, 0.1], [0.9, 0.3], [0.1, 0.8], [0.8, 1.0]]
    transform = {"offset": [0.25, -0.5], "rotation": 0.7, "scale": [2, 0.5]}
    reference = {"texCoord": 0, "extensions": {"KHR_texture_transform": {**transform, "texCoord": 1}}}
    load(browser, scene("learned", {}, reference, TEXCOORD_1=second))
    (got,) = read(browser, "vec4( vNtUv, 0.0, 1.0 )", {"width": 8, "height": 8})
    across, down = np.meshgrid((np.arange(8) + 0.5) / 8, (np.arange(8) + 0.5) / 8)
    corners = np.array(second)
    u, v = np.moveaxis(
        corners[0] + across[..., None] * (corners[1] - corners[0]) + down[..., None] * (corners[2] - corners[0]), 2, 0
    )
    c, s = np.cos(0.7), np.sin(0.7)
    want = np.stack([c * 2 * u + s * 0.5 * v + 0.25, -s * 2 * u + c * 0.5 * v - 0.5], axis=2)
    assert np.abs(got[..., :2] - want).max() < 1e-4


# --- scenes ----------------------------------------------------------------------------------------------------------

EVERYTHING = """
    const { THREE } = kit, [mesh] = kit.meshes(), { material } = mesh;
    scene.fog = new THREE.Fog(0x888888, 1, 9);
    const many = new THREE.InstancedMesh(mesh.geometry, material, 2);
    many.setMatrixAt(1, new THREE.Matrix4().makeTranslation(1, 0, 0));
    const bones = [new THREE.Bone(), new THREE.Bone()], skinned = mesh.geometry.clone();
    const count = skinned.attributes.position.count;
    skinned.setAttribute("skinIndex", new THREE.Uint16BufferAttribute(new Uint16Array(4 * count), 4));
    skinned.setAttribute("skinWeight", new THREE.Float32BufferAttribute(new Float32Array(4 * count).fill(0.25), 4));
    const skin = new THREE.SkinnedMesh(skinned, material);
    skin.add(bones[0]);
    skin.bind(new THREE.Skeleton(bones));
    const morphed = mesh.geometry.clone();
    morphed.morphAttributes.position = [mesh.geometry.attributes.position.clone()];
    morphed.morphTargetsRelative = true;
    const morph = new THREE.Mesh(morphed, material);
    morph.morphTargetInfluences = [0.1];
    [many, skin, morph].forEach((each, i) => each.position.set(i - 1, 0, 0.2 * i));
    [many, skin, morph].forEach((each) => { each.castShadow = each.receiveShadow = true; });
    const spot = new THREE.SpotLight(0xffffff, 5), lamp = new THREE.PointLight(0xffffff, 5);
    [spot, lamp].forEach((light) => { light.position.set(1, 1, 2); light.castShadow = true; });
    kit.renderer.toneMapping = THREE.ACESFilmicToneMapping;
    kit.renderer.clippingPlanes = [new THREE.Plane(new THREE.Vector3(1, 0, 0), 1.2)];
    const sky = new THREE.Scene();
    sky.background = new THREE.Color(0x88aacc);
    scene.environment = new THREE.PMREMGenerator(kit.renderer).fromScene(sky).texture;
    scene.add(many, skin, morph, spot, lamp, new THREE.HemisphereLight());
"""


def test_a_scene_with_everything(browser):
    """Shadows of all lights, surroundings, fog, tone mapping, clipping; instances, a skin, a morph target."""
    open_three(browser)
    load(browser, scene("blocks", {"alphaMode": "MASK"}))
    seen = picture(browser, size=48, more=EVERYTHING)
    assert said(browser) == [] and seen.std() > 10
    assert browser.tab.evaluate("kit.renderer.info.programs.length") > 4


def two_planes() -> Gltf:
    """Two materials with one neural texture, and one with another."""
    gltf = scene("learned", {"alphaMode": "MASK"})
    gltf.entries.append(entry_of("linear", gltf.add))
    gltf.plane({"alphaMode": "BLEND"}, {"index": 0})
    gltf.plane({}, {"index": 1})
    return gltf


def test_textures_are_shared_and_freed(browser):
    open_three(browser)
    before = browser.tab.evaluate("kit.held()")
    load(browser, scene("learned", {"alphaMode": "MASK"}))
    picture(browser)
    one = browser.tab.evaluate("kit.held()")
    load(browser, two_planes())
    picture(browser)
    three = browser.tab.evaluate("kit.held()")
    assert three["textures"] - one["textures"] == 2 + 3  # grids of the second load: of one entry, and three planes
    browser.tab.evaluate("kit.meshes().forEach((mesh) => mesh.material.dispose())")
    assert browser.tab.evaluate("kit.held()")["textures"] == one["textures"]
    assert before["textures"] <= one["textures"] - 2
    picture(browser)  # what is disposed of can be drawn again
    assert browser.tab.evaluate("kit.held()")["textures"] == three["textures"]
    assert said(browser) == []


def test_a_lost_context(browser):
    open_three(browser)
    load(browser, two_planes())
    want = picture(browser)
    browser.tab.evaluate("kit.loseContext()")
    np.testing.assert_array_equal(picture(browser), want)
    assert [text for text in said(browser) if "Context" not in text] == []


def test_a_clone_decodes_too(browser):
    open_three(browser)
    load(browser, scene("linear"))
    want = picture(browser)
    browser.tab.evaluate("kit.meshes()[0].material = kit.meshes()[0].material.clone()")
    np.testing.assert_array_equal(picture(browser), want)
    browser.tab.evaluate("kit.meshes()[0].material.color.set(0, 1, 0)")  # factors can be changed
    assert np.abs(picture(browser) - want).max() > 20


# --- bad files -------------------------------------------------------------------------------------------------------


def damaged(change) -> Gltf:
    """A model whose base colour is a texture of one colour, and whose neural texture is damaged."""
    gltf = Gltf()
    gltf.entries.append(entry_of("learned", gltf.add))
    index = gltf.image(png(np.full((4, 4, 3), [0, 1, 0])))
    gltf.plane({"pbrMetallicRoughness": {"baseColorTexture": {"index": index}}}, {"index": 0})
    change(gltf.document["extensions"][EXTENSION], gltf.document["materials"][0]["extensions"][EXTENSION])
    return gltf


def put(value, *path):
    """A change of the first entry."""

    def change(root, material):
        target = root["neuralTextures"][0]
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = copy.deepcopy(value)

    return change


BAD = {
    "version": lambda root, material: root.update(version=2),
    "no entries": lambda root, material: root.pop("neuralTextures"),
    "index": lambda root, material: material["neuralTexture"].update(index=7),
    "a text as index": lambda root, material: material["neuralTexture"].update(index="0"),
    "no reference": lambda root, material: material.update(neuralTexture=None),
    "uv set": lambda root, material: material["neuralTexture"].update(texCoord=9),
    "transform": lambda root, material: material["neuralTexture"].update(
        extensions={"KHR_texture_transform": {"offset": ["1", 0]}}
    ),
    "no entry": lambda root, material: root["neuralTextures"].__setitem__(0, None),
    "width": put(2**31, "material", "width"),
    "GLSL": put("16); } void main() { discard", "material", "width"),
    "maps": put([{"map": "diffuse"}], "material", "maps"),
    "range": put(["0.0; }", 1], "material", "maps", 0, "value_range"),
    "constant": put([{"channel": 6, "value": "1.0"}], "material", "constants"),
    "levels": put([[8, 8], [4, 4], [2, 3]], "grids", 0, "levels"),
    "huge levels": put([[16384, 16384], [8192, 8192], [4096, 4096]], "grids", 0, "levels"),
    "view": put([{"bufferView": 999}], "grids", 0, "textures"),
    "another view": put([{"bufferView": 1}], "grids", 0, "textures"),
    "layers": put([[16, 48], [10**6, 16], [16, 10**6]], "decoder", "layers"),
    "waves": put(10**9, "decoder", "n_frequencies"),
    "weights": put("codes16", "decoder", "weights", "type"),
    "columns": put(3, "decoder", "weights", "columns"),
    "layout": put("bgra4", "layout"),
}


def test_bad_entries_leave_the_fallback(browser):
    """One line in the console, and the model's own texture; nothing is thrown."""
    open_three(browser)
    for what, change in BAD.items():
        browser.said.clear()
        load(browser, damaged(change))
        (seen,) = read(browser, "vec4( diffuseColor.rgb, 1.0 )", {"width": 4, "height": 4})
        assert np.abs(seen - [0, 1, 0, 1]).max() < 0.01, what
        (line,) = said(browser)
        assert line.startswith(f"{EXTENSION}: ") and line.endswith("the model's own textures are shown"), what
        assert "\n" not in line and len(line) < 240, what


def test_weights_that_are_no_numbers(browser):
    open_three(browser)
    gltf = damaged(lambda root, material: None)
    view = gltf.document["bufferViews"][gltf.entries[0]["decoder"]["weights"]["bufferView"]]
    gltf.blob[view["byteOffset"] : view["byteOffset"] + 4] = b"\xff\xff\xff\xff"
    load(browser, gltf)
    assert len(said(browser)) == 1 and "numbers" in said(browser)[0]


def test_other_renderers_get_the_fallback(browser):
    open_three(browser)
    load(browser, damaged(lambda root, material: None), renderer={"isWebGPURenderer": True})
    assert len(said(browser)) == 1 and "WebGLRenderer" in said(browser)[0]
    assert browser.tab.evaluate("kit.meshes()[0].material.map.image.width") == 4
