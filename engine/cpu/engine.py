"""CpuEngine: trains on the C++ kernels; Python only says for how many iterations and at which rates."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from ctypes import byref, c_double, c_float, c_int64

import torch

from dataset import Material
from engine.adam_state import ADAM_BETAS, ADAM_EPSILON, PENDING, check_adam_state, check_pending, up_to_date
from engine.cpu import library
from engine.cpu.decoder import split_like
from engine.cpu.library import array, check, pointer, thread_count
from engine.sampling import PROBE, channel_loss_weights, learned_channels, lod_boundaries
from engine.schedule import Schedule
from model import NeuralTexture
from shape import resolve_grids

CHUNKS = (250, 125, 50, 25, 10, 5)
WORK_PER_CHUNK = 6e10  # multiply-adds: a second on two cores of a laptop
WORK_BESIDE_NETWORK = 5000  # of a sample, in the time of multiply-adds: its memory, mostly


class CpuEngine:
    """Trains a NeuralTexture on a Material, on the CPU.

    The same samples, noise, loss and optimiser as TorchEngine, to float tolerance; the same bits for the same seed,
    whatever the number of threads. Parameters live in the kernels until sync().

    Args:
        model: on the CPU; its parameters are the starting point.
        material: the target; its texels are read in place.
        schedule: learning rates and noise; asked for all iterations of a step at its start.
        say: receives a line when the kernels have to be compiled.
    Raises: KernelsUnavailable; MemoryError; ValueError when the model holds every channel as a constant.
    """

    name = "cpu"

    def __init__(
        self, model: NeuralTexture, material: Material, schedule: Schedule, device: torch.device | None = None,
        say: Callable[[str], None] | None = None,
    ):  # fmt: skip
        self._kernels = library.load_kernels(say)
        self.model = model
        self.material = material
        self.schedule = schedule
        self.channels = learned_channels(model, material)
        if not self.channels:
            raise ValueError("every channel is a constant: there is nothing to train")
        self.iteration = 0
        self.n_threads = thread_count(schedule.config.num_threads)
        self._rates = [schedule.config.learning_rate] + [
            grid.learning_rate for grid in resolve_grids(schedule.config, material.width, material.height)
        ]
        self._settings = self._describe_settings()
        self._described = library.describe_material(material, self.channels)
        shape = library.describe_model(model, self.channels)
        self._trainer = self._kernels.nt_trainer_create(shape, self._described, self._settings)
        if not self._trainer:
            raise MemoryError("the CPU kernels ran out of memory")
        weakref.finalize(self, self._kernels.nt_trainer_destroy, self._trainer)
        self.chunk = self._choose_chunk(shape)
        self._load_parameters()

    def _choose_chunk(self, shape: library.Model) -> int:
        """Iterations per call that take about a second: a function of the shape, not of the clock, since the early
        stop sees PSNR chunk by chunk and has to see the same in every run."""
        per_sample, per_decode = c_int64(), c_int64()
        self._kernels.nt_work(shape, byref(per_sample), byref(per_decode))
        per_iteration = self.schedule.config.batch_size * (per_sample.value + WORK_BESIDE_NETWORK)
        return next((n for n in CHUNKS if n * per_iteration <= WORK_PER_CHUNK), CHUNKS[-1])

    def _describe_settings(self) -> library.Settings:
        config = self.schedule.config
        weights = channel_loss_weights(self.material, config.texture_loss_weights, self.channels)
        return library.Settings(
            batch_size=config.batch_size,
            seed=config.seed,
            n_threads=self.n_threads,
            lod_shares=array(c_float, lod_boundaries(self.material.lod_sizes).tolist()),
            channel_weights=array(c_float, weights.tolist()),
            network_rate=self._rates[0],
            grid_rates=array(c_double, self._rates[1:]),
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            epsilon=ADAM_EPSILON,
            wrap_interval=config.wrap_interval if config.wrap_boundary else 0,
            wrap_levels=config.wrap_levels,
            wrap_strength=config.wrap_strength,
        )

    # --- training --------------------------------------------------------------------------------------------------

    def step(self, n: int) -> float:
        """Run `n` iterations; return their mean loss, training noise included."""
        span = range(self.iteration, self.iteration + n)
        factors = array(c_double, [self.schedule.factor(i) for i in span])
        noise = array(c_double, [self.schedule.noise_strength(i) for i in span])
        loss = c_double()
        check(self._kernels.nt_trainer_step(self._trainer, n, factors, noise, byref(loss)))
        self.iteration += n
        return loss.value

    def probe(self) -> float:
        """Mean squared error over the present channels of one fixed batch, without noise; see TorchEngine.probe."""
        share = len(self.channels) / len(self.material.present_channels)
        mse = c_double()
        check(self._kernels.nt_trainer_probe(self._trainer, PROBE, byref(mse)))
        return mse.value * share

    def learning_rates(self) -> dict[str, float]:
        """Current rate of the network and of each grid."""
        return self.schedule.named_rates(self._rates, self.iteration)

    # --- parameters and state --------------------------------------------------------------------------------------

    @torch.no_grad()
    def sync(self) -> None:
        """Leave the trained parameters in the model."""
        for index, parameters in enumerate(self.model.grid_parameters):
            self._kernels.nt_trainer_save_grid(self._trainer, index, pointer(parameters), None, None, None)
        weights = torch.empty(sum(weight.numel() for weight in self.model.weights))
        self._kernels.nt_trainer_save_network(self._trainer, pointer(weights), None, None)
        for weight, value in zip(self.model.weights, split_like(weights, self.model.weights)):
            weight.copy_(value)

    def state(self) -> dict:
        """Iteration and optimiser, in the torch engine's layout.

        Between two sweeps some texels have not yet followed Adam (see src/adam.h). Then `pending` holds, beside
        moments that are as old as the texels are, what it takes to go on with the same bits: per grid the stored
        parameters, the iteration that each texel is at, and the distances that texels of each age still have to go.
        """
        if self.iteration == 0:
            return {"iteration": 0, "optimizer": {}}
        model, kernels = self.model, self._kernels
        flat = [torch.empty(sum(weight.numel() for weight in model.weights)) for _ in range(2)]
        kernels.nt_trainer_save_network(self._trainer, None, pointer(flat[0]), pointer(flat[1]))
        moments = list(zip(*(split_like(values, model.weights) for values in flat)))
        pending = []
        for index, (grid, parameters) in enumerate(zip(model.grids, model.grid_parameters)):
            stored, first, second = (torch.empty_like(parameters) for _ in range(3))
            stamps = torch.empty(grid.n_texels, dtype=torch.int32)
            drift = torch.empty(kernels.nt_drift_size(), dtype=torch.float64)
            kernels.nt_trainer_save_grid(self._trainer, index, *map(pointer, (stored, first, second, stamps)))
            kernels.nt_trainer_save_drift(self._trainer, index, pointer(drift))
            moments.append((first, second))
            pending.append({"parameters": stored.detach(), "stamps": stamps, "drift": drift})
        optimizer = {}
        for index, (first, second) in enumerate(moments):
            step = torch.tensor(float(self.iteration))  # one for each: torch counts them up one by one
            optimizer[index] = {"step": step, "exp_avg": first.detach(), "exp_avg_sq": second.detach()}
        state = {"iteration": self.iteration, "optimizer": optimizer}
        if self.iteration % kernels.nt_sweep_interval():
            state["pending"] = pending
        return state

    def load_state(self, state: dict) -> None:
        """The inverse of state(), also of the torch engine's. Raises: ValueError when it is not such a state."""
        optimizer, pending = state["optimizer"], state.get("pending")
        check_adam_state(optimizer, [*self.model.weights, *self.model.grid_parameters])
        iteration = int(state["iteration"])
        if pending is not None:
            check_pending(
                pending, self.model, iteration, self._kernels.nt_sweep_interval(), self._kernels.nt_drift_size()
            )
        self.iteration = iteration
        self._load_parameters(optimizer, pending)

    def reload(self) -> None:
        """Go on from the model's parameters, which something else has changed, with the moments that there are."""
        self._load_parameters(up_to_date(self.state(), self.model))

    def _load_parameters(self, optimizer: dict | None = None, pending: list | None = None) -> None:
        """Hand the model's parameters, or the pending ones, and moments to the kernels."""
        n_layers = len(self.model.weights)
        weights = torch.cat([weight.detach().reshape(-1) for weight in self.model.weights])
        moments = [None, None]
        if optimizer:
            moments = [
                torch.cat([optimizer[index][name].reshape(-1).float() for index in range(n_layers)])
                for name in ("exp_avg", "exp_avg_sq")
            ]
        kernels, trainer = self._kernels, self._trainer
        kernels.nt_trainer_load_network(trainer, self.iteration, pointer(weights), *map(pointer, moments))
        for index, parameters in enumerate(self.model.grid_parameters):
            values, moments, stamps = parameters.detach(), [None, None], None
            if optimizer:
                entry = optimizer[n_layers + index]
                moments = [entry[name].float().contiguous() for name in ("exp_avg", "exp_avg_sq")]
            if pending:
                values, stamps, drift = (pending[index][name].contiguous() for name in PENDING)
            kernels.nt_trainer_load_grid(
                trainer, index, self.iteration, pointer(values), *map(pointer, moments), pointer(stamps)
            )
            if pending:
                kernels.nt_trainer_load_drift(trainer, index, pointer(drift))
