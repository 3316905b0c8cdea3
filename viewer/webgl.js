// Textures, programs and targets of one material, and the draws with them.

const FORMATS = { 1: ["R8", "RED"], 2: ["RG8", "RG"], 4: ["RGBA8", "RGBA"] };

const webgl = {
    targets: null, programs: null, pickTarget: null,

    /** Compile the programs that are the same for all materials; also after a lost context. */
    async start() {
        if (this.programs) return;
        const names = ["present", "solid", "pick", "plain"], head = "#version 300 es\nprecision highp float;";
        const parts = { present: ["#version 300 es", DATA.shaders["background.glsl"]], plain: [head, DATA.shaders["light.glsl"]] };
        const textOf = (name) => [...parts[name] ?? [], DATA.shaders[name + ".frag"]].join("\n");
        const made = await Promise.all(names.map((name) => makeProgram(DATA.shaders["surface.vert"], textOf(name))));
        this.programs = Object.fromEntries(names.map((name, i) => [name, made[i]]));
    },

    /** Drop the objects of a lost context. */
    forget() {
        Object.assign(this, { targets: null, programs: null, pickTarget: null });
    },

    // --- a material ---------------------------------------------------------------------------------------------------

    /** Upload and compile; `facts` and `meshes` are those of material.js. Drivers compile while the source is read. */
    async load(material, facts, meshes) {
        const textures = material.textures.map(gridTexture);
        const weights = makeWeights(material.weights);
        if (weights.texture) textures.push(weights);
        const [before, after] = material.preamble;
        const text = ["#version 300 es", weights.block ? "#define NT_UNIFORM_WEIGHTS" : "",
            material.reading === "packed" ? "" : "#define NT_SAMPLED", ...material.defines, before, DATA.cores[material.core],
            after, "precision highp sampler2DArray;", DATA.shaders["light.glsl"], DATA.shaders["background.glsl"],
            DATA.shaders["view.frag"]].join("\n");
        const [{ program, at }, levels] = await Promise.all([makeProgram(DATA.shaders["surface.vert"], text), sourceLevels(material)]);
        const ratio = material.sampled ? anisotropy() : 1;
        textures.push({ name: "uSource", texture: sourceTexture(levels, ratio), kind: gl.TEXTURE_2D_ARRAY });
        gl.useProgram(program);
        if (weights.block) gl.uniformBlockBinding(program, gl.getUniformBlockIndex(program, "NtWeights"), 0);
        textures.forEach(({ name }, unit) => gl.uniform1i(at(name), unit));
        gl.uniform2f(at("uSize"), ...facts.size);
        gl.uniform1fv(at("uHas"), facts.has);
        gl.uniform1fv(at("uFixed"), facts.fixed);
        gl.uniform1f(at("uNormalUp"), facts.normalUp);
        gl.uniform1i(at("uDiffuseInSrgb"), facts.diffuseInSrgb);
        gl.uniform1i(at("uEncodeDiffuse"), facts.encodeDiffuse);
        gl.uniform1i(at("uUnitNormals"), facts.unitNormals);
        gl.uniform1i(at("uSourceLod"), facts.sourceLod);
        gl.uniform1i(at("uFiltered"), facts.filtered);
        gl.uniform1f(at("uAnisotropy"), ratio);
        placeFactors(at, facts.factors);
        return { textures, block: weights.block ?? null, program, at, parts: partsOf(material), size: facts.size, arrays: new Map(meshes.map((mesh) => [mesh, uploadMesh(mesh)])) };
    },

    free(loaded) {
        loaded.textures.forEach(({ texture }) => gl.deleteTexture(texture));
        gl.deleteBuffer(loaded.block);
        gl.deleteProgram(loaded.program);
        loaded.arrays.forEach((array) => gl.deleteVertexArray(array));
    },

    /** The pixels of a bitmap, RGBA, rows from the top. */
    async imagePixels(bitmap) {
        const target = makeTarget(bitmap.width, bitmap.height, gl.RGBA8, gl.NEAREST);
        gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
        gl.bindTexture(gl.TEXTURE_2D, target.texture);
        gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
        gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.BROWSER_DEFAULT_WEBGL);
        const pixels = new Uint8Array(4 * bitmap.width * bitmap.height);
        gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
        await readPixels(0, 0, bitmap.width, bitmap.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
        freeTarget(target);
        return pixels;
    },

    // --- targets ------------------------------------------------------------------------------------------------------

    makeTargets(width, height) {
        this.freeTargets();
        const layers = [0, 1].map(() => makeTarget(width, height));
        const [preview, coverage] = [0, 1].map(() => makeTarget(width, height));
        this.targets = { layers, preview, coverage, samples: makeSampledTarget(width, height, DATA.models.length > 0) };
        if (picture) this.targets.screen = makeTarget(width, height);
        layers.forEach(this.clear);
    },

    freeTargets() {
        if (this.targets) Object.values(this.targets).flat().forEach(freeTarget);
        this.targets = null;
    },

    clear(target) {
        gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
        gl.clearColor(0, 0, 0, 0);
        gl.clear(gl.COLOR_BUFFER_BIT);
    },

    // --- drawing ------------------------------------------------------------------------------------------------------

    /** Draw the shape into a target, width x height pixels at its corner; `box` limits it to x, y (from below), width, height. */
    drawShape(loaded, target, width, height, box, look) {
        gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
        gl.viewport(0, 0, width, height);
        gl.enable(gl.SCISSOR_TEST);
        gl.scissor(...box);
        gl.clearColor(0, 0, 0, 0);
        gl.clear(gl.COLOR_BUFFER_BIT);
        useMaterial(loaded, look, 0);
        placeEye(loaded.at, look);
        placeShape(loaded, loaded.at, look);
        gl.disable(gl.SCISSOR_TEST);
    },

    /** Measure how much of each pixel the shape covers, with several samples; the decoder itself runs once per pixel. */
    drawCoverage(loaded, look) {
        const { samples, coverage } = this.targets, { width, height } = coverage, { program, at } = this.programs.solid;
        this.clear(samples);
        gl.viewport(0, 0, width, height);
        gl.useProgram(program);
        placeShape(loaded, at, look);
        gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, coverage.frame);
        gl.blitFramebuffer(0, 0, width, height, 0, 0, width, height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    },

    /** Scale the preview, whose `part` holds the picture, up to a layer, within `box`: no tile will cover what is beyond. */
    putPreview(layer, part, box) {
        const { preview } = this.targets;
        this.clear(layer);
        gl.enable(gl.SCISSOR_TEST);
        gl.scissor(...box);
        putTextures(this.programs.present, this.targets, layer.frame, preview, preview, preview.width + 9, { part });
        gl.disable(gl.SCISSOR_TEST);
    },

    /**
     * Show two layers, the second one to the right of pixel `split`, before a backdrop, on the canvas; for a 2D canvas in the
     * target `screen`. smooth: edges of the layers are smoothed with what drawCoverage has measured.
     */
    present(first, second, split, backdrop, smooth) {
        const frame = this.targets.screen?.frame ?? null;
        putTextures(this.programs.present, this.targets, frame, first, second, split, { onCanvas: true, smooth, ...backdrop });
    },

    /** The screen target's pixels, rows from the top. */
    async screenPixels() {
        const { width, height, frame } = this.targets.screen;
        gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
        return await readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8ClampedArray(4 * width * height));
    },

    // --- texels -------------------------------------------------------------------------------------------------------

    /** Decode a box of texels; returns targets for readTexels. */
    drawTexels(loaded, x, y, width, height, look) {
        const targets = makeChannelTargets(width, height, loaded.parts);
        gl.viewport(0, 0, width, height);
        gl.disable(gl.CULL_FACE);
        useMaterial(loaded, look, 1);
        gl.uniform2i(loaded.at("uFirstTexel"), x, y);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
        return targets;
    },

    /** Four channels of each texel at a time, rows from the top; frees the targets. */
    async readTexels({ frame, textures, attachments, width, height }) {
        const parts = [];
        for (const attachment of attachments) {
            gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
            gl.readBuffer(attachment);
            parts.push(await readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4 * width * height)));
        }
        gl.deleteFramebuffer(frame);
        textures.forEach((texture) => gl.deleteTexture(texture));
        return parts;
    },

    /**
     * What pick.frag says of the pixel (x, y) from the top left of the canvas: {u, v, depth, lod, number}, number: of the draw;
     * null where there is nothing. A draw is {size, draw(at)}: the texels of its material, and what draws its triangles.
     */
    async pickPixel(x, y, draws, beyond = -1) {
        const { program, at } = this.programs.pick, { width, height } = canvas;
        this.pickTarget ??= addDepth(makeTarget(2, 2, gl.RGBA32UI, gl.NEAREST));
        gl.bindFramebuffer(gl.FRAMEBUFFER, this.pickTarget.frame);
        gl.viewport(-x, -(height - 1 - y), width, height);
        gl.clearBufferuiv(gl.COLOR, 0, [0, 0, 0, 0]);
        gl.clearBufferfv(gl.DEPTH, 0, [1]);
        gl.enable(gl.DEPTH_TEST);
        gl.depthFunc(gl.LEQUAL);
        gl.useProgram(program);
        gl.uniform1f(at("uBeyond"), beyond);
        draws.forEach(({ size, draw }, number) => {
            gl.uniform2f(at("uSize"), ...size);
            gl.uniform1ui(at("uNumber"), number + 1);
            draw(at);
        });
        gl.disable(gl.DEPTH_TEST);
        const bits = await readPixels(0, 0, 1, 1, gl.RGBA_INTEGER, gl.UNSIGNED_INT, new Uint32Array(4));
        const [u, v, depth] = new Float32Array(bits.buffer), [, , , last] = bits;
        return last >>> 16 ? { u, v, depth, lod: halfNumber(last & 0xffff), number: (last >>> 16) - 1 } : null;
    },
};

