"""Measures the table behind --bpp: which words, scales and networks are best at each rate. Writes rates.json.

    python -m bench.rate_table DIR... [--seconds 6] [--rates 0.5,1.25,2.5,5,10,20] [--write rates.json]

At a rate every candidate gets the same processor time on every material, and the best mean PSNR of LOD 0 wins it. In
the learned form of packed grids the best of them are then trained for longer with the wide network of `balanced`, and a
row has that network where it is better than the narrow one in the same time. Wide networks need that time: with a
seventh of that of `balanced` (--seconds 2 --num_threads 1, 2.5 bpp) 3x64 ended at 33.97 and 44.20 dB, and 2x32, whose
iterations are then more by 1.7, at 33.91 and 45.20 (Rock058, Metal055A). All results, those of LODs 1 to 4 too, go to
bench/results/rate_table.json.

--write with some of the --decoders replaces their rows and leaves all others as they are; `origin` is then about the
rows that it names, and what was there before is kept in it as `earlier`.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # before torch

import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import common
from common.errors import UserError, one_line, run_command
from common.files import write_text
from configs import Config, make_config
from engine.schedule import Schedule
from training.plan import plan_with
from training.rates import TABLE, WRITTEN_ROWS, Row, load_table, preset_for

if TYPE_CHECKING:
    from dataset import Material

RATES = (0.5, 1.25, 2.5, 3.5, 5.0, 7.0, 10.0, 14.0, 20.0)
TIMED_ITERATIONS = 60  # that tell how long a candidate's iterations take
TIE = 0.05  # dB: seeds alone move a mean by as much
LODS = 5  # whose PSNR is recorded
# Of which decoders and latents wide networks are tried. Linear grids hardly gain by one, and readers of the reference
# form and of tsnc know others.
WIDE_FORMS = (("learned", "packed"), ("learned", "bc1"))
WIDE_TRIALS = 2  # of a rate's best candidates, with the wide network
# Fine and coarse planes together: WebGL 2 and WebGPU promise 16 textures, of which engines and the viewer need some.
MOST_TEXTURES = 12

# --- set by hand: all that a row has without a measurement -----------------------------------------------------------

FINE_SHARE, TSNC_FINE_SHARE = 0.82, 0.8
WIDE_NEURONS = 64  # the one width that is tried
# Of the network and the grids. Two materials, 1500 iterations: 0.005 for the network loses 0.3 dB at 5 bpp, 0.02 up to
# 3 dB where it has 64 neurons. Three materials, 5000 iterations, refined: 0.01 for the grids, falling from half of the
# run on, is better than 0.015 from 0.7 on by 0.05 dB at 1.25 bpp, 0.26 at 5 and 0.24 to 0.4 at 10; 0.007 and 0.005 tie.
# `balanced` with one sweep: 0.014 for the network against 0.01 brings 1.0, 0.05 and -0.14 dB at 1.25 bpp (Facade005,
# Rock058, Metal055A), 0.57, 0.02 and -0.08 at 2.5, 0.23, -0.1 and 0.19 at 5, where LODs lose; 0.02 at 2.5: 1.25, -0.07
# and -0.17. Learned BC1 planes with the wide network at 2.5 bpp: 0.014 against 0.01 brings -0.01, -0.26 and 0.04 dB
# (Rock058, Metal055A, Facade005), of filtered PSNR -1.0, -1.3 and 0.3; at 5 and 10 bpp 0.007 ties with 0.01.
LEARNING_RATES = (0.01, 0.01)
LOW_LEARNING_RATES = (0.014, 0.01)
LOW_BPP = 2.5  # up to here, in the learned form of packed grids and the linear one of BC1
# Rock058 and Metal055A, 5 bpp, 4000 iterations of 4096 texels: 33.17 and 45.76 dB; with 0.006 for the network 33.11 and
# 45.70, with 0.01 33.00 and 45.70, and LODs 4 to 7 lose up to 1.2. Rock058: 0.002 33.15, 0.02 for the grids 33.07.
TSNC_LEARNING_RATES = (0.003, 0.01)


def patience(bpp: float) -> float:
    """How long a run with the narrow network may take, over one at low rates: wide words have more to learn."""
    return 1.0 if bpp < 4 else 1.6 if bpp < 8 else 1.9


def wide_patience(bpp: float, latents: str = "packed") -> float:
    """The same with the wide network: for 26 to 28 s of `balanced` in all, on two cores with AVX-512, and 54 s from 8
    bpp on, where twice the iterations bring 0.4 (Rock058) and 0.5 dB (Metal055A); at 5 bpp they bring 0.11. Runs of
    blocks take up to a third more seconds than those of packed grids, search included."""
    if latents != "packed":
        return 2.64 if bpp < 4 else 3.0 if bpp < 8 else 4.13
    return 2.6 if bpp < 4 else 3.0 if bpp < 8 else 6.0


MEASURED = (  # for the table's `origin`
    "fine, coarse, scale, n_neurons and wide_neurons of each row by the mean PSNR of LOD 0, and cost by its time over "
    "that of a packed row of cost 1 in the table before; effort is the time that a run may take, which is set by hand, "
    "over what the wide network's iterations cost more, which is measured; set by hand in bench/rate_table.py are "
    "patience, wide_patience, the width of wide networks, fine_share and the learning rates; the "
    "presets are copied from the table before, see Preset in training/rates.py for what they go by"
)


# --- candidates ------------------------------------------------------------------------------------------------------


def candidates(bpp: float, decoder: str, latents: str = "packed") -> Iterator[Row]:
    """What is tried at a rate, with narrow networks."""
    neurons = (32,) if bpp < 4 else (32, 64) if bpp < 8 else (64,)
    if latents == "bc1":
        yield from _planes(bpp, decoder, neurons)
        return
    scales = (0, 0.5)
    words = ((4, 2), (8, 1), (8, 2), (16, 2)) if decoder == "learned" else ((8, 1), (16, 1), (16, 2), (8, 4))
    neurons = (64,) if decoder == "reference" else neurons
    rates = LOW_LEARNING_RATES if decoder == "learned" and bpp <= LOW_BPP else LEARNING_RATES
    for fine in words:
        for scale in scales:
            side = math.sqrt(FINE_SHARE * bpp / math.prod(fine))  # of a fine grid, over that of a square material
            if not (0.7 < (scale or side) / side < 1.1 and side < 1.05):
                continue  # the fine grid would leave too much or too little to the coarse one, or outgrow the material
            if not scale and math.prod(fine) > 8 and side < 0.6:
                continue  # fewer features on a finer grid have always been better
            for n_neurons in neurons:
                yield Row(bpp, fine, (8, 4), scale, FINE_SHARE, n_neurons, *rates, 1.0, 1.0)


def _planes(bpp: float, decoder: str, neurons: Sequence[int]) -> Iterator[Row]:
    """BC1: fine planes at half the material's side where they take 0.6 to 1 of the rate, and at the side that their
    bits buy, 0.3 to 0.8 of the material's; and coarse ones. Of the form tsnc alone what it fixes.

    Rock058, 6000 iterations of 3x64, LODs 0 to 3: at 5 bpp 4 planes of 512² with 2 of 320² 35.97, 35.2, 36.2 and 36.9
    dB, with 4 of 256² 36.13, 35.5, 37.4 and 39.5, with 8 of 180² 36.23, 35.4, 36.6 and 39.3; at 10 bpp 4 of 736² with 2
    of 444² 38.26, 37.6, 38.8 and 39.4, with 4 of 320² 38.45, 37.8, 39.6 and 41.2, with 8 of 256² 38.55, 37.9, 40.6 and
    43.3, and 8 of 512² with 8 of 256², in 1.3 times the time, 38.90, 38.2, 40.8 and 44.0. Four are tried at most, since
    every plane is a sample more for each pixel. Linear planes gain 0.02, 0.09 and 0.18 dB by four in place of two at
    2.5, 5 and 10 bpp, LODs 2 and 3 up to 3, and lose 0.4 of LOD 1 at 10: the table keeps two.
    """
    if decoder == "tsnc":
        yield Row(bpp, (2, 4), (2, 4), 0, TSNC_FINE_SHARE, 64, *TSNC_LEARNING_RATES, 1.0, 1.0, "bc1")
        return
    rates = LOW_LEARNING_RATES if decoder == "linear" and bpp <= LOW_BPP else LEARNING_RATES
    for fine in (1, 2, 4, 8):
        for scale in (0, 0.5):
            side = math.sqrt(FINE_SHARE * bpp / (4 * fine))
            if not (0.3 < side < 0.8 and (not scale or 0.6 < scale**2 * 4 * fine / bpp < 1)):
                continue
            for coarse in (2, 4):
                if fine + coarse > MOST_TEXTURES:
                    continue
                for n_neurons in neurons:
                    yield Row(bpp, (fine, 4), (coarse, 4), scale, FINE_SHARE, n_neurons, *rates, 1.0, 1.0, "bc1")


def wide_candidates(results: Mapping[Row, list[dict[str, Any]]]) -> list[Row]:
    """The candidates of these with the best mean PSNR, best first, each with the wide network beside its own."""
    best_first = sorted(results, key=lambda row: -mean_psnr(results[row]))
    other_words = dict.fromkeys((row.fine, row.coarse, row.scale) for row in best_first)  # in that order
    firsts = [next(row for row in best_first if (row.fine, row.coarse, row.scale) == words) for words in other_words]
    return [dataclasses.replace(row, wide_neurons=WIDE_NEURONS) for row in firsts[:WIDE_TRIALS]]


# --- measuring -------------------------------------------------------------------------------------------------------


def train(config: Config, material: Material) -> tuple[list[float], float]:
    """(PSNR of the first LODs in dB, processor seconds of all threads together over their number)."""
    import torch

    from engine.cpu.decoder import decode_lod
    from engine.create import create_engine
    from metrics.evaluate import metric_options, score_lod
    from model import new_model

    model = new_model(config, material)
    engine = create_engine(model, material, Schedule(config), torch.device("cpu"))
    started = time.process_time()
    while engine.iteration < config.max_iter:
        engine.step(min(engine.chunk, config.max_iter - engine.iteration))
    seconds = (time.process_time() - started) / torch.get_num_threads()
    engine.sync()
    options = {"decode": decode_lod, **metric_options("psnr")}
    scores = [score_lod(model, material, lod, **options) for lod in range(min(LODS, material.num_lods))]
    return [lod["psnr"]["all"] for lod in scores], seconds


def planned(row: Row, decoder: str, material: Material, iterations: int) -> Config:
    """A candidate's run of so many iterations. Raises: UserError where it is not near its rate."""
    import torch

    aim = make_config({"decoder": decoder, "latents": row.latents, "bpp": row.bpp, "positions": "centres", "refine": 0,
                       "max_iter": iterations, "num_threads": torch.get_num_threads()})  # fmt: skip
    effort = dataclasses.replace(preset_for("balanced"), most_neurons=max(row.n_neurons, row.wide_neurons))
    return plan_with(row, effort, aim, material.width, material.height)


