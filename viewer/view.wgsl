// view.frag in WGSL, function by function. The material's decoder (export.py --shader wgsl), surface.wgsl and the
// translated light.glsl precede this text.

const LIT = -1;  // map; 0 .. 6 are the maps in their order
const DECODED = 0;  // layer
const SOURCE = 1;
const ERROR = 2;
const NEAREST = 0;  // sampling: one texel, four texels blended, wherever the pixel lies
const LINEAR = 1;
const ANYWHERE = 2;

alias Channels = array<f32, 11>;

@group(2) @binding(0) var source: texture_2d_array<f32>;  // layer k: channels 4 k .. 4 k + 3
@group(2) @binding(1) var filtered: sampler;

fn has(map: i32) -> f32
{
    return view.has[map / 4][map % 4];
}

fn known(channel: i32) -> f32
{
    return view.known[channel / 4][channel % 4];
}

/// The 11 channels in the file's colour spaces, not clamped: file_space.in_file_space.
fn decodedValues(uv: vec2<f32>, lod: f32) -> Channels
{
    let m = ntDecode(uv, lod);
    var diffuse = m.diffuse;
    if (view.encodeDiffuse == 1) { diffuse = linearToSrgb(diffuse); }
    var normal = m.normal;
    if (view.unitNormals == 1) { normal = unitNormal(normal, vec3<f32>(known(3), known(4), known(5))); }
    var v = Channels(diffuse.r, diffuse.g, diffuse.b, normal.x, normal.y, normal.z, m.roughness, m.occlusion,
        m.metallic, m.specular, m.displacement);
    for (var i = 0; i < 11; i++)
    {
        if (known(i) >= 0.0) { v[i] = known(i); }
    }
    return v;
}

fn sourceValues(uv: vec2<f32>, lod: f32, texels: bool) -> Channels
{
    let level = max(lod - f32(view.sourceLod), 0.0);
    var parts: array<vec4<f32>, 3>;
    for (var k = 0; k < 3; k++)
    {
        if (texels)
        {
            let mip = i32(level);
            let size = vec2<i32>(textureDimensions(source, mip));
            let texel = min(vec2<i32>(fract(uv) * vec2<f32>(size)), size - 1);
            parts[k] = textureLoad(source, texel, k, mip);
        }
        else
        {
            parts[k] = textureSampleLevel(source, filtered, uv, k, level);
        }
    }
    var v: Channels;
    for (var i = 0; i < 11; i++) { v[i] = parts[i / 4][i % 4]; }
    return v;
}

fn mapOf(v: ptr<function, Channels>, map: i32) -> vec3<f32>
{
    if (map == 0) { return vec3<f32>((*v)[0], (*v)[1], (*v)[2]); }
    if (map == 1) { return vec3<f32>((*v)[3], (*v)[4], (*v)[5]); }
    return vec3<f32>((*v)[4 + map]);
}

fn lit(v: ptr<function, Channels>, at: Surface, front: bool) -> vec3<f32>
{
    var base = vec3<f32>(0.6);
    if (has(0) > 0.0)
    {
        base = clamp(mapOf(v, 0), vec3<f32>(0.0), vec3<f32>(1.0));
        if (view.diffuseInSrgb == 1) { base = ntSrgbToLinear(base); }
    }
    let side = select(-1.0, 1.0, front);
    var n = normalize(at.normal) * side;
    let tangent = normalize(at.tangent - n * dot(n, at.tangent));
    if (has(1) > 0.0)
    {
        let bent = mapOf(v, 1) * 2.0 - 1.0;
        let up = cross(n, tangent) * side * view.normalUp;  // against v, which runs down
        n = normalize(tangent * bent.x + up * bent.y + n * max(bent.z, 0.05));
    }
    let toEye = normalize(view.eye - at.position);
    let roughness = select(0.5, clamp((*v)[6], 0.0, 1.0), has(2) > 0.0);
    let occlusion = select(1.0, clamp((*v)[7], 0.0, 1.0), has(3) > 0.0);
    let metallic = select(0.0, clamp((*v)[8], 0.0, 1.0), has(4) > 0.0);
    let specular = select(0.5, clamp((*v)[9], 0.0, 1.0), has(5) > 0.0);
    return linearToSrgb(toneMap(shade(base, n, toEye, view.sun, roughness, occlusion, metallic, specular)));
}

