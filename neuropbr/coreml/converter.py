"""Convert a trained student to a Core ML package (iOS 17), and beside it to ONNX.

    python3 coreml/converter.py checkpoints/best_student.pth --output mobile_app/ios/pbr_model.mlpackage
    python3 coreml/converter.py checkpoints/best_student.pth --output pbr_model.onnx

The suffix of --output says which; --onnx FILE writes ONNX as well. Conversion to Core ML needs coremltools
(requirements/neuropbr-coreml.txt) and runs on macOS and Linux; prediction needs macOS.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[2])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from common.errors import UserError, quote, run_command, what_is_wrong
from common.events import readable_bytes
from common.files import make_folder, write_bytes
from common.knobs import HomeParser
from neuropbr.coreml.wrapper import INPUTS, OUTPUTS, ImageModel, mobile_model
from neuropbr.utils.checkpoints import load_generator
from neuropbr.utils.maps import MAPS

WARN_BYTES = 15 * 2**20  # bytes of a package, which a phone loads at every start of the app
EXTRA = "pip install -r requirements/neuropbr-coreml.txt"
CONST_LIMIT = "1e6"  # values; larger constants stay expressions


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of student/train.py (or of train.py)")
    parser.add_argument("--output", default="pbr_model.mlpackage", help=".mlpackage, or .onnx")
    parser.add_argument("--onnx", help="write this ONNX file too")
    parser.add_argument("--no-fp16", action="store_true", help="float32 weights and arithmetic")
    parser.add_argument("--palettization", action="store_true", help="cluster the weights to 8-bit palettes")
    parser.add_argument("--test-resolution", type=int, help="side of the input, pixels; without the SR head")
    parser.add_argument("--use-sr", action="store_true", help="keep the SR head with --test-resolution")
    options = parser.parse_args(argv)
    side = options.test_resolution
    if side is not None and not 32 <= side <= 4096:
        raise UserError(f"--test-resolution: expected 32 to 4096 pixels, found {side}")
    if options.use_sr and side is None:
        raise UserError("--use-sr: expected --test-resolution with it, found none; without it the head is kept anyway")
    if Path(options.output).suffix not in (".mlpackage", ".onnx"):
        raise UserError(f"--output: expected a name that ends in .mlpackage or .onnx, found {quote(options.output)}")
    if Path(options.output).suffix == ".onnx" and (options.no_fp16 or options.palettization):
        raise UserError("--no-fp16 and --palettization: expected a .mlpackage, found ONNX, which is float32 as trained")
    return options


def import_coremltools() -> Any:
    try:
        import coremltools
    except ImportError as error:
        raise UserError(f"conversion to Core ML needs coremltools, which is not installed; {EXTRA}") from error
    except Exception as error:  # with a numpy or scikit-learn that it does not support
        raise UserError(f"coremltools cannot be imported ({what_is_wrong(error)}); {EXTRA}") from error
    return coremltools


def example_views(side: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(1, 3, side, side, generator=generator) * 255 for _ in INPUTS)


def to_coreml(wrapper: ImageModel, side: int, fp16: bool, palettized: bool) -> Any:
    """The ML program, from three colour images to two colour and two grey images. Raises: UserError."""
    ct = import_coremltools()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns that sizes become constants, as intended
        traced = torch.jit.trace(wrapper, example_views(side), check_trace=False)
    layouts = {3: ct.colorlayout.RGB, 1: ct.colorlayout.GRAYSCALE}
    passes = ct.PassPipeline.DEFAULT
    passes.set_options("common::const_elimination", {"skip_const_by_size": CONST_LIMIT})
    passes.append_pass("common::dead_code_elimination")
    try:
        package = ct.convert(
            traced, convert_to="mlprogram", pass_pipeline=passes,
            inputs=[ct.ImageType(name=name, shape=(1, 3, side, side), color_layout=layouts[3]) for name in INPUTS],
            outputs=[ct.ImageType(name=name, color_layout=layouts[MAPS[name]]) for name in OUTPUTS],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT16 if fp16 else ct.precision.FLOAT32,
        )  # fmt: skip
        if palettized:
            opt = ct.optimize.coreml
            settings = opt.OptimizationConfig(global_config=opt.OpPalettizerConfig(mode="kmeans", nbits=8))
            package = opt.palettize_weights(package, settings)
    except Exception as error:  # its passes and scikit-learn can raise any exception
        raise UserError(
            f"coremltools: the conversion failed ({what_is_wrong(error)}); {EXTRA} has tested versions"
        ) from error
    package.short_description = "Three views of a material to albedo, roughness, metallic and normal maps"
    return package


def save_package(package: Any, path: Path) -> int:
    """Write a .mlpackage (a folder), and replace an earlier one only when it is complete. Returns: its bytes."""
    make_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix=".staged.", suffix=".tmp", dir=path.parent) as stage:
        staged = Path(stage) / path.name
        package.save(str(staged))
        if path.is_dir():
            path.rename(Path(stage) / "earlier")  # deleted with the stage
        staged.rename(path)
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())


def to_onnx(wrapper: ImageModel, side: int, path: Path) -> int:
    """Write float32 ONNX with the same names and ranges. Returns: its bytes. Raises: UserError without onnx."""
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            "conversion to ONNX needs onnx, which is not installed; pip install -r requirements/neuropbr.txt"
        ) from error
    make_folder(path.parent)
    with tempfile.TemporaryDirectory() as stage, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        staged = Path(stage) / "model.onnx"
        torch.onnx.export(wrapper, example_views(side), str(staged), input_names=list(INPUTS),
                          output_names=list(OUTPUTS), opset_version=17, dynamo=False)  # fmt: skip
        onnx.checker.check_model(str(staged))
        write_bytes(path, staged.read_bytes())
    return path.stat().st_size


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    output = Path(options.output)
    if output.suffix == ".mlpackage":
        import_coremltools()  # before any work
    model, config = load_generator(options.checkpoint)
    wrapper, side = mobile_model(model, config, options.test_resolution, options.use_sr)
    with torch.no_grad():
        result = wrapper(*example_views(side))[0]
    print(f"{config.model.encoder_backbone}, {config.model.bottleneck}: {side}x{side} in, "
          f"{result.shape[-1]}x{result.shape[-2]} out")  # fmt: skip
    written = []
    if options.onnx or output.suffix == ".onnx":
        path = Path(options.onnx or output)
        written.append((path, to_onnx(wrapper, side, path)))
    if output.suffix == ".mlpackage":
        package = to_coreml(wrapper, side, not options.no_fp16, options.palettization)
        written.append((output, save_package(package, output)))
    for path, size in written:
        print(f"{quote(path)}: {readable_bytes(size)}")
        if path.suffix == ".mlpackage" and size > WARN_BYTES:
            print(
                f"more than {readable_bytes(WARN_BYTES)}: leave --no-fp16 out, or use --palettization", file=sys.stderr
            )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
