"""The readers that `python -m tests.fuzz` feeds: each writes an input into a folder and reads it as the commands do.

See base.Reader for what a reader does.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from common.config_file import load_config_file
from common.errors import UserError
from configs import FIELDS, describe, make_config, to_dict
from dataset import load_material
from describe.folder import describe_folder
from formats.manifest import NETWORK
from formats.network_file import info_fields, parse_info, read_network
from formats.textures import write_export
from maps.images import read_image
from maps.names import recognise
from shape import DecoderSpec, GridSpec
from tests.fuzz.base import NAMES as READER_NAMES
from tests.fuzz.base import Reader
from tests.fuzz.exports import BlockExportReader, ExportFilesReader, ExportReader
from tests.fuzz.images import image_seeds, repaired_png
from tests.fuzz.inputs import (
    ABSURD,
    EXTREMES,
    NAMES,
    json_bytes,
    mutate_bytes,
    mutate_tree,
    mutate_zip,
    yaml_bytes,
    zip_members,
    zipped,
)
from tests.fuzz.models import ModelReader, ModelWriter
from tests.fuzz.scenes import SceneReader
from tests.fuzz.textures import AstcReader, BlockReader, DdsReader, small_material
from tests.support.exports import make_model
from tests.support.runs import quick, save_maps
from training import rates

MAX_PIXELS = 2**18  # of the images here: what is accepted must not take seconds
MATERIAL = {"n_frequencies": 3, "n_neurons": 16}


class NpzReader(Reader):
    """network_data.npz: its arrays, what they describe, and a folder with nothing else."""

    def prepare(self) -> None:
        stage = self.folder / "seeds"
        stage.mkdir(exist_ok=True)
        model = make_model(
            [GridSpec(6, 2, 8, 64, "learned"), GridSpec(3, 1, 4, 16), GridSpec(5, 1, 0, 4, storage="bc1"),
             GridSpec(7, 1, 0, 6, storage="astc6x6")],
            DecoderSpec(3, 16, 1, 3), small_material(),
        )
        write_export(stage, model, small_material().hashed_record)
        self.seed = (stage / NETWORK).read_bytes()
        self.info, self.network, *_ = read_network(stage / NETWORK)
        shutil.rmtree(stage)

    def run(self, rng: random.Random) -> None:
        if rng.random() < 0.25:  # numbers of our choice in well-formed arrays
            info = self.info.tolist()
            for _ in range(rng.choice((1, 1, 2, 5))):
                info[rng.randrange(len(info))] = int(
                    np.int64(rng.choice((-1, *EXTREMES[:28], rng.randrange(70)))) % 2**31
                )
            if rng.random() < 0.2:
                info = info[: rng.randrange(len(info))]
            stream = io.BytesIO()
            np.savez(stream, info=np.array(info, np.int32), network=self.network)
            payload = stream.getvalue()
        else:
            payload = mutate_zip(self.seed, rng)
        path = self.write(NETWORK, payload)
        with contextlib.suppress(UserError):
            describe_folder(self.folder)
        info, *_ = read_network(path)
        info_fields(info, str(path))
        parse_info(info, str(path))


class CheckpointReader(Reader):
    """model.pth: bytes, its pickle with checksums that fit, or other values saved by torch itself; and what a resumed
    run reads of it."""

    limit_s = 10.0

    def prepare(self) -> None:
        maps = save_maps(self.folder / "maps", 8, 8, ("diffuse", "roughness"))
        with contextlib.redirect_stderr(io.StringIO()):
            run = quick(
                "--data_dir",
                maps,
                "--save_dir",
                self.folder / "out",
                "--max_iter",
                3,
                "--n_frequencies",
                2,
                "--eval_metrics",
                "psnr",
                "--refine",
                0,
                "--engine",
                "torch",
            )
        self.run_folder, self.path = run, next(run.glob("models/*/model.pth"))
        self.seed = self.path.read_bytes()
        self.state = torch.load(io.BytesIO(self.seed), weights_only=True)
        self.members = zip_members(self.seed)
        self.material = load_material(maps)

    def run(self, rng: random.Random) -> None:
        self.names = ("model.pth", "train_result_3")
        kind = rng.random()
        if kind < 0.3:
            payload = mutate_bytes(self.seed, rng)
        elif kind < 0.7:
            members = list(self.members)
            index = next(i for i, (name, _) in enumerate(members) if name.endswith("data.pkl"))
            pickled = self.pickled(rng, members[index][1])
            members[index] = (members[index][0], pickled)
            payload = zipped(members, zipfile.ZIP_STORED if rng.random() < 0.95 else zipfile.ZIP_DEFLATED)
        else:
            payload = self.other_values(rng)
        self.path.write_bytes(payload)
        try:
            self.resume(rng)
        finally:
            self.path.write_bytes(self.seed)

    def pickled(self, rng: random.Random, original: bytes) -> bytes:
        if rng.random() < 0.7:
            return mutate_bytes(original, rng)
        # opcodes in any order: marks, containers, integers, memo, a global, its call
        codes = [
            b"(",
            b"]",
            b"}",
            b")",
            b"l",
            b"t",
            b"a",
            b"e",
            b"s",
            b"u",
            b"0",
            b"2",
            b"N",
            b"K\x05",
            b"M\xff\xff",
            b"J\xff\xff\xff\x7f",
            b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
            b"\x85",
            b"\x86",
            b"\x87",
            b"q\x00",
            b"h\x00",
            b"X\x07\x00\x00\x00version",
            b"R",
            b"b",
            b"Q",
            b"\x81",
            b"\x88",
            b"G" + b"\x7f" * 8,
            *(f"c{module}\n{name}\n".encode() for module, name in GLOBALS),
        ]
        return b"\x80\x02" + b"".join(rng.choices(codes, k=rng.choice((3, 6, 12, 40)))) + b"."

    def other_values(self, rng: random.Random) -> bytes:
        state = dict(self.state)
        part = rng.choice(("config", "material", "metrics", "training", "whole"))
        tensors = (
            torch.zeros(3),
            torch.zeros(1).expand(1 << 40),
            torch.zeros(2, 2).to_sparse(),
            torch.tensor(float("nan")),
            torch.zeros(4, dtype=torch.int64),
            torch.zeros(1).expand(192),
            [1, [2, [3]]],
        )
        if part in ("config", "material", "metrics"):
            state[part] = json_bytes(mutate_tree(json.loads(state[part]), rng)).decode()
        elif part == "training":
            state[part] = mutate_tree(state[part], rng, (*ABSURD, *tensors))
        else:
            state = mutate_tree(state, rng, (*ABSURD, *tensors))
        stream = io.BytesIO()
        try:
            torch.save(state, stream)
        except (RecursionError, UnicodeEncodeError, pickle.PicklingError, AttributeError):
            return b"PK"
        return stream.getvalue()

    def resume(self, rng: random.Random) -> None:
        from training.checkpoint import load_checkpoint
        from training.resume import resumed_config
        from training.state import Session, TrainingState

        checkpoint = load_checkpoint(self.run_folder)
        config = resumed_config(checkpoint, make_config({"max_iter": 9, "engine": rng.choice(("torch", "auto"))}))
        if max(config.batch_size, config.n_neurons**2) <= 1 << 17:
            with np.errstate(all="ignore"):
                TrainingState(Session(self.material, torch.device("cpu"), lambda text: None), config, checkpoint)


GLOBALS = (
    ("os", "system"),
    ("builtins", "eval"),
    ("builtins", "bytearray"),
    ("builtins", "set"),
    ("_codecs", "encode"),
    ("torch", "FloatStorage"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch.storage", "UntypedStorage"),
    ("torch", "Tensor"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("builtins", "getattr"),
)


class ConfigReader(Reader):
    """--config: YAML of any kind, and what the fields accept of it."""

    def run(self, rng: random.Random) -> None:
        path = self.write("my config.yaml", yaml_bytes(rng, list(FIELDS)))
        self.names = ("my config.yaml", "--", "hash_grid_configs", "texture_loss_weights")
        config = make_config(load_config_file(str(path), FIELDS))
        make_config(to_dict(config))
        describe(config)
        if rng.random() < 0.2:
            from shape import model_shape
            from training.plan import plan

            model_shape(plan(make_config(to_dict(config)), 64, 48), 64, 48)


class RatesReader(Reader):
    """rates.json, which `python -m bench.rate_table` writes for a user's own materials."""

    def prepare(self) -> None:
        self.seed = rates.TABLE.read_bytes()
        self.tree = json.loads(self.seed)

    def run(self, rng: random.Random) -> None:
        payload = mutate_bytes(self.seed, rng) if rng.random() < 0.3 else json_bytes(mutate_tree(self.tree, rng))
        path = self.write("rates.json", payload)
        rates.read_table(path)


