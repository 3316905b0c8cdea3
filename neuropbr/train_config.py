"""Every knob of NeuroPBR, its presets, and the checks that run after all edits.

Checkpoints hold a configuration as to_dict(), and from_dict() restores it. Presets and configs/*.py change fields in
any order; `finalize` then checks all of them and derives those that depend on others.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Union

if __name__ == "train_config":
    from bare_names import alias

    alias(__name__)
from common.errors import UserError, brief, quote

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MOBILENETS = ("mobilenet_v3_large", "mobilenet_v3_small")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SR_SCALES = (1, 2, 4)  # of the super-resolution head; 1 is written as 0, no head


class Section:
    """Assigning to an unknown field is an error that suggests the right name."""

    RETIRED: ClassVar[dict[str, Any]] = {}  # former fields, which may only be set to these values

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.RETIRED:
            only = self.RETIRED[name]
            if (tuple(value) if isinstance(value, list) else value) != only:
                raise UserError(f"{name}: expected {only}, its only value, found {brief(value)}; drop it")
            return
        names = [entry.name for entry in dataclasses.fields(self)]
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; expected one of {', '.join(names)}"
            raise UserError(f"{type(self).__name__} has no field {name}{hint}")
        object.__setattr__(self, name, value)


@dataclass
class DataConfig(Section):
    input_dir: str = "./data/input"
    output_dir: str = "./data/output"
    metadata_path: str | None = None  # None: render_metadata.json of input_dir
    image_size: Any = (2048, 2048)  # pixels of the network's input: one side for both, or (height, width)
    output_size: Any = None  # of the predicted maps; None: image_size
    batch_size: int = 1  # samples, per process
    num_workers: int = 8  # processes that read images; 0: the training process
    pin_memory: bool = True  # on CUDA
    persistent_workers: bool = True
    prefetch_factor: int = 2  # batches that a worker reads ahead
    use_dirty_renders: bool = False  # with curriculum 0 the same as curriculum 2
    render_curriculum: int = 0  # 0 clean renders, 1 clean and dirty ones, 2 dirty ones
    val_ratio: float = 0.1  # share of the materials; 0: validation on the training set
    use_augmentation: bool = False  # enables the next three
    horizontal_flip: bool = True
    vertical_flip: bool = False
    random_rotation: bool = False  # by multiples of 90 degrees


@dataclass
class ModelConfig(Section):
    RETIRED: ClassVar[dict[str, Any]] = {"output_channels": (3, 1, 1, 3), "discriminator_in_channels": 8}

    encoder_type: str = "resnet"  # resnet, unet, mobilenetv3
    encoder_backbone: str = "resnet50"  # RESNETS, or MOBILENETS
    encoder_in_channels: int = 3
    encoder_stride: int = 1  # of the first layer: 1 keeps the input's size, 2 halves it
    encoder_channels: Any = (64, 128, 256, 512, 1024, 2048)  # of unet, each level half the size of the one before
    pretrained: bool = True  # ImageNet weights for resnet and mobilenetv3; a checkpoint never needs them
    freeze_backbone: bool = False  # the encoder does not train
    freeze_bn: bool = False  # the encoder's batch norms keep statistics, scale and shift
    use_transformer: bool = True  # False: views are fused by a 1x1 convolution
    bottleneck: str = "vit"  # vit, or plk: the ConvAttn student
    transformer_dim: int = 2048
    transformer_num_heads: int = 32
    transformer_depth: int = 4
    transformer_mlp_ratio: float = 4
    transformer_proj_drop: float = 0.1
    transformer_attn_drop: float = 0.1
    transformer_drop_path_rate: float = 0.1  # of the last block; rises linearly from 0
    plk_blocks: int = 3
    plk_kernel: int = 17  # pixels, odd
    decoder_sr_scale: int = 0  # derived: output_size * encoder_stride / image_size; 0 for 1
    use_gan: bool = True
    discriminator_type: str = "configurable"  # or simple: four strided layers with instance norm
    discriminator_ndf: int = 64  # channels of the first layer
    discriminator_n_layers: int = 6  # 1 to 6; fewer where the maps are too small for them
    discriminator_use_sigmoid: bool = False  # for bce only
    activation_checkpointing: bool | None = None  # less memory, more time; None: from 1024 x 1024 pixels on


@dataclass
class LossConfig(Section):
    w_l1: float = 1.0
    w_ssim: float = 0.3  # of albedo
    w_normal: float = 0.5  # 1 - cosine
    w_gan: float = 0.05
    w_albedo: float = 1.0  # the four weigh the maps within L1
    w_roughness: float = 1.0
    w_metallic: float = 1.0
    w_normal_map: float = 1.0
    gan_loss_type: str = "hinge"  # or bce
    w_discriminator: float = 1.0


@dataclass
class OptimizerConfig(Section):
    g_optimizer: str = "adamw"  # adamw, adam, sgd
    g_lr: float = 2e-4
    g_betas: Any = (0.5, 0.999)
    g_weight_decay: float = 1e-4
    d_optimizer: str = "adam"
    d_lr: float = 2e-4
    d_betas: Any = (0.5, 0.999)
    d_weight_decay: float = 0.0
    scheduler: str = "cosine"  # cosine, step, plateau, none
    scheduler_warmup_epochs: int = 5  # of the generator: from a tenth of g_lr
    scheduler_min_lr: float = 1e-6  # cosine, plateau
    scheduler_step_size: int = 30  # epochs, step
    scheduler_gamma: float = 0.1  # step
    scheduler_patience: int = 10  # epochs, plateau
    scheduler_factor: float = 0.5  # plateau


@dataclass
class TrainingConfig(Section):
    epochs: int = 100
    batch_size: int | None = None  # overrides data.batch_size
    device: str = "auto"  # CUDA, MPS, CPU in this order; cuda, cuda:N, mps, cpu
    use_amp: bool = True  # on CUDA: bfloat16, else float16 with a scaler
    compile: bool | None = None  # torch.compile; None: on CUDA, or as USE_TORCH_COMPILE says
    grad_clip_norm: float = 1.0  # of the generator; 0: no clipping
    gan_start_epoch: int = 5
    d_steps_per_g_step: int = 1
    val_every_n_epochs: int = 1
    val_batches: int | None = None  # at most
    save_every_n_epochs: int = 5  # checkpoint_epoch_NNNN.pth; latest and best are always written
    save_best_only: bool = False  # no periodic checkpoints
    checkpoint_dir: str = "./checkpoints"
    log_every_n_steps: int = 10
    log_images_every_n_epochs: int = 5
    use_tensorboard: bool = True
    use_wandb: bool = False
    wandb_project: str = "neuropbr"
    wandb_run_name: str | None = None
    resume_from: str | None = None
    seed: int = 42


@dataclass
class TransformConfig(Section):
    mean: Any = (0.5, 0.5, 0.5)
    std: Any = (0.5, 0.5, 0.5)
    use_imagenet_stats: bool = False


@dataclass
class DistillationConfig(Section):
    temperature: float = 4.0
    alpha: float = 0.3  # weight of the teacher; the ground truth has 1 - alpha


@dataclass
class TrainConfig(Section):
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    transform: TransformConfig = field(default_factory=TransformConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values, which JSON and torch.load(weights_only=True) can hold."""
        return {
            section.name: {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in vars(getattr(self, section.name)).items()
            }
            for section in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, values: dict[str, dict[str, Any]]) -> TrainConfig:
        """The inverse of to_dict. Raises: UserError for an unknown section or field."""
        config = cls()
        if not isinstance(values, dict):
            raise UserError(f"configuration: expected a dict of sections, found {brief(values)}")
        for section, fields in values.items():
            if section not in {entry.name for entry in dataclasses.fields(cls)} or not isinstance(fields, dict):
                raise UserError(f"configuration: expected a section of TrainConfig, found {brief(section)}")
            for name, value in fields.items():
                setattr(getattr(config, section), name, value)
        return config