function gridTexture(entry) {
    if (entry.layers) return blockTexture(entry);
    const [internal, format] = FORMATS[entry.channels], [width, height] = entry.sizes[0];
    const texture = texture2D(gl[internal], width, height, entry.sizes.length, gl.NEAREST);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gridLevels(entry).forEach(([w, h, bytes], mip) =>
        gl.texSubImage2D(gl.TEXTURE_2D, mip, 0, 0, w, h, gl[format], gl.UNSIGNED_BYTE, bytes));
    return { name: entry.name, texture, kind: gl.TEXTURE_2D };
}

/** The weights as a uniform block, which is faster, or as a texture where they exceed the size of a block. */
function makeWeights(entry) {
    const numbers = weightNumbers({ ...entry, bytes: blobBytes(entry.blob) }), height = numbers.length / 4 / entry.width;
    if (16 * entry.columns <= gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE)) {
        const block = gl.createBuffer();
        gl.bindBuffer(gl.UNIFORM_BUFFER, block);
        gl.bufferData(gl.UNIFORM_BUFFER, numbers.subarray(0, 4 * entry.columns), gl.STATIC_DRAW);
        return { block };
    }
    const [internal, format, type] = entry.kind === "dots" ? [gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT] : [gl.RGBA32F, gl.RGBA, gl.FLOAT];
    const texture = texture2D(internal, entry.width, height, 1, gl.NEAREST);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, entry.width, height, format, type, numbers);
    return { name: entry.name, texture, kind: gl.TEXTURE_2D };
}

