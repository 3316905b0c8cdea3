"""Plans a run: from --bpp, --preset and --decoder to grids, a network and training settings.

The choices are a table, see rates.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from typing import Any

from common.errors import UserError
from configs import (
    AIMS,
    FIELDS,
    TSNC_NETWORK,
    Config,
    HashGridConfig,
    Size,
    as_resolution,
    make_config,
    to_dict,
)
from shape import BLOCKS, bits_of_weights, decoder_spec, exact_halvings, grid_spec, input_layout, layer_sizes
from training.grid_sizes import HIGHEST_SIDE, SIDE_UNIT, coarse_sizes, fine_sizes, stretch
from training.rates import (
    LARGE_SHARE,
    LARGE_SHARE_OF_BLOCKS,
    Preset,
    Row,
    batch_for,
    grid_rate_for,
    is_small,
    is_wide,
    preset_for,
    row_for,
)

DEFAULT_BPP = 5.0  # of --preset or --decoder learned without a rate
LOWEST_BPP, HIGHEST_BPP = 0.5, 20.0
TOLERANCE = 0.04  # a plan's rate may differ from the one asked for by this share of it
# What `plan_with` decides of the fields that the user left out, besides `form_values`.
PLANNED = frozenset((
    "learning_rate", "grid_learning_rate", "lr_decay_start", "noise_std", "max_iter", "batch_size", "n_hidden_layers",
    "refine", "eval_metrics", "picture_lod", "early_stop", "n_neurons", "eval_interval", "save_interval",
))  # fmt: skip
NARROWED = ("learned", "linear")  # decoders whose weights a plan makes narrow; readers of the others know float32 alone
# Time of an iteration at filtered positions over one at centres (two cores: packed grids 1.2 to 1.4, BC1 1.5 to 1.65).
FILTERED_COST = {"packed": 1.3, "bc1": 1.5, "astc6x6": 1.5}
# Shares of the bits that a network may take: wider than 16 neurons, than 32; with 16-bit weights where 8 bits are
# possible; wider than 16 with 32-bit weights; of more than one hidden layer.
NETWORK_SHARE, WIDE_SHARE, HALF_SHARE, FLOAT_SHARE, MOST_NETWORK = 0.13, 0.085, 0.085, 0.25, 0.68
# Weights of a network with which an iteration takes twice the time of one without. Two cores, batches of 4096: 1.00 ms
# of a core with 1536 weights, 1.33 with 4096, 2.07 with 8448, 2.63 with 12288, 3.12 with 15360.
WEIGHTS_AS_THE_REST = 5700
SAVE_INTERVAL = 10_000  # iterations, half a minute's, that a killed run can lose


# --- grids ---------------------------------------------------------------------------------------------------------


def network_bits(row: Row, config: Config) -> int:
    """Bits of the weights of the configuration's network over a fine and a coarse grid with the row's words."""
    return bits_of_network(smallest_grids(row, config), config)


def smallest_grids(row: Row, config: Config) -> list[HashGridConfig]:
    """A fine and a coarse grid, or planes, of one texel with the row's words."""
    return [*fine_grids((1, 1), row, config.decoder, 1), *coarse_grids((1, 1), row)]


def bits_of_network(grids: list[HashGridConfig], config: Config) -> int:
    """Bits of the weights of the configuration's network over these grids, whose resolutions do not matter."""
    return bits_of_weights(sizes_of_network(grids, config), config.weight_bits)


def sizes_of_network(grids: list[HashGridConfig], config: Config) -> list[tuple[int, int]]:
    """(outputs, inputs) of the weight matrices of the configuration's network over these grids."""
    specs = [grid_spec(grid) for grid in grids]
    form = decoder_spec(config, specs)
    return layer_sizes(input_layout(specs, form), form)


def fine_grids(size: Size, row: Row, decoder: str, num_lods: int) -> list[HashGridConfig]:
    """The row's fine grid, or planes, of this size with all levels that halve exactly, one for each LOD."""
    interpolation = "learned" if decoder == "learned" else "linear"
    return _grids(row.fine, row.latents, size, min(exact_halvings(size) + 1, num_lods), interpolation)


