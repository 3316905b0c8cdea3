// The colour of a fragment. The material's decoder (export.py --shader essl), light.glsl and background.glsl precede this
// text; and NT_EXTRAS where the material has extra maps, with NT_EMITTED(t), the light that an emissive texel emits.

#ifdef NT_EXTRAS
const int CHANNELS = 16, MAPS = 10;
#else
const int CHANNELS = 11, MAPS = 7;
#endif
const int PARTS = (CHANNELS + 3) / 4;  // vectors of four channels
const int LIT = -1;  // uMap; 0 .. MAPS - 1 are the maps in their order
const int OPACITY = 7, EMISSIVE = 8;
const int DRAW = 0, READ = 1;  // uTask
const int DECODED = 0, SOURCE = 1, ERROR = 2;  // uLayer
// uSampling: one texel; four texels blended; filtered where the pixel lies, also between LODs
const int NEAREST = 0, LINEAR = 1, ANYWHERE = 2;
const int TEST = 0, BLEND = 1;  // uHoles
// uPart: a shape; of a model a part without holes, one whose alpha is tested, and one that is blended
const int SHAPE = 0, SOLID = 1, TESTED = 2, BLENDED = 3;

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
uniform float uHas[MAPS];  // 1: the material has this map
uniform float uNormalUp;  // 1: green points up (OpenGL), -1: down (DirectX)
uniform bool uDiffuseInSrgb;  // in the source file
uniform bool uEncodeDiffuse;  // the network returns linear light, the file holds sRGB
uniform bool uUnitNormals;
uniform float uFixed[CHANNELS];  // the file's value of a channel that is the same everywhere, -1 for the others
uniform highp sampler2DArray uSource;  // layer k: channels 4 k .. 4 k + 3
uniform int uSourceLod;  // LOD of mip 0 of uSource
uniform int uPart;
uniform bool uNothing;  // the part has nothing of what is looked at: grey
uniform vec4 uBase;  // linear, of a material without such maps, as are the next three
uniform float uRoughness;
uniform float uMetallic;
uniform vec3 uEmitted;
uniform float uThreshold;  // of tests: texels of this opacity and more are seen
uniform float uExposure;  // factor of all light
#ifdef NT_EXTRAS
uniform int uHoles;  // how opacity is used
#endif

in vec3 vPosition;
in vec3 vNormal;
in vec4 vTangent;
in vec2 vUv;
layout(location = 0) out vec4 color;  // or channels 0 .. 3, when they are read
layout(location = 1) out vec4 channels4;
layout(location = 2) out vec4 channels8;
#ifdef NT_EXTRAS
layout(location = 3) out vec4 channels12;
#endif

/// The channels in the file's colour spaces, not clamped: file_space.in_file_space. footprint: see ntFootprint.
void decodedValues(vec2 uv, float lod, vec4 footprint, out float v[CHANNELS])
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
#ifdef NT_EXTRAS
    v[11] = m.opacity;
    v[12] = m.emissive.r;
    v[13] = m.emissive.g;
    v[14] = m.emissive.b;
    v[15] = m.extra;
#endif
    if (uUnitNormals)
    {
        vec3 n = unitNormal(vec3(v[3], v[4], v[5]), vec3(uFixed[3], uFixed[4], uFixed[5]));
        v[3] = n.x;
        v[4] = n.y;
        v[5] = n.z;
    }
    for (int i = 0; i < CHANNELS; i++)
    {
        if (uFixed[i] >= 0.0) { v[i] = uFixed[i]; }
    }
}

/// How much of a texel is seen; 1 but for lit materials with opacity.
float coverage(float v[CHANNELS])
{
#ifdef NT_EXTRAS
    if (uHas[OPACITY] > 0.0 && uMap == LIT && uLayer != ERROR) { return clamp(v[11], 0.0, 1.0); }
#endif
    return 1.0;
}

