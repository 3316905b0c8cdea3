"""read_export: a damaged or hostile export is one line, whatever was done to it."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.files import sha256_of
from formats.bc1 import encode
from formats.dds import Texture, encode_dds
from formats.export import save_images
from formats.manifest import MANIFEST, NETWORK
from formats.network_file import encode_network, parse_info, read_network
from formats.textures import read_export
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support.exports import (
    FILES,
    GOOD,
    GOOD_INFO,
    GOOD_NETWORK,
    describe,
    edit_manifest,
    limited_memory,
    make_model,
    npy,
    npz,
    only_network,
    reseal,
)

# --- damaged files ---------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    payload = bytearray(path.read_bytes())
    payload[len(payload) * 2 // 3] ^= 1
    path.write_bytes(payload)


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = {
    "flipped bit": _flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "extended": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "a folder": _become_a_folder,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_named(name, damage, folder, refused):
    DAMAGE[damage](folder / name)
    with refused(name):
        read_export(folder)


@pytest.mark.parametrize("damage", ["halved", "empty", "deleted", "a folder"])
def test_a_damaged_manifest_is_named(damage, folder, refused):
    DAMAGE[damage](folder / MANIFEST)
    with refused(MANIFEST):
        read_export(folder)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in FILES
        for damage in ("truncated", "halved", "extended", "empty", "deleted", "a folder")
        if (name, damage) != (NETWORK, "extended")  # a zip file may carry bytes behind its end
    ],
)
def test_damaged_files_with_fitting_hashes_are_named(name, damage, folder, refused):
    """The parsers are reached, and say the same."""
    DAMAGE[damage](folder / name)
    if (folder / name).is_file():
        reseal(folder)
    with refused(name), limited_memory():
        read_export(folder)


def test_files_that_do_not_fit_each_other_are_refused(shipped, folder, refused):
    _, model, material = shipped
    random = np.random.default_rng(0)

    def texture(*shapes):
        return encode_dds(Texture(tuple(random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)))

    others = {
        "hash_grid_0.dds": [texture((12, 12, 4), (6, 6, 4)), texture((6, 6, 4)), texture((6, 6, 2), (3, 3, 2)),
                            texture((6, 6, 2), (3, 3, 2), (1, 1, 2)), texture((6, 3, 4), (3, 1, 4))],
        "hash_grid_0_p1.dds": [texture((6, 6, 4)), texture((3, 3, 4), (1, 1, 4)), texture((6, 6, 1), (3, 3, 1))],
        "hash_grid_1.dds": [texture((3, 3, 4)), texture((3, 3, 1)), texture((3, 3, 4), (1, 1, 4))],
    }  # fmt: skip
    for name, payloads in others.items():
        kept = (folder / name).read_bytes()
        for payload in payloads:
            (folder / name).write_bytes(payload)
            reseal(folder)
            with refused(name):
                read_export(folder)
        (folder / name).write_bytes(kept)
    for grids, decoder in [
        ([GridSpec(6, 2, 8, 64), GridSpec(3, 1, 4, 16)], DecoderSpec(3, 32, 1, 3)),  # other widths
        ([GridSpec(6, 2, 8, 64), GridSpec(3, 1, 4, 16)], DecoderSpec(3, 16, 2, 3)),
        ([GridSpec(6, 2, 8, 64)], DecoderSpec(3, 16, 1, 3)),  # other grids
        ([GridSpec(6, 2, 8, 64, "learned"), GridSpec(3, 1, 4, 8)], DecoderSpec(3, 16, 1, 3)),
    ]:
        (folder / NETWORK).write_bytes(encode_network(make_model(grids, decoder, material)))
        reseal(folder)
        with refused():
            read_export(folder)
    (folder / NETWORK).write_bytes(encode_network(model))
    reseal(folder)
    read_export(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_manifest_does_not_list_is_not_trusted(name, folder, refused):
    """Without its hash a damaged texture would pass for a good one."""
    edit_manifest(folder, lambda manifest: manifest["files"].pop(name))
    with refused():
        read_export(folder)


@pytest.mark.parametrize("listed", [False, True], ids=["beside", "as a grid's"])
@pytest.mark.parametrize(
    "name",
    ["../victim.dds", "/etc/passwd", "sub/file.dds", "..", ".", "", "a\0b", "two\nlines.dds", "x" * 300, "\ud800.dds",
     "..\\victim.dds", "C:\\victim.dds", "missing.dds"],
    ids=lambda name: repr(name)[:20],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name, listed, folder, refused, monkeypatch):
    """With the right size and hash of a file that exists, so that nothing but the name is wrong; it is not opened."""
    opened = []
    monkeypatch.setattr("formats.manifest.sha256_of", lambda path: opened.append(Path(path)) or sha256_of(path))
    (folder.parent / "victim.dds").write_bytes(b"victim")
    (folder / "sub").mkdir()
    (folder / "sub" / "file.dds").write_bytes(b"victim")
    entry = {"bytes": 6, "sha256": hashlib.sha256(b"victim").hexdigest()}

    def change(manifest):
        manifest["files"] = {name: entry, **manifest["files"]}
        if listed:
            manifest["grids"][0]["files"].append(name)

    edit_manifest(folder, change)
    with refused():
        read_export(folder)
    assert {path.resolve().parent for path in opened} <= {folder.resolve()}


@pytest.mark.parametrize("field", ["bytes", "sha256"])
@pytest.mark.parametrize("value", [0, 10**30, "", "0" * 64, None, []], ids=repr)
def test_sizes_and_hashes_are_both_compared(field, value, folder, refused):
    edit_manifest(folder, lambda manifest: manifest["files"][NETWORK].update({field: value}))
    with refused(NETWORK):
        read_export(folder)


@pytest.mark.parametrize("files", [None, [], "x", 5, {"x": 5}, {"hash_grid_0.dds": None}, {}], ids=str)
def test_absurd_file_lists_are_refused(files, folder, refused):
    edit_manifest(folder, lambda manifest: manifest.update(files=files))
    with refused():
        read_export(folder)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "5", '"neural-texture"', "{", '{"format": "neural-texture"', "\ufeff{}", "[" * 100_000,
     '{"format": "other", "version": 1}', '{"format": "neural-texture"}', '{"format": "neural-texture", "version": 2}',
     '{"format": "neural-texture", "version": "1"}', '{"format": "neural-texture", "version": 1}',
     '{"format": "neural-texture", "version": ' + "9" * 5000 + "}",
     '{"format": "neural-texture", "version": "' + "a\\n" * 5000 + '"}',
     '{"format": ["neural-texture"], "version": 1}'],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_other_json_is_refused(text, folder, refused):
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with refused(MANIFEST), limited_memory():
        read_export(folder)


@pytest.mark.parametrize("payload", [b"\xff\xfe{}", b"\x80", b"{}" + b" " * (2 << 20)], ids=["utf-16", "odd", "large"])
def test_other_bytes_are_refused(payload, folder, refused):
    (folder / MANIFEST).write_bytes(payload)
    with refused(MANIFEST):
        read_export(folder)


def test_a_manifest_of_megabytes_is_not_read(folder, refused):
    with (folder / MANIFEST).open("ab") as stream:
        stream.write(b" " * (2 << 20))
    with refused(MANIFEST):
        read_export(folder)


ABSURD = [None, True, -1, 0, 2, 2.5, 10**30, -(10**30), "", "x\ny", "../x", [], [1], {}, {"x": 1}]


def leaves(value, path=()):
    """Every place in a JSON value, containers as well."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from leaves(value[key], (*path, key))


