"""Losses against the ground truth and against a teacher, and those of the GAN. All in float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchtyping import TensorType

from neuropbr.train_config import LossConfig
from neuropbr.utils.maps import MAPS, Pictures

Maps = Mapping[str, torch.Tensor]
PerSample = TensorType["batch"]
PerTexel = TensorType["batch", "height", "width"]
SSIM_MIN_SIZE = 11  # texels: its window


def ssim(prediction: Pictures, target: Pictures) -> PerSample:
    """(B,) mean structural similarity of (B, C, H, W) in [0, 1]: 11 x 11 Gaussian windows, sigma 1.5."""
    return structural_similarity_index_measure(
        prediction.float(), target.float(), sigma=1.5, kernel_size=11, data_range=1.0, reduction="none"
    ).reshape(-1)


def cosine(prediction: Pictures, target: Pictures) -> PerTexel:
    """(B, H, W) cosine of the angle between unit vectors (B, 3, H, W)."""
    return (prediction * target).sum(1).clamp(-1, 1)


def angles(prediction: Pictures, target: Pictures) -> PerTexel:
    """(B, H, W) degrees between unit vectors (B, 3, H, W): 2 asin(|a - b| / 2), exact for small angles too."""
    return torch.rad2deg(2 * torch.asin(((prediction - target).norm(dim=1) / 2).clamp(max=1)))


class HybridLoss(nn.Module):
    """w_l1 * sum of w_map * L1, w_ssim * (1 - SSIM of albedo), w_normal * mean(1 - cosine).

    Returns the total, which has a gradient also where all weights are 0, and its parts for the log.
    """

    def __init__(self, loss: LossConfig):
        super().__init__()
        self.loss = loss
        names = ("w_albedo", "w_roughness", "w_metallic", "w_normal_map")
        self.weights = {name: getattr(loss, weight) for name, weight in zip(MAPS, names)}

    def forward(self, prediction: Maps, target: Maps) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        parts = {f"l1_{name}": F.l1_loss(prediction[name].float(), target[name]) for name in MAPS}
        parts["loss_l1_total"] = sum(self.weights[name] * parts[f"l1_{name}"] for name in MAPS)
        similar = min(target["albedo"].shape[-2:]) >= SSIM_MIN_SIZE
        parts["loss_ssim"] = 1 - (ssim(prediction["albedo"], target["albedo"]).mean() if similar else 1)
        parts["loss_normal"] = (1 - cosine(prediction["normal"].float(), target["normal"])).mean()
        total = self.loss.w_l1 * parts["loss_l1_total"] + self.loss.w_normal * parts["loss_normal"]
        if self.loss.w_ssim:
            total = total + self.loss.w_ssim * parts["loss_ssim"]
        with torch.no_grad():
            parts["normal_angle_deg"] = angles(prediction["normal"].float(), target["normal"]).mean()
            parts["mae_albedo"] = parts["l1_albedo"]
            parts["rmse_albedo"] = F.mse_loss(prediction["albedo"].float(), target["albedo"]).sqrt()
        return total, {name: torch.as_tensor(value).detach() for name, value in parts.items()}


class GANLoss(nn.Module):
    """Hinge (Lim and Ye 2017) or binary cross-entropy, on scores or, after a sigmoid, on probabilities."""

    def __init__(self, kind: str, probabilities: bool = False):
        super().__init__()
        self.kind, self.entropy = kind, F.binary_cross_entropy if probabilities else F.binary_cross_entropy_with_logits

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        real, fake = real.float(), fake.float()
        if self.kind == "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return self.entropy(real, torch.ones_like(real)) + self.entropy(fake, torch.zeros_like(fake))

    def generator(self, fake: torch.Tensor) -> torch.Tensor:
        fake = fake.float()
        return -fake.mean() if self.kind == "hinge" else self.entropy(fake, torch.ones_like(fake))


class DistillationLoss(nn.Module):
    """How far a student is from its teacher: softened Bernoulli divergences, and T^2 times the normals' MSE."""

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def _softened(self, probability: torch.Tensor) -> torch.Tensor:
        return torch.logit(probability.float(), eps=1e-6) / self.temperature

    def forward(self, student: Maps, teacher: Maps) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        t2, parts = self.temperature**2, {}
        for name in MAPS:
            if name == "normal":
                parts["distill_normal"] = t2 * F.mse_loss(student[name].float(), teacher[name].float())
                continue
            logits, wanted = self._softened(student[name]), torch.sigmoid(self._softened(teacher[name]))
            crossed = F.binary_cross_entropy_with_logits(logits, wanted)
            own = F.binary_cross_entropy(wanted, wanted)
            parts[f"distill_{name}"] = t2 * (crossed - own)
        total = sum(parts.values())
        parts["distill_total"] = total
        return total, {name: value.detach() for name, value in parts.items()}
