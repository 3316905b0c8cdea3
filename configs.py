"""Every knob of the toolkit, once: default, help, unit and range. The command line and config files follow from it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError, brief, one_line
from common.knobs import OneLineParser, _suggest, add_flag, check_value, knob

DECODERS = ("auto", "reference", "learned")
PRESETS = ("", "preview", "fast", "balanced", "best")
MATCHES = ("", "bc1", "bc7", "astc6x6", "astc8x8", "astc12x12")
ACTIVATIONS = ("leaky_relu", "hard_swish")
UNIT_NORMALS = ("auto", "always", "never")
SCHEDULERS = ("plateau", "cosine", "steplr", "poly")
ENGINES = ("auto", "torch", "cpu", "cuda", "tcnn")
GPU_PRECISIONS = ("tf32", "bf16", "float32")
GROUP_BACKENDS = ("local", "ray")
EVAL_METRICS = ("all", "psnr", "lpips")
MAX_CONFIG_BYTES = 64 << 10  # of a config file; one with every field has 4 KiB, and PyYAML reads some 20 KiB a second
MAX_CONFIG_NODES = 10_000  # entries, keys and values of a config file
MAX_GRIDS = 16  # of a material: what network_data.npz is read with
MAX_PIXELS = 2**26  # 8192 x 8192. The seven maps of a material of that size, decoded at once, take some 3 GB
MOST_PIXELS = 2**30  # 32768 x 32768: what --max_pixels can allow
TEXTURE_MAPS = ("diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement")


@dataclass(frozen=True)
class HashGridConfig:
    """One entry of `hash_grid_configs`. What is left out (None) comes from the flags and the material's size."""

    max_resolution: int | None = knob(None, "finest level's width and height", unit="grid texels", low=1, high=16384)
    n_levels: int | None = knob(None, "levels, each half the next; None: as many as halve exactly", low=1, high=15)
    quantize_bits: int | None = knob(None, "bits per feature; None: --quantize_bits", choices=(1, 2, 4, 8, 16))
    save_bits: int | None = knob(None, "bits per grid texel; None: --save_bits", choices=(8, 16, 32, 64))
    learning_rate: float | None = knob(
        None, "Adam step size; 0: the grid stays as it is; None: --grid_learning_rate", low=0.0, high=10.0
    )
    interpolation: str = knob(
        "linear", "linear: features are blended; learned: the network blends", choices=("linear", "learned")
    )


