"""Metrics of predicted maps: PSNR, SSIM, MAE and RMSE per map, and angles between normals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch

from metrics.scores import psnr_db
from neuropbr.losses.losses import SSIM_MIN_SIZE, angles, ssim
from neuropbr.utils.maps import MAPS

QUANTILE_VALUES = 2**20  # angles of an image that percentiles are computed from; torch.quantile allows 2^24
COLOUR_MAPS = ("albedo", "roughness", "metallic")  # with values in [0, 1]


class MapMetrics:
    """Means over samples, independent of how these form batches."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    @torch.no_grad()
    def add(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
        """Add a batch of maps, name -> (B, C, H, W), see utils.maps."""
        for name in MAPS:
            wanted = target[name].float()
            error = (prediction[name].float() - wanted).double()
            squared = error.square().mean((1, 2, 3)).tolist()
            self.values[f"{name}_mae"] += error.abs().mean((1, 2, 3)).tolist()
            self.values[f"{name}_rmse"] += [value**0.5 for value in squared]
            if name in COLOUR_MAPS:
                self.values[f"{name}_psnr"] += [psnr_db([value]) for value in squared]
                if min(error.shape[-2:]) >= SSIM_MIN_SIZE:
                    self.values[f"{name}_ssim"] += ssim(prediction[name], wanted).tolist()
        for degrees in angles(prediction["normal"].float(), target["normal"].float()):
            flat = degrees.flatten()
            few = flat[:: max(1, flat.numel() // QUANTILE_VALUES)]
            quantiles = torch.quantile(few, few.new_tensor([0.5, 0.9, 0.95])).tolist()
            found = [flat.mean(), quantiles[0], flat.std(unbiased=False), flat.min(), flat.max(), *quantiles[1:]]
            for kind, value in zip(("mean", "median", "std", "min", "max", "p90", "p95"), found):
                self.values[f"normal_angle_{kind}"].append(float(value))

    def means(self) -> dict[str, float]:
        """Metric -> mean over samples; overall_psnr, _ssim and _mae are means over the maps that have them."""
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        for kind in ("psnr", "ssim", "mae"):
            each = [means[f"{name}_{kind}"] for name in MAPS if f"{name}_{kind}" in means]
            if each:
                means[f"overall_{kind}"] = sum(each) / len(each)
        return means


def metrics_table(means: Mapping[str, float]) -> str:
    """The means as text for the terminal."""
    lines = []
    for name in COLOUR_MAPS:
        similar = f"  SSIM {means[f'{name}_ssim']:.3f}" if f"{name}_ssim" in means else ""
        lines.append(f"  {name:<9} PSNR {means[f'{name}_psnr']:.2f} dB  MAE {means[f'{name}_mae']:.4f}{similar}")
    angle = {kind: means[f"normal_angle_{kind}"] for kind in ("mean", "median", "p95")}
    lines.append(f"  normal    {angle['mean']:.2f} degrees off, median {angle['median']:.2f}, "
                 f"95 % below {angle['p95']:.2f}")  # fmt: skip
    return "\n".join(lines)
