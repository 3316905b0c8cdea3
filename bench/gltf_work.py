"""The work of bench.gltf: a model is trained, exported, drawn by three.js and Cycles, and compared to the original."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import mimetypes
import re
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

import export
import train
from bench.browser import opened
from bench.common import save, table
from common.errors import UserError, one_line
from common.files import make_folder, write_bytes
from configs import MAX_PIXELS
from maps.gltf.source import open_model
from maps.images import image_size
from maps.mips import mip_sizes
from metrics.flip import flip
from metrics.scores import psnr_of
from transcode.gltf.extension import EXTENSION

ROOT = Path(__file__).resolve().parents[1]
PAGE, BLENDER = (Path(__file__).with_name(name) for name in ("gltf_page.html", "gltf_blender.py"))
CAMERAS = ((1.0, 0.35, 1.2, 2.9), (-1.2, 0.8, -0.6, 2.9), (0.3, 0.1, -1.0, 2.9), (-1.0, 0.15, 0.9, 2.9),
           (0.9, 0.1, 1.0, 1.2))  # fmt: skip  # x, y, z, distance in radii of the model
JUDGED = 4  # cameras that see the whole model; the last one is so near that texels are larger than pixels
VIEW = {"cameras": CAMERAS, "degrees": 40, "sun": (0.5, 0.9, 0.6), "seconds": 0.4}  # directions with y up
GOALS = {2.5: (35.0, 0.05), 10.0: (40.0, 0.03)}  # bpp -> least PSNR in dB, most FLIP, by three.js
CYCLES_GOALS = {10.0: 38.0}  # bpp -> least PSNR in dB of the fallback
MARK = "bench.gltf draws: "
CONSOLE = re.compile(r'CONSOLE[:(]\d+[\])]+ "(.*?)", source: ', re.DOTALL)
BLOCK = 4
REPLACED = {  # texture of a material -> maps that stand for it
    "baseColorTexture": {"diffuse"}, "metallicRoughnessTexture": {"roughness", "metallic"}, "normalTexture": {"normal"},
    "occlusionTexture": {"occlusion"}, "emissiveTexture": {"emissive"},
}  # fmt: skip
LIMIT_S = 3600  # for Cycles
COLUMNS = (
    ("bpp", "bpp", "{:g}"), ("picture", "what", "{}"), ("camera", "camera", "{}"), ("PSNR dB", "psnr", "{:.2f}"),
    ("model's pixels", "psnr_model", "{:.2f}"), ("FLIP", "flip", "{:.4f}"), ("noise dB", "noise", "{:.2f}"),
    ("model's pixels", "noise_model", "{:.2f}"),
)  # fmt: skip
SIZE_COLUMNS = (
    ("bpp", "bpp", "{:g}"), ("file kB", "file", "{:.0f}"), ("before", "file_before", "{:.0f}"),
    ("GPU kB", "gpu", "{:.0f}"), ("as RGBA8", "rgba8", "{:.0f}"), ("as BC7", "bc7", "{:.0f}"),
)  # fmt: skip
Picture = np.ndarray  # (H, W, 3) uint8, sRGB


# --- files -----------------------------------------------------------------------------------------------------------


def exported(arguments: argparse.Namespace, index: int, folder: Path) -> Path:
    """The model with neural textures at one of the rates: trained where no run is given, and exported."""
    bpp = arguments.bpp[index]
    if arguments.load_dir:
        run = arguments.load_dir[index]
    else:
        save_dir = folder / f"{bpp:g}"
        _command(train.main, ["--data_dir", arguments.model, "--bpp", bpp, "--preset", arguments.preset,
                              "--save_dir", save_dir, "--num_threads", arguments.num_threads])  # fmt: skip
        run = next(save_dir.iterdir())
    path = folder / f"{Path(arguments.model).stem}_{bpp:g}.glb"
    _command(export.main, ["--load_dir", run, "--gltf", path, "--fallback", arguments.fallback,
                           "--fallback_lod", arguments.fallback_lod])  # fmt: skip
    return path


def _command(main: Any, argv: Sequence[object]) -> None:
    if main([str(each) for each in argv]):
        raise UserError(f"{main.__module__}.py {' '.join(map(str, argv))}: failed")


def file_bytes(path: Path) -> int:
    """Bytes of a model and of the files that belong to it."""
    document = open_model(path).document()
    uris = {entry["uri"] for kind in ("buffers", "images") for entry in document.get(kind, []) if "uri" in entry}
    others = [path.parent / urllib.parse.unquote(uri) for uri in uris if not uri.startswith("data:")]
    return sum(each.stat().st_size for each in [path, *others])


# --- GPU memory ------------------------------------------------------------------------------------------------------


def textures_in(value: Any, found: set[int] | None = None) -> set[int]:
    """The textures to which a part of a material refers, this extension's own references aside."""
    found = set() if found is None else found
    if isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(each, Mapping) and key.endswith("Texture") and type(each.get("index")) is int:
                found.add(each["index"])
            if key not in ("extras", EXTENSION):
                textures_in(each, found)
    return found