/// decodedValues as uSampling wants them: at a texel's centre, of texels blended, or at uv itself. Blended texels count as
/// much as they are seen, which is what blending premultiplied colours is.
void decodedAt(vec2 uv, float lod, vec4 footprint, out float v[CHANNELS])
{
    bool one = uTask == READ || (uSampling == ANYWHERE && uFiltered);
    bool linear = !one && uSampling != NEAREST;
    float finer = one ? lod : floor(lod);
    int texels = linear ? 4 : 1, decodes = lod > finer ? 2 * texels : texels;
#ifdef NT_EXTRAS
    float sum = 0.0, opacity = 0.0;
#endif
    for (int i = 0; i < CHANNELS; i++) { v[i] = 0.0; }
    for (int which = 0; which < decodes; which++)
    {
        float level = which < texels ? finer : finer + 1.0;
        vec2 size = vec2(max(ivec2(uSize) >> int(level), 1));
        vec2 position = fract(uv) * size - (linear ? 0.5 : 0.0);
        vec2 corner = floor(position), weight = position - corner;
        vec2 offset = linear ? vec2(which & 1, which >> 1 & 1) : vec2(0.0);
        vec2 part = mix(1.0 - weight, weight, offset);
        float share = linear ? part.x * part.y * (1.0 - abs(lod - level)) : 1.0;
        float texel[CHANNELS];
        decodedValues(one ? uv : (mod(corner + offset, size) + 0.5) / size, one ? lod : level, footprint, texel);
        float seen = share * coverage(texel);
        for (int i = 0; i < CHANNELS; i++) { v[i] += seen * texel[i]; }
#ifdef NT_EXTRAS
        sum += seen;
        opacity += share * texel[11];
#endif
    }
#ifdef NT_EXTRAS
    for (int i = 0; i < CHANNELS; i++) { v[i] = sum > 0.0 ? v[i] / sum : v[i]; }
    v[11] = opacity;
#endif
}

/// footprint: of the pixel; where it is one, the sampler filters along it.
void sourceValues(vec2 uv, float lod, vec4 footprint, out float v[CHANNELS])
{
    vec2 across = dFdx(uv), down = dFdy(uv);
    float level = max(lod - float(uSourceLod), 0.0);
    vec4 parts[PARTS];
    for (int k = 0; k < PARTS; k++)
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
    for (int i = 0; i < CHANNELS; i++) { v[i] = parts[i / 4][i % 4]; }
}

vec3 mapOf(float v[CHANNELS], int map)
{
    if (map == 0) { return vec3(v[0], v[1], v[2]); }
    if (map == 1) { return vec3(v[3], v[4], v[5]); }
#ifdef NT_EXTRAS
    if (map == EMISSIVE) { return vec3(v[12], v[13], v[14]); }
    if (map > EMISSIVE) { return vec3(v[15]); }
#endif
    return vec3(v[4 + map]);
}

vec3 lit(float v[CHANNELS])
{
    vec3 base = uBase.rgb;
    if (uHas[0] > 0.0)
    {
        base = vec3(v[0], v[1], v[2]);
#ifdef NT_FILE_DIFFUSE
        base = ntFileDiffuse(base);
#endif
        base = clamp(base, 0.0, 1.0);
        base = uDiffuseInSrgb ? ntSrgbToLinear(base) : base;
    }
    float side = gl_FrontFacing ? 1.0 : -1.0;
    vec3 n = normalize(vNormal) * side;
    if (uHas[1] > 0.0)
    {
        vec3 tangent = normalize(vTangent.xyz - n * dot(n, vTangent.xyz));
        vec3 bent = vec3(v[3], v[4], v[5]) * 2.0 - 1.0;
        vec3 up = cross(n, tangent) * side * sign(vTangent.w) * uNormalUp;  // against v, which runs down
        n = normalize(tangent * bent.x + up * bent.y + n * max(bent.z, 0.05));
    }
    vec3 toEye = normalize(uEye - vPosition);
    float roughness = uHas[2] > 0.0 ? clamp(v[6], 0.0, 1.0) : uRoughness;
    float occlusion = uHas[3] > 0.0 ? clamp(v[7], 0.0, 1.0) : 1.0;
    float metallic = uHas[4] > 0.0 ? clamp(v[8], 0.0, 1.0) : uMetallic;
    float specular = uHas[5] > 0.0 ? clamp(v[9], 0.0, 1.0) : 0.5;
    vec3 light = shade(base, n, toEye, uSun, roughness, occlusion, metallic, specular);
    vec3 emitted = uEmitted;
#ifdef NT_EXTRAS
    if (uHas[EMISSIVE] > 0.0) { emitted = max(NT_EMITTED(vec3(v[12], v[13], v[14])), 0.0); }
#endif
    light = (light + emitted) * uExposure;
    return linearToSrgb(toneMap(light));
}

