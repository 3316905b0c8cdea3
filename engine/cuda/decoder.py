"""Decoding with the Triton kernels: whole LODs for evaluation and export, single samples, and gradients at samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchtyping import TensorType

from engine.cuda.blocks.launches import gradient_launch
from engine.cuda.buffers import allocate_grids
from engine.cuda.library import Launch, check_device, failures, interpreted, load
from engine.cuda.plan import BETWEEN_LODS, CENTRES, KernelPlan, stacked_units
from engine.errors import KernelsUnavailable
from engine.flat_weights import flat_exported_weights, split_weights
from model import NeuralTexture, texel_centres
from quantize import _to_int32
from shape import PADDED_OUTPUTS

Positions = TensorType["n", 2]
Scalars = TensorType["n"]
Decoded = TensorType["n", "channels"]
DecodedImage = TensorType["height", "width", "channels"]

DECODE_BLOCK = 64  # samples of a program
DECODE_WARPS = 4
EXACT = "tf32x3"  # three tf32 products, nearly float32, all in registers; float32 products spill 2400 bytes of stack
CHECKED, DECODE_TOLERANCE = 1024, 1e-4  # texels, and difference relative to their norm; about 1e-6 is expected
TEXELS_AT_A_TIME = 1 << 22  # 180 MB of decoded values on the GPU


class Decoding:
    """A model as the decode kernel reads it: grids in place, weights packed.

    Raises: KernelsUnavailable.
    """

    def __init__(self, model: NeuralTexture, precision: str = EXACT, runs_here: bool = True):
        device = model.weights[0].device
        if runs_here:
            check_device(device)
        self.model, self.device, self.plan = model, device, KernelPlan(model, precision=precision)
        nothing = torch.zeros(1, dtype=torch.int32, device=device)
        self.arguments = {
            "weights": self.plan.pack(flat_exported_weights(model)),
            "activations": self.plan.activations(rounded=True),
            "columns": self.plan.columns.to(device),
            "parameters": tuple(self._stacked(stack) for stack in self.plan.stacks),
            "stamps": (nothing,) * len(self.plan.stacks),
            "distance": (nothing.float(),) * len(self.plan.stacks),
            "levels": self.plan.lod_levels().to(device),
        }

    def _stacked(self, stack: range) -> torch.Tensor:
        """Parameters of the grids of a stack; of one grid those of the model itself."""
        parts = [self.model.grid_parameters[index].detach() for index in stack]
        if len(parts) == 1:
            return parts[0]
        grid = self.model.grids[stack[0]]
        memory = parts[0].new_zeros(len(parts), stacked_units(grid), grid.unit_parameters)
        for place, part in zip(memory, parts):
            place[: grid.n_units].copy_(part.view(grid.n_units, grid.unit_parameters))
        return memory

    def launch(
        self, count: int, out: Decoded, first: int = 0, lod: int = 0, width: int = 1, height: int = 1,
        uv: Positions | None = None, lods: Scalars | None = None, blended: bool = False,
    ) -> Launch:  # fmt: skip
        """The launch that decodes texels `first` .. `first` + `count` of an image of one LOD, or samples.

        Args:
            out: (count, channels), on the device.
            uv, lods: samples instead of texels; LODs are whole unless `blended`.
        """
        given = uv is not None
        arguments = {
            "first": first, "count": count, "lod": lod, "width": width, "height": height,
            "samples_uv": uv if given else out, "samples_lod": lods if given else out, "out": out, **self.arguments,
        }  # fmt: skip
        constants = {"GIVEN": given, "BLENDED": blended, "BLOCK": DECODE_BLOCK, **self.plan.constants,
                     "PRECISION": kernel_precision(self.plan.precision), "CHANNELS": out.shape[1]}  # fmt: skip
        grid = (-(-count // DECODE_BLOCK),)
        return Launch(load().kernels.decode_kernel, grid, arguments, constants, {"num_warps": DECODE_WARPS})


def _check_exact(model: NeuralTexture) -> None:
    """Raise KernelsUnavailable for a network in whole numbers: decoded values are those of quantized.network, which
    PyTorch gives, where training may be a step off."""
    if model.activation_bits == 8:
        raise KernelsUnavailable("the GPU kernels do not decode networks in whole numbers; PyTorch does")


def decode_lod(
    model: NeuralTexture, lod: int, width: int, height: int, rows: slice = slice(None), precision: str = EXACT
) -> DecodedImage:
    """One LOD at its texel centres: what model.NeuralTexture.decode gives to float tolerance.

    Returns: (height, width, channels) float32 on the CPU, not clamped.
    Raises: KernelsUnavailable.
    """
    _check_exact(model)
    first, last, _ = rows.indices(height)
    image = torch.empty((last - first) * width, model.decoder.outputs)
    decoding = Decoding(model, precision)
    for start in range(0, len(image), TEXELS_AT_A_TIME):
        count = min(TEXELS_AT_A_TIME, len(image) - start)
        out = torch.empty(count, model.decoder.outputs, device=decoding.device)
        decoding.launch(count, out, first * width + start, lod, width, height)()
        image[start : start + count] = out.cpu()
    image = image.view(last - first, width, model.decoder.outputs)
    model.set_constants(image)
    return image


def decode_checked(
    model: NeuralTexture, lod: int, width: int, height: int, rows: slice = slice(None)
) -> DecodedImage:  # fmt: skip
    """decode_lod, whose first image for a model of this shape is compared with PyTorch at CHECKED texels.

    Raises: KernelsUnavailable, also where Triton fails, and then for every image of a model of this shape.
    """
    key = (str(model.weights[0].device), repr(KernelPlan(model).constants))
    if _checked.get(key):
        raise KernelsUnavailable(_checked[key])
    try:
        with failures():
            image = decode_lod(model, lod, width, height, rows=rows)
            if key not in _checked:
                _compare(model, image, lod, width, height, rows.indices(height)[0])
    except KernelsUnavailable as error:
        _checked[key] = str(error)
        raise
    except torch.cuda.OutOfMemoryError as error:  # not remembered: PyTorch decodes in smaller pieces instead
        raise KernelsUnavailable("no memory to decode on the GPU") from error
    _checked[key] = ""
    return image


_checked: dict[tuple[str, str], str] = {}  # by device and shape: why the kernels cannot decode it, "" if they can


def _compare(model: NeuralTexture, image: DecodedImage, lod: int, width: int, height: int, first_row: int) -> None:
    found = image.view(-1, image.shape[-1])
    texel = torch.linspace(0, len(found) - 1, min(CHECKED, len(found)), dtype=torch.float64).long()
    with torch.no_grad():
        at = (texel + first_row * width).to(model.weights[0].device)
        wanted = model(texel_centres(at, width, height), torch.full_like(at, lod)).cpu()
    apart = float((found[texel] - wanted).norm()) / max(float(wanted.norm()), 1e-20)
    if not apart <= DECODE_TOLERANCE:
        raise KernelsUnavailable(f"the GPU kernels failed their self-check: decoded values differ by {apart:.1e}")


def decode_samples(model: NeuralTexture, uv: Positions, lod: Scalars, precision: str = EXACT) -> Decoded:
    """Decode at any positions and (fractional) LODs: model.NeuralTexture.forward on the kernels.

    Raises: KernelsUnavailable.
    """
    _check_exact(model)
    decoding = Decoding(model, precision)
    uv, lod = uv.to(decoding.device).float().contiguous(), lod.to(decoding.device).float().contiguous()

    def decode(lods: Scalars, blended: bool) -> Decoded:
        out = torch.empty(len(uv), model.decoder.outputs, device=decoding.device)
        decoding.launch(len(uv), out, uv=uv, lods=lods, blended=blended)()
        return out

    if any(grid.interpolation == "learned" for grid in model.grids):  # two decoded results are blended
        lower = lod.floor().clamp(0, model.num_lods - 1)
        upper = (lower + 1).clamp(max=model.num_lods - 1)
        out = torch.lerp(decode(lower, False), decode(upper, False), (lod - lower).clamp(0, 1)[:, None])
    else:
        out = decode(lod, True)
    model.set_constants(out)
    return out


def differentiate(
    model: NeuralTexture, uv: Positions, lod: Scalars, upstream: Decoded, strength: float = 0.0, seed: int = 0,
    iteration: int = 0, precision: str = "ieee", fixed_point: float = 0.0, in_memory: bool | None = None,
    block: int = 64, programs: int = 3, moves: Sequence[bool] | None = None,
) -> tuple[Decoded, list[torch.Tensor], list[torch.Tensor]]:  # fmt: skip
    """Forward and backward of the training kernel at given samples.

    Args:
        lod: (n,) LODs of the model: integers, or floats, which may be fractional, of a model without learned grids.
        upstream: (n, channels) derivative of a loss by each decoded channel.
        strength, seed, iteration: of the training noise.
        precision, fixed_point, moves: see KernelPlan.
        in_memory: whether the weights' gradients are summed in memory; None: as in training.
        block, programs: samples that a program computes together, and programs.
    Returns: decoded (n, channels), gradients of the weights as in model.weights, gradients of the grids.
    Raises: KernelsUnavailable.
    """
    device = model.weights[0].device
    plan = KernelPlan(model, moves=tuple(moves) if moves else None, precision=precision, fixed_point=fixed_point)
    decoding, n, between = Decoding(model, precision), len(uv), lod.is_floating_point()
    padded = torch.zeros(n, PADDED_OUTPUTS, device=device)
    padded[:, : upstream.shape[1]] = upstream
    out = torch.zeros(n, PADDED_OUTPUTS, device=device)
    nowhere = torch.zeros(len(model.grids), 1, device=device)
    grids, stacked = allocate_grids(plan, device, nowhere, nowhere)
    for grid, parameters in zip(grids, model.grid_parameters):
        grid.load(iteration, parameters.detach(), None)
    partials = torch.full((programs, plan.size), float("nan"), device=device)
    nothing = torch.zeros(1, dtype=torch.int32, device=device)
    progress = torch.tensor([iteration, 0, _to_int32(seed)], dtype=torch.int32, device=device)
    arguments = {
        "progress": progress, "table": torch.tensor([[0.0, strength, 0.0]], device=device), "batch": n,
        "boundaries": nothing, "lod_sizes": nothing, "lod_offsets": nothing, "codes8": nothing, "codes16": nothing,
        "target_columns": nothing, "channel_weights": nothing, "light": nothing,
        "given_uv": uv.float().contiguous(),
        "given_lod": lod.to(torch.float32 if between else torch.int32).contiguous(), "given_upstream": padded,
        "given_out": out, **decoding.arguments, **stacked, "weights": plan.pack(flat_exported_weights(model)),
        "partials": partials, "losses": torch.zeros(programs, device=device),
    }  # fmt: skip
    constants = {
        "MODE": "given", "TABLE": 3, "BLOCK": block, "COLUMNS8": 0, "COLUMNS16": 0, **plan.constants, "SIZE": plan.size,
        "IN_MEMORY": plan.in_memory if in_memory is None else in_memory, "FIXED_POINT": fixed_point,
        "PRECISION": kernel_precision(precision), "POSITIONS": (BETWEEN_LODS if between else CENTRES).constant,
        "COVERAGE": -1, "LIGHT": False,
    }  # fmt: skip
    used = min(programs, -(-n // block))
    Launch(load().kernels.step_kernel, (used,), arguments, constants, {"num_warps": 4})()
    of_weights = split_weights(plan.unpack_gradient(partials[:used].sum(dim=0)), model)
    names = ("progress", "table", "boundaries", "lod_sizes", "lod_offsets", "levels")
    for index, grid in enumerate(grids):
        if grid.grid.compressed:
            gradient_launch(index, grid, {name: arguments[name] for name in names}, model.quantized)()
    return out[:, : model.decoder.outputs], of_weights, [grid.float_gradient() for grid in grids]


def kernel_precision(precision: str) -> str:
    """The kernels' PRECISION constant; Triton's interpreter cannot multiply bfloat16 and rounds to it instead."""
    return "bf16_emulated" if precision == "bf16" and interpreted() else precision
