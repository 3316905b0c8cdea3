"""Models written with neural textures: what is in them, what a viewer without the extension shows, what stays."""

from __future__ import annotations

import io
import json

import jsonschema
import numpy as np
import pytest
import trimesh
from PIL import Image as PillowImage

from formats.block_textures import grid_blocks
from formats.dds_layouts import grid_textures
from formats.textures import read_export
from maps.extras import Extras
from maps.mips import srgb_to_linear
from shaders.weights import weight_bytes
from shape import GridSpec
from tests.support.gltf_reader import Read
from tests.support.model_runs import export_gltf, make_batch, make_run
from tests.support.models import encoded, normals, orm_images, pixels, whole, write_model
from tests.support.paths import ROOT
from tests.support.scenes import courtyard, figure
from tests.support.shader_cases import astc
from transcode.textures import lod_pictures

NAME = "NTX_neural_texture"
SCHEMAS = {name: json.loads((ROOT / f"docs/gltf/{name}.schema.json").read_text()) for name in
           (NAME, f"material.{NAME}")}  # fmt: skip
TEXTURES = ("normalTexture", "occlusionTexture", "emissiveTexture")
IN_PBR = ("baseColorTexture", "metallicRoughnessTexture")


@pytest.fixture(scope="module", params=[courtyard, figure], ids=["courtyard", "figure"])
def scene(request, tmp_path_factory):
    """(the model, the folder of its batch)"""
    folder = tmp_path_factory.mktemp("scene")
    path = request.param(folder)
    return path, make_batch(path, folder / "out")


@pytest.fixture(scope="module", params=["jpeg", "png", "none"])
def made(request, scene):
    """(the model, the folder of its batch, the kind of fallback, the file)"""
    path, batch = scene
    out = batch.parent / f"{request.param}.ntx.glb"
    assert export_gltf("--load_dir", batch, "--gltf", out, "--fallback", request.param) == 0
    return path, batch, request.param, out


def checkpoints(batch) -> dict[str, object]:
    """Material index -> what its run exported."""
    exports = [read_export(path.parent) for path in batch.glob("*/*/models/*/manifest.json")]
    return {exported.manifest.material.origin.index: exported for exported in exports}


def neural(read: Read, index: int) -> dict:
    """The neural texture of a material."""
    number = read.document["materials"][index]["extensions"][NAME]["neuralTexture"]["index"]
    return read.document["extensions"][NAME]["neuralTextures"][number]


def infos(material: dict) -> dict[str, dict]:
    """The textures of a material by their names."""
    holders = {**dict.fromkeys(TEXTURES, material), **dict.fromkeys(IN_PBR, material.get("pbrMetallicRoughness", {}))}
    return {name: holder[name] for name, holder in holders.items() if name in holder}


def shown(read: Read, info: dict) -> np.ndarray:
    """(H, W, C) of the image of a textureInfo."""
    image = read.document["textures"][info["index"]]["source"]
    picture = PillowImage.open(io.BytesIO(read.image(image)))
    assert read.document["images"][image]["mimeType"] == f"image/{picture.format.lower()}"
    codes = np.asarray(picture)
    return codes if codes.ndim == 3 else codes[..., None]


# --- what stays ------------------------------------------------------------------------------------------------------


def test_all_but_the_materials_stays(made):
    path, _, _, out = made
    before, after = Read(path), Read(out)
    edited = {"materials", "textures", "images", "bufferViews", "buffers", "extensions", "extensionsUsed"}
    assert {key: value for key, value in after.document.items() if key not in edited} == {
        key: value for key, value in before.document.items() if key not in edited
    }
    extensions = dict(after.document["extensions"])
    assert extensions.pop(NAME) and extensions == before.document.get("extensions", {})
    for index in range(len(before.document["accessors"])):
        assert after.accessor(index).tobytes() == before.accessor(index).tobytes()
    images = {view.get("bufferView") for view in before.document["images"]}
    for index, view in enumerate(before.document["bufferViews"]):
        if index not in images:
            now = after.document["bufferViews"][index]
            assert after.view(index) == before.view(index) and {**now, "byteOffset": 0} == {**view, "byteOffset": 0}
            assert now.get("byteOffset", 0) % 16 == view.get("byteOffset", 0) % 16
    assert after.document["extensionsUsed"] == [*before.document.get("extensionsUsed", []), NAME]
    assert "extensionsRequired" not in after.document


