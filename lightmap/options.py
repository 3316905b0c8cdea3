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

    epochs: int = knob(200, "number of epochs", low=1, high=10**6)
    batch_size: int = knob(65536, "samples of a step; a sample is a texel at an hour", low=16, high=1 << 24)
    samples_per_epoch: int = knob(0, "samples of an epoch; 0: as many as the frames have texels", low=0, high=1 << 40)
    lr: float = knob(1e-3, "Adam's step size at the start; it falls to 0 with a cosine", low=1e-7, high=1.0)
    lr_grid: float = knob(2e-2, "the same for a learned grid (--latent_mode direct)", low=1e-7, high=1.0)
    time_blend: bool = knob(True, "draw half of each batch between the hours; the target is the blend of two frames")
    seed: int = knob(42, "of random numbers: initial values, samples, held-out texels", low=0, high=2**31)

    latent_mode: str = knob("f1", "f1: a network gives the latents; direct: a learned grid", choices=LATENT_MODES)
    latent_dim: int = knob(32, "channels of the latent map", low=1, high=LARGEST["latent_dim"])
    latent_scale: int = knob(1, "lightmap texels along a side of a latent texel", low=1, high=LARGEST["latent_scale"])
    latent_bits: int = knob(8, "bits of a learned grid's codes", low=1, high=LARGEST["latent_bits"])
    hidden_f1: int = knob(32, "neurons of a layer of F1", low=1, high=LARGEST["hidden_f1"])
    layers_f1: int = knob(4, "sine layers of F1", low=1, high=LARGEST["layers_f1"])
    hidden_f2: int = knob(64, "neurons of a layer of F2", low=1, high=LARGEST["hidden_f2"])
    layers_f2: int = knob(4, "sine layers of F2", low=1, high=LARGEST["layers_f2"])
    time_harmonics: int = knob(2, "pairs of sine and cosine of the time of day", low=1, high=LARGEST["time_harmonics"])
    omega: float = knob(30.0, "angular frequency of the sine layers", low=0.01, high=1000.0)
    omega_f2: float = knob(
        0.0, f"the same for F2; 0: that of --omega, {OMEGA_DIRECT:g} with --latent_mode direct", low=0.0, high=1000.0
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
        """The model for a lightmap of this size."""
        omega_f2 = self.omega_f2 or (self.omega if self.latent_mode == "f1" else OMEGA_DIRECT)
        own = {field.name for field in dataclasses.fields(TrainOptions)}
        same = {field.name: getattr(self, field.name) for field in dataclasses.fields(Shape) if field.name in own}
        return Shape(**{**same, "height": height, "width": width, "omega_f2": omega_f2})


FIELDS = {field.name: field for field in dataclasses.fields(TrainOptions)}
# Options that --resume cannot change.
FIXED = frozenset(FIELDS) - {
    "data_dir", "out_dir", "compute_latent", "resume", "overwrite", "report", "engine", "device", "num_threads",
    "num_workers", "save_every", "max_pixels",
}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """A parser with one flag per field. Flags that the user does not give are absent from its result."""
    parser = OneLineParser(prog="train.py", description="Compress the lightmaps of a day into two small networks.")
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
    return options
