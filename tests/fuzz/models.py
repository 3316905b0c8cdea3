"""The reader of glTF models that `python -m tests.fuzz` feeds, and the writer of `export.py --gltf`."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random

from common.errors import UserError
from configs import make_config
from dataset import load_material
from groups.journal import source_facts
from groups.models import groups_of
from maps.read_maps import recognised_maps
from tests.fuzz.base import Reader
from tests.fuzz.inputs import EXTREMES, NAMES, json_bytes, mutate_bytes, mutate_tree
from tests.support.gltf_reader import Read
from tests.support.model_runs import make_batch
from tests.support.models import encoded, glb, gltf, orm_images, pixels, textures, whole
from tests.support.scenes import NTX, courtyard
from training.gltf import Wanted, write_model

MAX_PIXELS = 2**16
MOVED = {"KHR_texture_transform": {"offset": [0.5, 0.0], "rotation": 0.1, "scale": [2, 2], "texCoord": 1}}


def rich() -> dict:
    """A document with something of everything that is read."""
    wood = whole(alphaMode="MASK", alphaCutoff=0.4, emissiveTexture={"index": 3}, emissiveFactor=[1, 0.5, 0.2])
    wood["pbrMetallicRoughness"] |= {"baseColorFactor": [1, 0.5, 0.2, 1], "roughnessFactor": 0.5}
    wood["normalTexture"] = {"index": 1, "scale": 0.5, "texCoord": 0, "extensions": MOVED}
    wood["extensions"] = {
        "KHR_materials_emissive_strength": {"emissiveStrength": 3},
        "KHR_materials_clearcoat": {"clearcoatTexture": {"index": 0}},
    }
    return {
        "materials": [wood, {"name": "plain"}, whole("Other")],
        "textures": [{**entry, "sampler": 0} for entry in textures(3)] + [
            {"source": 3, "extensions": {"EXT_texture_webp": {"source": 4}}}
        ],
        "samplers": [{"wrapS": 33071, "wrapT": 10497}],
        "images": [{"mimeType": "image/png", "name": f"image {index}"} for index in range(5)],
    }  # fmt: skip


class ModelReader(Reader):
    """A .glb or .gltf: its bytes, its JSON, its images; read as a material, listed, and looked at by a batch."""

    memory_mib = 256

    def prepare(self) -> None:
        self.images = [*orm_images(), encoded(pixels(4, 7)), encoded(pixels(3, 8), "WEBP")]
        self.binary = glb(rich(), self.images)
        end = 20 + int.from_bytes(self.binary[12:16], "little")
        self.tree, self.rest = json.loads(self.binary[20:end]), self.binary[end:]
        (self.folder / "x.png").write_bytes(self.images[0])

    def run(self, rng: random.Random) -> None:
        name, payload = self.made(rng)
        path = self.write(name, payload)
        try:
            kind = rng.random()
            if kind < 0.6:
                load_material(path, max_pixels=MAX_PIXELS, material=rng.choice(("Wood", "Other", "")))
            elif kind < 0.8:
                recognised_maps(path, MAX_PIXELS, material="Wood")
            else:
                for group in groups_of(path):
                    with contextlib.suppress(UserError):
                        source_facts(path, make_config({"material": group.material}))
        finally:
            path.unlink()

    def made(self, rng: random.Random) -> tuple[str, bytes]:
        """File name and content."""
        kind = rng.random()
        if kind < 0.3:
            return "m.glb", mutate_bytes(self.binary, rng, self.images)
        if kind < 0.4:
            damaged = [mutate_bytes(image, rng, self.images) for image in self.images]
            return "m.glb", glb(rich(), damaged)
        tree = self.other_values(rng) if rng.random() < 0.5 else mutate_tree(self.tree, rng)
        if rng.random() < 0.5:
            return "m.glb", self.packed(json_bytes(tree))
        if rng.random() < 0.3:
            return "m.gltf", mutate_bytes(gltf(rich(), dict(enumerate(self.images))).encode(), rng)
        return "m.gltf", json_bytes(tree)

    def other_values(self, rng: random.Random) -> dict:
        """The document with numbers and names of our choice where it refers to something."""
        tree = copy.deepcopy(self.tree)
        for _ in range(rng.choice((1, 1, 2, 4))):
            entries = tree[rng.choice(("images", "bufferViews", "buffers", "textures", "samplers"))]
            entry = rng.choice(entries)
            key = rng.choice(("uri", "bufferView", "byteOffset", "byteLength", "buffer", "source", "sampler", "wrapS"))
            texts = (*NAMES, "x.png", "./x.png", "data:image/png;base64,iVBORw0KGgo=", "data:,", "http://127.0.0.1:9/x")
            entry[key] = rng.choice(texts) if key == "uri" else rng.choice((-1, rng.randrange(6), rng.choice(EXTREMES)))
            if key == "uri":
                entry.pop("bufferView", None)
        return tree

    def packed(self, text: bytes) -> bytes:
        return packed(text, self.rest)


def packed(text: bytes, rest: bytes) -> bytes:
    """A .glb of this JSON and what lies behind it."""
    text += b" " * (-len(text) % 4)
    size = 20 + len(text) + len(rest)
    return b"glTF" + b"".join(n.to_bytes(4, "little") for n in (2, size, len(text))) + b"JSON" + text + rest


UNTRAINED = ("Wall", "Pane", "Paving#5")  # of the courtyard


class ModelWriter(Reader):
    """A damaged model of which two materials are trained: `export.py --gltf` refuses it, or writes what can be read."""

    memory_mib, limit_s = 256, 10.0

    def prepare(self) -> None:
        self.original = courtyard(self.folder).read_bytes()
        make_batch(self.folder / "courtyard.glb", self.folder / "runs", UNTRAINED)
        end = 20 + int.from_bytes(self.original[12:16], "little")
        self.tree, self.rest = json.loads(self.original[20:end]), self.original[end:]

    def run(self, rng: random.Random) -> None:
        kind = rng.random()
        if kind < 0.25:
            payload = mutate_bytes(self.original, rng)
        elif kind < 0.6:  # what no material needs, so that the writer has to bear it
            part = rng.choice([key for key in self.tree if key not in ("materials", "textures", "images")])
            payload = packed(json_bytes({**self.tree, part: mutate_tree(self.tree[part], rng)}), self.rest)
        else:
            payload = packed(json_bytes(mutate_tree(self.tree, rng)), self.rest)
        path, out = self.write("courtyard.glb", payload), self.folder / "out.glb"
        wanted = Wanted(fallback=rng.choice(("jpeg", "none")), max_pixels=MAX_PIXELS)
        try:
            with contextlib.redirect_stdout(io.StringIO()) as said:
                write_model(out, self.folder / "runs", -1, path, wanted)
            if not all(line.isprintable() for line in said.getvalue().splitlines()):
                raise AssertionError(f"a line that is not printable: {said.getvalue()!r}")
            self.check(Read(out))
        finally:
            out.unlink(missing_ok=True)

    def check(self, read: Read) -> None:
        """Every buffer view lies in the buffer, and every trained material has its neural texture."""
        for index in range(len(read.entries("bufferViews"))):
            read.view(index)
        neural = read.document["extensions"][NTX]["neuralTextures"]
        views = [entry["decoder"]["weights"]["bufferView"] for entry in neural]
        if not neural or not all(read.view(view) for view in views):
            raise AssertionError("no neural texture in what was written")
