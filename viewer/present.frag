#version 300 es
// Puts finished layers on the canvas, the second one to the right of the split.
precision highp float;

uniform sampler2D uFirst;
uniform sampler2D uSecond;
uniform vec2 uPart;  // of the textures that holds the picture
uniform vec2 uPixels;  // of the canvas
uniform float uSplit;  // in pixels; no line outside the canvas

out vec4 color;

void main()
{
    vec2 at = gl_FragCoord.xy / uPixels * uPart;
    color = gl_FragCoord.x < uSplit ? texture(uFirst, at) : texture(uSecond, at);
    if (abs(gl_FragCoord.x - uSplit) < 1.0) { color = vec4(1.0); }
}
