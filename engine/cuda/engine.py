"""CudaEngine: trains on the Triton kernels. Python fills a table of rates and replays CUDA graphs."""

from __future__ import annotations

import numpy as np
import torch

from dataset import Material
from engine.adam_state import (
    ADAM_BETAS,
    DRIFT_SIZE,
    MOMENTS,
    SWEEP_INTERVAL,
    Moments,
    Optimizer,
    Pending,
    up_to_date,
)
from engine.base import KernelEngine
from engine.cuda import library
from engine.cuda.block_size import BLOCKS, block_size
from engine.cuda.blocks.launches import gradient_launch, tie_launches
from engine.cuda.buffers import NetworkBuffers, allocate_grids, fading_tables, small, step_size
from engine.cuda.decoder import kernel_precision
from engine.cuda.library import Launch
from engine.cuda.plan import (
    CENTRES,
    MOST_LODS,
    KernelPlan,
    SamplePositions,
    block_side,
    level_entry,
    power_of_two,
    touched_units,
)
from engine.flat_weights import flat_weights, split_weights
from engine.sampling import PROBE, lod_boundaries
from engine.schedule import Schedule
from model import NeuralTexture
from quantize import _to_int32
from shape import PADDED_OUTPUTS

CHUNK = 250  # iterations per call, and rows of the table of rates
GRAPH = 25  # iterations of a CUDA graph
# A grid with at least this many times the texels (or blocks) that a batch can touch is updated lazily. In bytes
# (engine/cuda/adam.py): a dense texel costs 32 F per iteration; a touched texel of a lazy grid 40 F and twice the bytes
# in the gather, at scattered addresses.
LAZY_FROM = 4
TABLE_COLUMNS = 4  # of the table besides the step sizes of the grids, see engine/cuda/adam.py
# Work of one program: looks (inputs.draw_look) of the touched kernel, parameters of the dense one, texels of the border
# and sweep kernels, partial gradients that the network kernel adds up at a time.
TOUCHED_LOOKS, DENSE_BLOCK, BORDER_TEXELS, SWEEP_TEXELS, PARTS = 32, 1024, 32, 64, 32
# Of blocks: parameters, of which a block has 32 or 64 when they are filled up to powers of two. A look touches four.
TOUCHED_PARAMETERS, SWEEP_PARAMETERS = 1024, 512


