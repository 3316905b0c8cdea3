// The colour of a fragment. The material's decoder (export.py --shader essl) and light.glsl precede this text.

const int LIT = -1;  // uMap; 0 .. 6 are the maps in their order
const int DRAW = 0, READ = 1;  // uTask
const int DECODED = 0, SOURCE = 1, ERROR = 2;  // uLayer
// uSampling: one texel; four texels blended; filtered where the pixel lies, also between LODs
const int NEAREST = 0, LINEAR = 1, ANYWHERE = 2;

uniform int uTask;
uniform int uLayer;
uniform int uMap;
uniform vec2 uSize;  // of LOD 0
uniform bool uAutoLod;
uniform float uLod;
uniform float uLeastLod;  // finest LOD that may be shown: the source's while it is compared with
uniform int uSampling;
uniform bool uFiltered;  // the network was trained at any position and LOD, so that ANYWHERE is one decode
uniform float uAnisotropy;  // of the sampler
uniform ivec2 uFirstTexel;  // texel at gl_FragCoord (0, 0), for READ
uniform vec3 uEye;
uniform vec3 uSun;
uniform float uErrorScale;  // the error that the brightest colour stands for, in [0, 1]
uniform float uHas[7];  // 1: the material has this map
uniform float uNormalUp;  // 1: green points up (OpenGL), -1: down (DirectX)
uniform bool uDiffuseInSrgb;  // in the source file
uniform bool uEncodeDiffuse;  // the network returns linear light, the file holds sRGB
uniform bool uUnitNormals;
uniform float uFixed[11];  // the file's value of a channel that is the same everywhere, -1 for the others
uniform highp sampler2DArray uSource;  // layer k: channels 4 k .. 4 k + 3
uniform int uSourceLod;  // LOD of mip 0 of uSource

in vec3 vPosition;
in vec3 vNormal;
in vec3 vTangent;
in vec2 vUv;
layout(location = 0) out vec4 color;  // or channels 0 .. 3, when they are read
layout(location = 1) out vec4 channels4;
layout(location = 2) out vec4 channels8;

/// The 11 channels in the file's colour spaces, not clamped: file_space.in_file_space. footprint: see ntFootprint.
void decodedValues(vec2 uv, float lod, vec4 footprint, out float v[11])
{
#ifdef NT_SAMPLED
    NtMaterial m = ntDecodeFootprint(uv, lod, footprint.xy, footprint.z);
#else
    NtMaterial m = ntDecode(uv, lod);
#endif
    vec3 diffuse = uEncodeDiffuse ? linearToSrgb(m.diffuse) : m.diffuse;
    v[0] = diffuse.r;
    v[1] = diffuse.g;
    v[2] = diffuse.b;
    v[3] = m.normal.x;
    v[4] = m.normal.y;
    v[5] = m.normal.z;
    v[6] = m.roughness;
    v[7] = m.occlusion;
    v[8] = m.metallic;
    v[9] = m.specular;
    v[10] = m.displacement;
    if (uUnitNormals)
    {
        vec3 n = unitNormal(vec3(v[3], v[4], v[5]), vec3(uFixed[3], uFixed[4], uFixed[5]));
        v[3] = n.x;
        v[4] = n.y;
        v[5] = n.z;
    }
    for (int i = 0; i < 11; i++)
    {
        if (uFixed[i] >= 0.0) { v[i] = uFixed[i]; }
    }
}

/// decodedValues as uSampling wants them: at a texel's centre, of texels blended, or at uv itself.
void decodedAt(vec2 uv, float lod, vec4 footprint, out float v[11])
{
    bool one = uTask == READ || (uSampling == ANYWHERE && uFiltered);
    bool linear = !one && uSampling != NEAREST;
    float finer = one ? lod : floor(lod);
    int texels = linear ? 4 : 1, decodes = lod > finer ? 2 * texels : texels;
    for (int i = 0; i < 11; i++) { v[i] = 0.0; }
    for (int which = 0; which < decodes; which++)
    {
        float level = which < texels ? finer : finer + 1.0;
        vec2 size = vec2(max(ivec2(uSize) >> int(level), 1));
        vec2 position = fract(uv) * size - (linear ? 0.5 : 0.0);
        vec2 corner = floor(position), weight = position - corner;
        vec2 offset = linear ? vec2(which & 1, which >> 1 & 1) : vec2(0.0);
        vec2 part = mix(1.0 - weight, weight, offset);
        float share = linear ? part.x * part.y * (1.0 - abs(lod - level)) : 1.0;
        float texel[11];
        decodedValues(one ? uv : (mod(corner + offset, size) + 0.5) / size, one ? lod : level, footprint, texel);
        for (int i = 0; i < 11; i++) { v[i] += share * texel[i]; }
    }
}