# --- presets -------------------------------------------------------------------------------------------------------


def get_default_config() -> TrainConfig:
    """ResNet50, 4 ViT blocks, GAN from epoch 5."""
    return TrainConfig()


def get_quick_test_config() -> TrainConfig:
    """ResNet18, 2 ViT blocks, 20 epochs: for debugging."""
    config = TrainConfig()
    config.model.encoder_backbone = "resnet18"
    config.model.transformer_depth, config.model.transformer_num_heads = 2, 16
    config.training.epochs, config.optimizer.scheduler_warmup_epochs = 20, 2
    config.data.num_workers = 4
    return config


def get_lightweight_config() -> TrainConfig:
    """ResNet50 without a GAN."""
    config = TrainConfig()
    config.model.use_gan, config.loss.w_gan = False, 0.0
    config.loss.w_ssim, config.loss.w_normal = 0.5, 0.7
    return config


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "default": get_default_config,
    "quick_test": get_quick_test_config,
    "lightweight": get_lightweight_config,
}


PRESET_GB = {"default": 62, "quick_test": 19, "lightweight": 62}  # of a GPU, as neuropbr.utils.memory estimates it


def load_config(name: str) -> TrainConfig:
    """A preset of PRESETS, or the result of get_config() of a Python file (which is executed). Not yet finalized."""
    if name in PRESETS:
        return PRESETS[name]()
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"--config: expected {', '.join(PRESETS)} or a .py file, found {quote(name)}")
    sys.modules.setdefault("train_config", sys.modules[__name__])  # the name that configurations may import
    try:
        found = runpy.run_path(str(path)).get("get_config")
        config = found() if callable(found) else None
    except UserError as error:
        raise UserError(f"{quote(path)}: {error}") from error
    except Exception as error:
        raise UserError(
            f"{quote(path)}: get_config() failed with {type(error).__name__}: {brief(str(error))}"
        ) from error
    if not isinstance(config, TrainConfig):
        raise UserError(f"{quote(path)}: expected get_config() to return a TrainConfig, found {brief(config)}")
    return config


