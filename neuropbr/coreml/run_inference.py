"""Maps from three pictures by a converted model: a .mlpackage (macOS), or a .onnx (anywhere).

python3 coreml/run_inference.py pbr_model.mlpackage --input folder_with_3_images --output inference_results
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[2])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image as PillowImage

from common.errors import UserError, quote, run_command, what_is_wrong
from common.knobs import HomeParser
from neuropbr.utils.cli import MOST_SIZE, add_photograph_options

FINAL_SIDE = 2048  # pixels, to which an app on a phone scales the maps

if TYPE_CHECKING:
    import torch


class Converted(NamedTuple):
    """A converted model: its input's side, and name -> (h, w, C) in 0..255 of three (side, side, 3) uint8 pictures."""

    side: int
    run: Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]


@contextlib.contextmanager
def errors_of_onnx(path: Path) -> Iterator[None]:
    """Make UserErrors of onnxruntime's exceptions, which share no base class."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{quote(path)}: expected ONNX of coreml/converter.py, found {what_is_wrong(error)}") from error


def open_onnx(path: Path) -> Converted:
    """Raises: UserError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("running ONNX needs onnxruntime, which is not installed; "
                        "pip install -r requirements/neuropbr.txt") from error  # fmt: skip
    from neuropbr.coreml.wrapper import INPUTS, OUTPUTS

    def run(pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        feed = {name: picture.transpose(2, 0, 1)[None].astype(np.float32) for name, picture in zip(INPUTS, pictures)}
        with errors_of_onnx(path):
            results = session.run(list(OUTPUTS), feed)
        return {name: values[0].transpose(1, 2, 0) for name, values in zip(OUTPUTS, results)}

    with errors_of_onnx(path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return Converted(session.get_inputs()[0].shape[2], run)


def open_coreml(path: Path) -> Converted:
    """Raises: UserError, on Linux in any case."""
    if sys.platform != "darwin":
        raise UserError(f"{quote(path)}: prediction with Core ML needs macOS; convert to .onnx to run the model here")
    from neuropbr.coreml.convert import import_coremltools
    from neuropbr.coreml.wrapper import INPUTS, OUTPUTS

    model = import_coremltools().models.MLModel(str(path))

    def run(pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        results = model.predict({name: PillowImage.fromarray(picture) for name, picture in zip(INPUTS, pictures)})
        arrays = {name: np.asarray(results[name], np.float32) for name in OUTPUTS}
        return {name: values[..., None] if values.ndim == 2 else values[..., :3] for name, values in arrays.items()}

    return Converted(model.get_spec().description.input[0].type.imageType.width, run)


def predictor(model: Converted) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """`model` as a function of views in [0, 1], see utils.tiles; it takes one sample at a time."""
    import torch

    from neuropbr.utils.maps import pixels_of

    def predict(views: torch.Tensor) -> dict[str, torch.Tensor]:
        results = [model.run([pixels_of(view) for view in sample]) for sample in views]
        maps = {name: torch.from_numpy(np.stack([result[name] for result in results])).permute(0, 3, 1, 2) / 255
                for name in results[0]}  # fmt: skip
        return {**maps, "normal": 2 * maps["normal"] - 1}

    return predict


def scaled(maps: dict[str, torch.Tensor], longer: int) -> dict[str, torch.Tensor]:
    """Pictures (C, h, w) of maps as 8 bits, scaled by Lanczos until their longer side is `longer`."""
    import torch

    from neuropbr.utils.maps import as_picture, pixels_of

    pictures = {}
    for name, values in maps.items():
        pixels = pixels_of(as_picture(name, values))
        picture = PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        size = [max(1, round(side * longer / max(picture.size))) for side in picture.size]
        array = np.asarray(picture.resize(size, PillowImage.Resampling.LANCZOS), np.float32)
        pictures[name] = torch.from_numpy(array.reshape(size[1], size[0], -1) / 255).permute(2, 0, 1)
    return pictures


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=".mlpackage or .onnx")
    parser.add_argument("--input", required=True, help="folder with three photographs (JPEG, PNG, WebP, TIFF, HEIC)")
    parser.add_argument("--output", default="coreml_output", help="receives the maps")
    parser.add_argument("--size", type=int, default=FINAL_SIDE,
                        help="longer side of the maps, by Lanczos; 0: the model's own")  # fmt: skip
    parser.add_argument("--tiles", action="store_true", help="predict at --size, in tiles, instead of scaling")
    add_photograph_options(parser)
    options = parser.parse_args(argv)
    if not 0 <= options.size <= 16384:
        raise UserError(f"--size: expected 0 to 16384 pixels, found {options.size}")
    if options.tiles and not 0 < options.size <= MOST_SIZE:
        raise UserError(f"--tiles: expected --size 1 to {MOST_SIZE}, found {options.size}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    path, out = Path(options.model), Path(options.output)
    if not path.exists():
        raise UserError(f"{quote(path)}: expected a .mlpackage or .onnx of coreml/converter.py, found none")
    if path.suffix not in (".onnx", ".mlpackage"):
        raise UserError(f"{quote(path)}: expected a name that ends in .mlpackage or .onnx; convert to NAME.onnx")
    from neuropbr.utils.inference import predict_fitted
    from neuropbr.utils.maps import write_pictures
    from neuropbr.utils.photographs import read_photograph, three_pictures

    model = open_onnx(path) if path.suffix == ".onnx" else open_coreml(path)
    predict = predictor(model)
    pictures = [read_photograph(picture) for picture in three_pictures(Path(options.input))]
    tile = (model.side, model.side)
    _, maps = predict_fitted(predict, pictures, tile, options.fit, options.size if options.tiles else 0)
    own = max(maps["albedo"].shape[-2:])
    pictures = scaled(maps, options.size or own)
    write_pictures(out, pictures)
    height, width = pictures["albedo"].shape[-2:]
    print(f"{', '.join(pictures)} of {width}x{height}: {quote(out)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="give a smaller --size"))
