"""report.json: bytes and PSNR of each stored form of a day, beside its PNG files and simple baselines."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from common.events import readable_bytes
from lightmap.baselines import Pca, evaluation_texels, simple_baselines
from lightmap.compressor import CHUNK, Compressor, Latents, render, upsample
from lightmap.data import HOURS, Day
from lightmap.quantised import QuantisedLatent, encode_npz, halved, quantise_model
from lightmap.weight_file import WEIGHT_TYPES, pack_weights
from maps.images import encode_png
from metrics.scores import psnr_of, round_to_8_bit, ssim_per_channel

MOST_TEXELS = 1 << 16  # for comparing forms and baselines; the model itself is measured on all texels
NPY_HEADER = 128
FLOAT_BYTES = 4
REPORT = "report.json"

Decoded = Callable[[float], Latents]  # hour -> (n, 3) encoded RGB


def stored(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Values as a file of that depth stores them; rounding to 16 bits or to floats is too fine to matter."""
    return round_to_8_bit(values) if bits == 8 else values.clamp(0, None)


def frames_error(decoded: Decoded, day: Day, texels: torch.Tensor, shift: float) -> float:
    """Mean squared error of some texels over all frames."""
    squares = [
        float(
            (stored(decoded(hour), day.bits) - day.values(texels, torch.full_like(texels, frame)))
            .double()
            .square()
            .mean()
        )
        for frame, hour in enumerate(day.times(shift))
    ]
    return float(np.mean(squares))


def quality(model: Compressor, latent: Latents, day: Day, shift: float) -> dict[str, float | None]:
    """PSNR over the texels in the mask, and mean SSIM of whole frames, where texels outside it count as equal."""
    size = (day.height, day.width)
    z, squares, similarity = upsample(latent, size, model.shape.latent_size), 0.0, []
    for frame, hour in enumerate(day.times(shift)):
        image = stored(render(model.f2, z, hour, model.shape.time_harmonics), day.bits)
        source = torch.from_numpy(day.image(frame)).view(-1, 3)
        image = torch.where(day.mask[:, None], image, source)
        squares += float((image - source).double().square().sum())
        pair = (value.view(*size, 3).numpy() for value in (image, source))
        similarity.append(ssim_per_channel(*pair))
    known = [np.mean(value) for value in similarity if value is not None]
    return {
        "psnr": psnr_of(squares / (day.n_frames * 3 * int(day.mask.sum()))),
        "ssim": float(np.mean(known)) if known else None,
    }


def png_bytes(day: Day) -> tuple[int, str]:
    """Bytes of the frames as PNG files, and where that figure comes from."""
    if day.bits == 32:
        return 0, "no PNG holds floats"
    if all(name.lower().endswith(".png") for name in day.names):
        return day.file_bytes, "the files"
    top, dtype = (255, np.uint8) if day.bits == 8 else (65535, np.uint16)
    frames = (np.rint(day.image(frame) * top).astype(dtype) for frame in range(day.n_frames))
    return sum(len(encode_png(np.ascontiguousarray(frame))) for frame in frames), "encoded for this report"