def apply_overrides(config: TrainConfig, assignments: Sequence[str]) -> None:
    """Apply --set model.transformer_dim=64 and the like in place. Values are Python literals, true, false, or text."""
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        section, _, name = key.strip().partition(".")
        if not equals or section not in vars(config) or not name:
            raise UserError(
                f"--set: expected SECTION.FIELD=VALUE, such as data.image_size=512, found {brief(assignment)}"
            )
        words = {"true": True, "false": False}
        try:
            value = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        setattr(getattr(config, section), name, value)


# --- checks --------------------------------------------------------------------------------------------------------


def finalize(config: TrainConfig) -> TrainConfig:
    """Check every field and derive those that depend on others, in place. Running it again changes nothing.

    Derived: sizes as (height, width); output_size from image_size; data.batch_size from training.batch_size; curriculum
    and use_dirty_renders from each other; mean and std of ImageNet; decoder_sr_scale from sizes and stride; at most as
    many discriminator layers as the maps' size allows.
    Raises: UserError, one line that names the field.
    """
    _check_data(config)
    _check_model(config)
    _check_training(config)
    return config


def _choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise UserError(f"{name}: expected one of {', '.join(map(str, choices))}, found {brief(value)}")


def _number(section: Section, name: str, low: float, high: float = float("inf"), whole: bool = False) -> None:
    value = getattr(section, name)
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        limit = f"of at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise UserError(f"{type(section).__name__}.{name}: expected {kind} {limit}, found {brief(value)}")