def coarse_grids(size: Size, row: Row) -> list[HashGridConfig]:
    """The row's coarse grid, or planes: one level that all LODs share, so that small LODs have more features per texel
    than LOD 0.

    Two materials, 2.5 bpp, 2500 iterations: LODs 1 to 4 end at +0.1, +1.0, +3.7, +6.1 dB relative to LOD 0; with a
    level for each, at -0.4, -0.5, -0.7, -1.5 dB. BC1 planes of Rock058, 3000 iterations: LODs 0 to 3 at 32.9, 32.3,
    33.6, 35.0 dB, with a level for each at 33.0, 31.8, 31.6, 31.5.
    """
    return _grids(row.coarse, row.latents, size, 1, "linear")


def _grids(
    word: tuple[int, float], latents: str, size: Size, n_levels: int, interpolation: str
) -> list[HashGridConfig]:
    """One grid with this word, or as many planes as it says."""
    count, bits = word
    shape = {"max_resolution": as_resolution(size), "n_levels": n_levels, "interpolation": interpolation}
    if latents in BLOCKS:
        return [HashGridConfig(**shape, storage=latents)] * count
    return [HashGridConfig(**shape, quantize_bits=bits, save_bits=count * bits)]


def bits_of_grid(word: tuple[int, float], latents: str, size: Size) -> float:
    """Bits of the finest level of this size of a grid with this word, or of planes, whose last blocks may reach beyond
    it."""
    if latents not in BLOCKS:
        return math.prod(size) * math.prod(word)
    block = BLOCKS[latents]
    return word[0] * math.prod(-(-side // block.side) for side in size) * 8 * block.bytes


def outline(config: Config, width: int, height: int) -> Size:
    """The size whose proportions the grids of a material have: its own, but squares in the reference form and that of
    Intel's sample, whose readers know nothing else."""
    return (max(width, height),) * 2 if config.decoder in ("reference", "tsnc") else (width, height)


def choose_grids(row: Row, config: Config, width: int, height: int) -> list[HashGridConfig]:
    """Grids whose bits, with the network's, come closest to config.bpp per texel of a width x height material.

    Args:
        row: the words, and how to share out the bits.
        config: `decoder` is the form of the finest grid; n_neurons, n_hidden_layers, n_frequencies and
            n_texel_frequencies decide how large the network is.
    Raises: NoGrids when the network alone leaves no bits for grids, or no grids come within 4 %.
    """
    if config.decoder == "tsnc":
        return tsnc_planes(row, config, width, height)
    texels, num_lods, best = width * height, max(width, height).bit_length(), None
    size = outline(config, width, height)
    budget, fine_word, coarse_word = config.bpp * texels, math.prod(row.fine), math.prod(row.coarse)
    in_grids = budget - network_bits(row, config)
    alone = bits_of_network(fine_grids((1, 1), row, config.decoder, 1), config)  # without a coarse grid
    for fine in fine_sizes(row, in_grids / fine_word, *size) if in_grids > 0 else ():
        fine_bits = bits_of_grid(row.fine, row.latents, fine)
        for coarse in coarse_sizes(row, (in_grids - fine_bits) / coarse_word, *size):
            if coarse[0] > fine[0] or coarse[1] > fine[1]:
                continue
            network = budget - in_grids if coarse[0] else alone
            spent = network + fine_bits + bits_of_grid(row.coarse, row.latents, coarse)
            # 1 % of the rate counts as much as 6 % of the fine grid's share, which matters little, and 20 % of stretch
            cost = abs(spent / budget - 1) + abs(fine_bits / in_grids / row.fine_share - 1) / 6
            cost += sum(stretch(grid, *size) for grid in (fine, coarse) if grid[0]) / 20
            if abs(spent / budget - 1) <= TOLERANCE and (best is None or cost < best[0]):
                best = (cost, fine, coarse)
    if best is None:
        raise NoGrids(network_bits(row, config) / texels, config.n_neurons)
    _, fine, coarse = best
    return fine_grids(fine, row, config.decoder, num_lods) + (coarse_grids(coarse, row) if coarse[0] else [])


def tsnc_planes(row: Row, config: Config, width: int, height: int) -> list[HashGridConfig]:
    """Two BC1 planes, and two of half their side, whose bits with the network's are within 4 % of config.bpp.

    They are what the sample loads: all levels are whole blocks, since it halves blocks, and an LOD reads the mip that a
    GPU chooses, in the half planes one less. The whole side of the material is taken where it fits, else the side that
    halves most often. Raises: NoGrids when no planes fit the rate.
    """
    longer, texels = max(width, height), width * height
    network, num_lods = network_bits(row, config), longer.bit_length()
    rate_of = {}
    sides = range(2 * SIDE_UNIT, min(HIGHEST_SIDE, 2 * longer) + 1, 2 * SIDE_UNIT)
    for side in sides if config.bpp * texels > network else ():
        spent = network + BLOCKS["bc1"].bits_per_texel * (row.fine[0] * side**2 + row.coarse[0] * (side // 2) ** 2)
        if abs(spent / (config.bpp * texels) - 1) <= TOLERANCE:
            rate_of[side] = spent / texels
    if not rate_of:
        raise NoGrids(network / texels, config.n_neurons)
    side = min(rate_of, key=lambda s: (s != longer, -exact_halvings(s), abs(rate_of[s] - config.bpp)))
    levels = exact_halvings(side // SIDE_UNIT) + 1
    fine = HashGridConfig(side, min(levels, num_lods), storage="bc1")
    coarse = HashGridConfig(side // 2, min(levels - 1, num_lods), finest_lods=2, storage="bc1")
    return [fine] * row.fine[0] + [coarse] * row.coarse[0]


class NoGrids(UserError):
    """For a rate that no grids meet.

    Args:
        network: bits per texel of the network alone.
        n_neurons: its width.
    """

    def __init__(self, network: float, n_neurons: int):
        super().__init__(f"the network of {n_neurons} neurons takes {network:.2f} bpp, and no grids fill the rest")
        self.network, self.n_neurons = network, n_neurons


def _refusal(problem: NoGrids, config: Config, width: int, height: int) -> UserError:
    """What the user reads about a rate that a size cannot have; it names the flag that asked for it, and the least rate
    that the size can have."""
    asked = next((name for name in (*AIMS, "preset", "decoder", "latents") if name in config.chosen), "bpp")
    asks = f"--{asked} {config.bpp:g}" if asked == "bpp" else f"--{asked}"
    rate = "" if asked == "bpp" else f" at {config.bpp or DEFAULT_BPP:g} bpp"
    least, neurons = lowest_planned(config, width, height), f"its network of {problem.n_neurons} neurons"
    ways = [] if least is None else [f"give --bpp {least:g} or more"]
    ways += ["give a smaller --n_neurons"] * (problem.n_neurons > 16 and config.decoder != "tsnc")
    found = f"{problem.network:.2f} bpp for {neurons} alone, and no grids fill the rest within 4 %"
    if least is not None and least > (config.bpp or DEFAULT_BPP):
        found = f"{least:g} bpp or more, most of them for {neurons}"
    ways = ", or ".join([*ways, f"leave --{asked} out"])
    return UserError(f"{asks}: a {width}x{height} material{rate} needs {found}; {ways}")


# --- the whole configuration ---------------------------------------------------------------------------------------


def wants_plan(config: Config) -> bool:
    """Whether the user asked for a rate, a quality, an effort or a decoder form rather than for the plain defaults."""
    return bool(config.bpp or config.target_psnr or config.match or config.preset
                or config.decoder in ("learned", "linear") or config.latents != "packed")  # fmt: skip


def decoder_of(config: Config) -> str:
    """The decoder's form in a plan."""
    return config.decoder if config.decoder != "auto" else "linear" if config.latents in BLOCKS else "learned"


def kept_defaults(config: Config) -> list[str]:
    """The fields that a plan would decide and that the user set to their defaults: not the same as leaving them out."""
    decoder = decoder_of(config)
    planned = PLANNED | form_values(dataclasses.replace(config, decoder=decoder), 1).keys()
    planned |= {"weight_bits"} if decoder in NARROWED else set()
    given = config.chosen & planned if wants_plan(config) else ()
    return sorted(name for name in given if getattr(config, name) == FIELDS[name].default)


def plan(config: Config, width: int, height: int, row_bpp: float = 0.0) -> Config:
    """The configuration with what --bpp, --preset and --decoder decide filled in; chosen flags stay as they are.

    Args:
        row_bpp: take the table's row of this rate, unless its network is too large for the rate asked for. Within one
            row PSNR rises smoothly with the rate. 0: the row of the rate asked for.
    Raises: UserError when the rate cannot be met; it says what the least rate is that can be.
    """
    try:
        return _plan(config, width, height, row_bpp) if wants_plan(config) else config
    except NoGrids as problem:
        raise _refusal(problem, config, width, height) from problem


def _plan(config: Config, width: int, height: int, row_bpp: float = 0.0) -> Config:
    """`plan` where one is wanted. Raises: NoGrids."""
    chosen = {name: getattr(config, name) for name in config.chosen & {"decoder", "bpp"}}
    decoder = decoder_of(config)
    config = dataclasses.replace(config, decoder=decoder, bpp=config.bpp or DEFAULT_BPP)
    preset = preset_for(config.preset or "balanced")
    if row_bpp:
        with contextlib.suppress(NoGrids):
            planned = plan_with(row_for(row_bpp, decoder, config.latents), preset, config, width, height)
            return dataclasses.replace(planned, **chosen)
    planned = plan_with(row_for(config.bpp, decoder, config.latents), preset, config, width, height)
    return dataclasses.replace(planned, **chosen)


def plan_with(row: Row, preset: Preset, config: Config, width: int, height: int) -> Config:
    """`plan` with a given row and effort, for a configuration that has a rate and a decoder form."""
    values: dict[str, Any] = {
        "learning_rate": row.learning_rate * preset.learning_rate_factor,
        "grid_learning_rate": grid_rate_for(row, width * height),
        "lr_decay_start": preset.lr_decay_start,
        "noise_std": 0.0,
        "batch_size": batch_for(preset, width * height),
        "refine": rounds_for(preset, row, width * height),
        "eval_metrics": preset.eval_metrics,
        "picture_lod": preset.picture_lod,
        "early_stop": False,
    }
    values.update(form_values(config, max(width, height)))
    fixed = TSNC_NETWORK if config.decoder == "tsnc" else {}
    values.update(fixed)
    planned = dataclasses.replace(config, **{name: v for name, v in values.items() if name not in config.chosen})
    values = {**network_for(row, preset, planned, width * height), **fixed}  # these follow from the others
    planned = dataclasses.replace(planned, **{name: v for name, v in values.items() if name not in config.chosen})
    if "max_iter" not in config.chosen:
        planned = dataclasses.replace(planned, max_iter=iterations_for(preset, row, width * height, planned))
    values = {
        "eval_interval": planned.max_iter,
        "save_interval": min(SAVE_INTERVAL, planned.max_iter),
    }
    planned = dataclasses.replace(planned, **{name: v for name, v in values.items() if name not in config.chosen})
    if not config.hash_grid_configs:
        planned = dataclasses.replace(planned, hash_grid_configs=choose_grids(row, planned, width, height))
    return dataclasses.replace(make_config(to_dict(planned)), chosen=config.chosen)


def form_values(config: Config, side: int) -> dict[str, Any]:
    """What the decoder's form decides: its activation, its waves, and where it is trained.

    The waves of linear grids end at eight of the material's `side` texels. With finer ones a network that is trained at
    texel centres decodes other places worse: Rock058 in BC1 planes at 2.5 bpp, `fast`, filtered PSNR 34.9 dB with 9
    waves, 34.0 with 12. Facade005, which repeats: 47.4 dB at centres with 9 waves, 48.0 with 10, 39.0 without.

    Planes of blocks of linear grids are there to be filtered, so they are trained for it: Rock058 in BC1 at 2.5 bpp
    loses 0.4 dB at centres and gains 0.3 of filtered PSNR, Facade005 loses 7.9 and gains 17.6.
    """
    if config.decoder == "learned":
        return {"activation": "hard_swish", "n_frequencies": 0}
    if config.decoder != "linear":
        return {}
    values: dict[str, Any] = {"activation": "hard_swish", "n_frequencies": min(max(side.bit_length() - 2, 0), 16)}
    return {**values, "positions": "filtered"} if config.latents in BLOCKS else values


def least_rate(config: Config, width: int, height: int) -> float:
    """The lowest rate, in steps of 3 % from 0.5 bpp, that can be planned for a material of this size.

    Raises: UserError where even 20 bpp are too few: its network alone takes more.
    """
    least = lowest_planned(config, width, height)
    if least is not None:
        return least
    plan(dataclasses.replace(config, bpp=HIGHEST_BPP, target_psnr=0.0, match=""), width, height)
    raise AssertionError("a rate that can be planned was not found")


def lowest_planned(config: Config, width: int, height: int) -> float | None:
    """`least_rate`; None where there is none."""
    bpp = LOWEST_BPP
    while True:
        try:
            _plan(dataclasses.replace(config, bpp=bpp, target_psnr=0.0, match=""), width, height)
        except NoGrids:
            if bpp == HIGHEST_BPP:
                return None
            bpp = min(round(bpp * 1.03, 3), HIGHEST_BPP)
        else:
            return bpp


def iterations_for(preset: Preset, row: Row, texels: int, config: Config) -> int:
    """A preset's iterations at a row's rate for a material of so many texels, to two digits.

    Small materials have narrow networks, whose iterations are quick: their runs take the same time at every rate, of
    training some 17 s of two cores. `balanced` at 2.5 bpp, in dB after 2 and after 6 rounds of search:

    - 512², Rock058: 15000 iterations 34.51 and -, 25500 34.61 and 34.72; Metal055A 46.46, 46.52 and 46.57.
    - 256², Rock058: 15000 iterations 33.15 and 33.28, 30000 33.13 and 33.32; Metal055A 46.55 and 46.63, 34000 46.66 and
      46.70. Facade005, which repeats, scatters by a dB.
    - 256², Rock058, 15000 iterations, 2 rounds, 33.15: learning rate times 0.6 32.98, times 2 32.96, of the grids times
      0.5 33.10, times 2 33.08; its decay from 0.2 of the run on 33.18; batches of 2048, twice as many, 33.03, of 16384,
      half as many, 33.05; noise of 0.5 32.99; 3 waves 33.10; 4 layers 33.07; weights rounded from 0.3 on 33.16.
    """
    if is_small(preset, row, texels):
        weights = sum(map(math.prod, sizes_of_network(smallest_grids(row, config), config)))
        exact = preset.iterations * max(preset.small_effort / (1 + weights / WEIGHTS_AS_THE_REST), 1)
    else:
        cost = row.cost * (FILTERED_COST[row.latents] if config.positions == "filtered" else 1)
        exact = preset.iterations / cost * (row.effort if preset.patient else 1)
        if preset.wide_side and row.wide_neurons and texels > preset.wide_side**2:
            exact *= LARGE_SHARE if row.latents == "packed" else LARGE_SHARE_OF_BLOCKS
    unit = 10 ** max(math.floor(math.log10(exact)) - 1, 0)
    return max(round(exact / unit) * unit, 1)


def rounds_for(preset: Preset, row: Row, texels: int) -> int:
    """A preset's rounds of search at a row's rate for a material of so many texels: half where one takes a third of the
    training, as it does in four large planes of linear BC1, and more where one is quick. Rock058 at 10 bpp in four
    such planes, learned and with short runs: one round after 10,500 iterations ends at 39.17 dB, two after 6100 at
    39.02."""
    if is_small(preset, row, texels):
        return preset.small_refine or preset.refine
    slow = row.latents in BLOCKS and row.fine[0] >= 4 and not row.wide_neurons
    return (preset.refine + 1) // 2 if slow else preset.refine


def network_for(row: Row, preset: Preset, config: Config, texels: int) -> dict[str, int]:
    """n_hidden_layers, n_neurons and weight_bits, of which those that were chosen stay.

    The preset's layers, or as few as it takes to leave a third of the bits; then the widest network, up to the row's,
    that takes no more than its share, with weights of 16 bits if it fits with those, else of 8.

    Measured on the centres of Metal055A and Rock058, `balanced` (9100 iterations), mean in dB with the network's share:

    - 256² and 2.5 bpp: 2x16 neurons of 8 bits 39.54 (0.07), 2x32 39.55 (0.17), 3x16 39.81 (0.09), 3x32 39.64 (0.22);
      of 16 bits 2x16 39.55 (0.13); of 32 bits 2x16 38.69 (0.25).
    - 512² and 2.5 bpp: of 16 bits 2x32 40.19 (0.08), 3x32 40.38 (0.10); of 8 bits 2x32 40.20, 2x48 40.26 (0.07), 2x64
      40.24 (0.11), 3x32 40.40 (0.06), 3x48 40.41 (0.10), 3x64 40.00 (0.16). Facade005, at 48 dB, loses 1.5 dB with 8
      bits in place of 16, at 5 bpp 1.2.
    - 256² and 5 bpp: of 8 bits 2x32 42.62 (0.10), 3x32 42.80 (0.12); 512² and 1.25 bpp 2x32 37.90 (0.08), 3x32 38.00
      (0.11); 128² and 2.5 bpp 2x16 38.04 (0.29), 3x16 37.96 (0.35).
    - 1024² and 8 bits, Rock058: 3x64 35.35 dB at 2.5 bpp (0.04, 15000 iterations), 2x32 34.85, 3x32 35.13, 2x64 35.07.
    - In `fast` with 4500 iterations, 8 bits: 256² and 5 bpp 2x32 42.00 (0.10), 2x16 41.35 (0.04), 2x48 41.35 (0.16);
      256² and 1.25 bpp 2x16 36.77 (0.14), 2x32 36.83 (0.33), 2x48 35.99 (0.57); 128² and 2.5 bpp 2x16 37.81 (0.29),
      1x16 37.16 (0.23), 2x32 36.66 (0.67); 128² and 1.25 bpp 2x16 35.40 (0.57), 1x16 35.18 (0.45).
    """
    narrowed, chosen = config.decoder in NARROWED, config.chosen
    wide = is_wide(preset, row, texels)
    most = row.wide_neurons if wide else row.n_neurons
    most_layers = preset.wide_layers if wide else preset.n_hidden_layers
    layers = list(range(most_layers, 0, -1)) if narrowed else [most_layers]
    layers = [config.n_hidden_layers] if "n_hidden_layers" in chosen else layers
    widths = list(range(min(most, preset.most_neurons), 15, -16))
    widths = [config.n_neurons] if "n_neurons" in chosen else widths
    precisions = [16, 8] if narrowed and "weight_bits" not in chosen else [config.weight_bits]

    def share(n_hidden_layers: int, n_neurons: int, weight_bits: int) -> float:
        network = {"n_hidden_layers": n_hidden_layers, "n_neurons": n_neurons, "weight_bits": weight_bits}
        return network_bits(row, dataclasses.replace(config, **network)) / (config.bpp * texels)

    def most_share(n_neurons: int, weight_bits: int) -> float:
        if weight_bits == 32:
            return FLOAT_SHARE
        return HALF_SHARE if weight_bits > precisions[-1] else NETWORK_SHARE if n_neurons <= 32 else WIDE_SHARE

    least = widths[-1], precisions[-1]
    depth = next((count for count in layers if share(count, *least) <= MOST_NETWORK), layers[-1])
    fitting = (pair for pair in itertools.product(widths, precisions) if share(depth, *pair) <= most_share(*pair))
    n_neurons, weight_bits = next(fitting, least)
    return {"n_hidden_layers": depth, "n_neurons": n_neurons, "weight_bits": weight_bits}
