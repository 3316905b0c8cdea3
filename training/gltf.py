"""A model with the neural textures of its runs: `export.py --gltf out.glb`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError, brief, counted, explain_os_error, one_line, quote
from common.files import atomic_write, make_folder
from formats.manifest import MANIFEST, read_manifest
from maps.folder import listing
from maps.gltf.container import Model, is_model
from maps.gltf.materials import labels_of, plan_of
from maps.gltf.source import ModelSource, open_model
from maps.record import MaterialRecord
from training.run_folder import list_checkpoints
from training.source import load_source, trained_on
from training.trained import Entry, find_below, find_materials, read_trained
from transcode.gltf.document import Document
from transcode.gltf.extension import EXTENSION
from transcode.gltf.materials import NeuralMaterial, make_neural_material, put_into

SUFFIX = ".glb"
RUNS = Path("outputs")  # where runs are looked for without --load_dir
SHOWN = 8  # names in a list


@dataclass(frozen=True)
class Wanted:
    """What `write_model` is asked for; see --help of export.py. layout '': that of each export."""

    layout: str = ""
    fallback: str = "jpeg"
    fallback_lod: int = 1
    max_pixels: int = 2**26


@dataclass
class Found:
    """The trained materials of one model.

    Fields:
        entries: the newest by the label of the material.
        failed: label -> why it stays as it is.
    """

    model: Model
    entries: dict[str, Entry]
    whole: bool  # whether every material with textures should be there
    failed: dict[str, str] = field(default_factory=dict)


def write_model(path: Path, load_dir: Path | None, load_iter: int, data_dir: Path | None, wanted: Wanted) -> int:
    """Write the model that the materials in `load_dir` are of, with their neural textures.

    Args:
        load_dir: run, export, or a folder of these; None: RUNS.
        data_dir: the model; None: that of the runs.
    Returns: the exit code: 1 when materials stay as they are that could be trained; these are named.
    Raises: UserError when there is no model, or none of its materials can be taken.
    """
    check_path(path)
    found = find_trained(load_dir, load_iter, data_dir)
    document = Document(found.model)
    check_model(document, path)
    materials = []
    for label, entry in found.entries.items():
        try:
            materials.append(_neural_material(found.model, label, entry, wanted))
            print(_line(materials[-1], wanted))
        except (UserError, OSError) as error:
            found.failed[label] = str(error) if isinstance(error, UserError) else explain_os_error(error) or str(error)
    for label, reason in found.failed.items():
        print(f"{one_line(label)}: stays as it is: {one_line(reason)}")
    if not materials:
        raise UserError(f"{quote(found.model.path)}: expected a trained material, found none that fits, see above")
    put_into(document, materials)
    parts = document.encode()
    make_folder(path.resolve().parent)
    with atomic_write(path) as stream:
        for part in parts:
            stream.write(part)
    for note in document.notes:
        print(note)
    print(_summary(path, found.model, materials))
    return 1 if found.failed else 0


def check_path(path: Path) -> None:
    """Raise UserError for a path that no .glb can be written to."""
    if path.is_dir():
        raise UserError(f"--gltf {quote(path)}: expected a file to write, found a folder; add a file name")
    if path.suffix.lower() != SUFFIX:
        raise UserError(f"--gltf {quote(path)}: expected a name that ends in {SUFFIX}; everything is in that one file")


def check_model(document: Document, path: Path) -> None:
    """Raise UserError for a model that cannot be written with neural textures to `path`."""
    if path.exists() and path.samefile(document.model.path):
        raise UserError(f"--gltf {quote(path)}: expected another file than the model itself; give a new name")
    extensions = document.json.get("extensions")
    if isinstance(extensions, dict) and EXTENSION in extensions:
        reason = f"expected a model with ordinary textures, found {EXTENSION}"
        raise document.model.refusal(reason, "give the model that it was made of")


# --- the runs --------------------------------------------------------------------------------------------------------


def find_trained(load_dir: Path | None, load_iter: int, data_dir: Path | None) -> Found:
    """The model, and the newest entry for each of its materials.

    Raises: UserError when there is no material of a model, or they are of several, or the model is not there.
    """
    folder = load_dir or RUNS
    single = (folder / MANIFEST).is_file() or bool(list_checkpoints(folder))
    if load_dir is not None and (single or not folder.is_dir()):
        entries = find_materials(folder, load_iter)  # says what is wrong with the folder
    else:
        entries = find_below(folder) if folder.is_dir() else []
    records, refused = _records(entries, single)
    if data_dir is not None:
        path = _given_model(data_dir)
        named = [pair for pair in records if pair[1].origin.model == path.name]
        records = named or ([] if load_dir is None else records)
    if not records:
        what = f"--load_dir {quote(folder)}" if load_dir is not None else f"{quote(RUNS)}"
        of = f" of {quote(data_dir)}" if data_dir is not None else ""
        advice = f"; {refused}" if refused else "; train one with --data_dir MODEL, or give --load_dir"
        raise UserError(f"{what}: expected runs of a glTF model's materials{of}, found none{advice}")
    if data_dir is None:
        path, records = _model_of_runs(records, load_dir)
    found = _by_label(open_model(path), records, whole=not single)
    if load_dir is None:
        where = os.path.commonpath([entry.folder for entry in found.entries.values()] or [folder])
        print(f"{quote(path)}: {counted(len(found.entries), 'material')}, of each the newest run in {quote(where)}")
    return found


def _records(entries: Sequence[Entry], single: bool) -> tuple[list[tuple[Entry, MaterialRecord]], str]:
    """The entries that are materials of models; and why the last of the others is none."""
    records, refused = [], ""
    for entry in entries:
        try:
            material = read_manifest(entry.folder).material
        except UserError as error:
            if single:
                raise
            refused = str(error)
            continue
        if material.origin is not None:
            records.append((entry, material))
        else:
            refused = f"{entry.name} is the material of a folder"
    return records, refused


def _given_model(path: Path) -> Path:
    if not is_model(path):
        found = "a folder" if path.is_dir() else "no such file" if not path.exists() else "another file"
        raise UserError(f"--data_dir {quote(path)}: expected the .glb or .gltf that was trained on, found {found}")
    return path


def _model_of_runs(
    records: Sequence[tuple[Entry, MaterialRecord]], load_dir: Path | None
) -> tuple[Path, list[tuple[Entry, MaterialRecord]]]:
    """The model that runs were trained on, and those of its runs; without a load_dir that of the newest run."""
    models = [trained_on(entry.folder) for entry, _ in records]
    names = list(dict.fromkeys(record.origin.model for _, record in records))
    if load_dir is not None and len(names) > 1:
        names = listing(names, SHOWN)
        raise UserError(f"--load_dir {quote(load_dir)}: expected materials of one model, found {names}; choose with "
                        "--data_dir MODEL")  # fmt: skip
    there = [model for model in models if model is not None and is_model(model)]
    newest = models[-1] if load_dir is None else next(reversed(there), None)
    if newest not in there:
        raise UserError(
            f"{quote(records[-1][0].folder)}: expected the model that it was trained on, {brief(names[-1])}, which is "
            "not where it was; give it with --data_dir"
        )
    if load_dir is not None:
        return newest, list(records)
    return newest, [pair for pair, model in zip(records, models) if model == newest]


def _by_label(model: Model, records: Sequence[tuple[Entry, MaterialRecord]], whole: bool) -> Found:
    """The newest entry of each material of a model, in its order; what the model does not have has failed."""
    labels = labels_of(model)
    newest = {}
    for entry, record in records:
        newest[record.origin.material] = entry
    found = Found(model, {label: newest[label] for label in labels if label in newest}, whole)
    for label in newest:
        if label not in labels:
            found.failed[label] = f"{quote(model.path)} has no material of this name; train the model again"
    for index, label in enumerate(labels if whole else ()):
        if label not in newest and plan_of(model, index).slots:
            found.failed[label] = "it is not trained"
    return found


# --- one material ----------------------------------------------------------------------------------------------------


def _neural_material(model: Model, label: str, entry: Entry, wanted: Wanted) -> NeuralMaterial:
    exported = read_trained(entry.folder)
    material = exported.manifest.material
    source = load_source(entry.folder, material, model.path, wanted.max_pixels)
    if source.sha256 != material.sha256:
        raise UserError(
            f"{quote(entry.folder)}: its images or factors in {quote(model.path)} are no longer those that it was "
            "trained on; train it again"
        )
    layout = wanted.layout or exported.manifest.layout
    return make_neural_material(ModelSource(model.path, label), exported, layout, wanted.fallback, wanted.fallback_lod,
                                wanted.max_pixels, print)  # fmt: skip


def _line(material: NeuralMaterial, wanted: Wanted) -> str:
    """What became of one material."""
    text = f"{one_line(material.label)}: {material.n_bytes} bytes neural, trained at {material.bpp:.2f} bpp"
    shown = material.fallback
    if shown.pictures:
        coarsest = ", its coarsest" if shown.lod < wanted.fallback_lod else ""
        text += f"; fallback {shown.n_bytes} bytes, LOD {shown.lod}{coarsest}, {shown.size[0]}x{shown.size[1]}"
    if material.keeps_alpha:
        text += "; baseColorTexture stays, as its alpha is not trained"
    return text


def _summary(path: Path, model: Model, materials: Sequence[NeuralMaterial]) -> str:
    before = sum(file.stat().st_size for file in model.files_read)
    images: dict[int, int] = {}
    for material in materials:
        images |= material.source_bytes
    neural = sum(material.n_bytes for material in materials)
    return (
        f"{path}  {before} -> {path.stat().st_size} bytes; textures of {counted(len(materials), 'material')} in GPU "
        f"memory: {_megabytes(sum(images.values()))} as RGBA8 with mips -> {_megabytes(neural)}"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"
