"""Every knob of a run, once: default, help, unit and range. Flags and config files follow from it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from common.config_file import load_config_file
from common.errors import UserError, brief, one_line
from common.knobs import OneLineParser, add_flags, check_value, check_values, knob, suggest

# The maps of a material in canonical order, and how many channels each has (design.md, section 3).
MAPS = {"diffuse": 3, "normal": 3, "roughness": 1, "occlusion": 1, "metallic": 1, "specular": 1, "displacement": 1}
EXTRA_MAPS = {"opacity": 1, "emissive": 3}  # after them, in the outputs that were padding; then the one of --extra_map
EXTRA_MAPS_CHOICES = ("auto", "none")
MAP_NAME = r"[a-z][a-z0-9_]{0,31}"
RESERVED = ("all", "none", "extra", "gloss", "glossiness", "smoothness", "smooth")  # that --extra_map cannot be
QUANTIZE_BITS = (1, 2, 4, 8, 16)  # of a feature
SAVE_BITS = (8, 16, 32, 64)  # of a grid texel
INTERPOLATIONS = ("linear", "learned")
ACTIVATIONS = ("leaky_relu", "hard_swish", "relu")
WEIGHT_BITS = (32, 16, 8)  # of a weight of the network in network_data.npz
ACTIVATION_BITS = (32, 8)  # of what a layer of the network takes in
MAX_GRIDS = 16  # of a material, in network_data.npz too
MAX_PIXELS = 2**26  # 8192 x 8192. The seven maps of a material of that size, decoded at once, take some 3 GB
MOST_PIXELS = 2**30  # 32768 x 32768: what --max_pixels can allow
DECODERS = ("auto", "reference", "learned", "linear", "tsnc")
# What `--decoder tsnc` fixes, since the sample that reads its files knows one network (docs/export.md).
TSNC_NETWORK = {
    "activation": "relu", "n_frequencies": 0, "n_texel_frequencies": 0, "n_neurons": 64, "n_hidden_layers": 2,
}  # fmt: skip
NETWORKS = ("", "1x16", "1x32", "2x32", "2x64", "3x64")  # hidden layers x neurons
PRESETS = ("", "preview", "fast", "balanced", "best")
MATCHES = ("", "bc1", "bc7", "astc6x6", "astc8x8", "astc12x12")
UNIT_NORMALS = ("auto", "always", "never")
SCHEDULERS = ("plateau", "cosine", "steplr", "poly")
ENGINES = ("auto", "torch", "cpu", "cuda", "tcnn")
LIST_MAPS = "list"  # what --maps alone means
GROUP_BACKENDS = ("local", "ray")
EVAL_METRICS = ("all", "psnr", "lpips")
STORAGES = ("packed", "bc1", "astc6x6")
LATENTS = STORAGES  # of all grids of a plan
# Why not; the figures are a trial's with linear planes, of BC7 at half the side with BC1 at a quarter.
_LESS_THAN_BC1 = "BC1 is better at equal bits (Rock058 at 2.5 bpp: BC1 31.3 dB, {})"
REFUSED_STORAGES = {
    "bc7": _LESS_THAN_BC1.format("BC7 30.4"),
    **dict.fromkeys(("bc4", "bc5"), _LESS_THAN_BC1.format("BC4 and BC5 29.5")),
    **dict.fromkeys(
        ("astc", *(codec for codec in MATCHES if codec.startswith("astc") and codec not in STORAGES)),
        "of ASTC only astc6x6 can be trained, which led a trial with the fewest bits that hold a weight for each texel",
    ),
}
POSITIONS = ("centres", "filtered")
LAYOUTS = ("packed", "filterable", "bgra4", "rgba8")
WORD_LAYOUTS = ("packed", "rgba8")  # those whose texels are words, to unpack before filtering


Size = tuple[int, int]  # width, height
Resolution = Union[int, Size]  # of a grid: the side of a square, or its size


def sides_of(resolution: Resolution) -> Size:
    """(width, height) of a grid's resolution."""
    return (resolution, resolution) if isinstance(resolution, int) else (resolution[0], resolution[1])


def as_resolution(size: Size) -> Resolution:
    """A grid's (width, height), or its side where it is a square: one value for one shape."""
    width, height = size
    return width if width == height else (width, height)


