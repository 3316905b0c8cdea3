"""glTF models that are damaged or mean harm: one line each, and nothing outside of the model's folder is opened."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from common.errors import UserError
from dataset import load_material
from maps.gltf import container
from tests.support.models import encoded, glb, gltf, orm_images, pixels, textures, whole
from tests.support.runs import refusal

PNG = encoded(pixels())


def document(**changes) -> dict:
    return {"materials": [whole()], "textures": textures(3), **changes}


def one(name: str, **changes) -> bytes:
    """A .glb whose first entry of `name` is changed: images, bufferViews, buffers."""
    made = glb(document(), orm_images())
    end = 20 + int.from_bytes(made[12:16], "little")
    values = json.loads(made[20:end])
    values[name][0].update(changes)
    text = json.dumps(values).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(made) - end, len(text), b"JSON") + text + made[end:]


def material(**changes) -> dict:
    return document(materials=[{**whole(), **changes}])


PBR = {"baseColorTexture": {"index": 0}}
LINES = {
    "a negative offset": (one("bufferViews", byteOffset=-4), "bufferViews[0]: byteOffset: expected a whole number"),
    "past the end": (one("bufferViews", byteLength=10**6), "bufferViews[0]: expected bytes inside of its buffer"),
    "far past the end": (one("bufferViews", byteOffset=2**62), "byteOffset"),
    "a length of 0": (one("bufferViews", byteLength=0), "bufferViews[0]: byteLength"),
    "no such buffer": (one("bufferViews", buffer=7), "bufferViews[0]: index into buffers"),
    "a buffer longer than its bytes": (one("buffers", byteLength=10**6), "buffers[0]: expected the 1000000 bytes"),
    "no such view": (one("images", bufferView=99), "images[0]: index into bufferViews"),
    "a view of text": (one("images", bufferView="x"), "invalid literal"),
    "neither uri nor view": (one("images", bufferView=None), "images[0]: index into bufferViews"),
    "no such image": (document(textures=[{"source": 50}] * 3), "textures[0]: index into images"),
    "a texture without an image": (document(textures=[{}] * 3), "textures[0]: expected an image in source"),
    "an image of another package": (
        document(textures=[{"extensions": {"MSFT_texture_dds": {"source": 0}}}] * 3), "found none but in 'MSFT_texture",
    ),
    "no such texture": (material(normalTexture={"index": 9}), "materials[0].normalTexture: index into textures"),
    "a texture of -1": (material(normalTexture={"index": -1}), "materials[0].normalTexture: index into textures"),
    "a factor of text": (material(pbrMetallicRoughness={**PBR, "roughnessFactor": "x"}), "could not convert"),
    "too few factors": (material(pbrMetallicRoughness={**PBR, "baseColorFactor": [1, 1]}), "baseColorFactor"),
    "a factor that is infinite": (material(emissiveFactor=[1e999, 0, 0]), "Infinity is not a number of JSON"),
    "an alpha mode": (material(alphaMode="GLASS"), "alphaMode: expected OPAQUE, MASK, BLEND"),
    "a transform of text": (
        material(normalTexture={"index": 0, "extensions": {"KHR_texture_transform": {"scale": "x"}}}), "scale",
    ),
    "a uv set": (material(normalTexture={"index": 0, "texCoord": -1}), "texCoord"),
    "a strength of a list": (
        material(emissiveTexture={"index": 0}, emissiveFactor=[1, 1, 1],
                 extensions={"KHR_materials_emissive_strength": {"emissiveStrength": [1]}}), "emissiveStrength",
    ),
    "materials of text": (document(materials="x"), "materials"),
    "a material that is none": (document(materials=[None]), "materials: an entry that is no object"),
    "many materials": (document(materials=[{}] * 9000), "materials: at most 8192"),
    "another version": ({**document(), "asset": {"version": "1.0"}}, "version '1.0'"),
    "no version": ({**document(), "asset": {}}, "version None"),
}  # fmt: skip
URIS = {
    "up": "../secret.png", "up, encoded": "%2e%2e/secret.png", "up, within": "a/../../secret.png",
    "up, with backslashes": "..\\secret.png", "absolute": "/etc/passwd", "a drive": "C:\\x.png",
    "http": "http://127.0.0.1:9/x.png", "https": "https://example.com/x.png", "file": "file:///etc/passwd",
    "ftp": "ftp://x/y.png", "an address without slashes": "http:there.png",
    "a share": "//host/x.png", "null": "a\0b.png", "null, encoded": "a%00b.png",
    "empty": "", "a link": "link.png", "a link to a folder": "folder/secret.png", "missing": "no.png",
    "a folder": "inside", "not base64": "data:image/png;base64,@@@@", "data without base64": "data:image/png,abc",
    "a pipe": "pipe", "long": "x" * 5000, "a surrogate": "\ud800.png",
}  # fmt: skip
NEVER = set(list(URIS)[: list(URIS).index("a link")])


def line_of(path: Path) -> str:
    """The one line that refuses a model."""
    with pytest.raises(UserError) as caught:
        load_material(path, max_pixels=2**16)
    line = str(caught.value)
    assert line.isprintable() and path.name in line and 20 < len(line) < 700, line
    return line


@pytest.mark.parametrize("case", list(LINES))
def test_damaged_entries(case, tmp_path):
    made, words = LINES[case]
    path = tmp_path / "m.glb"
    path.write_bytes(made if isinstance(made, bytes) else glb(made, orm_images()))
    assert words in line_of(path)


OPENED: list[str] = []  # names of files, by everything in this process
sys.addaudithook(lambda event, given: OPENED.append(given[0]) if event == "open" and type(given[0]) is str else None)


@pytest.fixture
def folder(tmp_path):
    """A model's folder with links out of it, and a secret beside it."""
    inside = tmp_path / "model"
    (inside / "inside").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(PNG)
    (inside / "http:there.png").write_bytes(PNG)
    (inside / "link.png").symlink_to("../secret.png")
    (inside / "folder").symlink_to("..")
    if hasattr(os, "mkfifo"):
        os.mkfifo(inside / "pipe")
    return inside


