"""A page that decodes a material live in the browser: `export.py --viewer page.html`.

One HTML file without references to anything else. The parts lie in viewer/: page.html with its style and scripts,
which are put together here, and shaders. The decoders are those of `export.py --shader essl,wgsl --weights buffer`,
the feature textures are those of the DDS files. Bytes are text of 7 bits a character in UTF-8, which takes 16 % more
than the bytes; base64 takes 33 %.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from common.errors import UserError, counted, explain_os_error, one_line, quote
from common.files import make_folder, write_text
from engine.cpu.decoder import decode_lod
from formats.dds_layouts import grid_textures
from formats.manifest import MANIFEST, material_to_json
from formats.textures import ExportedTexture, read_export
from maps.channels import CHANNELS
from maps.record import MaterialRecord
from metrics.decoded_maps import decode_maps
from metrics.file_space import constant_listing, file_values
from model import NeuralTexture
from shaders.export import decoder_core, shader_source, texture_names, weight_bytes, weight_columns
from shaders.languages import TABLE, WEIGHT_TEXTURE_WIDTH
from shape import layer_sizes
from training.run_folder import find_checkpoint, list_checkpoints
from viewer.source import SourceImages, encode_source, find_source

VIEWER = Path(__file__).resolve().parent
SCRIPTS = ("payload", "gl", "shapes", "source", "material", "webgl", "webgpu", "renderer", "readback", "panel",
           "inspector", "main")  # fmt: skip
SHADERS = ("surface.vert", "view.frag", "light.glsl", "pick.frag", "solid.frag", "present.frag",
           "surface.wgsl", "view.wgsl", "light.wgsl", "present.wgsl")  # fmt: skip
LANGUAGES = ("essl", "wgsl")  # of the decoder: WebGL 2 and WebGPU
PAGE_BYTES = 690_000  # that a page may have above the bytes of its materials' files
LEAST_SOURCE_ROOM = 60_000  # bytes a material: a large one leaves no room, and still there should be a source to see
THUMBNAIL_SIZE = 96  # texels
ENCODING_CHUNK = 7 << 17  # bytes, a multiple of 7


@dataclass(frozen=True)
class Entry:
    """A material to show: its name where the page lists several, and the folder of its exported files."""

    name: str
    folder: Path


@dataclass
class Page:
    """What goes into the page besides its fixed parts."""

    materials: list[dict[str, Any]] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)

    def add_blob(self, payload: bytes) -> int:
        """Number of the blob."""
        self.blobs.append(encode_bytes(payload))
        return len(self.blobs) - 1


# --- what to show ----------------------------------------------------------------------------------------------------


def find_materials(load_dir: Path, load_iter: int = -1) -> list[Entry]:
    """The materials of a folder: an export, a run (its checkpoint `load_iter`, -1 the newest), or a folder of such.

    In a folder of folders each sub-folder is an export, a run, or holds runs, of which the newest with a checkpoint
    counts; this is what train.py --groups_batching leaves. Raises: UserError when there is nothing of the kind.
    """
    if not load_dir.is_dir():
        raise UserError(
            f"--load_dir {quote(load_dir)}: no such folder; give a run folder, an export, or a folder of these"
        )
    if (load_dir / MANIFEST).is_file():
        return [Entry(load_dir.name, load_dir)]
    if list_checkpoints(load_dir):
        return [Entry(load_dir.name, find_checkpoint(load_dir, load_iter))]
    entries = []
    for folder in sorted(path for path in load_dir.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = _newest_export(folder)
        if found is not None:
            entries.append(Entry(folder.name, found))
    if not entries:
        raise UserError(
            f"--load_dir {quote(load_dir)}: expected a run with a checkpoint, an export ({MANIFEST}), or a folder of "
            "these; found none"
        )
    return entries


def _newest_export(folder: Path) -> Path | None:
    if (folder / MANIFEST).is_file():
        return folder
    for run in (folder, *sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)):
        checkpoints = list_checkpoints(run)
        if checkpoints:
            return checkpoints[max(checkpoints)]
    return None


def _read(folder: Path) -> ExportedTexture:
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{quote(folder)}: expected {MANIFEST}, which a run with --quantize False does not write; there are no "
            "codes to show, train with --quantize True"
        )
    return read_export(folder)


# --- one material ----------------------------------------------------------------------------------------------------


def describe_for_page(exported: ExportedTexture, page: Page) -> dict[str, Any]:
    """What the scripts read of a material, JSON-ready, without its source; its bytes are added to the page."""
    model, manifest = exported.model, exported.manifest
    material = manifest.material
    textures = []
    planes = [texture for grid in range(len(model.grids)) for texture in grid_textures(model, grid)]
    for name, texture in zip(texture_names(model), planes):
        sizes = [[level.shape[1], level.shape[0]] for level in texture.levels]
        blob = page.add_blob(b"".join(level.tobytes() for level in texture.levels))
        textures.append({"name": name, "channels": texture.levels[0].shape[2], "sizes": sizes, "blob": blob})
    weights = {"name": TABLE, "width": WEIGHT_TEXTURE_WIDTH, "columns": len(weight_columns(model)),
               "blob": page.add_blob(weight_bytes(model))}  # fmt: skip
    grids = [
        f"{grid.max_resolution}² texels of {grid.features} × {grid.quantize_bits} bits, "
        f"{counted(grid.n_levels, 'level')}, {grid.interpolation}"
        for grid in model.grids
    ]
    layers = layer_sizes(model.layout, model.decoder)
    network = " → ".join(str(inputs) for _, inputs in layers) + f" → {CHANNELS}"
    keys = ("map", "color_space", "file_color_space", "convention", "unit_normals")
    maps = material_to_json(material, {})["maps"]
    return {
        "name": printable(material.name),
        "width": material.width,
        "height": material.height,
        "num_lods": material.num_lods,
        "maps": [{key: entry[key] for key in keys if key in entry} for entry in maps],
        "fixed": {str(channel): value for channel, value in file_values(model.constants, material).items()},
        "constants": constant_listing(model.constants),
        "rates": manifest.rates,
        "bytes_on_disk": manifest.bytes_on_disk,
        "metrics": _scores(manifest.metrics),
        "grids": grids,
        "network": f"{network}, {model.decoder.activation}",
        "preambles": {language: _preamble(model, material, language) for language in LANGUAGES},
        "textures": textures,
        "weights": weights,
    }


def _preamble(model: NeuralTexture, material: MaterialRecord, language: str) -> list[str]:
    """What a material's decoder has before and after the core, which the page has once."""
    before, found, after = shader_source(model, material, language, "buffer").partition(decoder_core(language))
    if not found:
        raise AssertionError("the decoder does not contain its core")
    return [before, after]


