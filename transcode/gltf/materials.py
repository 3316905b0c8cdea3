"""Materials of a model whose textures become a neural one: what the document says of them then."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import Say, one_line
from formats.textures import ExportedTexture
from maps.coverage import ALPHA_TEST
from maps.extras import AUTO
from maps.gltf.materials import Placement, Plan
from maps.gltf.source import ModelSource
from maps.images import image_size, read_image
from maps.mips import mip_sizes
from transcode.gltf.document import SHOWN, Document
from transcode.gltf.extension import EXTENSION, VERSION, neural_texture_to_json
from transcode.gltf.fallback import BASE, EMISSIVE, NORMAL, OCCLUSION, SURFACE, Fallback, Picture, make_fallback
from transcode.gltf.references import strings_under

STRENGTH, TRANSFORM = "KHR_materials_emissive_strength", "KHR_texture_transform"
IN_PBR = (BASE, SURFACE)  # textures that stand in pbrMetallicRoughness


@dataclass(frozen=True)
class NeuralMaterial:
    """A material that gets a neural texture, ready to be put into a document.

    Fields:
        entry: of `neuralTextures`; its buffer views are numbers of `payloads`.
        textures: those of the material that it replaces, as glTF calls them.
        source_bytes: by image that is replaced, what it takes as RGBA8 with mips.
        keeps_alpha: its base colour stays, for an alpha that is not trained.
    """

    index: int
    label: str
    plan: Plan
    entry: dict[str, Any]
    payloads: list[bytes]
    textures: tuple[str, ...]
    fallback: Fallback
    source_bytes: dict[int, int]
    keeps_alpha: bool
    bpp: float  # of the export: LOD 0 and the weights

    @property
    def n_bytes(self) -> int:
        """Of its textures and weights."""
        return sum(map(len, self.payloads))

    @property
    def maps(self) -> list[str]:
        """Those in the neural texture."""
        return [entry["map"] for entry in self.entry["material"]["maps"]]


def make_neural_material(
    source: ModelSource, exported: ExportedTexture, layout: str, fallback: str, lod: int, max_pixels: int, say: Say
) -> NeuralMaterial:
    """Args: as of `make_fallback` and `neural_texture_to_json`; source: the material that `exported` was trained on.

    Raises: UserError for a layout that cannot hold the features, or an image that cannot be read.
    """
    material, payloads = exported.manifest.material, []

    def add(payload: bytes) -> int:
        payloads.append(payload)
        return len(payloads) - 1

    entry = neural_texture_to_json(source.name, exported, add, layout)
    trained = {each.name for each in material.maps}
    slots = [slot for slot in source.plan.slots if trained & {part.map for part in slot.parts}]
    keeps_alpha = _keeps_alpha(source, trained, max_pixels)
    slots = [slot for slot in slots if not (keeps_alpha and slot.name == BASE)]
    names = tuple(slot.name for slot in slots)
    sizes = {slot.image: image_size(source.model.image(slot.image), max_pixels) for slot in slots}
    memory = {image: 4 * sum(w * h for w, h in mip_sizes(*size)) for image, size in sizes.items()}
    shown = make_fallback(exported, names, fallback, lod, say)
    return NeuralMaterial(source.index, source.name, source.plan, entry, payloads, names, shown, memory, keeps_alpha,
                          exported.manifest.rates["bpp"])  # fmt: skip


def _keeps_alpha(source: ModelSource, trained: set[str], max_pixels: int) -> bool:
    """Whether the material shows an alpha that is not trained, so that its base colour has to stay."""
    if source.plan.alpha_mode == "OPAQUE" or "opacity" in trained:
        return False
    return "opacity" in source.find(functools.partial(read_image, max_pixels=max_pixels), AUTO).sources


def put_into(document: Document, materials: Sequence[NeuralMaterial]) -> None:
    """Give materials of a document their neural textures, and what stands in place of their own."""
    document.notes += _animated(document, {each.index: each.label for each in materials})
    removed = [_take_textures(document.json["materials"][each.index], each.textures) for each in materials]
    document.release([info["index"] for infos in removed for info in infos.values()])
    entries = []
    for number, (each, infos) in enumerate(zip(materials, removed)):
        views = [document.add_view(payload) for payload in each.payloads]
        entries.append(_with_views(each.entry, views.__getitem__))
        material = document.json["materials"][each.index]
        _object(material, "extensions")[EXTENSION] = {"neuralTexture": _reference(number, each.plan.placement)}
        _put_pictures(document, material, infos, each.fallback.pictures, each.label)
        (_neutral if each.fallback.pictures else _flat)(material, each)
        _test_alpha(material, each)
    _object(document.json, "extensions")[EXTENSION] = {"version": VERSION, "neuralTextures": entries}


def _animated(document: Document, labels: dict[int, str]) -> list[str]:
    """A note for each of these materials of which an animation changes something (KHR_animation_pointer)."""
    found: dict[str, list[str]] = {}
    for pointer in strings_under("pointer", document.json.get("animations", [])):
        root, _, rest = pointer.partition("/materials/")
        index, _, field = rest.partition("/")
        if root == "" and index.isdecimal() and str(int(index)) == index and int(index) in labels:
            found.setdefault(labels[int(index)], []).append(field)
    return [
        f"note: {one_line(label)}: animated: {', '.join(map(one_line, fields[:SHOWN]))}; the neural texture has them "
        "as they rest"
        for label, fields in found.items()
    ]


def _object(holder: dict[str, Any], key: str) -> dict[str, Any]:
    """The object that stands under a key; one is put there where there is none."""
    if not isinstance(holder.get(key), dict):
        holder[key] = {}
    return holder[key]


def _holder(material: dict[str, Any], texture: str) -> dict[str, Any]:
    return _object(material, "pbrMetallicRoughness") if texture in IN_PBR else material


def _take_textures(material: dict[str, Any], textures: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {name: _holder(material, name).pop(name) for name in textures}


def _with_views(entry: dict[str, Any], view: Callable[[int], int]) -> dict[str, Any]:
    """An entry of `neuralTextures` with other indices of buffer views."""

    def there(holder: dict[str, Any]) -> dict[str, Any]:
        return {**holder, "bufferView": view(holder["bufferView"])}

    grids = [{**grid, "textures": [there(texture) for texture in grid["textures"]]} for grid in entry["grids"]]
    decoder = {**entry["decoder"], "weights": there(entry["decoder"]["weights"])}
    return {**entry, "grids": grids, "decoder": decoder}


def _reference(index: int, placement: Placement) -> dict[str, Any]:
    """The textureInfo that says which neural texture it is, and where it is read."""
    plain = Placement()
    moved = {key: getattr(placement, key) for key in ("offset", "rotation", "scale")}
    moved = {key: list(value) if isinstance(value, tuple) else value for key, value in moved.items()
             if value != getattr(plain, key)}  # fmt: skip
    return {
        "index": index,
        **({"texCoord": placement.tex_coord} if placement.tex_coord else {}),
        **({"extensions": {TRANSFORM: moved}} if moved else {}),
    }


def _put_pictures(
    document: Document, material: dict[str, Any], infos: dict[str, dict[str, Any]], pictures: dict[str, Picture],
    label: str,
) -> None:  # fmt: skip
    """Let the textures of a material show the pictures, where and as the images were shown."""
    images: dict[int, int] = {}  # id of the picture -> image
    textures: dict[tuple[int, Any], int] = {}  # image and sampler -> texture
    for name, picture in pictures.items():
        info = infos[name]
        old = info["index"]
        if id(picture) not in images:
            called = f"{label}_{picture.name}"
            images[id(picture)] = document.add_image(picture.payload, picture.mime, called, document.source_of(old))
        image = images[id(picture)]
        key = image, document.json["textures"][old].get("sampler")
        if key not in textures:
            textures[key] = document.add_texture(image, old)
        _holder(material, name)[name] = {**info, "index": textures[key]}


def _neutral(material: dict[str, Any], neural: NeuralMaterial) -> None:
    """Factors that change nothing, for pictures that have them in their texels."""
    if BASE in neural.textures:
        pbr = _holder(material, BASE)
        alpha = _alpha_factor(pbr, neural)
        pbr.pop("baseColorFactor", None)
        pbr.update({"baseColorFactor": [1, 1, 1, alpha]} if alpha != 1 else {})
    if SURFACE in neural.textures:
        for name in ("metallicFactor", "roughnessFactor"):
            _holder(material, SURFACE).pop(name, None)
    if NORMAL in neural.textures:
        material[NORMAL].pop("scale", None)
    if OCCLUSION in neural.textures:
        material[OCCLUSION].pop("strength", None)
    if EMISSIVE in neural.textures:
        material["emissiveFactor"] = [1, 1, 1]
        _set_strength(material, neural.fallback.emissive_strength)


def _flat(material: dict[str, Any], neural: NeuralMaterial) -> None:
    """Means of the maps as factors, where there are no pictures."""
    means = neural.fallback.means
    if BASE in neural.textures:
        pbr = _holder(material, BASE)
        alpha = _alpha_factor(pbr, neural)
        if "opacity" in means and neural.plan.alpha_mode == "BLEND":
            [alpha] = means["opacity"]
        pbr["baseColorFactor"] = [*means["diffuse"], alpha]
    if SURFACE in neural.textures:
        _holder(material, SURFACE).update({f"{name}Factor": means[name][0] for name in ("roughness", "metallic")})
    if EMISSIVE in neural.textures:
        strength = max(1.0, *means["emissive"])
        material["emissiveFactor"] = [value / strength for value in means["emissive"]]
        _set_strength(material, strength)


def _alpha_factor(pbr: dict[str, Any], neural: NeuralMaterial) -> float:
    """What alpha is multiplied by: nothing where the opacity is in the neural texture. A mean of it would let an alpha
    test pass all or nothing: all, then."""
    return 1 if "opacity" in neural.maps else (pbr.get("baseColorFactor") or [1])[-1]


def _test_alpha(material: dict[str, Any], neural: NeuralMaterial) -> None:
    """The trained opacity is tested at ALPHA_TEST."""
    if "opacity" in neural.maps and neural.plan.alpha_mode == "MASK":
        material["alphaCutoff"] = ALPHA_TEST


def _set_strength(material: dict[str, Any], strength: float) -> None:
    """Say by what the emission is multiplied; by 1 it takes no extension."""
    extensions = _object(material, "extensions")
    held = _object(extensions, STRENGTH)
    held.pop("emissiveStrength", None)
    if strength != 1:
        held["emissiveStrength"] = strength
    if not held:
        del extensions[STRENGTH]
