// What a page carries (common/html_page.py): JSON, and bytes as base64.

const DATA = JSON.parse(document.getElementById("page-data").textContent);

/** The bytes of blob number `index`. */
function blobBytes(index) {
    const text = atob(document.getElementById("blob-" + index).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
}
