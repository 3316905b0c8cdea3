"""TcnnEngine: the reference form on tiny-cuda-nn's grid encoding and networks (tinycudann, an optional package).

It relies on these facts about tiny-cuda-nn 1.7 and 2.0, given in its terms and with its files:

- Grid of type Dense with one level (encodings/grid.h, common_device.h). `base_resolution` V counts vertices: scale =
  V - 1, position = fma(scale, x, 0.5), cell = floor(position). Entry (i, j), i along the first coordinate, lies at
  i + j*V, its features together; the number of entries is rounded up to a multiple of 8. Apart from those additional
  entries, one of our levels is bit for bit one of tiny-cuda-nn's.
- It does not address with repeat: an index beyond the last column is the first entry of the next row, one before the
  first column the end of the row above. A grid here therefore has V = R + 1 vertices per axis: the first column and row
  of our level are repeated at the far side, and positions below 0 are moved by a period. Texel centres are vertices,
  position = uv*R - 0.5, so x = (uv*R - 1) / (V - 1).
- TriangleWave (encodings/triangle_wave.h): all frequencies of u, then those of v; value and phase as in
  model.triangle_waves.
- Network (network_with_input_encoding.h): inputs are padded with ones, outputs with unused rows, both to multiples of
  16; matrices one after the other, each row by row, [outputs, inputs]. LeakyReLU has the slope 0.01.
  FullyFusedMLP supports four widths and needs a hidden layer; CutlassMLP takes any.
- Parameters and gradients have the precision of the module, for networks half precision on GPUs with tensor cores.

Our parameters stay float32 and in our layout. Every iteration applies noise and rounding as the reference does, then
converts the result to tiny-cuda-nn's layout; gradients take the way back. Checkpoints are those of any other engine.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torchtyping import TensorType

from common.errors import UserError, one_line
from dataset import Material
from engine.sampling import Indices, Positions
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from model import Decoded, GridLevel, NeuralTexture, Noise, sawtooth_waves
from shape import PADDED_OUTPUTS, aligned

PACKAGE = "tinycudann"
INSTALL = "pip install git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch"
OTHERWISE = "or use --engine auto"
DEVICES = ("cuda",)
FEATURES = (1, 2, 4, 8)  # per entry, grid.h
FUSED_WIDTHS = (16, 32, 64, 128)  # network.cu
ENTRIES_ALIGNED = 8  # grid.h
# The loss is scaled up, since gradients of one sample in a batch of thousands are too small for half precision. The
# factor grows until something overflows; then that iteration is skipped and the factor halved.
FIRST_LOSS_SCALE = 2.0**10
LOSS_SCALE_GROWTH_INTERVAL = 1000  # iterations
LOSS_SCALE_RANGE = (2.0**-24, 2.0**48)  # plausible in a saved state

Entries = TensorType["entries"]
Coordinates = TensorType["n", 2]
Inputs = TensorType["n", "inputs"]


class TcnnEngine(TorchEngine):
    """Trains a NeuralTexture on a Material with samples, noise, loss and optimiser of TorchEngine.

    Raises: UserError when tinycudann is missing, the model is not on a GPU, or its shape is not supported.
    """

    name = "tcnn"

    def __init__(self, model: NeuralTexture, material: Material, schedule: Schedule):
        self._tcnn, device = load_tinycudann(), model.weights[0].device
        if device.type not in DEVICES:
            raise UserError(f"--engine tcnn: expected --device cuda, found {device}; tiny-cuda-nn runs on NVIDIA GPUs "
                            f"alone: use --device cuda, {OTHERWISE}")  # fmt: skip
        check_model(model)
        positions = schedule.config.positions
        if positions != "centres":
            raise UserError(f"--engine tcnn: expected --positions centres, found {positions}; {OTHERWISE}")
        super().__init__(model, material, schedule)
        with self._on_device():
            self._levels = [
                [grid_encoding(self._tcnn, grid.level_size(level)[0], grid.features) for level in range(grid.n_levels)]
                for grid in model.grids
            ]
            self._waves = wave_encoding(self._tcnn, model.decoder.n_frequencies)
            self._network = decoder_network(self._tcnn, model)
        half = self._network.dtype == torch.float16
        self._scaler = loss_scaler(device, FIRST_LOSS_SCALE, enabled=half)

    def _on_device(self) -> contextlib.AbstractContextManager:
        """Makes the model's device CUDA's current one, on which tiny-cuda-nn allocates."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext()

    # --- forward ---------------------------------------------------------------------------------------------------

    def _decode(self, uv: Positions, lod: Indices, noise: Noise | None, rounded: bool) -> Decoded:
        """NeuralTexture.forward for whole LODs, without constant channels, in the precision of tiny-cuda-nn's network.

        Samples are sorted by LOD, so that those that read one level of a grid are adjacent.
        """
        model = self.model
        order = torch.argsort(lod, stable=True)
        counts = torch.bincount(lod, minlength=model.num_lods).tolist()
        uv, lod = uv[order], lod[order]
        uv = uv - uv.floor()
        with self._on_device():
            parts = [] if self._waves is None else [self._waves(uv)]
            parts += [self._features(index, uv, counts, noise) for index in range(len(model.grids))]
            parts.append((lod.to(torch.float32) / max(model.num_lods - 1, 1))[:, None])
            if model.layout.texel_waves:
                parts += self._texel_waves(uv, lod)
            weights = torch.cat([w.reshape(-1) for w in (model.exported_weights() if rounded else model.weights)])
            decoded = functional_call(self._network, {"params": weights}, (torch.cat(parts, dim=1),))
        return torch.empty_like(decoded).index_copy(0, order, decoded).float()

    def _features(self, index: int, uv: Positions, counts: list[int], noise: Noise | None) -> Inputs:
        """The decoder's inputs from grid `index`; counts: samples of each LOD, whose `uv` are sorted by LOD."""
        model, grid = self.model, self.model.grids[index]
        parameters = model.grid_parameters[index].view(-1, grid.features)
        exported = model.as_exported(index, parameters, torch.arange(grid.n_texels, device=uv.device), noise)
        levels = exported.split([grid.texels_of(grid.level_size(level)) for level in range(grid.n_levels)])
        parts, first = [], 0
        for level in reversed(range(grid.n_levels)):  # the finest belongs to LOD 0
            n = sum(count for lod, count in enumerate(counts) if grid.level_of(lod) == level)
            if n:
                resolution, _ = grid.level_size(level)
                entries = pack_level(levels[level].view(resolution, resolution, grid.features))
                x = grid_coordinates(uv[first : first + n], resolution)
                parts.append(functional_call(self._levels[index][level], {"params": entries}, (x,)))
            first += n
        return torch.cat(parts)

    def _texel_waves(self, uv: Positions, lod: Indices) -> list[Inputs]:
        """The ones and the texel waves that follow the LOD; tiny-cuda-nn appends the ones at the end."""
        model = self.model
        reference, frequencies = model.layout.reference_inputs, model.decoder.n_texel_frequencies
        position = uv * model.get_buffer("lod_size_0")[lod].to(torch.float32) - 0.5
        ones = uv.new_ones(len(uv), aligned(reference) - reference)
        return [ones, *(sawtooth_waves(position[:, axis], frequencies) for axis in (0, 1))]

    # --- backward --------------------------------------------------------------------------------------------------

    def _descend(self, loss: torch.Tensor) -> None:
        self._scaler.scale(loss).backward(inputs=self._trained_parameters)
        self._drop_unused_inputs()
        self._scaler.step(self.optimizer)
        self._scaler.update()

    # --- parameters and state --------------------------------------------------------------------------------------

    def sync(self) -> None:
        """See TorchEngine.sync; tiny-cuda-nn frees its temporary memory for evaluations."""
        super().sync()
        with self._on_device():
            self._tcnn.free_temporary_memory()

    def state(self) -> dict:
        """See Engine.state; with the factor of the loss where gradients have half precision."""
        state = super().state()
        if self._scaler.is_enabled():
            scaling = self._scaler.state_dict()
            state["loss_scale"], state["loss_scale_age"] = float(scaling["scale"]), int(scaling["_growth_tracker"])
        return state

    def load_state(self, state: dict) -> None:
        """See Engine.load_state. Raises: ValueError for another layout."""
        scale, age = state.get("loss_scale", FIRST_LOSS_SCALE), state.get("loss_scale_age", 0)
        low, high = LOSS_SCALE_RANGE
        if type(scale) is not float or not low <= scale <= high or type(age) is not int or age < 0:
            raise ValueError("loss scale of another kind")
        super().load_state(state)
        if self._scaler.is_enabled():
            self._scaler = loss_scaler(self.device, scale)
            self._scaler.load_state_dict({**self._scaler.state_dict(), "_growth_tracker": age})


