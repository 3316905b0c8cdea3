"""Losses that weigh normals; stride 2, 150 epochs."""

from neuropbr.train_config import TrainConfig


def get_config() -> TrainConfig:
    cfg = TrainConfig()
    cfg.model.encoder_stride = 2
    cfg.loss.w_ssim, cfg.loss.w_normal, cfg.loss.w_gan = 0.2, 1.5, 0.08
    cfg.loss.w_albedo = cfg.loss.w_roughness = cfg.loss.w_metallic = 0.8
    cfg.loss.w_normal_map = 2.0
    cfg.training.epochs, cfg.training.gan_start_epoch = 150, 8
    cfg.optimizer.g_lr = 1.5e-4
    return cfg