/** The source as a texture array, filtered along footprints as the grids are. */
function sourceTexture(levels, ratio) {
    const texture = gl.createTexture(), [{ width, height }] = levels;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, levels.length, gl.RGBA8, width, height, levels[0].layers.length);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    allowAnisotropy(gl.TEXTURE_2D_ARRAY, ratio);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    levels.forEach((level, mip) => level.layers.forEach((bytes, layer) =>
        gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, mip, 0, 0, layer, level.width, level.height, 1, gl.RGBA, gl.UNSIGNED_BYTE, bytes)));
    return texture;
}

function uploadMesh({ vertices, indices }) {
    const offsets = VERTEX_PARTS.map((_, i) => 4 * VERTEX_PARTS.slice(0, i).reduce((sum, size) => sum + size, 0));
    return uploadArray(vertices, indices, VERTEX_PARTS.map((size, i) => [size, "FLOAT", false, offsets[i]]), VERTEX_BYTES);
}

/** A vertex array; formats: [numbers, type, normalised, offset in bytes] of each location. */
function uploadArray(vertices, indices, formats, stride) {
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, vertices, gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    formats.forEach(([size, type, normalised, offset], location) => {
        gl.enableVertexAttribArray(location);
        gl.vertexAttribPointer(location, size, gl[type], normalised, stride, offset);
    });
    gl.bindVertexArray(null);
    return array;
}

