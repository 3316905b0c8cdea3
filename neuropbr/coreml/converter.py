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
from collections.abc import Sequence

from common.errors import UserError, quote, run_command
from common.events import readable_bytes
from common.knobs import HomeParser

WARN_BYTES = 15 * 2**20  # bytes of a package, which a phone loads at every start of the app


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


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    import torch

    from neuropbr.coreml.convert import example_views, import_coremltools, save_package, to_coreml, to_onnx
    from neuropbr.coreml.wrapper import mobile_model
    from neuropbr.utils.checkpoints import load_generator

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
    sys.exit(run_command(main, less_memory="give a smaller --test-resolution"))
