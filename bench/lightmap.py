"""Seconds and PSNR of a day of lightmaps against plain baselines, and whether each figure is as good as it has to be.

    python -m bench.lightmap [--sizes 64,256] [--large 1024] [--engines fused,torch] [--days all]

Sample scenes are made for it. 64: the small form, the large one (about 900 steps), a learned grid, and two controls
that have to fail; 256: size against PNG; --large: a whole day of that size with the fused kernels and with PyTorch;
--days: whole days with the options of the document's commands, beside PCA, block compression and blended frames.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # before torch

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import common
from common.errors import UserError, run_command
from common.files import make_folder, write_json
from lightmap.report_text import describe_report
from lightmap.sample_scene import write_day

if TYPE_CHECKING:
    from lightmap.data import Day, HalfHours

SMALL = {
    "latent_mode": "f1",
    "epochs": 5,
    "batch_size": 4096,
    "latent_dim": 16,
    "hidden_f1": 16,
    "hidden_f2": 32,
    "samples_per_epoch": 200_000,
}
LARGE = {"latent_mode": "f1", "epochs": 36, "batch_size": 4096, "samples_per_epoch": 98_304}  # 864 steps
DIRECT = {"latent_mode": "direct", "latent_dim": 8, "latent_scale": 2, "hidden_f2": 32, "layers_f2": 2, "epochs": 60,
          "batch_size": 4096, "samples_per_epoch": 98_304}  # fmt: skip
AT_256 = {"latent_mode": "f1", "epochs": 8, "batch_size": 8192, "samples_per_epoch": 1_572_864}
AT_LARGE = {"latent_mode": "f1", "epochs": 10, "batch_size": 8192, "samples_per_epoch": 1_310_720}

QUICK = {name: value for name, value in SMALL.items() if name != "latent_mode"}  # as the document has it
# Name -> width and height, format of sample_scene.py, options.
DAYS = {
    "256, quick command": (256, "png", QUICK),
    "256, quick, default form": (256, "png", {"epochs": 5, "batch_size": 4096, "samples_per_epoch": 200_000}),
    "256, defaults": (256, "png", {}),
    "1024, defaults": (1024, "png", {}),
    "512 HDR, defaults": (512, "npy", {}),
}

Gate = tuple[str, float, str, float]  # what, found, at least or at most, limit


def train_day(
    day: Day, half: HalfHours | None, values: Mapping[str, Any], engine: str = "auto", folder: Path | None = None,
    untrained_f2: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The report of one run. untrained_f2: F2's initial weights behind the trained latents, a control."""
    import torch

    from lightmap import checkpoints
    from lightmap.compressor import Compressor
    from lightmap.options import make_options
    from lightmap.summary import build_report, evaluation_sample
    from lightmap.trainer import Trainer
    from lightmap.training import choose_step

    options, cpu = make_options({**values, "engine": engine}), torch.device("cpu")
    trainer = Trainer(options, day, cpu, make_step=choose_step(engine, cpu))
    with tempfile.TemporaryDirectory() as temporary:
        trainer.train(folder or Path(temporary), quiet=True)
    model = trainer.model
    model.load_state_dict(trainer.best_state)
    if untrained_f2:
        model.f2.load_state_dict(Compressor(model.shape, torch.Generator().manual_seed(1)).f2.state_dict())
    facts = {"seconds": trainer.seconds, "steps": trainer.total, "engine": trainer.engine.name}
    sample = evaluation_sample(day, "full")
    half = half and half.only(sample.texels)
    return build_report(model.eval(), sample, half, checkpoints.describe_day(day), facts, whole=True)