def size_text(resolution: Resolution) -> str:
    """A grid's size for people: 256², or 512x128."""
    width, height = sides_of(resolution)
    return f"{width}²" if width == height else f"{width}x{height}"


@dataclass(frozen=True)
class HashGridConfig:
    """One entry of `hash_grid_configs`. None: taken from the flags and the material's size, see shape.resolve_grids."""

    max_resolution: int | Size | None = knob(
        None, "finest level's width and height, one number for both or [width, height]", unit="grid texels", low=1,
        high=16384,
    )  # fmt: skip
    n_levels: int | None = knob(None, "levels, each half the next; None: as many as halve exactly", low=1, high=15)
    quantize_bits: int | None = knob(None, "bits per feature; None: --quantize_bits", choices=QUANTIZE_BITS)
    save_bits: int | None = knob(None, "bits per grid texel; None: --save_bits", choices=SAVE_BITS)
    learning_rate: float | None = knob(
        None, "Adam step size; 0: the grid stays as it is; None: --grid_learning_rate", low=0.0, high=10.0
    )
    interpolation: str = knob(
        "linear", "linear: features are blended; learned: the network blends", choices=INTERPOLATIONS
    )
    storage: str = knob(
        "packed", "packed: codes in words; bc1, astc6x6: three features a texel as an ordinary texture of such blocks",
        choices=STORAGES, refused=REFUSED_STORAGES,
    )  # fmt: skip
    finest_lods: int = knob(
        1, "LODs, from 0 on, that read the finest level; 2: a texture of half the material's side, as GPUs choose mips",
        unit="LODs", low=1, high=15,
    )  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The configuration of one run. Field order is the order of `--help`."""

    data_dir: str = knob("data/test", "folder with the maps of one material, or a glTF model (.glb, .gltf)",
                         unit="path", section="most used")  # fmt: skip
    save_dir: str = knob("outputs", "folder that receives one sub-folder per run", unit="path")
    preset: str = knob("", "effort; empty: balanced where a rate or quality is asked for", choices=PRESETS)
    bpp: float = knob(0.0, "rate to aim at, 0.5 to 20, network included; 0: as grids and network are set", unit="bpp",
                      low=0.0, high=20.0)  # fmt: skip
    target_psnr: float = knob(0.0, "find the smallest rate that reaches it; 0: no target", unit="dB", low=0, high=80)
    match: str = knob("", "reach the PSNR that this codec has on this material", choices=MATCHES)
    max_iter: int = knob(10000, "iterations of the whole run", unit="iterations", low=1, high=10_000_000)
    load_dir: str = knob("", "run folder to resume or evaluate (outputs/yyyy-mm-dd-hh-mm-ss)", unit="path")
    mode: str = knob("train", "train a material, or infer: evaluate a checkpoint", choices=("train", "infer"))

    load_iter: int = knob(-1, "iteration to load from --load_dir; -1: its newest checkpoint", unit="iterations", low=-1,
                          section="reading")  # fmt: skip
    maps: str = knob(
        "", "which file is which map, where the names do not say it: diffuse=a.png,roughness=pack.png:g,specular=none; "
        "alone: print what each file of --data_dir is taken for, and train nothing", unit="map=file", bare=LIST_MAPS,
    )  # fmt: skip
    material: str = knob("", "the one to train of a model; empty: all that have textures, as a batch", unit="name")
    size: str = knob("", "texels of LOD 0: WxH, or largest: of the largest map; empty: of the first map", unit="WxH")
    extra_maps: str = knob(
        "auto", "opacity and emissive, where there are files of them or the diffuse has alpha; none: leave them out",
        choices=EXTRA_MAPS_CHOICES,
    )  # fmt: skip
    extra_map: str = knob("", "one more map of one channel: the word in its file name, such as thickness", unit="map")
    linear_color: bool = knob(False, "train diffuse in linear light instead of the file's sRGB")
    max_pixels: int = knob(
        MAX_PIXELS, "largest image to read: a file of a few bytes may unpack to gigabytes", unit="pixels", low=1,
        high=MOST_PIXELS,
    )  # fmt: skip
    unit_normals: str = knob(
        "auto", "decode normals as unit vectors; auto: where the source's are, within 0.4 %", choices=UNIT_NORMALS
    )

    # --preset, --bpp, --target_psnr, --match and --decoder choose these and the training; a flag that is given wins
    decoder: str = knob(
        "auto",
        "reference: linear grids and leaky ReLU, as the FNTC plug-in reads; learned: the network interpolates, better "
        "per bit; linear: linear grids, hard swish, no waves finer than 8 texels; tsnc: what Intel's sample of texture "
        "set neural compression loads; auto: learned where a rate, quality or preset is asked for, linear with "
        "--latents bc1",
        choices=DECODERS, section="feature grids and decoder",
    )  # fmt: skip
    latents: str = knob(
        "packed",
        "packed: codes in words, the best per bit; bc1: ordinary BC1 textures, which an engine loads and streams and, "
        "of linear grids, filters as any other; astc6x6: the same in ASTC 6x6, for phones",
        choices=LATENTS, refused=REFUSED_STORAGES,
    )  # fmt: skip
    quantize: bool = knob(True, "train with rounded features and export them; False: float features, model.pth only")
    quantize_bits: int = knob(4, "bits per feature", unit="bits", choices=QUANTIZE_BITS)
    save_bits: int = knob(32, "bits per grid texel: save_bits / quantize_bits features", choices=SAVE_BITS)
    hash_grid_configs: list = knob([], "grids; empty: two, at half and an eighth of the longer side (config file)")
    n_frequencies: int = knob(12, "triangle waves per axis that tell the network its position", low=0, high=16)
    n_texel_frequencies: int = knob(
        -1, "waves per axis: place in 1, 2, 4... texels of grid 0; -1: 3 with a learned grid, else 0", low=-1, high=8
    )
    network: str = knob(
        "", "hidden layers x neurons in one word: smaller costs a shader less and the material some dB; empty: "
        "--n_hidden_layers and --n_neurons", choices=NETWORKS,
    )  # fmt: skip
    n_neurons: int = knob(64, "width of the hidden layers, a multiple of 16", unit="neurons", low=16, high=256)
    n_hidden_layers: int = knob(2, "hidden layers", unit="layers", low=0, high=4)
    activation: str = knob("leaky_relu", "what follows each hidden layer", choices=ACTIVATIONS)
    weight_bits: int = knob(
        32, "bits per weight of the network, trained as shipped. 32, 16: a float; 8: an integer times its row's scale",
        unit="bits", choices=WEIGHT_BITS,
    )  # fmt: skip
    activation_bits: int = knob(
        32, "bits of what a layer takes in. 32: a float; 8: all in whole numbers, which are the same on every GPU",
        unit="bits", choices=ACTIVATION_BITS,
    )  # fmt: skip
    shader_precision: int = knob(32, "of the shaders to come: 8 says --activation_bits 8; 32 and 16 change no training",
                                 unit="bits", choices=(32, 16, 8))  # fmt: skip

    batch_size: int = knob(8192, "texels per iteration", unit="texels", low=1, high=1 << 22, section="training")
    positions: str = knob(
        "centres", "where texels are drawn. centres: at texel centres and whole LODs; filtered: at any uv and LOD, "
        "against the source as a GPU filters it, so that one decode with a hardware sampler is the filtered material",
        choices=POSITIONS,
    )  # fmt: skip
    learning_rate: float = knob(0.01, "Adam step size of the network", low=1e-7, high=10.0)
    grid_learning_rate: float = knob(0.01, "Adam step size of the grids", low=1e-7, high=10.0)
    lr_scheduler: str = knob("poly", "how learning rates fall over the run", choices=SCHEDULERS)
    lr_floor: float = knob(0.01, "where every scheduler ends", unit="fraction of the first rate", low=0.0, high=1.0)
    # 0.5 instead of 0.7: +0.02 to +0.17 dB before refining (three materials, 1.25 to 10 bpp); 0.3 ties.
    lr_decay_start: float = knob(0.5, "all but steplr: final decay from here", unit="share of max_iter", low=0, high=1)
    lr_decay_power: float = knob(1.0, "poly: exponent of the decay; 1 is a straight line", low=0.1, high=10.0)
    lr_decay_factor: float = knob(0.3, "plateau, steplr: each step multiplies the rate by it", low=0.01, high=0.99)
    lr_step_size: int = knob(0, "steplr: iterations between steps; 0: a tenth of max_iter", unit="iterations", low=0)
    noise_std: float = knob(1.0, "noise on features before rounding; 1 is +- half a step", low=0.0, high=4.0)
    noise_anneal_fraction: float = knob(
        0.8, "the noise falls linearly to zero over this share of the run", unit="fraction of max_iter", low=0, high=1
    )
    weight_round_start: float = knob(
        0.8, "weights are rounded to --weight_bits from here on", unit="share of max_iter", low=0, high=1
    )
    wrap_boundary: bool = knob(True, "tie opposite borders and the corners of the grids, so that they tile")
    wrap_strength: float = knob(0.02, "how far borders move to their mean each time; 1: all the way", low=0, high=1)
    wrap_interval: int = knob(100, "iterations between two syncs of the borders", unit="iterations", low=1)
    wrap_levels: int = knob(0, "how many levels, from the finest, are synced; 0: all", unit="levels", low=0, high=15)
    texture_loss_weights: dict | str = knob(
        dict.fromkeys(MAPS, 1.0),
        "how much each map's squared error counts; equal: 1 each; auto: error relative to the map's contrast, weights "
        "proportional to 1 / max(variance of its channels at LOD 0, 0.02 squared), mean 1; or numbers in a config "
        "file, {diffuse: 2, normal: [1, 1, 0.5]}",
        words=("equal", "auto"),
    )
    refine: int = knob(
        1, "after training: rounds of searching for better codes; 0: none", unit="rounds", low=0, high=100
    )
    seed: int = knob(0, "seed of initial values, samples and noise", low=0, high=2**31 - 1)

    eval_interval: int = knob(2000, "iterations between evaluations of all LODs", unit="iterations", low=1,
                              section="watching, saving and stopping")  # fmt: skip
    eval_metrics: str = knob(
        "all", "psnr: PSNR and normal angle; all: also SSIM, FLIP, and LPIPS where its weights are on this machine; "
        "lpips: all, and the weights are downloaded", choices=EVAL_METRICS
    )  # fmt: skip
    picture_lod: int = knob(
        0, "LOD of the pictures in media/; one of at most 4096 texels a side, or the last there is", unit="level",
        low=0, high=15,
    )  # fmt: skip
    save_interval: int = knob(2000, "iterations between checkpoints", unit="iterations", low=1)
    keep_checkpoints: int = knob(0, "newest checkpoints that stay on disk; 0: all", unit="checkpoints", low=0)
    early_stop: bool = knob(True, "stop when PSNR no longer rises")
    early_stop_interval: int = knob(5000, "segments whose mean PSNR is compared", unit="iterations", low=1)
    early_stop_psnr_threshold: float = knob(0.01, "least gain of a segment over the last one", unit="dB", low=0.0)

    device: str = knob("auto", "auto, cpu, cuda, cuda:N or mps", section="machine")
    engine: str = knob(
        "auto", "who computes a training step; auto: compiled kernels (cpu) on the CPU, Triton kernels (cuda) on an "
        "NVIDIA GPU where they work, else torch; tcnn: tiny-cuda-nn, where it is installed", choices=ENGINES,
    )  # fmt: skip
    gpu_precision: str = knob("tf32", "engine cuda: what factors of matrix products are rounded to; sums are float32",
                              choices=("tf32", "bf16", "float32"))  # fmt: skip
    cpu_precision: str = knob("float32", "engine cpu: the same of products of gradients, where a CPU has AVX-512 BF16",
                              choices=("float32", "bf16"))  # fmt: skip
    deterministic: bool = knob(False, "engine cuda: the same bits in every run on one GPU, by slower integer sums")
    num_threads: int = knob(0, "CPU threads; 0: all cores. Same seed and threads: same bits", low=0, high=1024)

    groups_batching: bool = knob(False, "train every sub-folder of --groups_batch_dir that holds maps, and its models",
                                 section="many materials")  # fmt: skip
    groups_batch_dir: str = knob("data_batch", "folder with one sub-folder per material, models, or both", unit="path")
    groups_save_dir: str = knob("save_batch", "receives one sub-folder per material", unit="path")
    groups_recursive: bool = knob(False, "sub-folders of sub-folders are materials too")
    groups_max_workers: int = knob(
        1, "materials trained at the same time, each in a process of its own, on a GPU of its own where there are; 0: "
        "one per GPU, or per core", low=0, high=1024
    )  # fmt: skip
    groups_verbose: bool = knob(False, "show the training log of each material")
    groups_force: bool = knob(False, "train again what an earlier batch has finished, and start over what it began")
    groups_dry_run: bool = knob(False, "print what would be trained and how long it may take; write nothing")
    groups_backend: str = knob("local", "who runs the materials: this machine, or Ray", choices=GROUP_BACKENDS)
    ray_address: str = knob("", "Ray: the cluster's address, or auto; empty: start one here", unit="host:port")
    groups_gpus: float = knob(0.0, "Ray: GPUs that a material needs, shares too", unit="GPUs", low=0, high=64)
    groups_retries: int = knob(3, "Ray: new tries for a material whose node or process died", low=0, high=100)

    # Names of the fields that the user set, in a file or as flags: a plan or a checkpoint decides the others. It is no
    # knob, and is not written to config.json.
    chosen: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)


AIMS = ("bpp", "target_psnr", "match")  # each of them decides a run's rate
LOSS_WEIGHT = knob(1.0, "share of the loss", low=0.0)
FIELDS = {field.name: field for field in dataclasses.fields(Config) if field.metadata}
# Fields that a checkpoint fixes: with another value its parameters would not fit.
ARCHITECTURE = (
    "quantize", "quantize_bits", "save_bits", "hash_grid_configs", "linear_color", "extra_maps", "extra_map", *AIMS,
    "preset", "decoder", "latents", "n_frequencies", "n_texel_frequencies", "n_neurons", "n_hidden_layers",
    "activation", "activation_bits", "weight_bits",
)  # fmt: skip
RECORDED = ("resolved_grids", "environment")  # what config.json of a run holds besides the fields
# Fields of one call of the command, which the run does not keep.
CALL = ("mode", "load_dir", "load_iter") + tuple(n for n in FIELDS if n.startswith("groups_") or n == "ray_address")


def build_parser() -> argparse.ArgumentParser:
    """A parser with one flag per scalar field of Config; flags that are not given stay out of the namespace."""
    parser = OneLineParser(
        prog="train.py", usage="train.py [flags]", epilog="Lists and mappings are given in a --config file.",
        description="Compress a material (a folder of PBR maps) into small feature textures and a tiny network.",
    )  # fmt: skip
    parser.add_argument("--config", default="", metavar="PATH", help="YAML or JSON file with any of these fields")
    add_flags(parser, FIELDS)
    return parser


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The values that the user chose: those of the config file, replaced by flags. Defaults are not filled in."""
    given = vars(build_parser().parse_args(argv))
    path = given.pop("config")
    return {**(load_config_file(path, FIELDS, ignored=RECORDED) if path else {}), **given}


