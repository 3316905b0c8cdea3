"""Every option of the commands: help, unit, range, and which commands have it. Defaults come from config.py."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError, brief, quote, what_is_wrong
from common.files import parse_json
from common.knobs import AUTO, OneLineParser, add_flags, check_value, check_values, knob
from deferred import config_example
from deferred.dataset.uv_maps import parse_background

SETTINGS_FILE = "settings.json"  # of a data folder
MAX_SETTINGS_BYTES = 1 << 16
CONFIG_FILE = Path(__file__).resolve().parent / "config.py"
DEVICES = ("auto", "cpu", "cuda")
UPSAMPLINGS = ("auto", "resize", "transposed")
OUT_MODES = ("image", "video")
PRECISIONS = ("auto", "float32", "bf16", "fp16")
NEWEST = "newest"  # --resume without a value
MAX_TEXTURE = 16384  # texels along a side
MAX_CACHE_GIB = 2.0**20
VIEW_CHANNELS = 12  # that --view_direction needs: 3 of colour, 9 for harmonics
SCRIPTS = ("train", "train_texture", "train_unet")
# What config_example.py had before "auto". A setting of config.py that is still one of these may be an old copy's.
FORMER = {"TEXTURE_W": 1024, "TEXTURE_H": 1024, "UNET_WIDTH": 64, "EPOCH": 50, "BATCH_SIZE": 12, "CROP_W": 256,
          "CROP_H": 256, "LEARNING_RATE": 1e-3, "EPOCH_PER_CHECKPOINT": 50,
          "L2_WEIGHT_DECAY": "0.01, 0.001, 0.0001, 0"}  # fmt: skip


@dataclass(frozen=True)
class TrainOptions:
    """The options of one training run. Field order is the order of `--help`."""

    data: str = knob("", "folder with frame/, uv/ and extrinsics/; empty: the sample, made at first use", unit="path")
    train: str = knob("", 'ids to train on: "0-119", "0,4,8-20" or a text file; empty: all but the last seventh')
    val: str = knob("", "ids to validate on; empty: those that are not trained on, 20 at most")
    alpha: bool = knob(True, "pixels of frames whose alpha is below 1/2 are no surface")
    background_uv: str = knob("auto", 'uv that is no surface: "0,0", none, or auto: a corner that many pixels have')
    checkpoint: str = knob("outputs/deferred", "folder that receives one sub-folder per run", unit="path")
    logdir: str = knob("outputs/deferred/tensorboard", "folder of the TensorBoard events of the runs", unit="path")

    # auto: see fitting.py
    texturew: int | None = knob(None, "width of the texture's finest level", unit="texels", low=1, high=MAX_TEXTURE,
                                auto=True)  # fmt: skip
    textureh: int | None = knob(None, "height of the texture's finest level", unit="texels", low=1, high=MAX_TEXTURE,
                                auto=True)  # fmt: skip
    texture_dim: int = knob(16, "channels of the texture; the first 3 are supervised as colour", low=3, high=256)
    use_pyramid: bool = knob(True, "sum 4 levels at 1, 1/2, 1/4 and 1/8 of the size instead of 1")
    view_direction: bool = knob(True, "multiply channels 3 to 11 by spherical harmonics of the view direction")
    unet_width: int | None = knob(None, "channels of the U-Net's first layer", low=1, high=256, auto=True)
    upsampling: str = knob("auto", "doublings in the U-Net; auto: resize, or those of --load", choices=UPSAMPLINGS)

    epoch: int | None = knob(None, "times that every training frame is seen", unit="epochs", low=1, high=10**6,
                             auto=True)  # fmt: skip
    batch: int | None = knob(None, "crops of a step", low=1, high=4096, auto=True)
    cropw: int | None = knob(None, "width of a crop, at most the frames'", unit="pixels", low=8, high=16384, auto=True)
    croph: int | None = knob(None, "height of a crop, at most the frames'", unit="pixels", low=8, high=16384, auto=True)
    scale_augmentation: bool = knob(True, "each batch at 1/2, 1 or 2 times the size")
    lr: float | None = knob(None, "Adam's step size of the texture; the U-Net's is a tenth of it", low=1e-8, high=10.0,
                            auto=True)  # fmt: skip
    epoch_steps: int | None = knob(None, "steps that count as an epoch in the schedule of the rates; 0: the run's own",
                                   unit="steps", low=0, high=10**9, auto=True)  # fmt: skip
    betas: str = knob("0.9, 0.999", "Adam's decay rates of the two moments")
    l2: str = knob("auto", "weight decay of the texture's levels, finest first; auto: none; on a GPU "
                   "with 700 frames or more the original's")  # fmt: skip
    eps: float = knob(1e-8, "Adam's term against division by zero", low=1e-16, high=1.0)
    seed: int = knob(0, "of random numbers: initial values, order of frames, crops", low=0, high=2**31)

    load: str = knob(
        "", "checkpoint to begin with: a file or a run folder, as it is or under --checkpoint", unit="path"
    )
    load_step: int = knob(0, "where the count of images, TensorBoard's axis, begins", unit="images", low=0)
    resume: str = knob("", "run folder to go on with, exactly; without a value the newest of --checkpoint", unit="path",
                       bare=NEWEST)  # fmt: skip
    epoch_per_checkpoint: int | None = knob(None, "epochs from one checkpoint to the next", unit="epochs", low=1,
                                            high=10**6, auto=True)  # fmt: skip
    device: str = knob("auto", "where PyTorch computes", choices=DEVICES)
    precision: str = knob("auto", "numbers of the U-Net's layers in training; auto: 16 bits on a GPU, else float32",
                          choices=PRECISIONS)  # fmt: skip
    num_workers: int = knob(4, "threads that read the next steps' crops; 0: none", low=0, high=256)
    cache: str = knob("auto", "memory for decoded frames; auto: half of what is free", unit="GiB")


@dataclass(frozen=True)
class RenderOptions:
    """The options of one rendering."""

    data: str = knob("", "folder with uv/ and extrinsics/, frame/ where there is truth; empty: the sample", unit="path")
    test: str = knob("", 'ids to render: "120-139", "0,4,8-20" or a text file; empty: all that have a uv map')
    checkpoint: str = knob("outputs/deferred", "folder of the runs", unit="path")
    load: str = knob("", "checkpoint: a file or a run folder, as it is or under --checkpoint; empty: the newest run",
                     unit="path")  # fmt: skip
    save: str = knob("outputs/deferred/render", "folder that receives the images or the video", unit="path")
    out_mode: str = knob("image", "image: a PNG per id; video: render.mp4", choices=OUT_MODES)
    fps: float = knob(25.0, "of the video", unit="frames per second", low=0.1, high=1000.0)
    batch: int = knob(12, "frames that are rendered at once", low=1, high=4096)
    background_uv: str = knob("auto", 'uv that is no surface: "0,0", none, or auto: as in training')
    device: str = knob("auto", "where PyTorch computes", choices=DEVICES)


# Flag -> its setting in config.py, if that is not the flag in capitals.
SETTINGS = {
    "data": "DATA_DIR", "train": "TRAIN_SET", "val": "VALIDATION_SET", "checkpoint": "CHECKPOINT_DIR",
    "logdir": "LOG_DIR", "texturew": "TEXTURE_W", "textureh": "TEXTURE_H", "batch": "BATCH_SIZE", "cropw": "CROP_W",
    "croph": "CROP_H", "lr": "LEARNING_RATE", "l2": "L2_WEIGHT_DECAY", "test": "TEST_SET", "save": "SAVE_DIR",
}  # fmt: skip
RENDER_SETTINGS = {"data": "TEST_DATA_DIR", "load": "TEST_LOAD"}
# Options that a command lacks: a colour texture has 3 channels and no view; a frozen one is given by its checkpoint.
WITHOUT = {
    "train": frozenset(),
    "train_texture": frozenset({"texture_dim", "view_direction", "unet_width", "upsampling", "scale_augmentation"}),
    "train_unet": frozenset({"texturew", "textureh", "use_pyramid", "l2", "load_step"}),
}
# Options that depend on the user, not on the frames, and may not be in a data folder's settings.json.
NOT_ADVICE = frozenset({"data", "checkpoint", "logdir", "train", "val", "load", "load_step", "resume", "device", "seed",
                        "epoch_per_checkpoint", "precision", "num_workers", "cache"})  # fmt: skip
# Options that --resume may change.
FREE = frozenset({"data", "checkpoint", "logdir", "load", "load_step", "resume", "epoch_per_checkpoint", "device",
                  "epoch", "val", "precision", "num_workers", "cache"})  # fmt: skip


def fields_of(script: str) -> dict[str, dataclasses.Field]:
    """Name -> field of a command's options. script: one of SCRIPTS, else a command that renders."""
    if script not in SCRIPTS:
        return {field.name: field for field in dataclasses.fields(RenderOptions)}
    return {field.name: field for field in dataclasses.fields(TrainOptions) if field.name not in WITHOUT[script]}


