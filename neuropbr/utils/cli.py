"""Command-line options that the commands share, and the configuration that they give."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from neuropbr.train_config import PRESET_GB, TrainConfig, apply_overrides, finalize, load_config

if TYPE_CHECKING:
    import torch

FEWER_PIXELS = "--set data.image_size to a smaller one, such as 256"
LESS_MEMORY = f"lower --batch-size, or {FEWER_PIXELS}"
CROP, PAD = FITS = ("crop", "pad")  # of --fit
MOST_SIZE = 8192  # of --size, texels: views and maps of that size are 6 GB


def add_data_options(parser: argparse.ArgumentParser) -> None:
    presets = ", ".join(f"{name} ({need} GB of a GPU)" for name, need in PRESET_GB.items())
    parser.add_argument("--config", help=f"{presets}, or a .py file with get_config(), which is run")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="assignments",
                        help="any field of train_config.py, e.g. data.image_size=512; may be repeated")  # fmt: skip
    parser.add_argument("--input-dir", help="renders (default ./data/input)")
    parser.add_argument("--output-dir", help="maps (default ./data/output)")
    parser.add_argument("--metadata-path", help="default: render_metadata.json of --input-dir")
    parser.add_argument("--render-curriculum", type=int, choices=(0, 1, 2), help="0 clean, 1 clean and dirty, 2 dirty")
    parser.add_argument("--device", help="auto, cuda, cuda:N, mps, cpu")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", help="samples per step and process; auto: what fits into the GPU's memory")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--checkpoint-dir")
    parser.add_argument("--resume", help="checkpoint; its configuration and data paths are taken over, flags win")
    parser.add_argument("--pretrained", action=argparse.BooleanOptionalAction,
                        help="ImageNet weights for the encoder, downloaded where they are not cached")  # fmt: skip


def add_photograph_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fit", choices=FITS, default=CROP,
                        help="photographs of another proportion than the network's: crop them about the middle "
                             "(default), or pad them by mirroring, so that the maps show all")  # fmt: skip


def _size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_SIZE:
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST_SIZE} texels, found {text}")
    return int(text)


def add_inference_options(parser: argparse.ArgumentParser, out_dir: str) -> None:
    parser.add_argument("--checkpoint", required=True, help="latest.pth, best_model.pth, an export, or a student's")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--sample-idx", type=int, default=0, help="position in the dataset of the checkpoint")
    source.add_argument("--input-dir", help="folder with three photographs or renders (JPEG, PNG, WebP, TIFF, HEIC), "
                        "in order of names, the first from straight above")  # fmt: skip
    add_photograph_options(parser)
    parser.add_argument("--size", type=_size, help="longer side of the maps, texels; in tiles where it is "
                        "larger than in training (default: the photograph's, up to 4 times that of training; "
                        "for --sample-idx that of training)")  # fmt: skip
    parser.add_argument("--data-input-dir", help="renders of the dataset (default: as trained)")
    parser.add_argument("--data-output-dir", help="maps of the dataset (default: as trained)")
    parser.add_argument("--out-dir", default=out_dir, help="receives the maps and the views")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps, cpu")
    parser.add_argument("--compress", nargs=argparse.REMAINDER, metavar="OPTION",
                        help="last: train the compressor on the result, with these options of the root's train.py, "
                             "such as --compress --bpp 8 --save_dir ./outputs")  # fmt: skip


def resolve_config(options: argparse.Namespace) -> TrainConfig:
    """The configuration of --resume's checkpoint or of --config, then --set, then the other flags; finalized.

    Without a checkpoint it needs no PyTorch. Raises: UserError.
    """
    given = vars(options)
    config = load_config(given.get("config") or "default")
    resume = given.get("resume") or config.training.resume_from
    if resume:
        if not given.get("config"):
            from neuropbr.utils.checkpoints import load_checkpoint, stored_config

            config = stored_config(load_checkpoint(resume), resume)
        config.training.resume_from = resume
    apply_overrides(config, options.assignments)
    if options.input_dir and not options.metadata_path:
        config.data.metadata_path = None  # of the other folder
    _override(config, "data", given, ("input_dir", "output_dir", "metadata_path", "render_curriculum"))
    if given.get("render_curriculum") is not None:
        config.data.use_dirty_renders = False  # the newer flag wins
    elif given.get("use_dirty"):
        config.data.render_curriculum = 2
    _override(config, "training", given, ("epochs", "checkpoint_dir", "device"))
    _override(config, "model", given, ("pretrained",))
    batch_size = given.get("batch_size")
    if batch_size is not None:
        config.training.batch_size = None
        config.data.batch_size = 1 if batch_size == "auto" else _whole("--batch-size", batch_size)
    return finalize(config)


def resolve_device(config: TrainConfig, options: argparse.Namespace) -> torch.device:
    """The device of a configuration. With --batch-size auto the batch size becomes the device's. Raises: UserError."""
    from common.device import choose_device
    from neuropbr.utils.device import AUTOMATIC, automatic_batch_size

    device = choose_device(config.training.device, AUTOMATIC)
    if options.batch_size == "auto":
        config.training.batch_size = automatic_batch_size(config, device)
        finalize(config)
        print(f"batch size {config.data.batch_size}")
    return device


def _override(config: Any, section: str, given: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if given.get(name) is not None:
            setattr(getattr(config, section), name, given[name])


def _whole(flag: str, text: Any) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"{flag}: expected a whole number or auto, found {text}") from error
