// A material of three.js whose textures are decoded in its fragment shader. The rest of the shader stays three.js's own:
// only what it reads from the textures of MAPS is replaced, so that lights, shadows, fog, skinning and the others are as ever.

import { MeshDepthMaterial, MeshDistanceMaterial, RGBADepthPacking, ShaderChunk, Texture } from "three";
import { blueNoise, SIDE } from "./blueNoise.js";
import { numberOf } from "./NeuralTexture.js";
import { readingOf, unitFunction } from "./preamble.js";

const FRAMES = 1024;  // that differ in their random numbers

/** How a pixel is filtered. */
export const FILTERS = {
    four: "the four texels around, of both LODs, decoded and blended",
    sixteen: "the same, where texels of the finer LOD stand for those of the coarser one: they average more errors away",
    hardware: "one decode where the pixel lies, of features that are filtered",
    stochastic: "one texel, chosen at random as often as filtering weighs it; for temporal antialiasing",
    nearest: "the nearest texel of the nearest LOD",
};

/** A material's texture -> the chunk that reads it, and what stands for that read. */
const SLOTS = {
    map: ["map_fragment", "vec4( ntPixel.base, ntPixel.opacity )"],
    roughnessMap: ["roughnessmap_fragment", "vec4( ntPixel.roughness )"],
    metalnessMap: ["metalnessmap_fragment", "vec4( ntPixel.metallic )"],
    normalMap: ["normal_fragment_maps", "vec4( ntPixel.normal, 1.0 )"],
    aoMap: ["aomap_fragment", "vec4( ntPixel.occlusion )"],
    emissiveMap: ["emissivemap_fragment", "vec4( ntPixel.emissive, 1.0 )"],
};
/** The neural texture's map -> the material's texture that it replaces. */
export const SLOT_OF_MAP = {
    diffuse: "map", opacity: "map", roughness: "roughnessMap", metallic: "metalnessMap", normal: "normalMap", occlusion: "aoMap", emissive: "emissiveMap",
};
const readOf = (slot) => new RegExp(`texture2D\\(\\s*${slot}\\s*,\\s*\\w+\\s*\\)`, slot === "normalMap" ? "g" : "");

/** Why this version of three.js cannot be used; null where it can. */
export function threeProblem() {
    const missing = Object.entries(SLOTS).find(([slot, [chunk]]) => !readOf(slot).test(ShaderChunk[chunk] ?? ""));
    return missing ? `three.js reads ${missing[0]} in another way than this package knows` : null;
}

/**
 * Let a material take its maps from a neural texture. What the neural texture holds replaces the material's texture and
 * factor; the factors that three.js multiplies with become 1, and can be changed afterwards.
 *
 * @param {Material} material MeshStandardMaterial, MeshPhysicalMaterial or MeshBasicMaterial
 * @param {NeuralTexture} texture
 * @param {object} options filter: of FILTERS; channel: uv set, 0 to 3; place: a Texture whose offset, repeat and rotation, or
 *     matrix, are those of the neural texture; flipY: v points up, as in the geometries of three.js and not in glTF's
 * @returns {Material} the same material
 */
export function applyNeuralTexture(material, texture, { filter = null, channel = 0, place = null, flipY = false } = {}) {
    const carrier = place ?? new Texture();  // stands in the material's slots: three.js computes its uv, and nothing is uploaded
    carrier.channel = channel;
    carrier.version = 0;
    const shown = material.isMeshBasicMaterial ? ["diffuse", "opacity"] : Object.keys(SLOT_OF_MAP), { maps } = texture;
    const slots = new Set(shown.filter((map) => maps[map]).map((map) => SLOT_OF_MAP[map]));
    const ownAlpha = !maps.opacity && (material.transparent || material.alphaTest > 0), kept = material.map;
    const ownBase = !maps.diffuse || ownAlpha;
    for (const slot of slots) if (slot !== "map" || !ownBase || !kept) material[slot] = carrier;
    if (slots.has("map") && maps.diffuse) material.color.setRGB(1, 1, 1);
    if (maps.opacity) material.opacity = 1;
    if (slots.has("roughnessMap")) material.roughness = 1;
    if (slots.has("metalnessMap")) material.metalness = 1;
    if (slots.has("normalMap")) material.normalScale.set(1, 1);
    if (slots.has("aoMap")) material.aoMapIntensity = 1;
    if (slots.has("emissiveMap")) {
        material.emissive.setRGB(1, 1, 1);
        material.emissiveIntensity = 1;
    }
    const chosen = filter ?? (texture.read.positions === "filtered" ? "hardware" : "sixteen");
    return adopt(material, { texture, filter: chosen, channel, flipY, carrier, slots: [...slots], frame: { value: 0 }, shadows: null });
}

