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
from collections.abc import Sequence

import numpy as np
from PIL import Image as PillowImage

from common.errors import UserError, quote, run_command, what_is_wrong
from common.files import make_folder
from common.knobs import HomeParser

SUFFIXES = (".png", ".jpg", ".jpeg")
FINAL_SIDE = 2048  # pixels, to which an app on a phone scales the maps


def read_pictures(folder: Path, side: int) -> list[np.ndarray]:
    """The first three pictures by name, (side, side, 3) uint8 each."""
    from neuropbr.utils.inference import three_pictures
    from neuropbr.utils.maps import pixels_of, read_rgb

    pictures = [read_rgb(path, (side, side)) for path in three_pictures(folder, SUFFIXES, exactly=False)]
    return [pixels_of(picture) for picture in pictures]


def predict_onnx(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """name -> (h, w, C) in 0..255. Raises: UserError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("running ONNX needs onnxruntime, which is not installed; "
                        "pip install -r requirements/neuropbr.txt") from error  # fmt: skip
    from neuropbr.coreml.wrapper import INPUTS, OUTPUTS

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        side = session.get_inputs()[0].shape[2]
        pictures = read_pictures(folder, side)
        feed = {name: picture.transpose(2, 0, 1)[None].astype(np.float32) for name, picture in zip(INPUTS, pictures)}
        results = session.run(list(OUTPUTS), feed)
    except UserError:
        raise
    except Exception as error:  # its exceptions share no base class
        raise UserError(f"{quote(path)}: expected ONNX of coreml/converter.py, found {what_is_wrong(error)}") from error
    return {name: values[0].transpose(1, 2, 0) for name, values in zip(OUTPUTS, results)}


def predict_coreml(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """name -> (h, w, C) in 0..255. Raises: UserError, on Linux in any case."""
    if sys.platform != "darwin":
        raise UserError(f"{quote(path)}: prediction with Core ML needs macOS; convert to .onnx to run the model here")
    from neuropbr.coreml.convert import import_coremltools
    from neuropbr.coreml.wrapper import INPUTS, OUTPUTS

    model = import_coremltools().models.MLModel(str(path))
    side = model.get_spec().description.input[0].type.imageType.width
    feed = {name: PillowImage.fromarray(picture) for name, picture in zip(INPUTS, read_pictures(folder, side))}
    results = model.predict(feed)
    arrays = {name: np.asarray(results[name], np.float32) for name in OUTPUTS}
    return {name: values[..., None] if values.ndim == 2 else values[..., :3] for name, values in arrays.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=".mlpackage or .onnx")
    parser.add_argument("--input", required=True, help="folder with at least three PNG or JPEG files")
    parser.add_argument("--output", default="coreml_output", help="receives the maps")
    parser.add_argument("--size", type=int, default=FINAL_SIDE, help="side of the maps, by Lanczos; 0: the model's own")
    options = parser.parse_args(argv)
    if not 0 <= options.size <= 16384:
        raise UserError(f"--size: expected 0 to 16384 pixels, found {options.size}")
    path, out = Path(options.model), Path(options.output)
    if not path.exists():
        raise UserError(f"{quote(path)}: expected a .mlpackage or .onnx of coreml/converter.py, found none")
    if path.suffix not in (".onnx", ".mlpackage"):
        raise UserError(f"{quote(path)}: expected a name that ends in .mlpackage or .onnx; convert to NAME.onnx")
    import torch

    from neuropbr.utils.maps import write_picture

    predict = predict_onnx if path.suffix == ".onnx" else predict_coreml
    maps = predict(path, Path(options.input))
    make_folder(out)
    for name, values in maps.items():
        pixels = (values.clip(0, 255) + 0.5).astype(np.uint8)
        picture = PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        if options.size:
            picture = picture.resize((options.size, options.size), PillowImage.Resampling.LANCZOS)
        array = np.asarray(picture, np.float32).reshape(picture.height, picture.width, -1) / 255
        write_picture(out / f"{name}.png", torch.from_numpy(array).permute(2, 0, 1))
    print(f"{', '.join(maps)} of {picture.width}x{picture.height}: {quote(out)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