def _scores(metrics: Any) -> dict[str, Any] | None:
    """PSNR of every LOD, of a manifest's metrics; those may be anything."""
    if not isinstance(metrics, Mapping) or not isinstance(metrics.get("psnr"), Mapping):
        return None
    lods = [{"lod": score["lod"], "psnr": score["psnr"]} for score in metrics.get("lods", [])]
    return {"psnr": dict(metrics["psnr"]), "lods": lods}


def add_source(described: dict[str, Any], page: Page, source: SourceImages | None, why_not: str) -> None:
    """Add the source, or why there is none, to what describe_for_page returned."""
    described["source"], described["source_note"] = None, why_not or "No source is embedded"
    if source is None:
        return
    srgb = {entry["map"] for entry in described["maps"] if entry["file_color_space"] == "srgb"}
    described["source"] = {
        "lod": source.lod,
        "bits": source.bits,
        "width": max(described["width"] >> source.lod, 1),
        "height": max(described["height"] >> source.lod, 1),
        "maps": [{"map": n, "srgb": n in srgb, "blob": page.add_blob(image)} for n, image in source.images.items()],
    }


def thumbnail(exported: ExportedTexture) -> str:
    """A small picture of the decoded diffuse, or of the first map there is, as a data: address."""
    material = exported.manifest.material
    longer = max(material.lod_size(0))
    lod = max((longer // THUMBNAIL_SIZE).bit_length() - 1, 0)
    pixels = next(iter(decode_maps(exported.model, material, lod, functools.partial(decode_lod, say=print)).values()))
    picture = PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def printable(name: Any) -> str:
    """A name as text that UTF-8 can hold: those of files may have bytes that are no characters, or line breaks."""
    return one_line(str(name).encode("utf-8", "replace").decode())[:200]


# --- the page --------------------------------------------------------------------------------------------------------


def encode_bytes(payload: bytes) -> str:
    """Text of 7 bits a character, most significant first, for the inside of a <script> of HTML.

    What HTML changes or ends there (NUL, CR, `</`, `<!`) is moved up by 256; the lowest 7 bits stay. viewer/payload.js
    reads it.
    """
    parts = []
    for start in range(0, len(payload), ENCODING_CHUNK):
        bits = np.unpackbits(np.frombuffer(payload[start : start + ENCODING_CHUNK], np.uint8))
        groups = np.zeros((-(-len(bits) // 7), 8), np.uint8)
        groups[:, 1:].flat[: len(bits)] = bits
        parts.append(np.packbits(groups).tobytes())
    text = b"".join(parts).decode("ascii")
    for found, written in (("\0", "\u0100"), ("\r", "\u010d"), ("</", "\u013c/"), ("<!", "\u013c!")):
        text = text.replace(found, written)
    return text


def json_for_html(value: Any) -> str:
    """JSON for the inside of a <script>: ASCII, without `<`, so that no text of a manifest can end it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def assemble(page: Page) -> str:
    """The text of the page."""
    parts = {name: (VIEWER / name).read_text(encoding="utf-8") for name in (*SHADERS, "page.html", "style.css")}
    scripts = "\n".join((VIEWER / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    cores = {language: decoder_core(language) for language in LANGUAGES}
    data = {"materials": page.materials, "cores": cores, "shaders": {name: parts[name] for name in SHADERS}}
    names = ", ".join(material["name"] for material in page.materials)
    filled = {
        "title": html.escape(f"{names[:200]} – neural texture"),
        "style": parts["style.css"],
        "blobs": blob_scripts(page.blobs),
        "data": json_for_html(data),
        "script": one_script(scripts),
    }
    return fill_template(parts["page.html"], filled)


def blob_scripts(blobs: Sequence[str]) -> str:
    """The elements that viewer/payload.js reads, of texts of encode_bytes."""
    return "\n".join(f'<script type="text/plain" id="blob-{index}">{blob}</script>' for index, blob in enumerate(blobs))


def one_script(scripts: str) -> str:
    """Scripts as one that leaves no names behind."""
    return '"use strict";\n(() => {\n' + scripts + "})();\n"


def fill_template(template: str, filled: Mapping[str, str]) -> str:
    """A text with every {{name}} replaced; what replaces one is not looked at again."""
    pieces = template.split("{{")
    text = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        text += [filled[name], rest]
    return "".join(text)


def write_viewer(
    path: Path, load_dir: Path, load_iter: int = -1, data_dir: Path | None = None, source_side: int | None = None
) -> int:
    """Write a page for the material or materials in `load_dir`; see find_materials.

    Args:
        data_dir: folder of the source maps, for several materials the folder of their folders; None: the runs say.
        source_side: longest side of the source to embed; 0: none; None: at most 512, and what keeps the page small.
    Returns: 0; 1 when some of several materials could not be read: they are named and left out.
    Raises: UserError when none can be shown.
    """
    if path.is_dir():
        raise UserError(f"--viewer {quote(path)}: expected a page to write, found a folder; add a file name")
    entries = find_materials(load_dir, load_iter)
    make_folder(path.resolve().parent)
    page, failed, sources, own_bytes = Page(), {}, [], 0
    for entry in entries:
        try:
            exported = _read(entry.folder)
            given = data_dir / entry.name if data_dir is not None and len(entries) > 1 else data_dir
            material = exported.manifest.material
            source, why_not = (None, "") if source_side == 0 else find_source(entry.folder, material, given)
        except (UserError, OSError) as error:
            if len(entries) == 1:
                raise
            failed[entry.name] = str(error) if isinstance(error, UserError) else explain_os_error(error) or str(error)
            print(f"{one_line(entry.name)}: left out: {one_line(failed[entry.name])}")
            continue
        described = describe_for_page(exported, page)
        if len(entries) > 1:
            described["name"] = printable(entry.name)
            described["thumbnail"] = thumbnail(exported)
        own_bytes += described["bytes_on_disk"]
        page.materials.append(described)
        sources.append((source, why_not))
    if not page.materials:
        raise UserError(f"--load_dir {quote(load_dir)}: none of its {len(entries)} materials can be read, see above")
    _add_sources(page, sources, own_bytes, source_side)
    text = assemble(page)
    write_text(path, text)
    code = len(text.encode()) - sum(len(blob.encode()) for blob in page.blobs)
    count = counted(len(page.materials), "material")
    print(f"{path}  {path.stat().st_size} bytes: {count} of {own_bytes} bytes, {code} of the page itself")
    return 1 if failed else 0


def _add_sources(page: Page, sources: list, own_bytes: int, source_side: int | None) -> None:
    """Embed the sources in what room PAGE_BYTES leaves, and say which."""
    for described in page.materials:
        add_source(described, page, None, "")
    used = len(assemble(page).encode()) - own_bytes
    share = (PAGE_BYTES - used) / len(page.materials) / 1.165  # bytes as text, see encode_bytes
    for described, (source, why_not) in zip(page.materials, sources):
        images = encode_source(source, source_side, max(int(share), LEAST_SOURCE_ROOM)) if source else None
        add_source(described, page, images, why_not)
        note = described["source_note"]
        if images is not None:
            size = f"{described['source']['width']}x{described['source']['height']}"
            rounded = "" if images.bits == 8 else f", rounded to {images.bits} bits"
            note = f"source embedded at {size} (LOD {images.lod}{rounded}), {images.n_bytes} bytes"
        print(f"{described['name']}: {note}")
