"""Readers for `python -m tests.fuzz`: whole exports."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil

import export
from common.errors import UserError
from describe.folder import describe_folder
from formats.dds_layouts import LAYOUTS
from formats.manifest import MANIFEST, NETWORK
from formats.textures import read_export, write_export
from shape import DecoderSpec, GridSpec
from tests.fuzz.base import Reader
from tests.fuzz.inputs import ABSURD, NAMES, json_bytes, mutate_bytes, mutate_tree, mutate_zip
from tests.fuzz.textures import damage_blocks, damage_header, small_material
from tests.support.exports import edit_manifest, make_model, reseal


class ExportReader(Reader):
    """A whole export: a manifest with other values, or other files with hashes that fit. Read, described, and in one
    of eight cases decoded, transcoded, turned into shaders and into another layout."""

    limit_s = 10.0
    form = [GridSpec(6, 2, 4, 32, "learned"), GridSpec(3, 1, 4, 16)], DecoderSpec(3, 16, 1, 3)
    kinds = (  # flags of export.py
        ("--images",),
        ("--transcode", "png,glb"),
        ("--shader", "hlsl,glsl,essl,wgsl,metal"),
        ("--dds_layout", "filterable"),
    )

    def prepare(self) -> None:
        self.original = self.folder / "original"
        self.original.mkdir()
        model = make_model(*self.form, small_material())
        metrics = {"psnr": {"all": 31.5, "diffuse": 30.0}, "lods": [{"lod": 0, "psnr": {"all": 31.5}}]}
        write_export(self.original, model, small_material().hashed_record, metrics)
        self.manifest = json.loads((self.original / MANIFEST).read_text())
        self.target = self.folder / "export"
        shutil.copytree(self.original, self.target)
        self.files = {path.name: path.read_bytes() for path in sorted(self.original.iterdir())}

    def run(self, rng: random.Random) -> None:
        self.names = (*self.files, "export", "--tsnc")
        self.damage(rng)
        try:
            self.read(rng)
        finally:
            for name, payload in self.files.items():
                (self.target / name).write_bytes(payload)

    def damage(self, rng: random.Random) -> None:
        kind = rng.random()
        if kind < 0.2:
            payload = mutate_bytes(self.files[MANIFEST], rng)
        else:
            tree = mutate_tree(self.manifest, rng)
            if rng.random() < 0.3:  # where a value is looked at rather than compared
                for key in ("name", "width", "height", "num_lods"):
                    if rng.random() < 0.4 and isinstance(tree.get("material"), dict):
                        tree["material"][key] = rng.choice((*ABSURD, *NAMES, 1, 5, 4096, 16384))
            payload = json_bytes(tree)
        (self.target / MANIFEST).write_bytes(payload)

    def read(self, rng: random.Random) -> None:
        refused = None
        try:
            description = describe_folder(self.target)
        except UserError as error:
            refused = error
        else:
            for line in description.lines:
                line.encode("utf-8", "backslashreplace")
        read_export(self.target)
        if rng.random() < 0.125:
            out = self.folder / "out"
            flags = ["--load_dir", str(self.target), "--out_dir", str(out)]
            asked = rng.choice(self.kinds)
            if asked == ("--tsnc",):
                asked += (str(out / "tsnc"),)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    export.main([*flags, *asked])
            finally:
                shutil.rmtree(out, ignore_errors=True)
        if refused is not None:
            raise refused


class ExportFilesReader(ExportReader):
    """The same with damaged DDS and npz files, whose hashes fit."""

    def damage(self, rng: random.Random) -> None:
        name = rng.choice([name for name in self.files if name != MANIFEST])
        mutate = mutate_zip if name == NETWORK else mutate_bytes
        (self.target / name).write_bytes(mutate(self.files[name], rng))
        if rng.random() < 0.9:
            reseal(self.target)
        if rng.random() < 0.1:
            edit_manifest(self.target, lambda manifest: manifest.update(dds_layout=rng.choice(LAYOUTS)))


class BlockExportReader(ExportReader):
    """An export of BC1 grids that Intel's sample could load: another manifest, or blocks and weights with hashes that
    fit."""

    form = (
        [*[GridSpec(16, 3, 0, 4, storage="bc1")] * 2, *[GridSpec(8, 2, 0, 4, storage="bc1", finest_lods=2)] * 2],
        DecoderSpec(0, 64, 2, 0, "leaky_relu", 0.0),
    )
    kinds = (*ExportReader.kinds, ("--latents_format", "ktx2"), ("--tsnc",))

    def damage(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            super().damage(rng)
            return
        name = rng.choice([name for name in self.files if name != MANIFEST])
        mutate = mutate_zip if name == NETWORK else rng.choice((damage_blocks, damage_header, mutate_bytes))
        (self.target / name).write_bytes(mutate(self.files[name], rng))
        reseal(self.target)
