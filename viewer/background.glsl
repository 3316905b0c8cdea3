// What lies behind a material with holes.
precision highp float;

uniform int uBackground;  // 0: nothing, 1: white, 2: black, 3: checker
uniform float uSquare;  // side of a square of the checker, in pixels

/// The colour of a pixel, sRGB.
vec3 background(vec2 pixel)
{
    if (uBackground != 3) { return vec3(uBackground == 1 ? 1.0 : 0.0); }
    vec2 square = floor(pixel / uSquare);
    return vec3(mod(square.x + square.y, 2.0) < 0.5 ? 0.45 : 0.65);
}