def measure(row: Row, decoder: str, material: Material, seconds: float) -> dict[str, Any]:
    """A candidate on a material, for so many processor seconds. Raises: UserError as `planned`."""
    _, took = train(planned(row, decoder, material, TIMED_ITERATIONS), material)
    config = planned(row, decoder, material, max(round(seconds / took * TIMED_ITERATIONS), 1))
    psnr, took = train(config, material)
    return {
        "material": material.name, "decoder": decoder, **dataclasses.asdict(row), "grids": grids_text(config),
        "network": f"{config.n_hidden_layers}x{config.n_neurons}", "iterations": config.max_iter, "seconds": took,
        "psnr": psnr,
    }  # fmt: skip


def grids_text(config: Config) -> str:
    """'512x4x2+160x8x4': side, features and bits of each grid; '512xbc1x2+160xbc1x4': side and number of planes. The
    side of a grid that is no square is '512:128', its width and height."""
    texts = []
    for grid, alike in itertools.groupby(config.hash_grid_configs):
        count, size = len(list(alike)), grid.max_resolution
        size = str(size) if isinstance(size, int) else ":".join(map(str, size))
        words = f"{grid.save_bits // grid.quantize_bits}x{grid.quantize_bits}" if grid.storage == "packed" else ""
        texts += [f"{size}x{words}"] * count if words else [f"{size}xbc1x{count}"]
    return "+".join(texts)


