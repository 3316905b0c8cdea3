"""A page that decodes a material live in the browser: `export.py --viewer page.html`.

The page is one HTML file that loads nothing else. `assemble` fills page.html with the style, scripts and shaders of
this folder. The decoder is that of `export.py --shader essl --weights buffer`, the feature textures hold what
the exported ones do.
"""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from common.errors import UserError, counted, explain_os_error, one_line, quote
from common.files import make_folder, write_text
from common.html_page import blob_scripts, encode_bytes, fill_template, json_for_html, one_script
from configs import size_text
from dataset import Material
from engine.cpu.decoder import decode_lod
from formats.block_textures import grid_blocks
from formats.dds_layouts import grid_textures
from formats.manifest import material_to_json
from formats.textures import ExportedTexture
from maps.channels import EXTRA_MAPS, MAPS, NAMED_CHANNEL
from maps.record import MaterialRecord, Origin
from metrics.decoded_maps import decode_maps
from metrics.file_space import constant_listing, file_values
from model import NeuralTexture
from shaders.export import decoder_core, decoder_variants, reading, shader_source, texture_names
from shaders.generate import DIFFUSE_UNITS, EXTRAS
from shaders.languages import TABLE
from shaders.map_fields import names_of_units
from shaders.weights import WEIGHT_TEXTURE_WIDTH, column_blocks, make_weights, trained_precision, weight_bytes
from shape import GridSpec, layer_sizes
from training.source import find_model, find_source
from training.trained import find_materials, read_trained
from viewer.scene import Models
from viewer.source import SourceImages, encode_source

VIEWER = Path(__file__).resolve().parent
SCRIPTS = ("shapes", "source", "three/weights", "material", "three/blocks", "blocks", "webgl", "model", "renderer",
           "readback", "panel", "inspector", "main")  # fmt: skip
SHADERS = ("surface.vert", "view.frag", "plain.frag", "light.glsl", "background.glsl", "pick.frag", "solid.frag",
           "present.frag")  # fmt: skip
LANGUAGE = "essl"  # of the decoder
SOURCE_BYTES = 16_000_000  # of the source maps in a page, by default; base64 makes a third more of them
THUMBNAIL_SIZE = 96  # pixels, the longer side


@dataclass
class Page:
    """The data of the materials of a page."""

    materials: list[dict[str, Any]] = field(default_factory=list)  # JSON-ready; bytes are numbers of blobs
    blobs: list[str] = field(default_factory=list)  # base64
    models: list[dict[str, Any]] = field(default_factory=list)  # see scene.Models

    def add_blob(self, payload: bytes) -> int:
        """Append bytes. Returns: the number by which the scripts find them."""
        self.blobs.append(encode_bytes(payload))
        return len(self.blobs) - 1


# --- one material ----------------------------------------------------------------------------------------------------


def describe_for_page(exported: ExportedTexture, page: Page) -> dict[str, Any]:
    """A material as the scripts read it, JSON-ready, without source maps; its textures become blobs of `page`."""
    model, manifest = exported.model, exported.manifest
    material = manifest.material
    textures = _word_textures(model, page) + _block_textures(model, page)
    grids = [
        f"{size_text(grid.max_resolution)} texels of {_texel_text(grid)}, {counted(grid.n_levels, 'level')}, "
        f"{grid.interpolation}"
        for grid in model.grids
    ]
    layers = layer_sizes(model.layout, model.decoder)
    network = " → ".join(str(inputs) for _, inputs in layers) + f" → {model.decoder.outputs}"
    keys = ("map", "color_space", "file_color_space", "convention", "unit_normals")
    maps = material_to_json(material, {})["maps"]
    bits = f"weights of {model.decoder.weight_bits} bits"
    bits += f", activations of {model.activation_bits}" if model.activation_bits != 32 else ""
    variants = _variants(model, material)
    return {
        "name": printable(material.name),
        "width": material.width,
        "height": material.height,
        "num_lods": material.num_lods,
        "channels": model.decoder.outputs,
        "maps": [{key: entry[key] for key in keys if key in entry} for entry in maps],
        "named_map": next((entry["map"] for entry in maps if NAMED_CHANNEL in entry["channels"]), None),
        "fixed": {str(channel): value for channel, value in file_values(model.constants, material).items()},
        "constants": constant_listing(model.constants),
        "rates": manifest.rates,
        "bytes_on_disk": manifest.bytes_on_disk,
        "metrics": _scores(manifest.metrics),
        "grids": grids,
        "network": f"{network}, {model.decoder.activation}, {bits}",
        "preamble": _preamble(model, material),
        "reading": reading(model.grids),
        "variants": variants,
        "core": ", ".join([reading(model.grids), *variants]),
        "defines": _defines(model, material),
        "positions": manifest.positions,
        "sampled": all(grid.compressed and grid.interpolation == "linear" for grid in model.grids),
        "textures": textures,
        "weights": _weights(model, page),
        "model": None,
        "model_note": "",
    }


def _variants(model: NeuralTexture, material: MaterialRecord) -> list[str]:
    return decoder_variants(model, material, precision=trained_precision(model))