class CudaEngine(KernelEngine):
    """Trains a NeuralTexture on a Material, on an NVIDIA GPU.

    Samples, noise, loss and optimiser are those of TorchEngine, and results agree with it to float tolerance (matrix
    products: see --gpu_precision). Float32 atomics sum the gradients of the grids in no fixed order, so two runs differ
    in the last bits; with --deterministic they are summed as 64-bit integers. All other sums have a fixed order.

    Args:
        model: on the GPU.
        material: its texels are copied to the GPU in 8 or 16 bits.
        schedule: asked for all iterations of a table before the first.
        lazy: per grid, whether its texels are updated lazily (engine/cuda/adam.py); None: by sizes of grid and batch.
        runs_here: False prepares the launches without a GPU, to compile them (engine/cuda/compiled.py).
    Raises: KernelsUnavailable; ValueError when the model holds every channel as a constant.
    """

    name = "cuda"
    chunk = CHUNK

    def __init__(
        self, model: NeuralTexture, material: Material, schedule: Schedule, lazy: tuple[bool, ...] | None = None,
        runs_here: bool = True,
    ):  # fmt: skip
        if runs_here:
            library.check_device(model.weights[0].device)
        self._kernels = library.load()
        super().__init__(model, material, schedule)
        config = schedule.config
        batch = config.batch_size
        self.positions = SamplePositions.of(model, config.positions)
        if lazy is None:
            looks = self.positions.mean_looks * batch
            lazy = tuple(grid.n_units >= LAZY_FROM * touched_units(grid) * looks for grid in model.grids)
        lazy = tuple(each and moves for each, moves in zip(lazy, self.moves))
        # units of 2**-32 of a sample's share of the loss
        fixed_point = 2.0 ** (32 + (batch - 1).bit_length()) if config.deterministic else 0.0
        precision = "ieee" if config.gpu_precision == "float32" else config.gpu_precision
        self.plan = KernelPlan(model, lazy, tuple(self.moves), precision, fixed_point)
        self._allocate()
        self._load_parameters()
        self._build_launches()
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    # --- memory ------------------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        plan, device, batch = self.plan, self.device, self.schedule.config.batch_size
        n_grids = len(self.model.grids)
        self._drift = torch.zeros(n_grids, DRIFT_SIZE, dtype=torch.float64, device=device)
        self._distance = torch.zeros(n_grids, DRIFT_SIZE, device=device)
        self.grids, self._stacked = allocate_grids(plan, device, self._distance, self._drift)
        self.network = NetworkBuffers(plan, device)
        self._fading, self._directions = fading_tables(device)
        self._progress = torch.zeros(4, dtype=torch.int32, device=device)
        self._probe_progress = torch.tensor([PROBE, 0, self._seed, 0], dtype=torch.int32, device=device)
        self._table = torch.zeros(CHUNK, TABLE_COLUMNS + n_grids, device=device)
        self._grid_steps = torch.zeros(CHUNK, n_grids, dtype=torch.float64, device=device)
        self._loss_sum = torch.zeros(1, dtype=torch.float64, device=device)
        self.block, self.programs = self._block_and_programs(batch)
        self._partials = torch.zeros(self.programs, plan.size, device=device)
        self._losses = torch.zeros(self.programs, device=device)
        self._activations = plan.activations(rounded=False)
        self._describe_material()

    @property
    def _seed(self) -> int:
        return _to_int32(self.schedule.config.seed)

    def _block_and_programs(self, batch: int) -> tuple[int, int]:
        """Samples per block of the training kernel, and programs: as many as the GPU runs at a time.

        The order in which the network's gradients are summed depends on both, and they depend on the GPU.
        """
        if self.device.type != "cuda":
            return BLOCKS[0], min(-(-batch // BLOCKS[0]), 3)
        processors = torch.cuda.get_device_properties(self.device).multi_processor_count * (8 // self.plan.warps)
        block = block_size(batch, processors)
        return block, min(-(-batch // block), processors)

    def _describe_material(self) -> None:
        material, device = self.material, self.device
        sizes = torch.zeros(MOST_LODS, 2, dtype=torch.int32)
        sizes[: material.num_lods] = torch.tensor(material.lod_sizes, dtype=torch.int32)
        offsets = torch.zeros(MOST_LODS, dtype=torch.int64)
        offsets[: material.num_lods] = torch.tensor(material.lod_offsets)
        boundaries = torch.full((MOST_LODS,), 2.0)  # of a share in [0, 1)
        boundaries[: material.num_lods - 1] = lod_boundaries(material.lod_sizes)
        weights, columns = torch.zeros(PADDED_OUTPUTS), torch.full((PADDED_OUTPUTS,), -1, dtype=torch.int32)
        weights[self.channels] = self.loss_weights
        light = torch.zeros(PADDED_OUTPUTS)
        light[self.channels] = torch.tensor(self.sample_loss.light)
        for channel, column in zip(self.channels, self.columns):
            columns[channel] = material.stored_columns[column]
        self._even_weights = (columns >= 0).float().div(len(self.channels)).to(device)
        self._samples = {
            "boundaries": boundaries.to(device), "lod_sizes": sizes.to(device), "lod_offsets": offsets.to(device),
        }  # fmt: skip
        self._target = {
            "codes8": material.codes8, "codes16": material.codes16, "target_columns": columns.to(device),
            "channel_weights": weights.to(device), "light": light.to(device),
        }  # fmt: skip

    # --- kernels -----------------------------------------------------------------------------------------------------

    def _grid_arguments(self) -> dict:
        return {
            "columns": self.plan.columns.to(self.device),
            **self._stacked,
            "levels": self.plan.lod_levels().to(self.device),
        }

    def step_launch(self, mode: str, batch: int | None = None) -> Launch:
        """The training kernel.

        Args:
            mode: "train", or "measure" for the mean squared error of the probe's samples, which are at texel centres.
            batch: samples; None: as configured.
        """
        plan, batch = self.plan, batch or self.schedule.config.batch_size
        weights = {"channel_weights": self._even_weights} if mode == "measure" else {}
        nothing = self._losses
        arguments = {
            "progress": self._probe_progress if mode == "measure" else self._progress, "table": self._table,
            "batch": batch, **self._samples, **self._target, **weights, "given_uv": nothing, "given_lod": nothing,
            "given_upstream": nothing, "given_out": nothing, "weights": self.network.packed,
            "activations": self._activations, **self._arguments, "partials": self._partials, "losses": self._losses,
        }  # fmt: skip
        constants = {
            "MODE": mode, "TABLE": self._table.shape[1], "BLOCK": self.block, "COLUMNS8": self.material.codes8.shape[1],
            "COLUMNS16": self.material.codes16.shape[1], **plan.constants, "SIZE": plan.size,
            "IN_MEMORY": plan.in_memory, "FIXED_POINT": plan.fixed_point,
            "PRECISION": kernel_precision(plan.precision),
            "POSITIONS": (CENTRES if mode == "measure" else self.positions).constant,
            "COVERAGE": self.channels[coverage] if (coverage := self.sample_loss.coverage) >= 0 else -1,
            "LIGHT": self.sample_loss.has_light,
        }  # fmt: skip
        programs = min(self.programs, -(-batch // self.block))
        return Launch(self._kernels.kernels.step_kernel, (programs,), arguments, constants, {"num_warps": plan.warps})

    def _build_launches(self) -> None:
        """Every kernel of an iteration, in order, with its arguments; the first of them compute gradients."""
        self._arguments = self._grid_arguments()
        self.probe_launch = self.step_launch("measure")
        moving = [index for index, moves in enumerate(self.plan.moves) if moves]
        self.gradient_launches = [self.step_launch("train")]
        for index in moving:
            if self.grids[index].grid.compressed:
                batch = self.schedule.config.batch_size if self.grids[index].lazy else None
                self.gradient_launches.append(self.block_gradient_launch(index, batch))
        self.launches = [*self.gradient_launches, *map(self._adam_launch, moving), self._network_launch(),
                         self._advance_launch()]  # fmt: skip
        for index in moving:
            self.launches += self._border_launches(index)
        self.sweeps = [self._sweep_launch(index) for index, grid in enumerate(self.grids) if grid.lazy]

    def block_gradient_launch(self, index: int, batch: int | None) -> Launch:
        """See blocks.launches.gradient_launch."""
        arguments = {"progress": self._progress, "table": self._table, **self._samples,
                     "levels": self._arguments["levels"][index]}  # fmt: skip
        return gradient_launch(index, self.grids[index], arguments, self.model.quantized, batch,
                               self.positions)  # fmt: skip

    def _stored_in(self, index: int) -> tuple[dict, dict]:
        """Arguments and constants that the kernels of grids share which go through all of their texels or blocks."""
        grid = self.grids[index]
        arguments = {
            "progress": self._progress, "table": self._table, "records": grid.parameters, "moments": grid.moments,
            "stamps": grid.stamps, "distance": grid.distance, "fading": self._fading,
        }  # fmt: skip
        constants = {"TABLE": self._table.shape[1], "F": grid.grid.unit_parameters, "QUANTIZED": self.model.quantized}
        return arguments, constants

    def _sweep_launch(self, index: int) -> Launch:
        arguments, constants = self._stored_in(index)
        spec = self.grids[index].grid
        unit = power_of_two(constants["F"])
        at_a_time = SWEEP_PARAMETERS // unit if spec.compressed else SWEEP_TEXELS
        constants |= {"UNIT": unit, "TEXELS": at_a_time}
        return Launch(self._kernels.adam.sweep_kernel, (-(-spec.n_units // at_a_time),),
                      {**arguments, "count": spec.n_units}, constants)  # fmt: skip

    def _border_launches(self, index: int) -> list[Launch]:
        """The kernels that tie the borders of one grid, if the configuration wants it."""
        config, spec = self.schedule.config, self.grids[index].grid
        if not config.wrap_boundary:
            return []
        levels = range(max(spec.n_levels - config.wrap_levels, 0) if config.wrap_levels else 0, spec.n_levels)
        arguments, constants = self._stored_in(index)
        arguments |= {"interval": config.wrap_interval, "strength": config.wrap_strength}
        if spec.compressed:
            return tie_launches(self.grids[index], arguments, constants, levels)
        table = [level_entry(spec, level) for level in levels]
        arguments["levels"] = torch.tensor(table, dtype=torch.int32, device=self.device)
        programs = (len(levels), max(1, -(-(max(spec.size) - 2) // BORDER_TEXELS)))
        constants |= {"LAZY": self.grids[index].lazy, "TEXELS": BORDER_TEXELS}
        return [Launch(self._kernels.adam.border_kernel, programs, arguments, constants)]

    def _adam_launch(self, index: int) -> Launch:
        """The kernel that takes Adam's step for one grid."""
        adam, grid, config = self._kernels.adam, self.grids[index], self.schedule.config
        shared = {"progress": self._progress, "table": self._table}
        constants = {
            "GRID": index, "TABLE": self._table.shape[1], "QUANTIZED": self.model.quantized,
            "FIXED_POINT": grid.gradient_point, "BETA1": ADAM_BETAS[0], "BETA2": ADAM_BETAS[1],
        }  # fmt: skip
        if not grid.lazy:
            count = len(grid.parameters)
            arguments = {**shared, "count": count, "parameters": grid.parameters, "moments": grid.moments,
                         "gradients": grid.gradient}  # fmt: skip
            constants["BLOCK"] = DENSE_BLOCK
            return Launch(adam.dense_kernel, (-(-count // DENSE_BLOCK),), arguments, constants)
        arguments = {
            **shared, "batch": config.batch_size, **self._samples, "levels": self._arguments["levels"][index],
            "records": grid.parameters, "moments": grid.moments, "stamps": grid.stamps, "distance": grid.distance,
            "fading": self._fading, "gradients": grid.gradient, "by_texel": grid.scattered,
        }  # fmt: skip
        width, unit = grid.grid.unit_parameters, power_of_two(grid.grid.unit_parameters)
        at_a_time = TOUCHED_PARAMETERS // (4 * unit) if grid.grid.compressed else TOUCHED_LOOKS
        constants |= {"F": width, "UNIT": unit, "SIDE": block_side(grid.grid), "LOOKS": at_a_time,
                      "POSITIONS": self.positions.constant}  # fmt: skip
        looks = config.batch_size * self.positions.looks
        return Launch(adam.touched_kernel, (-(-looks // at_a_time),), arguments, constants)

    def _network_launch(self) -> Launch:
        network, plan = self.network, self.plan
        arguments = {
            "progress": self._progress, "table": self._table, "partials": self._partials, "n_partials": self.programs,
            "weights": network.weights, "moments1": network.moments[0], "moments2": network.moments[1],
            "packed": network.packed, "rows": network.rows, "input_map": network.input_map,
        }  # fmt: skip
        constants = {
            "TABLE": self._table.shape[1], "SIZE": plan.size, "INPUTS": plan.widest, "ONE": plan.one, "PARTS": PARTS,
            "BETA1": ADAM_BETAS[0], "BETA2": ADAM_BETAS[1], "PACKED": "tf32" if plan.precision == "tf32" else "ieee",
            "WEIGHT_BITS": self.model.weight_bits,
        }  # fmt: skip
        return Launch(self._kernels.adam.network_kernel, (len(network.rows),), arguments, constants)

    def _advance_launch(self) -> Launch:
        arguments = {
            "progress": self._progress, "grid_steps": self._grid_steps, "losses": self._losses,
            "n_partials": self.programs, "loss_sum": self._loss_sum, "batch": self.schedule.config.batch_size,
            "drift": self._drift, "distance": self._distance, "directions": self._directions,
        }  # fmt: skip
        constants = {"N_GRIDS": len(self.grids), "SWEEP": SWEEP_INTERVAL,
                     "LOSSES": 1 << max(self.programs - 1, 1).bit_length()}  # fmt: skip
        return Launch(self._kernels.adam.advance_kernel, (1,), arguments, constants)

    # --- training ----------------------------------------------------------------------------------------------------

    def _step(self, n: int) -> float:
        """See KernelEngine._step."""
        if n == 0:
            return 0.0
        self._loss_sum.zero_()
        rounded = self.schedule.rounds_weights(self.iteration)
        if self.network.rounded != rounded:  # the schedule has changed
            self.network.pack(rounded)
        self._activations.copy_(self.plan.activations(rounded))
        end = self.iteration + n
        while self.iteration < end:
            count = min(end - self.iteration, CHUNK, SWEEP_INTERVAL - self.iteration % SWEEP_INTERVAL)
            self._fill_table(count)
            self._run(count)
            self.iteration += count
            self.network.rounded = self.schedule.rounds_weights(self.iteration)
            if self.iteration % SWEEP_INTERVAL == 0 and self.sweeps:
                for sweep in self.sweeps:
                    sweep()
                self._drift.zero_()
                self._distance.zero_()
        return float(self._loss_sum.item()) / n

    def _fill_table(self, count: int) -> None:
        """Write the rates and noise of the next `count` iterations, and the counters that tell the kernels which
        iteration and row of the table is next."""
        span = range(self.iteration, self.iteration + count)
        factors = np.array([self.schedule.factor(i) * step_size(i + 1) for i in span])
        table = np.zeros((count, self._table.shape[1]), np.float32)
        table[:, 0] = [small(i + 1) for i in span]
        table[:, 1] = [self.schedule.noise_strength(i) for i in span]
        steps = factors[:, None] * np.array(self.rates)[None, :]
        table[:, 2:-1] = steps
        table[:, -1] = [self.schedule.rounds_weights(i + 1) for i in span]
        self._table[:count].copy_(torch.from_numpy(table))
        self._grid_steps[:count].copy_(torch.from_numpy(np.ascontiguousarray(steps[:, 1:])))
        self._progress.copy_(torch.tensor([self.iteration, 0, self._seed, 0], dtype=torch.int32))

    def _run(self, count: int) -> None:
        if self.device.type != "cuda":
            self._run_eagerly(count)
            return
        if not self._graphs:  # the first call compiles and loads the kernels, which a capture must not do
            self._run_eagerly(1)
            self.capture()
            count -= 1
        for n in (GRAPH, 1):
            for _ in range(count // n):
                self._graphs[n].replay()
            count %= n

    def _run_eagerly(self, count: int) -> None:
        for _ in range(count):
            for launch in self.launches:
                launch()

    def capture(self) -> None:
        """Capture CUDA graphs of GRAPH iterations and of one; the kernels must have run before.

        A counter in device memory tells the kernels which iteration they are in, so every replay is the next one. CUDA
        calls of other threads stay out of the graphs.
        """
        for n in (GRAPH, 1):
            self._graphs[n] = torch.cuda.CUDAGraph()
            with library.on_device(self.device), torch.cuda.graph(self._graphs[n], capture_error_mode="thread_local"):
                self._run_eagerly(n)

    def probe(self) -> float:
        """See Engine.probe."""
        if self.network.rounded or self.model.weight_bits == 32:
            self._activations.copy_(self.plan.activations(rounded=True))
            self.probe_launch()
        else:
            self.network.pack(True)
            self._activations.copy_(self.plan.activations(rounded=True))
            self.probe_launch()
            self.network.pack(False)
            self._activations.copy_(self.plan.activations(rounded=False))
        return float(self._losses.double().sum()) / self.schedule.config.batch_size * self.probe_share

    # --- parameters and state ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def sync(self) -> None:
        """See Engine.sync."""
        for parameters, grid in zip(self.model.grid_parameters, self.grids):
            parameters.copy_(grid.values(self.iteration))
        for weight, value in zip(self.model.weights, split_weights(self.network.weights, self.model)):
            weight.copy_(value)
        if not self.calibrated:
            self.calibrate()

    def _stored(self) -> tuple[list[Moments], list[Pending]]:
        moments = list(zip(*(split_weights(flat, self.model) for flat in self.network.moments.cpu())))
        lazy = any(grid.lazy for grid in self.grids)
        pending = [grid.pending(self.iteration) for grid in self.grids] if lazy else []
        return moments + [grid.stored_moments() for grid in self.grids], pending

    def restart(self) -> None:
        """Start again from the model's parameters, without moments."""
        self._load_parameters()

    def _load_parameters(self, optimizer: Optimizer | None = None, pending: list[Pending] | None = None) -> None:
        """See KernelEngine. Lazy grids keep what is pending, dense grids get it brought up to date."""
        state = {"iteration": self.iteration, "optimizer": optimizer, "pending": pending}
        recent = up_to_date(state, self.model) if optimizer else None
        rounded = self.schedule.rounds_weights(self.iteration)
        self.network.load(flat_weights(self.model), self.network_moments(optimizer), rounded)
        self._activations.copy_(self.plan.activations(rounded))
        for index, (grid, parameters) in enumerate(zip(self.grids, self.model.grid_parameters)):
            older = pending is not None and grid.lazy
            source = optimizer if older else recent
            entry = source[len(self.model.weights) + index] if source else None
            moments = tuple(entry[name].float() for name in MOMENTS) if entry else None
            if older:
                kept = pending[index]
                grid.load(self.iteration, kept["parameters"].to(self.device), moments, kept["stamps"], kept["drift"])
            else:
                grid.load(self.iteration, parameters.detach(), moments)
        self._progress.copy_(torch.tensor([self.iteration, 0, self._seed, 0], dtype=torch.int32))