/// footprint: of the pixel; where it is one, the sampler filters along it.
void sourceValues(vec2 uv, float lod, vec4 footprint, out float v[11])
{
    vec2 across = dFdx(uv), down = dFdy(uv);
    float level = max(lod - float(uSourceLod), 0.0);
    vec4 parts[3];
    for (int k = 0; k < 3; k++)
    {
        if (uSampling == NEAREST || uTask == READ)
        {
            int mip = int(level);
            ivec3 size = textureSize(uSource, mip);
            ivec2 texel = min(ivec2(fract(uv) * vec2(size.xy)), size.xy - 1);
            parts[k] = texelFetch(uSource, ivec3(texel, k), mip);
        }
        else if (footprint.z > 0.0)
        {
            parts[k] = textureGrad(uSource, vec3(uv, float(k)), across, down);
        }
        else
        {
            parts[k] = textureLod(uSource, vec3(uv, float(k)), level);
        }
    }
    for (int i = 0; i < 11; i++) { v[i] = parts[i / 4][i % 4]; }
}

vec3 mapOf(float v[11], int map)
{
    if (map == 0) { return vec3(v[0], v[1], v[2]); }
    if (map == 1) { return vec3(v[3], v[4], v[5]); }
    return vec3(v[4 + map]);
}

vec3 lit(float v[11])
{
    vec3 base = vec3(0.6);
    if (uHas[0] > 0.0)
    {
        base = clamp(vec3(v[0], v[1], v[2]), 0.0, 1.0);
        base = uDiffuseInSrgb ? ntSrgbToLinear(base) : base;
    }
    float side = gl_FrontFacing ? 1.0 : -1.0;
    vec3 n = normalize(vNormal) * side;
    vec3 tangent = normalize(vTangent - n * dot(n, vTangent));
    if (uHas[1] > 0.0)
    {
        vec3 bent = vec3(v[3], v[4], v[5]) * 2.0 - 1.0;
        vec3 up = cross(n, tangent) * side * uNormalUp;  // against v, which runs down
        n = normalize(tangent * bent.x + up * bent.y + n * max(bent.z, 0.05));
    }
    vec3 toEye = normalize(uEye - vPosition);
    float roughness = uHas[2] > 0.0 ? clamp(v[6], 0.0, 1.0) : 0.5;
    float occlusion = uHas[3] > 0.0 ? clamp(v[7], 0.0, 1.0) : 1.0;
    float metallic = uHas[4] > 0.0 ? clamp(v[8], 0.0, 1.0) : 0.0;
    float specular = uHas[5] > 0.0 ? clamp(v[9], 0.0, 1.0) : 0.5;
    return linearToSrgb(toneMap(shade(base, n, toEye, uSun, roughness, occlusion, metallic, specular)));
}

vec3 shown(float v[11])
{
    return uMap == LIT ? lit(v) : mapOf(v, uMap);
}

/// Root mean square difference of the channels of the map shown, or of all that the material has.
float difference(float a[11], float b[11])
{
    float sum = 0.0, count = 0.0;
    for (int i = 0; i < 11; i++)
    {
        int map = i < 3 ? 0 : i < 6 ? 1 : i - 4;
        float share = uMap == LIT || uMap == map ? uHas[map] : 0.0;
        float d = clamp(a[i], 0.0, 1.0) - clamp(b[i], 0.0, 1.0);
        sum += share * d * d;
        count += share;
    }
    return sqrt(sum / max(count, 1.0));
}

void main()
{
    channels4 = channels8 = vec4(0.0);
    float lod = uLod;
    vec2 uv = vUv;
    vec4 footprint = vec4(0.0);
    if (uTask == DRAW)
    {
        float own = max(ntLod(dFdx(vUv), dFdy(vUv)), 0.0);
#ifdef NT_SAMPLED
        if (uSampling == ANYWHERE && uFiltered && uAutoLod)
        {
            footprint = ntFootprint(dFdx(vUv), dFdy(vUv), uAnisotropy);
            own = max(footprint.w, 0.0);
        }
#endif
        lod = clamp(uAutoLod ? own : uLod, uLeastLod, max(uLeastLod, float(NT_NUM_LODS - 1)));
        lod = uSampling == ANYWHERE ? lod : floor(lod + 0.5);
    }
    vec2 size = vec2(max(ivec2(uSize) >> int(lod), 1));
    if (uTask == READ) { uv = (vec2(uFirstTexel) + floor(gl_FragCoord.xy) + 0.5) / size; }
    float decoded[11], source[11];
    if (uLayer != SOURCE) { decodedAt(uv, lod, footprint, decoded); }
    if (uLayer != DECODED) { sourceValues(uv, lod, footprint, source); }
    if (uLayer == SOURCE) { decoded = source; }
    if (uTask == READ)
    {
        color = rounded(vec4(decoded[0], decoded[1], decoded[2], decoded[3]));
        channels4 = rounded(vec4(decoded[4], decoded[5], decoded[6], decoded[7]));
        channels8 = rounded(vec4(decoded[8], decoded[9], decoded[10], 0.0));
    }
    else if (uLayer == ERROR)
    {
        color = vec4(heat(difference(decoded, source) / uErrorScale), 1.0);
    }
    else
    {
        color = vec4(clamp(shown(decoded), 0.0, 1.0), 1.0);
    }
}
