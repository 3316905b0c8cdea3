"""rates.json, the table of choices that plans are made from, as rows and presets.

`python -m bench.rate_table` writes it; its `origin` says which of the choices were measured. A row holds from its rate
up to the next row's: the words of a fine and a coarse grid, or the numbers of fine and coarse BC1 planes (--latents
bc1), how the bits are shared between them, and the network.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import open_regular, parse_json
from configs import PRESETS, QUANTIZE_BITS, SAVE_BITS, make_config
from shape import BLOCKS

TABLE = Path(__file__).with_name("rates.json")
MAX_TABLE_BYTES = 1 << 20
WRITTEN_ROWS = {  # (decoder, latents) -> the name of their rows in the file
    ("learned", "packed"): "learned", ("reference", "packed"): "reference", ("linear", "packed"): "linear",
    ("learned", "bc1"): "bc1_learned", ("linear", "bc1"): "bc1_linear", ("tsnc", "bc1"): "bc1_tsnc",
}  # fmt: skip
ASTC = "astc6x6"
ROWS = {**WRITTEN_ROWS, ("learned", ASTC): "astc_learned", ("linear", ASTC): "astc_linear"}
MOST_PLANES = 16
GROWS_ABOVE = 2**20  # texels of a material up to which presets are as in the table
LARGE_SHARE = 0.6  # of the iterations, of a material that is too large for a wide network
LARGE_SHARE_OF_BLOCKS = 0.8  # the same of planes of blocks, whose iterations the wide network lengthens less
SMALL_TEXELS = 2**18  # of a material up to which it counts as small, see Preset.small_effort


@dataclasses.dataclass(frozen=True)
class Row:
    """The plan from the rate `bpp` on. Words are (features, bits of each), of blocks (planes, bits of a texel)."""

    bpp: float
    fine: tuple[int, float]
    coarse: tuple[int, float]
    scale: float  # the fine grid's side over the material's longer one; 0: `fine_share` decides
    fine_share: float  # of the bits in grids, where the scale is 0 or does not fit the material
    n_neurons: int
    learning_rate: float
    grid_learning_rate: float
    cost: float  # time of an iteration with n_neurons, relative to the first row's
    # Factor on the time of a run with n_neurons, over the first row's: high rates have more to learn. Where there are
    # wide_neurons it is such that a run with those takes what it may, see wide_patience in bench/rate_table.py.
    effort: float
    latents: str = "packed"
    wide_neurons: int = 0  # see Preset.wide_side; 0: none


@dataclasses.dataclass(frozen=True)
class Preset:
    """An effort. `iterations` is at the first row's cost, `batch_size` the texels of each, see also `growth`.

    Rock058 at 2.5 bpp, in dB: in the time of `balanced`, batches of 4096 are 0.08 better than of 8192 or 2048; in that
    of `best`, batches of 8192 are 0.03 better. Four times the samples gain 0.07, a third hidden layer 0.09 at equal
    samples. For `refine` see code_refinement.py.

    Short runs lack steps, not samples: 4400 iterations of 2048 texels at 0.02 for the network, falling from 0.3 of the
    run on, instead of 2400 of 4096 at 0.01 from 0.5 on, bring 3.1 dB on Facade005, 0.1 on Rock058 and 0 on Metal055A in
    `preview` at 2.5 bpp, 1.0, 0.15 and 0.03 at 5, 1.6, 0.3 and 0.3 at 10; in `fast` at 2.5 bpp 1.7, -0.03 and 0.08. In
    `balanced` they bring nothing.

    most_neurons: limit on the width of a row's network.
    learning_rate_factor: on a row's learning rate for the network.
    picture_lod: 1 for `preview`, since PNGs of LOD 0 take a tenth of its time.
    patient: whether a row's `effort` lengthens a run, rather than the same time at every rate.
    wide_side, wide_layers: up to this side of a square a material gets so many layers of a row's wide_neurons, where
        the row has them: networks of linear grids hardly gain by them. A larger material gets LARGE_SHARE of the
        iterations: batches grow, see `growth`, and a wide network would take twice the time.
    small_effort: of a material of at most SMALL_TEXELS that gets the wide_layers: the factor on `iterations` in place
        of a row's, at an iteration's time with no network, see plan.iterations_for. 0: as other materials.
    small_refine: rounds of search of such a material with packed grids; 0: `refine`.
    """

    iterations: int
    batch_size: int
    n_hidden_layers: int
    most_neurons: int
    refine: int
    eval_metrics: str
    picture_lod: int
    patient: bool
    learning_rate_factor: float
    lr_decay_start: float
    wide_side: int
    wide_layers: int
    small_effort: float = 0.0
    small_refine: int = 0


@functools.cache
def load_table() -> dict[str, Any]:
    """rates.json: {"origin", "presets", "learned": rows, "reference": rows, ...}, rows as `Row`, ascending.

    The other names of rows are those of `ROWS`.
    """
    return read_table(TABLE)


def read_table(path: Path) -> dict[str, Any]:
    """`load_table` of any file.

    Raises: UserError when it cannot be read or does not hold what `python -m bench.rate_table` writes.
    """
    try:
        with open_regular(path) as stream:
            table = parse_json(stream.read(MAX_TABLE_BYTES).decode("utf-8"))
        for (_, latents), name in WRITTEN_ROWS.items():
            table[name] = [_row(row, latents) for row in table[name]]
            if not table[name] or table[name] != sorted(table[name], key=lambda row: row.bpp):
                raise ValueError(f"rows of {name} should ascend")
        table |= {ROWS[decoder, ASTC]: _as_astc(table[ROWS[decoder, "bc1"]]) for decoder in ("learned", "linear")}
        table["presets"] = {name: _preset(table["presets"][name]) for name in PRESETS if name}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore it from the repository") from error
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged ({error!s:.120}); restore it from the repository, or write it again with "
            "python -m bench.rate_table"
        ) from error
    return table


def _row(entry: Mapping[str, Any], latents: str) -> Row:
    """Raises: TypeError or ValueError for a row that cannot be planned with."""
    row = Row(**{**entry, "fine": tuple(entry["fine"]), "coarse": tuple(entry["coarse"]), "latents": latents})
    for features, bits in (row.fine, row.coarse):
        if latents in BLOCKS:
            if type(features) is not int or not 1 <= features <= MOST_PLANES or bits != BLOCKS[latents].bits_per_texel:
                raise ValueError(f"{features!r:.40} planes of {bits!r:.40} bits a texel")
        elif bits not in QUANTIZE_BITS or type(features) is not int or features * bits not in SAVE_BITS:
            raise ValueError(f"no word has {features!r:.40} features of {bits!r:.40} bits")
    _check_numbers(row, low=0, high=1000)
    for n_neurons in (row.n_neurons, row.wide_neurons or row.n_neurons):
        if type(n_neurons) is not int or not 16 <= n_neurons <= 256 or n_neurons % 16:
            raise ValueError(f"n_neurons {n_neurons!r:.40}")
    if min(row.bpp, row.cost, row.effort, row.fine_share) <= 0 or row.fine_share > 1:
        raise ValueError(f"bpp, cost, effort and fine_share {(row.bpp, row.cost, row.effort, row.fine_share)}")
    return row


def _as_astc(rows: Sequence[Row]) -> list[Row]:
    """Rows of BC1 planes as those of as many ASTC planes, whose coarse ones, and all where no scale is given, are
    larger for their fewer bits."""
    bits = BLOCKS[ASTC].bits_per_texel
    return [
        dataclasses.replace(row, latents=ASTC, fine=(row.fine[0], bits), coarse=(row.coarse[0], bits)) for row in rows
    ]


def _preset(entry: Mapping[str, Any]) -> Preset:
    """Raises: TypeError or ValueError for values that a run cannot have."""
    preset = Preset(**entry)
    if type(preset.patient) is not bool:
        raise ValueError("patient should be true or false")
    _check_numbers(preset, low=0, high=10_000_000)
    as_they_are = ("batch_size", "n_hidden_layers", "refine", "eval_metrics", "picture_lod")
    make_config({name: getattr(preset, name) for name in as_they_are})
    make_config({"max_iter": preset.iterations, "n_neurons": preset.most_neurons, "refine": preset.small_refine})
    make_config({"learning_rate": preset.learning_rate_factor, "lr_decay_start": preset.lr_decay_start})
    return preset


def _check_numbers(entry: Row | Preset, low: float, high: float) -> None:
    for name, value in dataclasses.asdict(entry).items():
        if not isinstance(value, (bool, str, tuple)) and not (type(value) in (int, float) and low <= value <= high):
            raise ValueError(f"{name} should be a number from {low} to {high}, is {value!r:.40}")


def preset_for(name: str) -> Preset:
    """The effort of this name."""
    return load_table()["presets"][name]


def is_wide(preset: Preset, row: Row, texels: int) -> bool:
    """Whether a material of so many texels gets a row's wide network, see Preset.wide_side."""
    return row.wide_neurons > 0 and texels <= preset.wide_side**2


