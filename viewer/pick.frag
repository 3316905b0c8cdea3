#version 300 es
// Writes what a pixel shows as bits, so that no float target is needed: the uv (in tiles), the depth, and the automatic LOD
// as a half float below the number of what is drawn.
precision highp float;
precision highp int;

uniform vec2 uSize;
uniform uint uNumber;  // not 0
uniform float uBeyond;  // depth behind which is looked

in vec2 vUv;
out uvec4 place;

void main()
{
    vec2 across = dFdx(vUv) * uSize, down = dFdy(vUv) * uSize;
    float lod = 0.5 * log2(max(max(dot(across, across), dot(down, down)), 1e-12));
    if (gl_FragCoord.z <= uBeyond) { discard; }
    place = uvec4(floatBitsToUint(vUv), floatBitsToUint(gl_FragCoord.z), packHalf2x16(vec2(lod, 0.0)) | uNumber << 16);
}
