"""The work of bench.decode: decoders, the shader and frames measured, and put into tables."""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import configs
from bench.common import median_ratio, save, table
from bench.cost import pixel_cost
from bench.decode_device import Frame, measure_frame
from bench.decode_load import LOAD_COLUMNS, measure_load
from bench.decode_plot import plot
from bench.decode_psnr import TRAINED_FORMS, measure_psnr
from bench.decode_registers import REGISTER_COLUMNS, measure_registers
from bench.decode_shader import LODS, compile_decoder, count_operations, decoder_source, shader_tools
from bench.decode_slang import GPU_COLUMNS, SLANG_COLUMNS, measure_gpu, measure_slang
from bench.spirv import KINDS
from common.errors import UserError
from describe.numpy_decoder import decode, read_texture
from engine.cpu.decoder import decode_lod
from engine.cpu.library import load_kernels, thread_count
from engine.errors import KernelsUnavailable
from formats.dds_layouts import LAYOUTS, layout_problem
from formats.textures import write_textures
from model import NeuralTexture
from shaders.device import NoDevice
from shape import BLOCKS, DecoderSpec, GridSpec, exact_halvings

FRAME_MATERIAL = 1024  # width and height of what a frame shows
FORMS = ("reference", "learned", "bc1_linear", "bc1_learned")
# Hidden layers, neurons: all that --network accepts.
NETWORKS = tuple(tuple(map(int, word.split("x"))) for word in configs.NETWORKS if word)
# The defaults, without and with --bpp 2.5, and of --latents bc1 at that rate.
OF_FORM = {"reference": (2, 64), "learned": (2, 32), "bc1_linear": (2, 64), "bc1_learned": (2, 32)}
TOLERANCE = 1e-4
TOLERANCES = {32: TOLERANCE, 16: 2 / 255, 8: TOLERANCE}  # by the precision of products; of 8 bits they are exact
LARGEST_TURN = 1 << 20  # texels

BandDecoder = Callable[[int, int], Any]  # (first row, rows) -> their texels