def _weights(model: NeuralTexture, page: Page) -> dict[str, Any]:
    """The weights as the scripts read them: as wide as in the network file, in columns of four rows, or the table of a
    network of whole numbers."""
    given = "auto", trained_precision(model)
    stored = make_weights(model, "buffer", *given)
    return {"name": TABLE, "width": WEIGHT_TEXTURE_WIDTH, "kind": stored.kind, "columns": stored.columns,
            "layers": column_blocks(model), "blob": page.add_blob(weight_bytes(model, *given))}  # fmt: skip


def _word_textures(model: NeuralTexture, page: Page) -> list[dict[str, Any]]:
    """The textures of packed grids as the scripts read them: trained levels, the finest first."""
    indices = [index for index, grid in enumerate(model.grids) if not grid.compressed]
    planes = [texture for index in indices for texture in grid_textures(model, index)]
    names = [name for name in texture_names(model) if name not in _layers(model)]
    entries = []
    for name, texture in zip(names, planes):
        sizes = [[level.shape[1], level.shape[0]] for level in texture.levels]
        blob = page.add_blob(b"".join(level.tobytes() for level in texture.levels))
        entries.append({"name": name, "channels": texture.levels[0].shape[2], "sizes": sizes, "blob": blob})
    return entries


def _layers(model: NeuralTexture) -> dict[str, tuple[str, int]]:
    """Texture of a grid of blocks -> (array, layer): grids of one shape are an array, since texture units are few."""
    arrays: dict[GridSpec, list[str]] = {}
    for index, grid in enumerate(model.grids):
        if grid.compressed:
            arrays.setdefault(grid, []).append(f"ntGrid{index}")
    grouped = enumerate(arrays.values())
    return {name: (f"ntBlocks{array}", layer) for array, names in grouped for layer, name in enumerate(names)}


def _block_textures(model: NeuralTexture, page: Page) -> list[dict[str, Any]]:
    """The arrays of `_layers` as the scripts read them: layer after layer, each as in `_word_textures`."""
    layers: dict[str, list[int]] = {}
    for name, (array, _) in _layers(model).items():
        layers.setdefault(array, []).append(int(name.removeprefix("ntGrid")))
    entries = []
    for array, indices in layers.items():
        grid = model.grids[indices[0]]
        levels = [level for index in indices for level in grid_blocks(model, index)[: grid.n_levels]]
        sizes = [list(size) for size in grid.mip_sizes[: grid.n_levels]]
        blob = page.add_blob(b"".join(level.tobytes() for level in levels))
        entries.append({
            "name": array, "layers": len(indices), "storage": grid.storage, "filtered": grid.interpolation == "linear",
            "sizes": sizes, "blob": blob,
        })  # fmt: skip
    return entries


def _texel_text(grid: GridSpec) -> str:
    if grid.compressed:
        return f"{grid.features} features in {grid.block.title}"
    return f"{grid.features} × {grid.quantize_bits} bits"


def _preamble(model: NeuralTexture, material: MaterialRecord) -> list[str]:
    """The parts of a material's decoder before and after its core, which materials of the same reading share."""
    core = decoder_core(LANGUAGE, reading(model.grids), _variants(model, material))
    precision = trained_precision(model)
    weights = "float32" if precision == 32 else "auto"  # weightNumbers in three/weights.js makes float32 of others
    more = {"layers": _layers(model), "precision": precision}
    text = shader_source(model, material, LANGUAGE, "buffer", weights, **more)
    before, found, after = text.partition(core)
    if not found:
        raise AssertionError("the decoder does not contain its core")
    return [before, after]


def _defines(model: NeuralTexture, material: MaterialRecord) -> list[str]:
    """What view.frag has to know of a material before it is compiled."""
    variants, units, emissive = _variants(model, material), names_of_units(material), material.map("emissive")
    lines = ["#define NT_FILE_DIFFUSE"] if DIFFUSE_UNITS in variants else []
    if EXTRAS not in variants:
        return lines
    to_light = "ntSrgbToLinear" if emissive and emissive.color_space == "srgb" else ""
    return [*lines, "#define NT_EXTRAS", f"#define NT_EMITTED(t) {units.get('emissive', to_light)}(t)"]


def _scores(metrics: Any) -> dict[str, Any] | None:
    """The PSNR of every LOD in a manifest's metrics, None where they have another form: no reader validates them."""
    if not isinstance(metrics, Mapping) or not isinstance(metrics.get("psnr"), Mapping):
        return None
    lods = [{"lod": score["lod"], "psnr": score["psnr"]} for score in metrics.get("lods", [])]
    return {"psnr": dict(metrics["psnr"]), "lods": lods}


def add_source(described: dict[str, Any], page: Page, source: SourceImages | None, why_not: str) -> None:
    """Add the source maps, or the reason why there are none, to a material of `describe_for_page`."""
    described["source"], described["source_note"] = None, why_not or "No source is embedded"
    if source is None:
        return
    srgb = {entry["map"] for entry in described["maps"] if entry["file_color_space"] == "srgb"}
    described["source"] = {
        "lod": source.lod,
        "width": max(described["width"] >> source.lod, 1),
        "height": max(described["height"] >> source.lod, 1),
        "maps": [
            {"map": name, "srgb": name in srgb, "blobs": [page.add_blob(image) for image in images]}
            for name, images in source.images.items()
        ],
    }