@pytest.mark.parametrize("kind", ["images", "buffers"])
@pytest.mark.parametrize("case", list(URIS))
def test_uris_that_lead_elsewhere(case, kind, folder, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    entry = {"uri": URIS[case]}
    made = {"materials": [{"normalTexture": {"index": 0}}], "textures": textures(1)}
    if kind == "images":
        made["images"] = [entry]
    else:
        made |= {"images": [{"bufferView": 0}], "buffers": [{**entry, "byteLength": 5}],
                 "bufferViews": [{"buffer": 0, "byteLength": 5}]}  # fmt: skip
    path = folder / "m.gltf"
    path.write_text(gltf(made))
    OPENED.clear()
    line = line_of(path)
    assert f"{kind}[0]" in line
    assert ("nothing else is opened or fetched" in line) == (case in NEVER)
    assert not [name for name in OPENED if "secret" in os.path.realpath(name) or "passwd" in name]
    assert str(path) in OPENED  # it is watched


def test_a_file_below_the_folder_is_read(folder):
    (folder / "inside" / "a b.png").write_bytes(PNG)
    path = folder / "m.gltf"
    path.write_text(gltf({"materials": [{"occlusionTexture": {"index": 0}}], "textures": textures(1),
                          "images": [{"uri": "inside/a%20b.png"}]}))  # fmt: skip
    assert load_material(path).files == {"occlusion": "a b.png:R"}


def header(total: int | None = None, first: int = 8, kind: bytes = b"JSON", version: int = 2) -> bytes:
    body = struct.pack("<I4s", first, kind) + b"{}      "
    return struct.pack("<4sII", b"glTF", version, total or 12 + len(body)) + body


CONTAINERS = {
    "empty": b"", "four bytes": b"glTF", "truncated": glb(document(), orm_images())[:500],
    "cut in the json": glb(document())[:40], "longer than the file": header(2**32 - 1), "shorter": header(13),
    "a chunk past the end": header(first=2**32 - 1), "another chunk first": header(kind=b"BIN\0"),
    "version 1": header(version=1), "many chunks": b"glTF" + struct.pack("<II", 2, 12 + 8 * 10**6) + bytes(8 * 10**6),
    "an image": PNG, "text": b"hello", "not utf-8": b"\xff\xfe{}", "a list": b"[]", "a number": b"1",
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep extras": gltf({"extras": json.loads("[" * 90 + "]" * 90)}).encode(), "nan": b'{"asset": {"version": NaN}}',
    "many values": b'{"asset":{"version":"2.0"},"x":[' + b"0," * (container.MAX_VALUES + 1) + b"0]}",
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
@pytest.mark.parametrize("case", list(CONTAINERS))
def test_damaged_containers(case, suffix, tmp_path, recwarn):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(CONTAINERS[case])
    started = time.process_time()
    assert "expected a glTF 2.0 model" in line_of(path)
    assert time.process_time() - started < 8 and not recwarn.list


def test_cycles_of_nodes_do_not_matter(tmp_path):
    path = tmp_path / "m.glb"
    nodes = {"nodes": [{"children": [1]}, {"children": [0, 1]}], "scenes": [{"nodes": [0]}], "scene": 0}
    path.write_bytes(glb({**document(), **nodes}, orm_images()))
    assert load_material(path).name == "Wood"


def test_a_large_scene_takes_no_longer(tmp_path):
    path = tmp_path / "m.glb"
    many = {"nodes": [{"mesh": 0}] * 50_000, "accessors": [{"count": 1}] * 50_000, "meshes": [{}] * 50_000}
    made = glb({**document(), **many}, orm_images())
    path.write_bytes(made)
    started = time.process_time()
    load_material(path)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("payload", [b"", b"GIF89a" + bytes(40), PNG[:60], b"<svg/>"])
def test_images_that_are_none(payload, tmp_path):
    path = tmp_path / "m.gltf"
    made = {"materials": [{"normalTexture": {"index": 0}}], "textures": textures(1)}
    path.write_text(gltf(made, {"x": payload}))
    assert "image 0 (image_0)" in line_of(path)


def test_a_bomb(tmp_path):
    path = tmp_path / "m.gltf"
    made = {"materials": [{"normalTexture": {"index": 0}}], "textures": textures(1)}
    path.write_text(gltf(made, {"x": encoded(pixels(3, size=(600, 600)))}))
    assert "expected at most 65536 pixels, found 600x600" in line_of(path)


def test_commands_end_with_one_line(tmp_path, capsys):
    path = tmp_path / "m.glb"
    path.write_bytes(glb(document(), orm_images())[:-5])
    folder = tmp_path / "none.glb"
    batch = ["--groups_batching", "--groups_batch_dir", path, "--groups_save_dir", tmp_path / "out"]
    given = ["--data_dir", path]
    for flags in (given, [*given, "--material", "Wood"], [*given, "--maps"], batch):
        assert "m.glb" in refusal(capsys, *flags)
    assert "none.glb" in refusal(capsys, "--data_dir", folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.glb"]