/** The depth materials of a neural material with holes, for shadows: of a mesh's customDepthMaterial and customDistanceMaterial. */
export function shadowMaterials(material) {
    const { neural } = material;
    if (!neural?.texture.maps.opacity || !(material.alphaTest > 0)) return null;
    neural.shadows ??= [new MeshDepthMaterial({ depthPacking: RGBADepthPacking }), new MeshDistanceMaterial()].map((shadow) => {
        material.addEventListener("dispose", () => shadow.dispose());
        return adopt(shadow, { ...neural, slots: ["map"], shadows: null });
    });
    return { customDepthMaterial: neural.shadows[0], customDistanceMaterial: neural.shadows[1] };
}

/** Give a material what three.js does not copy with it: the changes of its shader. */
function adopt(material, neural) {
    material.neural = neural;
    material.onBeforeCompile = (shader, renderer) => {
        const { texture, filter, carrier } = neural;
        texture.usedBy(material);
        if (carrier.matrixAutoUpdate) carrier.updateMatrix();
        Object.assign(shader.uniforms, texture.uniforms(renderer), { ntPlace: { value: carrier.matrix } });
        if (filter === "hardware") shader.uniforms.ntAnisotropy = { value: Math.min(texture.anisotropy, renderer.capabilities.getMaxAnisotropy()) };
        if (filter === "stochastic") Object.assign(shader.uniforms, { ntNoise: { value: blueNoise() }, ntFrame: neural.frame });
        const { vertex, fragment } = changes(material);
        if (texture.hasUniformWeights(renderer)) fragment.common = `#define NT_UNIFORM_WEIGHTS\n${fragment.common}`;
        shader.vertexShader = replaced(shader.vertexShader, vertex);
        shader.fragmentShader = replaced(shader.fragmentShader, fragment);
    };
    material.onBeforeRender = (renderer) => { neural.frame.value = renderer.info.render.frame % FRAMES; };
    material.customProgramCacheKey = () => {
        const { channel, flipY, slots, carrier } = neural;
        return `neural texture ${JSON.stringify([numberOf(headText(neural)), channel, flipY, slots, material.map === carrier])}`;
    };
    material.clone = function () {
        return adopt(Object.getPrototypeOf(this).clone.call(this), { ...neural, shadows: null });
    };
    return material;
}

function replaced(text, changed) {
    return Object.entries(changed).reduce((result, [chunk, by]) => result.replace(`#include <${chunk}>`, () => by), text);
}

/** Chunk -> the text that stands for it, in both shaders. */
function changes(material) {
    const { neural } = material, { channel, flipY, slots } = neural, attribute = channel ? `uv${channel}` : "uv";
    const vertex = {
        uv_pars_vertex: [
            "#include <uv_pars_vertex>", "uniform mat3 ntPlace;", "varying vec2 vNtUv;",
            ...channel ? [`#ifndef USE_UV${channel}`, `attribute vec2 ${attribute};`, "#endif"] : [],
        ].join("\n"),
        uv_vertex: `#include <uv_vertex>\nvNtUv = ( ntPlace * vec3( ${attribute}, 1.0 ) ).xy;${flipY ? "\nvNtUv.y = 1.0 - vNtUv.y;" : ""}`,
    };
    const fragment = { common: `#include <common>\n${headText(neural)}`, map_fragment: "#include <map_fragment>" };
    for (const slot of slots) {
        const [chunk, value] = SLOTS[slot];
        fragment[chunk] = ShaderChunk[chunk].replace(readOf(slot), (read) => slot === "map" ? baseText(material, read, value) : value);
    }
    fragment.map_fragment = `NtPixel ntPixel = ntFilteredPixel();\n${fragment.map_fragment}`;
    return { vertex, fragment };
}

