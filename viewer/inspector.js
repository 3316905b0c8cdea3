// The table of one texel: its channels, decoded and in the source.

let inspected = null;  // {loaded, x, y, lod}

/** {label, map, channel} of the rows: all of the 11 channels, and those of the extra maps that the material has. */
function channelRows(material) {
    return material.names.flatMap((name, map) => {
        const [, channels] = MAPS[map], axes = name === "normal" ? "xyz" : "rgb";
        if (map >= OPACITY && !material.has[map]) return [];
        return Array.from({ length: channels }, (_, i) =>
            ({ label: channels === 1 ? name : `${name} ${axes[i]}`, map, channel: FIRST_CHANNEL[map] + i }));
    });
}

function clearTexel() {
    inspected = null;
    byId("texel").hidden = byId("texel-move").hidden = byId("marker").hidden = true;
    byId("texel-note").textContent = "Click or tap the picture.";
}

/** Inspect what a pixel of the canvas, in CSS pixels from its top left, shows. */
async function inspect(x, y) {
    const ratio = canvas.width / canvas.clientWidth, place = await pick(x * ratio, y * ratio);
    if (!place?.loaded) clearTexel();
    if (!place) return;
    byId("marker").hidden = false;
    byId("marker").style.left = x + "px";
    byId("marker").style.top = y + "px";
    if (!place.loaded) return void (byId("texel-note").textContent = `${place.factors.name}: no neural texture.`);
    await showTexel(place.loaded, texelAt(place));
    if (matchMedia("(max-width: 760px)").matches) byId("texel-move").scrollIntoView({ block: "end", behavior: "smooth" });
}

function moveTexel(across, down) {
    if (!inspected || !view.loaded) return Promise.resolve();
    const { loaded, x, y, lod } = inspected, [width, height] = lodSize(loaded, lod);
    byId("marker").hidden = true;
    return showTexel(loaded, { x: (x + across + width) % width, y: (y + down + height) % height, lod });
}

async function showTexel(m, { x, y, lod }) {
    const wanted = inspected = { loaded: m, x, y, lod };
    const { decoded, source } = await readTexel(m, x, y, lod);
    if (inspected !== wanted || !view.loaded) return;  // another one was asked for meanwhile
    byId("texel").hidden = byId("texel-move").hidden = false;
    const apart = source !== null && m.source.lod > lod;  // no difference between LODs
    const from = apart ? `; the source's values are of LOD ${m.source.lod}` : "";
    const whose = showsModel() ? m.name + ": " : "";
    byId("texel-note").textContent = `${whose}(${x}, ${y}) of LOD ${lod}, codes of 255${from}.`;
    const head = element("tr");
    head.append(...["", "value", "decoded", ...source ? ["source", "diff."] : []].map((text) => element("th", text, { scope: "col" })));
    const top = element("thead");
    top.append(head);
    const rows = channelRows(m).map(({ label, map, channel }) => {
        const row = element("tr"), code = decoded[channel];
        const cells = [label, (code / 255).toFixed(3), code];
        if (source) cells.push(source[channel], apart ? "–" : code - source[channel]);
        row.append(...(m.has[map] ? cells : [label, "no such map", "", ...source ? ["", ""] : []]).map((text) => element("td", String(text))));
        if (m.has[map] && MAPS[map][1] === 3 && channel === FIRST_CHANNEL[map]) {
            const patch = element("i");
            patch.style.background = `rgb(${decoded.slice(channel, channel + 3).join(" ")})`;
            row.firstChild.append(" ", patch);
        }
        return row;
    });
    byId("texel").replaceChildren(top, ...rows);
}
