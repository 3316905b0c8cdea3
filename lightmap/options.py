"""Every option of train.py: default, help, unit and range, from which the command line is built."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from common.knobs import OneLineParser, add_flags, check_values, knob
from configs import MAX_PIXELS, MOST_PIXELS
from lightmap.shape import LARGEST, LATENT_MODES, Shape

ENGINES = ("auto", "torch", "fused")
DEVICES = ("auto", "cpu", "cuda")
OMEGA_DIRECT = 10.0  # of F2 on a learned grid, whose initial values are larger than F1's
OMEGA_BASIS = 5.0
MOST_SAMPLES = 1 << 20  # of an epoch of latent mode basis, unless --samples_per_epoch says more
# What `0: chosen` stands for in the other latent modes.
USUAL = {"latent_dim": 32, "latent_scale": 1, "hidden_f2": 64, "layers_f2": 4}
ONLY_F1 = ("hidden_f1", "layers_f1", "time_harmonics", "omega", "time_blend")  # flags without use in latent mode basis
MOST_BYTES = 1 << 40
SUFFIXES = {"k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class TrainOptions:
    """The options of one run. Field order is the order of `--help`."""

    data_dir: str = knob("", "folder with the frames of a day; empty: the sample scene, made at first use", unit="path")
    out_dir: str = knob("outputs/lightmap", "folder that receives checkpoints, report and exports", unit="path")
    compute_latent: bool = knob(False, "write the exports when training ends")
    resume: bool = knob(False, "continue out_dir/last.ckpt with the bits of a run that was never stopped")
    overwrite: bool = knob(False, "remove the files of another run from out_dir, which is refused otherwise")
    report: str = knob("quick", "what is measured after training: a sample of the texels, all of them, or nothing",
                       choices=("quick", "full", "none"))  # fmt: skip

    bytes: str = knob("", "size that channels, resolution and network are chosen for, such as 200k or 1.5M (latent "
                      "mode basis); empty: an eighth of the frames as BC6H or BC7, a quarter for small days",
                      unit="bytes")  # fmt: skip
    target_psnr: float = knob(0.0, "instead of a size, the PSNR that the smallest form ends at, found by short runs, "
                              "and up to three whole ones where they miss; 0: go by size", unit="dB", low=0.0,
                              high=100.0)  # fmt: skip

    epochs: int = knob(200, "number of epochs", low=1, high=10**6)
    batch_size: int = knob(65536, "samples of a step; a sample is a texel at an hour", low=16, high=1 << 24)
    samples_per_epoch: int = knob(0, "samples of an epoch; 0: as many as the frames have texels, with latent "
                                  f"mode basis at most {MOST_SAMPLES}", low=0, high=1 << 40)  # fmt: skip
    lr: float = knob(1e-3, "Adam's step size at the start; it falls to 0 with a cosine", low=1e-7, high=1.0)
    lr_grid: float = knob(2e-2, "the same for a learned grid (--latent_mode direct)", low=1e-7, high=1.0)
    time_blend: bool = knob(True, "draw half of each batch between the hours; the target is the blend of two frames")
    seed: int = knob(42, "of random numbers: initial values, samples, held-out texels", low=0, high=2**31)

    latent_mode: str = knob("auto", "basis: the weights of a few basis days, refined by a sine network; f1: a network "
                            "of the position gives the latents; direct: a learned grid; auto: f1 if one of its flags "
                            f"is given ({', '.join('--' + name for name in ONLY_F1)}), else basis",
                            choices=("auto", *LATENT_MODES))  # fmt: skip
    latent_dim: int = knob(0, f"channels of the latent map; 0: {USUAL['latent_dim']}, with basis chosen for the size",
                           low=0, high=LARGEST["latent_dim"])  # fmt: skip
    latent_scale: int = knob(0, "lightmap texels along a side of a latent texel; 0: 1, with basis chosen for the size",
                             low=0, high=LARGEST["latent_scale"])  # fmt: skip
    latent_bits: int = knob(8, "bits of a latent's code, but for f1", low=1, high=LARGEST["latent_bits"])
    hidden_f1: int = knob(32, "neurons of a layer of F1", low=1, high=LARGEST["hidden_f1"])
    layers_f1: int = knob(4, "sine layers of F1", low=1, high=LARGEST["layers_f1"])
    hidden_f2: int = knob(0, f"neurons of a layer of F2; 0: {USUAL['hidden_f2']}, with basis a share of the size",
                          low=0, high=LARGEST["hidden_f2"])  # fmt: skip
    layers_f2: int = knob(0, f"sine layers of F2; 0: {USUAL['layers_f2']}, with basis 1", low=0,
                          high=LARGEST["layers_f2"])  # fmt: skip
    time_harmonics: int = knob(2, "pairs of sine and cosine of the time of day", low=1, high=LARGEST["time_harmonics"])
    omega: float = knob(30.0, "angular frequency of the sine layers", low=0.01, high=1000.0)
    omega_f2: float = knob(
        0.0,
        f"the same for F2; 0: that of --omega, {OMEGA_DIRECT:g} with direct, {OMEGA_BASIS:g} with basis",
        low=0.0,
        high=1000.0,
    )

    engine: str = knob(
        "auto", "torch, or fused: C++ kernels on the CPU; auto: fused if they can be compiled", choices=ENGINES
    )
    device: str = knob("auto", "where PyTorch trains", choices=DEVICES)
    num_threads: int = knob(0, "CPU threads; 0: all", low=0, high=1024)
    num_workers: int = knob(0, "threads that decode the image files; 0: one after the other", low=0, high=256)
    save_every: int = knob(10, "epochs from one last.ckpt to the next", unit="epochs", low=1, high=10**6)
    max_pixels: int = knob(MAX_PIXELS, "largest image to read", unit="pixels", low=1, high=MOST_PIXELS)

    def shape(self, height: int, width: int) -> Shape:
        """The model for a lightmap of this size; for latent mode basis see basis.choose_shape."""
        own = {"f1": self.omega, "direct": OMEGA_DIRECT, "basis": OMEGA_BASIS}
        names = {field.name for field in dataclasses.fields(Shape)} & set(FIELDS)
        same = {name: getattr(self, name) for name in names}
        omega_f2 = self.omega_f2 or own[self.latent_mode]
        return Shape(**{**same, "height": height, "width": width, "omega_f2": omega_f2})

    @property
    def wanted_bytes(self) -> int:
        """--bytes as a number; 0: not given."""
        return parse_size("--bytes", self.bytes)


FIELDS = {field.name: field for field in dataclasses.fields(TrainOptions)}
# Options that --resume cannot change.
FIXED = frozenset(FIELDS) - {
    "data_dir", "out_dir", "compute_latent", "resume", "overwrite", "report", "engine", "device", "num_threads",
    "num_workers", "save_every", "max_pixels",
}  # fmt: skip
KEPT = FIXED | {"engine"}  # what --resume goes on with where no flag says otherwise


def build_parser() -> argparse.ArgumentParser:
    """A parser with one flag per field. Flags that the user does not give are absent from its result."""
    about = "Compress the lightmaps of a day into a latent map and a network."
    parser = OneLineParser(prog="train.py", description=about)
    add_flags(parser, FIELDS)
    return parser


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The flags that the user gave, without defaults."""
    return vars(build_parser().parse_args(argv))


