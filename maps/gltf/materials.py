"""The materials of a model: their names, their textures, and what is to be done with the images of these.

Source: Khronos, "glTF 2.0 Specification", section 3.9, and the extensions KHR_texture_transform, EXT_texture_webp,
KHR_texture_basisu and KHR_materials_emissive_strength.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from common.errors import brief
from maps.channels import map_size
from maps.gltf.container import MAX_NAME, Model
from maps.keywords import Part

ALPHA_MODES = ("OPAQUE", "MASK", "BLEND")
CUTOFF = 0.5  # of MASK without alphaCutoff, and what every trained opacity is tested against, see coverage.ALPHA_TEST
REPEAT = 10497  # a sampler's wrap mode, and the default
WRAPS = {33071: "clamp to the edge", 33648: "repeat mirrored"}
HIGHEST = 65504.0  # of a factor: the largest half float; glTF has no limit for KHR_materials_emissive_strength


class Placement(NamedTuple):
    """Where a texture is read: a uv set, and the transform of its coordinates (KHR_texture_transform)."""

    tex_coord: int = 0
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0  # radians, counter-clockwise
    scale: tuple[float, float] = (1.0, 1.0)

    def moved(self, uv: np.ndarray) -> np.ndarray:
        """(N, 2) coordinates as KHR_texture_transform changes them: scaled, turned, moved."""
        u, v = (uv * self.scale).T
        c, s = math.cos(self.rotation), math.sin(self.rotation)
        return np.stack([c * u + s * v, c * v - s * u], axis=1) + self.offset

    def __str__(self) -> str:
        moved = self[1:] != Placement()[1:]
        transform = f", offset {list(self.offset)}, rotation {self.rotation:g}, scale {list(self.scale)}"
        return f"uv set {self.tex_coord}{transform if moved else ''}"


class Adjustment(NamedTuple):
    """What a material's numbers do to the texels of one map; see gltf.adjust. `factors` of 1 change nothing."""

    kind: str  # colour, light, scale, normal, occlusion, opacity
    factors: tuple[float, ...]  # opacity: factor, cutoff (negative: none)


@dataclass(frozen=True)
class Slot:
    """One texture of a material: the maps that are in it, and where it is read."""

    name: str  # as in glTF: baseColorTexture
    parts: tuple[Part, ...]
    adjustments: tuple[Adjustment, ...]  # one for each part
    image: int
    placement: Placement
    wraps: tuple[str, ...]  # how it goes on beyond its edges, where that is another way than repeating

    @property
    def channels(self) -> int:
        return sum(map_size(part.map) for part in self.parts)


@dataclass(frozen=True)
class Plan:
    """What is trained of a material: textures that are read at one place, so that one neural texture holds them."""

    slots: tuple[Slot, ...]  # in the order of glTF; none: a material without textures
    placement: Placement
    alpha_mode: str
    notes: tuple[str, ...]  # what is left as it is, one line each


class Factors(NamedTuple):
    """A material without its textures, as glTF has it, linear. What a texture has in few places is not taken for all:
    metallic and emitted are 0 where there is one."""

    base: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)  # RGBA
    roughness: float = 1.0
    metallic: float = 1.0
    emitted: tuple[float, ...] = (0.0, 0.0, 0.0)
    alpha_mode: str = "OPAQUE"
    cutoff: float = CUTOFF
    double_sided: bool = False


def labels_of(model: Model) -> list[str]:
    """The materials' names in order, each once: material_<n> without a name, #<n> behind one that comes twice."""
    labels, taken = [], set()
    names = [getattr(material, "name", None) for material in model.entries("materials")]
    for index, name in enumerate(names):
        text = "".join(c for c in name if c.isprintable())[:MAX_NAME].strip() if isinstance(name, str) else ""
        label = text or f"material_{index}"
        while label in taken:
            label = f"{label}#{index}"
        labels.append(label)
        taken.add(label)
    return labels


def plan_of(model: Model, index: int) -> Plan:
    """What is trained of one material. Raises: UserError for numbers and references that glTF does not allow."""
    return _Reader(model, index).plan()


def factors_of(model: Model, index: int) -> Factors:
    """The numbers of one material. Raises: UserError as plan_of does."""
    return _Reader(model, index).factors()