def setting_name(name: str, script: str) -> str:
    """The setting in config.py for a flag; '' for --resume, which has none."""
    if name == "resume":
        return ""
    own = RENDER_SETTINGS if script not in SCRIPTS else {}
    return own.get(name) or SETTINGS.get(name) or name.upper()


def read_example() -> dict[str, Any]:
    """The settings of config_example.py."""
    return {name: value for name, value in vars(config_example).items() if name.isupper()}


def read_settings(path: Path = CONFIG_FILE) -> dict[str, Any]:
    """The settings of config_example.py, replaced by those of the user's config.py if there is one.

    Raises: UserError if config.py cannot be run or sets an unknown name.
    """
    known = read_example()
    if not path.is_file():
        return known
    spec = importlib.util.spec_from_file_location("deferred.config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # it is the user's own code
        raise UserError(f"{quote(path)}: cannot be used ({type(error).__name__}: {what_is_wrong(error)}); correct it, "
                        "or copy config_example.py again") from error  # fmt: skip
    own = {name: value for name, value in vars(module).items() if name.isupper()}
    for name in own:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f"did you mean {close[0]}?" if close else "config_example.py has those that there are"
            raise UserError(f"{quote(path)}: {name} is no setting; {hint}")
    return {**known, **own}


class Advice(dict[str, Any]):
    """Name -> value of the options that settings.json of a data folder recommends. path: of that file, for errors."""

    def __init__(self, path: Path, values: Mapping[str, Any]):
        super().__init__(values)
        self.path = path


def read_advice(folder: Path, script: str) -> Advice:
    """What settings.json of a data folder recommends for a training command.

    Empty without that file. Raises: UserError if it is damaged or has an unknown option.
    """
    path = Path(folder) / SETTINGS_FILE
    if not path.is_file():
        return Advice(path, {})
    try:
        with path.open("rb") as stream:
            found = parse_json(stream.read(MAX_SETTINGS_BYTES))
    except (OSError, ValueError) as error:
        raise UserError(f"{quote(path)}: cannot be read ({what_is_wrong(error)}); correct it, or remove it for the "
                        "usual defaults") from error  # fmt: skip
    if not isinstance(found, dict) or not all(name in SCRIPTS and isinstance(own, dict) for name, own in found.items()):
        raise UserError(f'{quote(path)}: expected {{"train": {{"lr": 0.01}}}} with some of {", ".join(SCRIPTS)}, found '
                        f"{brief(found)}; correct it, or remove it")  # fmt: skip
    fields, advice = fields_of(script), found.get(script, {})
    for name in advice:
        if name not in fields or name in NOT_ADVICE:
            raise UserError(f"{quote(path)}: {brief(name)} is no setting of {script}.py's training; take it out")
    return Advice(path, {name: check_value(f"{quote(path)}: {name}", fields[name], value)
                         for name, value in advice.items()})  # fmt: skip


def defaults(script: str) -> dict[str, Any]:
    """Name -> default of each of a command's options, without what a data folder recommends. Raises: UserError."""
    return {name: value for name, (value, _) in _defaults(script, None).items()}


def _defaults(script: str, advice: Advice | None) -> dict[str, tuple[Any, str]]:
    """Name -> default of each of a command's options, checked, and what an error calls it: where it comes from.

    A setting that config.py changes wins over `advice`, which wins over config_example.py. Raises: UserError.
    """
    settings, known = read_settings(), read_example()
    found = {}
    for name, field in fields_of(script).items():
        setting = setting_name(name, script)
        if not setting:
            continue
        value = settings[setting]
        if value == AUTO and script not in SCRIPTS and type(field.default) is int:
            value = field.default  # --batch of rendering, which training's setting gives too
        if name in ("train", "val", "test", "l2", "betas") and isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))  # the original has lists of ids
        source = f"config.py: {setting}" if settings[setting] != known[setting] else f"--{name}"
        found[name] = check_value(f"config.py: {setting}", field, value), source
        if name in (advice or {}) and settings[setting] in (known[setting], FORMER.get(setting)):
            found[name] = advice[name], f"{quote(advice.path)}: {name}"
    if script not in SCRIPTS and not found["data"][0]:
        found["data"] = settings["DATA_DIR"], "config.py: DATA_DIR"
    return found