def thumbnail(exported: ExportedTexture) -> str:
    """A JPEG of the first decoded map (diffuse, if the material has it) as a data: URL."""
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
    """A name as one line of valid UTF-8: file names may hold bytes that are no characters, and line breaks."""
    return one_line(str(name).encode("utf-8", "replace").decode())[:200]


# --- the page --------------------------------------------------------------------------------------------------------


def assemble(page: Page) -> str:
    """The text of the page."""
    parts = {name: (VIEWER / name).read_text(encoding="utf-8") for name in (*SHADERS, "page.html", "style.css")}
    shaders = {name: parts[name] for name in SHADERS}
    by_core = sorted(page.materials, key=lambda material: material["core"])
    cores = {each["core"]: decoder_core(LANGUAGE, each["reading"], each["variants"]) for each in by_core}
    extra_maps = [*EXTRA_MAPS.items(), (None, 1)]  # the last one is named by each material
    data = {"maps": list(MAPS.items()), "extra_maps": extra_maps, "materials": page.materials, "models": page.models,
            "cores": cores, "shaders": shaders}  # fmt: skip
    names = ", ".join(material["name"] for material in page.materials)
    filled = {
        "title": html.escape(f"{names[:200]} – neural texture"),
        "style": parts["style.css"],
        "blobs": blob_scripts(page.blobs),
        "data": json_for_html(data),
        "script": one_script([VIEWER / f"{name}.js" for name in SCRIPTS]),
    }
    return fill_template(parts["page.html"], filled)


def write_viewer(
    path: Path, load_dir: Path, load_iter: int, data_dir: Path | None, source_side: int | None, max_pixels: int
) -> int:
    """Write a page for the material or materials in `load_dir`; see find_materials.

    Args:
        data_dir: folder of the source maps, for several materials the folder of their folders; None: the folders that
            the runs were trained on.
        source_side: longest side of the source maps in the page, texels; 0: none; None: what SOURCE_BYTES allows.
        max_pixels: largest source map to read.
    Returns: the exit code: 1 when some of several materials cannot be read; these are named and left out.
    Raises: UserError when no material can be shown.
    """
    if path.is_dir():
        raise UserError(f"--viewer {quote(path)}: expected a page to write, found a folder; add a file name")
    entries = find_materials(load_dir, load_iter)
    make_folder(path.resolve().parent)
    page, failed, sources, models, own_bytes = Page(), {}, [], [], 0
    for entry in entries:
        try:
            exported = read_trained(entry.folder)
            given = data_dir / entry.name if data_dir is not None and len(entries) > 1 else data_dir
            material = exported.manifest.material
            source, why_not = (None, "") if source_side == 0 else find_source(
                entry.folder, material, given, max_pixels
            )
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
        models.append((material.origin, *find_model(entry.folder, material, given)))
    if not page.materials:
        raise UserError(f"--load_dir {quote(load_dir)}: none of its {len(entries)} materials can be read, see above")
    _add_sources(page, sources, source_side)
    _add_models(page, models)
    text = assemble(page)
    write_text(path, text)
    code = len(text.encode()) - sum(len(blob.encode()) for blob in page.blobs)
    count = counted(len(page.materials), "material")
    print(f"{path}  {path.stat().st_size} bytes: {count} of {own_bytes} bytes, {code} of the page itself")
    return 1 if failed else 0


def _add_sources(page: Page, sources: list[tuple[Material | None, str]], source_side: int | None) -> None:
    """Embed the source maps, as large as SOURCE_BYTES allows, and print a line for each material."""
    room = SOURCE_BYTES // max(sum(source is not None for source, _ in sources), 1)
    for described, (source, why_not) in zip(page.materials, sources):
        images = encode_source(source, source_side, room) if source else None
        add_source(described, page, images, why_not)
        note = described["source_note"]
        if images is not None:
            size = f"{described['source']['width']}x{described['source']['height']}"
            note = f"source embedded at {size} (LOD {images.lod}), {images.n_bytes} bytes"
        print(f"{described['name']}: {note}")


def _add_models(page: Page, found: list[tuple[Origin | None, Path | None, str]]) -> None:
    """Embed the models that materials come from, and print a line for each, and for each material without its own."""
    models = Models(page.add_blob)
    for described, (origin, path, why_not) in zip(page.materials, found):
        place = None
        if origin is not None and path is not None:
            place, why_not = models.place_of(path, origin)
        described["model"], described["model_note"] = place, f"No model: {why_not}" if why_not else ""
        if why_not:
            print(f"{described['name']}: its model is not shown: {one_line(why_not)}")
    page.models = models.described
    for model in page.models:
        model["name"] = printable(model["name"])
        print(f"{model['name']}: {model['summary']}")