def is_small(preset: Preset, row: Row, texels: int) -> bool:
    """Whether a material of so many texels gets iterations and rounds of a small one, see Preset.small_effort."""
    return preset.small_effort > 0 and is_wide(preset, row, texels) and texels <= SMALL_TEXELS


def growth(texels: int) -> float:
    """Factor on a preset's batch for a material of so many texels: the side's growth beyond 1024 x 1024.

    A run of 9100 iterations of 4096 texels sees each texel of 4096 x 4096 less than twice. Materials tiled to 2048 x
    2048, 2.5 bpp, `balanced`, after its two rounds of search; samples of a texel:

        samples               1.7       6.7, batch 4096    6.7, 8192    6.7, 16384    13, 8192    13, 16384
        Rock058             33.10             33.50           33.61         33.58        33.77        33.83
        Metal055A           44.96                             45.66         45.57
    """
    return math.sqrt(max(texels / GROWS_ABOVE, 1))


def batch_for(preset: Preset, texels: int) -> int:
    """Texels of an iteration, see `growth`; a multiple of 64 where they are more than the preset's."""
    factor = growth(texels)
    return preset.batch_size if factor == 1 else round(preset.batch_size * factor / 64) * 64


def grid_rate_for(row: Row, texels: int) -> float:
    """The learning rate of grids: the fewer samples a texel sees, the less each may count. In the runs of `growth` with
    6.7 samples of a texel, as 4096 x 4096 has: 0.7 of the row's brings 0.06 dB on Rock058 (0.5: 0.04, 2: -0.01), 0.08
    on Metal055A, 0.58 on Facade005."""
    return float(f"{row.grid_learning_rate * growth(texels) ** -0.25:.2g}")


def row_for(bpp: float, decoder: str, latents: str = "packed") -> Row:
    """The row of the largest rate that is not above `bpp`, else the first."""
    rows = load_table()[ROWS.get((decoder, latents), ROWS["linear", latents])]  # of reference planes those of linear
    return next((row for row in reversed(rows) if row.bpp <= bpp * 1.0001), rows[0])
