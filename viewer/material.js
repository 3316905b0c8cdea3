// One material on the GPU: its feature textures, weights, source and program.

const FORMATS = { 1: ["R8", "RED"], 2: ["RG8", "RG"], 4: ["RGBA8", "RGBA"] };

function gridTexture(entry) {
    const [internal, format] = FORMATS[entry.channels], [width, height] = entry.sizes[0];
    const limit = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (Math.max(width, height) > limit) throw new Error(`a grid is ${width} texels wide; this GPU takes ${limit}`);
    const texture = texture2D(gl[internal], width, height, entry.sizes.length, gl.NEAREST);
    const bytes = blobBytes(entry.blob);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    entry.sizes.reduce((offset, [w, h], mip) => {
        const end = offset + w * h * entry.channels;
        gl.texSubImage2D(gl.TEXTURE_2D, mip, 0, 0, w, h, gl[format], gl.UNSIGNED_BYTE, bytes.subarray(offset, end));
        return end;
    }, 0);
    return { name: entry.name, texture, kind: gl.TEXTURE_2D };
}

/** The weights as a uniform block, which is read faster, or where that may not be so large as a texture. */
function makeWeights(entry) {
    const numbers = new Float32Array(blobBytes(entry.blob).buffer), height = numbers.length / 4 / entry.width;
    if (16 * entry.columns <= gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE)) {
        const block = gl.createBuffer();
        gl.bindBuffer(gl.UNIFORM_BUFFER, block);
        gl.bufferData(gl.UNIFORM_BUFFER, numbers.subarray(0, 4 * entry.columns), gl.STATIC_DRAW);
        return { block };
    }
    const texture = texture2D(gl.RGBA32F, entry.width, height, 1, gl.NEAREST);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, entry.width, height, gl.RGBA, gl.FLOAT, numbers);
    return { name: entry.name, texture, kind: gl.TEXTURE_2D };
}

/** Upload and compile; rejects with an Error that says what this GPU cannot do. */
async function loadMaterial(material) {
    const units = gl.getParameter(gl.MAX_TEXTURE_IMAGE_UNITS), needed = material.textures.length + 2;
    if (needed > units) throw new Error(`the decoder needs ${needed} textures at a time; this GPU takes ${units}`);
    const textures = material.textures.map(gridTexture);
    const weights = makeWeights(material.weights);
    if (weights.texture) textures.push(weights);
    textures.push({ name: "uSource", texture: await sourceTexture(material), kind: gl.TEXTURE_2D_ARRAY });
    const [before, after] = material.preamble;
    const text = ["#version 300 es", weights.block ? "#define NT_UNIFORM_WEIGHTS" : "", before, DATA.core, after, "precision highp sampler2DArray;", DATA.shaders["light.glsl"],
        DATA.shaders["view.frag"]].join("\n");
    const { program, at } = await makeProgram(VERTEX(), text);
    gl.useProgram(program);
    if (weights.block) gl.uniformBlockBinding(program, gl.getUniformBlockIndex(program, "NtWeights"), 0);
    const has = MAP_NAMES.map((name) => +material.maps.some((entry) => entry.map === name));
    const entryOf = (name) => material.maps.find((entry) => entry.map === name);
    const diffuse = entryOf("diffuse"), normal = entryOf("normal");
    textures.forEach(({ name }, unit) => gl.uniform1i(at(name), unit));
    gl.uniform2f(at("uSize"), material.width, material.height);
    gl.uniform1fv(at("uHas"), has);
    gl.uniform1fv(at("uFixed"), Array.from({ length: CHANNELS }, (_, channel) => material.fixed[channel] ?? -1));
    gl.uniform1f(at("uNormalUp"), normal && normal.convention === "dx" ? -1 : 1);
    gl.uniform1i(at("uDiffuseInSrgb"), +(diffuse?.file_color_space === "srgb"));
    gl.uniform1i(at("uEncodeDiffuse"), +(diffuse !== undefined && diffuse.file_color_space !== diffuse.color_space));
    gl.uniform1i(at("uUnitNormals"), +(normal?.unit_normals === true));
    gl.uniform1i(at("uSourceLod"), material.source ? material.source.lod : 0);
    return { ...material, has, textures, block: weights.block ?? null, program, at,
        meshes: makeMeshes(material.width, material.height) };
}

function freeMaterial(loaded) {
    loaded.textures.forEach(({ texture }) => gl.deleteTexture(texture));
    gl.deleteBuffer(loaded.block);
    gl.deleteProgram(loaded.program);
    Object.values(loaded.meshes).forEach(({ array }) => gl.deleteVertexArray(array));
}

const lodSize = (material, lod) => [Math.max(1, material.width >> lod), Math.max(1, material.height >> lod)];
