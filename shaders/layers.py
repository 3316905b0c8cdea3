"""GLSL ES with textures in arrays, for pages with more of them than WebGL 2 promises units."""

from __future__ import annotations

from collections.abc import Mapping

from shaders.languages import Essl


class LayeredEssl(Essl):
    """GLSL ES with some textures as layers of arrays: WebGL 2 promises 16 texture units.

    places: name of a texture -> (name of its array, layer).
    """

    def __init__(self, places: Mapping[str, tuple[str, int]]):
        self.places = places

    def bindings(self, textures, weights, sampled):
        arrays = dict.fromkeys(array for array, _ in self.places.values())
        single = [name for name in textures if name not in self.places]
        lines = [f"uniform highp sampler2DArray {array};" for array in arrays]
        return [*lines, *super().bindings(single, weights, sampled)]

    def fetch(self, texture):
        array, layer = self.places.get(texture, (None, 0))
        return f"texelFetch({array}, ivec3(texel, {layer}), mip)" if array else super().fetch(texture)

    def sample(self, texture):
        array, layer = self.places.get(texture, (None, 0))
        return f"textureLod({array}, vec3(uv, {layer}.0), lod)" if array else super().sample(texture)

    def sample_grad(self, texture):
        array, layer = self.places.get(texture, (None, 0))
        place = f"vec3(uv, {layer}.0)"
        return f"textureGrad({array}, {place}, across, down)" if array else super().sample_grad(texture)