/// Root mean square difference of the channels of the map shown, or of all that the material has.
fn difference(a: ptr<function, Channels>, b: ptr<function, Channels>) -> f32
{
    var sum = 0.0;
    var count = 0.0;
    for (var i = 0; i < 11; i++)
    {
        let map = select(select(i - 4, 1, i < 6), 0, i < 3);
        let share = select(0.0, has(map), view.map == LIT || view.map == map);
        let d = clamp((*a)[i], 0.0, 1.0) - clamp((*b)[i], 0.0, 1.0);
        sum += share * d * d;
        count += share;
    }
    return sqrt(sum / max(count, 1.0));
}

fn sizeAt(lod: f32) -> vec2<f32>
{
    return vec2<f32>(max(vec2<i32>(view.size) >> vec2<u32>(u32(lod)), vec2<i32>(1)));
}

@fragment
fn draw(at: Surface, @builtin(front_facing) front: bool) -> @location(0) vec4<f32>
{
    let own = max(ntLod(dpdx(at.uv), dpdy(at.uv)), 0.0);
    var lod = clamp(select(view.lod, own, view.autoLod == 1), view.leastLod, max(view.leastLod, f32(NT_NUM_LODS - 1)));
    if (view.sampling != ANYWHERE) { lod = floor(lod + 0.5); }
    let size = sizeAt(lod);
    let linear = view.sampling == LINEAR;
    let position = fract(at.uv) * size - select(0.0, 0.5, linear);
    let corner = floor(position);
    let weight = position - corner;
    var shown: Channels;
    if (view.layer != SOURCE)
    {
        let texels = select(1, 4, linear);
        for (var which = 0; which < texels; which++)
        {
            let offset = vec2<f32>(f32(which & 1), f32(which >> 1));
            let part = mix(1.0 - weight, weight, offset);
            var place = at.uv;
            if (view.sampling != ANYWHERE)
            {
                let texel = corner + offset;
                place = (texel - size * floor(texel / size) + 0.5) / size;
            }
            let one = decodedValues(place, lod);
            for (var i = 0; i < 11; i++) { shown[i] += select(1.0, part.x * part.y, linear) * one[i]; }
        }
    }
    var other: Channels;
    if (view.layer != DECODED) { other = sourceValues(at.uv, lod, view.sampling == NEAREST); }
    if (view.layer == ERROR) { return vec4<f32>(heat(difference(&shown, &other) / view.errorScale), 1.0); }
    if (view.layer == SOURCE) { shown = other; }
    var color: vec3<f32>;
    if (view.map == LIT) { color = lit(&shown, at, front); } else { color = mapOf(&shown, view.map); }
    return vec4<f32>(clamp(color, vec3<f32>(0.0), vec3<f32>(1.0)), 1.0);
}

struct Codes
{
    @location(0) channels0: vec4<f32>,
    @location(1) channels4: vec4<f32>,
    @location(2) channels8: vec4<f32>,
}

@fragment
fn readTexel(@builtin(position) pixel: vec4<f32>) -> Codes
{
    let uv = (view.firstTexel + floor(pixel.xy) + 0.5) / sizeAt(view.lod);
    var v: Channels;
    if (view.layer == SOURCE) { v = sourceValues(uv, view.lod, true); } else { v = decodedValues(uv, view.lod); }
    return Codes(rounded(vec4<f32>(v[0], v[1], v[2], v[3])), rounded(vec4<f32>(v[4], v[5], v[6], v[7])),
        rounded(vec4<f32>(v[8], v[9], v[10], 0.0)));
}
