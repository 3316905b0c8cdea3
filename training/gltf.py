"""A model with the neural textures of its runs: `export.py --gltf out.glb`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError, brief, counted, explain_os_error, one_line, quote
from common.files import atomic_write, make_folder
from configs import MAX_PIXELS, Config
from formats.manifest import MANIFEST, read_manifest
from maps.folder import listing
from maps.gltf.container import Model, is_model
from maps.gltf.materials import labels_of, plan_of
from maps.gltf.source import ModelSource, open_model
from training.run_folder import list_checkpoints
from training.source import load_source, run_config, trained_on
from training.trained import Entry, find_below, find_materials, read_trained
from transcode.gltf.document import Document
from transcode.gltf.extension import EXTENSION
from transcode.gltf.materials import NeuralMaterial, make_neural_material, put_into

SUFFIX = ".glb"
RUNS = Path(Config.save_dir)  # where runs are looked for without --load_dir
SHOWN = 8  # names in a list


@dataclass(frozen=True)
class Wanted:
    """What `write_model` is asked for; see --help of export.py. layout '': that of each export."""

    layout: str = ""
    fallback: str = "jpeg"
    fallback_lod: int = 1
    max_pixels: int = MAX_PIXELS


@dataclass
class Found:
    """The trained materials of one model, by their labels.

    Fields:
        failed: why those stay as they are that should be there too.
    """

    model: Model
    entries: dict[str, Entry]
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
        print(f"{one_line(label)}: left as it is: {one_line(reason)}")
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


@dataclass(frozen=True)
class Run:
    """An entry that is the material of a model."""

    entry: Entry
    model: str  # its file name
    label: str
    problem: str = ""  # why it cannot be read


def find_trained(load_dir: Path | None, load_iter: int, data_dir: Path | None) -> Found:
    """The model, and the newest run of each of its materials.

    Raises: UserError when there is no material of a model, or they are of several, or the model is not there.
    """
    folder = load_dir or RUNS
    single = (folder / MANIFEST).is_file() or bool(list_checkpoints(folder))
    if load_dir is not None and (single or not folder.is_dir()):
        entries = find_materials(folder, load_iter)  # says what is wrong with the folder
    else:
        entries = find_below(folder) if folder.is_dir() else []
    runs = [run for entry in entries if (run := _run_of(entry, single)) is not None]
    unknown = {run.entry.name: run.problem for run in runs if not run.label}
    runs = [run for run in runs if run.label]
    if data_dir is not None:
        path = _given_model(data_dir)
        named = [run for run in runs if run.model == path.name]
        runs = named or (runs if load_dir is not None else [])  # the model may have another name now
    if not runs:
        what = f"--load_dir {quote(folder)}" if load_dir is not None else quote(RUNS)
        of = f" of {quote(data_dir)}" if data_dir is not None else ""
        found = f"{counted(len(entries), 'run')} of others" if entries else "no runs"
        raise UserError(f"{what}: expected runs of a glTF model's materials{of}, found {found}; train them with "
                        "--data_dir MODEL, or give --load_dir")  # fmt: skip
    if data_dir is None:
        path, runs = _model_of_runs(runs, load_dir)
    found = _by_label(open_model(path), runs, batch=not single)
    found.failed |= unknown if load_dir is not None else {}
    if load_dir is None:
        where = os.path.commonpath([run.entry.folder for run in runs])
        print(f"{quote(path)}: {counted(len(found.entries), 'material')}, of each the newest run in {quote(where)}")
    return found


def _run_of(entry: Entry, single: bool) -> Run | None:
    """What an entry is of; None for the material of a folder. Of files that cannot be read the run's configuration says
    it, where there is one."""
    try:
        origin = read_manifest(entry.folder).material.origin
    except UserError as error:
        config = run_config(entry.folder)
        path, label = (str(config.get(field) or "") for field in ("data_dir", "material"))
        if single:
            raise
        return None if config and not label else Run(entry, Path(path).name, label, str(error))
    return Run(entry, origin.model, origin.material) if origin is not None else None


def _given_model(path: Path) -> Path:
    if not is_model(path):
        found = "a folder" if path.is_dir() else "no such file" if not path.exists() else "another file"
        raise UserError(f"--data_dir {quote(path)}: expected the .glb or .gltf that was trained on, found {found}")
    return path


def _model_of_runs(runs: Sequence[Run], load_dir: Path | None) -> tuple[Path, list[Run]]:
    """The model that runs were trained on, and those of its runs; without a load_dir that of the newest run."""
    models = [trained_on(run.entry.folder) for run in runs]
    names = list(dict.fromkeys(run.model for run in runs))
    if load_dir is not None and len(names) > 1:
        raise UserError(f"--load_dir {quote(load_dir)}: expected materials of one model, found "
                        f"{listing(names, SHOWN)}; choose with --data_dir MODEL")  # fmt: skip
    there = [model for model in models if model is not None and is_model(model)]
    newest = models[-1] if load_dir is None else next(reversed(there), None)
    if newest not in there:
        raise UserError(
            f"{quote(runs[-1].entry.folder)}: expected its model, {brief(runs[-1].model)}, which "
            "is not where it was; give it with --data_dir"
        )
    return newest, [run for run, model in zip(runs, models) if load_dir is not None or model == newest]


def _by_label(model: Model, runs: Sequence[Run], batch: bool) -> Found:
    """The newest run of each material of a model, in its order.

    batch: whether every material with textures should be there.
    """
    labels, newest = labels_of(model), {run.label: run for run in runs}
    found = Found(model, {label: newest[label].entry for label in labels if label in newest})
    for label, run in newest.items():
        if label not in labels:
            found.failed[label] = f"{quote(model.path)} has no material of this name; train the model again"
        elif run.problem:
            found.failed[label] = run.problem
            del found.entries[label]
    for index, label in enumerate(labels if batch else ()):
        if label not in newest and _is_trainable(model, index):
            found.failed[label] = "it is not trained"
    return found


def _is_trainable(model: Model, index: int) -> bool:
    """Whether a material has textures that would be trained; one that cannot be read counts."""
    try:
        return bool(plan_of(model, index).slots)
    except UserError:
        return True


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
