"""What a viewer page holds of a model, and what becomes of a model that cannot be shown."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from maps.gltf.container import Model
from maps.gltf.meshes import read_scene
from tests.support.mesh_models import MeshModel
from tests.support.models import pixels
from tests.support.runs import save_maps
from tests.support.shown_models import make_exports, make_model
from tests.support.viewer_pages import make_export, save_viewer
from viewer.scene import VERTEX, Models


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model and its exports."""
    folder = tmp_path_factory.mktemp("shape")
    path = make_model(folder / "row.gltf")
    return path, make_exports(path, folder / "batch")


def written(load_dir: Path, data_dir: Path | None, folder: Path, code: int = 0) -> tuple[dict, list[bytes]]:
    """The data and the blobs of a page without source maps."""
    given = [] if data_dir is None else ["--data_dir", data_dir]
    flags = ["--load_dir", load_dir, "--viewer", folder / "page.html", "--viewer_source", 0]
    assert save_viewer(*flags, *given) == code
    text = (folder / "page.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', text).group(1))
    blobs = re.findall(r'id="blob-\d+">([^<]*)</script>', text)
    return data, [base64.b64decode(blob) for blob in blobs]


def unpacked(words: np.ndarray) -> np.ndarray:
    """(N, 3) of GL's INT_2_10_10_10_REV, normalised."""
    parts = np.stack([words >> shift & 1023 for shift in (0, 10, 20)], axis=1).astype(int)
    return np.maximum((parts - 1024 * (parts > 511)) / 511, -1)


def test_the_page_carries_the_model_once(made, tmp_path, capsys):
    path, batch = made
    data, blobs = written(batch, path, tmp_path)
    assert "row.gltf: 12 triangles of 4 materials" in capsys.readouterr().out
    [model] = data["models"]
    names = [(entry["name"], entry["model"]) for entry in data["materials"]]
    assert names == [("Glass", {"index": 0, "material": 3}), ("Leaf", {"index": 0, "material": 1}),
                     ("Wall", {"index": 0, "material": 0})]  # fmt: skip
    assert [model["materials"][str(index)]["mode"] for index in range(4)] == ["OPAQUE", "MASK", "OPAQUE", "BLEND"]
    assert model["materials"]["2"]["base"] == [0.8, 0.02, 0.02, 1.0] and model["materials"]["1"]["double_sided"]
    scene = read_scene(Model(path))
    points = np.concatenate([part.triangles.positions for part in scene.parts])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = np.linalg.norm(points - middle, axis=1).max()
    np.testing.assert_allclose(np.array(model["extent"]) * radius, np.ptp(points, axis=0) / 2)
    for entry, part in zip(model["parts"], scene.parts):
        vertices, triangles = np.frombuffer(blobs[entry["vertices"]], VERTEX), part.triangles
        np.testing.assert_allclose(vertices["position"] * radius + middle, triangles.positions, atol=1e-6)
        np.testing.assert_allclose(unpacked(vertices["normal"]), triangles.normals, atol=1 / 511)
        np.testing.assert_allclose(vertices["uv"], triangles.uv, atol=1e-6)
        indices = np.frombuffer(blobs[entry["indices"]], "<u2")
        np.testing.assert_array_equal(indices.reshape(-1, 3), triangles.corners)
        if entry["material"] == 0:
            np.testing.assert_allclose(unpacked(vertices["tangent"]), triangles.tangents[:, :3], atol=1 / 511)
            assert (vertices["tangent"] >> 30 == np.where(triangles.tangents[:, 3] > 0, 1, 3)).all()


def test_many_vertices_take_wide_indices(tmp_path):
    points = np.random.default_rng(0).normal(size=(70_000 * 3, 3))
    model = MeshModel()
    model.node(mesh=model.mesh({"attributes": {"POSITION": model.accessor(points)}}))
    blobs = []
    models = Models(lambda payload: blobs.append(payload) or len(blobs) - 1)
    described = models._describe(found := Model(model.save(tmp_path / "m.gltf")), read_scene(found))
    [part] = described["parts"]
    assert part["wide"] and part["count"] == 210_000 and len(blobs[part["indices"]]) == 4 * 210_000
    assert len(blobs[part["vertices"]]) == VERTEX.itemsize * 210_000


def spoiled(path: Path, folder: Path, change) -> Path:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    (folder / "row.gltf").write_text(json.dumps(document), encoding="utf-8")
    return folder / "row.gltf"


def compress(document: dict) -> None:
    document["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": {}}


REASONS = {
    "compressed": (compress, "its meshes are compressed with Draco (KHR_draco_mesh_compression), which is not read"),
    "without a scene": (lambda document: document.pop("scenes"), "it has no scene"),
    "in a circle": (lambda document: document["nodes"][0].update(children=[0]), "expected one parent"),
    "without the material": (
        lambda document: document["materials"][0].update(name="Fence"), "no material Wall any more",
    ),
    "with the material unused": (
        lambda document: document["scenes"][0].update(nodes=[1]), "no triangles in the scene of row.gltf have Wall",
    ),
    "without texture coordinates": (
        lambda document: document["meshes"][0]["primitives"][0]["attributes"].pop("TEXCOORD_0"),
        "have Wall and its texture coordinates",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REASONS)
def test_a_model_that_cannot_be_shown(fault, made, tmp_path, capsys):
    """The page has the usual shapes, and both it and the command say why."""
    change, why = REASONS[fault]
    path = spoiled(made[0], tmp_path, change)
    data, _ = written(made[1] / "Wall", path, tmp_path)
    assert data["materials"][0]["model"] is None and why in data["materials"][0]["model_note"]
    assert why in capsys.readouterr().out


def test_a_model_that_is_not_known(made, tmp_path, capsys):
    """An export that was copied elsewhere, and a folder given for the source."""
    data, _ = written(made[1] / "Leaf", None, tmp_path)
    assert data["models"] == [] and "the model is not known" in data["materials"][0]["model_note"]
    assert "its model is not shown" in capsys.readouterr().out
    data, _ = written(made[1] / "Leaf", tmp_path, tmp_path)
    assert data["models"] == [] and "is no model" in data["materials"][0]["model_note"]


def test_a_material_of_a_folder_has_no_model(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", present=("diffuse",))
    data, _ = written(make_export(tmp_path / "export", maps), maps, tmp_path)
    assert data["models"] == [] and data["materials"][0]["model"] is None and not data["materials"][0]["model_note"]
    assert "model" not in capsys.readouterr().out


def test_a_material_that_gltf_does_not_allow_is_white(tmp_path):
    """One of a model's materials says nonsense: the others are shown."""
    model = MeshModel(materials=[{"name": "Good"}, {"name": "Odd", "alphaMode": "GLOW"}])
    model.texture(pixels())
    model.node(mesh=model.mesh(model.quad(material=0), model.quad(material=1)))
    models = Models(lambda payload: 0)
    described = models._describe(found := Model(model.save(tmp_path / "m.gltf")), read_scene(found))
    assert "Odd is not as glTF has materials" in described["summary"]
    assert described["materials"]["1"]["base"] == [1.0] * 4