@dataclass(frozen=True)
class Config:
    """The configuration of one run. Field order is the order of `--help`."""

    # what to do, and where
    mode: str = knob("train", "train a material, or infer: evaluate a checkpoint", choices=("train", "infer"))
    data_dir: str = knob("data/test", "folder with the maps of one material", unit="path")
    save_dir: str = knob("outputs", "folder that receives one sub-folder per run", unit="path")
    load_dir: str = knob("", "run folder to resume or evaluate (outputs/yyyy-mm-dd-hh-mm-ss)", unit="path")
    load_iter: int = knob(-1, "iteration to load from --load_dir; -1: its newest checkpoint", unit="iterations", low=-1)
    linear_color: bool = knob(False, "train diffuse in linear light instead of the file's sRGB")
    max_pixels: int = knob(
        MAX_PIXELS, "largest image to read: a file of a few bytes may unpack to gigabytes", unit="pixels", low=1,
        high=MOST_PIXELS,
    )  # fmt: skip
    unit_normals: str = knob(
        "auto", "decode normals as unit vectors; auto: where the source's are, within 0.4 %", choices=UNIT_NORMALS
    )

    # what to aim at: each picks grids, network and recipe; a flag that is given itself wins, as does hash_grid_configs
    bpp: float = knob(0.0, "rate to aim at, 0.5 to 20, network included; 0: as the flags below say", unit="bpp",
                      low=0.0, high=20.0)  # fmt: skip
    target_psnr: float = knob(0.0, "find the smallest rate that reaches it; 0: no target", unit="dB", low=0, high=80)
    match: str = knob("", "reach the PSNR that this codec has on this material", choices=MATCHES)
    preset: str = knob("", "effort; empty: balanced where a rate or quality is asked for", choices=PRESETS)
    decoder: str = knob(
        "auto",
        "reference: linear grids and leaky ReLU, as the FNTC plug-in reads; learned: the network interpolates, better "
        "per bit; auto: learned where a rate, quality or preset is asked for",
        choices=DECODERS,
    )

    # feature grids and decoder
    quantize: bool = knob(True, "train with rounded features and export them; False: float features, model.pth only")
    quantize_bits: int = knob(4, "bits per feature", unit="bits", choices=(1, 2, 4, 8, 16))
    save_bits: int = knob(32, "bits per grid texel: save_bits / quantize_bits features", choices=(8, 16, 32, 64))
    hash_grid_configs: list = knob([], "grids; empty: two, at half and an eighth of the longer side (config file)")
    n_frequencies: int = knob(12, "triangle waves per axis that tell the network its position", low=0, high=16)
    n_texel_frequencies: int = knob(
        -1, "waves per axis: place in 1, 2, 4... texels of grid 0; -1: 3 with a learned grid, else 0", low=-1, high=8
    )
    n_neurons: int = knob(64, "width of the hidden layers, a multiple of 16", unit="neurons", low=16, high=256)
    n_hidden_layers: int = knob(2, "hidden layers", unit="layers", low=0, high=4)
    activation: str = knob("leaky_relu", "what follows each hidden layer", choices=ACTIVATIONS)

    # training
    max_iter: int = knob(10000, "iterations of the whole run", unit="iterations", low=1, high=10_000_000)
    batch_size: int = knob(8192, "texels per iteration", unit="texels", low=1, high=1 << 22)
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
    wrap_boundary: bool = knob(True, "tie opposite borders and the corners of the grids, so that they tile")
    wrap_strength: float = knob(0.02, "how far borders move to their mean each time; 1: all the way", low=0, high=1)
    wrap_interval: int = knob(100, "iterations between two syncs of the borders", unit="iterations", low=1)
    wrap_levels: int = knob(0, "how many levels, from the finest, are synced; 0: all", unit="levels", low=0, high=15)
    texture_loss_weights: dict | str = knob(
        dict.fromkeys(TEXTURE_MAPS, 1.0),
        "how much each map's squared error counts; equal: 1 each; auto: error relative to the map's contrast, weights "
        "proportional to 1 / max(variance of its channels at LOD 0, 0.02 squared), mean 1; or numbers in a config "
        "file, {diffuse: 2}",
        words=("equal", "auto"),
    )
    refine: int = knob(
        1, "after training: rounds of searching for better codes; 0: none", unit="rounds", low=0, high=100
    )
    seed: int = knob(0, "seed of initial values, samples and noise", low=0, high=2**31 - 1)

    # watching, saving and stopping
    eval_interval: int = knob(2000, "iterations between evaluations of all LODs", unit="iterations", low=1)
    eval_metrics: str = knob(
        "all", "psnr: PSNR and normal angle; all: also SSIM, FLIP, and LPIPS where its weights are on this machine; "
        "lpips: all, and the weights are downloaded", choices=EVAL_METRICS
    )  # fmt: skip
    picture_lod: int = knob(0, "LOD of the pictures in media/, or the last there is", unit="level", low=0, high=15)
    save_interval: int = knob(2000, "iterations between checkpoints", unit="iterations", low=1)
    keep_checkpoints: int = knob(0, "newest checkpoints that stay on disk; 0: all", unit="checkpoints", low=0)
    early_stop: bool = knob(True, "stop when PSNR no longer rises")
    early_stop_interval: int = knob(5000, "segments whose mean PSNR is compared", unit="iterations", low=1)
    early_stop_psnr_threshold: float = knob(0.01, "least gain of a segment over the last one", unit="dB", low=0.0)

    # machine
    device: str = knob("auto", "auto, cpu, cuda, cuda:N or mps")
    engine: str = knob(
        "auto", "who computes a training step; auto: compiled kernels (cpu) on the CPU, Triton kernels (cuda) on an "
        "NVIDIA GPU where they work, else torch; tcnn: tiny-cuda-nn, where it is installed", choices=ENGINES,
    )  # fmt: skip
    gpu_precision: str = knob(
        "tf32", "engine cuda: what the factors of matrix products are rounded to; sums are float32",
        choices=GPU_PRECISIONS,
    )  # fmt: skip
    deterministic: bool = knob(
        False, "engine cuda: the same bits in every run on the same GPU, by integer sums of gradients, which are slower"
    )
    num_threads: int = knob(0, "CPU threads; 0: all cores. Same seed and threads: same bits", low=0, high=1024)

    # many materials
    groups_batching: bool = knob(False, "train every sub-folder of --groups_batch_dir that holds maps")
    groups_batch_dir: str = knob("data_batch", "folder with one sub-folder per material", unit="path")
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


