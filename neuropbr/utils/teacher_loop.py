"""The training of the teacher: one generator, and a discriminator that judges its maps."""

from __future__ import annotations

from typing import Any

import torch

from common.errors import counted
from neuropbr.losses.losses import GANLoss, HybridLoss
from neuropbr.models.discriminators import build_discriminator, join_maps
from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import TrainConfig
from neuropbr.utils.batches import open_splits
from neuropbr.utils.device import compiled
from neuropbr.utils.logs import log_pictures
from neuropbr.utils.loop import Loop
from neuropbr.utils.maps import split_targets
from neuropbr.utils.memory import say_what_it_needs
from neuropbr.utils.parallel_training import distributed
from neuropbr.utils.schedule import Schedule, make_optimizer


class TeacherLoop(Loop):
    """Trains the generator and, from gan_start_epoch on, the discriminator; both use one generator pass per step."""

    shown = {"g_loss": "G_loss", "d_loss": "D_loss"}  # noqa: RUF012

    def __init__(self, config: TrainConfig, device: torch.device, rank: int = 0, processes: int = 1):
        train, held_out = open_splits(config)
        super().__init__(config, device, train, held_out, rank=rank, processes=processes)
        if rank == 0:  # a second or more, and files that cannot be used are said before
            say_what_it_needs(config, device)
        fresh = config.training.resume_from is None
        self.say(f"{counted(len(train), 'training sample')}, {counted(len(held_out), 'validation sample')}")
        torch.manual_seed(config.training.seed)  # the same weights in every process
        generator = MultiViewPBRGenerator(config, config.model.pretrained and fresh).to(device)
        if device.type == "cuda":
            generator = generator.to(memory_format=torch.channels_last)
        generator = distributed(generator, processes)
        discriminator = distributed(build_discriminator(config.model).to(device), processes)
        torch.manual_seed(config.training.seed + rank)  # different dropout in each process
        self.networks = {"generator": generator}
        self.optimizers = {"g_optimizer": make_optimizer(generator.parameters(), config.optimizer, "g")}
        if config.model.use_gan:
            self.networks["discriminator"] = discriminator
            self.optimizers["d_optimizer"] = make_optimizer(discriminator.parameters(), config.optimizer, "d")
        epochs = config.training.epochs
        self.schedules = {
            name.replace("optimizer", "scheduler"): Schedule(optimizer, config.optimizer, epochs, name[0] == "g")
            for name, optimizer in self.optimizers.items()
        }
        self.generator, self.discriminator = compiled(generator, device, config.training.compile), discriminator
        self.loss = HybridLoss(config.loss)
        self.gan = GANLoss(config.loss.gan_loss_type, config.model.discriminator_use_sigmoid)
        if not fresh:
            self.resume(config.training.resume_from)

    def train_step(self, batch: Any) -> dict[str, torch.Tensor]:
        views, target = batch[0], split_targets(batch[1])
        training, weights = self.config.training, self.config.loss
        adversarial = self.config.model.use_gan and weights.w_gan > 0 and self.epoch >= training.gan_start_epoch
        with self.precision.autocast():
            prediction = self.generator(views)
        scalars: dict[str, torch.Tensor] = {"g_lr": torch.tensor(self.optimizers["g_optimizer"].param_groups[0]["lr"])}
        fake = join_maps(prediction).float()
        if adversarial:
            real = join_maps(target)
            for _ in range(training.d_steps_per_g_step):
                with self.precision.autocast():
                    loss = self.gan.discriminator(self.discriminator(real), self.discriminator(fake.detach()))
                self.step("d_optimizer", weights.w_discriminator * loss)
            scalars["d_loss"] = loss.detach()
        total, parts = self.loss(prediction, target)
        if adversarial:
            self.discriminator.requires_grad_(False)  # the generator's loss must not change it
            with self.precision.autocast():
                fooled = self.gan.generator(self.discriminator(fake))
            total, parts["loss_gan_g"] = total + weights.w_gan * fooled, fooled.detach()
        self.step("g_optimizer", total, training.grad_clip_norm)
        self.discriminator.requires_grad_(True)
        return {**scalars, **parts, "g_loss": total.detach(), "loss_total": total.detach()}

    def val_step(self, batch: Any) -> tuple:
        target = split_targets(batch[1])
        with self.precision.autocast():
            prediction = self.generator(batch[0])
        return prediction, target, self.loss(prediction, target)[0]

    def log_images(self, batch: Any, prediction: Any, target: Any, epoch: int) -> None:
        log_pictures(self.logs, self.PREFIX, batch[0], prediction, target, epoch, self.mean, self.std)
