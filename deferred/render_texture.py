"""Render views with a texture alone: the colours of a neural texture, or an RGB image.

    python render_texture.py --load RUN --data D --test 120-139 --save out   (inside deferred/)
    python -m deferred.render_texture --load texture.png --data D            (in the repository's root)

Every option: python render_texture.py --help, or options.py; defaults: config.py, else config_example.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.errors import run_command
from deferred.options import SCRIPTS, make_options, parse_args

if TYPE_CHECKING:
    from deferred.model.renderer import NeuralRenderer


def image_texture(path: Path) -> NeuralRenderer:
    """A model whose texture is an RGB image, of one level and without a U-Net. Raises: UserError."""
    import torch

    from deferred.dataset.crops import to_values
    from deferred.dataset.frames import read_colours
    from deferred.model.renderer import COLOURS, Form, NeuralRenderer

    values = to_values(read_colours(path))
    model = NeuralRenderer(Form(COLOURS, *values.shape[:2], use_pyramid=False, view_direction=False, unet_width=0))
    with torch.no_grad():
        model.texture.levels[0].copy_(values.permute(2, 0, 1))
    return model


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = make_options("render_texture", parse_args("render_texture", __doc__.splitlines()[0], argv))
    from common.device import choose_device
    from deferred.rendering import load_model, render
    from maps.images import IMAGE_SUFFIXES

    if Path(options.load).suffix.lower() in IMAGE_SUFFIXES:
        model, trained = image_texture(Path(options.load)), None
    else:
        model, loaded = load_model(options, SCRIPTS)
        trained = loaded.config
    render(options, model, choose_device(options.device), colour=True, trained=trained)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="lower --batch, or use smaller frames"))
