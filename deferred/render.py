"""Render views with a texture and its U-Net, as images or as a video.

    python render.py --load RUN --data D --test 120-139 --save out            (inside deferred/)
    python -m deferred.render --load RUN --data D --out_mode video --fps 25   (in the repository's root)

Every option: python render.py --help, or options.py; defaults: config.py, else config_example.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

from collections.abc import Sequence

from common.errors import UserError, quote, run_command
from deferred.options import make_options, parse_args


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = make_options("render", parse_args("render", __doc__.splitlines()[0], argv))
    from common.device import choose_device
    from deferred.rendering import load_model, render

    model, loaded = load_model(options, ("train", "train_unet"))
    if model.unet is None:
        raise UserError(f"--load {quote(loaded.path)}: expected a texture with a U-Net, found a texture alone; render "
                        "it with render_texture.py")  # fmt: skip
    render(options, model, choose_device(options.device), colour=False, trained=loaded.config)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="lower --batch, or use smaller frames"))