def make_options(values: Mapping[str, Any]) -> TrainOptions:
    """The defaults with `values` in their place, validated. Raises: UserError."""
    unknown = sorted(set(values) - set(FIELDS))
    if unknown:
        raise UserError(f"--{unknown[0]}: no such option")
    options = TrainOptions(**check_values(FIELDS, values))
    if options.resume and options.overwrite:
        raise UserError("--resume --overwrite: expected one of them; the one goes on with a run, the other removes it")
    if options.engine == "fused" and options.device == "cuda":
        raise UserError("--engine fused: expected --device cpu beside it, found cuda; the fused kernels run on the CPU")
    return _in_mode(options, values)


def _in_mode(options: TrainOptions, given: Mapping[str, Any]) -> TrainOptions:
    """The options with a latent mode, and for f1 and direct the sizes that it has unless others are given. With
    --resume alone the mode is that of a run that has not been read yet."""
    if options.resume and "latent_mode" not in given:
        return options
    foreign = [name for name in (*ONLY_F1, "lr_grid") if given.get(name, FIELDS[name].default) != FIELDS[name].default]
    mode = options.latent_mode
    if mode == "auto":
        mode = "f1" if any(name in given for name in ONLY_F1) else "basis"
    if mode == "basis" and foreign:
        raise UserError(f"--{foreign[0]}: latent mode basis has no use for it; leave it out, or give --latent_mode "
                        f"{'direct' if foreign[0] == 'lr_grid' else 'f1'}")  # fmt: skip
    if mode == "basis":
        if options.engine == "fused":
            raise UserError("--engine fused: latent mode basis trains with PyTorch; leave the flag out, or give "
                            "--latent_mode f1 or direct")  # fmt: skip
        if options.wanted_bytes and options.target_psnr:
            raise UserError("--bytes and --target_psnr: expected one of them, found both; the one says how large, the "
                            "other how good")  # fmt: skip
        return dataclasses.replace(options, latent_mode=mode)
    for name in ("bytes", "target_psnr"):
        if getattr(options, name):
            raise UserError(f"--{name}: expected latent mode basis, found {mode}, whose size follows from the flags of "
                            "its networks; leave it out, or give --latent_mode basis")  # fmt: skip
    sizes = {name: getattr(options, name) or usual for name, usual in USUAL.items()}
    return dataclasses.replace(options, latent_mode=mode, **sizes)


def parse_size(flag: str, text: str) -> int:
    """'1500', '200k' or '1.5M' bytes as a number; 0 for no text. Raises: UserError."""
    factor = SUFFIXES.get(text[-1:], 1)
    number = text[:-1] if factor > 1 else text
    try:
        size = round(float(number) * factor) if text else 0
    except (ValueError, OverflowError):
        size = -1
    if size < 0 or (text and not 1 <= size <= MOST_BYTES):
        raise UserError(f"{flag} {text:.40}: expected bytes such as 200000, 200k or 1.5M")
    return size
