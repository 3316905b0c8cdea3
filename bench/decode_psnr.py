"""What a smaller network costs in dB: trained materials for bench.decode, each with the cost of its own decoder.

Every network is trained at every rate in every form, at texel centres as `train.py --network` does it, and scored from
the files it wrote. Costs are of one pixel at a whole LOD, with the decoder of those files.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.cost import pixel_cost
from bench.decode_device import LodDecoder
from bench.decode_shader import compile_decoder, count_operations, decoder_source, shader_tools
from common.errors import UserError
from configs import make_config
from dataset import Material, load_material
from formats.textures import ExportedTexture, read_export
from metrics.evaluate import metric_options, score_lod
from shaders.device import NoDevice

TRAINED_FORMS = tuple((latents, decoder) for latents in ("packed", "bc1") for decoder in ("learned", "linear"))
OTHER_KINDS = ("integer", "compare", "convert")


def decoder_cost(exported: ExportedTexture) -> dict[str, int]:
    """What decoding a pixel in the middle of LOD 0 asks of a GPU: the counts of pixel_cost, and where there is
    glslangValidator the operations of its SPIR-V: of floats, and of all else that computes."""
    model, material = exported.model, exported.manifest.material
    cost = pixel_cost(model.form)
    compiler, optimiser = shader_tools()
    if compiler is None:
        return cost
    size = (material.width, material.height)
    binary = compile_decoder(decoder_source(model, size, "glsl", "packed"), optimise=bool(optimiser))
    uv = tuple((side // 2 + 0.5) / side for side in size)
    counts, decoded = count_operations(binary, model, "packed", uv, 0.0)
    if not np.isfinite(decoded).all():
        raise RuntimeError(f"the shader of {material.name} decodes {decoded.tolist()}")
    floats = counts.get("float", 0) + counts.get("special", 0)
    return {**cost, "float_operations": floats, "other_operations": sum(counts.get(kind, 0) for kind in OTHER_KINDS)}


def trained(folder: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One run on a folder of maps: its rate, PSNR of LOD 0 at texel centres, filtered PSNR, seconds, and its cost."""
    from training.start import train_material

    with tempfile.TemporaryDirectory() as save_dir:
        started = time.perf_counter()
        config = make_config({**settings, "data_dir": folder, "save_dir": save_dir})
        result = train_material(config, say=lambda text: None, quiet=True)
        seconds = time.perf_counter() - started
        if not result.completed:
            raise KeyboardInterrupt
        exported = read_export(result.checkpoint)
        return {
            "material": exported.manifest.material.name, "bpp": result.rates["bpp"],
            "psnr": result.metrics["psnr"]["all"], "psnr_filtered": result.metrics["psnr_filtered"]["all"],
            "iterations": result.iteration, "seconds": seconds, **decoder_cost(exported),
            **half_cost(exported, load_material(Path(folder))),
        }  # fmt: skip


def half_cost(exported: ExportedTexture, material: Material) -> dict[str, float]:
    """`half_loss`, dB of LOD 0 that products of 16 bits lose, and `half_error`, by how many 255ths a texel is farthest
    off: the WGSL decoders of both on a device. Nothing, and a note, where there is none."""
    model, record = exported.model, exported.manifest.material
    decoded, psnr = {}, {}
    try:
        for bits in (32, 16):
            image = decoded[bits] = LodDecoder(model, record, bits)(model, 0, record.width, record.height)
            as_decoded = lambda *_, rows, image=image: image[rows].clone()  # noqa: E731
            psnr[bits] = score_lod(model, material, 0, decode=as_decoded, **metric_options("psnr"))["psnr"]["all"]
    except NoDevice as error:
        print(f"note: no PSNR of 16 bits: {error}", flush=True)
        return {}
    worst = (decoded[16] - decoded[32]).abs().max().item()
    return {"half_loss": psnr[32] - psnr[16], "half_error": worst * 255}


def measure_psnr(
    folders: Sequence[str], rates: Sequence[float], networks: Sequence[str], forms: Sequence[tuple[str, str]],
    preset: str, threads: int = 0,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Rows for each material, rate, form and network, as they come; what cannot be planned is noted and left out."""
    for folder in folders:
        for rate in rates:
            for latents, decoder in forms:
                for network in networks:
                    form = {"latents": latents, "decoder": decoder}
                    given = {"bpp": rate, "network": network, "preset": preset, "positions": "centres", **form}
                    try:
                        row = trained(folder, {**given, "eval_metrics": "psnr", "num_threads": threads})
                    except UserError as error:
                        print(f"note: {Path(folder).name}, {latents} {decoder} {network}: {error}", flush=True)
                        continue
                    labels = {"part": "psnr", "form": f"{latents} {decoder}", "network": network, "target_bpp": rate}
                    yield {**labels, **row}