AIMS = ("bpp", "target_psnr", "match")  # what decides a run's rate
LOSS_WEIGHT = knob(1.0, "share of the loss", low=0.0)
FIELDS = {field.name: field for field in dataclasses.fields(Config)}
# What a checkpoint fixes: another value would be another model.
ARCHITECTURE = (
    "quantize", "quantize_bits", "save_bits", "hash_grid_configs", "linear_color", *AIMS, "preset", "decoder",
    "n_frequencies", "n_texel_frequencies", "n_neurons", "n_hidden_layers", "activation",
)  # fmt: skip
# What belongs to one call rather than to the run.
CALL = ("mode", "load_dir", "load_iter") + tuple(n for n in FIELDS if n.startswith("groups_") or n == "ray_address")


def build_parser() -> argparse.ArgumentParser:
    """A parser with one flag per scalar field of Config; flags that are not given stay out of the namespace."""
    parser = OneLineParser(
        prog="train.py",
        description="Compress a material (a folder of PBR maps) into small feature textures and a tiny network.",
    )
    parser.add_argument("--config", default="", help="YAML or JSON file with any of these fields [path]")
    for name, field in FIELDS.items():
        if field.default is not dataclasses.MISSING or field.metadata["words"]:
            add_flag(parser, name, field)  # other lists and dictionaries are given in a config file
    return parser


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The values that the user gave, from the config file and, on top of it, the flags. Nothing is filled in."""
    given = vars(build_parser().parse_args(argv))
    path = given.pop("config")
    values = load_config_file(path) if path else {}
    values.update(given)
    return values


def load_config_file(path: str) -> dict[str, Any]:
    """Read a YAML (or JSON, which is YAML) mapping of field names to values.

    Raises: UserError when it cannot be read, is not a mapping, or names an unknown field.
    """
    try:
        with Path(path).open("rb") as stream:  # a pipe is welcome: --config <(...)
            payload = stream.read(MAX_CONFIG_BYTES + 1)
        text = payload.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"--config {path}: cannot be read ({reason}); give the path of a YAML file") from error
    if len(payload) > MAX_CONFIG_BYTES:
        raise UserError(f"--config {path}: over {MAX_CONFIG_BYTES >> 10} KiB, which no configuration needs")
    try:
        values = _parse_yaml(text)
    except Exception as error:  # PyYAML meets odd scalars, such as '!!int _', with an IndexError; no code of ours runs
        reason = str(getattr(error, "problem_mark", "") or error or type(error).__name__)
        where = f"{' '.join(reason.split()):.200}"
        raise UserError(f"--config {path}: not valid YAML ({where}); write one 'field: value' per line") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"--config {path}: expected 'field: value' lines, found a {type(values).__name__}")
    for name in values:
        if name not in FIELDS:
            raise UserError(f"--config {path}: unknown field {brief(name)}{_suggest(name, FIELDS)}")
    return values


def _parse_yaml(text: str) -> Any:
    """yaml.safe_load of a document that is not more than it looks.

    A few lines of aliases of aliases stand for more entries than there is memory: they are counted before they are
    made. Raises: yaml.YAMLError and, from PyYAML's constructors, anything.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _node_count(node, {}) > MAX_CONFIG_NODES:
            raise ValueError(f"more than {MAX_CONFIG_NODES} entries, aliases included")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _node_count(node: Any, counts: dict[int, float]) -> float:
    """Nodes of a YAML document with every alias written out; infinite where one holds itself."""
    if id(node) not in counts:
        counts[id(node)] = math.inf  # until it is known
        parts = node.value if isinstance(node.value, list) else []
        children = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
        counts[id(node)] = 1 + sum(_node_count(child, counts) for child in children)
    return counts[id(node)]


# --- values --------------------------------------------------------------------------------------------------------