def winner(results: Mapping[Row, list[dict[str, Any]]]) -> Row:
    """The candidate with the best mean PSNR of LOD 0; of those within TIE of it the smallest network, then the fewest
    fine features or planes, then the fewest coarse ones."""
    mean = {row: mean_psnr(entries) for row, entries in results.items()}
    tied = [row for row in results if mean[row] >= max(mean.values()) - TIE]
    return min(tied, key=lambda row: (row.wide_neurons, row.n_neurons, row.fine[0], row.coarse[0], -mean[row]))


def mean_psnr(results: Sequence[Mapping[str, Any]]) -> float:
    """Of LOD 0, over the materials, dB."""
    return sum(entry["psnr"][0] for entry in results) / len(results)


def boundaries(rates: Sequence[float]) -> list[float]:
    """From where on each rate's row holds: half way to the rate before, in octaves."""
    return [rates[0]] + [round(math.sqrt(low * high), 3) for low, high in zip(rates, rates[1:])]


def pace_of(results: Sequence[Mapping[str, Any]]) -> float:
    """Processor seconds of an iteration on each material, added up."""
    return sum(entry["seconds"] / entry["iterations"] for entry in results)


def measure_form(
    decoder: str, latents: str, rates: Sequence[float], materials: Sequence[Material], seconds: float,
    entries: list[dict[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one form.

    Args:
        seconds: processor seconds of a run at low rates.
        entries: receives all results.
    Raises: UserError for a rate that no candidate comes near.
    """
    rows, unit = [], unit_pace(decoder, materials, seconds, entries)
    for low, bpp in zip(boundaries(rates), rates):
        seen: list[list[Config]] = []
        # of two candidates that are the same on these materials the one that says which scale it has
        in_order = sorted(candidates(bpp, decoder, latents), key=lambda row: -row.scale)
        narrow = tried(in_order, decoder, materials, seconds * patience(bpp), entries, seen)
        if not narrow:
            raise UserError(f"--rates {bpp:g}: no grids come near it on these materials; leave it out")
        best, effort = winner(narrow), patience(bpp)
        longer = seconds * wide_patience(bpp, latents)
        wider = wide_candidates(narrow) if (decoder, latents) in WIDE_FORMS else []
        wide = tried(wider, decoder, materials, longer, entries, seen)
        if wide:
            best = winner({**tried([best], decoder, materials, longer, entries, []), **wide})
        pace = pace_of(narrow[dataclasses.replace(best, wide_neurons=0)])
        if best.wide_neurons:  # `cost` is the narrow network's, so that the iterations come from the effort
            effort = round(wide_patience(bpp, latents) * pace / pace_of(wide[best]), 2)
        rows.append({**dataclasses.asdict(best), "bpp": low, "cost": round(pace / unit, 2), "effort": effort})
        del rows[-1]["latents"]
        if not best.wide_neurons:
            del rows[-1]["wide_neurons"]
        print(f"{WRITTEN_ROWS[decoder, latents]} {bpp:g} bpp: {rows[-1]}", flush=True)
    return rows


def tried(
    rows: Sequence[Row], decoder: str, materials: Sequence[Material], seconds: float, entries: list[dict[str, Any]],
    seen: list[list[Config]],
) -> dict[Row, list[dict[str, Any]]]:  # fmt: skip
    """The results of candidates on each material.

    Args:
        seconds: processor seconds of a run.
        entries: receives all results.
        seen: receives what was trained; a candidate that comes to one of these is left out, and so is one that is not
            near its rate on one of the materials.
    """
    results: dict[Row, list[dict[str, Any]]] = {}
    for row in rows:
        try:
            shape = [planned(row, decoder, material, TIMED_ITERATIONS) for material in materials]
            if shape in seen:
                continue
            seen.append(shape)
            results[row] = [measure(row, decoder, material, seconds) for material in materials]
        except UserError:
            continue  # no grids of this kind come near the rate
        entries += results[row]
        print(line(row, decoder, results[row]), flush=True)
    return results


def unit_pace(decoder: str, materials: Sequence[Material], seconds: float, entries: list[dict[str, Any]]) -> float:
    """What a cost of 1 is, the pace that the iterations of the presets are for: that of the first packed row of the
    present table that the materials can have, over its cost. Raises: UserError where they can have none."""
    decoder = decoder if (decoder, "packed") in WRITTEN_ROWS else "learned"
    for row in load_table()[WRITTEN_ROWS[decoder, "packed"]]:
        narrow = dataclasses.replace(row, wide_neurons=0)
        results = tried([narrow], decoder, materials, seconds, entries, []).get(narrow)
        if results:
            return pace_of(results) / row.cost
    names = ", ".join(one_line(material.name) for material in materials)
    raise UserError(f"{names}: no packed grids, whose time others are compared with, come near any rate of the table; "
                    "give larger materials")  # fmt: skip


# --- the table -------------------------------------------------------------------------------------------------------


def write_table(path: Path, table: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Replace the rows in `path`, or in the toolkit's own table if there is no such file, by those of `table`."""
    kept = json.loads((path if path.exists() else TABLE).read_text(encoding="utf-8"))
    machine, before = common.machine(), kept["origin"]
    facts = {key: machine[key] for key in ("processor", "cores", "date", "commit")}
    origin = {"script": "python -m bench.rate_table", "rows": list(table), **settings, **facts, "measured": MEASURED}
    earlier = [{key: before[key] for key in before if key != "earlier"}, *before.get("earlier", [])]
    # an origin without `rows` was about all that there were
    earlier = [one for one in earlier if not set(one.get("rows", WRITTEN_ROWS.values())) <= set(table)]
    if earlier:
        origin["earlier"] = earlier
    write_text(path, format_table({**kept, "origin": origin, **table}))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = common.parser("Measure which grids and networks are best at each rate.")
    parser.add_argument("--seconds", type=float, default=6.0, help="processor seconds of a run at low rates")
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="bits per texel, ascending")
    parser.add_argument("--decoders", default=",".join(WRITTEN_ROWS.values()), help="rows to measure")
    parser.add_argument("--write", default="", help="the table to write; empty: only the JSON of all results")
    arguments = parser.parse_args(argv)
    try:
        rates = [float(rate) for rate in arguments.rates.split(",")]
    except ValueError as error:
        raise UserError(f"--rates {arguments.rates}: expected numbers with commas between, as in 1.25,2.5") from error
    if rates != sorted(set(rates)) or not 0.5 <= rates[0] <= rates[-1] <= 20:
        raise UserError(f"--rates {arguments.rates}: expected ascending rates from 0.5 to 20")
    forms = arguments.decoders.split(",")
    if not set(forms) <= set(WRITTEN_ROWS.values()):
        names = ",".join(WRITTEN_ROWS.values())
        raise UserError(f"--decoders {arguments.decoders}: expected some of {names}, with commas between")
    common.use_threads(arguments.num_threads)
    from dataset import load_material

    materials = [load_material(folder) for folder in arguments.folders]
    entries: list[dict[str, Any]] = []
    table = {form: measure_form(*kind, rates, materials, arguments.seconds, entries)
             for kind, form in WRITTEN_ROWS.items() if form in forms}  # fmt: skip
    settings = {"seconds": arguments.seconds, "materials": [material.name for material in materials]}
    print(common.save("rate_table", arguments.out, settings, entries))
    if arguments.write:
        write_table(Path(arguments.write), table, settings)
    return 0


def line(row: Row, decoder: str, results: Sequence[Mapping[str, Any]]) -> str:
    """One candidate, for reading."""
    each = "  ".join(f"{entry['material']} {entry['psnr'][0]:.2f}" for entry in results)
    first = results[0]
    return (f"{decoder:9} {row.bpp:5g} bpp  {first['grids']:28} scale {row.scale:g}  {first['network']:5}  "
            f"{first['iterations']:6} its  {mean_psnr(results):.2f} dB  ({each})")  # fmt: skip


def format_table(table: Mapping[str, Any]) -> str:
    """JSON with one row of the table per line, so that a change shows as one."""
    parts = [f'  "origin": {json.dumps(table["origin"])}']
    presets = ",\n".join(f"    {json.dumps(name)}: {json.dumps(preset)}" for name, preset in table["presets"].items())
    parts.append(f'  "presets": {{\n{presets}\n  }}')
    for form in WRITTEN_ROWS.values():
        rows = ",\n".join(f"    {json.dumps(row)}" for row in table[form])
        parts.append(f'  "{form}": [\n{rows}\n  ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
