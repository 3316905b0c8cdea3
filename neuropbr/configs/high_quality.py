"""Highest fidelity: ResNet101 at stride 2, 6 ViT blocks, 200 epochs."""

from neuropbr.train_config import TrainConfig


def get_config() -> TrainConfig:
    cfg = TrainConfig()
    cfg.model.encoder_backbone = "resnet101"
    cfg.model.encoder_stride = 2
    cfg.model.transformer_depth = 6
    cfg.loss.w_ssim, cfg.loss.w_normal, cfg.loss.w_gan, cfg.loss.w_albedo = 0.5, 0.8, 0.1, 1.2
    cfg.training.epochs, cfg.training.gan_start_epoch = 200, 10
    cfg.optimizer.g_lr, cfg.optimizer.d_lr, cfg.optimizer.scheduler_warmup_epochs = 1e-4, 2e-4, 10
    return cfg