# --- the package ----------------------------------------------------------------------------------------------------


def load_tinycudann() -> Any:
    """Import the package. Raises: UserError that says how to install it, when it is missing or does not fit the GPU."""
    try:
        return importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise _unusable(error) from error
        raise UserError(
            f"--engine tcnn: the package {PACKAGE} is not installed; {INSTALL} builds it, which needs an NVIDIA GPU, "
            "the CUDA toolkit (nvcc) of PyTorch's CUDA version, a C++ compiler, and TCNN_CUDA_ARCHITECTURES=86 or "
            f"alike where the GPU cannot be seen; {OTHERWISE}"
        ) from error
    except (ImportError, OSError) as error:  # no GPU, or built for another one, or for another PyTorch
        raise _unusable(error) from error


def _unusable(error: Exception) -> UserError:
    return UserError(
        f"--engine tcnn: the package {PACKAGE} cannot be loaded ({_reason(error)}); build it for this GPU and this "
        f"PyTorch, with TCNN_CUDA_ARCHITECTURES set to the GPU's compute capability: {INSTALL} --force-reinstall "
        f"--no-deps; {OTHERWISE}"
    )


def _reason(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0][:200])


def check_model(model: NeuralTexture) -> None:
    """Raise UserError, which names the flag to change, for a model that tiny-cuda-nn cannot compute."""
    for index, grid in enumerate(model.grids):
        width, height = grid.size
        if width != height:
            raise UserError(f"--engine tcnn: grid {index} has {width}x{height} texels, expected a square, since dense "
                            f"grids of tiny-cuda-nn are; give one number as max_resolution, {OTHERWISE}")  # fmt: skip
        if grid.interpolation != "linear":
            raise UserError(f"--engine tcnn: grid {index} has {grid.interpolation} interpolation, expected linear; use "
                            f"--decoder reference, {OTHERWISE}")  # fmt: skip
        if grid.features not in FEATURES:
            raise UserError(
                f"--engine tcnn: grid {index} has {grid.features} features per texel, expected 1, 2, 4 or 8; choose "
                f"--quantize_bits and --save_bits so that save_bits / quantize_bits is one of them, {OTHERWISE}"
            )
    if model.activation_bits != 32:
        raise UserError(f"--engine tcnn: expected --activation_bits 32, found 8; leave it out, {OTHERWISE}")
    activation = "relu" if not model.decoder.negative_slope else model.decoder.activation
    if activation != "leaky_relu":
        raise UserError(f"--engine tcnn: expected --activation leaky_relu, found {activation}; use "
                        f"--decoder reference, {OTHERWISE}")  # fmt: skip


