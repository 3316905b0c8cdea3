// One material: its channels, its levels, and the facts that become uniforms.

const MAPS = [...DATA.maps, ...DATA.extra_maps];  // [name, channels] in canonical order; the user names the last one
const FIRST_CHANNEL = MAPS.map((_, i) => MAPS.slice(0, i).reduce((sum, [, count]) => sum + count, 0));
const OPACITY = DATA.maps.length, EMISSIVE = OPACITY + 1;

const hasExtras = (material) => material.channels > FIRST_CHANNEL[OPACITY];

/** How many times four channels a material has. */
const partsOf = (material) => Math.ceil(material.channels / 4);

/** The names of the maps that a material may have, by their numbers: 7, or 10 with extra maps. */
function mapNames(material) {
    const names = [...DATA.maps, ...hasExtras(material) ? DATA.extra_maps : []].map(([name]) => name);
    return names.map((name) => name ?? material.named_map);
}

const lodSize = (material, lod) => [Math.max(1, material.width >> lod), Math.max(1, material.height >> lod)];

/** [width, height, bytes] of every mip of a feature texture. */
function gridLevels(entry) {
    const bytes = blobBytes(entry.blob);
    let end = 0;
    return entry.sizes.map(([width, height]) => [width, height, bytes.subarray(end, end += width * height * entry.channels)]);
}

/** What stands where a material of a folder has no map. */
const USUAL_FACTORS = { base: [0.6, 0.6, 0.6, 1], roughness: 0.5, metallic: 0, emitted: [0, 0, 0] };

/** The uniforms of a material that do not change; flags are 0 or 1. */
function factsOf(material) {
    const entryOf = (name) => material.maps.find((entry) => entry.map === name);
    const diffuse = entryOf("diffuse"), normal = entryOf("normal");
    return {
        size: [material.width, material.height],
        has: mapNames(material).map((name) => +(entryOf(name) !== undefined)),
        fixed: Array.from({ length: material.channels }, (_, channel) => material.fixed[channel] ?? -1),
        normalUp: normal && normal.convention === "dx" ? -1 : 1,
        diffuseInSrgb: +(diffuse?.file_color_space === "srgb"),
        encodeDiffuse: +(diffuse !== undefined && diffuse.file_color_space !== diffuse.color_space),
        filtered: +(material.positions === "filtered"),
        unitNormals: +(normal?.unit_normals === true),
        sourceLod: material.source ? material.source.lod : 0,
        factors: factorsOf(material) ?? USUAL_FACTORS,
    };
}

/** Upload a material and compile its decoder. Rejects with an Error that names the GPU limit that it exceeds. */
async function loadMaterial(material) {
    const needed = material.textures.length + 2, units = gl.getParameter(gl.MAX_TEXTURE_IMAGE_UNITS), side = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (needed > units) throw new Error(`the decoder needs ${needed} textures at a time; this GPU takes ${units}`);
    const widest = Math.max(...material.textures.flatMap((entry) => entry.sizes[0]));
    if (widest > side) throw new Error(`a grid is ${widest} texels wide; this GPU takes ${side}`);
    const facts = factsOf(material), meshes = makeMeshes(material.width, material.height);
    const gpu = await webgl.load(material, facts, [...new Set(Object.values(meshes))]);
    return { ...material, names: mapNames(material), has: facts.has, meshes, gpu };
}