def build_parser(script: str, description: str, without: Sequence[str] = (), prog: str = "") -> argparse.ArgumentParser:
    """A parser with one flag per field except `without`. Flags that are not given are absent from its result."""
    parser = OneLineParser(prog=prog or f"{script}.py", description=description)
    found, fields = defaults(script), fields_of(script)
    add_flags(parser, {name: with_default(fields[name], found.get(name)) for name in fields if name not in without})
    return parser


def with_default(field: dataclasses.Field, value: Any) -> dataclasses.Field:
    """The field with another default, which its help shows."""
    if value is None:
        return field
    changed = dataclasses.field(default=value, metadata=field.metadata)
    changed.name, changed.type = field.name, field.type
    return changed


def parse_args(script: str, description: str, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The flags that the user gave, each checked, without defaults. Raises: UserError."""
    return check_values(fields_of(script), vars(build_parser(script, description).parse_args(argv)))


def one_option(script: str, given: Mapping[str, Any], name: str) -> Any:
    """The value of one option, before the others can be checked. Raises: UserError."""
    value = given[name] if name in given else defaults(script).get(name, "")
    return check_value(f"--{name}", fields_of(script)[name], value)


def make_options(
    script: str, given: Mapping[str, Any], advice: Advice | None = None
) -> TrainOptions | RenderOptions:
    """Validated options of a command: defaults and `advice`, replaced by `given`.

    Raises: UserError, which names the flag, or the file that a value comes from.
    """
    fields = fields_of(script)
    for name in given:
        if name not in fields:
            raise UserError(f"--{name}: {script}.py has no such option (see --help)")
    found = _defaults(script, advice) | {name: (value, f"--{name}") for name, value in given.items()}
    values = check_values(fields, {name: value for name, (value, _) in found.items()})
    for name, check in TEXTS.items():
        if name in found:
            check(values[name], found[name][1])
    if script not in SCRIPTS:
        return RenderOptions(**values)
    if script == "train_texture":  # see WITHOUT
        values.update(texture_dim=3, view_direction=False, scale_augmentation=False)
    options = TrainOptions(**values)
    if options.view_direction and options.texture_dim < VIEW_CHANNELS:
        raise UserError(f"{found['texture_dim'][1]} {options.texture_dim}: expected at least {VIEW_CHANNELS} with "
                        "--view_direction, whose harmonics are in channels 3 to 11; raise it, or give --view_direction "
                        "False")  # fmt: skip
    return options


def numbers(
    text: str, flag: str, count: int, low: float = 0.0, below: float = math.inf, words: str = ""
) -> tuple[float, ...]:
    """'a, b' -> (a, b), finite, each `low` or more and below a limit.

    words: what an error says may be given instead. Raises: UserError.
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count or not all(math.isfinite(value) and low <= value < below for value in found):
        least = f" of {low:g} or more" if low > -math.inf else ""
        limit = f" and below {below:g}" if below < math.inf else ""
        example = ", ".join(["0.5"] * count)
        raise UserError(f'{flag}: expected {words}{count} numbers{least}{limit} with commas between: "{example}", '
                        f"got {brief(text)}")  # fmt: skip
    return found


def cache_gib(text: str, flag: str) -> float | None:
    """GiB of a --cache; None for 'auto'. Raises: UserError."""
    if text == "auto":
        return None
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0 <= size <= MAX_CACHE_GIB:
        raise UserError(f"{flag}: expected auto or a number of GiB from 0, got {brief(text)}")
    return size


# Options that are text with a form of their own -> what raises a UserError about it: value, what the error names.
TEXTS: dict[str, Callable[[str, str], Any]] = {
    "betas": lambda text, flag: numbers(text, flag, 2, below=1.0),
    "l2": lambda text, flag: None if text == AUTO else numbers(text, flag, 4, words="auto or "),
    "background_uv": parse_background,
    "cache": cache_gib,
}