vec3 shown(float v[CHANNELS])
{
    return uMap == LIT ? lit(v) : mapOf(v, uMap);
}

/// A colour where the material is seen, and the background behind it, mixed as light.
vec3 overBackground(vec3 front, float opacity)
{
#ifdef NT_EXTRAS
    float share = uHoles == TEST ? step(uThreshold, opacity) : opacity;
    vec3 behind = ntSrgbToLinear(background(gl_FragCoord.xy));
    return linearToSrgb(share * ntSrgbToLinear(front) + (1.0 - share) * behind);
#else
    return front;
#endif
}

/// The alpha of a part of a model.
float alphaOf(float v[CHANNELS])
{
#ifdef NT_EXTRAS
    if (uHas[OPACITY] > 0.0) { return clamp(v[11], 0.0, 1.0); }
#endif
    return uBase.a;
}

/// Root mean square difference of the channels of the map shown, or of all that the material has.
float difference(float a[CHANNELS], float b[CHANNELS])
{
    float sum = 0.0, count = 0.0;
    for (int i = 0; i < CHANNELS; i++)
    {
        int map = i < 3 ? 0 : i < 6 ? 1 : i < 12 ? i - 4 : i < 15 ? EMISSIVE : EMISSIVE + 1;
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
#ifdef NT_EXTRAS
    channels12 = vec4(0.0);
#endif
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
    float decoded[CHANNELS], source[CHANNELS];
    if (uLayer != SOURCE) { decodedAt(uv, lod, footprint, decoded); }
    if (uLayer != DECODED) { sourceValues(uv, lod, footprint, source); }
    if (uLayer == SOURCE) { decoded = source; }
    if (uTask == READ)
    {
        color = rounded(vec4(decoded[0], decoded[1], decoded[2], decoded[3]));
        channels4 = rounded(vec4(decoded[4], decoded[5], decoded[6], decoded[7]));
#ifdef NT_EXTRAS
        channels8 = rounded(vec4(decoded[8], decoded[9], decoded[10], decoded[11]));
        channels12 = rounded(vec4(decoded[12], decoded[13], decoded[14], decoded[15]));
#else
        channels8 = rounded(vec4(decoded[8], decoded[9], decoded[10], 0.0));
#endif
    }
    else if (uPart == TESTED && uMap != OPACITY && alphaOf(decoded) < uThreshold)
    {
        discard;
    }
    else if (uNothing)
    {
        color = vec4(nothing(normalize(gl_FrontFacing ? vNormal : -vNormal), normalize(uEye - vPosition)), 1.0);
    }
    else if (uLayer == ERROR)
    {
        color = vec4(heat(difference(decoded, source) / uErrorScale), 1.0);
    }
    else
    {
        vec3 front = clamp(shown(decoded), 0.0, 1.0);
        float alpha = uPart == BLENDED && uMap == LIT ? alphaOf(decoded) : 1.0;
        bool backed = uPart == SHAPE && uMap == LIT && uBackground > 0;
        color = vec4(backed ? overBackground(front, coverage(decoded)) : alpha * front, alpha);
    }
}