def make_config(values: Mapping[str, Any]) -> Config:
    """A validated Config of the defaults with `values` on top.

    Raises: UserError naming the flag, what it accepts and what was given.
    """
    checked = {name: check_value(f"--{name}", FIELDS[name], value) for name, value in values.items()}
    if "hash_grid_configs" in checked:
        if len(checked["hash_grid_configs"]) > MAX_GRIDS:
            found = len(checked["hash_grid_configs"])
            raise UserError(f"hash_grid_configs: expected at most {MAX_GRIDS} grids, found {found}; leave some out")
        checked["hash_grid_configs"] = [_grid_entry(i, entry) for i, entry in enumerate(checked["hash_grid_configs"])]
    if "texture_loss_weights" in checked:
        checked["texture_loss_weights"] = _loss_weights(checked["texture_loss_weights"])
    config = Config(**checked)
    _check_combinations(config, values)
    return config


def _grid_entry(index: int, entry: Any) -> HashGridConfig:
    where = f"hash_grid_configs[{index}]"
    if isinstance(entry, HashGridConfig):
        entry = dataclasses.asdict(entry)
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected a mapping with max_resolution, n_levels, ..., got {brief(entry)}")
    fields = {field.name: field for field in dataclasses.fields(HashGridConfig)}
    for name in entry:
        if name not in fields:
            raise UserError(f"{where}: unknown field {brief(name)}{_suggest(name, fields)}")
    return HashGridConfig(**{name: check_value(f"{where}.{name}", fields[name], entry[name]) for name in entry})


def _loss_weights(weights: dict | str) -> dict[str, float] | str:
    """Every map's weight; 'auto' stays: it is resolved when the material is known."""
    if weights == "auto":
        return weights
    merged = dict.fromkeys(TEXTURE_MAPS, 1.0)
    if weights == "equal":
        return merged
    for name, weight in weights.items():
        if name not in merged:
            raise UserError(f"texture_loss_weights: unknown map {brief(name)}{_suggest(name, merged)}")
        merged[name] = check_value(f"texture_loss_weights.{name}", LOSS_WEIGHT, weight)
    return merged


def _check_combinations(config: Config, given: Mapping[str, Any]) -> None:
    """Refuse what makes no sense together, before any work starts."""
    if config.n_neurons % 16:
        raise UserError(f"--n_neurons: expected a multiple of 16, got {config.n_neurons}")
    if config.quantize_bits > config.save_bits:
        raise UserError(
            f"--quantize_bits {config.quantize_bits} does not fit into --save_bits {config.save_bits}; "
            "a word holds save_bits / quantize_bits features, so raise --save_bits or lower --quantize_bits"
        )
    if 0 < config.bpp < 0.5:
        raise UserError(f"--bpp: expected 0.5 to 20 bits per texel, got {config.bpp:g}")
    aims = [f"--{name}" for name in AIMS if getattr(config, name)]
    if len(aims) > 1:
        raise UserError(f"{' and '.join(aims)}: each of them chooses the rate; give one")
    if aims and not config.quantize:
        raise UserError(f"{aims[0]}: a rate counts rounded features; leave out --quantize False")
    if config.mode == "infer" and not config.load_dir:
        raise UserError("--mode infer: expected --load_dir outputs/<run>, the run to evaluate; it was not given")
    if config.load_iter >= 0 and not config.load_dir:
        raise UserError(f"--load_iter {config.load_iter}: expected --load_dir outputs/<run> beside it, found none")
    if config.groups_batching and config.load_dir:
        raise UserError("--groups_batching trains many materials; it cannot be combined with --load_dir")
    if config.groups_batching and config.mode == "infer":
        raise UserError("--groups_batching trains many materials; it cannot be combined with --mode infer")
    for name in ("ray_address", "groups_gpus", "groups_retries"):
        if getattr(config, name) != FIELDS[name].default and config.groups_backend != "ray":
            raise UserError(f"--{name}: expected --groups_backend ray beside it, found {config.groups_backend}")
    if config.texture_loss_weights != "auto" and not any(config.texture_loss_weights.values()):
        raise UserError("texture_loss_weights: every map has weight 0, so there is nothing to train")


# --- as files ------------------------------------------------------------------------------------------------------


def to_dict(config: Config) -> dict[str, Any]:
    """Plain values of a configuration, for JSON and for a checkpoint; make_config reads them back."""
    values = dataclasses.asdict(config)
    values["hash_grid_configs"] = [
        {name: value for name, value in dataclasses.asdict(grid).items() if value is not None}
        for grid in config.hash_grid_configs
    ]
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