def loss_scaler(device: torch.device, scale: float, enabled: bool = True) -> Any:
    """PyTorch's loss scaling, which decides on the GPU whether an iteration is skipped."""
    options = {"init_scale": scale, "growth_interval": LOSS_SCALE_GROWTH_INTERVAL, "enabled": enabled}
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device.type, **options)
    return torch.cuda.amp.GradScaler(**options)  # PyTorch before 2.3


# --- modules ---------------------------------------------------------------------------------------------------------


def grid_encoding(tcnn: Any, resolution: int, features: int) -> nn.Module:
    """tiny-cuda-nn's encoding of one level of `resolution` x `resolution` texels, without parameters of its own."""
    vertices = resolution + 1
    configuration = {
        "otype": "Grid",
        "type": "Dense",
        "n_levels": 1,
        "n_features_per_level": features,
        "base_resolution": vertices,
        "per_level_scale": 2.0,
        "interpolation": "Linear",
    }
    encoding = tcnn.Encoding(2, configuration, dtype=torch.float32)
    return _hollow(encoding, _whole_entries(vertices) * features, f"a grid of {vertices} x {vertices}")


def wave_encoding(tcnn: Any, n_frequencies: int) -> nn.Module | None:
    """tiny-cuda-nn's triangle waves of u and v; None for 0 frequencies."""
    if not n_frequencies:
        return None
    waves = tcnn.Encoding(2, {"otype": "TriangleWave", "n_frequencies": n_frequencies}, dtype=torch.float32)
    return waves.requires_grad_(False)  # its empty parameter tensor would cost a backward pass