/** What stands for a read of the base colour and alpha: a texture of the material's own stays where one of them is not decoded. */
function baseText({ map, neural: { texture: { maps }, carrier } }, read, value) {
    if (map === carrier) return value;
    return `vec4( ${maps.diffuse ? "ntPixel.base" : `${read}.rgb`}, ${maps.opacity ? "ntPixel.opacity" : `${read}.a`} )`;
}

/** What stands before main(): the decoder, its values as three.js takes them, and the filter. */
function headText({ texture, filter }) {
    const head = heads.get(texture) ?? heads.set(texture, {}).get(texture);
    return head[filter] ??= ["varying vec2 vNtUv;", texture.decoder, pixelText(texture.maps), FILTER_TEXTS[filter](texture)].join("\n");
}

const heads = new WeakMap();  // neural texture -> filter -> text

/** A decoded texel as three.js's samplers would return it: light is linear, numbers are in the range of a texture. */
function pixelText(maps) {
    const own = (name, expression) => maps[name]?.hasUnits ? `${unitFunction(name)}( m.${name} )` : expression ?? `clamp( m.${name}, 0.0, 1.0 )`;
    const of = (name, otherwise, expression) => maps[name] ? own(name, expression) : otherwise;
    const normal = maps.normal?.unit ? "0.5 * ntUnitNormal( m ) + 0.5" : "clamp( m.normal, 0.0, 1.0 )";
    const values = {
        base: ["vec3", of("diffuse", "vec3( 1.0 )", "clamp( ntLinearDiffuse( m ), 0.0, 1.0 )")],
        opacity: ["float", of("opacity", "1.0")],
        normal: ["vec3", maps.normal ? normal : "vec3( 0.5, 0.5, 1.0 )"],
        roughness: ["float", of("roughness", "1.0")],
        metallic: ["float", of("metallic", "1.0")],
        occlusion: ["float", of("occlusion", "1.0")],
        emissive: ["vec3", of("emissive", "vec3( 1.0 )", maps.emissive?.srgb ? "ntSrgbToLinear( m.emissive )" : undefined)],
    };
    const lines = (text) => Object.entries(values).map(text).join("\n");
    return `
struct NtPixel
{
${lines(([name, [kind]]) => `    ${kind} ${name};`)}
};

NtPixel ntPixelOf( NtMaterial m )
{
    NtPixel pixel;
${lines(([name, [, value]]) => `    pixel.${name} = ${value};`)}
${maps.normal?.down ? "    pixel.normal.y = 1.0 - pixel.normal.y;" : ""}
    return pixel;
}

void ntAdd( inout NtPixel sum, float share, NtPixel pixel )
{
${lines(([name]) => `    sum.${name} += share * pixel.${name};`)}
}

NtPixel ntNothing()
{
    return NtPixel( vec3( 0.0 ), 0.0, vec3( 0.0 ), 0.0, 0.0, 0.0, vec3( 0.0 ) );
}

vec2 ntSizeOf( float level )
{
    return vec2( max( ivec2( NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT ) >> int( level ), ivec2( 1 ) ) );
}

float ntPixelLod()
{
    return clamp( ntLod( dFdx( vNtUv ), dFdy( vNtUv ) ), 0.0, float( NT_NUM_LODS - 1 ) );
}
`;
}

const BLEND = `
/// Adds a LOD's four texels around the pixel, decoded and blended.
void ntAddBlend( inout NtPixel sum, float share, float level )
{
    vec2 size = ntSizeOf( level );
    vec2 position = fract( vNtUv ) * size - 0.5, corner = floor( position ), weight = position - corner;
    for ( int which = 0; which < 4; which ++ )
    {
        vec2 offset = vec2( which & 1, which >> 1 ), part = mix( 1.0 - weight, weight, offset );
        ntAdd( sum, share * part.x * part.y, ntPixelOf( ntDecode( ( mod( corner + offset, size ) + 0.5 ) / size, level ) ) );
    }
}
`;