/** Set the uniforms and textures of a draw with the material's program; `task` is uTask of view.frag. */
function useMaterial(loaded, look, task) {
    const { at } = loaded;
    gl.useProgram(loaded.program);
    loaded.textures.forEach(({ texture, kind }, unit) => {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(kind, texture);
    });
    if (loaded.block) gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, loaded.block);
    gl.uniform1i(at("uTask"), task);
    gl.uniform1i(at("uLayer"), look.layer);
    gl.uniform1i(at("uMap"), look.map);
    gl.uniform1f(at("uLod"), look.lod);
    gl.uniform1i(at("uFill"), task);
    gl.uniform1i(at("uAutoLod"), look.autoLod);
    gl.uniform1f(at("uLeastLod"), look.leastLod);
    gl.uniform1i(at("uSampling"), look.sampling);
    gl.uniform1f(at("uErrorScale"), look.errorScale);
    gl.uniform1i(at("uHoles"), look.holes);
    gl.uniform1i(at("uPart"), look.part ?? 0);
    gl.uniform1i(at("uNothing"), +(look.nothing ?? false));
    gl.uniform1f(at("uThreshold"), look.threshold);
    gl.uniform1f(at("uExposure"), look.exposure);
    placeBackdrop(at, look);
    gl.bindVertexArray(null);
}

/** The numbers of a material that stand where it has no maps. */
function placeFactors(at, { base, roughness, metallic, emitted }) {
    gl.uniform4f(at("uBase"), ...base);
    gl.uniform1f(at("uRoughness"), roughness);
    gl.uniform1f(at("uMetallic"), metallic);
    gl.uniform3f(at("uEmitted"), ...emitted);
}

function placeEye(at, { eye, sun }) {
    gl.uniform3f(at("uEye"), ...eye);
    gl.uniform3f(at("uSun"), ...sun);
}

function placeBackdrop(at, { background = 0, square = 1 }) {
    gl.uniform1i(at("uBackground"), background);
    gl.uniform1f(at("uSquare"), square);
}

/** Draw the shape with the program in use, whose uniforms `at` has. */
function placeShape(loaded, at, look) {
    gl.uniform1i(at("uFill"), 0);
    gl.uniformMatrix4fv(at("uViewProjection"), false, look.matrix);
    gl.uniform2f(at("uUvScale"), ...look.uvScale);
    if (look.culled) gl.enable(gl.CULL_FACE);
    else gl.disable(gl.CULL_FACE);
    gl.bindVertexArray(loaded.arrays.get(look.mesh));
    gl.drawElements(gl.TRIANGLES, look.mesh.indices.length, gl.UNSIGNED_SHORT, 0);
}

/** Textures to a framebuffer of the canvas's size; `part` of them holds the picture. */
function putTextures({ at, program }, targets, frame, first, second, split, { part = [1, 1], onCanvas = false, smooth = false, ...backdrop } = {}) {
    const { width, height } = targets.coverage;
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.viewport(0, 0, width, height);
    gl.disable(gl.CULL_FACE);
    gl.useProgram(program);
    [first, second, targets.coverage].forEach((target, unit) => {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, target.texture);
    });
    gl.uniform1i(at("uFirst"), 0);
    gl.uniform1i(at("uSecond"), 1);
    gl.uniform1i(at("uCoverage"), 2);
    gl.uniform1i(at("uSmoothEdges"), +smooth);
    gl.uniform1i(at("uForImageData"), +(onCanvas && picture !== null));
    gl.uniform2f(at("uPart"), ...part);
    gl.uniform2f(at("uPixels"), width, height);
    gl.uniform1f(at("uSplit"), split);
    placeBackdrop(at, backdrop);
    gl.uniform1i(at("uFill"), 1);
    gl.bindVertexArray(null);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
}

/** Targets for all channels of some texels, four channels in each. */
function makeChannelTargets(width, height, parts) {
    const frame = gl.createFramebuffer(), attachments = Array.from({ length: parts }, (_, k) => gl.COLOR_ATTACHMENT0 + k);
    const textures = attachments.map(() => texture2D(gl.RGBA8, width, height, 1, gl.NEAREST));
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    textures.forEach((texture, k) => gl.framebufferTexture2D(gl.FRAMEBUFFER, attachments[k], gl.TEXTURE_2D, texture, 0));
    gl.drawBuffers(attachments);
    return { frame, textures, attachments, width, height };
}