def test_materials_keep_what_is_not_trained(made):
    path, batch, _, out = made
    before, after, trained = Read(path), Read(out), checkpoints(batch)
    for index, (old, new) in enumerate(zip(before.document["materials"], after.document["materials"])):
        if index not in trained:
            assert new == old and all(after.resolved(info) == before.resolved(info) for info in infos(old).values())
            continue
        changed = {*TEXTURES, "pbrMetallicRoughness", "extensions", "emissiveFactor", "alphaCutoff"}
        assert {k: v for k, v in new.items() if k not in changed} == {k: v for k, v in old.items() if k not in changed}
        mask = old.get("alphaMode") == "MASK"
        assert new.get("alphaCutoff") == (0.5 if mask else None), "the trained opacity is stretched so"
        extensions = {k: v for k, v in new["extensions"].items() if k != NAME}
        assert extensions == old.get("extensions", {})
        for name, info in infos(old).items():
            if name == "occlusionTexture" and info.get("texCoord"):  # read at another place: not trained
                assert after.resolved(infos(new)[name]) == before.resolved(info)
    coat = [material["extensions"].get("KHR_materials_clearcoat") for material in after.document["materials"]
            if "KHR_materials_clearcoat" in material.get("extensions", {})]  # fmt: skip
    for info in coat:
        assert after.resolved(info["clearcoatTexture"])["index"]["source"] in before.blob


def test_images_that_nothing_shows_are_gone(made):
    path, _, _, out = made
    before, after = Read(path), Read(out)
    images = [before.image(index) for index in range(len(before.document["images"]))]
    names = [image.get("name") for image in before.document["images"]]
    kept = {name for name, image in zip(names, images) if image in after.blob}
    assert kept == ({"stone orm", "coat"} if path.suffix == ".glb" else set())


# --- the neural textures ---------------------------------------------------------------------------------------------


def test_bytes_and_json_are_those_of_the_exports(made):
    _, batch, _, out = made
    read = Read(out)
    for index, exported in checkpoints(batch).items():
        entry, model = neural(read, index), exported.model
        for number, grid in enumerate(entry["grids"]):
            chains = [texture.levels for texture in grid_textures(model, number)]
            found = [read.view(texture["bufferView"]) for texture in grid["textures"]]
            assert found == [b"".join(level.tobytes() for level in chain) for chain in chains]
            assert grid["levels"] == [[level.shape[1], level.shape[0]] for level in chains[0]]
        assert read.view(entry["decoder"]["weights"]["bufferView"]) == weight_bytes(model)
        maps = [(each["map"], each["value_range"]) for each in entry["material"]["maps"]]
        assert maps == [(each.name, list(each.value_range)) for each in exported.manifest.material.maps]
    views = [view for view in read.document["bufferViews"] if not {"target", "byteStride"} & set(view)]
    assert all(view["byteOffset"] % 16 == 0 for view in views[-3:])


def test_neural_textures_lie_where_the_images_did(made):
    path, batch, kind, out = made
    before, after = Read(path), Read(out)
    for index in checkpoints(batch):
        old, new = (infos(read.document["materials"][index]) for read in (before, after))
        reference = after.document["materials"][index]["extensions"][NAME]["neuralTexture"]
        place = old["baseColorTexture"]
        assert reference.get("texCoord", 0) == place.get("texCoord", 0)
        assert reference.get("extensions") == place.get("extensions")
        for name, info in {} if kind == "none" else new.items():
            was = {key: value for key, value in old[name].items() if key not in ("index", "scale", "strength")}
            assert {key: value for key, value in info.items() if key != "index"} == was
            sampler = [read.document["textures"][each["index"]].get("sampler") for read, each in
                       ((before, old[name]), (after, info))]  # fmt: skip
            assert sampler[0] == sampler[1]