def make_model(form: str, size: int, network: tuple[int, int], precision: int = 32) -> NeuralTexture:
    """A square material's texture: grids as train.py chooses them for this form, see rates.json for all but reference;
    of BC1 two fine planes and two coarse ones, though plans of learned ones have four.

    precision: 8: a network of whole numbers, as decoders of 8 bits need it.
    """
    half, quarter, eighth = (max(size // part, 1) for part in (2, 4, 8))
    levels = exact_halvings(half) + 1
    learned = form in ("learned", "bc1_learned")
    if form.startswith("bc1"):
        fine = GridSpec(half, levels, *BLOCKS["bc1"].bits, "learned" if learned else "linear", "bc1")
        grids = [fine, fine, *[GridSpec(quarter, 1, *BLOCKS["bc1"].bits, storage="bc1")] * 2]
    else:
        fine = GridSpec(half, levels, 2, 8, "learned") if learned else GridSpec(half, levels, 4, 32)
        grids = [fine, GridSpec(eighth, 1, 4, 32)]
    waves = (0, *reversed(network), 3, "hard_swish") if learned else (12, *reversed(network))
    bits = {"weight_bits": 8, "activation_bits": 8} if precision == 8 else {}
    decoder = DecoderSpec(*waves, **bits)
    model = NeuralTexture(grids, decoder, size.bit_length(), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.5, 0.5, generator=generator)
        for index, grid in enumerate(grids):
            if not grid.compressed:  # what the files hold; a block is rounded whenever it is read
                model.load_codes(index, model.codes(index))
        if precision == 8:
            model.calibrate(torch.rand((4096, 2), generator=generator), torch.zeros(4096, dtype=torch.int64))
    return model


def shader_kinds(forms: Iterable[str]) -> list[tuple[str, str, str]]:
    """(name in the tables, layout of the files, form): the forms in every layout that their grids can have, those of
    BC1 once, as blocks look the same in all layouts; last, since a device may lack them."""
    grids = {form: make_model(form, 8, NETWORKS[0]).grids for form in forms}
    packed = [form for form in grids if not form.startswith("bc1")]
    kinds = [(layout, layout, form) for layout in LAYOUTS for form in packed
             if layout_problem(grids[form], layout) is None]  # fmt: skip
    return [*kinds, *(("bc1", "packed", form) for form in grids if form not in packed)]


def precisions_of(name: str) -> tuple[int, ...]:
    """Bits of the products of the decoders that are measured, of a name of shader_kinds: how features are laid out and
    what the network multiplies do not depend on each other, so 16 and 8 bits are measured in one layout."""
    return (32, 16, 8) if name in ("packed", "bc1") else (32,)


def network_name(network: tuple[int, int]) -> str:
    return "{}x{}".format(*network)


# --- decoders ------------------------------------------------------------------------------------------------------


class Contestant:
    """A decoder of LOD 0, and the seconds per texel of its rounds."""

    def __init__(self, name: str, size: int, run: BandDecoder):
        self.name, self.size, self.run = name, size, run
        self.rows, self._next = 1, 0
        self.seconds: list[float] = []

    def warm_up(self, turn_s: float) -> None:
        """Find out how many rows take about `turn_s` seconds."""
        self.turn()
        while self.turn() < turn_s / 4 and self.rows < self.size and self.rows * self.size < LARGEST_TURN:
            self.rows = min(2 * self.rows, self.size)

    def turn(self) -> float:
        """Seconds of the next band of rows."""
        first = self._next if self._next + self.rows <= self.size else 0
        self._next = first + self.rows
        started = time.perf_counter()
        self.run(first, self.rows)
        return time.perf_counter() - started

    def round(self, round_s: float) -> None:
        """Turns for at least `round_s` seconds."""
        total, texels = 0.0, 0
        while total < round_s:
            total += self.turn()
            texels += self.rows * self.size
        self.seconds.append(total / texels)


def contestants(model: NeuralTexture, size: int, folder: Path, n_threads: int) -> list[Contestant]:
    """The decoders of one texture, checked against each other; without a compiler there is no cpu engine among them.

    Raises: RuntimeError when they do not decode the same.
    """
    write_textures(folder, model)
    texture = read_texture(folder, model.form)
    runs: dict[str, BandDecoder] = {
        "numpy": lambda first, rows: decode(texture, 0, size, size, slice(first, first + rows)),
        "torch": lambda first, rows: model.decode(0, size, size, rows=slice(first, first + rows)),
    }
    try:
        load_kernels(print)
        runs["cpu"] = lambda first, rows: decode_lod(
            model, 0, size, size, rows=slice(first, first + rows), n_threads=n_threads
        )
    except KernelsUnavailable as error:
        print(f"note: no cpu engine ({error})", flush=True)
    check_same({name: np.asarray(run(size // 2, 1)) for name, run in runs.items()})
    return [Contestant(name, size, run) for name, run in runs.items()]


def check_same(decoded: dict[str, np.ndarray], tolerance: float = TOLERANCE) -> None:
    """Raise RuntimeError unless all decoded the same: decoders that do something else must not be compared."""
    (first, expected), *others = decoded.items()
    for name, values in others:
        worst = np.abs(values - expected).max()
        if not worst <= tolerance:
            raise RuntimeError(f"{name} decodes something else than {first}: they differ by {worst:g}")


def measure_decoders(sizes: Sequence[int], rounds: int, round_s: float, n_threads: int = 0) -> list[dict[str, Any]]:
    """Each decoder with each form at each size."""
    rows = []
    for form, network in OF_FORM.items():
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                group = contestants(make_model(form, size, network), size, Path(folder), n_threads)
            for one in group:
                one.warm_up(round_s)
            for _ in range(rounds):
                for one in group:
                    one.round(round_s)
            of = {one.name: one.seconds for one in group}
            for one in group:
                middle = statistics.median(one.seconds)
                rows.append({
                    "part": "decode", "form": form, "network": network_name(network), "size": size,
                    "decoder": one.name, "threads": thread_count(n_threads) if one.name == "cpu" else
                    torch.get_num_threads(), "rounds": rounds, "rows_at_a_time": one.rows,
                    "texels_per_second": 1 / middle, "slowest": 1 / max(one.seconds), "fastest": 1 / min(one.seconds),
                    "of_numpy": median_ratio(of["numpy"], one.seconds),
                    "of_torch": median_ratio(of["torch"], one.seconds), "seconds_of_lod_0": middle * size * size,
                })  # fmt: skip
    return rows


# --- shader --------------------------------------------------------------------------------------------------------


def measure_shader(networks: Sequence[tuple[int, int]], material: int = 64) -> list[dict[str, Any]]:
    """Counts per texel of each layout, form, network and LOD; nothing, and a note, without glslangValidator.

    Each program is run, and what it decodes compared with the model.
    """
    compiler, optimiser = shader_tools()
    if compiler is None:
        print("note: no operations of the shader: needs glslangValidator (apt install glslang-tools)", flush=True)
        return []
    compiled_by = "glslang" + (", spirv-opt -O" if optimiser else "")
    rows = []
    for name, layout, form in shader_kinds(FORMS):
        for network, precision in itertools.product(networks, precisions_of(name)):
            model = make_model(form, material, network, precision)
            source = decoder_source(model, (material, material), "glsl", layout, precision)
            binary = compile_decoder(source, optimise=bool(optimiser))
            for lod in LODS:
                uv = (20.5 / material, 9.5 / material)  # not at a border, where nothing wraps around
                counts, decoded = count_operations(binary, model, layout, uv, lod, precision)
                with torch.no_grad():
                    wanted = model(torch.tensor([uv]), torch.tensor([lod]))[0].numpy()
                check_same({"the model": wanted, f"the shader ({name}, {form})": decoded},
                           TOLERANCES[precision])  # fmt: skip
                rows.append({
                    "part": "shader", "layout": name, "form": form, "network": network_name(network),
                    "precision": precision, "lod": lod, "compiled_by": compiled_by, **pixel_cost(model.form, layout),
                    "weight_bytes": 4 * counts.get("weights", 0), **{kind: counts.get(kind, 0) for kind in KINDS},
                })  # fmt: skip
    return rows


def measure_frames(
    size: tuple[int, int], rounds: int, turn_s: float, form_networks: Mapping[str, tuple[int, int]]
) -> list[dict[str, Any]]:
    """A frame of each layout and form; nothing, and a note, where there is no device, or none that has BC1."""
    rows = []
    kinds = shader_kinds(form_networks)
    for precision in (32, 16, 8):
        for name, layout, form in [kind for kind in kinds if precision in precisions_of(kind[0])]:
            model = make_model(form, FRAME_MATERIAL, form_networks[form], precision)
            try:
                frame = Frame(model, (FRAME_MATERIAL, FRAME_MATERIAL), size, layout, precision)
            except NoDevice as error:
                bits = "" if precision == 32 else f" of {precision} bits"
                print(f"note: no {'more ' if rows else ''}frames{bits}: {error}", flush=True)
                if not rows:
                    return rows
                break
            labels = {"layout": name, "form": form, "network": network_name(form_networks[form])}
            rows.append({"part": "frame", **labels, "precision": precision, **measure_frame(frame, rounds, turn_s)})
    return rows


# --- command -------------------------------------------------------------------------------------------------------

UNITS = dict.fromkeys(("texels_per_second", "slowest", "fastest"), 1000000.0)
COLUMNS = {  # heading, key, format
    "decode": (("form", "form", "{}"), ("network", "network", "{}"), ("size", "size", "{}²"),
               ("decoder", "decoder", "{}"), ("threads", "threads", "{:d}"),
               ("Mtexel/s", "texels_per_second", "{:.3f}"), ("slowest", "slowest", "{:.3f}"),
               ("fastest", "fastest", "{:.3f}"), ("x numpy", "of_numpy", "{:.2f}"), ("x torch", "of_torch", "{:.2f}"),
               ("s for LOD 0", "seconds_of_lod_0", "{:.2f}")),
    "shader": (("layout", "layout", "{}"), ("form", "form", "{}"), ("network", "network", "{}"),
               ("bits", "precision", "{:d}"),
               ("LOD", "lod", "{:g}"), *((kind, kind, "{:d}") for kind in KINDS if kind != "weights"),
               ("bytes of weights", "weight_bytes", "{:d}")),
    "frame": (("layout", "layout", "{}"), ("form", "form", "{}"), ("network", "network", "{}"),
              ("bits", "precision", "{:d}"),
              ("width", "width", "{:d}"), ("height", "height", "{:d}"), ("decoded rows", "rows", "{:d}"),
              ("ms a frame", "milliseconds", "{:.2f}"),
              ("fastest", "fastest", "{:.2f}"), ("slowest", "slowest", "{:.2f}"),
              ("Mtexel/s", "texels_per_second", "{:.3f}"), ("device", "device", "{}")),
    "psnr": (("material", "material", "{}"), ("bpp", "target_bpp", "{:g}"), ("form", "form", "{}"),
             ("network", "network", "{}"), ("PSNR", "psnr", "{:.2f}"), ("filtered", "psnr_filtered", "{:.2f}"),
             ("16 bits lose", "half_loss", "{:.3f}"), ("255ths off", "half_error", "{:.2f}"),
             ("fetches", "texture_fetches", "{:d}"), ("bytes", "texture_bytes", "{:d}"),
             ("multiply-adds", "multiply_adds", "{:d}"), ("float operations", "float_operations", "{:d}"),
             ("others", "other_operations", "{:d}"), ("s", "seconds", "{:.0f}")),
}  # fmt: skip
COLUMNS |= {"load": LOAD_COLUMNS, "slang": SLANG_COLUMNS, "registers": REGISTER_COLUMNS, "gpu": GPU_COLUMNS}
UNITS_OF = {"frame": {"texels_per_second": 1e6}, "gpu": {}}  # fastest and slowest are milliseconds there


def measure_all(arguments: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """The rows of each part, as they come."""
    quick = arguments.quick
    rounds, round_s = (3, 0.15) if quick else (5, 1.0)
    print("decoding LOD 0, all 11 channels", flush=True)
    yield measure_decoders(arguments.sizes, rounds, round_s, arguments.num_threads)
    print("operations of the shader, per texel", flush=True)
    yield measure_shader(NETWORKS[-1:] if quick else NETWORKS)
    print("operations of the shaders of --on_load, per texel", flush=True)
    yield measure_load({form: make_model(form, 64, OF_FORM[form]) for form in FORMS})
    packed = [form for form in OF_FORM if not form.startswith("bc1")][-1 if quick else 0 :]
    print("operations of the decoders in Slang, per texel", flush=True)
    yield measure_slang(lambda form, bits: make_model(form, 64, OF_FORM[form], bits), packed, LODS)
    print("registers of the decoders in GLSL, for an AMD GPU", flush=True)
    yield measure_registers(
        (form, network_name(OF_FORM[form]), bits, make_model(form, 64, OF_FORM[form], bits))
        for form in packed for bits in precisions_of("packed")
    )  # fmt: skip
    print("a frame of the decoders in Slang, by a GPU's clock", flush=True)
    large = lambda form, bits: make_model(form, FRAME_MATERIAL, OF_FORM[form], bits)  # noqa: E731
    yield measure_gpu(large, packed, tuple(arguments.frame))
    print("a frame, one decode of LOD 0 per pixel", flush=True)
    yield measure_frames(tuple(arguments.frame), rounds, round_s, OF_FORM)


def measure_materials(arguments: argparse.Namespace) -> int:
    """--psnr. Returns the exit code."""
    entries: list[dict[str, Any]] = []
    words = [network_name(network) for network in NETWORKS]
    path = Path(arguments.out) / "decode_psnr.json"
    given = (arguments.psnr, arguments.rates, words, TRAINED_FORMS, arguments.preset, arguments.num_threads)
    for row in measure_psnr(*given):
        entries.append(row)
        print(table([row], COLUMNS["psnr"]).splitlines()[-1], flush=True)
        path = save("decode_psnr", arguments.out, vars(arguments), entries)
    if not entries:
        raise UserError("--psnr: expected a material that can have one of --rates, found none; see the notes above")
    print(table(entries, COLUMNS["psnr"]), path, *plot(path), sep="\n")
    return 0


# --- all of it -----------------------------------------------------------------------------------------------------


def run_all(arguments: argparse.Namespace) -> None:
    """Measure, print and write what the flags of bench.decode ask for."""
    name = "decode_quick" if arguments.quick else "decode"
    settings = {**vars(arguments), "networks": NETWORKS, "of_form": OF_FORM, "frame_material": FRAME_MATERIAL}
    entries: list[dict[str, Any]] = []
    for rows in measure_all(arguments):
        if rows:
            part = rows[0]["part"]
            print(table(rows, COLUMNS[part], UNITS_OF.get(part, UNITS)), end="\n\n", flush=True)
        entries += rows
        path = save(name, arguments.out, settings, entries)  # a later part may be interrupted
    print(path)