const FILTER_TEXTS = {
    four: () => `${BLEND}
NtPixel ntFilteredPixel()
{
    float lod = ntPixelLod(), finer = floor( lod ), rest = lod - finer;
    NtPixel sum = ntNothing();
    ntAddBlend( sum, 1.0 - rest, finer );
    if ( rest > 0.0 ) ntAddBlend( sum, rest, finer + 1.0 );
    return sum;
}
`,
    // A coarser texel is the mean of 2 x 2 finer ones, where sizes are even: its bilinear blend is a blend of 4 x 4 of them,
    // among which are the 2 x 2 that the finer LOD's own blend reads. Towards the next LOD that one's own texels take over,
    // so that the picture changes gradually.
    sixteen: () => `${BLEND}
NtPixel ntFilteredPixel()
{
    float lod = ntPixelLod(), finer = floor( lod ), rest = lod - finer;
    vec2 size = ntSizeOf( finer );
    bool halves = mod( size, 2.0 ) == vec2( 0.0 );
    float next = rest * ( halves ? max( 8.0 * rest - 7.0, 0.0 ) : 1.0 );
    NtPixel sum = ntNothing();
    if ( next > 0.0 ) ntAddBlend( sum, next, finer + 1.0 );
    if ( rest == next )
    {
        if ( rest < 1.0 ) ntAddBlend( sum, 1.0 - rest, finer );
        return sum;
    }
    vec2 position = fract( vNtUv ) * size - 0.5, coarse = 0.5 * position - 0.25, corner = 2.0 * floor( coarse );
    coarse = fract( coarse );
    for ( int which = 0; which < 16; which ++ )
    {
        vec2 offset = vec2( which & 3, which >> 2 );
        vec2 own = max( 1.0 - abs( position - corner - offset ), 0.0 );
        vec2 mean = 0.5 * mix( 1.0 - coarse, coarse, floor( 0.5 * offset ) );
        float share = ( 1.0 - rest ) * own.x * own.y + ( rest - next ) * mean.x * mean.y;
        ntAdd( sum, share, ntPixelOf( ntDecode( ( mod( corner + offset, size ) + 0.5 ) / size, finer ) ) );
    }
    return sum;
}
`,
    hardware: ({ read }) => readingOf(read) === "packed" ? `
NtPixel ntFilteredPixel()
{
    return ntPixelOf( ntDecode( vNtUv, ntPixelLod() ) );
}
` : `
uniform float ntAnisotropy;

NtPixel ntFilteredPixel()
{
    return ntPixelOf( ntDecodeGrad( vNtUv, dFdx( vNtUv ), dFdy( vNtUv ), ntAnisotropy ) );
}
`,
    stochastic: () => `
uniform highp sampler2D ntNoise;
uniform float ntFrame;

float ntRandom( ivec2 offset )
{
    return texelFetch( ntNoise, ( ivec2( gl_FragCoord.xy ) + offset ) & ${SIDE - 1}, 0 ).r * 255.0 / 256.0;
}

NtPixel ntFilteredPixel()
{
    // a pixel's numbers of successive frames fill the cube evenly (Roberts 2018, R3)
    vec3 noise = vec3( ntRandom( ivec2( 0 ) ), ntRandom( ivec2( 23, 41 ) ), ntRandom( ivec2( 47, 11 ) ) );
    vec3 random = fract( noise + ntFrame * vec3( 0.8191725134, 0.6710436067, 0.5497004779 ) );
    float level = floor( ntPixelLod() + random.z );
    return ntPixelOf( ntDecode( ntTexelCentre( vNtUv, level, random.xy ), level ) );
}
`,
    nearest: () => `
NtPixel ntFilteredPixel()
{
    float level = floor( ntPixelLod() + 0.5 );
    return ntPixelOf( ntDecode( ntTexelCentre( vNtUv, level, vec2( 0.5 ) ), level ) );
}
`,
};
