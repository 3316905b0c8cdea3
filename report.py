"""What a user sees of a run: TensorBoard, pictures, the progress bar and the summary at the end."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2
from tqdm import tqdm

from dataset import PNG_SAMPLE_TEXELS, Material
from errors import one_line, shell_quote
from files import atomic_write, write_json, write_text
from images import encode_png, write_png
from map_files import CHANNELS, MAPS, map_slice
from metrics import error_image, format_table, picture, strip_bands
from parallel import map_threads

TENSORBOARD = "tensorboard"
TENSORBOARD_IMAGE_SIZE = 512  # longest side of logged images: event files would outgrow the checkpoints otherwise
THUMBNAIL, THUMBNAIL_SIZE = "thumbnail.jpg", 96  # longest side of each of its three pictures
LARGE_VALUES = 2**24  # of a map: from here on one strip at a time, for the memory's sake

Maps = Mapping[str, np.ndarray]  # of one LOD: map name -> (H, W, C) uint8 or uint16

FLUSH_SECONDS = 10  # how far TensorBoard may lag behind


class EventFile:
    """A TensorBoard event file that is written at once, in the caller's thread.

    tensorboardX's own SummaryWriter writes in a second thread: on a full disk that thread dies with a traceback and
    the training waits for it forever. Here the OSError reaches the caller.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        # absolute: the writer takes what stands before a colon, as in s3:maps, for the name of a storage service
        self._writer = EventsWriter(str(folder.absolute() / "events"), f".{os.getpid()}")

    def restart(self, step: int) -> None:
        """Tell TensorBoard to forget the events of `step` and later that an earlier life of the run wrote."""
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, session_log=log))

    def scalar(self, tag: str, value: float, step: int) -> None:
        self._write(summary.scalar(tag, value), step)

    def image(self, tag: str, height: int, width: int, channels: int, png: bytes, step: int) -> None:
        """Add a PNG file of this shape: tensorboardX's own writer of images spends most of an evaluation in zlib."""
        content = summary_pb2.Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
        self._write(summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, image=content)]), step)

    def _write(self, content: Any, step: int) -> None:
        self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, summary=content))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class RunLog:
    """Scalars and images of one run in save_dir/tensorboard/<run>, and its last evaluation in the run folder.

    Args:
        run: the run folder.
        start_iteration: events after it, of an earlier life of the run, are dropped.
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
            for metric in ("psnr", "ssim", "lpips"):
                value = (scores.get(metric) or {}).get("all")
                if value is not None:
                    self._events.scalar(f"{metric.upper()}/LOD{scores['lod']}", value, iteration)
        for name, value in metrics["psnr"].items():
            if name != "all" and value is not None:
                self._events.scalar(f"PSNR_map/{name}", value, iteration)
        save_metrics(self.run, metrics)
        self._events.flush()

    def pictures(self, iteration: int, lod: int, decoded: Maps, source: Maps, material: Material) -> None:
        """Log decoded, source and error x8 of every map, of the first LOD that is small enough; see evaluate.OnLod."""
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
        """Flush and close the event file; a disk that is full by now has been reported by whatever filled it."""
        with contextlib.suppress(OSError):
            self._events.close()


def save_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json and, for reading, metrics.txt."""
    write_json(folder / "metrics.json", metrics)
    write_text(folder / "metrics.txt", format_table(metrics["lods"]) + "\n")


def save_strips(folder: Path, decoded: Maps, source: Maps) -> None:
    """One PNG per map: decoded | source | error x8; see evaluate.OnLod for the maps."""
    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str) -> None:
        height, width, _ = decoded[name].shape
        with atomic_write(folder / f"{name}.png") as stream:
            write_png(stream, height, 3 * width, strip_bands(decoded[name], source[name]))

    large = max(image.size for image in decoded.values()) > LARGE_VALUES
    list(map_threads(save, decoded, limit=1 if large else None))


