"""CudaEngine: trains on the Triton kernels; Python only fills a table of rates and replays a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dataset import Material
from engine.adam_state import ADAM_BETAS, MOMENTS, check_adam_state, check_pending, up_to_date
from engine.cuda import library
from engine.cuda.buffers import (
    DRIFT_SIZE,
    SWEEP_INTERVAL,
    GridBuffers,
    NetworkBuffers,
    fading_tables,
    feature_limit,
    optimizer_entries,
    small,
    step_size,
)
from engine.cuda.decoder import kernel_precision
from engine.cuda.library import Launch
from engine.cuda.plan import BLOCKS, MOST_LODS, KernelPlan, block_size
from engine.sampling import PROBE, channel_loss_weights, learned_channels, lod_boundaries
from engine.schedule import Schedule
from model import NeuralTexture
from quantize import _to_int32
from shape import PADDED_OUTPUTS, resolve_grids

CHUNK = 250  # iterations per call: a table of so many rows
GRAPH = 25  # iterations of a CUDA graph
# A grid is lazy from so many times the texels on that a batch can touch: by bytes (engine/cuda/adam.py) a dense texel
# takes 32 F every iteration, a touched one 40 F and twice the bytes in the gather, from scattered places.
LAZY_FROM = 4
TABLE_HEAD = 3  # columns of the table before the grids' steps: see engine/cuda/adam.py
TOUCHED_SAMPLES, DENSE_BLOCK, BORDER_TEXELS, SWEEP_TEXELS, PARTS = 32, 1024, 32, 64, 32


class CudaEngine:
    """Trains a NeuralTexture on a Material, on an NVIDIA GPU.

    The same samples, noise, loss and optimiser as TorchEngine, to float tolerance (matrix products: see
    --gpu_precision). Gradients of the grids are summed by float32 atomics, whose order is not fixed: two runs differ in
    the last bits, unless `deterministic` sums them as 64-bit integers. All other sums have a fixed order.

    Args:
        model: on `device`; its parameters are the starting point, and are up to date after sync().
        material: the target; its texels are kept in 8 or 16 bits on the device.
        schedule: learning rates and noise; asked for all iterations of a step at its start.
        lazy: per grid, see engine/cuda/adam.py; None: by the size of grid and batch.
    Raises: KernelsUnavailable; plan.Unsupported; ValueError when the model holds every channel as a constant.
    """

    name = "cuda"
    chunk = CHUNK

    def __init__(
        self, model: NeuralTexture, material: Material, schedule: Schedule, device: torch.device,
        say: Callable[[str], None] | None = None, lazy: tuple[bool, ...] | None = None, runs_here: bool = True,
    ):  # fmt: skip
        if runs_here:
            library.check_device(device)
        self._kernels = library.load()
        config = schedule.config
        self.model, self.schedule, self.device = model, schedule, device
        self.material = material.to(device)
        self.channels = learned_channels(model, material)
        if not self.channels:
            raise ValueError("every channel is a constant: there is nothing to train")
        self.iteration = 0
        self._rates = [config.learning_rate] + [
            grid.learning_rate for grid in resolve_grids(config, material.width, material.height)
        ]
        batch = config.batch_size
        if lazy is None:
            lazy = tuple(grid.n_texels >= LAZY_FROM * 4 * batch for grid in model.grids)
        moves = tuple(rate > 0 for rate in self._rates[1:])
        # units of 2**-32 of a sample's share of the loss
        fixed_point = 2.0 ** (32 + (batch - 1).bit_length()) if config.deterministic else 0.0
        precision = "ieee" if config.gpu_precision == "float32" else config.gpu_precision
        self.plan = KernelPlan(model, lazy, moves, precision, fixed_point)
        self._allocate()
        self._load_parameters()
        self._build_launches()
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    # --- memory ------------------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        model, device, batch = self.model, self.device, self.schedule.config.batch_size
        plan, n_grids = self.plan, len(self.model.grids)
        self._drift = torch.zeros(n_grids, DRIFT_SIZE, dtype=torch.float64, device=device)
        self._distance = torch.zeros(n_grids, DRIFT_SIZE, device=device)
        limit = feature_limit(model.quantized)
        self.grids = [
            GridBuffers(grid, plan.lazy[i], limit, plan.fixed_point, device, self._distance[i], self._drift[i])
            for i, grid in enumerate(model.grids)
        ]
        self.network = NetworkBuffers(plan, device)
        self._fading, self._directions = fading_tables(device)
        self._progress = torch.zeros(4, dtype=torch.int32, device=device)
        self._probe_progress = torch.tensor([PROBE, 0, self._seed, 0], dtype=torch.int32, device=device)
        self._table = torch.zeros(CHUNK, TABLE_HEAD + n_grids, device=device)
        self._grid_steps = torch.zeros(CHUNK, n_grids, dtype=torch.float64, device=device)
        self._loss_sum = torch.zeros(1, dtype=torch.float64, device=device)
        self.block, self.programs = self._block_and_programs(batch)
        self._partials = torch.zeros(self.programs, plan.size, device=device)
        self._losses = torch.zeros(self.programs, device=device)
        self._describe_material()

    @property
    def _seed(self) -> int:
        return _to_int32(self.schedule.config.seed)

    def _block_and_programs(self, batch: int) -> tuple[int, int]:
        """Samples that a program of the training kernel looks at together, and programs: as many as the GPU runs at a
        time. Functions of the GPU, on which the order of the sums of the network's gradients depends."""
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
        weights[self.channels] = channel_loss_weights(
            material, self.schedule.config.texture_loss_weights, self.channels
        )
        present = material.present_channels.tolist()
        for channel in self.channels:
            columns[channel] = material.stored_columns[present.index(channel)]
        self._even_weights = (columns >= 0).float().div(len(self.channels)).to(device)
        self._samples = {
            "boundaries": boundaries.to(device), "lod_sizes": sizes.to(device), "lod_offsets": offsets.to(device),
        }  # fmt: skip
        self._target = {
            "codes8": material.codes8, "codes16": material.codes16, "target_columns": columns.to(device),
            "channel_weights": weights.to(device),
        }  # fmt: skip

    # --- kernels -----------------------------------------------------------------------------------------------------

    def _grid_arguments(self) -> dict:
        return {
            "columns": self.plan.columns.to(self.device),
            "parameters": tuple(grid.parameters for grid in self.grids),
            "stamps": tuple(grid.stamps for grid in self.grids),
            "distance": tuple(grid.distance for grid in self.grids),
            "levels": self.plan.lod_levels().to(self.device),
            "gradients": tuple(grid.gradient for grid in self.grids),
        }

    def step_launch(self, mode: str, batch: int | None = None) -> Launch:
        """The training kernel. mode: train, or measure: the loss of the probe's samples."""
        plan, batch = self.plan, batch or self.schedule.config.batch_size
        weights = {"channel_weights": self._even_weights} if mode == "measure" else {}
        nothing = self._losses
        arguments = {
            "progress": self._probe_progress if mode == "measure" else self._progress, "table": self._table,
            "batch": batch, **self._samples, **self._target, **weights, "given_uv": nothing, "given_lod": nothing,
            "given_upstream": nothing, "given_out": nothing, "weights": self.network.packed, **self._arguments,
            "partials": self._partials, "losses": self._losses,
        }  # fmt: skip
        constants = {
            "MODE": mode, "TABLE": self._table.shape[1], "BLOCK": self.block, "COLUMNS8": self.material.codes8.shape[1],
            "COLUMNS16": self.material.codes16.shape[1], **plan.constants, "SIZE": plan.size,
            "IN_MEMORY": plan.in_memory, "FIXED_POINT": plan.fixed_point,
            "PRECISION": kernel_precision(plan.precision),
        }  # fmt: skip
        programs = min(self.programs, -(-batch // self.block))
        return Launch(self._kernels.kernels.step_kernel, (programs,), arguments, constants, {"num_warps": plan.warps})

    def _build_launches(self) -> None:
        """Every kernel of an iteration, in order, with what it is called with."""
        config, adam = self.schedule.config, self._kernels.adam
        self._arguments = self._grid_arguments()
        self.launches = [self.step_launch("train")]
        self.probe_launch = self.step_launch("measure")
        self.sweeps, borders = [], []
        shared = {"progress": self._progress, "table": self._table}
        for index, (grid, moves) in enumerate(zip(self.grids, self.plan.moves)):
            if moves:
                self.launches.append(self._adam_launch(index))
            lazy = {"stamps": grid.stamps, "distance": grid.distance, "fading": self._fading}
            stored = {"records": grid.parameters, "moments": grid.moments, **lazy}
            constants = {"TABLE": self._table.shape[1], "F": grid.grid.features, "QUANTIZED": self.model.quantized}
            if grid.lazy:
                programs = (-(-grid.grid.n_texels // SWEEP_TEXELS),)
                swept = {**shared, "count": grid.grid.n_texels, **stored}
                self.sweeps.append(Launch(adam.sweep_kernel, programs, swept, {**constants, "TEXELS": SWEEP_TEXELS}))
            if moves and config.wrap_boundary:
                spec = grid.grid
                first = max(spec.n_levels - config.wrap_levels, 0) if config.wrap_levels else 0
                levels = [(spec.resolution(k), spec.level_offset(k)) for k in range(first, spec.n_levels)]
                tied = {"interval": config.wrap_interval, "strength": config.wrap_strength,
                        "levels": torch.tensor(levels, dtype=torch.int32, device=self.device)}  # fmt: skip
                programs = (len(levels), max(1, -(-(spec.max_resolution - 2) // BORDER_TEXELS)))
                borders.append(Launch(adam.border_kernel, programs, {**shared, **tied, **stored},
                                      {**constants, "LAZY": grid.lazy, "TEXELS": BORDER_TEXELS}))  # fmt: skip
        self.launches += [self._network_launch(), self._advance_launch(), *borders]

    def _adam_launch(self, index: int) -> Launch:
        """Adam for one grid."""
        adam, grid, config = self._kernels.adam, self.grids[index], self.schedule.config
        shared = {"progress": self._progress, "table": self._table}
        constants = {
            "GRID": index, "TABLE": self._table.shape[1], "QUANTIZED": self.model.quantized,
            "FIXED_POINT": self.plan.fixed_point, "BETA1": ADAM_BETAS[0], "BETA2": ADAM_BETAS[1],
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
            "fading": self._fading, "gradients": grid.gradient,
        }  # fmt: skip
        constants |= {"F": grid.grid.features, "SAMPLES": TOUCHED_SAMPLES}
        return Launch(adam.touched_kernel, (-(-config.batch_size // TOUCHED_SAMPLES),), arguments, constants)

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

    def step(self, n: int) -> float:
        """Run `n` iterations; return their mean loss, training noise included."""
        if n == 0:
            return 0.0
        self._loss_sum.zero_()
        end = self.iteration + n
        while self.iteration < end:
            count = min(end - self.iteration, CHUNK, SWEEP_INTERVAL - self.iteration % SWEEP_INTERVAL)
            self._fill_table(count)
            self._run(count)
            self.iteration += count
            if self.iteration % SWEEP_INTERVAL == 0 and self.sweeps:
                for sweep in self.sweeps:
                    sweep()
                self._drift.zero_()
                self._distance.zero_()
        return float(self._loss_sum.item()) / n

    def _fill_table(self, count: int) -> None:
        """Rates and noise of the next `count` iterations, and where the kernels are."""
        span = range(self.iteration, self.iteration + count)
        factors = np.array([self.schedule.factor(i) * step_size(i + 1) for i in span])
        table = np.zeros((count, self._table.shape[1]), np.float32)
        table[:, 0] = [small(i + 1) for i in span]
        table[:, 1] = [self.schedule.noise_strength(i) for i in span]
        steps = factors[:, None] * np.array(self._rates)[None, :]
        table[:, 2:] = steps
        self._table[:count].copy_(torch.from_numpy(table))
        self._grid_steps[:count].copy_(torch.from_numpy(np.ascontiguousarray(steps[:, 1:])))
        self._progress.copy_(torch.tensor([self.iteration, 0, self._seed, 0], dtype=torch.int32))

    def _run(self, count: int) -> None:
        if self.device.type != "cuda":
            self._run_eagerly(count)
            return
        if not self._graphs:  # kernels are compiled and loaded now: a capture may not do that
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
        """CUDA graphs of GRAPH iterations and of one, after an eager one: the kernels read from memory which they are
        in. What other threads do with CUDA meanwhile does not end up in them."""
        for n in (GRAPH, 1):
            self._graphs[n] = torch.cuda.CUDAGraph()
            with library.on_device(self.device), torch.cuda.graph(self._graphs[n], capture_error_mode="thread_local"):
                self._run_eagerly(n)

    def probe(self) -> float:
        """Mean squared error over the present channels of one fixed batch, without noise; see TorchEngine.probe."""
        share = len(self.channels) / len(self.material.present_channels)
        self.probe_launch()
        return float(self._losses.double().sum()) / self.schedule.config.batch_size * share

    def learning_rates(self) -> dict[str, float]:
        """Current rate of the network and of each grid."""
        return self.schedule.named_rates(self._rates, self.iteration)

    # --- parameters and state ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def sync(self) -> None:
        """Leave the trained parameters in the model."""
        for parameters, grid in zip(self.model.grid_parameters, self.grids):
            parameters.copy_(grid.values(self.iteration))
        parts = self.network.weights.split([weight.numel() for weight in self.model.weights])
        for weight, part in zip(self.model.weights, parts):
            weight.copy_(part.view(weight.shape))

    def state(self) -> dict:
        """Iteration and optimiser on the CPU, in the torch engine's layout; `pending` as in CpuEngine.state."""
        if self.iteration == 0:
            return {"iteration": 0, "optimizer": {}}
        moments, sizes = self.network.moments.cpu(), [weight.numel() for weight in self.model.weights]
        parts = [
            tuple(part.reshape(weight.shape) for part in pair)
            for weight, *pair in zip(self.model.weights, *(m.split(sizes) for m in moments))
        ]
        entries = optimizer_entries(self.iteration, parts + [grid.stored_moments() for grid in self.grids])
        state = {"iteration": self.iteration, "optimizer": entries}
        if self.iteration % SWEEP_INTERVAL and any(grid.lazy for grid in self.grids):
            state["pending"] = [grid.pending(self.iteration) for grid in self.grids]
        return state

    def load_state(self, state: dict) -> None:
        """The inverse of state(), also of the other engines'. Raises: ValueError when it is not such a state."""
        optimizer, pending = state["optimizer"], state.get("pending")
        check_adam_state(optimizer, [*self.model.weights, *self.model.grid_parameters])
        iteration = int(state["iteration"])
        if pending is not None:
            check_pending(pending, self.model, iteration, SWEEP_INTERVAL, DRIFT_SIZE)
        recent = up_to_date(state, self.model)
        self.iteration = iteration
        self._load_parameters(optimizer, recent, pending)

    def reload(self) -> None:
        """Go on from the model's parameters, which something else has changed, with the moments that there are."""
        self._load_parameters(up_to_date(self.state(), self.model))

    def restart(self) -> None:
        """Begin again from the model's parameters."""
        self._load_parameters()

    def _load_parameters(
        self, optimizer: dict | None = None, recent: dict | None = None, pending: list | None = None
    ) -> None:
        """Take over the model's parameters, or the pending ones of lazy grids, and moments.

        recent: moments that are up to date, for dense grids; None: those of `optimizer` are.
        """
        model, layers = self.model, len(self.model.weights)
        recent = recent or optimizer
        flat = torch.cat([weight.detach().reshape(-1) for weight in model.weights])
        moments = None
        if optimizer:
            moments = [
                torch.cat([optimizer[i][name].reshape(-1).float().to(self.device) for i in range(layers)])
                for name in MOMENTS
            ]
        self.network.load(flat, moments)
        for index, (grid, parameters) in enumerate(zip(self.grids, model.grid_parameters)):
            older = pending is not None and grid.lazy
            source = optimizer if older else recent
            found = tuple(source[layers + index][name].float() for name in MOMENTS) if source else None
            if older:
                kept = pending[index]
                grid.load(self.iteration, kept["parameters"].to(self.device), found, kept["stamps"], kept["drift"])
            else:
                grid.load(self.iteration, parameters.detach(), found)
        self._progress.copy_(torch.tensor([self.iteration, 0, self._seed, 0], dtype=torch.int32))

    # --- self-check --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """One small step against autograd on the same samples, and a whole iteration against Adam's formula, which
        is then forgotten; on a GPU also that its CUDA graph can be captured and replayed.

        Raises: KernelsUnavailable when the kernels fail, or compute something else.
        """
        from engine.cuda.self_check import check_engine

        with library.failures():
            check_engine(self)