# --- values --------------------------------------------------------------------------------------------------------


def make_config(values: Mapping[str, Any]) -> Config:
    """A validated Config of the defaults with `values` on top; their names are its `chosen`.

    Raises: UserError naming the flag, what it accepts and what was given.
    """
    checked = _without_words(check_values(FIELDS, values))
    if "hash_grid_configs" in checked:
        if len(checked["hash_grid_configs"]) > MAX_GRIDS:
            found = len(checked["hash_grid_configs"])
            raise UserError(f"hash_grid_configs: expected at most {MAX_GRIDS} grids, found {found}; leave some out")
        checked["hash_grid_configs"] = [_grid_entry(i, entry) for i, entry in enumerate(checked["hash_grid_configs"])]
    if "texture_loss_weights" in checked:
        own = checked.get("extra_map", "")
        checked["texture_loss_weights"] = _loss_weights(checked["texture_loss_weights"], own)
    config = Config(**checked, chosen=frozenset(checked))
    _check_combinations(config)
    return config


def _without_words(values: dict[str, Any]) -> dict[str, Any]:
    """Values with what --network and --shader_precision stand for; activations of 8 bits mean weights of 8 bits."""
    values = _without_network(values)
    if values.pop("shader_precision", 32) == 8 and values.setdefault("activation_bits", 8) != 8:
        raise UserError("--shader_precision 8: says --activation_bits 8, found 32; leave one of them out")
    return {"weight_bits": 8, **values} if values.get("activation_bits", 32) == 8 else values