class ImageReader(Reader):
    """An image file of each format, by itself or as a map of a material."""

    suffix = ""
    memory_mib = 256

    def prepare(self) -> None:
        seeds = image_seeds()
        self.seeds = seeds[self.suffix]
        self.others = [seed for each in seeds.values() for seed in each]

    def run(self, rng: random.Random) -> None:
        seed = rng.choice(self.seeds)
        others = self.seeds if rng.random() < 0.9 else self.others
        payload = mutate_bytes(seed, rng, others)
        if self.suffix == ".png" and rng.random() < 0.7:
            payload = repaired_png(payload)
        path = self.write(f"x_albedo{self.suffix}", payload)
        if rng.random() < 0.1:
            load_material(self.folder, max_pixels=MAX_PIXELS)
        else:
            read_image(path, MAX_PIXELS)


class NamesReader(Reader):
    """Folders and files with odd names: what is recognised in them, and what is said about them."""

    def prepare(self) -> None:
        self.pixels = image_seeds()[".png"][0]

    def run(self, rng: random.Random) -> None:
        def name() -> str:
            text = "".join(
                rng.choice((*NAMES, "_", "albedo", "Normal", "roughness", " ", chr(rng.randrange(1, 0x3000))))
                for _ in range(rng.randrange(1, 4))
            )
            text = text.replace("/", "").replace("\0", "")
            encoded = (
                text.encode("utf-8", "surrogateescape" if rng.random() < 0.5 else "replace")[:200].decode(
                    "utf-8", "replace"
                )
                if "\ud800" not in text
                else text.replace("\ud800", "\udcff")[:60]
            )
            return encoded if encoded.strip(".") else "x"

        folder = self.folder / name()
        folder.mkdir(exist_ok=True)
        self.names = ("",)
        try:
            for _ in range(rng.choice((0, 1, 2, 3))):
                file = name()[:60] + rng.choice((".png", ".dds", "", ".exr", "_albedo.png", "_ao.png"))
                recognise(file)
                (folder / file).write_bytes(rng.choice((self.pixels, self.pixels, b"", b"x")))
            material = load_material(folder, max_pixels=MAX_PIXELS)
            for line in material.warnings:
                if not line.isprintable():
                    raise AssertionError(f"a warning that is not printable: {line!r}")
        finally:
            shutil.rmtree(folder)


def _image_reader(suffix: str) -> type[ImageReader]:
    return type(f"{suffix[1:].title()}Reader", (ImageReader,), {"suffix": suffix, "__doc__": ImageReader.__doc__})


SUFFIXES = (".png", ".jpg", ".tif", ".tga", ".bmp", ".webp", ".exr", ".gif", ".avif", ".jp2", ".psd", ".hdr", ".jxl")
READERS: dict[str, Callable[[Path], Reader]] = {
    "dds": DdsReader,
    "npz": NpzReader,
    "manifest": ExportReader,
    "export": ExportFilesReader,
    "block_dds": BlockReader,
    "astc_ktx2": AstcReader,
    "block_export": BlockExportReader,
    "checkpoint": CheckpointReader,
    "config": ConfigReader,
    "rates": RatesReader,
    "names": NamesReader,
    **{suffix[1:]: _image_reader(suffix) for suffix in SUFFIXES},
    "image_dds": _image_reader(".dds"),
    "gltf": ModelReader,
    "gltf_scene": SceneReader,
    "gltf_out": ModelWriter,
}

if tuple(READERS) != READER_NAMES:
    raise AssertionError(f"base.NAMES should be {tuple(READERS)}")
