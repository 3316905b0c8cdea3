// One material: its channels, its levels, and the facts that become uniforms.

const MAPS = DATA.maps;  // [name, channels] in canonical order
const MAP_NAMES = MAPS.map(([name]) => name);
const FIRST_CHANNEL = MAPS.map((_, i) => MAPS.slice(0, i).reduce((sum, [, count]) => sum + count, 0));
const CHANNELS = FIRST_CHANNEL.at(-1) + MAPS.at(-1)[1];

const lodSize = (material, lod) => [Math.max(1, material.width >> lod), Math.max(1, material.height >> lod)];

/** [width, height, bytes] of every mip of a feature texture. */
function gridLevels(entry) {
    const bytes = blobBytes(entry.blob);
    let end = 0;
    return entry.sizes.map(([width, height]) => [width, height, bytes.subarray(end, end += width * height * entry.channels)]);
}

/** The uniforms of a material that do not change; flags are 0 or 1. */
function factsOf(material) {
    const entryOf = (name) => material.maps.find((entry) => entry.map === name);
    const diffuse = entryOf("diffuse"), normal = entryOf("normal");
    return {
        size: [material.width, material.height],
        has: MAP_NAMES.map((name) => +(entryOf(name) !== undefined)),
        fixed: Array.from({ length: CHANNELS }, (_, channel) => material.fixed[channel] ?? -1),
        normalUp: normal && normal.convention === "dx" ? -1 : 1,
        diffuseInSrgb: +(diffuse?.file_color_space === "srgb"),
        encodeDiffuse: +(diffuse !== undefined && diffuse.file_color_space !== diffuse.color_space),
        filtered: +(material.positions === "filtered"),
        unitNormals: +(normal?.unit_normals === true),
        sourceLod: material.source ? material.source.lod : 0,
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
    return { ...material, has: facts.has, meshes, gpu };
}