def _without_network(values: dict[str, Any]) -> dict[str, Any]:
    """Values with the fields that --network stands for in its place."""
    word = values.pop("network", "")
    if not word:
        return values
    sizes = dict(zip(("n_hidden_layers", "n_neurons"), map(int, word.split("x"))))
    for name, size in sizes.items():
        if values.get(name, size) != size:
            raise UserError(f"--network {word}: says --{name} {size}, found {values[name]}; leave one of them out")
        if values.get("decoder") == "tsnc" and TSNC_NETWORK[name] != size:
            raise UserError(f"--network {word}: expected 2x64 with --decoder tsnc; leave --network out")
    return {**values, **sizes}


def _grid_entry(index: int, entry: Any) -> HashGridConfig:
    where = f"hash_grid_configs[{index}]"
    if isinstance(entry, HashGridConfig):
        entry = dataclasses.asdict(entry)
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected a mapping with max_resolution, n_levels, ..., got {brief(entry)}")
    fields = {field.name: field for field in dataclasses.fields(HashGridConfig)}
    for name in entry:
        if name not in fields:
            raise UserError(f"{where}: unknown field {brief(name)}{suggest(name, fields)}")
    checked = {name: check_value(f"{where}.{name}", fields[name], entry[name]) for name in entry
               if name != "max_resolution"}  # fmt: skip
    if entry.get("max_resolution") is not None:
        checked["max_resolution"] = _resolution(f"{where}.max_resolution", entry["max_resolution"])
    return HashGridConfig(**checked)


