"""CpuEngine: trains on the C++ kernels, which run whole chunks of iterations on their own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from ctypes import byref, c_double, c_float, c_void_p
from pathlib import Path

import torch

from common.memory import RestingFloats
from dataset import Material
from engine.adam_state import (
    ADAM_BETAS,
    ADAM_EPSILON,
    DRIFT_SIZE,
    MOMENTS,
    PENDING,
    SWEEP_INTERVAL,
    Moments,
    Optimizer,
    Pending,
    check_pending,
    optimizer_entries,
    up_to_date,
)
from engine.base import KernelEngine
from engine.cpu import library
from engine.cpu.library import array, check, pointer, pointers, thread_count
from engine.flat_weights import flat_weights, split_weights
from engine.protocol import State
from engine.sampling import PROBE, fraction_of_draw, lod_boundaries, whole_lod_share
from engine.schedule import Schedule
from model import NeuralTexture

CHUNKS = (250, 125, 50, 25, 10, 5)
WORK_PER_CHUNK = 6e10  # multiply-adds: a second on two cores of a laptop
WORK_BESIDE_NETWORK = 5000  # of a sample, in the time of multiply-adds: mostly its memory accesses


class CpuEngine(KernelEngine):
    """Trains a NeuralTexture on a Material, on the CPU.

    Samples, noise, loss and optimiser are those of TorchEngine, and results agree with it to float tolerance. The same
    seed gives the same bits, whatever the number of threads.

    Args:
        model: on the CPU.
        material: its texels are read in place.
        schedule: step() asks it for all its iterations before the first.
        say: receives a line when the kernels have to be compiled.
    Raises: KernelsUnavailable; MemoryError; ValueError when the model holds every channel as a constant.
    """

    name = "cpu"

    def __init__(
        self, model: NeuralTexture, material: Material, schedule: Schedule, say: Callable[[str], None] | None = None
    ):
        self._kernels = library.load_kernels(say)
        self._say = say or (lambda text: None)
        super().__init__(model, material, schedule)
        self.n_threads = thread_count(schedule.config.num_threads)
        self._settings = self._describe_settings()
        self._described = library.describe_material(self.material, self.channels)
        shape = library.describe_model(model, self.channels)
        self._trainer = c_void_p()
        create = self._kernels.nt_trainer_create
        check(self._kernels, create(shape, self._described, self._settings, byref(self._trainer)))
        self._destroy = weakref.finalize(self, self._kernels.nt_trainer_destroy, self._trainer)
        self.chunk = self._choose_chunk(shape)
        self._load_parameters()

    def _choose_chunk(self, shape: library.Model) -> int:
        """Iterations per call that take about a second.

        It depends on the shape and never on the clock: the early stop looks at the PSNR after each chunk, and must see
        the same in every run.
        """
        per_sample = library.multiply_adds(self._kernels, shape) + WORK_BESIDE_NETWORK
        per_iteration = self.schedule.config.batch_size * per_sample
        return next((n for n in CHUNKS if n * per_iteration <= WORK_PER_CHUNK), CHUNKS[-1])

    def _describe_settings(self) -> library.Settings:
        config = self.schedule.config
        fraction_start, fraction_scale = fraction_of_draw(whole_lod_share(self.model))
        return library.Settings(
            batch_size=config.batch_size,
            seed=config.seed,
            n_threads=self.n_threads,
            lod_shares=array(c_float, lod_boundaries(self.material.lod_sizes).tolist()),
            channel_weights=array(c_float, self.loss_weights.tolist()),
            light=array(c_float, self.sample_loss.light),
            network_rate=self.rates[0],
            grid_rates=array(c_double, self.rates[1:]),
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            epsilon=ADAM_EPSILON,
            wrap_interval=config.wrap_interval if config.wrap_boundary else 0,
            wrap_levels=config.wrap_levels,
            wrap_strength=config.wrap_strength,
            filtered=config.positions == "filtered",
            fraction_start=fraction_start,
            fraction_scale=fraction_scale,
            weight_bits=self.model.weight_bits,
            bfloat16=config.cpu_precision == "bf16" and self._has_bfloat16(),
        )

    def _has_bfloat16(self) -> bool:
        if not self._kernels.nt_has_bfloat16():
            self._say("note: --cpu_precision bf16: this CPU does not multiply bfloat16; float32 takes its place")
            return False
        return True

    # --- training --------------------------------------------------------------------------------------------------

    def _step(self, n: int) -> float:
        """See KernelEngine._step."""
        span = range(self.iteration, self.iteration + n)
        factors = array(c_double, [self.schedule.factor(i) for i in span])
        noise = array(c_double, [self.schedule.noise_strength(i) for i in span])
        n_float = sum(not self.schedule.rounds_weights(i) for i in span)  # they come first
        loss = c_double()
        check(self._kernels, self._kernels.nt_trainer_step(self._trainer, n, factors, noise, n_float, byref(loss)))
        self.iteration += n
        return loss.value

    def probe(self) -> float:
        """See Engine.probe."""
        mse = c_double()
        check(self._kernels, self._kernels.nt_trainer_probe(self._trainer, PROBE, byref(mse)))
        return mse.value * self.probe_share

    # --- parameters and state --------------------------------------------------------------------------------------

    @torch.no_grad()
    def sync(self) -> None:
        """See Engine.sync."""
        for index, parameters in enumerate(self.model.grid_parameters):
            self._kernels.nt_trainer_save_grid(self._trainer, index, pointer(parameters), None, None, None)
        flat = torch.empty(sum(weight.numel() for weight in self.model.weights))
        self._kernels.nt_trainer_save_network(self._trainer, pointer(flat), None, None)
        for weight, value in zip(self.model.weights, split_weights(flat, self.model)):
            weight.copy_(value)
        if not self.calibrated:
            self.calibrate()
            self._load_ranges()

    def _load_ranges(self) -> None:
        if self.model.activation_bits == 8:
            self._kernels.nt_trainer_load_ranges(self._trainer, pointer(self.model.activation_ranges))

    def settled_state(self) -> State:
        """See Engine.settled_state; nothing is copied besides the moments."""
        moments = self._network_moments()
        for index, parameters in enumerate(self.model.grid_parameters):
            pair = tuple(torch.empty_like(parameters).detach() for _ in MOMENTS)
            self._kernels.nt_trainer_save_grid(self._trainer, index, None, *map(pointer, pair), None)
            moments.append(pair)
        return self.with_calibration(
            {"iteration": self.iteration, "optimizer": optimizer_entries(self.iteration, moments)}
        )

    def retire(self, folder: Path | None = None) -> State:
        """See KernelEngine.retire; the moments fill the memory that the kernels' records leave."""
        grids = [[RestingFloats(grid.n_parameters, folder) for _ in MOMENTS] for grid in self.model.grids]
        arrays = [pointers([moment.values for moment in order]) for order in zip(*grids)]
        self._kernels.nt_trainer_take_moments(self._trainer, *arrays)
        moments = self._network_moments() + [(first.values, second.values) for first, second in grids]
        self._destroy()
        del self._trainer
        for pair in grids:
            for moment in pair:
                moment.let_go()
        return self.with_calibration(
            {"iteration": self.iteration, "optimizer": optimizer_entries(self.iteration, moments)}
        )

    def _network_moments(self) -> list[Moments]:
        flat = [torch.empty(sum(weight.numel() for weight in self.model.weights)) for _ in MOMENTS]
        self._kernels.nt_trainer_save_network(self._trainer, None, *map(pointer, flat))
        return list(zip(*(split_weights(values, self.model) for values in flat)))

    def _stored(self) -> tuple[list[Moments], list[Pending]]:
        model, kernels = self.model, self._kernels
        moments, pending = self._network_moments(), []
        for index, (grid, parameters) in enumerate(zip(model.grids, model.grid_parameters)):
            stored, first, second = (torch.empty_like(parameters).detach() for _ in range(3))
            stamps = torch.empty(grid.n_units, dtype=torch.int32)
            drift = torch.empty(DRIFT_SIZE, dtype=torch.float64)
            kernels.nt_trainer_save_grid(self._trainer, index, *map(pointer, (stored, first, second, stamps)))
            kernels.nt_trainer_save_drift(self._trainer, index, pointer(drift))
            moments.append((first, second))
            pending.append({"parameters": stored, "stamps": stamps, "drift": drift})
        return moments, pending

    def load_state(self, state: State) -> None:
        """See KernelEngine.load_state.

        Where another engine's pending updates differ between planes of one grid, all are brought up to date instead.
        """
        pending = state.get("pending")
        if pending is not None:
            check_pending(pending, self.model, int(state["iteration"]), SWEEP_INTERVAL)
        if pending is not None and not self._planes_agree(pending):
            state = {**state, "optimizer": up_to_date(state, self.model), "pending": None}
        super().load_state(state)

    def _planes_agree(self, pending: list[Pending]) -> bool:
        """Whether successive grids of blocks with one shape, which the kernels may take together, have equal stamps."""
        grids = self.model.grids
        alike = [i for i in range(1, len(grids)) if grids[i].compressed and grids[i] == grids[i - 1]]
        return all(torch.equal(pending[i]["stamps"], pending[i - 1]["stamps"]) for i in alike)

    def _load_parameters(self, optimizer: Optimizer | None = None, pending: list[Pending] | None = None) -> None:
        kernels, trainer, nothing = self._kernels, self._trainer, [None, None]
        weights, moments = flat_weights(self.model), self.network_moments(optimizer) or nothing
        kernels.nt_trainer_load_network(trainer, self.iteration, pointer(weights), *map(pointer, moments))
        self._load_ranges()
        for index, parameters in enumerate(self.model.grid_parameters):
            values, moments, stamps = parameters.detach(), nothing, None
            if optimizer:
                entry = optimizer[len(self.model.weights) + index]
                moments = [entry[name].float().contiguous() for name in MOMENTS]
            late = pending is not None and self.moves[index]
            if late:
                values, stamps, drift = (pending[index][name].contiguous() for name in PENDING)
            kernels.nt_trainer_load_grid(
                trainer, index, self.iteration, pointer(values), *map(pointer, moments), pointer(stamps)
            )
            if late:
                kernels.nt_trainer_load_drift(trainer, index, pointer(drift))
