// What tests do with three.js: load models from bytes, and read values of fragment shaders back as floats.
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import * as neural from "neural-texture-three";
import { readEntry } from "/neural/entry.js";
import * as preamble from "/neural/preamble.js";
import { voidAndCluster } from "/neural/blueNoise.js";

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function textOf(bytes) {
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(text);
}

let renderer = null, model = null;
try {
    renderer = new THREE.WebGLRenderer();
    renderer.setSize(64, 64);
    document.body.append(renderer.domElement);
} catch { /* no WebGL 2 */ }

function meshes() {
    const found = [];
    model.scene.traverse((object) => { if (object.isMesh) found.push(object); });
    return found;
}

/** A scene with a light and the mesh before an orthographic camera that sees this part of the plane, in uv. */
function staged(mesh, { left = 0, top = 0, right = 1, bottom = 1 } = {}) {
    const camera = new THREE.OrthographicCamera(2 * left - 1, 2 * right - 1, 1 - 2 * top, 1 - 2 * bottom, 0.1, 10), scene = new THREE.Scene();
    camera.position.z = 2;
    const stage = new THREE.Mesh(mesh.geometry, mesh.material);
    stage.frustumCulled = false;
    scene.add(stage, new THREE.AmbientLight(0xffffff, 1));
    return [scene, camera];
}

window.kit = {
    works: renderer !== null, THREE, neural, preamble, voidAndCluster, renderer, meshes, staged, bytesOf, textOf,

    get model() { return model; },

    async load(text, options) {
        const loader = new GLTFLoader();
        if (options.plain !== true) loader.register((parser) => new neural.GLTFNeuralTextureExtension(parser, options));
        model = await loader.parseAsync(bytesOf(text).buffer, "");
    },

    /** The model in the light of a lamp before a wall, from `eye`: RGBA codes, rows from below. `more` changes the scene. */
    picture({ size = 96, eye = [0.4, 0.3, 2.5], point = false, more = null } = {}) {
        renderer.setSize(size, size);
        renderer.shadowMap.enabled = true;
        const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(50, 1, 0.1, 20);
        const lamp = point ? new THREE.PointLight(0xffffff, 30) : new THREE.DirectionalLight(0xffffff, 2);
        lamp.position.set(-1, 2, 3);
        lamp.castShadow = true;
        if (!point) lamp.shadow.normalBias = 0.02;
        const wall = new THREE.Mesh(new THREE.PlaneGeometry(8, 8), new THREE.MeshStandardMaterial());
        wall.position.z = -1;
        wall.receiveShadow = true;
        for (const mesh of meshes()) mesh.castShadow = true;
        scene.background = new THREE.Color(0x336699);
        scene.add(lamp, new THREE.AmbientLight(0xffffff, 0.4), wall, model.scene);
        camera.position.set(...eye);
        camera.lookAt(0, 0, 0);
        if (more) new Function("kit", "scene", "camera", more)(this, scene, camera);
        renderer.render(scene, camera);
        const gl = renderer.getContext(), pixels = new Uint8Array(4 * size * size);
        gl.readPixels(0, 0, size, size, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
        lamp.shadow.dispose();
        return textOf(pixels);
    },

    /** Textures and programs that the renderer holds. */
    held: () => ({ textures: renderer.info.memory.textures, programs: renderer.info.programs.length }),

    /** Lose the context and wait until it is back. */
    async loseContext() {
        const canvas = renderer.domElement, extension = renderer.getContext().getExtension("WEBGL_lose_context");
        const event = (name) => new Promise((done) => canvas.addEventListener(name, done, { once: true }));
        const lost = event("webglcontextlost");
        extension.loseContext();
        await lost;
        await new Promise((done) => setTimeout(done, 50));
        const restored = event("webglcontextrestored");
        extension.restoreContext();
        await restored;
    },

    /** Show a neural texture of a folder on a plane of three.js's own, as the page's model. */
    async loadFolder(url) {
        const texture = await new neural.NeuralTextureLoader().loadAsync(url), scene = new THREE.Group();
        const material = neural.applyNeuralTexture(new THREE.MeshStandardMaterial(), texture, { flipY: true });
        scene.add(new THREE.Mesh(new THREE.PlaneGeometry(2, 2), material));
        model = { scene };
    },

    /** The GLSL of an entry of the extension, whose buffer views are these texts in base64. */
    decoderOf(entry, views) {
        const texture = new neural.NeuralTexture(readEntry(entry, (view) => bytesOf(views[view])));
        return texture.decoder;
    },

    /** What an expression is in the material's fragment shader, for each pixel of some views of a mesh: a text for each. */
    read({ mesh, expression, views }) {
        const { geometry, material } = meshes()[mesh], own = material.onBeforeCompile, key = material.customProgramCacheKey;
        material.onBeforeCompile = (shader, ...more) => {
            own.call(material, shader, ...more);
            shader.fragmentShader = shader.fragmentShader.replace("#include <dithering_fragment>", `gl_FragColor = ${expression};`);
        };
        material.customProgramCacheKey = () => key.call(material) + expression;
        material.needsUpdate = true;
        const texts = views.map(({ width, height, ...view }) => {
            const target = new THREE.WebGLRenderTarget(width, height, { type: THREE.FloatType }), pixels = new Float32Array(4 * width * height);
            renderer.setRenderTarget(target);
            renderer.render(...staged({ geometry, material }, view));
            renderer.readRenderTargetPixels(target, 0, 0, width, height, pixels);
            renderer.setRenderTarget(null);
            target.dispose();
            return textOf(new Uint8Array(pixels.buffer));
        });
        Object.assign(material, { onBeforeCompile: own, customProgramCacheKey: key, needsUpdate: true });
        return texts;
    },
};
