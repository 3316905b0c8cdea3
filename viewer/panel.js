// The panel beside the picture. Texts from a manifest become text nodes only, never HTML.

const byId = (id) => document.getElementById(id);

function element(name, text = "", attributes = {}) {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
}

const COMPARE = [["decoded", "Decoded"], ["source", "Source"], ["split", "Split"], ["flicker", "Flicker"], ["error", "Error"]];
const SAMPLINGS = [["nearest", "Nearest"], ["linear", "Linear, 4 decodes"], ["anywhere", "Any position"]];
const TRAINED_AT = {
    centres: "texel centres: Any position blends four decodes, or eight between two LODs",
    filtered: "any position and LOD: Any position is one decode",
};
const HOLES = [["test", "Alpha test"], ["blend", "Blend"]];
const BACKGROUNDS = [["white", "White"], ["black", "Black"], ["checker", "Checker"]];
const ERROR_SCALES = [4, 8, 16, 32, 64, 128];
const THEMES = ["auto", "dark", "light"];
const KEYS = [
    ["drag, one finger, arrows", "turn; on Flat: move"], ["shift drag, right button, two fingers", "move the model"], ["wheel, pinch, + and −", "zoom"], ["click, tap", "inspect a texel"],
    ["1 2 3 4 5", "sphere, plane, cube, flat, model"], ["M, shift M", "next and previous map; L: lit"],
    ["C, shift C", "next and previous way to compare"], ["[ and ]", "LOD; A: automatic"], [", and .", "tiling"],
    ["N", "next way to read texels"], ["R", "reset the view"], ["T", "dark, light, or as the system"],
    ["Page up, Page down", "previous and next material"],
];

/** Set parts of `state`, update the controls, draw again. */
function change(parts) {
    Object.assign(state, parts);
    if (!view.loaded) return;
    if (showsModel() && !scene.model) state.shape = view.loaded.has[OPACITY] ? "plane" : "sphere";
    if (!showsModel()) camera.leaveModel();
    if (state.show !== "lit" && !mapsShown().includes(state.show)) state.show = "lit";
    if (!hasSources()) state.compare = "decoded";
    if (state.compare === "error") view.flickered = false;
    state.lod = Math.min(Math.max(state.lod, 0), lodsShown() - 1);
    showState();
    invalidate();
    completeModel();
}

const hasSources = () => materialsShown().some((material) => material.source);
const lodsShown = () => Math.max(...materialsShown().map((material) => material.num_lods));

function choices(id, options, onChange) {
    const group = byId(id);
    group.replaceChildren(...options.map(([value, text]) => {
        const label = element("label"), input = element("input", "", { type: "radio", name: id, value });
        input.addEventListener("change", () => onChange(value));
        label.append(input, element("span", text));
        return label;
    }));
}

function check(id, value, enabled = () => true) {
    for (const input of byId(id).querySelectorAll("input")) {
        input.checked = input.value === value;
        input.disabled = !enabled(input.value);
    }
}

const number = (value, digits) => value === null || value === undefined ? "–" : value.toFixed(digits);
const title = (name) => name[0].toUpperCase() + name.slice(1);
const sizeText = (width, height) => `${width} × ${height}`;

