"""ConvAttn student for phones: a pre-computed large kernel in place of attention; 512 in, 1024 out (SR 4x)."""

from neuropbr.train_config import TrainConfig


def get_config() -> TrainConfig:
    cfg = TrainConfig()
    cfg.data.image_size, cfg.data.output_size, cfg.data.batch_size = (512, 512), (1024, 1024), 4
    cfg.model.encoder_type, cfg.model.encoder_backbone = "mobilenetv3", "mobilenet_v3_large"
    cfg.model.encoder_stride = 2
    cfg.model.bottleneck, cfg.model.transformer_dim = "plk", 320
    cfg.model.plk_blocks, cfg.model.plk_kernel = 3, 17
    cfg.model.use_gan = False
    cfg.transform.use_imagenet_stats = True
    cfg.optimizer.g_lr, cfg.optimizer.g_betas = 1e-4, (0.9, 0.999)
    cfg.training.epochs, cfg.training.save_every_n_epochs, cfg.training.log_every_n_steps = 60, 5, 50
    cfg.training.wandb_project = "neuropbr-student"
    return cfg
