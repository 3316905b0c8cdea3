"""Whole models in and out: what Khronos' validator says, and that nothing changes but what is trained.

What a model holds is read by tests/support/gltf_reader.py, so that nothing is compared by what made it.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from maps.gltf.source import ModelSource
from tests.support.gltf_reader import Read
from tests.support.gltf_validator import faults, validated
from tests.support.model_runs import export_gltf, make_batch
from tests.support.models import glb
from tests.support.paths import ROOT
from tests.support.scenes import MODELS, NTX

PILLAR = ROOT / "data" / "pillar.glb"
KEPT = ("scene", "scenes", "nodes", "meshes", "animations", "skins", "cameras", "samplers", "extras")
SLOTS = ("baseColorTexture", "metallicRoughnessTexture", "normalTexture", "occlusionTexture", "emissiveTexture")
OF_SLOT = {  # what a texture's fallback makes of the factors beside it
    "baseColorTexture": ("baseColorFactor",), "metallicRoughnessTexture": ("metallicFactor", "roughnessFactor"),
    "emissiveTexture": ("emissiveFactor",),
}  # fmt: skip
TRAINED = {  # model -> label -> what its neural texture replaces
    "courtyard": {
        "Paving": {"baseColorTexture", "metallicRoughnessTexture", "normalTexture"},
        "Wall": {"baseColorTexture", "metallicRoughnessTexture", "normalTexture", "occlusionTexture"},
        "Fence": {"baseColorTexture"}, "Pane": {"baseColorTexture"},
        "Paving#5": {"baseColorTexture", "emissiveTexture"},
    },
    "figure": {"Cloth": set(SLOTS[:3]), "Skin": {"baseColorTexture", "normalTexture"}},
    "swatches": {f"Swatch {number:02}": set(SLOTS[:4]) for number in range(20)},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """name -> (the model's file, a folder of exports of its materials), made when it is asked for."""
    found = {}

    def make_once(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            path = MODELS[name](folder)
            found[name] = path, make_batch(path, folder / "out")
        return found[name]

    return make_once


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module", params=["jpeg", "none"])
def out(request, name, made, tmp_path_factory):
    """The model with neural textures."""
    path = tmp_path_factory.mktemp("out") / "out.glb"
    assert export_model(made(name), path, request.param) == 0
    return path


def export_model(files, path, fallback="jpeg") -> int:
    return export_gltf("--load_dir", files[1], "--data_dir", files[0], "--gltf", path, "--fallback", fallback)


# --- the validator ---------------------------------------------------------------------------------------------------


def test_the_validator_has_nothing_to_say_about_the_sample():
    assert validated(PILLAR) == []


def test_the_validator_finds_what_is_wrong(tmp_path):
    (tmp_path / "bad.glb").write_bytes(glb({"materials": [{"alphaMode": "ROUND"}]}))
    (tmp_path / "bad.gltf").write_text(json.dumps({"asset": {"version": "2.0"}, "nodes": [{"mesh": 3}]}))
    said = [(each.severity, each.pointer) for file in ("bad.glb", "bad.gltf") for each in faults(tmp_path / file)]
    assert ("error", "/nodes/0/mesh") in said and ("warning", "/materials/0/alphaMode") in said, said


def test_no_new_errors_and_warnings(name, made, out):
    """What the model had itself stays, like tangents that are missing."""
    before, after = (sorted({(each.code, each.pointer) for each in faults(path)}) for path in (made(name)[0], out))
    assert set(after) <= set(before) and not any(each.severity == "error" for each in validated(out))


# --- what stays ------------------------------------------------------------------------------------------------------


def test_geometry_animations_skins_and_extras_stay(name, made, out):
    """Byte by byte, and under their numbers."""
    before, after = Read(made(name)[0]), Read(out)
    for key in KEPT:
        assert after.document.get(key) == before.document.get(key), key
    assert after.document["asset"] == before.document["asset"]
    was, became = (dict(each.document.get("extensions", {})) for each in (before, after))
    assert became.pop(NTX) and was == became
    assert len(before.entries("accessors")) == len(after.entries("accessors")) > 0
    for index, (one, other) in enumerate(zip(before.entries("accessors"), after.entries("accessors"))):
        assert one == other, index
        values, same = before.accessor(index), after.accessor(index)
        assert values.dtype == same.dtype and values.tobytes() == same.tobytes(), index
        if "bufferView" in one:
            view, kept = (each.document["bufferViews"][one["bufferView"]] for each in (before, after))
            assert {**view, "byteOffset": 0} == {**kept, "byteOffset": 0}


def test_what_is_not_trained_stays_in_materials(name, made, out):
    """Each material as it was, but for the textures that the neural one replaces and the factors beside them."""
    path = made(name)[0]
    before, after = Read(path), Read(out)
    assert len(before.entries("materials")) == len(after.entries("materials"))
    for index, (one, other) in enumerate(zip(before.entries("materials"), after.entries("materials"))):
        label = next((label for label in TRAINED[name] if ModelSource(path, label).index == index), None)
        replaced = TRAINED[name].get(label, set())
        assert (NTX in other.get("extensions", {})) == bool(replaced), label
        assert rest(before, one, replaced) == rest(after, other, replaced), label


def rest(read: Read, material: dict, replaced: set[str]) -> dict:
    """A material without what the neural texture replaces; what its other textures show in place of their numbers."""
    material = copy.deepcopy(material)
    extensions = material.get("extensions", {})
    extensions.pop(NTX, None)
    for holder in (material, material.get("pbrMetallicRoughness", {})):
        for key in list(holder):
            if key in replaced or any(key in OF_SLOT.get(slot, ()) for slot in replaced):
                del holder[key]
    if "baseColorTexture" in replaced:
        material.pop("alphaCutoff", None)
    if not extensions:
        material.pop("extensions", None)

    def resolve(value):
        if not isinstance(value, dict):
            return value
        return {key: read.resolved(each) if key.endswith("Texture") else resolve(each) for key, each in value.items()}

    return resolve(material)


def test_what_the_document_says_of_the_extension(name, made, out):
    read, before = Read(out), Read(made(name)[0])
    assert set(read.document["extensionsUsed"]) == {*before.document.get("extensionsUsed", []), NTX}
    assert read.document.get("extensionsRequired") == before.document.get("extensionsRequired")
    entries = read.document["extensions"][NTX]["neuralTextures"]
    references = [material["extensions"][NTX]["neuralTexture"] for material in read.entries("materials")
                  if NTX in material.get("extensions", {})]  # fmt: skip
    assert [reference["index"] for reference in references] == list(range(len(entries)))
    assert [entry["name"] for entry in entries] == list(TRAINED[name])
    for entry in entries:
        for grid in entry["grids"]:
            block, texel = (4, 8) if grid["format"] == "BC1_UNORM" else (1, grid["format"].split("_")[0].count("8"))
            size = sum(-(-w // block) * -(-h // block) * texel for w, h in grid["levels"])
            assert {len(read.view(texture["bufferView"])) for texture in grid["textures"]} == {size}
        assert len(read.view(entry["decoder"]["weights"]["bufferView"])) % 16 == 0


def test_the_neural_texture_lies_where_the_images_lay(made, tmp_path):
    export_model(made("courtyard"), tmp_path / "out.glb")
    material = Read(tmp_path / "out.glb").entries("materials")[0]
    reference = material["extensions"][NTX]["neuralTexture"]
    moved = {"offset": [0.25, -0.5], "rotation": 0.3, "scale": [2.0, 1.5]}
    assert reference["extensions"]["KHR_texture_transform"] == moved and "texCoord" not in reference
    fallback = material["pbrMetallicRoughness"]["baseColorTexture"]
    assert fallback["extensions"]["KHR_texture_transform"] == moved and fallback["extras"] == {"kept": 1}


def test_images_that_nothing_shows_any_more_are_gone(made, tmp_path):
    """Of two images that a trained and an untrained texture share, that of the untrained one stays, to the byte."""
    files = made("courtyard")
    export_model(files, tmp_path / "out.glb", "none")
    before, after = Read(files[0]), Read(tmp_path / "out.glb")
    shown = {after.image(texture["source"]) for texture in after.entries("textures") if "source" in texture}
    names = {image["name"]: index for index, image in enumerate(before.entries("images"))}
    assert shown == {before.image(names["stone orm"]), before.image(names["coat"])}
    binary = after.blob
    assert all(before.image(names[gone]) not in binary for gone in ("stone color", "stone normal", "plaster", "fence"))


def test_others_read_the_same_scene(made, tmp_path):
    """trimesh finds the meshes at their places, with the same coordinates."""
    trimesh = pytest.importorskip("trimesh")
    files = made("swatches")
    export_model(files, tmp_path / "out.glb")
    before, after = (trimesh.load(path, process=False) for path in (files[0], tmp_path / "out.glb"))
    assert list(before.geometry) == list(after.geometry) and len(before.geometry) == 20
    for label, mesh in before.geometry.items():
        other = after.geometry[label]
        assert np.array_equal(mesh.vertices, other.vertices) and np.array_equal(mesh.faces, other.faces)
    for node in before.graph.nodes_geometry:
        assert np.array_equal(before.graph[node][0], after.graph[node][0])
