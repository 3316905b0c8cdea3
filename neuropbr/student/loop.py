"""The training of a student from the maps and from what a teacher predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from common.errors import UserError, counted
from neuropbr.losses.losses import DistillationLoss, HybridLoss
from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import TrainConfig
from neuropbr.utils.batches import open_dataset, open_splits
from neuropbr.utils.checkpoints import load_generator
from neuropbr.utils.device import compiled
from neuropbr.utils.logs import log_pictures
from neuropbr.utils.loop import Loop
from neuropbr.utils.maps import Size, split_targets, unit
from neuropbr.utils.memory import say_what_it_needs
from neuropbr.utils.schedule import Schedule, make_optimizer
from neuropbr.utils.shards import DistillationShardDataset


def fitted(maps: dict[str, torch.Tensor], size: Size) -> dict[str, torch.Tensor]:
    """Maps (B, C, h, w) resized to `size`; normals are normalised again."""
    if tuple(maps["albedo"].shape[-2:]) == tuple(size):
        return maps
    maps = {name: F.interpolate(values.float(), size, mode="bilinear", antialias=True) for name, values in maps.items()}
    return {**maps, "normal": unit(maps["normal"], 1)}


class StudentLoop(Loop):
    """Trains with (1 - alpha) * loss against the ground truth + alpha * distance from the teacher, without a GAN."""

    LATEST, BEST, PERIODIC = "latest_student.pth", "best_student.pth", "student_epoch_{:04d}.pth"
    PREFIX = "val_student"
    shown = {"loss_total": "loss", "loss_hard": "hard", "loss_soft": "soft"}  # noqa: RUF012

    def __init__(self, config: TrainConfig, device: torch.device, shards: str | None, teacher: str | None):
        train, held_out = open_splits(config)
        self.teacher, groups = None, None
        if shards:
            if config.data.use_augmentation:
                raise UserError("use_augmentation: shards hold predictions of the renders as they are; switch it off")
            whole, folder = open_dataset(config, None), Path(shards)
            train, held_out = (
                DistillationShardDataset(part, whole, folder, config.training.seed) for part in (train, held_out)
            )
            groups = train.groups
        else:
            self.teacher, self.teacher_config = load_generator(teacher)
            self.teacher.requires_grad_(False).to(device)
        super().__init__(config, device, train, held_out, groups)
        say_what_it_needs(config, device, gan=False)  # a second or more, and files that cannot be used are said before
        self.say(f"{counted(len(train), 'training sample')}, {counted(len(held_out), 'validation sample')}")
        fresh = config.training.resume_from is None
        torch.manual_seed(config.training.seed)
        student = MultiViewPBRGenerator(config, config.model.pretrained and fresh).to(device)
        self.networks = {"student": student}
        self.optimizers = {"optimizer": make_optimizer(student.parameters(), config.optimizer, "g")}
        self.schedules = {"scheduler": Schedule(self.optimizers["optimizer"], config.optimizer,
                                                config.training.epochs, warm_up=True)}  # fmt: skip
        self.student = compiled(student, device, config.training.compile)
        self.hard, self.soft = HybridLoss(config.loss), DistillationLoss(config.distillation.temperature)
        if not fresh:
            self.resume(config.training.resume_from)

    def state(self) -> dict[str, Any]:
        distillation = self.config.distillation
        return {**super().state(), "distillation_temperature": distillation.temperature,
                "distillation_alpha": distillation.alpha}  # fmt: skip

    def _teach(self, batch: Any) -> dict[str, torch.Tensor]:
        """The teacher's maps at the student's output size."""
        if self.teacher is None:
            return fitted(batch[2], self.config.data.output_size)
        own, other = self.config.transform, self.teacher_config.transform
        own_mean, own_std, mean, std = (
            torch.tensor(list(v), device=self.device).reshape(3, 1, 1)
            for v in (own.mean, own.std, other.mean, other.std)
        )
        views = (batch[0] * own_std + own_mean - mean) / std  # the teacher may have other statistics and another size
        sized = F.interpolate(views.flatten(0, 1), self.teacher_config.data.image_size, mode="bilinear", antialias=True)
        with torch.no_grad(), self.precision.autocast():
            maps = self.teacher(sized.reshape(*views.shape[:3], *sized.shape[-2:]))
        return fitted(maps, self.config.data.output_size)

    def train_step(self, batch: Any) -> dict[str, torch.Tensor]:
        taught, target = self._teach(batch), split_targets(batch[1])
        with self.precision.autocast():
            prediction = self.student(batch[0])
        hard, parts = self.hard(prediction, target)
        soft, distances = self.soft(prediction, taught)
        alpha = self.config.distillation.alpha
        total = (1 - alpha) * hard + alpha * soft
        rate = self.optimizers["optimizer"].param_groups[0]["lr"]
        self.step("optimizer", total, self.config.training.grad_clip_norm)
        return {**parts, **distances, "loss_total": total.detach(), "loss_hard": hard.detach(),
                "loss_soft": soft.detach(), "lr": torch.tensor(rate)}  # fmt: skip

    def val_step(self, batch: Any) -> tuple:
        target = split_targets(batch[1])
        with self.precision.autocast():
            prediction = self.student(batch[0])
        return prediction, target, self.hard(prediction, target)[0]

    def log_images(self, batch: Any, prediction: Any, target: Any, epoch: int) -> None:
        common = (self.mean, self.std)
        log_pictures(self.logs, self.PREFIX, batch[0], prediction, target, epoch, *common)
        log_pictures(self.logs, "val_teacher", batch[0], self._teach(batch), target, epoch, *common)
