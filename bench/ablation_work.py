"""The work of bench.ablation: recipes trained, measured on the way, and put into tables."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from bench.ablation_plot import plot
from bench.ablation_variants import OURS, OURS_TORCH, VARIANTS, Variant, recipe
from bench.common import machine, save
from common.errors import UserError
from configs import Config, to_dict
from dataset import Material, load_material
from engine.cpu.decoder import decode_lod
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from formats.block_textures import grid_blocks, load_blocks
from metrics.decoded_maps import decode_in_file_space
from metrics.scores import evaluate_lod
from model import NeuralTexture, build_model
from training.code_refinement import Refinement

POINTS, QUICK_POINTS = 12, 4  # of a curve
EARLIEST = 100  # a curve begins at this part of its iterations

Entry = dict[str, Any]


# --- one run -------------------------------------------------------------------------------------------------------


def stops(iterations: int, points: int) -> list[int]:
    """At most so many iterations to measure at, each about the same factor behind the last; ends with the end."""
    return np.unique(np.geomspace(max(iterations // EARLIEST, 1), iterations, points).round().astype(int)).tolist()


def export_into(trained: NeuralTexture, exported: NeuralTexture) -> None:
    """Fill `exported`, a plain model of the same shape, with the codes or blocks, and the weights, of `trained`."""
    for index, grid in enumerate(trained.grids):
        if grid.compressed:
            load_blocks(exported, index, grid_blocks(trained, index, grid.n_levels)[::-1], f"plane {index}")
        else:
            exported.load_codes(index, trained.codes(index))
    with torch.no_grad():
        for mine, theirs in zip(exported.weights, trained.weights):
            mine.copy_(theirs)


def score(exported: NeuralTexture, material: Material) -> float:
    """PSNR in dB over all channels of LOD 0, of 8-bit images in the files' colour spaces."""
    decoded = decode_in_file_space(exported, material.record, 0, decode_lod)
    scores = evaluate_lod(decoded, material.texels(0), material.present, with_ssim=False, with_lpips=False,
                          with_flip=False, exact=exported.constants)  # fmt: skip
    return scores["psnr"]["all"]


def run(variant: Variant, ours: Config, material: Material, points: int = POINTS) -> Entry:
    """Train a variant of the recipe `ours` on a material.

    Returns: JSON-ready: what it was, `seconds` of training, `processor_seconds` of all threads together, `psnr` at the
        end in dB, `bpp` network included, and the `curve` with all of these at every stop and after each round of
        refining.
    """
    config = variant.change(ours, material.width, material.height)
    engine = variant.start(config, material)
    present = material.present_channels.tolist()
    exported = build_model(config, material.width, material.height, present, material.constants)
    curve: list[dict[str, float]] = []
    seconds = processor_seconds = 0.0
    for stop in stops(config.max_iter, points):
        started, processor_started = time.perf_counter(), time.process_time()
        while engine.iteration < stop:
            engine.step(min(engine.chunk, stop - engine.iteration))
        seconds += time.perf_counter() - started
        processor_seconds += time.process_time() - processor_started
        engine.sync()
        export_into(engine.model, exported)
        curve.append({"iteration": stop, "seconds": seconds, "processor_seconds": processor_seconds,
                      "psnr": score(exported, material)})  # fmt: skip
    # what a subclass trains in its own way is refined as a plain model: it is what will be decoded
    refined = engine.model if type(engine.model) is NeuralTexture else exported
    refinement = Refinement(refined, material, config)
    for index in range(config.refine if refinement.possible else 0):
        started, processor_started = time.perf_counter(), time.process_time()
        refinement.round(index)
        seconds += time.perf_counter() - started
        processor_seconds += time.process_time() - processor_started
        if refined is not exported:
            export_into(refined, exported)
        curve.append({"iteration": config.max_iter, "seconds": seconds, "processor_seconds": processor_seconds,
                      "psnr": score(exported, material)})  # fmt: skip
    return {
        "material": material.name,
        "width": material.width,
        "height": material.height,
        "variant": variant.name,
        "says": variant.says,
        "engine": engine.name,
        "threads": config.num_threads or torch.get_num_threads(),
        "bpp": exported.bits_per_texel(material.width, material.height)["bpp"],
        "iterations": config.max_iter,
        "batch_size": config.batch_size,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "psnr": curve[-1]["psnr"],
        "difference": None,
        "curve": curve,
        "recipe": {name: value for name, value in to_dict(config).items() if value != to_dict(Config())[name]},
    }


def compare(entries: Sequence[Entry]) -> None:
    """Fill in `difference`: PSNR over that of our recipe on the same engine and material."""
    names = {"cpu": (OURS,), "torch": (OURS_TORCH, OURS)}
    for entry in entries:
        found = {other["variant"]: other for other in entries
                 if (other["material"], other["engine"]) == (entry["material"], entry["engine"])}  # fmt: skip
        ours = next((found[name] for name in names[entry["engine"]] if name in found), None)
        entry["difference"] = entry["psnr"] - ours["psnr"] if ours else None


# --- what is run ---------------------------------------------------------------------------------------------------