def save_thumbnail(folder: Path, decoded: Maps, source: Maps) -> None:
    """decoded | source | error x8 of the first map in a few kilobytes; see evaluate.OnLod for the maps."""
    shipped, wanted = next(iter(decoded.values())), next(iter(source.values()))
    height, width = shipped.shape[:2]
    step = max(1, max(height, width) // (4 * THUMBNAIL_SIZE))  # every so many texels; the rest is averaged below
    shipped, wanted = shipped[::step, ::step], wanted[::step, ::step]
    strip = np.concatenate([picture(shipped), picture(wanted), error_image(shipped, wanted)], axis=1)
    image = PillowImage.fromarray(strip if strip.shape[2] == 3 else strip[..., 0])
    scale = min(THUMBNAIL_SIZE / max(shipped.shape[:2]), 8)  # a material of a few texels is not blown up without end
    height, width = (max(1, round(size * scale)) for size in shipped.shape[:2])
    kind = PillowImage.Resampling.BOX if scale < 1 else PillowImage.Resampling.NEAREST
    with atomic_write(folder / THUMBNAIL) as stream:
        image.resize((3 * width, height), kind).save(stream, "JPEG", quality=85)


def progress_bar(total: int, initial: int, quiet: bool = False) -> tqdm:
    """A bar with iteration, it/s and ETA on stderr; silent where nobody watches."""
    return tqdm(
        total=total,
        initial=initial,
        disable=quiet or not sys.stderr.isatty(),
        unit="it",
        dynamic_ncols=True,
        desc="training",
        smoothing=0.1,
    )


# --- summary -------------------------------------------------------------------------------------------------------


def bc7_bytes(material: Material) -> tuple[int, int]:
    """(textures, bytes) of the material as an engine would pack it in BC7: colour, normal, three scalars a texture.

    BC7 takes 16 bytes per 4x4 block; full mip chains.
    """
    scalars = sum(1 for name in material.present if MAPS[name] == 1)
    textures = len(material.present) - scalars + -(-scalars // 3)
    blocks = sum(-(-width // 4) * -(-height // 4) for width, height in material.lod_sizes)
    return textures, textures * blocks * 16


def readable_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def weight_advice(
    shares: Mapping[str, float], channels: Mapping[str, int], weights: Mapping[str, float]
) -> str | None:
    """One sentence with a line for the config file, when one map holds more than half of the squared error and more
    than twice its share of the channels; None otherwise, and for a map that was given weight 0.

    Args:
        shares: map -> share of the squared error, see metrics.error_shares.
        channels: map -> channels that were trained.
        weights: map -> Config.texture_loss_weights of the run, as resolved.
    """
    total = sum(channels.values())
    for name, share in shares.items():
        if share > 0.5 and channels[name] and share > 2 * channels[name] / total and weights[name]:
            changed = {n: weight for n, weight in weights.items() if weight != 1 and n in channels}
            line = ", ".join(f"{n}: {weight:.3g}" for n, weight in {**changed, name: 2 * weights[name]}.items())
            return (
                f"{name} has {share:.0%} of the squared error in {channels[name]} of {total} trained channels; to "
                f"move bits to it, train with this line in a --config file: texture_loss_weights: {{{line}}}"
            )
    return None


def trained_channel_counts(material: Material) -> dict[str, int]:
    """Per present map: its channels that are not constants."""
    return {
        name: sum(channel not in material.constants for channel in range(CHANNELS)[map_slice(name)])
        for name in material.present
    }


SUMMARY_LODS = 8  # a line has room for these; the smallest have a handful of texels


def run_summary(
    material: Material, metrics: Mapping[str, Any], rates: Mapping[str, float], shipped_bytes: int | None,
    seconds: float, iteration: int, run: Path, checkpoint: Path,
    weights: Mapping[str, float] | None = None, picture_lod: int = 0,
) -> str:  # fmt: skip
    """The lines that end a run: quality per map and where the error is, rate, sizes against PNG and BC7, time, and
    where the files are.

    weights: the run's Config.texture_loss_weights, for the advice on them; None: all 1.
    picture_lod: that the pictures in media/ show.
    """
    psnr, shares = metrics["psnr"], metrics["lods"][0]["error_share"]
    maps = "  ".join(f"{name} {psnr[name]:.2f}" for name in material.present)
    degrees = metrics["lods"][0].get("normal_degrees")
    if degrees is not None:
        maps = maps.replace(f"normal {psnr['normal']:.2f}", f"normal {psnr['normal']:.2f}, {degrees:.2f} degrees off")
    textures, bc7 = bc7_bytes(material)
    lines = [
        f"PSNR     {psnr['all']:.2f} dB over all channels of LOD 0  ({maps})",
        "error    " + "  ".join(f"{name} {shares[name]:.1%}" for name in material.present) + " of the squared error",
        f"rate     {rates['bpp']:.2f} bpp (grids {rates['grids']:.2f} + network {rates['network']:.2f}), "
        f"{rates['all_mips']:.2f} with all mips",
    ]
    advice = weight_advice(shares, trained_channel_counts(material), weights or dict.fromkeys(MAPS, 1.0))
    if advice:
        lines.insert(2, f"advice   {advice}")
    if len(metrics["lods"]) > 1:
        each = [f"{lod}: {scores['psnr']['all']:.2f}" for lod, scores in enumerate(metrics["lods"][:SUMMARY_LODS])]
        lines.insert(1, "LODs     " + "  ".join(each) + " dB")
    if shipped_bytes is not None:
        png = material.png_bytes()
        about = "about " if material.width * material.height > PNG_SAMPLE_TEXELS else ""
        lines.append(
            f"on disk  {readable_bytes(shipped_bytes)} with all mips: {shipped_bytes / png:.1%} of the maps as PNG "
            f"({about}{readable_bytes(png)}), {shipped_bytes / bc7:.1%} of {textures} BC7 textures "
            f"({readable_bytes(bc7)})"
        )
    lines.append(f"time     {seconds:.1f} s to iteration {iteration}")
    lines.append(f"files    {one_line(str(checkpoint))}")
    shown = f", LOD {picture_lod}" if picture_lod else ""
    lines.append(f"look     {one_line(str(run / 'media'))}{os.sep}*.png (decoded | source | error x8{shown}); "
                 f"tensorboard --logdir {shell_quote(str(run.parent / TENSORBOARD))}")  # fmt: skip
    return "\n".join(lines)
