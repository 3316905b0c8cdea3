"""A template: copy it, change it, and run `python train.py --config configs/my_config.py ...`."""

from neuropbr.train_config import TrainConfig


def get_config() -> TrainConfig:
    cfg = TrainConfig()
    cfg.model.encoder_backbone = "resnet101"
    cfg.model.transformer_depth = 6
    cfg.model.use_gan = True

    cfg.training.epochs = 200
    cfg.training.batch_size = 8

    cfg.loss.w_l1 = 1.0
    cfg.loss.w_ssim = 0.5
    cfg.loss.w_normal = 0.7

    cfg.optimizer.g_lr = 1e-4
    cfg.optimizer.d_lr = 4e-4
    cfg.optimizer.scheduler = "cosine"
    return cfg
