// The first part of every WGSL module of the page: the uniforms of a draw, and surface.vert in WGSL.

struct View
{
    viewProjection: mat4x4<f32>,
    eye: vec3<f32>,
    lod: f32,
    sun: vec3<f32>,
    leastLod: f32,  // where the source starts, when it is compared with
    uvScale: vec2<f32>,
    size: vec2<f32>,  // of LOD 0
    has: array<vec4<f32>, 2>,  // 1: the material has this map
    known: array<vec4<f32>, 3>,  // the file's value of a channel that is the same everywhere, -1 for the others
    firstTexel: vec2<f32>,  // to be read: where the target starts
    errorScale: f32,  // the error that the brightest colour stands for, in [0, 1]
    normalUp: f32,  // 1: green points up (OpenGL), -1: down (DirectX)
    layer: i32,
    map: i32,
    autoLod: i32,
    sampling: i32,
    sourceLod: i32,  // of its mip 0
    diffuseInSrgb: i32,  // in the source file
    encodeDiffuse: i32,  // the network returns linear light, the file holds sRGB
    unitNormals: i32,
}

struct Surface
{
    @builtin(position) pixel: vec4<f32>,
    @location(0) position: vec3<f32>,
    @location(1) normal: vec3<f32>,
    @location(2) tangent: vec3<f32>,
    @location(3) uv: vec2<f32>,  // counts whole tiles
}

@group(1) @binding(0) var<uniform> view: View;

@vertex
fn placed(@location(0) position: vec3<f32>, @location(1) normal: vec3<f32>, @location(2) tangent: vec3<f32>,
    @location(3) uv: vec2<f32>) -> Surface
{
    var clip = view.viewProjection * vec4<f32>(position, 1.0);
    clip.z = 0.5 * (clip.z + clip.w);  // OpenGL's depths are -w .. w
    return Surface(clip, position, normal, tangent, uv * view.uvScale);
}

/// The whole viewport.
@vertex
fn fill(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32>
{
    return vec4<f32>(vec2<f32>(f32(index & 1u), f32(index >> 1u)) * 4.0 - 1.0, 0.0, 1.0);
}
