// The WebGPU renderer, where the browser has an adapter; its members are those of webgl.js. The decoder is the WGSL of
// export.py --shader wgsl --weights buffer.

const GPU_FORMATS = { 1: "r8unorm", 2: "rg8unorm", 4: "rgba8unorm" };  // by channels
const VIEW_FLOATS = 60;  // of the struct View in surface.wgsl

const webgpu = {
    name: "webgpu", label: "WebGPU", surface: null, targets: null, device: null, found: null,

    /** Whether there is an adapter. Called only on demand: Chromium prints a warning to the console when there is none. */
    async offered() {
        this.found ??= await navigator.gpu?.requestAdapter() ?? null;
        const software = this.found?.info?.isFallbackAdapter ?? false;
        return this.found !== null && !(software && gl && !picture);  // no software adapter where WebGL has a GPU
    },

    /** Get the device and compile the pipelines that are the same for all materials. */
    async start() {
        if (this.device) return;
        if (!await this.offered()) throw new Error("this browser offers WebGPU no adapter");
        const { limits, info } = this.found;
        if (!gl && info?.isFallbackAdapter) picture ??= canvas.getContext("2d");
        const wanted = ["maxTextureDimension2D", "maxSampledTexturesPerShaderStage", "maxStorageBufferBindingSize", "maxBufferSize"];
        const device = await this.found.requestDevice({ requiredLimits: Object.fromEntries(wanted.map((name) => [name, limits[name]])) });
        this.found = null;  // an adapter gives one device
        void device.lost.then(({ message }) => this.forget(device, message));
        this.layouts = makeLayouts(device);
        const module = await makeModule(device, DATA.shaders["surface.wgsl"] + DATA.shaders["present.wgsl"]);
        const { nothing, put, view: look } = this.layouts;
        const pipeline = (layout, vertex, fragment, formats, more) => makePipeline(device, module, layout, vertex, fragment, formats, more);
        const onShape = (name, format, count) => Promise.all([false, true].map((culled) =>
            pipeline([nothing, look], "placed", name, [format], { culled, count })));
        const screen = picture ? "rgba8unorm" : navigator.gpu.getPreferredCanvasFormat();
        const made = await Promise.all([
            pipeline([put], "fill", "present", ["rgba8unorm"]), pipeline([put], "fill", "present", [screen]),
            pipeline([nothing], "fill", "erase", ["rgba8unorm"]), onShape("solid", "rgba8unorm", 4), onShape("pick", "rgba32uint", 1),
        ]);
        this.pipelines = Object.fromEntries(["put", "present", "erase", "solid", "pick"].map((name, i) => [name, made[i]]));
        const uniforms = (bytes) => device.createBuffer({ size: bytes, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
        this.numbers = { view: uniforms(4 * VIEW_FLOATS), put: uniforms(32) };
        this.viewGroup = device.createBindGroup({ layout: look, entries: [{ binding: 0, resource: { buffer: this.numbers.view } }] });
        this.nothingGroup = device.createBindGroup({ layout: nothing, entries: [] });
        const repeat = { addressModeU: "repeat", addressModeV: "repeat" };
        this.samplers = {
            source: device.createSampler({ ...repeat, magFilter: "linear", minFilter: "linear", mipmapFilter: "linear" }),
            blended: device.createSampler({ magFilter: "linear", minFilter: "linear" }),
        };
        if (!picture) {
            this.surface = document.createElement("canvas");
            this.context = this.surface.getContext("webgpu");
            this.context.configure({ device, format: screen, alphaMode: "premultiplied" });
        }
        this.device = device;
    },

    /** Drop a lost device and go on with WebGL. */
    forget(device, message) {
        if (this.device !== device) return;
        Object.assign(this, { device: null, targets: null });
        if (view.renderer !== this) return;
        view.loaded = null;
        void chooseRenderer("webgl").then(() => fail(new Error("WebGPU has stopped: " + message)), fail);
    },

    lost() {
        return this.device === null;
    },

    async done(started) {
        await this.device?.queue.onSubmittedWorkDone();
        return performance.now() - started;
    },

    limits() {
        const { maxTextureDimension2D: side, maxSampledTexturesPerShaderStage: textures } = this.device.limits;
        return { side, textures };
    },

    // --- a material ---------------------------------------------------------------------------------------------------

    async load(material, facts, levels, meshes) {
        const { device, layouts } = this, [before, after] = material.preambles.wgsl;
        device.pushErrorScope("validation");
        const parts = [before, DATA.cores.wgsl, after, ...["surface", "light", "view"].map((name) => DATA.shaders[name + ".wgsl"])];
        const module = await makeModule(device, parts.join("\n"));
        const textures = material.textures.map((entry) => gridTextureOf(device, entry));
        const bytes = blobBytes(material.weights.blob);
        const weights = device.createBuffer({ size: bytes.length, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST });
        device.queue.writeBuffer(weights, 0, bytes);
        const decoder = makeGroup(device, [...textures.map((texture) => texture.createView()), { buffer: weights }]);
        const source = sourceTextureOf(device, levels);
        const sourceGroup = device.createBindGroup({
            layout: layouts.source,
            entries: [{ binding: 0, resource: source.createView({ dimension: "2d-array" }) }, { binding: 1, resource: this.samplers.source }],
        });
        const layout = [decoder.layout, layouts.view, layouts.source];
        const [open, culled, read] = await Promise.all([
            ...[false, true].map((value) => makePipeline(device, module, layout, "placed", "draw", ["rgba8unorm"], { culled: value })),
            makePipeline(device, module, layout, "fill", "readTexel", ["rgba8unorm", "rgba8unorm", "rgba8unorm"]),
        ]);
        const arrays = new Map(meshes.map((mesh) => [mesh, {
            vertices: bufferOf(device, mesh.vertices, GPUBufferUsage.VERTEX), indices: bufferOf(device, mesh.indices, GPUBufferUsage.INDEX),
        }]));
        const problem = await device.popErrorScope();
        if (problem) throw new Error(problem.message);
        const owned = [...textures, weights, source, ...[...arrays.values()].flatMap(Object.values)];
        return { facts, groups: [decoder.group, this.viewGroup, sourceGroup], draw: [open, culled], read, arrays, owned };
    },

    free(loaded) {
        loaded.owned.forEach((part) => part.destroy());
    },

    async imagePixels(bitmap) {
        const { width, height } = bitmap;
        const target = targetOf(this.device, width, height);
        this.device.queue.copyExternalImageToTexture({ source: bitmap }, { texture: target.texture, premultipliedAlpha: false }, [width, height]);
        const pixels = await this.readPixels(target);
        target.texture.destroy();
        return pixels;
    },

    /** A target's bytes, rows from the top. */
    async readPixels({ texture, width, height }, bytesPerPixel = 4) {
        const row = bytesPerPixel * width, stride = Math.ceil(row / 256) * 256, { device } = this;
        const buffer = device.createBuffer({ size: stride * height, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
        const encoder = device.createCommandEncoder();
        encoder.copyTextureToBuffer({ texture }, { buffer, bytesPerRow: stride }, [width, height]);
        device.queue.submit([encoder.finish()]);
        await buffer.mapAsync(GPUMapMode.READ);
        const found = new Uint8Array(buffer.getMappedRange()), pixels = new Uint8ClampedArray(row * height);
        for (let y = 0; y < height; y++) pixels.set(found.subarray(y * stride, y * stride + row), y * row);
        buffer.destroy();
        return pixels;
    },

    // --- targets ------------------------------------------------------------------------------------------------------

    makeTargets(width, height) {
        this.freeTargets();
        const make = (samples = 1) => targetOf(this.device, width, height, "rgba8unorm", samples);
        this.targets = { layers: [make(), make()], preview: make(), coverage: make(), samples: make(4) };  // zeros at first
        if (picture) this.targets.screen = make();
    },

    freeTargets() {
        if (this.targets) Object.values(this.targets).flat().forEach(({ texture }) => texture.destroy());
        this.targets = null;
    },

    clear({ texture }) {
        this.pass([{ view: texture.createView() }], () => {});
    },

    // --- drawing ------------------------------------------------------------------------------------------------------

    /** One render pass; attachments are cleared where they do not say otherwise. */
    pass(attachments, record) {
        const encoder = this.device.createCommandEncoder();
        const pass = encoder.beginRenderPass({ colorAttachments: attachments.map((one) => ({ loadOp: "clear", storeOp: "store", ...one })) });
        record(pass);
        pass.end();
        this.device.queue.submit([encoder.finish()]);
    },

    /** Fill the struct View; members that a draw does not use stay 0. */
    writeView(facts, look, firstTexel = [0, 0]) {
        const floats = new Float32Array(VIEW_FLOATS), flags = new Int32Array(floats.buffer);
        floats.set(look.matrix ?? [], 0);
        floats.set([...look.eye ?? [0, 0, 0], look.lod ?? 0], 16);
        floats.set([...look.sun ?? [0, 0, 0], look.leastLod ?? 0], 20);
        floats.set([...look.uvScale ?? [1, 1], ...facts.size], 24);
        floats.set(facts.has, 28);
        floats.set(facts.fixed, 36);
        floats.set([...firstTexel, look.errorScale ?? 1, facts.normalUp], 48);
        flags.set([look.layer ?? 0, look.map ?? 0, look.autoLod ?? 0, look.sampling ?? 0], 52);
        flags.set([facts.sourceLod, facts.diffuseInSrgb, facts.encodeDiffuse, facts.unitNormals], 56);
        this.device.queue.writeBuffer(this.numbers.view, 0, floats);
    },

    drawMesh(pass, loaded, pipelines, groups, look) {
        const { vertices, indices } = loaded.arrays.get(look.mesh);
        pass.setPipeline(pipelines[+look.culled]);
        groups.forEach((group, index) => pass.setBindGroup(index, group));
        pass.setVertexBuffer(0, vertices);
        pass.setIndexBuffer(indices, "uint16");
        pass.drawIndexed(look.mesh.indices.length);
    },

    drawShape(loaded, target, width, height, [left, bottom, across, up], look) {
        if (!across || !up) return;
        this.writeView(loaded.facts, look);
        this.pass([{ view: target.texture.createView(), loadOp: "load" }], (pass) => {
            pass.setViewport(0, 0, width, height, 0, 1);
            pass.setScissorRect(left, height - bottom - up, across, up);
            pass.setPipeline(this.pipelines.erase);
            pass.setBindGroup(0, this.nothingGroup);
            pass.draw(3);
            this.drawMesh(pass, loaded, loaded.draw, loaded.groups, look);
        });
    },

    drawCoverage(loaded, look) {
        const { samples, coverage } = this.targets;
        this.writeView(loaded.facts, look);
        this.pass([{ view: samples.texture.createView(), resolveTarget: coverage.texture.createView() }], (pass) =>
            this.drawMesh(pass, loaded, this.pipelines.solid, [this.nothingGroup, this.viewGroup], look));
    },

    putPreview(layer, part) {
        const { preview } = this.targets;
        this.put(this.pipelines.put, layer.texture, preview, preview, preview.width + 9, part, false);
    },

    present(first, second, split) {
        const texture = this.targets.screen?.texture ?? this.context.getCurrentTexture();
        this.put(this.pipelines.present, texture, first, second, split, [1, 1], true);
    },

    put(pipeline, texture, first, second, split, part, onCanvas) {
        const { width, height } = this.targets.coverage, numbers = new Float32Array(8);
        numbers.set([...part, width, height, split]);
        new Int32Array(numbers.buffer).set([+onCanvas, +(onCanvas && picture !== null)], 5);
        this.device.queue.writeBuffer(this.numbers.put, 0, numbers);
        const textures = [first, second, this.targets.coverage].map((target) => target.texture.createView());
        const resources = [{ buffer: this.numbers.put }, ...textures, this.samplers.blended];
        const group = this.device.createBindGroup({ layout: this.layouts.put, entries: resources.map((resource, binding) => ({ binding, resource })) });
        this.pass([{ view: texture.createView() }], (pass) => {
            pass.setPipeline(pipeline);
            pass.setBindGroup(0, group);
            pass.draw(3);
        });
    },

    screenPixels() {
        return this.readPixels(this.targets.screen);
    },

    // --- texels -------------------------------------------------------------------------------------------------------

    drawTexels(loaded, x, y, width, height, look) {
        const targets = [0, 1, 2].map(() => targetOf(this.device, width, height));
        this.writeView(loaded.facts, look, [x, y]);
        this.pass(targets.map(({ texture }) => ({ view: texture.createView() })), (pass) => {
            pass.setPipeline(loaded.read);
            loaded.groups.forEach((group, index) => pass.setBindGroup(index, group));
            pass.draw(3);
        });
        return targets;
    },

    async readTexels(targets) {
        const parts = await Promise.all(targets.map((target) => this.readPixels(target)));
        targets.forEach(({ texture }) => texture.destroy());
        return parts;
    },

    async pickPixel(loaded, x, y, width, height, look) {
        const target = targetOf(this.device, 2, 2, "rgba32uint"), matrix = look.matrix.slice();
        for (let column = 0; column < 16; column += 4) {  // the pixel and those beside it fill the target
            const w = look.matrix[column + 3];
            matrix[column] = matrix[column] * width / 2 + w * (width / 2 - x - 1);
            matrix[column + 1] = matrix[column + 1] * height / 2 + w * (y + 1 - height / 2);
        }
        this.writeView(loaded.facts, { ...look, matrix });
        this.pass([{ view: target.texture.createView() }], (pass) =>
            this.drawMesh(pass, loaded, this.pipelines.pick, [this.nothingGroup, this.viewGroup], look));
        const bytes = await this.readPixels(target, 16);
        target.texture.destroy();
        return new Uint32Array(bytes.buffer, 0, 4);
    },
};

/** The layouts of bind groups that are the same for all materials. */
function makeLayouts(device) {
    const layout = (...entries) => device.createBindGroupLayout({
        entries: entries.map((entry, binding) => ({ binding, visibility: GPUShaderStage.FRAGMENT, ...entry })),
    });
    const seen = { texture: {} }, sampler = { sampler: {} };
    return {
        nothing: layout(),
        view: layout({ buffer: {}, visibility: GPUShaderStage.VERTEX | GPUShaderStage.FRAGMENT }),
        source: layout({ texture: { viewDimension: "2d-array" } }, sampler),
        put: layout({ buffer: {} }, seen, seen, seen, sampler),
    };
}

/** Textures that are loaded texel by texel and buffers that are read, at bindings 0, 1, ... */
function makeGroup(device, resources) {
    const layout = device.createBindGroupLayout({
        entries: resources.map((resource, binding) => ({
            binding, visibility: GPUShaderStage.FRAGMENT,
            ...resource.buffer ? { buffer: { type: "read-only-storage" } } : { texture: { sampleType: "unfilterable-float" } },
        })),
    });
    return { layout, group: device.createBindGroup({ layout, entries: resources.map((resource, binding) => ({ binding, resource })) }) };
}

async function makeModule(device, code) {
    const module = device.createShaderModule({ code });
    const problems = (await module.getCompilationInfo()).messages.filter(({ type }) => type === "error");
    if (problems.length) throw new Error(`the shader does not compile: line ${problems[0].lineNum}: ${problems[0].message}`.slice(0, 600));
    return module;
}

function makePipeline(device, module, bindGroupLayouts, vertex, fragment, formats, { culled = false, count = 1 } = {}) {
    const attributes = [];
    VERTEX_PARTS.reduce((offset, size, shaderLocation) => {
        attributes.push({ shaderLocation, offset, format: `float32x${size}` });
        return offset + 4 * size;
    }, 0);
    return device.createRenderPipelineAsync({
        layout: device.createPipelineLayout({ bindGroupLayouts }),
        vertex: { module, entryPoint: vertex, buffers: vertex === "fill" ? [] : [{ arrayStride: VERTEX_BYTES, attributes }] },
        fragment: { module, entryPoint: fragment, targets: formats.map((format) => ({ format })) },
        primitive: { cullMode: culled ? "back" : "none" },
        multisample: { count },
    });
}

function bufferOf(device, values, usage) {
    const size = Math.ceil(values.byteLength / 4) * 4;
    const buffer = device.createBuffer({ size, usage, mappedAtCreation: true });
    new values.constructor(buffer.getMappedRange()).set(values);
    buffer.unmap();
    return buffer;
}

function targetOf(device, width, height, format = "rgba8unorm", sampleCount = 1) {
    const { COPY_SRC, COPY_DST, RENDER_ATTACHMENT, TEXTURE_BINDING } = GPUTextureUsage;
    const usage = sampleCount > 1 ? RENDER_ATTACHMENT : COPY_SRC | COPY_DST | RENDER_ATTACHMENT | TEXTURE_BINDING;
    return { texture: device.createTexture({ size: [width, height], format, sampleCount, usage }), width, height };
}

function gridTextureOf(device, entry) {
    const texture = device.createTexture({
        size: entry.sizes[0], format: GPU_FORMATS[entry.channels], mipLevelCount: entry.sizes.length,
        usage: GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST,
    });
    gridLevels(entry).forEach(([w, h, bytes], mipLevel) =>
        device.queue.writeTexture({ texture, mipLevel }, bytes, { bytesPerRow: w * entry.channels }, [w, h]));
    return texture;
}

function sourceTextureOf(device, levels) {
    const [{ width, height }] = levels;
    const texture = device.createTexture({
        size: [width, height, 3], format: "rgba8unorm", mipLevelCount: levels.length,
        usage: GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST,
    });
    levels.forEach((level, mipLevel) => level.layers.forEach((bytes, z) =>
        device.queue.writeTexture({ texture, mipLevel, origin: [0, 0, z] }, bytes, { bytesPerRow: 4 * level.width }, [level.width, level.height])));
    return texture;
}
