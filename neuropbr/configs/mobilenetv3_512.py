"""ViT student for phones: 512 in, 1024 out. The stem keeps the input's size, as in the exported model."""

from neuropbr.train_config import TrainConfig


def get_config() -> TrainConfig:
    cfg = TrainConfig()
    cfg.data.image_size, cfg.data.output_size, cfg.data.batch_size = (512, 512), (1024, 1024), 8
    cfg.model.encoder_type, cfg.model.encoder_backbone = "mobilenetv3", "mobilenet_v3_large"
    cfg.model.encoder_stride = 1
    cfg.model.transformer_dim, cfg.model.transformer_num_heads = 256, 4
    cfg.model.transformer_depth, cfg.model.transformer_mlp_ratio = 2, 2
    cfg.model.discriminator_n_layers = 4
    cfg.transform.use_imagenet_stats = True
    cfg.training.epochs, cfg.training.save_every_n_epochs = 100, 5
    return cfg
