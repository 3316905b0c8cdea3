"""Shared by render.py and render_texture.py: renders views into image files or a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import Say, UserError, counted, quote
from common.files import make_folder
from common.video import write_video
from deferred import checkpoints
from deferred.dataset.frames import FrameCache, FrameSet, list_ids
from deferred.dataset.uv_maps import parse_background
from deferred.evaluation import View, render_views, ssim_of
from deferred.meshes import ADVICE
from deferred.model.renderer import NeuralRenderer
from deferred.options import RenderOptions
from deferred.pictures import save_png
from deferred.prepare import data_folder
from deferred.util import id_name, parse_ids, surface_psnr
from metrics.scores import psnr_db

VIDEO = "render.mp4"


def load_model(options: RenderOptions, scripts: tuple[str, ...]) -> tuple[NeuralRenderer, checkpoints.Loaded]:
    """The model of --load, and what else its file says. Raises: UserError."""
    loaded = checkpoints.load(checkpoints.find_checkpoint(options.load, Path(options.checkpoint), scripts))
    return loaded.model.eval(), loaded


def render(options: RenderOptions, model: NeuralRenderer, device: torch.device, colour: bool, say: Say = print,
           trained: Mapping[str, Any] | None = None) -> None:  # fmt: skip
    """Render the views of --test into --save, and score those that have a frame.

    Args:
        colour: the texture's colour rather than the U-Net's image.
        trained: the options of the model's training, of which it takes what is no surface.
    Raises: UserError.
    """
    trained = trained or {}
    background = trained.get("background_uv", "none") if options.background_uv == "auto" else options.background_uv
    folder = data_folder(options.data, say)
    ids = parse_ids(options.test, "--test") if options.test.strip() else list_ids(folder)
    if not ids:
        raise UserError(
            f"--data {quote(folder)}: expected uv/0000.npy and so on, found none; make some with prepare.py"
        )
    frames = FrameSet(folder, ids, with_images=False, background=parse_background(background),
                      alpha=trained.get("alpha", True), cache=FrameCache(0))  # fmt: skip
    save = Path(options.save)
    make_folder(save)
    scored: list[tuple[float, int, float | None]] = []

    def images() -> Iterator[tuple[View, np.ndarray]]:
        for view in render_views(model.to(device), frames, options.batch, device):
            image = view.colour if colour else view.image
            if view.truth is not None and view.frame.mask.any():
                psnr = surface_psnr([(image, view.truth, view.frame.mask)])
                scored.append((10 ** (-psnr / 10), int(view.frame.mask.sum()), ssim_of(image, view.truth)))
            yield view, image

    if options.out_mode == "video":
        sizes = set(frames.sizes.values())
        if len(sizes) != 1:
            raise UserError(f"--out_mode video: expected views of one size, found {len(sizes)} sizes; choose with "
                            "--test, or give --out_mode image")  # fmt: skip
        codec = write_video(save / VIDEO, (image for _, image in images()), sizes.pop(), options.fps, ADVICE)
        say(f"{len(frames)} frames at {options.fps:g} a second in {quote(save / VIDEO)}, {codec}")
    else:
        for view, image in images():
            save_png(save / f"{id_name(view.number)}_render.png", image)
        say(f"{counted(len(frames), 'image')} in {quote(save)}: {id_name(ids[0])}_render.png and so on")
    if scored:
        pixels = sum(count for _, count, _ in scored)
        error = sum(error * count for error, count, _ in scored) / pixels
        ssim = [value for _, _, value in scored if value is not None]
        mean = f", SSIM {np.mean(ssim):.4f} of whole frames" if len(ssim) == len(scored) else ""
        say(f"PSNR {psnr_db([error]):.2f} dB on the surface of the {len(scored)} that have a frame{mean}")
