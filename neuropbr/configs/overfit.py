"""Overfit a handful of materials on a CPU, to check that the network trains. Validation uses the training set."""

from neuropbr.train_config import TrainConfig


def get_config() -> TrainConfig:
    cfg = TrainConfig()
    cfg.data.image_size, cfg.data.batch_size, cfg.data.num_workers, cfg.data.val_ratio = 128, 4, 0, 0.0
    cfg.model.encoder_backbone, cfg.model.encoder_stride, cfg.model.pretrained = "resnet18", 2, False
    cfg.model.transformer_dim, cfg.model.transformer_num_heads, cfg.model.transformer_depth = 64, 4, 1
    cfg.model.transformer_proj_drop = cfg.model.transformer_attn_drop = 0.0
    cfg.model.use_gan, cfg.loss.w_gan = False, 0.0
    cfg.optimizer.g_lr, cfg.optimizer.g_betas, cfg.optimizer.scheduler_warmup_epochs = 2e-3, (0.9, 0.99), 10
    cfg.training.epochs, cfg.training.val_every_n_epochs, cfg.training.save_every_n_epochs = 300, 25, 1000
    cfg.training.log_images_every_n_epochs = 100
    return cfg