def test_the_schema_holds(made):
    document = Read(made[-1]).document
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document["extensions"][NAME], SCHEMAS[NAME])
    for material in document["materials"]:
        if NAME in material.get("extensions", {}):
            jsonschema.validate(material["extensions"][NAME], SCHEMAS[f"material.{NAME}"])


def test_the_schema_refuses(made):
    document = Read(made[-1]).document["extensions"][NAME]
    text = json.dumps(document)
    for before, after in (
        ('"version": 1', '"version": 2'), ('"packed"', '"bgra4"'), ('"levels"', '"sizes"'),
        ('"R8G8B8A8_UNORM"', '"R8G8B8A8_SRGB"'), ('"channels"', '"more": 1, "channels"'),
    ):  # fmt: skip
        assert before in text
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(text.replace(before, after)), SCHEMAS[NAME])


# --- the fallback ----------------------------------------------------------------------------------------------------


def expected_pictures(exported) -> dict[str, np.ndarray]:
    """The pictures of LOD 1 of all maps, by the textures of glTF that hold them."""
    maps = lod_pictures(exported.model, exported.manifest.material, 1)[0]
    base = np.dstack([maps[name] for name in ("diffuse", "opacity") if name in maps])
    blank = np.full((*base.shape[:2], 1), 255, np.uint8)
    surface = np.dstack([maps.get(name, blank) for name in ("occlusion", "roughness", "metallic")])
    return {"baseColorTexture": base, "normalTexture": maps.get("normal"), "metallicRoughnessTexture": surface,
            "occlusionTexture": surface, "emissiveTexture": maps.get("emissive")}  # fmt: skip


def test_the_pictures_are_those_that_decode(made):
    path, batch, kind, out = made
    before, read = Read(path), Read(out)
    for index, exported in checkpoints(batch).items():
        expected, material = expected_pictures(exported), read.document["materials"][index]
        for name, info in infos(material).items():
            if info.get("texCoord"):
                continue
            found, wanted = shown(read, info).astype(float), expected[name].astype(float)
            assert found.shape == wanted.shape
            error = np.square(found - wanted).mean()
            assert error < 40 if kind == "jpeg" else error == 0
            assert not {"scale", "strength"} & set(info)
        neutral = {"baseColorFactor"}
        neutral |= {"metallicFactor", "roughnessFactor"} if "metallicRoughnessTexture" in infos(material) else set()
        if kind != "none":
            was = before.document["materials"][index]["pbrMetallicRoughness"]
            kept = {key: value for key, value in was.items() if key not in neutral and key not in IN_PBR}
            now = material["pbrMetallicRoughness"]
            assert {key: value for key, value in now.items() if key not in IN_PBR} == kept


def test_other_readers_find_the_pictures(tmp_path):
    path = figure(tmp_path)
    out = tmp_path / "out.glb"
    assert export_gltf("--load_dir", make_batch(path, tmp_path / "out"), "--gltf", out) == 0
    read = Read(out)
    found = {mesh.visual.material.name: mesh.visual.material for mesh in trimesh.load(out).geometry.values()}
    for material in read.document["materials"]:
        texture = infos(material)["baseColorTexture"]
        assert np.array_equal(np.asarray(found[material["name"]].baseColorTexture), shown(read, texture))


# --- single materials ------------------------------------------------------------------------------------------------


def single(tmp_path, material: dict, images: list[bytes], extras: Extras = None, flags=(), **more):
    """(the document that is read, its material, what the run exported) of a model with one material."""
    path = write_model(tmp_path, [material], images, **more)
    label = material.get("name", "material_0")
    checkpoint = make_run(path, label, tmp_path / "run", **({} if extras is None else {"extras": extras}))
    out = tmp_path / "out.glb"
    assert export_gltf("--load_dir", checkpoint.parent.parent, "--gltf", out, *flags) == 0
    read = Read(out)
    return read, read.document["materials"][0], read_export(checkpoint)