def _resolution(where: str, value: Any) -> Resolution:
    """A grid's resolution from one number or a list of two. Raises: UserError."""
    field = HashGridConfig.__dataclass_fields__["max_resolution"]
    if type(value) is int:
        return check_value(where, field, value)
    if not isinstance(value, (list, tuple)) or len(value) != 2 or any(type(side) is not int for side in value):
        raise UserError(f"{where}: expected a whole number or two, [width, height], got {brief(value)}")
    return as_resolution(tuple(check_value(where, field, side) for side in value))


def _loss_weights(weights: dict | str, own: str) -> dict[str, float | list[float]] | str:
    """Every map's weight, 1 where none is given; 'auto' stays: it depends on the material. own: --extra_map."""
    if weights == "auto":
        return weights
    merged = dict.fromkeys(MAPS, 1.0)
    if weights == "equal":
        return merged
    for name, weight in weights.items():
        known = (*MAPS, *EXTRA_MAPS, *([own] if own else []))
        if name not in known:
            raise UserError(f"texture_loss_weights: unknown map {brief(name)}{suggest(name, known)}")
        merged[name] = _loss_weight(f"texture_loss_weights.{name}", weight, {**MAPS, **EXTRA_MAPS}.get(name, 1))
    return merged


def _loss_weight(where: str, weight: Any, channels: int) -> float | list[float]:
    """One for the map, or one for each of its channels."""
    if not isinstance(weight, (list, tuple)):
        return check_value(where, LOSS_WEIGHT, weight)
    if len(weight) != channels:
        raise UserError(f"{where}: expected a number, or {channels} for its channels, found {len(weight)}")
    return [check_value(where, LOSS_WEIGHT, one) for one in weight]


