"""Rapid experiments: ResNet18 at stride 2, 2 ViT blocks, 50 epochs."""

from neuropbr.train_config import TrainConfig


def get_config() -> TrainConfig:
    cfg = TrainConfig()
    cfg.model.encoder_backbone = "resnet18"
    cfg.model.encoder_stride = 2
    cfg.model.transformer_depth, cfg.model.transformer_num_heads = 2, 16
    cfg.training.epochs, cfg.training.val_every_n_epochs, cfg.training.save_every_n_epochs = 50, 2, 10
    cfg.data.num_workers = 4
    return cfg
