"""What a viewer shows that does not know the extension: the decoded maps as images, or their means as factors."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage

from common.errors import Say
from formats.textures import ExportedTexture
from maps.images import encode_png
from maps.mips import srgb_to_linear
from transcode.glb import base_colour, packed_orm
from transcode.light import exposure
from transcode.textures import gltf_maps, lod_pictures

JPEG_QUALITY = 95  # without subsampling
BASE, NORMAL, SURFACE = "baseColorTexture", "normalTexture", "metallicRoughnessTexture"
OCCLUSION, EMISSIVE = "occlusionTexture", "emissiveTexture"
PNG, JPEG = "image/png", "image/jpeg"

Maps = Mapping[str, np.ndarray]  # map name -> (H, W, C) uint8


class Picture(NamedTuple):
    """An image file."""

    name: str  # of what is in it
    payload: bytes
    mime: str


@dataclass(frozen=True)
class Fallback:
    """What stands in the material in place of the neural texture.

    Fields:
        pictures: by the material's textures; one object for textures that share an image. None: there are none.
        means: of the maps, linear, each a tuple of its channels; emission in its own units.
        emissive_strength: what the light of the emissive picture is multiplied by.
        lod, size: that is decoded, and its (width, height).
    """

    pictures: dict[str, Picture]
    means: dict[str, tuple[float, ...]]
    emissive_strength: float
    lod: int
    size: tuple[int, int]

    @property
    def n_bytes(self) -> int:
        """Of its image files."""
        return sum(len(picture.payload) for picture in {id(each): each for each in self.pictures.values()}.values())


def make_fallback(exported: ExportedTexture, textures: Sequence[str], kind: str, lod: int, say: Say) -> Fallback:
    """The fallback of one material.

    Args:
        textures: those of the material that are replaced, as glTF calls them.
        kind: jpeg (PNG where there is alpha), png, or none.
        lod: to decode; the coarsest where there is none so coarse.
    """
    material = exported.manifest.material
    lod = min(lod, material.num_lods - 1)
    maps = gltf_maps(lod_pictures(exported.model, material, lod, say)[0], material)
    emissive = material.map("emissive")
    strength = exposure(emissive) if emissive else 1.0
    pictures = {} if kind == "none" else _pictures(maps, textures, kind)
    return Fallback(pictures, _means(maps, strength), strength, lod, material.lod_size(lod))


def _pictures(maps: Maps, textures: Sequence[str], kind: str) -> dict[str, Picture]:
    """The image of each texture. Occlusion, roughness and metallic are one where all are replaced."""
    pictures = {}
    if BASE in textures:
        pictures[BASE] = _encoded("base_color", base_colour(maps), kind)
    if NORMAL in textures:
        pictures[NORMAL] = _encoded("normal", maps["normal"], kind)
    if SURFACE in textures:
        packed = {name: maps[name] for name in ("roughness", "metallic")}
        both = OCCLUSION in textures
        packed |= {"occlusion": maps["occlusion"]} if both else {}
        name = "occlusion_roughness_metallic" if both else "roughness_metallic"
        pictures[SURFACE] = _encoded(name, packed_orm(packed), kind)
    if OCCLUSION in textures:
        pictures[OCCLUSION] = pictures.get(SURFACE) or _encoded("occlusion", maps["occlusion"], kind)
    if EMISSIVE in textures:
        pictures[EMISSIVE] = _encoded("emissive", maps["emissive"], kind)
    return pictures


def _encoded(name: str, pixels: np.ndarray, kind: str) -> Picture:
    if kind == "png" or pixels.shape[2] == 4:
        return Picture(name, encode_png(pixels), PNG)
    stream = io.BytesIO()
    image = PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return Picture(name, stream.getvalue(), JPEG)


def _means(maps: Maps, emissive_strength: float) -> dict[str, tuple[float, ...]]:
    """Linear means over the texels, of colours weighted by opacity; emission times its strength."""
    light = srgb_to_linear(np.arange(256) / 255)
    weights = maps["opacity"].ravel().astype(np.float64) if "opacity" in maps and maps["opacity"].any() else None
    means = {}
    for name, codes in maps.items():
        if name in ("diffuse", "emissive"):
            mean = np.average(light[codes].reshape(-1, 3), axis=0, weights=weights)
            means[name] = tuple((mean * (emissive_strength if name == "emissive" else 1.0)).tolist())
        else:
            means[name] = tuple((codes.reshape(-1, codes.shape[2]).mean(axis=0) / 255).tolist())
    return means