class _Reader:
    """Reads one material, and gathers notes."""

    def __init__(self, model: Model, index: int):
        self.model, self.where = model, f"materials[{index}]"
        self.material = model.entry("materials", index, "a material")
        self.notes: list[str] = []

    def plan(self) -> Plan:
        mode = self._alpha_mode()
        slots = [slot for slot in self._slots(mode) if slot is not None]
        self._note_others()
        if not slots:
            return Plan((), Placement(), mode, tuple(self.notes))
        placement = _most_used(slots)
        for slot in slots:
            if slot.placement != placement:
                self.notes.append(
                    f"{slot.name}: read at {slot.placement}, the others at {placement}; one neural texture has one "
                    "place, so this one is left as it is"
                )
        slots = [slot for slot in slots if slot.placement == placement]
        for wrap in dict.fromkeys(wrap for slot in slots for wrap in slot.wraps):
            names = ", ".join(slot.name for slot in slots if wrap in slot.wraps)
            self.notes.append(f"{names}: beyond the edges it should {wrap}; a neural texture repeats")
        return Plan(tuple(slots), placement, mode, tuple(self.notes))

    def factors(self) -> Factors:
        pbr = self.material.pbrMetallicRoughness
        base = self._factors(getattr(pbr, "baseColorFactor", None), "baseColorFactor", 4)
        roughness, metallic = (
            self._factor(getattr(pbr, f"{name}Factor", None), f"{name}Factor") for name in ("roughness", "metallic")
        )
        metallic = metallic if getattr(pbr, "metallicRoughnessTexture", None) is None else 0.0
        light = self._light() if self.material.emissiveTexture is None else Factors().emitted
        return Factors(base, roughness, metallic, light, self._alpha_mode(), self._cutoff(),
                       self.material.doubleSided is True)  # fmt: skip

    def _alpha_mode(self) -> str:
        mode = "OPAQUE" if self.material.alphaMode is None else self.material.alphaMode
        if mode not in ALPHA_MODES:
            raise self.model.refusal(f"{self.where}: alphaMode: expected {', '.join(ALPHA_MODES)}, found {brief(mode)}")
        return mode

    def _cutoff(self) -> float:
        cutoff = self.material.alphaCutoff
        return CUTOFF if cutoff is None else self._factor(cutoff, "alphaCutoff", HIGHEST)

    def _light(self) -> tuple[float, ...]:
        """What is emitted where the texture is white."""
        extension = _mapping(_mapping(self.material.extensions).get("KHR_materials_emissive_strength"))
        strength = self._factor(extension.get("emissiveStrength"), "emissiveStrength", HIGHEST)
        factors = self.material.emissiveFactor
        factors = self._factors([0, 0, 0] if factors is None else factors, "emissiveFactor", 3)
        return tuple(min(strength * factor, HIGHEST) for factor in factors)

    def _slots(self, mode: str) -> list[Slot | None]:
        """Every texture that the material has and that is trained."""
        material, pbr = self.material, self.material.pbrMetallicRoughness
        colour = self._factors(getattr(pbr, "baseColorFactor", None), "baseColorFactor", 4)
        cutoff = self._cutoff()
        parts, changes = [Part("diffuse")], [Adjustment("colour", colour[:3])]
        if mode != "OPAQUE":
            parts.append(Part("opacity", "A"))
            changes.append(Adjustment("opacity", (colour[3], cutoff if mode == "MASK" else -1.0)))
        base = self._slot(getattr(pbr, "baseColorTexture", None), "baseColorTexture", parts, changes)
        surface = [self._factor(getattr(pbr, f"{name}Factor", None), f"{name}Factor") for name in
                   ("roughness", "metallic")]  # fmt: skip
        packed = self._slot(
            getattr(pbr, "metallicRoughnessTexture", None), "metallicRoughnessTexture",
            [Part("roughness", "G"), Part("metallic", "B")], [Adjustment("scale", (factor,)) for factor in surface],
        )  # fmt: skip
        normal, occlusion = material.normalTexture, material.occlusionTexture
        scale = self._factor(getattr(normal, "scale", None), "normalTexture.scale", HIGHEST, -HIGHEST)
        strength = self._factor(getattr(occlusion, "strength", None), "occlusionTexture.strength")
        return [
            base,
            self._slot(normal, "normalTexture", [Part("normal")], [Adjustment("normal", (scale,))]),
            packed,
            self._slot(occlusion, "occlusionTexture", [Part("occlusion", "R")], [Adjustment("occlusion", (strength,))]),
            self._emissive(),
        ]

    def _emissive(self) -> Slot | None:
        """The emission; None where its factor, which is 0 unless the material says otherwise, makes it dark."""
        light = self._light()
        if self.material.emissiveTexture is not None and not any(light):
            self.notes.append("emissiveTexture: its factor is 0, so that it is dark; left as it is")
            return None
        return self._slot(self.material.emissiveTexture, "emissiveTexture", [Part("emissive")],
                          [Adjustment("light", light)])  # fmt: skip

    def _slot(
        self, info: Any, name: str, parts: Sequence[Part], adjustments: Sequence[Adjustment]
    ) -> Slot | None:
        """A texture that the material refers to; None without one."""
        if info is None:
            return None
        where = f"{self.where}.{name}"
        texture = self.model.entry("textures", info.index, where)
        place = self._placement(info, where)
        return Slot(name, tuple(parts), tuple(adjustments), self._image(texture, f"textures[{info.index}]"), place,
                    self._wraps(texture))  # fmt: skip

    def _placement(self, info: Any, where: str) -> Placement:
        extension = _mapping(_mapping(info.extensions).get("KHR_texture_transform"))
        tex_coord = extension.get("texCoord", 0 if info.texCoord is None else info.texCoord)
        tex_coord = self.model.number(tex_coord, f"{where}: texCoord", 0, 255)

        def pair(key: str, otherwise: float) -> tuple[float, float]:
            return self._numbers(extension.get(key, [otherwise] * 2), f"{where}: {key}", 2)

        [rotation] = self._numbers([extension.get("rotation", 0)], f"{where}: rotation", 1)
        return Placement(tex_coord, pair("offset", 0), rotation, pair("scale", 1))

    def _image(self, texture: Any, where: str) -> int:
        """The image that a viewer shows: WebP before the others; KTX2 where there is no other."""
        extensions = _mapping(texture.extensions)
        webp, ktx2 = (_mapping(extensions.get(name)).get("source") for name in
                      ("EXT_texture_webp", "KHR_texture_basisu"))  # fmt: skip
        source = next((index for index in (webp, texture.source, ktx2) if index is not None), None)
        if source is None:
            others = ", ".join(brief(name) for name in list(extensions)[:3])
            found = f"none{f' but in {others}' if others else ''}"
            raise self.model.refusal(f"{where}: expected an image in source, EXT_texture_webp or KHR_texture_basisu, "
                                     f"found {found}", "export the model with PNG or JPEG images")  # fmt: skip
        return self.model.number(source, f"{where}: index into images", 0, len(self.model.entries("images")) - 1)

    def _wraps(self, texture: Any) -> tuple[str, ...]:
        if texture.sampler is None:
            return ()
        sampler = self.model.entry("samplers", texture.sampler, "a texture")
        return tuple(WRAPS[wrap] for wrap in dict.fromkeys((sampler.wrapS, sampler.wrapT)) if wrap in WRAPS)

    def _note_others(self) -> None:
        """Name the textures of extensions, which are not trained."""
        for name, value in _mapping(self.material.extensions).items():
            textures = [key for key in _mapping(value) if isinstance(key, str) and key.endswith("Texture")]
            if textures:
                self.notes.append(f"{brief(name)}: {', '.join(brief(key) for key in textures[:8])} passed through, "
                                  "not trained")  # fmt: skip

    # --- numbers ---------------------------------------------------------------------------------------------------

    def _numbers(self, values: Any, where: str, count: int) -> tuple[float, ...]:
        """`count` finite numbers."""
        right = isinstance(values, (list, tuple)) and len(values) == count
        if not right or not all(type(v) in (int, float) and abs(v) < 1e30 and math.isfinite(v) for v in values):
            expected = f"{count} finite numbers" if count > 1 else "a finite number"
            raise self.model.refusal(f"{where}: expected {expected}, found {brief(values)}")
        return tuple(float(value) for value in values)

    def _factors(self, values: Any, name: str, count: int, high: float = 1.0, low: float = 0.0) -> tuple[float, ...]:
        """Numbers of a material, 1 where it has none; what lies outside of low to high is clipped, with a note."""
        values = self._numbers([1.0] * count if values is None else values, f"{self.where}: {name}", count)
        clipped = tuple(min(max(value, low), high) for value in values)
        if any(abs(a - b) > 1e-3 for a, b in zip(values, clipped)):
            found = ", ".join(f"{value:g}" for value in values)
            self.notes.append(f"{name}: {found} clipped to {low:g} to {high:g}")
        return clipped

    def _factor(self, value: Any, name: str, high: float = 1.0, low: float = 0.0) -> float:
        return self._factors(None if value is None else [value], name, 1, high, low)[0]


def _mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def _most_used(slots: Sequence[Slot]) -> Placement:
    """The placement that most channels have; of equals that of the first texture."""
    counts: dict[Placement, int] = {}
    for slot in slots:
        counts[slot.placement] = counts.get(slot.placement, 0) + slot.channels
    return max(counts, key=counts.get)
