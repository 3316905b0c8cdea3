"""The work of bench.rate: runs and codecs measured, and what is printed and written of them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import rate_plot, rate_report
from bench.common import machine, save
from bench.cost import pixel_cost
from bench.rate_summary import PLAIN, forms_of, forms_table, gains, gains_table, label_of, material_table
from common.errors import UserError, one_line
from common.files import write_text
from configs import make_config
from dataset import Material, load_material
from engine.cpu.decoder import decode_lod
from formats.textures import read_export
from maps.channels import map_slice
from metrics.coverage import coverage_scores
from metrics.decoded_maps import decode_in_file_space, to_8_bit
from metrics.scores import MaterialImage, evaluate_lod
from training.plan import plan
from training.run_folder import find_checkpoint
from transcode.codecs import encode_decode

Crops = dict[str, np.ndarray]  # map name -> (h, w, C) uint8
Run = tuple[float, str, str]  # bits per texel, --latents, --decoder


@dataclasses.dataclass
class Measured:
    """One row of the result, and its pictures."""

    entry: dict[str, Any]
    crops: Crops


# --- ours ----------------------------------------------------------------------------------------------------------


def run_settings(run: Run, preset: str) -> dict[str, Any]:
    """The flags of train.py for a rate, a form and a preset; what a --bpp alone means is left out."""
    bpp, *form = run
    # both or none: without --decoder, blocks are linear
    flags = {} if tuple(form) == PLAIN else dict(zip(("latents", "decoder"), form))
    return {"bpp": bpp, "preset": preset, **flags}


def planned_runs(
    size: tuple[int, int], forms: Sequence[tuple[str, str]], rates: Sequence[float], preset: str
) -> list[Run]:
    """The runs that a material of this (width, height) can have, rate after rate; the others are reported.

    Raises: UserError for a rate that no form can have.
    """
    runs = []
    for bpp in rates:
        refusals = []
        for form in forms:
            try:
                plan(make_config(run_settings((bpp, *form), preset)), *size)
            except UserError as error:
                refusals.append((form, error))
            else:
                runs.append((bpp, *form))
        if len(refusals) == len(forms):
            raise refusals[0][1]
        for form, error in refusals:
            print(f"note: {' '.join(form)} is left out ({error})", flush=True)
    return runs


def our_run(folder: str, run: Run, preset: str, save_dir: str, **settings: Any) -> dict[str, Any]:
    """Train `folder` at a rate exactly as the command does, and score what its exported files decode to.

    Args:
        preset: preview, fast, balanced or best.
        settings: further fields of configs.Config, such as num_threads.
    Returns: an entry (see `entry_of`) with `decoded`, (H, W, channels) float in the files' colour spaces, beside
        it.
        `seconds` are those of the whole run: reading, training, evaluations, export.
    """
    from training.start import train_material

    material = load_material(folder)
    given = {**run_settings(run, preset), **settings, "data_dir": folder, "save_dir": save_dir}
    started = time.perf_counter()
    result = train_material(make_config(given), say=lambda text: None, quiet=True)
    seconds = time.perf_counter() - started
    if not result.completed:
        raise KeyboardInterrupt
    config = json.loads((result.run / "config.json").read_text(encoding="utf-8"))  # as planned
    exported = read_export(find_checkpoint(result.run, result.iteration))
    decoded = decode_in_file_space(exported.model, exported.manifest.material, 0, decode_lod).cpu()
    source, exact = material.texels(0).cpu(), exported.model.constants
    scores = evaluate_lod(decoded, source, material.present, exact=exact, with_lpips=False)
    entry = {**entry_of(material, "ours", scores, result.rates["bpp"], seconds), **opacity_scores(decoded, material)}
    entry.update(
        target_bpp=run[0],
        latents=run[1],
        decoder=run[2],
        **pixel_cost(exported.model.form),
        bytes=exported.manifest.bytes_on_disk,
        lods=[lod["psnr"]["all"] for lod in result.metrics["lods"]],
        psnr_filtered=result.metrics["psnr_filtered"]["all"],
        settings={"preset": preset, "iterations": result.iteration, "bpp_all_mips": result.rates["all_mips"],
                  "training_seconds": result.seconds, "positions": config["positions"]},
    )  # fmt: skip
    return {**entry, "decoded": decoded}


# --- both ----------------------------------------------------------------------------------------------------------


def entry_of(
    material: Material, codec: str, scores: Mapping[str, Any], bpp: float, seconds: float, quality: int | None = None
) -> dict[str, Any]:
    """One row of the result, JSON-ready. PSNR in dB, FLIP of diffuse, SSIM from 0 to 1, None where there is none; what
    is compared of light above 1 is in `spaces`."""
    logarithms = {
        entry.name: f"log2(1 + x / {entry.log_scale:g}), x up to {entry.value_range[1]:g}"
        for entry in material.record.maps
        if entry.log_scale is not None
    }
    return {
        **({"spaces": logarithms} if logarithms else {}),
        "material": material.name,
        "width": material.width,
        "height": material.height,
        "maps": list(material.present),
        "codec": codec,
        "quality": quality,
        "bpp": bpp,
        "seconds": seconds,
        "psnr": dict(scores["psnr"]),
        "ssim": dict(scores["ssim"]),
        "flip": scores["flip"].get("diffuse"),
        "normal_degrees": scores.get("normal_degrees"),
    }


def opacity_scores(decoded: MaterialImage, material: Material) -> dict[str, float | None]:
    """What an entry has besides where there is an opacity: the share of texels on the wrong side of an alpha test, and
    the PSNR of the other maps, dB, where they are covered. {} without."""
    if "opacity" not in material.present:
        return {}
    codes = to_8_bit(decoded)
    ours = {name: codes[..., map_slice(name)] for name in material.present}
    scores = coverage_scores(ours, {name: material.file_codes(0, name) for name in material.present})
    return {"psnr_covered": scores["psnr_covered"].get("all"), "opacity_wrong": scores["opacity_wrong"]}


def measure_codec(material: Material, codec: str, quality: int | None, crop: tuple[slice, slice]) -> Measured:
    """One codec at one quality."""
    result = encode_decode(material, codec, quality)
    scores = evaluate_lod(result.decoded, material.texels(0).cpu(), material.present, with_lpips=False)
    entry = entry_of(material, codec, scores, result.bpp, result.seconds, result.quality)
    entry.update(bytes=result.bytes, settings=result.settings, **opacity_scores(result.decoded, material))
    return Measured(entry, crops_of(result.decoded, material.present, crop))


def middle(material: Material, size: int) -> tuple[slice, slice]:
    """(rows, columns) of the square in the middle, or as much of it as there is."""
    starts = [max(side - size, 0) // 2 for side in (material.height, material.width)]
    return tuple(slice(start, start + size) for start in starts)


def crops_of(decoded: MaterialImage, present: Sequence[str], crop: tuple[slice, slice]) -> Crops:
    """The part `crop` of each map, 8 bits."""
    codes = to_8_bit(decoded[crop])
    return {name: np.ascontiguousarray(codes[..., map_slice(name)]) for name in present}


def measure_material(
    folder: str, runs: Sequence[Run], codecs: Mapping[str, Sequence[int | None]], arguments: argparse.Namespace
) -> Iterator[Measured]:
    """The source (an entry without rate and scores), our runs, and the codecs, as they come."""
    material = load_material(folder)
    crop = middle(material, arguments.crop)
    source = {"material": material.name, "codec": "source", "crop": [crop[1].start, crop[0].start]}
    yield Measured(source, crops_of(material.texels(0).cpu(), material.present, crop))
    for run in runs:
        with tempfile.TemporaryDirectory() as save_dir:
            entry = our_run(folder, run, arguments.preset, save_dir, num_threads=arguments.num_threads)
        decoded = entry.pop("decoded")
        yield Measured(entry, crops_of(decoded, material.present, crop))
        del decoded
    for codec, qualities in codecs.items():
        for quality in qualities:
            yield measure_codec(material, codec, quality, crop)


def quick_summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What --quick prints last: ours as `entries`, the others as `codecs`."""
    here = machine()

    def short(entry: Mapping[str, Any]) -> dict[str, Any]:
        row = {key: entry[key] for key in ("material", "codec", "quality", "bpp", "seconds", "flip")}
        of_ours = ("psnr_filtered", "latents", "decoder", "texture_fetches", "filtered_fetches", "multiply_adds")
        row.update((key, entry.get(key)) for key in of_ours)  # None of the other codecs
        return {**row, "psnr": entry["psnr"]["all"], "ssim": entry["ssim"]["all"], "psnr_maps": entry["psnr"]}

    ours = [entry for entry in entries if entry["codec"] == "ours"]
    return {
        "entries": [{**short(e), "target_bpp": e["target_bpp"], **e["settings"]} for e in ours],
        "codecs": [short(entry) for entry in entries if entry["codec"] != "ours"],
        "machine": here["processor"],
        "cores": here["cores"],
        "commit": here["commit"],
    }


