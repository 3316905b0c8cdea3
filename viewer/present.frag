// Puts finished layers on the canvas, the second one to the right of the split, before the background, if there is one.
// Colours are premultiplied. background.glsl precedes this text.

uniform sampler2D uFirst;
uniform sampler2D uSecond;
uniform sampler2D uCoverage;  // of each pixel by the shape
uniform bool uSmoothEdges;
uniform bool uForImageData;  // rows from the top, colours not premultiplied
uniform vec2 uPart;  // of the textures that holds the picture
uniform vec2 uPixels;  // of the canvas
uniform float uSplit;  // in pixels; no line outside the canvas

out vec4 color;

/// A pixel on an edge gets the colour of its neighbourhood, as much of it as the shape covers.
vec4 smoothed(sampler2D layer, ivec2 at)
{
    float covered = texelFetch(uCoverage, at, 0).a;
    vec4 own = texelFetch(layer, at, 0);
    if (own.a == 0.0 && covered > 0.0)
    {
        for (int i = 0; i < 9; i++)
        {
            own += texelFetch(layer, clamp(at + ivec2(i % 3 - 1, i / 3 - 1), ivec2(0), ivec2(uPixels) - 1), 0);
        }
    }
    return own.a > 0.0 ? vec4(own.rgb / own.a, 1.0) * covered : vec4(0.0);
}

void main()
{
    vec2 pixel = uForImageData ? vec2(gl_FragCoord.x, uPixels.y - gl_FragCoord.y) : gl_FragCoord.xy;
    bool first = pixel.x < uSplit;
    if (uSmoothEdges)
    {
        color = first ? smoothed(uFirst, ivec2(pixel)) : smoothed(uSecond, ivec2(pixel));
        if (uBackground > 0) { color = vec4(color.rgb + (1.0 - color.a) * background(pixel), 1.0); }
    }
    else
    {
        vec2 at = pixel / uPixels * uPart;
        color = first ? texture(uFirst, at) : texture(uSecond, at);
    }
    if (abs(pixel.x - uSplit) < 1.0) { color = vec4(1.0); }
    if (uForImageData && color.a > 0.0) { color.rgb /= color.a; }
}