def as_size(value: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of one side or two. Raises: UserError."""
    sides = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= 16384 for side in sides):
        raise UserError(f"image size: expected one side or (height, width), 1 to 16384 pixels, found {brief(value)}")
    return sides


def _check_data(config: TrainConfig) -> None:
    data, transform = config.data, config.transform
    if config.training.batch_size is not None:
        data.batch_size = config.training.batch_size
    _number(data, "batch_size", 1, whole=True)
    config.training.batch_size = data.batch_size
    data.image_size = as_size(data.image_size)
    data.output_size = data.image_size if data.output_size is None else as_size(data.output_size)
    _number(data, "num_workers", 0, 256, whole=True)
    _number(data, "prefetch_factor", 1, 64, whole=True)
    _number(data, "val_ratio", 0, 0.9)
    _choice("render_curriculum", data.render_curriculum, (0, 1, 2))
    if data.use_dirty_renders and data.render_curriculum == 0:
        data.render_curriculum = 2
    data.use_dirty_renders = data.render_curriculum == 2
    if transform.use_imagenet_stats:
        transform.mean, transform.std = IMAGENET_MEAN, IMAGENET_STD
    for name in ("mean", "std"):
        value = getattr(transform, name)
        numbers = isinstance(value, Sequence) and all(isinstance(v, (int, float)) for v in value)
        if not numbers or len(value) != 3 or (name == "std" and min(value) <= 0):
            raise UserError(f"transform.{name}: expected three numbers, found {brief(value)}")
        setattr(transform, name, tuple(value))


def _check_model(config: TrainConfig) -> None:
    model, data = config.model, config.data
    _choice("encoder_type", model.encoder_type, ("resnet", "unet", "mobilenetv3"))
    if model.encoder_type == "mobilenetv3":
        _choice("encoder_backbone", model.encoder_backbone, MOBILENETS)
    elif model.encoder_type == "resnet":
        _choice("encoder_backbone", model.encoder_backbone, RESNETS)
    _choice("encoder_stride", model.encoder_stride, (1, 2))
    _choice("bottleneck", model.bottleneck, ("vit", "plk"))
    for name in ("transformer_dim", "transformer_num_heads", "transformer_depth", "plk_blocks", "encoder_in_channels"):
        _number(model, name, 1, whole=True)
    for name in ("transformer_proj_drop", "transformer_attn_drop", "transformer_drop_path_rate"):
        _number(model, name, 0, 0.9)
    _number(model, "transformer_mlp_ratio", 0.25, 16)
    _number(model, "plk_kernel", 1, 101, whole=True)
    if model.plk_kernel % 2 == 0:
        raise UserError(f"plk_kernel: expected an odd number of pixels, found {model.plk_kernel}")
    if model.bottleneck == "vit" and model.transformer_dim % (4 * model.transformer_num_heads):
        raise UserError(
            f"transformer_dim: expected a multiple of 4 x transformer_num_heads = {4 * model.transformer_num_heads}, "
            f"found {model.transformer_dim}"
        )
    widths = model.encoder_channels
    if not isinstance(widths, Sequence) or len(widths) < 2 or not all(isinstance(w, int) and w > 0 for w in widths):
        raise UserError(f"encoder_channels: expected two or more numbers of channels, found {brief(widths)}")
    scales = {out * model.encoder_stride / size for out, size in zip(data.output_size, data.image_size)}
    scale = scales.pop()
    if scales or scale not in SR_SCALES:
        raise UserError(
            f"output_size: expected image_size / encoder_stride times 1, 2 or 4, found {data.output_size} for "
            f"{data.image_size} and stride {model.encoder_stride}"
        )
    model.decoder_sr_scale = 0 if scale == 1 else int(scale)
    _choice("discriminator_type", model.discriminator_type, ("configurable", "simple"))
    _number(model, "discriminator_n_layers", 1, 6, whole=True)
    _number(model, "discriminator_ndf", 1, 1024, whole=True)
    while model.discriminator_n_layers > 1 and min(data.output_size) < 3 << model.discriminator_n_layers:
        model.discriminator_n_layers -= 1  # the last layer would have no outputs
    if model.discriminator_use_sigmoid and config.loss.gan_loss_type != "bce":
        raise UserError("discriminator_use_sigmoid: expected gan_loss_type bce, whose scores are probabilities; "
                        f"found {config.loss.gan_loss_type}")  # fmt: skip


def _check_training(config: TrainConfig) -> None:
    loss, optimizer, training = config.loss, config.optimizer, config.training
    for entry in dataclasses.fields(loss):
        if entry.name.startswith("w_"):
            _number(loss, entry.name, 0)
    _choice("gan_loss_type", loss.gan_loss_type, ("hinge", "bce"))
    for prefix in "gd":
        _choice(f"{prefix}_optimizer", getattr(optimizer, f"{prefix}_optimizer"), ("adamw", "adam", "sgd"))
        _number(optimizer, f"{prefix}_lr", 0)
        _number(optimizer, f"{prefix}_weight_decay", 0)
        betas = getattr(optimizer, f"{prefix}_betas")
        if not isinstance(betas, Sequence) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"{prefix}_betas: expected two numbers of at least 0 and below 1, found {brief(betas)}")
        setattr(optimizer, f"{prefix}_betas", tuple(betas))
    _choice("scheduler", optimizer.scheduler, ("cosine", "step", "plateau", "none"))
    _number(optimizer, "scheduler_warmup_epochs", 0, whole=True)
    _number(optimizer, "scheduler_step_size", 1, whole=True)
    _number(optimizer, "scheduler_patience", 0, whole=True)
    for name in ("scheduler_min_lr", "scheduler_gamma", "scheduler_factor"):
        _number(optimizer, name, 0)
    for name in ("epochs", "val_every_n_epochs", "save_every_n_epochs", "d_steps_per_g_step", "log_every_n_steps",
                 "log_images_every_n_epochs"):  # fmt: skip
        _number(training, name, 1, whole=True)
    _number(training, "gan_start_epoch", 0, whole=True)
    _number(training, "grad_clip_norm", 0)
    _number(training, "seed", 0, 2**31, whole=True)
    if training.val_batches is not None:
        _number(training, "val_batches", 1, whole=True)
    _number(config.distillation, "temperature", 0.01)
    _number(config.distillation, "alpha", 0, 1)


Config = Union[TrainConfig, dict]


def as_config(config: Config) -> TrainConfig:
    """A finalized copy of a TrainConfig, or of the dict in a checkpoint."""
    values = config if isinstance(config, dict) else config.to_dict()
    return finalize(TrainConfig.from_dict(values))
