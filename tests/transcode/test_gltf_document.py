"""A model's document edited and packed: what is asked for goes, all else stays under its index, to the byte."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from maps.gltf.container import Model
from tests.support.gltf_reader import Read
from tests.support.models import encoded, glb, pixels
from transcode.gltf.cuts import ALIGNMENT, cuts_of, shifted, without
from transcode.gltf.document import Document
from transcode.gltf.references import References, extensions_in

PICTURES = [encoded(pixels(3, seed)) for seed in range(4)]
NEW = b"a new picture" * 9


def stored(document: dict, chunks: list[bytes], tmp_path, more: bytes = b""):
    """A .glb with a buffer view for each chunk of bytes, of 4 bytes alignment."""
    views, blob = [], b""
    for chunk in chunks:
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(chunk)})
        blob += chunk + bytes(-len(chunk) % 4)
    document = {"bufferViews": views, "buffers": [{"byteLength": len(blob)}], **document}
    payload = glb(document, blob=blob)
    path = tmp_path / "m.glb"
    path.write_bytes(payload[:8] + struct.pack("<I", len(payload) + len(more)) + payload[12:] + more)
    return path


def written(document: Document, tmp_path) -> Read:
    path = tmp_path / "out.glb"
    path.write_bytes(b"".join(document.encode()))
    size, kind = struct.unpack_from("<I4s", path.read_bytes(), 12)
    assert struct.unpack_from("<4sII", path.read_bytes()) == (b"glTF", 2, path.stat().st_size)
    assert size % 4 == 0 and kind == b"JSON"
    return Read(path)


def with_images(tmp_path, count=3, **more):
    """Numbers of an accessor between images; a texture and a material for each."""
    numbers = np.arange(9, dtype="<f4").tobytes()
    document = {
        "images": [{"bufferView": index, "mimeType": "image/png", "name": f"i{index}"} for index in range(count)],
        "textures": [{"source": index} for index in range(count)],
        "materials": [{"normalTexture": {"index": index}} for index in range(count)],
        "accessors": [{"bufferView": count, "componentType": 5126, "type": "VEC3", "count": 3}], **more,
    }  # fmt: skip
    return stored(document, [*PICTURES[:count], numbers], tmp_path), numbers


# --- cuts ------------------------------------------------------------------------------------------------------------

spans = st.lists(st.tuples(st.integers(0, 150), st.integers(1, 60)).map(lambda p: (p[0], p[0] + p[1])), max_size=6)


@settings(max_examples=300, deadline=None)
@given(spans, spans, st.integers(0, 40))
def test_what_is_live_stays_aligned_and_what_is_gone_goes(gone, live, tail):
    end = max([1, *(last for _, last in gone + live)])
    payload = bytes(1 + place % 255 for place in range(end)) + bytes(tail)
    cuts = cuts_of(payload, gone, live)
    left = b"".join(without(payload, cuts))
    for first, last in live:
        start = shifted(first, cuts)
        assert left[start : start + last - first] == payload[first:last] and (start - first) % ALIGNMENT == 0
    dead = {place for first, last in gone for place in range(first, last)}
    dead -= {place for first, last in live for place in range(first, last)}
    kept = [byte for place, byte in enumerate(payload) if place not in dead and byte]
    assert [byte for byte in left if byte] == kept
    assert len(left) <= len(payload) - len(dead) + len(cuts) * (ALIGNMENT - 1)


# --- textures, images, buffer views ----------------------------------------------------------------------------------


def test_a_picture_takes_the_place_of_another(tmp_path):
    path, numbers = with_images(tmp_path)
    document = Document(Model(path))
    document.json["materials"][1] = {}
    document.release([1])
    image = document.add_image(NEW, "image/jpeg", "new", document.source_of(1))
    assert (image, document.add_texture(image, 1)) == (1, 1)
    read = written(document, tmp_path)
    assert [read.image(index) for index in range(3)] == [PICTURES[0], NEW, PICTURES[2]]
    assert read.document["images"][1] == {"bufferView": 1, "mimeType": "image/jpeg", "name": "i1"}
    assert read.accessor(0).tobytes() == numbers and PICTURES[1] not in read.blob
    assert len(read.document["bufferViews"]) == 4 and "byteStride" not in read.document["bufferViews"][1]
    assert all(view.get("byteOffset", 0) % 4 == 0 for view in read.document["bufferViews"])


@pytest.mark.parametrize("released", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_what_is_left_over_has_no_bytes(released, tmp_path):
    """Lists become shorter at their ends alone; what stays is what others use."""
    path, numbers = with_images(tmp_path)
    document = Document(Model(path))
    for index in released:
        document.json["materials"][index] = {}
    document.release(released)
    document.add_view(b"x" * 5)
    read = written(document, tmp_path)
    kept = [index for index in range(3) if index not in released]
    assert [read.image(index) for index in kept] == [PICTURES[index] for index in kept]
    assert not any(PICTURES[index] in read.blob for index in released)
    assert read.accessor(0).tobytes() == numbers
    for kind in ("images", "textures"):
        assert len(read.entries(kind)) == max(kept, default=-1) + 1 and (kept or kind not in read.document)
    assert all("source" not in read.document["textures"][index] for index in released if index < max(kept, default=0))
    for index in range(len(read.document["bufferViews"])):
        assert len(read.view(index)) > 0


USERS = {
    "another material": {"materials": [{"normalTexture": {"index": 0}}, {"emissiveTexture": {"index": 0}}]},
    "an extension of a material": {"materials": [{}, {"extensions": {"A_b": {"sheenTexture": {"index": 0}}}}]},
    "a property texture": {"extensions": {"E_x": {"propertyTextures": [{"properties": {"speed": {"index": 0}}}]}}},
    "numbers under a texture": {"extensions": {"VRM": {"textureProperties": {"_MainTex": 0}}}},
    "another texture": {"textures": [{"source": 0}, {"source": 0}]},
    "a texture's extension": {"textures": [{"source": 0}, {"extensions": {"EXT_texture_webp": {"source": 0}}}]},
    "a light": {"extensions": {"EXT_lights_image_based": {"lights": [{"specularImages": [[0, 1]]}]}}},
    "a thumbnail": {"extensions": {"VRMC_vrm": {"meta": {"thumbnailImage": 0}}}},
    "an accessor": {"accessors": [{"bufferView": 0}]},
    "a sparse accessor": {"accessors": [{"sparse": {"indices": {"bufferView": 0}}}]},
    "another image": {"images": [{"bufferView": 0}, {"bufferView": 0}]},
    "a compressed mesh": {"meshes": [{"primitives": [{"extensions": {"KHR_draco_mesh_compression":
                                                                     {"bufferView": 0}}}]}]},
}  # fmt: skip


@pytest.mark.parametrize("user", USERS)
def test_what_something_else_uses_stays(user, tmp_path):
    document = {"images": [{"bufferView": 0}], "textures": [{"source": 0}], "materials": [{}], **USERS[user]}
    document = Document(Model(stored(document, [PICTURES[0], b"12345"], tmp_path)))
    document.json["materials"][0] = {}
    document.release([0])
    document.add_view(NEW)
    read = written(document, tmp_path)
    assert read.view(0) == PICTURES[0] and read.view(1) == b"12345" and read.view(2) == NEW


def test_extras_use_nothing():
    extras = {"index": 0, "bufferView": 0, "image": 0, "extensions": {"A_b": {}}}
    document = {"extras": extras, "materials": [{"extras": extras}], "images": [{"bufferView": 7, "extras": extras}]}
    found = References.of(document)
    assert (found.textures, found.images, found.views) == (set(), set(), set())
    assert extensions_in(document) == set()


def test_alternative_images_go_together(tmp_path):
    """WebP that was required is so no longer, and the PNG beside it is gone too."""
    names = ["EXT_texture_webp", "KHR_texture_transform", "A_b"]
    path, _ = with_images(
        tmp_path, textures=[{"source": 0, "extensions": {"EXT_texture_webp": {"source": 1}, "A_b": {"x": 1}}},
                            {"source": 2}],
        materials=[{"normalTexture": {"index": 0}}, {"normalTexture": {
            "index": 1, "extensions": {"KHR_texture_transform": {}}}}], extensionsUsed=names, extensionsRequired=names,
    )  # fmt: skip
    document = Document(Model(path))
    assert document.source_of(0) == 0
    document.json["materials"][0] = {}
    document.release([0])
    document.add_texture(document.add_image(NEW, "image/png", "new", 0), 0)
    read = written(document, tmp_path)
    assert read.document["textures"][0] == {"source": 0, "extensions": {"A_b": {"x": 1}}}
    assert read.document["extensionsUsed"] == read.document["extensionsRequired"] == names[1:]
    assert not any(picture in read.blob for picture in PICTURES[:2]) and read.image(2) == PICTURES[2]


# --- buffers ---------------------------------------------------------------------------------------------------------


def test_chunks_of_others_and_unknown_keys_stay(tmp_path):
    more = struct.pack("<I4s", 8, b"ABCD") + b"12345678"
    document = {"unknown": {"deep": [1.5, None, {"ü": "\ud83e\uddf1 \ud800"}]}, "asset": {"version": "2.0", "x": 1e-7}}
    path = stored({**document, "scene": 0}, [b"123"], tmp_path, more)
    read = written(Document(Model(path)), tmp_path)
    expected = Read(path).document
    assert {**read.document, "buffers": 0, "bufferViews": 0} == {**expected, "buffers": 0, "bufferViews": 0}
    assert read.path.read_bytes().endswith(more)


def gltf_of_buffers(folder, buffers: list[dict], **document):
    path = folder / "m.gltf"
    path.write_text(json.dumps({"asset": {"version": "2.0"}, "buffers": buffers, **document}), encoding="utf-8-sig")
    return path


def test_files_and_data_uris_end_in_one_buffer(tmp_path):
    (tmp_path / "a b.bin").write_bytes(b"0123456789abcdefghi")
    (tmp_path / "wood.png").write_bytes(PICTURES[0])
    webp = encoded(pixels(), "WEBP")
    path = gltf_of_buffers(
        tmp_path, [{"uri": "a%20b.bin", "byteLength": 19, "extras": 1},
                   {"uri": "data:;base64," + base64.b64encode(b"ABCDEFGH").decode(), "byteLength": 8, "extras": [2]}],
        bufferViews=[{"buffer": 1, "byteOffset": 4, "byteLength": 4}, {"buffer": 0, "byteOffset": 16, "byteLength": 3}],
        images=[{"uri": "wood.png"}, {"uri": "data:application/octet-stream;base64," + base64.b64encode(webp).decode()},
                {"uri": "wood.png", "mimeType": "image/x-odd", "name": "kept"}],
        extensions={"KHR_audio_emitter": {"audio": [{"uri": "hum.mp3"}, {"uri": "data:,x"}]}},
    )  # fmt: skip
    document = Document(Model(path))
    read = written(document, tmp_path)
    assert [read.view(0), read.view(1)] == [b"EFGH", b"ghi"]
    assert [read.image(0), read.image(1)] == [PICTURES[0], webp]
    assert read.document["images"][0] == {"mimeType": "image/png", "name": "wood", "bufferView": 2}
    assert read.document["images"][1]["mimeType"] == "image/webp"
    assert read.document["images"][2] == {"mimeType": "image/x-odd", "name": "kept", "bufferView": 2}
    assert read.document["buffers"] == [{"byteLength": len(read.blob), "extras": 1}]
    assert document.notes == [
        "note: buffers[1]: without its 'extras', as a .glb has one buffer",
        "note: not in it, to be copied beside it: hum.mp3",
    ]


def test_meshopt_keeps_its_buffer_without_bytes(tmp_path):
    name = "EXT_meshopt_compression"
    fallback = {"byteLength": 99, "extensions": {name: {"fallback": True}}}
    (tmp_path / "a.bin").write_bytes(PICTURES[0] + bytes(-len(PICTURES[0]) % 4) + b"meshopt!")
    size = (tmp_path / "a.bin").stat().st_size
    held = {"buffer": 1, "byteOffset": size - 8, "byteLength": 8, "byteStride": 4, "count": 2}
    path = gltf_of_buffers(
        tmp_path, [fallback, {"uri": "a.bin", "byteLength": size}], materials=[{"normalTexture": {"index": 0}}],
        bufferViews=[{"buffer": 0, "byteLength": 99, "extensions": {name: held}},
                     {"buffer": 1, "byteLength": len(PICTURES[0])}],
        images=[{"bufferView": 1, "mimeType": "image/png"}], textures=[{"source": 0}], extensionsRequired=[name],
    )  # fmt: skip
    document = Document(Model(path))
    document.json["materials"] = [{}]
    document.release([0])
    document.add_view(NEW)
    read = written(document, tmp_path)
    view = read.document["bufferViews"][0]
    moved = view["extensions"][name]
    assert view["buffer"] == 1 and read.document["buffers"][1] == fallback and moved["buffer"] == 0
    assert read.blob[moved["byteOffset"] :][:8] == b"meshopt!" and moved["byteOffset"] % 4 == 0
    assert {**moved, **{key: held[key] for key in ("buffer", "byteOffset")}} == held
    assert read.view(1) == NEW and PICTURES[0] not in read.blob


BAD_VIEWS = {
    "a negative offset": {"buffer": 0, "byteOffset": -4, "byteLength": 4},
    "past the end": {"buffer": 0, "byteOffset": 4, "byteLength": 4000},
    "no buffer": {"buffer": 7, "byteLength": 4},
    "no length": {"buffer": 0},
    "an extension past the end": {"buffer": 0, "byteLength": 4, "extensions": {"A_b": {"buffer": 0, "byteLength": 99}}},
}


@pytest.mark.parametrize("bad", BAD_VIEWS)
def test_views_that_lie_nowhere_are_refused(bad, tmp_path):
    path = stored({"bufferViews": [BAD_VIEWS[bad]]}, [b"12345678"], tmp_path)
    with pytest.raises(UserError, match=r"m\.glb: bufferViews\[0\]: .*expected .*; .*again"):
        Document(Model(path)).encode()


ODD = {
    "extensionsUsed": [{"a": 1}, 3, "A_b"], "extensionsRequired": [{"a": 1}], "extensions": [1],
    "accessors": {"a": 1}, "textures": [{"source": True}, {"extensions": {"A_b": 7}, "source": 99}, {"source": -1}],
    "images": [{"bufferView": 77}, {"bufferView": -1}, {"bufferView": True}],
    "materials": [{}], "meshes": [[{"bufferView": {"a": 0}}]], "scenes": None,
}  # fmt: skip


@pytest.mark.parametrize("key", ODD)
def test_odd_values_do_not_matter(key, tmp_path):
    document = Document(Model(stored({"textures": [{}] * 3, "materials": [{}], key: ODD[key]}, [b"1234"], tmp_path)))
    document.release([0, 1, 2])
    document.add_view(NEW)
    read = written(document, tmp_path)
    assert read.view(0) == b"1234" and read.view(1) == NEW


def test_more_bytes_than_a_glb_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("transcode.gltf.document.MAX_GLB", 2000)
    path, _ = with_images(tmp_path)
    document = Document(Model(path))
    document.add_view(bytes(2000))
    with pytest.raises(UserError, match=r"expected at most 2000 bytes, found \d{4} to write; split the model"):
        document.encode()


def test_a_model_that_changes_meanwhile_is_refused(tmp_path):
    path, _ = with_images(tmp_path)
    document = Document(Model(path))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match="changed while it was read"):
        document.encode()