def shuffled(day: Day) -> Day:
    """The same frames in another order: there is no course of the day left that could be learned."""
    import torch

    order = torch.randperm(day.n_frames, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(day, frames=day.frames[:, order].contiguous())


def small_gates(report: Mapping[str, Any]) -> list[Gate]:
    """Of the small form at 64x64."""
    mean = report["baselines"]["mean_image"]["psnr_hours"]
    found = report["psnr_hours"]
    return [("small form, hours", found, ">=", 20), ("small form, hours over mean image", found, ">=", mean + 8)]


def large_gates(report: Mapping[str, Any]) -> list[Gate]:
    """Of the large form at 64x64."""
    found, halves, simple = report["psnr_hours"], report["psnr_half_hours"], report["baselines"]
    loss = report["forms"]["latent_f32_f2"]["psnr_hours"] - report["forms"]["latent_q8_f2"]["psnr_hours"]
    return [
        ("large form, hours", found, ">=", 32),
        ("large form, hours over a Fourier series", found, ">=", simple["fourier_2"]["psnr_hours"] + 6),
        ("large form, half-hours", halves, ">=", 27),
        ("half-hours over the nearest hour", halves, ">=", simple["nearest_hour"]["psnr_half_hours"] + 3),
        ("half-hours against linear blending", halves, ">=", simple["linear_blend"]["psnr_half_hours"] - 2),
        ("loss of the 8-bit latent", loss, "<=", 0.2),
    ]


def size_gates(report: Mapping[str, Any]) -> list[Gate]:
    """Of F1 + F2 at 256x256."""
    form = report["forms"]["f1_f2"]
    return [
        ("F1 + F2, of the PNG bytes", form["of_files"], "<=", 0.25),
        ("F1 + F2, hours", form["psnr_hours"], ">=", 30),
    ]


def day_gates(name: str, report: Mapping[str, Any]) -> list[Gate]:
    """Of the default form of a whole day, which is the first one in its report."""
    form = next(iter(report["forms"].values()))
    block = report["rivals"][report["block_compressed"]]
    pca = form["pca_at_equal_bytes"]
    return [
        (f"{name}: bytes of block compression", form["memory_bytes"] / block["memory_bytes"], "<=", 1),
        (f"{name}: dB over PCA in as many bytes", form["psnr_hours"] - (pca["psnr_hours"] if pca else 0), ">=", 0),
    ]


def passed(gate: Gate) -> bool:
    _, found, relation, limit = gate
    return found >= limit if relation == ">=" else found <= limit


def line(name: str, report: Mapping[str, Any]) -> str:
    """A run for a reader."""
    half_hours = "-" if report["psnr_half_hours"] is None else f"{report['psnr_half_hours']:.2f}"
    return (
        f"{name:<28}{report['steps']:>7} steps {report['seconds']:>7.1f} s  {report['engine']:<6}"
        f"{report['psnr_hours']:>7.2f} dB hours {half_hours:>7} dB half-hours"
    )


class Runs(dict):
    """Reports by name; each is printed as it comes."""

    def __setitem__(self, name: str, report: dict[str, Any]) -> None:
        super().__setitem__(name, report)
        print(line(name, report), flush=True)


def sample_day(folder: Path, size: int, kind: str = "png") -> tuple[Day, HalfHours | None]:
    """The sample scene with its half-hours."""
    from lightmap.data import load_day, load_half_hours

    if not (folder / "half_hours" / f"tod_23.{kind}").is_file():
        write_day(folder, size, kind)
    day = load_day(folder)
    return day, load_half_hours(folder, day)


def chosen_days(text: str) -> list[str]:
    """Names of DAYS, separated by semicolons. Raises: UserError."""
    names = list(DAYS) if text == "all" else [name.strip() for name in text.split(";") if name.strip()]
    unknown = [name for name in names if name not in DAYS]
    if unknown:
        raise UserError(f"--days: expected all, or some of {'; '.join(DAYS)}, got {unknown[0]}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 1 when a gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="64,256", help="of 64 and 256, which to measure")
    parser.add_argument("--large", type=int, default=0, help="also a day of this width and height; 0: none")
    parser.add_argument("--engines", default="fused,torch", help="for --large")
    parser.add_argument("--days", default="", help=f"of {'; '.join(DAYS)}, which to measure, with semicolons "
                        "between; all: every one")  # fmt: skip
    parser.add_argument("--scenes", type=Path, default=common.RESULTS / "lightmap", help="folder for the sample scenes")
    parser.add_argument("--out", default=str(common.RESULTS), help="folder for the JSON")
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: PyTorch's choice")
    arguments = parser.parse_args(argv)
    common.use_threads(arguments.num_threads)
    chosen_days(arguments.days)
    sizes = arguments.sizes.split(",") if arguments.sizes else []
    if not set(sizes) <= {"64", "256"}:
        raise UserError(f"--sizes: expected 64, 256 or both, got {arguments.sizes}")
    runs = Runs()
    gates: list[Gate] = []
    if "64" in sizes:
        day, half = sample_day(arguments.scenes / "64", 64)
        runs["small, 64"] = train_day(day, half, SMALL)
        runs["large, 64"] = train_day(day, half, LARGE)
        runs["learned grid, 64"] = train_day(day, half, DIRECT)
        gates += small_gates(runs["small, 64"]) + large_gates(runs["large, 64"])
        runs["control: shuffled hours"] = train_day(shuffled(day), half, LARGE)
        runs["control: untrained F2"] = train_day(day, half, SMALL, untrained_f2=True)
        for name, of in (("control: shuffled hours", large_gates), ("control: untrained F2", small_gates)):
            gates.append((f"{name}, gates missed", sum(not passed(gate) for gate in of(runs[name])), ">=", 1))
    if "256" in sizes:
        runs["large, 256"] = train_day(*sample_day(arguments.scenes / "256", 256), AT_256)
        gates += size_gates(runs["large, 256"])
    if arguments.large:
        day, _ = sample_day(arguments.scenes / str(arguments.large), arguments.large)
        for engine in arguments.engines.split(","):
            report = runs[f"large, {arguments.large}, {engine}"] = train_day(day, None, AT_LARGE, engine)
            gates.append((f"{arguments.large}, {engine}, hours", report["psnr_hours"], ">=", 32))
            gates.append((f"{arguments.large}, {engine}, seconds", report["seconds"], "<=", 300))
    for name in chosen_days(arguments.days):
        size, kind, options = DAYS[name]
        report = runs[name] = train_day(*sample_day(arguments.scenes / f"{size}-{kind}", size, kind), options)
        print(describe_report(report), flush=True)
        if options is not QUICK:
            gates += day_gates(name, report)
    for gate in gates:
        what, found, relation, limit = gate
        print(f"{'ok  ' if passed(gate) else 'MISS'} {what:<44}{found:>9.3f} {relation} {limit:.3f}")
    folder = Path(arguments.out)
    make_folder(folder)
    write_json(folder / "lightmap.json", {"machine": common.machine(), "runs": runs, "gates": gates})
    print(f"written: {folder / 'lightmap.json'}")
    return 0 if all(map(passed, gates)) else 1


if __name__ == "__main__":
    sys.exit(run_command(main))