def _check_combinations(config: Config) -> None:
    """Raise UserError for fields that contradict each other or lack one that they need."""
    name = config.extra_map
    if name and (not re.fullmatch(MAP_NAME, name) or name in (*MAPS, *EXTRA_MAPS, *RESERVED)):
        expected = "a name such as thickness, in lower-case letters, digits and underscores, that no other map has"
        raise UserError(f"--extra_map: expected {expected}, found {brief(name)}")
    if config.n_neurons % 16:
        raise UserError(f"--n_neurons: expected a multiple of 16, got {config.n_neurons}")
    if config.size not in ("", "largest") and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", config.size):
        raise UserError(f"--size: expected WxH in texels, as 1024x512, or largest, got {brief(config.size)}")
    if config.quantize_bits > config.save_bits:
        raise UserError(
            f"--quantize_bits {config.quantize_bits} does not fit into --save_bits {config.save_bits}; "
            "a word holds save_bits / quantize_bits features, so raise --save_bits or lower --quantize_bits"
        )
    if 0 < config.bpp < 0.5:
        raise UserError(f"--bpp: expected 0.5 to 20 bits per texel, got {config.bpp:g}")
    _check_tsnc(config)
    aims = [f"--{name}" for name in AIMS if getattr(config, name)]
    if len(aims) > 1:
        raise UserError(f"{' and '.join(aims)}: each of them chooses the rate; give one")
    asks = aims + [f"--{name} {getattr(config, name)}" for name in ("preset", "latents", "decoder")
                   if getattr(config, name) not in (FIELDS[name].default, "reference")]  # fmt: skip
    if asks and not config.quantize:
        raise UserError(f"{asks[0]}: a rate counts rounded features; leave out --quantize False")
    if config.weight_bits != 32 and not config.quantize:
        raise UserError(
            f"--weight_bits {config.weight_bits}: expected --quantize True, as weights are rounded with the features, "
            "found False; leave out one of the two"
        )
    widest = max(config.weight_bits, config.quantize_bits, *(g.quantize_bits or 0 for g in config.hash_grid_configs))
    if config.activation_bits == 8 and widest > 8:
        raise UserError(f"--activation_bits 8: expected weight_bits and quantize_bits of at most 8, found {widest}")
    for index, grid in enumerate(config.hash_grid_configs):
        if config.latents != "packed" and grid.storage != config.latents:
            raise UserError(
                f"--latents {config.latents}: expected storage {config.latents} in all hash_grid_configs, found "
                f"{grid.storage} in hash_grid_configs[{index}]; change it there, or leave out --latents"
            )
    if config.mode == "infer" and not config.load_dir:
        raise UserError("--mode infer: expected --load_dir outputs/<run>, the run to evaluate; it was not given")
    if config.load_iter >= 0 and not config.load_dir:
        raise UserError(f"--load_iter {config.load_iter}: expected --load_dir outputs/<run> beside it, found none")
    if config.groups_batching and (config.load_dir or config.material or config.mode == "infer"):
        other = "--load_dir" if config.load_dir else "--material" if config.material else "--mode infer"
        raise UserError(f"--groups_batching trains many materials; it cannot be combined with {other}")
    for name in ("ray_address", "groups_gpus", "groups_retries"):
        if getattr(config, name) != FIELDS[name].default and config.groups_backend != "ray":
            raise UserError(f"--{name}: expected --groups_backend ray beside it, found {config.groups_backend}")
    weights = config.texture_loss_weights
    if weights != "auto" and not any(any(w) if isinstance(w, list) else w for w in weights.values()):
        raise UserError("texture_loss_weights: every map has weight 0, so there is nothing to train")