def progress_line(entry: Mapping[str, Any]) -> str:
    return (f"{one_line(entry['material'])}: {label_of(entry)}, {entry['bpp']:.2f} bpp, {entry['psnr']['all']:.2f} dB, "
            f"{entry['seconds']:.1f} s")  # fmt: skip


# --- all of it -----------------------------------------------------------------------------------------------------


def run_all(
    arguments: argparse.Namespace, forms: Sequence[tuple[str, str]], codecs: Mapping[str, Sequence[int | None]]
) -> None:
    """Measure, print and write what the flags of bench.rate ask for.

    Args:
        forms: (latents, decoder) of our runs.
        codecs: name -> qualities of the others.
    """
    names, sizes = [], {}
    for folder in arguments.folders:  # reports what is wrong with any of them first
        material = load_material(folder)
        names.append(material.name)
        sizes[folder] = material.width, material.height
    if len(set(names)) < len(names):
        raise UserError(f"expected materials of different names, found {', '.join(names)}; rename a folder")
    runs = {folder: planned_runs(size, forms, arguments.rates, arguments.preset) for folder, size in sizes.items()}
    name, out = "rate_quick" if arguments.quick else "rate", Path(arguments.out)
    settings = {**vars(arguments), "codecs": {codec: list(qualities) for codec, qualities in codecs.items()},
                "forms": [" ".join(form) for form in forms]}  # fmt: skip
    entries: list[dict[str, Any]] = []
    pictures: dict[str, dict[str, Crops]] = {}
    for folder in arguments.folders:
        for measured in measure_material(folder, runs[folder], codecs, arguments):
            entry = measured.entry
            pictures.setdefault(entry["material"], {})[label_of(entry)] = measured.crops
            if entry["codec"] != "source":
                entries.append(entry)
                print(progress_line(entry), flush=True)
        path = save(name, arguments.out, settings, entries)  # a later material may be interrupted
    found = gains(entries)
    for material in names:
        print(f"\n{material_table([entry for entry in entries if entry['material'] == material])}")
    print(f"\n{gains_table(found)}\n")
    if len(forms_of(entries)) > 1:
        print(f"{forms_table(entries)}\n")
    result = json.loads(path.read_text(encoding="utf-8"))
    print(path)
    for line in rate_plot.plot(path):
        print(line)
    report = out / f"{name}.html"
    write_text(report, rate_report.render(result, found, pictures))
    print(f"{report}  ({report.stat().st_size / 2**20:.1f} MiB)")
    if arguments.quick:
        print(json.dumps(quick_summary(entries), allow_nan=False))