function bytesText(count) {
    const units = ["bytes", "KiB", "MiB", "GiB"];
    const power = count < 1024 ? 0 : Math.min(3, Math.floor(Math.log2(count) / 10));
    return `${(count / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

/** Build the controls that are the same for all materials. */
function makePanel() {
    choices("shape", SHAPES.filter((name) => name !== "model" || DATA.models.length).map((name) => [name, title(name)]), (shape) => change({ shape }));
    choices("compare", COMPARE, (compare) => change({ compare }));
    choices("sampling", SAMPLINGS, (sampling) => change({ sampling }));
    choices("holes", HOLES, (holes) => change({ holes }));
    choices("background", BACKGROUNDS, (background) => change({ background }));
    byId("error-scale").append(...ERROR_SCALES.map((codes) => element("option", `${codes}/255`, { value: codes })));
    const bind = (id, event, read) => byId(id).addEventListener(event, (e) => change(read(e.target)));
    bind("error-scale", "change", (select) => ({ errorScale: +select.value }));
    bind("lod", "input", (range) => ({ lod: +range.value, autoLod: false }));
    bind("auto-lod", "change", (box) => ({ autoLod: box.checked }));
    bind("tiling", "input", (range) => ({ tiling: 2 ** +range.value }));
    bind("light", "input", (range) => ({ light: +range.value }));
    bind("threshold", "input", (range) => ({ threshold: +range.value }));
    bind("exposure", "input", (range) => ({ exposure: +range.value }));
    byId("split").addEventListener("input", (e) => moveSplit(+e.target.value));
    byId("reset").addEventListener("click", resetView);
    byId("one-to-one").addEventListener("click", showOneToOne);
    byId("theme").addEventListener("click", nextTheme);
    byId("measure").addEventListener("click", measure);
    byId("keys").append(...KEYS.flatMap(([keys, what]) => [element("dt", keys), element("dd", what)]));
    const moves = [["←", -1, 0], ["→", 1, 0], ["↑", 0, -1], ["↓", 0, 1]];
    byId("texel-move").append(...moves.map(([arrow, x, y]) => {
        const button = element("button", arrow, { type: "button", "aria-label": "next texel " + arrow });
        button.addEventListener("click", () => moveTexel(x, y).catch(fail));
        return button;
    }));
    applyTheme();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
    if (DATA.materials.length > 1) makeThumbnails();
}

function makeThumbnails() {
    byId("materials").hidden = false;
    byId("materials").append(...DATA.materials.map((material, index) => {
        const button = element("button", "", { type: "button", title: material.name });
        button.append(element("img", "", { src: material.thumbnail, alt: "" }), element("b", material.name));
        const psnr = material.metrics?.psnr?.all;
        button.append(element("small", `${number(material.rates.bpp, 2)} bpp` + (psnr ? `, ${number(psnr, 1)} dB` : "")));
        button.addEventListener("click", () => chooseMaterial(index));
        return button;
    }));
}

/** Fill the panel with the facts of the loaded material. */
function showMaterial() {
    const m = view.loaded, metrics = m.metrics, scores = metrics?.lods ?? [];
    byId("name").textContent = m.name;
    document.title = m.name + " – neural texture";
    const psnr = metrics?.psnr?.all;
    byId("summary").textContent = `${sizeText(m.width, m.height)}, ${number(m.rates.bpp, 2)} bpp` + (psnr ? `, PSNR ${number(psnr, 2)} dB` : "");
    const maps = m.names.filter((_, map) => m.has[map]);
    for (const [index, button] of [...byId("materials").children].entries()) {
        button.setAttribute("aria-current", index === state.material);
    }
    const facts = [
        ["maps", m.maps.map((entry) => entry.map + (entry.map === "diffuse" || entry.map === "emissive" ? ` (${entry.file_color_space})` : "")).join(", ")],
        ["rate", `${number(m.rates.bpp, 3)} bits per texel of LOD 0: grids ${number(m.rates.grids, 3)}, network ${number(m.rates.network, 3)}`],
        ["with all mips", `${number(m.rates.all_mips, 3)} bits per texel`],
        ["files", bytesText(m.bytes_on_disk)],
        ["grids", m.grids.join("; ")],
        ["network", m.network],
        ["trained at", TRAINED_AT[m.positions]],
        ["PSNR", psnr ? `${number(psnr, 2)} dB over all channels of LOD 0` : "not measured"],
    ];
    if (m.constants) facts.push(["the same everywhere", m.constants]);
    byId("facts").replaceChildren(...facts.flatMap(([key, value]) => [element("dt", key), element("dd", value)]));
    const head = element("tr");
    head.append(...["PSNR, dB", "all", ...maps].map((text) => element("th", text, { scope: "col" })));
    const rows = scores.map((score) => {
        const row = element("tr");
        row.append(...[`LOD ${score.lod}`, ...["all", ...maps].map((name) => number(score.psnr?.[name], 2))].map((text) => element("td", text)));
        return row;
    });
    const top = element("thead");
    top.append(head);
    byId("psnr").replaceChildren(...rows.length ? [top, ...rows] : []);
    clearTexel();
}

/** What is said about the source of a material. */
function sourceNote({ source, source_note: none }) {
    if (!source) return none;
    const said = `Source embedded at ${sizeText(source.width, source.height)} (LOD ${source.lod})`;
    return said + (source.lod ? `; comparisons are at LOD ${source.lod} and coarser` : "");
}

/** Set what depends on the materials that are looked at: those of the model, or one. */
function showChoices() {
    const materials = materialsShown(), maps = mapsShown(), several = materials.length > 1;
    if (byId("show").dataset.maps !== maps.join()) {
        byId("show").dataset.maps = maps.join();
        choices("show", [["lit", "Lit"], ...maps.map((name) => [name, title(name)])], (show) => change({ show }));
    }
    byId("lod").max = lodsShown() - 1;
    const notes = [...new Set(materials.map(sourceNote))].map((note) => {
        const names = materials.filter((material) => sourceNote(material) === note).map(({ name }) => name);
        return (several && names.length < materials.length ? someNames(names) + ": " : "") + note + ".";
    });
    byId("compare-note").textContent = notes.join(" ");
    byId("shape-note").textContent = showsModel() || !scene.model ? modelNote() : "";
}

/** Set the controls to `state`. */
function showState() {
    const error = state.compare === "error", model = showsModel(), shown = materialsShown();
    const has = (map) => shown.some((material) => hasMap(material, map));
    showChoices();
    check("show", state.show);
    check("shape", state.shape, (value) => value !== "model" || scene.model !== null);
    check("compare", state.compare, (value) => value === "decoded" || hasSources());
    byId("lod").value = state.lod;
    byId("lod-value").textContent = state.autoLod ? "auto" : state.lod.toFixed(1);
    byId("auto-lod").checked = state.autoLod;
    byId("tiling").value = Math.log2(state.tiling);
    byId("tiling-value").textContent = "× " + +state.tiling.toFixed(2);
    check("sampling", state.sampling);
    byId("light").value = state.light;
    byId("light-value").textContent = state.light + "°";
    byId("tiling-row").hidden = model;
    byId("opacity").hidden = !(model ? scene.parts.some(({ factors }) => factors.mode === "MASK") && has(OPACITY) : has(OPACITY));
    byId("holes").hidden = byId("background-row").hidden = model;  // parts of a model are tested or blended as it says
    check("holes", state.holes);
    check("background", state.background);
    byId("threshold-row").hidden = !model && state.holes !== "test";
    byId("threshold").value = state.threshold;
    byId("threshold-value").textContent = state.threshold.toFixed(2);
    byId("exposure-row").hidden = !has(EMISSIVE);
    byId("exposure").value = state.exposure;
    byId("exposure-value").textContent = `${state.exposure > 0 ? "+" : ""}${state.exposure} EV`;
    byId("error-scale").value = state.errorScale;
    byId("error-scale-row").hidden = byId("legend").hidden = !error;
    byId("legend-middle").textContent = state.errorScale / 2;
    byId("legend-end").textContent = `≥ ${state.errorScale}/255`;
    byId("split-row").hidden = byId("divider").hidden = state.compare !== "split";
    byId("marker").hidden = true;
    showLabels();
}

function showLabels() {
    const names = {
        decoded: ["", ""], source: ["source", ""], split: ["decoded", "source"],
        flicker: [view.flickered ? "source" : "decoded", ""],
        error: [`error of ${state.show === "lit" ? "all maps" : state.show}, root mean square`, ""],
    }[state.compare];
    [byId("left-label").textContent, byId("right-label").textContent] = names;
    [byId("left-label").hidden, byId("right-label").hidden] = names.map((text) => !text);
    byId("split").value = state.split;
    byId("divider").style.left = 100 * state.split + "%";
}

function moveSplit(split) {
    state.split = Math.min(1, Math.max(0, split));
    showLabels();
    present();  // the layers stay the same
}

let theme = "auto";

function applyTheme() {
    const dark = theme === "dark" || theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("theme").textContent = "Theme: " + theme;
}

function nextTheme() {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    applyTheme();
}

function resetView() {
    camera.reset();
    change({ tiling: 1, autoLod: true, lod: 0, light: 40, exposure: 0, threshold: 0.5, split: 0.5 });
}

/** Flat, one texel of LOD 0 a pixel of the canvas. */
function showOneToOne() {
    if (!view.loaded) return;
    change({ shape: "flat" });
    const m = view.loaded, longer = Math.max(m.width, m.height);
    const fit = 0.94 * Math.min(1, canvas.width / canvas.height) * canvas.height / 2;  // pixels a unit at zoom 1
    camera.zoom = longer / (2 * state.tiling) / fit;
    change({ sampling: "nearest" });
}

async function measure() {
    byId("measure").disabled = true;
    await measureFrame().then((ms) => { byId("speed").textContent = speedText(ms, "measured"); }, fail);
    byId("measure").disabled = false;
}

function speedText(ms, how) {
    const { width, height } = canvas, tiles = view.timing.tiles;
    const rate = ms > 0 ? width * height / ms / 1e3 : 0;
    const parts = tiles > 1 && how === "drawn" ? `, in ${tiles} tiles` : "";
    return `${number(ms, ms < 10 ? 2 : 0)} ms a frame of ${sizeText(width, height)} (${how}${parts}), ${number(rate, 2)} million pixels a second`;
}

/** Called while tiles of a view are drawn. */
function onProgress(done) {
    byId("status").textContent = busy || `drawing, ${Math.round(100 * done)} %`;
}

let busy = "";  // what is done beside drawing

/** Say what is done beside drawing; "": nothing more. */
function say(what) {
    byId("status").textContent = busy = what;
}

/** Called when a view has been drawn in full. */
function onFrame() {
    byId("speed").textContent = speedText(view.timing.ms, "drawn");
    byId("status").textContent = busy;
}
