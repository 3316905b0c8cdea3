"""Measures the table behind --bpp: which words, scales and networks are best at each rate. Writes rates.json.

    python -m bench.rate_table DIR... [--seconds 6] [--rates 0.5,1.25,2.5,5,10,20] [--write rates.json]

At a rate every candidate gets the same processor time on every material, and the best mean PSNR of LOD 0 wins it. All
results, those of LODs 1 to 4 too, go to bench/results/rate_table.json.

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
from common.errors import UserError, run_command
from common.files import write_text
from configs import Config, make_config
from engine.schedule import Schedule
from training.plan import plan_with
from training.rates import ROWS, TABLE, Row, load_table, row_for

if TYPE_CHECKING:
    from dataset import Material

RATES = (0.5, 1.25, 2.5, 3.5, 5.0, 7.0, 10.0, 14.0, 20.0)
TIMED_ITERATIONS = 60  # that tell how long a candidate's iterations take
BATCH_SIZE = 8192
TIE = 0.05  # dB: seeds alone move a mean by as much
LODS = 5  # whose PSNR is recorded
# Of the network and the grids. Two materials, 1500 iterations: 0.005 for the network loses 0.3 dB at 5 bpp, 0.02 up to
# 3 dB where it has 64 neurons. Three materials, 5000 iterations, refined: 0.01 for the grids, falling from half of the
# run on, is better than 0.015 from 0.7 on by 0.05 dB at 1.25 bpp, 0.26 at 5 and 0.24 to 0.4 at 10; 0.007 and 0.005 tie.
# `balanced` with one sweep: 0.014 for the network against 0.01 brings 1.0, 0.05 and -0.14 dB at 1.25 bpp (Facade005,
# Rock058, Metal055A), 0.57, 0.02 and -0.08 at 2.5, 0.23, -0.1 and 0.19 at 5, where LODs lose; 0.02 at 2.5: 1.25, -0.07
# and -0.17.
LEARNING_RATES = (0.01, 0.01)
LOW_LEARNING_RATES = (0.014, 0.01)
LOW_BPP = 2.5  # up to here, in the learned form and with BC1
# Rock058 and Metal055A, 5 bpp, 4000 iterations of 4096 texels: 33.17 and 45.76 dB; with 0.006 for the network 33.11 and
# 45.70, with 0.01 33.00 and 45.70, and LODs 4 to 7 lose up to 1.2. Rock058: 0.002 33.15, 0.02 for the grids 33.07.
TSNC_LEARNING_RATES = (0.003, 0.01)
MEASURED = (  # for the table's `origin`
    "fine, coarse, scale and n_neurons of each row by the mean PSNR of LOD 0, and cost by its time (of BC1: over that "
    "of a packed row of cost 1); fine_share, effort and the learning rates are set by hand in bench/rate_table.py, and "
    "the presets are copied from the table before, see Preset in training/rates.py for what they go by"
)
MOST_TEXTURES = 16  # fine and coarse planes together: WebGL 2 and WebGPU promise no more


def candidates(bpp: float, decoder: str, latents: str = "packed") -> Iterator[Row]:
    """What is tried at a rate."""
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
            side = math.sqrt(0.82 * bpp / math.prod(fine))  # of a fine grid, over that of a square material
            if not (0.7 < (scale or side) / side < 1.1 and side < 1.05):
                continue  # the fine grid would leave too much or too little to the coarse one, or outgrow the material
            if not scale and math.prod(fine) > 8 and side < 0.6:
                continue  # fewer features on a finer grid have always been better
            for n_neurons in neurons:
                yield Row(bpp, fine, (8, 4), scale, 0.82, n_neurons, *rates, 1.0, 1.0)


def _planes(bpp: float, decoder: str, neurons: Sequence[int]) -> Iterator[Row]:
    """BC1: fine planes at half the material's side where they take 0.6 to 1 of the rate, and at the side that their
    bits buy, 0.3 to 0.8 of the material's; and coarse ones. Of the form tsnc alone what it fixes."""
    if decoder == "tsnc":
        yield Row(bpp, (2, 4), (2, 4), 0, 0.8, 64, *TSNC_LEARNING_RATES, 1.0, 1.0, "bc1")
        return
    rates = LOW_LEARNING_RATES if bpp <= LOW_BPP else LEARNING_RATES
    for fine in (1, 2, 4, 8, 12):
        for scale in (0, 0.5):
            side = math.sqrt(0.82 * bpp / (4 * fine))
            if not (0.3 < side < 0.8 and (not scale or 0.6 < scale**2 * 4 * fine / bpp < 1)):
                continue
            for coarse in (2, 4):
                if fine + coarse > MOST_TEXTURES:
                    continue
                for n_neurons in neurons:
                    yield Row(bpp, (fine, 4), (coarse, 4), scale, 0.82, n_neurons, *rates, 1.0, 1.0, "bc1")