def _check_tsnc(config: Config) -> None:
    """Raise UserError for fields that make another form than --decoder tsnc names."""
    if config.decoder != "tsnc":
        return
    if config.latents != "bc1" and not config.load_dir:
        raise UserError(f"--decoder tsnc: expected --latents bc1 beside it, found {config.latents}")
    if config.activation_bits != 32:
        raise UserError("--activation_bits 8: Intel's sample multiplies floats; leave it or --decoder tsnc out")
    for name, value in TSNC_NETWORK.items():
        if name in config.chosen and getattr(config, name) != value:
            found = getattr(config, name)
            raise UserError(f"--{name}: expected {value} with --decoder tsnc, found {found}; leave --{name} out")


# --- as files ------------------------------------------------------------------------------------------------------


def to_dict(config: Config) -> dict[str, Any]:
    """The fields as plain values for JSON and checkpoints; make_config reads them back. `chosen` is not among them."""
    values = dataclasses.asdict(config)
    del values["chosen"]
    values["hash_grid_configs"] = [
        {name: list(value) if isinstance(value, tuple) else value
         for name, value in dataclasses.asdict(grid).items() if value is not None}
        for grid in config.hash_grid_configs
    ]  # fmt: skip
    return values


def describe(config: Config) -> str:
    """The fields that are not at their defaults, as aligned `name value` lines; empty where all are."""
    usual = to_dict(make_config({}))
    changed = {name: value for name, value in to_dict(config).items() if value != usual[name]}
    width = max(map(len, changed), default=0)
    lines = []
    for name, value in changed.items():
        if isinstance(value, (list, dict)):
            value = json.dumps(value)
        value = one_line(str(value))  # a path may hold anything
        lines.append(f"  {name:<{width}}  {value}")
    return "\n".join(lines)