def build_report(
    model: Compressor, day: Day, half: Day | None, day_facts: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The report of a day, JSON-ready.

    Args:
        half: ground truth at half-hours, if there is any.
        day_facts: of checkpoints.describe_day.
        facts: further entries, about the run.
    """
    latent = model.compute_latent_map()
    texels = evaluation_texels(day, MOST_TEXELS)
    png, source = png_bytes(day)
    raw = day.texels * day.n_frames * 3 * day.bits // 8  # bytes without compression, in the depth of the files
    hours = quality(model, latent, day, 0)
    halves = None if half is None else quality(model, latent, half, 0.5)
    pca = Pca.of(day)
    forms = {}
    for name, (n_bytes, memory, build) in _forms(model, latent, day_facts).items():
        other, z = build(texels)

        def decoded(hour: float, other=other, z=z) -> Latents:
            return render(other.f2, z, hour, other.shape.time_harmonics)

        forms[name] = {
            "bytes": n_bytes,
            "bytes_decoded": memory,
            "of_png": n_bytes / png if png else None,
            "of_raw": n_bytes / raw,
            "bits_per_pixel_and_frame": 8 * n_bytes / (day.texels * day.n_frames),
            "psnr_hours": psnr_of(frames_error(decoded, day, texels, 0)),
            "psnr_half_hours": None if half is None else psnr_of(frames_error(decoded, half, texels, 0.5)),
            "pca_at_equal_bytes": pca.best_at(n_bytes, half, texels),
        }
    return {
        **facts,
        "size": [day.width, day.height], "frames": day.n_frames, "hours_between_frames": HOURS / day.n_frames,
        "values": "log1p, see day.encoding" if day.encoding.hdr else "as stored",
        "day": dict(day_facts),
        "png_bytes": png or None, "png_bytes_from": source, "raw_bytes": raw,
        "psnr_hours": hours["psnr"], "ssim_hours": hours["ssim"],
        "psnr_half_hours": halves and halves["psnr"], "ssim_half_hours": halves and halves["ssim"],
        "texels_compared": len(texels),
        "forms": forms,
        "baselines": simple_baselines(day, half, texels),
    }  # fmt: skip


def _forms(model: Compressor, latent: Latents, day_facts: Mapping[str, Any]) -> dict[str, tuple[int, int, Callable]]:
    """Form -> its bytes on disk, its bytes in memory when rendering, and a function texels -> (model, latents)."""
    shape = model.shape
    size = (shape.height, shape.width)
    f2_bytes = FLOAT_BYTES * sum(value.numel() for value in model.f2.parameters())

    def of_map(stored: QuantisedLatent) -> tuple[int, int, Callable]:
        def build(texels: torch.Tensor) -> tuple[Compressor, Latents]:
            return model, upsample(stored.dequantised(), size, stored.latent_size, texels)

        return len(encode_npz(stored)) + f2_bytes, stored.codes.size + f2_bytes, build

    forms = {}
    if shape.latent_mode == "f1":
        for kind in WEIGHT_TYPES:
            n_bytes = len(pack_weights(model, day_facts, kind))
            forms["f1_f2" if kind == "float32" else "f1_f2_float16"] = (
                n_bytes,
                latent.nbytes + f2_bytes,
                _computed(model, kind),
            )
    forms["latent_f32_f2"] = (
        FLOAT_BYTES * shape.height * shape.width * shape.latent_dim + NPY_HEADER + f2_bytes,
        FLOAT_BYTES * shape.height * shape.width * shape.latent_dim + f2_bytes,
        lambda texels: (model, upsample(latent, size, shape.latent_size, texels)),
    )
    forms["latent_q8_f2"] = of_map(quantise_model(model, latent))
    if shape.latent_mode == "f1" and min(shape.latent_size) > 1:
        forms["latent_q8_half_f2"] = of_map(halved(latent, shape.latent_size, size))
    return forms


def _computed(model: Compressor, weight_type: str) -> Callable:
    """A function texels -> (model, latents) for a form that stores both networks with weights of that type."""

    def build(texels: torch.Tensor) -> tuple[Compressor, Latents]:
        rounded = copy.deepcopy(model)
        with torch.no_grad():
            for value in rounded.parameters():
                value.copy_(value.to(getattr(torch, weight_type)))
            return rounded, torch.cat([rounded.latents(part) for part in texels.split(CHUNK)])

    return build


# --- as text ---------------------------------------------------------------------------------------------------------

FORM_TITLES = {
    "f1_f2": "F1 + F2, float32", "f1_f2_float16": "F1 + F2, float16", "latent_f32_f2": "latent map float32 + F2",
    "latent_q8_f2": "latent map 8 bits + F2", "latent_q8_half_f2": "the same at half size",
}  # fmt: skip


def describe_report(report: Mapping[str, Any]) -> str:
    """The report as text for the terminal."""
    width, height = report["size"]
    png = f"{readable_bytes(report['png_bytes'])} as PNG, " if report["png_bytes"] else ""
    lines = [
        f"day      {report['frames']} frames of {width}x{height}: {png}{readable_bytes(report['raw_bytes'])} as pixels",
        f"quality  {_db(report['psnr_hours'])} dB at the hours (SSIM {_score(report['ssim_hours'])}), "
        f"{_db(report['psnr_half_hours'])} dB at half-hours (SSIM {_score(report['ssim_half_hours'])})",
        f"{'form':<26}{'bytes':>12}{'of PNG':>9}{'bits/px/frame':>15}{'hours':>8}{'half':>8}   PCA in as many bytes",
    ]
    for name, form in report["forms"].items():
        pca = form["pca_at_equal_bytes"]
        rival = f"{_db(pca['psnr_hours'])} / {_db(pca['psnr_half_hours'])} dB" if pca else "-"
        of_png = f"{form['of_png']:.1%}" if form["of_png"] is not None else "-"
        lines.append(f"{FORM_TITLES[name]:<26}{form['bytes']:>12}{of_png:>9}{form['bits_per_pixel_and_frame']:>15.3f}"
                     f"{_db(form['psnr_hours']):>8}{_db(form['psnr_half_hours']):>8}   {rival}")  # fmt: skip
    for name, scores in report["baselines"].items():
        exact = "exact" if scores["psnr_hours"] is None else _db(scores["psnr_hours"])
        lines.append(f"{name.replace('_', ' '):<62}{exact:>8}{_db(scores['psnr_half_hours']):>8}")
    largest = report["forms"]["latent_f32_f2"]
    if report["png_bytes"] and largest["bytes"] > report["png_bytes"]:
        times = largest["bytes"] / report["png_bytes"]
        lines.append(
            f"note     the float32 latent map is {times:.1f} times the PNG files: a cache to render from, "
            "not a compressed form"
        )
    return "\n".join(lines)


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