def patience(bpp: float) -> float:
    """How much longer than at low rates a run may take: wide words need wide networks and more iterations."""
    return 1.0 if bpp < 4 else 1.6 if bpp < 8 else 1.9


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

    aim = make_config({"decoder": decoder, "latents": row.latents, "bpp": row.bpp, "positions": "centres",
                       "num_threads": torch.get_num_threads()})  # fmt: skip
    effort = dataclasses.replace(load_table()["presets"]["balanced"], iterations=iterations, batch_size=BATCH_SIZE,
                                 most_neurons=row.n_neurons, refine=0, patient=False)  # fmt: skip
    return plan_with(row, effort, aim, material.width, material.height)


def measure(row: Row, decoder: str, material: Material, seconds: float) -> dict[str, Any]:
    """A candidate on a material, for so many processor seconds. Raises: UserError as `planned`."""
    _, took = train(planned(row, decoder, material, TIMED_ITERATIONS), material)
    config = planned(row, decoder, material, max(round(seconds / took * TIMED_ITERATIONS), 1))
    psnr, took = train(config, material)
    return {
        "material": material.name, "decoder": decoder, **dataclasses.asdict(row), "grids": grids_text(config),
        "n_neurons": config.n_neurons, "iterations": config.max_iter, "seconds": took, "psnr": psnr,
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
    mean = {row: sum(entry["psnr"][0] for entry in entries) / len(entries) for row, entries in results.items()}
    tied = [row for row in results if mean[row] >= max(mean.values()) - TIE]
    return min(tied, key=lambda row: (row.n_neurons, row.fine[0], row.coarse[0], -mean[row]))


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
    rows, unit = [], packed_pace(decoder, rates[0], materials, seconds, entries) if latents == "bc1" else 0.0
    for low, bpp in zip(boundaries(rates), rates):
        results: dict[Row, list[dict[str, Any]]] = {}
        seen = []
        # of two candidates that are the same on these materials the one that says which scale it has
        for row in sorted(candidates(bpp, decoder, latents), key=lambda row: -row.scale):
            try:
                shape = [planned(row, decoder, material, TIMED_ITERATIONS) for material in materials]
                if shape in seen:
                    continue
                seen.append(shape)
                results[row] = [measure(row, decoder, material, seconds * patience(bpp)) for material in materials]
            except UserError:
                continue  # no grids of this kind come near the rate
            entries += results[row]
            print(line(row, decoder, results[row]), flush=True)
        if not results:
            raise UserError(f"--rates {bpp:g}: no grids come near it on these materials; leave it out")
        best = winner(results)
        unit = unit or pace_of(results[best])
        best = dataclasses.replace(best, cost=round(pace_of(results[best]) / unit, 2), effort=patience(bpp))
        rows.append({**dataclasses.asdict(best), "bpp": low})
        del rows[-1]["latents"]
        print(f"{ROWS[decoder, latents]} {bpp:g} bpp: {rows[-1]}", flush=True)
    return rows


def packed_pace(
    decoder: str, bpp: float, materials: Sequence[Material], seconds: float, entries: list[dict[str, Any]]
) -> float:
    """What a cost of 1 is to rows of BC1: the pace of packed grids of that cost, whose iterations the presets have."""
    decoder = decoder if (decoder, "packed") in ROWS else "learned"
    row = dataclasses.replace(row_for(bpp, decoder), bpp=bpp)
    try:
        results = [measure(row, decoder, material, seconds) for material in materials]
    except UserError as error:
        raise UserError(f"--rates {bpp:g}: no packed grids, whose time BC1 is compared with, come near it; leave it "
                        "out") from error  # fmt: skip
    entries += results
    print(line(row, decoder, results), flush=True)
    return pace_of(results) / row.cost


def write_table(path: Path, table: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Replace the rows in `path`, or in the toolkit's own table if there is no such file, by those of `table`."""
    kept = json.loads((path if path.exists() else TABLE).read_text(encoding="utf-8"))
    machine, before = common.machine(), kept["origin"]
    facts = {key: machine[key] for key in ("processor", "cores", "date", "commit")}
    origin = {"script": "python -m bench.rate_table", "rows": list(table), **settings, **facts, "measured": MEASURED}
    earlier = [{key: before[key] for key in before if key != "earlier"}, *before.get("earlier", [])]
    # an origin without `rows` was about all that there were
    earlier = [one for one in earlier if not set(one.get("rows", ROWS.values())) <= set(table)]
    if earlier:
        origin["earlier"] = earlier
    write_text(path, format_table({**kept, "origin": origin, **table}))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = common.parser("Measure which grids and networks are best at each rate.")
    parser.add_argument("--seconds", type=float, default=6.0, help="processor seconds of a run at low rates")
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="bits per texel, ascending")
    parser.add_argument("--decoders", default=",".join(ROWS.values()), help="rows to measure")
    parser.add_argument("--write", default="", help="the table to write; empty: only the JSON of all results")
    arguments = parser.parse_args(argv)
    try:
        rates = [float(rate) for rate in arguments.rates.split(",")]
    except ValueError as error:
        raise UserError(f"--rates {arguments.rates}: expected numbers with commas between, as in 1.25,2.5") from error
    if rates != sorted(set(rates)) or not 0.5 <= rates[0] <= rates[-1] <= 20:
        raise UserError(f"--rates {arguments.rates}: expected ascending rates from 0.5 to 20")
    forms = arguments.decoders.split(",")
    if not set(forms) <= set(ROWS.values()):
        names = ",".join(ROWS.values())
        raise UserError(f"--decoders {arguments.decoders}: expected some of {names}, with commas between")
    common.use_threads(arguments.num_threads)
    from dataset import load_material

    materials = [load_material(folder) for folder in arguments.folders]
    entries: list[dict[str, Any]] = []
    table = {form: measure_form(*kind, rates, materials, arguments.seconds, entries)
             for kind, form in ROWS.items() if form in forms}  # fmt: skip
    settings = {"seconds": arguments.seconds, "materials": [material.name for material in materials]}
    print(common.save("rate_table", arguments.out, settings, entries))
    if arguments.write:
        write_table(Path(arguments.write), table, settings)
    return 0


def line(row: Row, decoder: str, results: Sequence[Mapping[str, Any]]) -> str:
    """One candidate, for reading."""
    mean = sum(entry["psnr"][0] for entry in results) / len(results)
    each = "  ".join(f"{entry['material']} {entry['psnr'][0]:.2f}" for entry in results)
    first = results[0]
    return (f"{decoder:9} {row.bpp:5g} bpp  {first['grids']:28} scale {row.scale:g}  {first['n_neurons']:3} neurons "
            f"{first['iterations']:6} its  {mean:.2f} dB  ({each})")  # fmt: skip


def format_table(table: Mapping[str, Any]) -> str:
    """JSON with one row of the table per line, so that a change shows as one."""
    parts = [f'  "origin": {json.dumps(table["origin"])}']
    presets = ",\n".join(f"    {json.dumps(name)}: {json.dumps(preset)}" for name, preset in table["presets"].items())
    parts.append(f'  "presets": {{\n{presets}\n  }}')
    for form in ROWS.values():
        rows = ",\n".join(f"    {json.dumps(row)}" for row in table[form])
        parts.append(f'  "{form}": [\n{rows}\n  ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