def test_factors_are_neutral_and_occlusion_shares_the_image(tmp_path):
    material = whole(emissiveTexture={"index": 0}, emissiveFactor=[1.0, 0.5, 0.25])
    material["pbrMetallicRoughness"] |= {"baseColorFactor": [0.5, 0.5, 0.5, 0.7], "metallicFactor": 0.3,
                                         "roughnessFactor": 0.6}  # fmt: skip
    material["normalTexture"]["scale"], material["occlusionTexture"]["strength"] = 0.5, 0.25
    read, found, _ = single(tmp_path, material, orm_images())
    assert found["pbrMetallicRoughness"] | {"baseColorTexture": 0, "metallicRoughnessTexture": 0} == {
        "baseColorTexture": 0, "metallicRoughnessTexture": 0, "baseColorFactor": [1, 1, 1, 0.7]}  # fmt: skip
    assert found["emissiveFactor"] == [1, 1, 1]
    assert found["occlusionTexture"] == found["pbrMetallicRoughness"]["metallicRoughnessTexture"] == {"index": 2}
    assert found["normalTexture"] == {"index": 1} and len(read.document["images"]) == 4
    assert found["emissiveTexture"] == {"index": 3}, "the image of the base colour is another one now"
    assert shown(read, found["emissiveTexture"]).shape == (4, 6, 3)


@pytest.mark.parametrize("kind", ["jpeg", "none"])
def test_light_above_1_has_a_strength(kind, tmp_path):
    strength = {"KHR_materials_emissive_strength": {"emissiveStrength": 8.0, "extras": {"why": 1}}}
    material = {"emissiveTexture": {"index": 0}, "emissiveFactor": [1.0, 0.5, 0.25], "extensions": strength,
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 1}}}  # fmt: skip
    images = [encoded(pixels(seed=seed, size=(16, 16))) for seed in (1, 2)]
    read, found, exported = single(tmp_path, material, images, flags=("--fallback", kind))
    [emissive] = [entry for entry in neural(read, 0)["material"]["maps"] if entry["map"] == "emissive"]
    assert emissive["value_range"][1] > 4 and emissive["log_scale"] > 0
    held = found["extensions"]["KHR_materials_emissive_strength"]
    assert held.pop("extras") == {"why": 1}
    shown_light = lod_pictures(exported.model, exported.manifest.material, 1)[0]["emissive"]
    mean = srgb_to_linear(shown_light / 255).reshape(-1, 3).mean(axis=0) * emissive["value_range"][1]
    if kind == "jpeg":
        assert held == {"emissiveStrength": emissive["value_range"][1]} and found["emissiveFactor"] == [1, 1, 1]
    else:
        assert "emissiveTexture" not in found and "images" not in read.document
        assert np.allclose(np.multiply(found["emissiveFactor"], held.get("emissiveStrength", 1)), mean)
        assert max(found["emissiveFactor"]) <= 1
    assert "KHR_materials_emissive_strength" in read.document["extensionsUsed"]


def test_a_strength_that_nothing_needs_goes(tmp_path):
    strength = {"KHR_materials_emissive_strength": {"emissiveStrength": 2.0}}
    material = {"emissiveTexture": {"index": 0}, "emissiveFactor": [0.3, 0.2, 0.1], "extensions": strength}
    read, found, _ = single(tmp_path, material, [encoded(pixels())], extensionsUsed=list(strength))
    assert found["extensions"].keys() == {NAME} and read.document["extensionsUsed"] == [NAME]
    assert found["emissiveFactor"] == [1, 1, 1]


def test_flat_colours_are_means(tmp_path):
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}, "alphaMode": "BLEND"}
    read, found, exported = single(tmp_path, material, [encoded(pixels(4))], flags=("--fallback", "none"))
    maps = lod_pictures(exported.model, exported.manifest.material, 1)[0]
    alpha = maps["opacity"].astype(float) / 255
    colour = (srgb_to_linear(maps["diffuse"] / 255) * alpha).reshape(-1, 3).sum(axis=0) / alpha.sum()
    assert np.allclose(found["pbrMetallicRoughness"]["baseColorFactor"], [*colour, alpha.mean()])
    assert found["alphaMode"] == "BLEND" and not {"images", "textures"} & set(read.document)


