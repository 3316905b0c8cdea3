"""A network for phones as a Core ML package and as ONNX."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError, what_is_wrong
from common.files import make_folder, write_bytes
from neuropbr.coreml.wrapper import INPUTS, OUTPUTS, ImageModel
from neuropbr.utils.maps import MAPS

EXTRA = "pip install -r requirements/neuropbr-coreml.txt"
CONST_LIMIT = "1e6"  # values; larger constants stay expressions


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
