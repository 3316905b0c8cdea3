// pick.frag, solid.frag and present.frag; surface.wgsl stands in front of this text. Rows run from the top.

struct Put
{
    part: vec2<f32>,  // of the textures that holds the picture
    pixels: vec2<f32>,  // of the canvas
    split: f32,  // in pixels; no line outside the canvas
    smoothEdges: i32,
    forImageData: i32,  // colours not premultiplied
}

@group(0) @binding(0) var<uniform> put: Put;
@group(0) @binding(1) var first: texture_2d<f32>;
@group(0) @binding(2) var second: texture_2d<f32>;
@group(0) @binding(3) var coverage: texture_2d<f32>;  // of each pixel by the shape
@group(0) @binding(4) var blended: sampler;

/// The uv (in tiles) and the automatic LOD of a pixel as the bits of floats, so that no float target is needed.
@fragment
fn pick(at: Surface) -> @location(0) vec4<u32>
{
    let across = dpdx(at.uv) * view.size;
    let down = dpdy(at.uv) * view.size;
    let lod = 0.5 * log2(max(max(dot(across, across), dot(down, down)), 1e-12));
    return vec4<u32>(bitcast<vec2<u32>>(at.uv), bitcast<u32>(lod), 1u);
}

/// Fills the shape; with several samples per pixel alpha becomes the share of a pixel that the shape covers.
@fragment
fn solid() -> @location(0) vec4<f32>
{
    return vec4<f32>(1.0);
}

@fragment
fn erase() -> @location(0) vec4<f32>
{
    return vec4<f32>(0.0);
}

/// A pixel on an edge gets the colour of its neighbourhood, as much of it as the shape covers.
fn smoothed(layer: texture_2d<f32>, at: vec2<i32>) -> vec4<f32>
{
    let covered = textureLoad(coverage, at, 0).a;
    var own = textureLoad(layer, at, 0);
    if (own.a == 0.0 && covered > 0.0)
    {
        for (var i = 0; i < 9; i++)
        {
            let near = at + vec2<i32>(i % 3 - 1, i / 3 - 1);
            own += textureLoad(layer, clamp(near, vec2<i32>(0), vec2<i32>(put.pixels) - 1), 0);
        }
    }
    if (own.a > 0.0) { return vec4<f32>(own.rgb / own.a, 1.0) * covered; }
    return vec4<f32>(0.0);
}

/// Puts finished layers on the canvas, the second one to the right of the split. Colours are premultiplied.
@fragment
fn present(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32>
{
    let pixel = position.xy;
    let isFirst = pixel.x < put.split;
    var color: vec4<f32>;
    if (put.smoothEdges == 1)
    {
        if (isFirst) { color = smoothed(first, vec2<i32>(pixel)); } else { color = smoothed(second, vec2<i32>(pixel)); }
    }
    else
    {
        let at = pixel / put.pixels * put.part;
        color = select(textureSampleLevel(second, blended, at, 0.0), textureSampleLevel(first, blended, at, 0.0), isFirst);
    }
    if (abs(pixel.x - put.split) < 1.0) { color = vec4<f32>(1.0); }
    if (put.forImageData == 1 && color.a > 0.0) { color = vec4<f32>(color.rgb / color.a, color.a); }
    return color;
}