def image_sizes(path: Path, textures: set[int]) -> list[tuple[int, int]]:
    """(width, height) of the images of these textures, each once."""
    model = open_model(path)
    document = model.document()
    images = set()
    for index in textures:
        texture = document["textures"][index]
        others = [each["source"] for each in texture.get("extensions", {}).values() if "source" in each]
        images.add(texture.get("source", *others[:1]) if others else texture["source"])
    return [image_size(model.image(index), MAX_PIXELS) for index in sorted(images)]


def mip_bytes(sizes: Sequence[tuple[int, int]], block: int, block_bytes: int) -> int:
    """Bytes of textures of these sizes with all mips, in blocks of `block` x `block` texels."""
    levels = (level for size in sizes for level in mip_sizes(*size))
    return sum(-(-width // block) * -(-height // block) * block_bytes for width, height in levels)


def sizes_of(source: Path, path: Path) -> dict[str, int]:
    """Bytes of the files and on a GPU, before and after."""
    document = open_model(path).document()
    views, entries = document["bufferViews"], document["extensions"][EXTENSION]["neuralTextures"]
    places = [each for entry in entries for grid in entry["grids"] for each in grid["textures"]]
    places += [entry["decoder"]["weights"] for entry in entries]
    neural = sum(views[place["bufferView"]]["byteLength"] for place in places)
    used = (textures_in(material) for material in open_model(source).document()["materials"])
    images = image_sizes(source, set().union(*used))
    stay = image_sizes(path, set().union(*(kept_textures(material, entries) for material in document["materials"])))
    return {
        "file": path.stat().st_size, "file_before": file_bytes(source), "neural": neural,
        "gpu": neural + mip_bytes(stay, 1, 4), "rgba8": mip_bytes(images, 1, 4), "bc7": mip_bytes(images, BLOCK, 16),
    }  # fmt: skip


def kept_textures(material: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> set[int]:
    """The textures that a material needs besides its neural one, which replaces what its maps stand for."""
    reference = material.get("extensions", {}).get(EXTENSION)
    if reference is None:
        return textures_in(material)
    maps = {each["map"] for each in entries[reference["neuralTexture"]["index"]]["material"]["maps"]}
    pbr = dict(material.get("pbrMetallicRoughness", {}))
    kept = {key: value for key, value in material.items() if key != "pbrMetallicRoughness"}
    for name, replacing in REPLACED.items():
        if replacing & maps:
            pbr.pop(name, None)
            kept.pop(name, None)
    return textures_in({**kept, "pbrMetallicRoughness": pbr})


# --- three.js --------------------------------------------------------------------------------------------------------


def draw(
    models: Mapping[str, tuple[Path, bool]], size: int, three: Path, read_by: str = ""
) -> tuple[dict[str, list[Picture]], list[np.ndarray], list[str]]:
    """What three.js draws of models, and what the console said.

    Args:
        models: name -> (file, whether its neural textures are used); the first says where the cameras stand.
        read_by: the plugin's filter; empty: its own choice.
    Returns: the pictures of each from every camera; where the first model is, (H, W) bool each; lines of the console.
    """
    if not (three / "build/three.module.js").is_file():
        raise UserError(f"--three {three}: expected three.js there, found none; npm install --prefix .tools three")
    folders = {"/three/": three, "/viewer/": ROOT / "viewer"}
    folders |= {f"/model/{index}/": path.parent for index, (path, _) in enumerate(models.values())}
    entries = [{"name": name, "url": f"/model/{index}/{urllib.parse.quote(path.name)}", "plugin": plugin}
               for index, (name, (path, plugin)) in enumerate(models.items())]  # fmt: skip
    settings = json.dumps({**VIEW, "size": size, "models": entries, "mark": MARK, "filter": read_by or None}).encode()

    def answer(url: str) -> tuple[bytes, str]:
        if url == "/":
            return PAGE.read_bytes(), "text/html"
        if url == "/settings":
            return settings, "application/json"
        root = next((root for root in folders if url.startswith(root)), None)
        path = folders[root] / urllib.parse.unquote(url[len(root) :]) if root else None
        if path is None or not path.is_file():
            return b"", "image/x-icon"
        return path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream"

    drawn: dict[tuple[str, int, int], np.ndarray] = {}
    with tempfile.TemporaryFile() as said:
        with opened(answer, ("--enable-logging=stderr", "--v=0"), said) as posts:
            for path, body in posts:
                if path in ("/done", "/failed"):
                    break
                kind, index, camera = path[1:].split("/")
                if (kind, camera) == ("picture", "0"):
                    print(f"three.js draws {list(models)[int(index)]}", flush=True)
                drawn[kind, int(index), int(camera)] = np.frombuffer(body, np.uint8).reshape(size, size, 4)[::-1]
        said.seek(0)
        lines = CONSOLE.findall(said.read().decode("utf-8", "replace"))
    if path == "/failed":
        raise UserError(f"three.js: {lines[-1] if lines else ''}: {one_line(body.decode('utf-8', 'replace'))[:500]}")
    cameras = range(len(CAMERAS))
    pictures = {name: [drawn["picture", index, camera][..., :3] for camera in cameras]
                for index, name in enumerate(models)}  # fmt: skip
    masks = [drawn["mask", 0, camera][..., 3] > 0 for camera in cameras]
    return pictures, masks, [line for line in lines if not line.startswith(MARK)]


# --- Cycles ----------------------------------------------------------------------------------------------------------


def render(
    models: Mapping[str, tuple[Path, Sequence[int]]], arguments: argparse.Namespace, python: str
) -> tuple[dict[tuple[str, int], list[Picture]], list[np.ndarray]]:
    """What Cycles renders.

    Args:
        models: name -> (file, seeds); the first says where the cameras stand.
    Returns: (name, seed) -> a picture from each camera; where the first model is, (H, W) bool each.
    """
    with tempfile.TemporaryDirectory() as folder:
        prefixes = {name: str(Path(folder) / f"{index}_") for index, name in enumerate(models)}
        view = {
            **VIEW, "size": arguments.size, "samples": arguments.samples, "threads": arguments.num_threads,
            "mask": str(Path(folder) / "mask_"),
            "models": {str(path.resolve()): [prefixes[name], list(seeds)] for name, (path, seeds) in models.items()},
        }  # fmt: skip
        job = Path(folder) / "view.json"
        job.write_text(json.dumps(view), encoding="utf-8")
        try:
            done = subprocess.run([python, str(BLENDER), str(job)], capture_output=True, text=True, timeout=LIMIT_S)
        except OSError as error:
            raise UserError(f"--blender {python}: expected a Python, it does not start ({error.strerror})") from error
        if done.returncode:
            raise UserError(f"--blender {python}: {one_line((done.stderr or done.stdout)[-400:])}")
        cameras = range(len(CAMERAS))
        masks = [np.asarray(PillowImage.open(f"{view['mask']}{camera}.png"))[..., 3] > 0 for camera in cameras]
        return {
            (name, seed): [np.asarray(PillowImage.open(f"{prefixes[name]}{camera}_{seed}.png")) for camera in cameras]
            for name, (_, seeds) in models.items() for seed in seeds
        }, masks  # fmt: skip


# --- comparison ------------------------------------------------------------------------------------------------------


def psnr(one: Picture, other: Picture, mask: np.ndarray | None = None) -> float:
    """PSNR in dB of two pictures, or of their pixels in a mask."""
    error = ((one.astype(float) - other) / 255) ** 2
    return psnr_of(float((error if mask is None else error[mask]).mean()))


def compared(
    pictures: Sequence[Picture], others: Sequence[Picture], masks: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """An entry for each camera."""
    return [
        {"camera": camera, "psnr": psnr(one, other), "psnr_model": psnr(one, other, mask), "flip": flip(one, other)}
        for camera, (one, other, mask) in enumerate(zip(pictures, others, masks))
    ]


def verdict(entries: Sequence[Mapping[str, Any]], goals: tuple[float, float] | None) -> str:
    """One line about the worst of the cameras that see the whole model, and whether it reaches (PSNR, FLIP)."""
    judged = entries[:JUDGED]
    low, high = min(each["psnr"] for each in judged), max(each["flip"] for each in judged)
    text = f"at least {low:.2f} dB ({min(each['psnr_model'] for each in judged):.2f} where the model is), FLIP at most "
    text += f"{high:.4f}; near by {entries[-1]['psnr']:.2f} dB, FLIP {entries[-1]['flip']:.4f}"
    if goals is None:
        return text
    reached = low >= goals[0] and high < goals[1]
    return f"{text}: {'reaches' if reached else 'misses'} {goals[0]:g} dB and {goals[1]:g}"


def save_pictures(path: Path, pictures: Mapping[str, Sequence[Picture]]) -> None:
    """A PNG file with a row for each name, in order, and a column for each camera."""
    stream = io.BytesIO()
    rows = [np.concatenate(list(row), axis=1) for row in pictures.values()]
    PillowImage.fromarray(np.concatenate(rows)).save(stream, "PNG")
    write_bytes(path, stream.getvalue())


# --- all of it -------------------------------------------------------------------------------------------------------


def by_three(arguments: argparse.Namespace, files: Mapping[float, Path], out: Path) -> list[dict[str, Any]]:
    """The entries of three.js, the last one with what the console said."""
    source = Path(arguments.model)
    models = {"source": (source, False)}
    for bpp, path in files.items():
        models |= {f"neural {bpp:g}": (path, True), f"fallback {bpp:g}": (path, False)}
    pictures, masks, said = draw(models, arguments.size, Path(arguments.three), arguments.filter)
    entries = []
    for bpp in files:
        for what in ("neural", "fallback"):
            found = compared(pictures[f"{what} {bpp:g}"], pictures["source"], masks)
            goals = GOALS.get(bpp) if what == "neural" else None
            print(f"three.js, {what} at {bpp:g} bpp: {verdict(found, goals)}", flush=True)
            entries += [{"renderer": "three.js", "bpp": bpp, "what": what, **each} for each in found]
    print("the console is silent" if not said else "the console said:\n  " + "\n  ".join(map(one_line, said[:20])))
    save_pictures(out / f"{source.stem}_three.png", pictures)
    return [*entries, {"renderer": "three.js", "console": said}]


def by_cycles(arguments: argparse.Namespace, files: Mapping[float, Path], out: Path) -> list[dict[str, Any]]:
    """The entries of Cycles; none, and a line that says why, without bpy."""
    python = arguments.blender or (sys.executable if importlib.util.find_spec("bpy") else "")
    if not python:
        print("Cycles: left out, this Python has no bpy (pip install bpy, or --blender PYTHON that has it)")
        return []
    source = Path(arguments.model)
    models = {"source": (source, (0, 1)), **{f"{bpp:g}": (path, (0,)) for bpp, path in files.items()}}
    pictures, masks = render(models, arguments, python)
    noise = compared(pictures["source", 1], pictures["source", 0], masks)
    entries = []
    for bpp in files:
        found = compared(pictures[f"{bpp:g}", 0], pictures["source", 0], masks)
        goals = (CYCLES_GOALS[bpp], 1.0) if bpp in CYCLES_GOALS else None
        print(f"Cycles, fallback at {bpp:g} bpp: {verdict(found, goals)}\n"
              f"Cycles, two seeds of the original: {verdict(noise, None)}", flush=True)  # fmt: skip
        for each, other in zip(found, noise):
            more = {"noise": other["psnr"], "noise_model": other["psnr_model"]}
            entries.append({"renderer": "Cycles", "bpp": bpp, "what": "fallback", **each, **more})
    kept = {name: each for (name, seed), each in pictures.items() if seed == 0}
    save_pictures(out / f"{source.stem}_cycles.png", kept)
    return entries


def run_all(arguments: argparse.Namespace) -> None:
    """Measure, print and write what the flags of bench.gltf ask for."""
    if arguments.load_dir and len(arguments.load_dir) != len(arguments.bpp):
        expected = f"a run for each of the {len(arguments.bpp)} rates of --bpp"
        raise UserError(f"--load_dir: expected {expected}, found {len(arguments.load_dir)}")
    out = Path(arguments.out) / "gltf"
    make_folder(out)
    with tempfile.TemporaryDirectory() as folder:
        files = {bpp: exported(arguments, index, Path(folder)) for index, bpp in enumerate(arguments.bpp)}
        sizes = [{"bpp": bpp, **sizes_of(Path(arguments.model), path)} for bpp, path in files.items()]
        entries = [*by_three(arguments, files, out), *by_cycles(arguments, files, out)]
    print(table([each for each in entries if "psnr" in each], COLUMNS))
    print(table(sizes, SIZE_COLUMNS, {key: 1000.0 for _, key, _ in SIZE_COLUMNS[1:]}))
    keys = ("model", "bpp", "preset", "fallback", "fallback_lod", "filter", "samples", "size")
    settings = {key: getattr(arguments, key) for key in keys}
    print(save("gltf", arguments.out, {**settings, "cameras": CAMERAS}, [*entries, *sizes]))
