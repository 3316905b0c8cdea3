"""Shared by the tests of exports: a small export to damage, and hand-made npz files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import export
from common.errors import run_command
from dataset import Material
from describe.numpy_decoder import read_texture
from formats.manifest import MANIFEST, NETWORK
from formats.textures import read_export, write_export
from model import NeuralTexture
from shape import DecoderSpec, GridSpec


def make_model(grids, decoder, material: Material, seed=0) -> NeuralTexture:
    """Random features, some of them outside the codes' range, and outputs on both sides of 0 and of 1."""
    model = NeuralTexture(
        grids, decoder, material.num_lods, present_channels=material.present_channels.tolist(), seed=seed
    )
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.6, 0.6, generator=generator)
    return model


def made(grids, make_material):
    """(model, material's record) of a small material with these grids."""
    material = make_material(22, 14, present=("diffuse", "roughness"))
    return make_model(grids, DecoderSpec(2, 16, 1), material), material.hashed_record


def run(*arguments) -> int:
    """The exit code of export.py with these arguments."""
    return run_command(lambda: export.main([str(argument) for argument in arguments]))


def both_refuse(folder: Path, form, refused, *words) -> None:
    """Both readers of an export refuse a changed one whose hashes are right."""
    reseal(folder)
    with refused(*words):
        read_export(folder)
    with refused(*words):
        read_texture(folder, form)


@contextlib.contextmanager
def limited_memory(extra_bytes=400 << 20):
    """Let this process take `extra_bytes` more address space and no more, where the system can do that."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _ship(folder: Path, grids) -> tuple[Path, NeuralTexture, Material]:
    torch.set_num_threads(1)
    random = np.random.default_rng(4)
    arrays = {"diffuse": random.integers(0, 256, (10, 12, 3), dtype=np.uint8),
              "roughness": random.integers(0, 256, (10, 12, 1), dtype=np.uint8)}  # fmt: skip
    material = Material.from_arrays("made", arrays)
    torch.manual_seed(8)
    model = make_model(grids, DecoderSpec(3, 16, 1, 3), material)
    write_export(folder, model, material.hashed_record, {"psnr": {"all": 31.5}})
    return folder, model, material


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """(folder, model, material) of one small export: a grid with two planes, one with R8G8 texels; 12x10, two maps."""
    return _ship(tmp_path_factory.mktemp("shipped"), [GridSpec(6, 2, 8, 64, "learned"), GridSpec(3, 1, 4, 16)])


@pytest.fixture(scope="module")
def shipped_blocks(tmp_path_factory):
    """The same of grids of BC1 blocks: three levels and two mips more, a single level, and one of words."""
    grids = [GridSpec(20, 3, 0, 4, "learned", "bc1"), GridSpec(5, 1, 0, 4, "linear", "bc1"), GridSpec(3, 1, 4, 16)]
    return _ship(tmp_path_factory.mktemp("shipped_blocks"), grids)


FILES = ["hash_grid_0.dds", "hash_grid_0_p1.dds", "hash_grid_1.dds", NETWORK]


@pytest.fixture
def folder(shipped, tmp_path):
    """A copy of the export to be damaged."""
    return Path(shutil.copytree(shipped[0], tmp_path / "copy"))


def manifest_json(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())


def edit_manifest(folder: Path, change) -> None:
    manifest = manifest_json(folder)
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def reseal(folder: Path) -> None:
    """Make the manifest's sizes and hashes fit the files, as someone with bad intentions would."""

    def change(manifest):
        for name in manifest["files"]:
            if (folder / name).exists():
                payload = (folder / name).read_bytes()
                manifest["files"][name] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}

    edit_manifest(folder, change)


def npy(array=None, *, header: str | None = None, data: bytes = b"", version=(1, 0)) -> bytes:
    """The bytes of a .npy file; `header` and `data` for those that numpy would not write."""
    if array is not None:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
        return stream.getvalue()
    text = (header + "\n").encode("latin1")
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + data


def npz(members, compression=zipfile.ZIP_STORED, level=None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression, compresslevel=level) as archive:
        for name, payload in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, payload)
    return stream.getvalue()


def describe(descr, shape, fortran=False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


GOOD_INFO = npy(np.array([1, 2, 1, 1, 8, 8, 0, 16, 0, 16], np.int32))
GOOD_NETWORK = npy(np.zeros(16 * 16, np.float32))


def only_network(payload: bytes) -> bytes:
    return npz({"info.npy": GOOD_INFO, "network.npy": payload})

GOOD = [2, 3, 2, 8, 8, 64, 3, 1, 4, 4, 16, 3, 16, 1, 16]  # of `shipped`
