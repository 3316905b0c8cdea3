// What the page carries: JSON, and bytes as text with 7 bits a character (viewer_page.encode_bytes).

const DATA = JSON.parse(document.getElementById("page-data").textContent);
const MAPS = [["diffuse", 3], ["normal", 3], ["roughness", 1], ["occlusion", 1], ["metallic", 1], ["specular", 1],
    ["displacement", 1]];
const CHANNELS = 11;
const MAP_NAMES = MAPS.map(([name]) => name);
const FIRST_CHANNEL = MAPS.map((_, i) => MAPS.slice(0, i).reduce((sum, [, count]) => sum + count, 0));

/** The bytes of blob number `index`. */
function blobBytes(index) {
    const text = document.getElementById("blob-" + index).textContent;
    const bytes = new Uint8Array(Math.floor(text.length * 7 / 8));
    let word = 0, bits = 0, at = 0;
    for (let i = 0; i < text.length; i++) {
        word = (word << 7 | text.charCodeAt(i) & 127) & 0x7fff;  // characters that HTML has no room for are moved up
        bits += 7;
        if (bits >= 8) {
            bits -= 8;
            bytes[at++] = word >> bits & 255;
        }
    }
    return bytes;
}
