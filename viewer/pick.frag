#version 300 es
// Writes the uv (in tiles) and the automatic LOD of a pixel as the bits of floats, so that no float target is needed.
precision highp float;
precision highp int;

uniform vec2 uSize;

in vec3 vPosition;
in vec3 vNormal;
in vec3 vTangent;
in vec2 vUv;
out uvec4 place;

void main()
{
    vec2 across = dFdx(vUv) * uSize, down = dFdy(vUv) * uSize;
    float lod = 0.5 * log2(max(max(dot(across, across), dot(down, down)), 1e-12));
    place = uvec4(floatBitsToUint(vUv), floatBitsToUint(lod), 1u);
}