def chosen(names: str | None) -> list[Variant]:
    """The variants of --variants in their own order, and ours on each engine that they need; None: all. One whose
    package is missing is left out with a note.

    Without kernels everything is PyTorch's, and there is one `ours`.
    """
    wanted = list(VARIANTS) if names is None else [name for name in names.split(",") if name]
    for name in wanted:
        if name not in VARIANTS:
            raise UserError(f"--variants: expected some of {','.join(VARIANTS)}; got {name!r:.80}")
    if not wanted:
        raise UserError(f"--variants: expected some of {','.join(VARIANTS)}; got none")
    for name in [name for name in wanted if VARIANTS[name].needs and not find_spec(VARIANTS[name].needs)]:
        print(f"note: {name} is left out, {VARIANTS[name].needs} cannot be imported; "
              "pip install -r requirements/codecs.txt", flush=True)  # fmt: skip
        wanted.remove(name)
    try:
        load_kernels(print)
    except KernelsUnavailable as error:
        print(f"note: {error}; everything runs on PyTorch instead", flush=True)
        wanted = [OURS, *wanted]
        return [variant for name, variant in VARIANTS.items() if name in wanted and name != OURS_TORCH]
    wanted += [OURS, *(OURS_TORCH for name in wanted if VARIANTS[name].engine == "torch")]
    return [variant for name, variant in VARIANTS.items() if name in wanted]


def load_materials(folders: Iterable[str]) -> list[Material]:
    """All of them, so that what is wrong with one is reported before anything is trained."""
    materials = [load_material(folder) for folder in folders]
    names = [material.name for material in materials]
    if len(set(names)) < len(names):
        raise UserError(f"expected materials of different names, found {', '.join(names)}; rename a folder")
    for material in materials:
        if len(material.constants) == len(material.present_channels):
            raise UserError(f"{material.name}: expected something to learn, found one value everywhere in every map")
    return materials


# --- report --------------------------------------------------------------------------------------------------------


def table(entries: Sequence[Entry]) -> str:
    """One material's rows. `s` are seconds of training, `cpu s` processor seconds of all threads."""
    first = entries[0]
    lines = [f"{first['material']}, {first['width']}x{first['height']}",
             f"{'variant':18}{'PSNR dB':>9}{'to ours':>9}{'s':>9}{'cpu s':>9}  {'engine':8}{'iterations':>10}"
             f"{'batch':>7}{'bpp':>7}"]  # fmt: skip
    for entry in entries:
        difference = "" if entry["difference"] is None else f"{entry['difference']:+.2f}"
        lines.append(
            f"{entry['variant']:18}{entry['psnr']:>9.2f}{difference:>9}{entry['seconds']:>9.2f}"
            f"{entry['processor_seconds']:>9.2f}  {entry['engine']:8}{entry['iterations']:>10}"
            f"{entry['batch_size']:>7}{entry['bpp']:>7.2f}"
        )
    return "\n".join(lines)


def mean_table(entries: Sequence[Entry]) -> str:
    """What each variant loses or gains, material by material and in the mean."""
    materials = list(dict.fromkeys(entry["material"] for entry in entries))
    heads = [f"{material[:15]:>16}" for material in materials]
    lines = [f"{'to ours, dB':18}{'mean':>9}{''.join(heads)}"]
    for name in dict.fromkeys(entry["variant"] for entry in entries):
        differences = [entry["difference"] for entry in entries if entry["variant"] == name]
        cells = "".join(f"{difference:>+16.2f}" for difference in differences)
        lines.append(f"{name:18}{sum(differences) / len(differences):>+9.2f}{cells}")
    return "\n".join(lines)


def legend(variants: Sequence[Variant]) -> str:
    """What the names of the table mean."""
    return "\n".join(f"{variant.name:18}{variant.says}" for variant in variants)


def quick_summary(bpp: float, entries: Sequence[Entry]) -> dict[str, Any]:
    """What --quick prints last."""
    here, keys = machine(), ("variant", "engine", "iterations", "psnr", "difference", "seconds", "processor_seconds")
    return {
        "material": entries[0]["material"],
        "bpp": bpp,
        "entries": [{key: entry[key] for key in keys} for entry in entries],
        "machine": here["processor"],
        "cores": here["cores"],
        "commit": here["commit"],
    }


def progress_line(entry: Mapping[str, Any]) -> str:
    return (f"{entry['material']}: {entry['variant']}, {entry['iterations']} iterations in {entry['seconds']:.1f} s on "
            f"{entry['engine']}, {entry['psnr']:.2f} dB")  # fmt: skip


# --- all of it -----------------------------------------------------------------------------------------------------


def run_all(arguments: argparse.Namespace) -> None:
    """Train, print and write what the flags of bench.ablation ask for."""
    points = QUICK_POINTS if arguments.quick else POINTS
    materials = load_materials(arguments.folders)
    recipes = [recipe(arguments.bpp, material.width, material.height, arguments.iterations, arguments.num_threads)
               for material in materials]  # fmt: skip
    variants = chosen(arguments.variants)
    name, settings = "ablation_quick" if arguments.quick else "ablation", vars(arguments)
    entries: list[Entry] = []
    for material, ours in zip(materials, recipes):
        for variant in variants:
            entries.append(run(variant, ours, material, points))
            compare(entries)
            print(progress_line(entries[-1]), flush=True)
        path = save(name, arguments.out, settings, entries)  # a later material may be interrupted
    print(f"\n{legend(variants)}")
    for material in materials:
        print(f"\n{table([entry for entry in entries if entry['material'] == material.name])}")
    if len(materials) > 1:
        print(f"\n{mean_table(entries)}")
    print(f"\n{path}\n{plot(path)}")
    if arguments.quick:
        print(json.dumps(quick_summary(arguments.bpp, entries), allow_nan=False))