def stored(model: NeuralTexture, index: int) -> list:
    """The codes or the blocks of a grid."""
    if model.grids[index].compressed:
        return encode(model.grid_parameters[index].detach().view(-1, 22)).tolist()
    return model.codes(index).tolist()


def same_texture(one: NeuralTexture, other: NeuralTexture) -> bool:
    return (
        (one.grids, one.decoder, one.num_lods) == (other.grids, other.decoder, other.num_lods)
        and all(stored(one, index) == stored(other, index) for index in range(len(one.grids)))
        and all(torch.equal(a, b) for a, b in zip(one.weights, other.weights))
    )


PARTS = ["material", "grids", "decoder", "rates", "bytes_on_disk", "metrics", "files"]


@pytest.mark.parametrize(
    ("part", "export"), [*((part, "shipped") for part in PARTS), ("grids", "shipped_blocks")], ids=str
)
def test_absurd_manifest_values_are_refused_or_change_nothing(part, export, request, tmp_path):
    """Whatever is put in whatever place: one clear line, or the very same texture; never another one, never a crash."""
    source, model, _ = request.getfixturevalue(export)
    folder = Path(shutil.copytree(source, tmp_path / "copy"))
    original = json.loads((folder / MANIFEST).read_text())
    n_refused, wrong = 0, []
    for path in leaves(original):
        if path[0] != part:
            continue
        for value in [None, 10**30, "removed"] if {"inputs", "layers"} & set(path) else [*ABSURD, "removed"]:
            manifest = copy.deepcopy(original)
            parent = manifest
            for key in path[:-1]:
                parent = parent[key]
            if value == "removed":
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            (folder / MANIFEST).write_text(json.dumps(manifest))
            try:
                exported = read_export(folder)
            except UserError as error:
                n_refused += 1
                if len(str(error).splitlines()) != 1:
                    wrong.append((path, value, str(error)))
            except Exception as error:
                wrong.append((path, value, repr(error)))
            else:
                if not same_texture(exported.model, model):
                    wrong.append((path, value, "is another texture"))
    assert not wrong, f"{len(wrong)} such as {wrong[:5]}"
    assert n_refused or part in ("rates", "bytes_on_disk", "metrics")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("material", "width"), 0), (("material", "width"), 10**9), (("material", "height"), "10"),
        (("material", "height"), 10.0), (("material", "num_lods"), 5), (("material", "num_lods"), 10**12),
        (("material", "maps"), []),
        (("material", "maps", 0, "map"), "normal"), (("material", "maps", 0, "map"), "lava"),
        (("material", "maps", 1, "channels"), [7]), (("material", "maps", 1, "channels"), [10**12]),
        (("material", "maps", 0, "color_space"), "hsv"), (("material", "maps", 0, "file_color_space"), ["srgb"]),
        (("grids",), []), (("grids",), 10**12), (("grids", 0, "interpolation"), "cubic"),
        (("grids", 0, "interpolation"), "linear"), (("decoder", "n_texel_frequencies"), 10**12),
        (("decoder", "n_texel_frequencies"), -3), (("decoder", "n_texel_frequencies"), 12),
        (("decoder", "n_texel_frequencies"), "3"), (("decoder",), None),
    ],
    ids=str,
)  # fmt: skip
def test_manifest_values_that_decoding_needs_are_checked(path, value, folder, refused):
    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    edit_manifest(folder, change)
    with refused(), limited_memory():
        read_export(folder)