@pytest.mark.parametrize(("channels", "mode"), [(4, "MASK"), (3, "MASK"), (4, "BLEND"), (4, "OPAQUE")])
def test_alpha_that_is_not_trained_stays(channels, mode, tmp_path, capsys):
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.5, 0.5, 0.5, 0.75]},
                "alphaMode": mode, "normalTexture": {"index": 1}}  # fmt: skip
    material |= {"alphaCutoff": 0.3} if mode == "MASK" else {}
    images = [encoded(pixels(channels)), encoded(normals())]
    read, found, _ = single(tmp_path, material, images, Extras(False))
    stays = channels == 4 and mode != "OPAQUE"
    assert ("its alpha is not trained" in capsys.readouterr().out) == stays
    base = found["pbrMetallicRoughness"]
    assert base["baseColorFactor"] == [*([0.5] * 3 if stays else [1] * 3), 0.75]
    assert (images[0] in read.blob) == stays and images[1] not in read.blob
    assert found.get("alphaCutoff") == material.get("alphaCutoff")
    assert [each["map"] for each in neural(read, 0)["material"]["maps"]] == ["diffuse", "normal"]


def test_samplers_stay_with_their_textures(tmp_path):
    samplers = [{"wrapS": 33071}, {"magFilter": 9728}]
    material = whole()
    material["occlusionTexture"]["index"] = 3
    textures = [{"source": 0, "sampler": 0}, {"source": 1}, {"source": 2, "sampler": 1}, {"source": 2, "sampler": 0}]
    read, found, _ = single(tmp_path, material, orm_images(), textures=textures, samplers=samplers)
    assert read.document["textures"] == textures and read.document["samplers"] == samplers
    assert found["occlusionTexture"] == {"index": 3} and len(read.document["images"]) == 3


def test_animated_factors_are_noted(tmp_path, capsys):
    """They are in the texels now, as they are at rest."""
    def channel(pointer):
        return {"target": {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": pointer}}}}

    channels = [channel("/materials/0/emissiveFactor"), channel("/nodes/0/scale"), channel("/materials/01/alphaCutoff"),
                channel("/materials/0/normalTexture/scale"), channel(5), {"target": {"path": "scale"}}, 7]  # fmt: skip
    single(tmp_path, whole(), orm_images(), animations=[{"channels": channels}, {"channels": 3}, None])
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert line == "note: Wood: animated: emissiveFactor, normalTexture/scale; the neural texture has them as they rest"


def test_layouts_and_blocks(tmp_path):
    path = write_model(tmp_path, [whole()], orm_images(size=(32, 16)))
    words = [GridSpec((16, 8), 2, 4, 16), GridSpec(4, 1, 8, 64, "learned")]
    blocks = [GridSpec((16, 8), 2, 0, 4, "learned", "bc1"), GridSpec(8, 1, 0, 4, "linear", "bc1", 2),
              astc((14, 10), 2)]  # fmt: skip
    for name, grids in (("words", words), ("blocks", blocks)):
        checkpoint = make_run(path, "Wood", tmp_path / name, grids=grids)
        for layout in ("packed", "filterable", "rgba8"):
            out = tmp_path / f"{name}.{layout}.glb"
            assert export_gltf("--load_dir", checkpoint, "--gltf", out, "--dds_layout", layout, "--data_dir", path) == 0
            read, model = Read(out), read_export(checkpoint).model
            jsonschema.validate(read.document["extensions"][NAME], SCHEMAS[NAME])
            entry = neural(read, 0)
            assert entry["layout"] == layout
            for index, grid in enumerate(entry["grids"]):
                found = [read.view(texture["bufferView"]) for texture in grid["textures"]]
                if name == "blocks":
                    levels = grid_blocks(model, index)[: model.grids[index].n_levels]
                    assert found == [b"".join(level.tobytes() for level in levels)]
                else:
                    chains = [texture.levels for texture in grid_textures(model, index, layout)]
                    assert found == [b"".join(level.tobytes() for level in chain) for chain in chains]


def test_one_texel_is_enough(tmp_path, capsys):
    read, found, _ = single(tmp_path, whole(), orm_images(size=(1, 1)))
    assert "LOD 0, its coarsest, 1x1" in capsys.readouterr().out
    assert shown(read, found["normalTexture"]).shape == (1, 1, 3)
