"""The log of a run: scalars and images for TensorBoard, and the last evaluation as files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.event_file import TENSORBOARD_IMAGE_SIZE, EventFile
from common.events import TENSORBOARD
from common.files import write_json, write_text
from common.parallel import map_threads
from dataset import Material
from maps.images import encode_png
from metrics.evaluate import Maps
from metrics.hdr import unit_lines
from metrics.pictures import error_image, picture
from metrics.table import format_table

FLUSH_SECONDS = 10  # TensorBoard may lag behind by that much


class RunLog:
    """Scalars and images of one run in save_dir/tensorboard/<run>, and its last evaluation in the run folder.

    Args:
        run: the run folder.
        start_iteration: of a resumed run; TensorBoard drops what the run logged after it before it was interrupted.
    """

    def __init__(self, run: Path, start_iteration: int = 0):
        self.run = run
        self._events = EventFile(run.parent / TENSORBOARD / run.name)
        self._flush_at = 0.0
        if start_iteration:
            self._events.restart(start_iteration + 1)

    def training(self, iteration: int, loss: float, rates: Mapping[str, float], noise: float) -> None:
        """Log one chunk of iterations."""
        self._events.scalar("Loss/train", loss, iteration)
        for name, rate in rates.items():
            self._events.scalar(f"LearningRate/{name}", rate, iteration)
        self._events.scalar("Noise/strength", noise, iteration)
        if time.monotonic() > self._flush_at:
            self._events.flush()
            self._flush_at = time.monotonic() + FLUSH_SECONDS

    def evaluation(self, metrics: Mapping[str, Any]) -> None:
        """Log an evaluation and write it to metrics.json and metrics.txt of the run folder."""
        iteration = metrics["iteration"]
        for scores in metrics["lods"]:
            for metric in ("psnr", "ssim", "lpips", "psnr_covered"):
                value = (scores.get(metric) or {}).get("all")
                if value is not None:
                    self._events.scalar(f"{metric.upper()}/LOD{scores['lod']}", value, iteration)
            if "opacity_wrong" in scores:
                self._events.scalar(f"OPACITY_WRONG/LOD{scores['lod']}", scores["opacity_wrong"], iteration)
                for side, share in scores["coverage"].items():
                    self._events.scalar(f"COVERAGE_{side}/LOD{scores['lod']}", share, iteration)
        for name, value in metrics["psnr"].items():
            if name != "all" and value is not None:
                self._events.scalar(f"PSNR_map/{name}", value, iteration)
        self._events.scalar("PSNR/filtered", metrics["psnr_filtered"]["all"], iteration)
        save_metrics(self.run, metrics)
        self._events.flush()

    def pictures(self, iteration: int, lod: int, decoded: Maps, source: Maps, material: Material) -> None:
        """Log decoded, source and error x8 of every map, for the first LOD that TENSORBOARD_IMAGE_SIZE allows.

        Other LODs are ignored. Arguments as of metrics.evaluate.OnLod.
        """
        sizes = material.lod_sizes
        shown = next((l for l, size in enumerate(sizes) if max(size) <= TENSORBOARD_IMAGE_SIZE), len(sizes) - 1)
        if lod != shown:
            return
        pictures = {}
        for name in material.present:
            pictures[f"{name}/decoded"] = picture(decoded[name])
            pictures[f"{name}/source"] = picture(source[name])
            pictures[f"{name}/error_x8"] = error_image(decoded[name], source[name])
        encoded = map_threads(lambda pixels: encode_png(pixels, quick=True), pictures.values())
        for (tag, pixels), png in zip(pictures.items(), encoded):
            self._events.image(tag, *pixels.shape, png, iteration)

    def close(self) -> None:
        """Flush and close the event file. A full disk is not reported here: the write that failed first has done so."""
        with contextlib.suppress(OSError):
            self._events.close()


def save_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json and, for reading, metrics.txt."""
    write_json(folder / "metrics.json", metrics)
    filtered = "  ".join(f"{name} {value:.2f}" for name, value in metrics["psnr_filtered"].items())
    deep = "".join(f"\n{line}\n" for line in unit_lines(metrics["lods"][0]))
    write_text(folder / "metrics.txt", f"{format_table(metrics['lods'])}\n\nfiltered PSNR dB  {filtered}\n{deep}")