def decoder_network(tcnn: Any, model: NeuralTexture) -> nn.Module:
    """tiny-cuda-nn's network of a model's decoder, without weights of its own.

    Raises: UserError where the package was built without networks.
    """
    decoder, layout = model.decoder, model.layout
    fused = decoder.n_neurons in FUSED_WIDTHS and decoder.n_hidden_layers > 0
    configuration = {
        "otype": "FullyFusedMLP" if fused else "CutlassMLP",
        "activation": "LeakyReLU",
        "output_activation": "None",
        "n_neurons": decoder.n_neurons,
        "n_hidden_layers": decoder.n_hidden_layers,
    }
    inputs = layout.reference_inputs
    if layout.texel_waves:
        inputs = aligned(inputs) + layout.texel_waves
    try:
        network = tcnn.Network(inputs, PADDED_OUTPUTS, configuration)
    except RuntimeError as error:
        raise UserError(f"--engine tcnn: no {configuration['otype']} ({_reason(error)}); {OTHERWISE}") from error
    network.loss_scale = 1.0  # its own division by 128 is done in half precision, where small gradients are lost
    weights = sum(weight.numel() for weight in model.weights)
    return _hollow(network, weights, f"a network of {inputs} inputs")


def _hollow(module: nn.Module, expected: int, what: str) -> nn.Module:
    """The module without its parameters, which every call passes in.

    Raises: UserError when their number differs from this file's layout.
    """
    found = module.params.numel()
    if found != expected:
        raise UserError(f"--engine tcnn: this {PACKAGE} has {found} parameters for {what}, expected {expected}; "
                        f"install version 1.7 or 2.0, {OTHERWISE}")  # fmt: skip
    module.params = nn.Parameter(module.params.new_empty(0), requires_grad=False)
    return module


# --- layout ----------------------------------------------------------------------------------------------------------


def _whole_entries(vertices: int) -> int:
    return -(-(vertices**2) // ENTRIES_ALIGNED) * ENTRIES_ALIGNED


def pack_level(image: GridLevel) -> Entries:
    """A level of our layout, (R, R, features), as tiny-cuda-nn's parameters of (R + 1) x (R + 1) vertices.

    Differentiable: what the repeated column and row receive goes to the texels that they repeat.
    """
    image = torch.cat((image, image[:, :1]), dim=1)
    image = torch.cat((image, image[:1]), dim=0)
    vertices, _, features = image.shape
    rest = _whole_entries(vertices) - vertices**2
    return F.pad(image.reshape(-1), (0, rest * features))


def grid_coordinates(uv: Positions, resolution: int) -> Coordinates:
    """tiny-cuda-nn's x of a uv in [0, 1) for a grid of R + 1 vertices: (uv*R - 1) / R, a period later where that is
    before the first vertex. Between -0.5 / R and 1 - 0.5 / R."""
    position = uv * resolution - 0.5  # in texels, as in NeuralTexture
    position = torch.where(position < 0, position + resolution, position)
    return (position - 0.5) / resolution