def test_materials_larger_than_any_that_is_read_are_not_decoded(folder, tmp_path, refused):
    """images.MAX_PIXELS bounds what can be trained on; LOD 0 of what this manifest claims would take 189 GB."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("no way to limit the memory here")
    edit_manifest(folder, lambda manifest: manifest["material"].update(width=65536, height=65536, num_lods=17))
    with limited_memory(), refused():
        save_images(tmp_path / "images", read_export(folder))


# --- random damage ---------------------------------------------------------------------------------------------------

changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4)


def damaged(payload: bytes, edits, cut: int) -> bytes:
    result = bytearray(payload)
    for offset, value in edits:
        result[offset % len(result)] = value
    return bytes(result[: len(result) - cut]) if cut else bytes(result)


def one_line_or_fine(read, *arguments):
    try:
        return read(*arguments)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return None


@pytest.fixture(scope="module")
def scratch(shipped, tmp_path_factory):
    """A copy for hypothesis, which puts every file back itself."""
    return Path(shutil.copytree(shipped[0], tmp_path_factory.mktemp("scratch") / "copy"))


@settings(max_examples=60, deadline=None)
@given(edits=changes, cut=st.sampled_from([0, 0, 0, 1, 100]))
def test_random_damage_to_the_manifest(edits, cut, shipped, scratch):
    original = (shipped[0] / MANIFEST).read_bytes()
    (scratch / MANIFEST).write_bytes(damaged(original, edits, cut))
    try:
        exported = one_line_or_fine(read_export, scratch)
        if exported is not None:
            assert exported.model.codes(0).equal(shipped[1].codes(0))
    finally:
        (scratch / MANIFEST).write_bytes(original)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(FILES), edits=changes, cut=st.sampled_from([0, 0, 0, 1, 100]), sealed=st.booleans())
def test_random_damage_to_the_other_files(name, edits, cut, sealed, shipped, scratch):
    """Sealed: with the hash of the damaged file in the manifest. Not sealed: refused unless no byte changed."""
    original = (shipped[0] / name).read_bytes()
    payload = damaged(original, edits, cut)
    (scratch / name).write_bytes(payload)
    try:
        if sealed:
            reseal(scratch)
        exported = one_line_or_fine(read_export, scratch)
        if not sealed:
            assert (exported is not None) == (payload == original)
    finally:
        (scratch / name).write_bytes(original)
        shutil.copy(shipped[0] / MANIFEST, scratch / MANIFEST)


@pytest.fixture(scope="module")
def scratch_blocks(shipped_blocks, tmp_path_factory):
    return Path(shutil.copytree(shipped_blocks[0], tmp_path_factory.mktemp("scratch") / "copy"))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(["hash_grid_0.dds", "hash_grid_1.dds"]), edits=changes, cut=st.sampled_from([0, 0, 0, 8]))
def test_random_damage_to_blocks(name, edits, cut, shipped_blocks, scratch_blocks):
    """With the hash of the damaged file in the manifest: other blocks of four colours, or one line."""
    original = (shipped_blocks[0] / name).read_bytes()
    (scratch_blocks / name).write_bytes(damaged(original, edits, cut))
    try:
        reseal(scratch_blocks)
        exported = one_line_or_fine(read_export, scratch_blocks)
        assert exported is None or not cut
    finally:
        (scratch_blocks / name).write_bytes(original)
        shutil.copy(shipped_blocks[0] / MANIFEST, scratch_blocks / MANIFEST)


@settings(max_examples=60, deadline=None)
@given(edits=changes, cut=st.sampled_from([0, 0, 0, 1, 30]), deflated=st.booleans())
@example(edits=[(0, 0)], cut=0, deflated=True)
def test_random_damage_to_the_network(edits, cut, deflated, scratch):
    """Directly, and closer: damage to a short file hits its headers more often."""
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    path = scratch / "short.npz"
    path.write_bytes(damaged(npz({"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK}, method), edits, cut))
    one_line_or_fine(read_network, path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(-2, 70), st.integers(-(2**31), 2**31 - 1)), max_size=20), st.booleans())
def test_random_infos(numbers, prefixed):
    if prefixed:
        numbers = (GOOD[: max(0, 15 - len(numbers))] + numbers)[:15]
    one_line_or_fine(parse_info, np.array(numbers, np.int32), "info")


@settings(max_examples=60, deadline=None)
@given(text=st.text("{}()[]'\",:<f4 shapedescr_FTlaue0-9\n\\", max_size=80), keep=st.integers(0, 70))
def test_random_array_headers(text, keep, scratch):
    path = scratch / "header.npz"
    path.write_bytes(only_network(npy(header=describe("<f4", "(256,)")[:keep] + text, data=bytes(1024))))
    one_line_or_fine(read_network, path)
