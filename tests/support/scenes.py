"""Whole models as people have them, made from code: a courtyard, a skinned figure, and twenty materials.

Each has what the others have not; see their docstrings. Images are small and of bricks, so that training has something
to learn.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.models import encoded, glb

Arrays = dict[str, np.ndarray]
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
COMPONENTS = {"f4": 5126, "u4": 5125, "u2": 5123, "u1": 5121}
NTX = "NTX_neural_texture"


# --- images ----------------------------------------------------------------------------------------------------------


def bricks(size: tuple[int, int], seed: int) -> Arrays:
    """Maps of a wall that tiles, values 0..1: color (H, W, 3), normal, orm, and alpha (H, W, 1) of its bricks."""
    width, height = size
    random = np.random.default_rng(seed)
    rows, columns = 4, 2 + seed % 2
    y, x = (np.mgrid[:height, :width] + 0.5) / [[[height]], [[width]]]
    row = np.floor(y * rows)
    along = (x * columns + 0.5 * (row % 2)) % columns
    far = np.minimum(*(np.minimum(part % 1, 1 - part % 1) * step for part, step in
                       ((along, 1 / columns), (y * rows, 1 / rows))))  # fmt: skip
    stone = np.clip(far * 40 - 0.4, 0, 1)
    tone = random.random((rows, columns))[row.astype(int), np.floor(along).astype(int) % columns]
    grain = sum(np.sin(2 * np.pi * (a * x + b * y + phase)) for a, b, phase in
                zip(*random.integers(-9, 10, (2, 8)), random.random(8))) / 8  # fmt: skip
    height_field = stone * (0.7 + 0.2 * tone + 0.2 * grain)
    base, joint = random.uniform(0.25, 0.85, 3), random.uniform(0.4, 0.6)
    color = np.where(stone[..., None] > 0.5, base * (0.6 + 0.4 * tone + 0.25 * grain)[..., None], joint)
    slope = [(np.roll(height_field, 1, axis) - np.roll(height_field, -1, axis)) * 1.5 for axis in (1, 0)]
    normal = np.dstack([slope[0], -slope[1], np.ones_like(x)])
    normal = normal / np.linalg.norm(normal, axis=2, keepdims=True) * 0.5 + 0.5
    orm = np.dstack([0.5 + 0.5 * stone, 0.9 - 0.4 * tone * stone, 0.3 * stone])
    return {"color": color, "normal": normal, "orm": orm, "alpha": np.clip(far * 60, 0, 1)[..., None]}


def png(values: np.ndarray, dtype: type = np.uint8) -> bytes:
    """Values 0..1 as a PNG file."""
    top = np.iinfo(dtype).max
    return encoded((values.clip(0, 1) * top + 0.5).astype(dtype))


# --- shapes ----------------------------------------------------------------------------------------------------------


def sheet(
    columns: int, rows: int, size: tuple[float, float] = (2.0, 2.0), upright: bool = False, without: Sequence[str] = ()
) -> Arrays:
    """A wavy sheet of quads, flat on the ground or upright; of its attributes all but `without`."""
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    x, y = (u - 0.5) * size[0], (0.5 - v) * size[1]
    bump, slope = 0.05 * np.sin(6 * x), 0.3 * np.cos(6 * x)
    one, none = np.ones_like(x), np.zeros_like(x)
    axes = (lambda a, b, c: (a, b, c)) if upright else (lambda a, b, c: (a, c, -b))  # (along, up, out)
    shape = {
        "POSITION": axes(x, y, bump), "NORMAL": axes(-slope, none, one), "TANGENT": (*axes(one, none, slope), one),
        "TEXCOORD_0": (u, v), "TEXCOORD_1": (0.1 + 0.8 * v, 0.1 + 0.8 * u),
    }  # fmt: skip
    shape = {name: np.stack(parts, axis=-1).reshape(-1, len(parts)) for name, parts in shape.items()}
    shape["NORMAL"] /= np.linalg.norm(shape["NORMAL"], axis=1, keepdims=True)
    shape["TANGENT"][:, :3] /= np.linalg.norm(shape["TANGENT"][:, :3], axis=1, keepdims=True)
    first = np.arange(columns)[None, :] + (columns + 1) * np.arange(rows)[:, None]
    below = first + columns + 1
    triangles = np.stack([first, below, below + 1, first, below + 1, first + 1], axis=-1).reshape(-1, 1)
    return {**{name: values.astype("<f4") for name, values in shape.items() if name not in without},
            "indices": triangles.astype("<u2")}  # fmt: skip


class Scene:
    """A document under construction, with its buffer."""

    def __init__(self, **document: Any):
        self.blob = bytearray()
        self.document = {
            "asset": {"version": "2.0", "generator": "a test", "copyright": "nobody", "extras": {"made": "now"}},
            "scene": 0, "scenes": [{"name": "Everything", "nodes": [0], "extras": {"deep": [1, {"er": None}]}}],
            "nodes": [], "meshes": [], "accessors": [], "bufferViews": [], "buffers": [],
            "materials": [], "textures": [], "images": [], **document,
        }  # fmt: skip

    def add(self, kind: str, **entry: Any) -> int:
        """Append to a list of the document; the index."""
        self.document.setdefault(kind, []).append(entry)
        return len(self.document[kind]) - 1

    def view(self, payload: bytes, **more: Any) -> int:
        self.blob.extend(bytes(-len(self.blob) % 4))
        offset = len(self.blob)
        self.blob.extend(payload)
        return self.add("bufferViews", buffer=0, byteOffset=offset, byteLength=len(payload), **more)

    def accessor(self, values: np.ndarray, limits: bool = False, view: dict[str, Any] | None = None, **more) -> int:
        """(n, components) values in a view of their own."""
        if limits:
            more |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        more |= {"componentType": COMPONENTS[values.dtype.str[1:]], "type": TYPES[values.shape[1]]}
        return self.add("accessors", bufferView=self.view(values.tobytes(), **(view or {})), count=len(values), **more)

    def primitive(self, shape: Arrays, material: int, **more: Any) -> dict[str, Any]:
        """A primitive of a mesh."""
        attributes = {name: self.accessor(values, name == "POSITION", {"target": 34962}) for name, values in
                      shape.items() if name != "indices"}  # fmt: skip
        indices = self.accessor(shape["indices"], view={"target": 34963})
        return {"attributes": attributes, "indices": indices, "material": material, **more}

    def texture(self, image: int, **more: Any) -> int:
        return self.add("textures", source=image, **more)

    def stored(self, payload: bytes, **more: Any) -> int:
        """An image in the buffer."""
        return self.add("images", bufferView=self.view(payload), mimeType="image/png", **more)

    def nodes(self, *entries: dict[str, Any]) -> None:
        """These nodes below a first one that holds all of them."""
        self.add("nodes", name="Root", children=list(range(1, 1 + len(entries))), extras={"id": 7})
        for entry in entries:
            self.add("nodes", **entry)

    def save_glb(self, path: Path) -> Path:
        self.document["buffers"] = [{"byteLength": len(self.blob), "extras": {"n": 1.5}}]
        self.blob.extend(bytes(-len(self.blob) % 4))
        path.write_bytes(glb({**self.document}, blob=bytes(self.blob)))
        return path

    def save_gltf(self, path: Path, binary: str, files: dict[str, bytes]) -> Path:
        """A .gltf with its buffer and images as files beside it."""
        self.document["buffers"] = [{"uri": binary, "byteLength": len(self.blob), "name": "the buffer"}]
        for name, payload in {binary: bytes(self.blob), **files}.items():
            (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
            (path.parent / name).write_bytes(payload)
        path.write_text(json.dumps(self.document, ensure_ascii=False), encoding="utf-8")
        return path


def placed(x: float, z: float, **more: Any) -> dict[str, Any]:
    """A node at a place on the ground."""
    return {"translation": [x, 0.0, z], **more}


# --- the models ------------------------------------------------------------------------------------------------------


def courtyard(folder: Path) -> Path:
    """A .glb of six materials: a texture transform, an occlusion on uv set 1, alpha that is masked and that blends,
    images that two materials share, clearcoat, variants, lights, a camera, and extras of all types."""
    scene = Scene(
        extensionsUsed=["KHR_texture_transform", "KHR_materials_clearcoat", "KHR_lights_punctual",
                        "KHR_materials_variants", "KHR_materials_emissive_strength"],
        samplers=[{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497, "name": "usual"},
                  {"minFilter": 9985, "extras": {"because": "of it"}}],
        extras={"tags": ["a", "ü", "\U0001f9f1"], "zero": 0, "big": 123456789012345, "no": False},
    )  # fmt: skip
    stone, plaster, fence = bricks((128, 64), 1), bricks((64, 64), 2), bricks((96, 96), 3)
    files = [png(stone["color"]), png(stone["normal"]), png(stone["orm"]), png(plaster["color"]),
             png(np.dstack([fence["color"], fence["alpha"]])), png(plaster["alpha"][..., 0][..., None])]  # fmt: skip
    names = ("stone color", "stone normal", "stone orm", "plaster", "fence", "coat")
    images = [scene.stored(payload, name=name) for name, payload in zip(names, files)]
    color, normal, orm, wall, posts, coat = (scene.texture(image, sampler=0) for image in images)
    again = scene.texture(images[0], sampler=1, name="stone, again", extras={"twice": True})
    moved = {"KHR_texture_transform": {"offset": [0.25, -0.5], "rotation": 0.3, "scale": [2.0, 1.5]}}

    def lies(index: int, **more: Any) -> dict[str, Any]:
        return {"index": index, "extensions": moved, **more}

    scene.add("materials", name="Paving", extras={"friction": 0.8}, occlusionTexture={"index": orm, "texCoord": 1},
              pbrMetallicRoughness={"baseColorTexture": lies(color, extras={"kept": 1}), "roughnessFactor": 0.8,
                                    "baseColorFactor": [0.9, 0.8, 0.7, 1.0], "metallicRoughnessTexture": lies(orm)},
              normalTexture=lies(normal, scale=0.7))  # fmt: skip
    clearcoat = {"clearcoatFactor": 0.5, "clearcoatTexture": {"index": coat}, "clearcoatRoughnessFactor": 0.1}
    scene.add("materials", name="Wall", extensions={"KHR_materials_clearcoat": clearcoat},
              pbrMetallicRoughness={"baseColorTexture": {"index": wall}, "metallicRoughnessTexture": {"index": orm}},
              occlusionTexture={"index": orm, "strength": 0.5}, normalTexture={"index": normal})  # fmt: skip
    scene.add("materials", name="Fence", alphaMode="MASK", alphaCutoff=0.3, doubleSided=True,
              pbrMetallicRoughness={"baseColorTexture": {"index": posts}, "metallicFactor": 0.0})  # fmt: skip
    scene.add("materials", name="Pane", alphaMode="BLEND", doubleSided=True, extras=["glass"],
              pbrMetallicRoughness={"baseColorTexture": {"index": posts}, "baseColorFactor": [0.5, 0.7, 1.0, 0.6],
                                    "metallicFactor": 0.0, "roughnessFactor": 0.2})  # fmt: skip
    scene.add("materials", name="Lamp", emissiveFactor=[1.0, 0.8, 0.5], pbrMetallicRoughness={"metallicFactor": 0.0},
              extensions={"KHR_materials_emissive_strength": {"emissiveStrength": 8.0}}, extras=None)  # fmt: skip
    scene.add("materials", name="Paving", pbrMetallicRoughness={"baseColorTexture": {"index": again}},
              emissiveTexture={"index": wall}, emissiveFactor=[0.2, 0.2, 0.2])  # fmt: skip
    variants = {"KHR_materials_variants": {"mappings": [{"material": 5, "variants": [1]}]}}
    shapes = [(sheet(8, 8, (6.0, 6.0)), 0, {"extensions": variants}), (sheet(6, 4, upright=True), 1, {}),
              (sheet(4, 2, upright=True), 2, {"extras": {"posts": 5}}), (sheet(2, 2, upright=True), 3, {}),
              (sheet(1, 1, (0.3, 0.3)), 4, {}), (sheet(3, 3), 5, {})]  # fmt: skip
    for number, (shape, material, more) in enumerate(shapes):
        scene.add("meshes", name=f"Part {number}", primitives=[scene.primitive(shape, material, **more)],
                  extras={"lod": number})  # fmt: skip
    scene.add("cameras", type="perspective", perspective={"yfov": 0.8, "znear": 0.1}, name="Eye", extras={"iso": 100})
    turned = [0.0, 0.7071067811865476, 0.0, 0.7071067811865476]
    scene.nodes(
        placed(0.0, 0.0, mesh=0), placed(-1.0, -2.0, mesh=1, name="Wall"), placed(1.2, -1.5, mesh=2, rotation=turned),
        placed(0.5, 0.5, mesh=3, name="Pane"), placed(2.0, 2.0, mesh=4, scale=[1.0, -1.0, 1.0]),
        placed(1.0, 1.0, mesh=5), placed(0.0, 5.0, camera=0),
        {"extensions": {"KHR_lights_punctual": {"light": 0}}, "name": "Sun"},
    )  # fmt: skip
    scene.document["extensions"] = {
        "KHR_lights_punctual": {"lights": [{"type": "directional", "intensity": 3.0, "color": [1.0, 0.9, 0.8]}]},
        "KHR_materials_variants": {"variants": [{"name": "dry"}, {"name": "wet"}]},
    }
    return scene.save_glb(folder / "courtyard.glb")


def figure(folder: Path) -> Path:
    """A .gltf with a .bin: two joints, an animation, a morph target in a sparse accessor, and no tangents; one material
    of data URIs, one of files whose names need quoting, 16 bits each."""
    scene = Scene(extras={"rig": "human"})
    shape = sheet(4, 12, (1.0, 3.0), True, ("TANGENT", "TEXCOORD_1"))
    up = shape["POSITION"][:, 1] * 0.3 + 0.5
    shape["JOINTS_0"] = np.tile(np.array([0, 1, 0, 0], "u1"), (len(up), 1))
    shape["WEIGHTS_0"] = np.stack([1 - up, up, 0 * up, 0 * up], axis=1).astype("<f4")
    moved = np.flatnonzero(up > 0.75).astype("<u2")[:, None]
    smile = np.full((len(moved), 3), [0.0, 0.1, 0.3], "<f4")
    target = scene.add(
        "accessors", componentType=5126, type="VEC3", count=len(up), min=[0.0, 0.0, 0.0], max=smile[0].tolist(),
        sparse={"count": len(moved), "indices": {"bufferView": scene.view(moved.tobytes()), "componentType": 5123},
                "values": {"bufferView": scene.view(smile.tobytes())}},
    )  # fmt: skip
    more = {"targets": [{"POSITION": target}]}
    cloth, skin = bricks((64, 96), 4), bricks((80, 64), 5)
    data = [png(cloth[name]) for name in ("color", "normal", "orm")]
    files = {f"images/skin{mark}.png": png(skin[mark[1:]], np.uint16) for mark in (" color", "#normal")}
    uris = [f"data:image/png;base64,{base64.b64encode(payload).decode()}" for payload in data]
    uris += ["images/skin%20color.png", "images/skin%23normal.png"]
    textures = [scene.texture(scene.add("images", uri=uri)) for uri in uris]
    scene.add("materials", name="Cloth", normalTexture={"index": textures[1]}, extras={"wash": 40},
              pbrMetallicRoughness={"baseColorTexture": {"index": textures[0]},
                                    "metallicRoughnessTexture": {"index": textures[2]}})  # fmt: skip
    scene.add("materials", name="Skin", normalTexture={"index": textures[4]},
              pbrMetallicRoughness={"baseColorTexture": {"index": textures[3]}, "metallicFactor": 0.0})  # fmt: skip
    scene.add("meshes", name="Body", weights=[0.25], extras={"targetNames": ["smile"]},
              primitives=[scene.primitive(shape, material, **more) for material in (0, 1)])  # fmt: skip
    bind = np.tile(np.eye(4, dtype="<f4").reshape(1, 16), (2, 1))
    bind[1, 13] = -0.5
    scene.add("skins", joints=[2, 3], inverseBindMatrices=scene.accessor(bind), skeleton=2, name="Bones")
    time = np.array([[0.0], [0.5], [1.25]], "<f4")
    angle = np.array([0.0, 0.6, -0.4])
    turn = np.stack([0 * angle, 0 * angle, np.sin(angle / 2), np.cos(angle / 2)], axis=1).astype("<f4")
    weights = np.array([[0], [0.1], [0], [0], [1], [0], [0], [0.3], [0]], "<f4")  # tangents around each value
    seconds = scene.accessor(time, limits=True)
    scene.add("animations", name="Wave", extras={"loop": True}, samplers=[
        {"input": seconds, "output": scene.accessor(turn), "interpolation": "LINEAR"},
        {"input": seconds, "output": scene.accessor(weights), "interpolation": "CUBICSPLINE"},
    ], channels=[{"sampler": 0, "target": {"node": 3, "path": "rotation"}},
                 {"sampler": 1, "target": {"node": 1, "path": "weights"}, "extras": {"lips": 1}}])  # fmt: skip
    scene.document["scenes"][0]["nodes"] = [0, 1]  # a skinned mesh is no child
    scene.add("nodes", name="Root", children=[2])
    scene.add("nodes", name="Body", mesh=0, skin=0)
    scene.add("nodes", name="Hip", children=[3])
    scene.add("nodes", name="Chest", translation=[0.0, 0.5, 0.0])
    return scene.save_gltf(folder / "figure.gltf", "figure.bin", files)


def swatches(folder: Path, count: int = 20, size: tuple[int, int] = (64, 64), name: str = "swatches.glb") -> Path:
    """A .glb of many materials on as many sheets: every one its own colour, and normals and ORM shared by five each."""
    scene = Scene()

    def texture(kind: str, seed: int) -> int:
        return scene.texture(scene.stored(png(bricks(size, seed)[kind]), name=f"{kind} {seed}"))

    shared = [[texture(kind, seed) for kind in ("normal", "orm")] for seed in range(-(-count // 5))]
    entries = []
    for number in range(count):
        normal, orm = shared[number // 5]
        surface = {"baseColorTexture": {"index": texture("color", 100 + number)},
                   "metallicRoughnessTexture": {"index": orm}}  # fmt: skip
        scene.add("materials", name=f"Swatch {number:02}", pbrMetallicRoughness=surface,
                  normalTexture={"index": normal}, occlusionTexture={"index": orm})  # fmt: skip
        scene.add("meshes", primitives=[scene.primitive(sheet(2, 2, (0.9, 0.9), True, ("TEXCOORD_1",)), number)])
        entries.append({"mesh": number, "translation": [number % 5 - 2.0, number // 5 - 1.5, 0.0]})
    scene.nodes(*entries)
    return scene.save_glb(folder / name)


MODELS = {"courtyard": courtyard, "figure": figure, "swatches": swatches}
