"""Make the sample model data/pillar.glb: a round pillar of the wall's bricks, its irons glowing, with ivy around it.

    python data/make_test_model.py

Its images are those of data/test, at half their size, and of data/test_leaves.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script: the repository root is not on it

from common.errors import run_command
from common.files import write_bytes
from data.canvas import Canvas, gradient

FOLDER = Path(__file__).resolve().parent
SIZE, SEED = 512, 3  # texels to a side of the bricks
HEIGHT, RADIUS = 3.0, 0.5  # metres
GLOW = ("000000", "3c0600", "c83404", "ffc878")  # sRGB
STRENGTH = 4.0  # of the light


# --- images ----------------------------------------------------------------------------------------------------------


def png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) values 0..1 as a PNG file of 8 bits."""
    stream = io.BytesIO()
    Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def wall(name: str) -> np.ndarray:
    """A map of data/test, 0..1, averaged to SIZE."""
    with Image.open(FOLDER / "test" / f"Test_{name}.png") as picture:
        values = np.asarray(picture, np.float32) / 255
    step = len(values) // SIZE
    return values.reshape(SIZE, step, SIZE, step, *values.shape[2:]).mean(axis=(1, 3))


def brick_images() -> list[bytes]:
    """Base colour, normal, occlusion | roughness | metallic, and emission of the bricks."""
    normal = wall("Normal") * 2 - 1
    normal = normal / np.linalg.norm(normal, axis=2, keepdims=True) * 0.5 + 0.5
    metallic = wall("Metallic")
    heat = metallic * (0.62 + 0.25 * Canvas(SIZE, SEED).noise("heat", 2, 24)).clip(0, 1)
    packed = np.dstack([wall("AO"), wall("Roughness"), metallic])
    return [png(wall("Albedo")), png(normal), png(packed), png(gradient(GLOW, heat))]


def leaf_images() -> list[bytes]:
    """Base colour with alpha, normal, and roughness (grey) of the ivy, as they are in data/test_leaves."""
    names = ("Albedo", "NormalGL", "Roughness")
    return [(FOLDER / "test_leaves" / f"Leaves_{name}.png").read_bytes() for name in names]


# --- meshes ----------------------------------------------------------------------------------------------------------


def tube(radius: float, turns: float, around: int, up: int, repeats: float) -> dict[str, np.ndarray]:
    """A round wall of `around` x `up` quads along `turns` of a circle, its texture `repeats` times around it."""
    u, v = np.meshgrid(np.linspace(0, 1, around + 1), np.linspace(0, 1, up + 1))
    angle = 2 * np.pi * turns * u
    normal = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=-1)
    tangent = np.stack([np.cos(angle), 0 * v, -np.sin(angle), 0 * v + 1], axis=-1)  # along u; 1: the other axis is up
    position = normal * radius + np.stack([0 * v, HEIGHT * (1 - v), 0 * v], axis=-1)
    corner = np.arange(around)[None, :] + (around + 1) * np.arange(up)[:, None]
    below = corner + around + 1
    triangles = np.stack([corner, below, below + 1, corner, below + 1, corner + 1], axis=-1)
    uv = np.stack([u * repeats, v], axis=-1)
    shapes = {"POSITION": position, "NORMAL": normal, "TANGENT": tangent, "TEXCOORD_0": uv}
    return {**{name: values.reshape(-1, values.shape[-1]).astype("<f4") for name, values in shapes.items()},
            "indices": triangles.reshape(-1, 1).astype("<u2")}  # fmt: skip


def meshes() -> list[dict[str, np.ndarray]]:
    """The pillar (384 triangles) and the ivy around three quarters of it (192)."""
    return [tube(RADIUS, 1.0, 32, 6, 2.0), tube(RADIUS * 1.06, 0.75, 24, 4, 3.0)]


# --- the model -------------------------------------------------------------------------------------------------------


def materials() -> list[dict]:
    """As glTF has them: the bricks with a texture transform and a light above 1, the ivy with an alpha test."""
    upright = {"KHR_texture_transform": {"offset": [0.0, 0.0], "rotation": 0.0, "scale": [1.0, 1.5]}}

    def texture(index: int, **more: object) -> dict:
        return {"index": index, "extensions": upright, **more}

    bricks = {
        "name": "Bricks",
        "pbrMetallicRoughness": {
            "baseColorTexture": texture(0), "baseColorFactor": [1.0, 0.92, 0.85, 1.0],
            "metallicRoughnessTexture": texture(2), "roughnessFactor": 0.9,
        },
        "normalTexture": texture(1, scale=1.2), "occlusionTexture": texture(2, strength=0.8),
        "emissiveTexture": texture(3), "emissiveFactor": [1.0, 0.9, 0.8],
        "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": STRENGTH}},
    }  # fmt: skip
    ivy = {
        "name": "Ivy",
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": 4}, "metallicRoughnessTexture": {"index": 6}, "metallicFactor": 0.0,
        },
        "normalTexture": {"index": 5}, "alphaMode": "MASK", "alphaCutoff": 0.5, "doubleSided": True,
    }  # fmt: skip
    return [bricks, ivy]


def make_model() -> bytes:
    """The bytes of the .glb file."""
    from pygltflib import GLTF2

    document, blob = outline(), bytearray()

    def view(payload: bytes, **more: int) -> int:
        document["bufferViews"].append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(payload), **more})
        blob.extend(payload + b"\0" * (-len(payload) % 4))
        return len(document["bufferViews"]) - 1

    for index, mesh in enumerate(meshes()):
        accessors = {}
        for name, values in mesh.items():
            kind = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[values.shape[1]]
            whole = name == "indices"
            limits = {"min": values.min(0).tolist(), "max": values.max(0).tolist()} if name == "POSITION" else {}
            accessors[name] = len(document["accessors"])
            document["accessors"].append({
                "bufferView": view(values.tobytes(), target=34963 if whole else 34962), "type": kind,
                "componentType": 5123 if whole else 5126, "count": len(values), **limits,
            })  # fmt: skip
        indices = accessors.pop("indices")
        primitive = {"attributes": accessors, "indices": indices, "material": index}
        document["meshes"].append({"primitives": [primitive]})
    names = ["bricks_color", "bricks_normal", "bricks_orm", "bricks_glow", "ivy_color", "ivy_normal", "ivy_roughness"]
    for name, payload in zip(names, brick_images() + leaf_images()):
        document["images"].append({"name": name, "mimeType": "image/png", "bufferView": view(payload)})
    document["buffers"] = [{"byteLength": len(blob)}]
    model = GLTF2.from_json(json.dumps(document), infer_missing=True)
    model.set_binary_blob(bytes(blob))
    return b"".join(model.save_to_bytes())


def outline() -> dict:
    """The document without what lies in its buffer."""
    return {
        "asset": {"version": "2.0", "generator": "data/make_test_model.py", "copyright": "CC0 1.0"},
        "extensionsUsed": ["KHR_texture_transform", "KHR_materials_emissive_strength"],
        "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "Pillar", "mesh": 0, "children": [1]}, {"name": "Ivy", "mesh": 1}],
        "materials": materials(), "textures": [{"source": index, "sampler": 0} for index in range(7)],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}],
        "meshes": [], "accessors": [], "bufferViews": [], "images": [],
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, make the model, write it; 0 on success."""
    parser = argparse.ArgumentParser(description="Make the sample model: a pillar with ivy.")
    usual = FOLDER / "pillar.glb"
    parser.add_argument("--out", type=Path, default=usual, help="file to write (default: data/pillar.glb)")
    path = parser.parse_args(argv).out
    write_bytes(path, make_model())
    print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
