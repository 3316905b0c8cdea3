// Sphere, plane and cube as triangles, and the camera; the model is in model.js. y is up; u runs along the tangent, v downwards.

const SHAPES = ["sphere", "plane", "cube", "flat", "model"];

/** Vertices of 11 numbers (position, normal, tangent, uv) in a grid; `at(s, t)` gives one for s, t in [0, 1]. */
function gridMesh(columns, rows, at) {
    const vertices = [], indices = [];
    for (let j = 0; j <= rows; j++) for (let i = 0; i <= columns; i++) vertices.push(...at(i / columns, j / rows));
    for (let j = 0; j < rows; j++) {
        for (let i = 0; i < columns; i++) {
            const a = j * (columns + 1) + i, b = a + columns + 1;
            indices.push(a, b, a + 1, a + 1, b, b + 1);
        }
    }
    return { vertices, indices };
}

function sphereMesh() {
    return gridMesh(96, 48, (s, t) => {
        const angle = 2 * Math.PI * s, down = Math.PI * t;
        const n = [Math.sin(down) * Math.sin(angle), Math.cos(down), Math.sin(down) * Math.cos(angle)];
        return [...n, ...n, Math.cos(angle), 0, -Math.sin(angle), s, t];
    });
}

function planeMesh(halfWidth, halfHeight) {
    return gridMesh(1, 1, (s, t) => [(2 * s - 1) * halfWidth, (1 - 2 * t) * halfHeight, 0, 0, 0, 1, 1, 0, 0, s, t]);
}

function cubeMesh() {
    const size = 0.62, mesh = { vertices: [], indices: [] };
    for (const [n, x, y] of [[[0, 0, 1], [1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, 0, -1], [-1, 0, 0], [0, 1, 0]], [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 1, 0], [1, 0, 0], [0, 0, -1]], [[0, -1, 0], [1, 0, 0], [0, 0, 1]]]) {
        const face = gridMesh(1, 1, (s, t) => {
            const position = n.map((_, k) => size * (n[k] + (2 * s - 1) * x[k] + (1 - 2 * t) * y[k]));
            return [...position, ...n, ...x, s, t];
        });
        const first = mesh.vertices.length / 11;
        mesh.vertices.push(...face.vertices);
        mesh.indices.push(...face.indices.map((index) => index + first));
    }
    return mesh;
}

const VERTEX_PARTS = [3, 3, 3, 2];  // floats: position, normal, tangent, uv
const VERTEX_BYTES = 44;

/** {vertices, indices, extent}: as the GPU takes them; extent: the largest |x|, |y| and |z|. */
function packMesh({ vertices, indices }) {
    const extent = [0, 1, 2].map((k) => vertices.reduce((most, x, i) => i % 11 === k ? Math.max(most, Math.abs(x)) : most, 0));
    return { vertices: new Float32Array(vertices), indices: new Uint16Array(indices), extent };
}

/** The meshes for a material: a plane has the shape of one tile. */
function makeMeshes(width, height) {
    const longer = Math.max(width, height);
    const plane = packMesh(planeMesh(width / longer, height / longer));
    return { sphere: packMesh(sphereMesh()), plane, cube: packMesh(cubeMesh()), flat: plane };
}

/** Tiles per unit of a shape's uv, so that texels are as wide as high and at least one tile is seen. */
function tilesOf(shape, tiling, width, height) {
    const aspect = width / height, around = shape === "sphere" ? 2 : 1;
    if (shape === "plane" || shape === "flat") return [tiling, tiling];
    return [around * tiling * Math.max(1, 1 / aspect), tiling * Math.max(1, aspect)];
}

const FIELD = Math.tan(17.5 * Math.PI / 180);  // of view, upwards from the middle
const NEAR = 0.02, FAR = 50;

const camera = {
    reset() {
        Object.assign(this, { yaw: 0.5, pitch: 0.3, distance: 3.9, zoom: 1, centre: [0, 0], target: [0, 0, 0] });
    },
    orbit(across, down) {
        this.yaw -= across;
        this.pitch = Math.min(1.5, Math.max(-1.5, this.pitch + down));
    },
    /** Move what the camera turns around, by shares of half the view's height. */
    pan(across, down) {
        const [x, y] = this.axes(this.offset(1)), size = FIELD * this.distance;
        this.target = this.target.map((at, k) => Math.min(1, Math.max(-1, at + size * (down * y[k] - across * x[k]))));
    },
    /** Turn around the middle again, from as far away as a shape needs. */
    leaveModel() {
        this.target = [0, 0, 0];
        this.distance = Math.max(this.distance, this.nearest());
    },
    dolly(factor, shape) {
        if (shape === "flat") this.zoom = Math.min(400, Math.max(0.2, this.zoom / factor));
        else this.distance = Math.min(12, Math.max(this.nearest(shape), this.distance * factor));
    },
    /** How near the camera comes to what it turns around: a model may be entered. */
    nearest: (shape) => shape === "model" ? 0.05 : 1.25,
    /** From what the camera turns around to the camera. */
    offset(aspect) {
        const far = this.distance * Math.max(1, 1 / aspect);  // the shape fits into a narrow window too
        const flatly = Math.cos(this.pitch) * far;
        return [Math.sin(this.yaw) * flatly, Math.sin(this.pitch) * far, Math.cos(this.yaw) * flatly];
    },
    eye(aspect) {
        return this.offset(aspect).map((far, k) => far + this.target[k]);
    },
    /** Right, up and backwards, as the camera sees it. */
    axes(offset) {
        const z = normalize(offset), x = normalize([z[2], 0, -z[0]]);
        return [x, [z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]], z];
    },
    /** Columns of the matrix from the world to clip space. */
    matrix(aspect, flat) {
        if (flat) {
            const fit = 0.94 * this.zoom * Math.min(1, aspect);
            const [x, y] = this.centre;
            return [fit / aspect, 0, 0, 0, 0, fit, 0, 0, 0, 0, 0, 0, -x * fit / aspect, -y * fit, 0, 1];
        }
        const eye = this.eye(aspect), [x, y, z] = this.axes(this.offset(aspect));
        const view = [0, 1, 2].map((k) => [x[k], y[k], z[k]]);
        const moved = [x, y, z].map((axis) => -dot(axis, eye));
        const sx = 1 / (FIELD * aspect), sy = 1 / FIELD, sz = -(FAR + NEAR) / (FAR - NEAR);
        const project = ([a, b, c], w) => [sx * a, sy * b, sz * c + (w ? -2 * FAR * NEAR / (FAR - NEAR) : 0), -c];
        return [...view.flatMap((column) => project(column, 0)), ...project(moved, 1)];
    },
};
camera.reset();

function dot(a, b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function normalize(a) {
    const size = Math.sqrt(dot(a, a));
    return a.map((value) => value / size);
}
