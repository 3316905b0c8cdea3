"""The triangles of a model: accessors of every kind, nodes, tangents, and files of strangers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from maps.gltf import meshes
from maps.gltf.container import Model
from maps.gltf.materials import Placement
from maps.gltf.meshes import Scene, read_scene
from tests.support.mesh_models import MeshModel
from tests.support.models import normals, pixels

POINTS = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [3, 2, 1], [5, 1, 2]], float)
UV = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.25]])


def scene_of(model: MeshModel, folder: Path) -> Scene:
    return read_scene(Model(model.save(folder / "m.gltf")))


def one_mesh(folder: Path, node: dict | None = None, **primitive) -> Scene:
    """The scene of a model with one primitive of POINTS; accessors are given as functions of the model."""
    model = MeshModel()
    made = {key: value(model) if callable(value) else value for key, value in primitive.items()}
    made = {"attributes": {"POSITION": model.accessor(POINTS)}, **made}
    model.node(mesh=model.mesh(made), **(node or {}))
    return scene_of(model, folder)


def corners(scene: Scene) -> list[list[tuple[float, ...]]]:
    """The positions of all triangles, each from its least corner on, in order."""
    found = []
    for part in scene.parts:
        for triangle in part.triangles.positions[part.triangles.corners].round(5) + 0.0:
            rows = [tuple(row) for row in triangle]
            first = rows.index(min(rows))
            found.append(rows[first:] + rows[:first])
    return sorted(found)


def expected(*triangles: tuple[int, int, int], points: np.ndarray = POINTS) -> list[list[tuple[float, ...]]]:
    return sorted((lambda rows: rows[rows.index(min(rows)) :] + rows[: rows.index(min(rows))])(
        [tuple(points[index].round(5) + 0.0) for index in triangle]) for triangle in triangles)  # fmt: skip


@pytest.mark.parametrize(("mode", "indices", "triangles"), [
    (4, [0, 1, 2, 2, 1, 3], [(0, 1, 2), (2, 1, 3)]),
    (4, None, [(0, 1, 2)]),  # two vertices are left over
    (5, [0, 1, 2, 3, 4], [(0, 1, 2), (1, 3, 2), (2, 3, 4)]),
    (5, None, [(0, 1, 2), (1, 3, 2), (2, 3, 4)]),
    (5, [0, 1, 2, 2, 3, 3, 4], [(0, 1, 2)]),  # a strip that turns into lines
    (6, [4, 0, 1, 3], [(0, 1, 4), (1, 3, 4)]),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_lists_strips_and_fans(mode, indices, triangles, dtype, tmp_path):
    given = {} if indices is None else {"indices": lambda model: model.accessor(indices, dtype)}
    assert corners(one_mesh(tmp_path, mode=mode, **given)) == expected(*triangles)


def test_strides_offsets_and_sparse_rows(tmp_path):
    """Interleaved floats behind a header, with two rows replaced by a sparse accessor, one of them the last."""
    rows = np.zeros((5, 7), "<f4")
    rows[:, 2:5] = POINTS
    replaced = np.array([[9, 9, 1], [7, 0, 0]], "<f4")
    model = MeshModel()
    view = model.view(b"head" + rows.tobytes(), byteStride=28)
    model.document["bufferViews"][view] |= {"byteOffset": 4, "byteLength": rows.nbytes}
    sparse = {"count": 2, "indices": {"bufferView": model.view(b"\1\0\4\0"), "componentType": 5123},
              "values": {"bufferView": model.view(replaced.tobytes())}}  # fmt: skip
    position = model.add("accessors", bufferView=view, byteOffset=8, componentType=5126, type="VEC3", count=5,
                         sparse=sparse)  # fmt: skip
    indices = model.accessor([0, 1, 2, 2, 3, 4], "u1")
    model.node(mesh=model.mesh({"attributes": {"POSITION": position}, "indices": indices}))
    points = POINTS.copy()
    points[[1, 4]] = replaced
    assert corners(scene_of(model, tmp_path)) == expected((0, 1, 2), (2, 3, 4), points=points)


def test_sparse_rows_of_nothing(tmp_path):
    """Without a buffer view all other rows are 0."""
    model = MeshModel()
    sparse = {"count": 2, "indices": {"bufferView": model.view(b"\1\2"), "componentType": 5121},
              "values": {"bufferView": model.view(POINTS[1:3].astype("<f4").tobytes())}}  # fmt: skip
    position = model.add("accessors", componentType=5126, type="VEC3", count=3, sparse=sparse)
    model.node(mesh=model.mesh({"attributes": {"POSITION": position}}))
    assert corners(scene_of(model, tmp_path)) == expected((0, 1, 2))


@pytest.mark.parametrize(("dtype", "normalized", "scale"), [
    ("i2", False, 1), ("i2", True, 32767), ("u2", True, 65535), ("i1", True, 127), ("u1", True, 255), ("u1", False, 1),
])  # fmt: skip
def test_whole_numbers(dtype, normalized, scale, tmp_path):
    """KHR_mesh_quantization. -128 and -127 are both -1."""
    codes = np.array([[0, 0, 0], [100, 0, 0], [0, 100, 3]])
    if dtype == "i1":
        codes = np.array([[-128, 0, 0], [127, 0, 0], [0, 127, 0]])
    more = {"normalized": normalized}
    scene = one_mesh(tmp_path, attributes=lambda model: {"POSITION": model.accessor(codes, dtype, **more)})
    points = np.maximum(codes / scale, -1) if normalized else codes.astype(float)
    assert corners(scene) == expected((0, 1, 2), points=points)


def test_nodes_place_meshes(tmp_path):
    """A mesh below turned, scaled and moved nodes, and the same one below a matrix; what is in no scene is left out."""
    model = MeshModel()
    mesh = model.mesh({"attributes": {"POSITION": model.accessor(POINTS[:3])}})
    half = math.sqrt(0.5)
    child = model.node(False, mesh=mesh, translation=[1, 2, 3], scale=[2, 1, 1])
    model.node(rotation=[0, 0, half, half], children=[child])  # a quarter turn around z: x -> y, y -> -x
    matrix = np.eye(4)
    matrix[:3, 3], matrix[0, 2] = [10, 0, 0], 2
    model.node(mesh=mesh, matrix=matrix.T.reshape(-1).tolist())
    model.node(False, mesh=mesh, translation=[99, 99, 99])
    first = POINTS[:3] * [2, 1, 1] + [1, 2, 3]
    first = np.stack([-first[:, 1], first[:, 0], first[:, 2]], axis=1)
    second = POINTS[:3] + [10, 0, 0]
    want = expected((0, 1, 2), points=first) + expected((0, 1, 2), points=second)
    assert corners(scene_of(model, tmp_path)) == sorted(want)


def test_a_mirror_keeps_the_outside_out(tmp_path):
    """Corners, normals and tangents of a quad through a negative scale, and through an uneven one."""
    model = MeshModel(materials=[{"normalTexture": {"index": 0}}])
    model.texture(normals())
    mesh = model.mesh(model.quad(material=0))
    model.node(mesh=mesh, scale=[-1, 1, 1])
    model.node(mesh=mesh, rotation=[0, math.sin(0.4), 0, math.cos(0.4)], scale=[3, 1, 0.5])
    [part] = scene_of(model, tmp_path).parts
    t = part.triangles
    a, b, c = (t.positions[corner] for corner in t.corners.T)
    facing = meshes.unit(np.cross(b - a, c - a))
    np.testing.assert_allclose(t.normals[t.corners[:, 0]], facing, atol=1e-6)
    assert (t.tangents[:4, 3] == -1).all() and (t.tangents[4:, 3] == 1).all()
    np.testing.assert_allclose(t.tangents[:4, :3], [[-1, 0, 0]] * 4, atol=1e-6)
    np.testing.assert_allclose(t.tangents[4:, :3], [[math.cos(0.8), 0, -math.sin(0.8)]] * 4, atol=1e-6)


def test_normals_that_are_missing_are_flat(tmp_path):
    scene = one_mesh(tmp_path, indices=lambda model: model.accessor([0, 1, 2, 1, 4, 2], "u1"))
    t = scene.parts[0].triangles
    assert len(t.positions) == 6  # no vertex is shared
    np.testing.assert_allclose(t.normals[:3], [[0, 0, 1]] * 3)
    normal = np.cross(POINTS[4] - POINTS[1], POINTS[2] - POINTS[1])
    np.testing.assert_allclose(t.normals[3:], [normal / np.linalg.norm(normal)] * 3)


def test_tangents_of_mirrored_halves(tmp_path):
    """Two quads that share an edge, the right one with u running left: the edge's vertices are there twice."""
    model = MeshModel(materials=[{"normalTexture": {"index": 0}}])
    model.texture(normals())
    points = np.array([[x, y, 0] for x in (-1, 0, 1) for y in (1, -1)], float)
    uv = np.array([[u, v] for u in (0, 1, 0) for v in (0, 1)])
    attributes = {"POSITION": model.accessor(points), "NORMAL": model.accessor([[0, 0, 1]] * 6),
                  "TEXCOORD_0": model.accessor(uv)}  # fmt: skip
    indices = model.accessor([0, 1, 3, 0, 3, 2, 2, 3, 5, 2, 5, 4], "u1")
    model.node(mesh=model.mesh({"attributes": attributes, "indices": indices, "material": 0}))
    t = scene_of(model, tmp_path).parts[0].triangles
    assert len(t.positions) == 8
    for half, sign in ((t.corners[:2], 1), (t.corners[2:], -1)):
        np.testing.assert_allclose(t.tangents[half.reshape(-1)], [[sign, 0, 0, sign]] * 6, atol=1e-6)


def test_tangents_of_the_file_are_kept(tmp_path):
    model = MeshModel(materials=[{"normalTexture": {"index": 0}}])
    model.texture(normals())
    quad = model.quad(material=0)
    quad["attributes"]["TANGENT"] = model.accessor([[0.6, 0.8, 0, -1]] * 4)
    model.node(mesh=model.mesh(quad))
    tangents = scene_of(model, tmp_path).parts[0].triangles.tangents
    np.testing.assert_allclose(tangents, [[0.6, 0.8, 0, -1]] * 4, atol=1e-6)


def test_the_uv_set_and_transform_of_the_material(tmp_path):
    """Of the example in KHR_texture_transform: the lower left quarter of the image, turned."""
    transform = {"offset": [0, 1], "rotation": math.pi / 2, "scale": [0.5, 0.5], "texCoord": 1}
    info = {"index": 0, "extensions": {"KHR_texture_transform": transform}}
    model = MeshModel(materials=[{"pbrMetallicRoughness": {"baseColorTexture": info}}, {}])
    model.texture(pixels())
    quad = model.quad(material=0)
    quad["attributes"]["TEXCOORD_1"] = model.accessor([[0, 0], [0, 255], [255, 255], [255, 0]], "u1", normalized=True)
    lacking = model.quad(material=0)
    model.node(mesh=model.mesh(quad, lacking, model.quad(material=1), model.quad()))
    parts = scene_of(model, tmp_path).parts
    assert [(part.material, part.placed) for part in parts] == [(0, True), (0, False), (1, True), (None, True)]
    np.testing.assert_allclose(parts[0].triangles.uv, [[0, 1], [0.5, 1], [0.5, 0.5], [0, 0.5]], atol=1e-6)
    corner = Placement(0, (0.1, 0.2), 0.3, (2.0, 5.0)).moved(np.array([[1.0, 0.0], [0.0, 1.0]]))
    c, s = math.cos(0.3), math.sin(0.3)
    np.testing.assert_allclose(corner, [[0.1 + 2 * c, 0.2 - 2 * s], [0.1 + 5 * s, 0.2 + 5 * c]])


def test_what_is_not_shown_is_noted(tmp_path):
    model = MeshModel(skins=[{"joints": [0]}])
    points, quad = {"attributes": {"POSITION": model.accessor(POINTS)}, "mode": 0}, model.quad()
    quad["targets"] = [{"POSITION": model.accessor(POINTS[:4])}]
    quad["attributes"]["COLOR_0"] = model.accessor([[1, 0, 0]] * 4)
    model.node(mesh=model.mesh(points, quad), skin=0)
    scene = scene_of(model, tmp_path)
    assert scene.n_triangles == 2
    for word in ("skins", "points", "morph", "colours of vertices"):
        assert any(word in note for note in scene.notes), word


# --- files of strangers ----------------------------------------------------------------------------------------------


def edit(kind: str, index: int, **entry):
    return lambda document: document[kind][index].update(entry)


HOSTILE = {
    "offset before the buffer": (edit("bufferViews", 0, byteOffset=-4), "byteOffset: expected a whole number"),
    "view past the buffer": (edit("bufferViews", 0, byteLength=4000), "bytes inside of its buffer"),
    "accessor past the view": (edit("accessors", 0, count=6), "numbers inside of bufferViews[0]"),
    "a million rows": (edit("accessors", 0, count=10**6), "numbers inside of bufferViews[0]"),
    "more rows than there are": (edit("accessors", 0, count=10**12), "count: expected a whole number"),
    "no rows": (edit("accessors", 0, count=0), "count: expected a whole number"),
    "a stride of nothing": (edit("bufferViews", 0, byteStride=1), "byteStride: expected"),
    "an odd kind": (edit("accessors", 0, componentType=5130), "componentType: expected"),
    "a list as kind": (edit("accessors", 0, componentType=[5126]), "componentType: expected"),
    "positions of two": (edit("accessors", 0, type="VEC2"), "expected an accessor of type VEC3"),
    "indices of floats": (edit("accessors", 3, componentType=5126), "expected unsigned whole numbers"),
    "signed indices": (edit("accessors", 3, componentType=5122), "expected unsigned whole numbers"),
    "an index too high": (lambda document: document["meshes"][0]["primitives"][0].update(indices=4), "indices below 4"),
    "attributes of two lengths": (
        lambda document: document["meshes"][0]["primitives"][0]["attributes"].update(NORMAL=5), "of one count",
    ),
    "no position": (
        lambda document: document["meshes"][0]["primitives"][0].update(attributes={}), "index into accessors",
    ),
    "no such mesh": (edit("nodes", 0, mesh=7), "index into meshes"),
    "no such material": (
        lambda document: document["meshes"][0]["primitives"][0].update(material=3), "index into materials",
    ),
    "a circle": (edit("nodes", 1, children=[0]), "expected one parent"),
    "a node within itself": (edit("nodes", 0, children=[0]), "expected one parent"),
    "two parents": (lambda document: document["scenes"][0]["nodes"].append(1), "expected one parent"),
    "no such node": (edit("nodes", 0, children=[9]), "index into nodes"),
    "children that are none": (edit("nodes", 0, children=4), "expected a list of nodes"),
    "half a matrix": (edit("nodes", 0, matrix=[1.0] * 8), "matrix: expected 16 numbers"),
    "words for numbers": (edit("nodes", 0, translation=["a", 0, 0]), "translation: expected 3 numbers"),
    "a rotation of nothing": (edit("nodes", 0, rotation=[0, 0, 0, 0]), "quaternion"),
    "far away": (edit("nodes", 0, translation=[9e14, 9e14, 9e14], scale=[1e14, 1e14, 1e14]), "numbers below"),
    "no scene": (lambda document: document.pop("scenes"), "no scene"),
    "an empty scene": (lambda document: document["scenes"][0].update(nodes=[]), "no triangles"),
    "lists that are none": (lambda document: document.update(nodes={"0": 1}), "nodes: expected a list"),
    "Draco": (
        lambda document: document["meshes"][0]["primitives"][0].update(extensions={"KHR_draco_mesh_compression": {}}),
        "compressed with Draco",
    ),
    "meshopt": (edit("bufferViews", 0, extensions={"EXT_meshopt_compression": {}}), "compressed with meshopt"),
    "sparse rows past the end": (
        edit("accessors", 0, sparse={"count": 3, "indices": {"bufferView": 4, "componentType": 5121},
                                     "values": {"bufferView": 5}}), "indices that rise",
    ),
    "sparse rows that are none": (edit("accessors", 0, sparse=3), "sparse: count"),
}  # fmt: skip


@pytest.mark.parametrize("fault", [None, *HOSTILE])
def test_files_of_strangers(fault, tmp_path):
    model = MeshModel()
    mesh = model.mesh(model.quad())
    model.accessor([0, 1, 9], "u1")
    model.accessor([[0, 0, 1]] * 3)
    model.node(mesh=mesh, children=[1])
    model.node(False, name="below")
    change, said = HOSTILE[fault] if fault else (lambda document: None, "")
    change(model.document)
    if fault is None:
        assert scene_of(model, tmp_path).n_triangles == 2
        return
    with pytest.raises(UserError, match=r"m\.gltf") as caught:
        scene_of(model, tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_positions_that_are_no_numbers(tmp_path):
    for value in (np.nan, np.inf):
        points = POINTS[:3].copy()
        points[1, 1] = value
        with pytest.raises(UserError, match="POSITION: expected numbers below"):
            one_mesh(tmp_path, attributes=lambda model, points=points: {"POSITION": model.accessor(points)})


def test_large_scenes_are_refused_before_they_are_read(tmp_path, monkeypatch):
    """As often as nodes show it: a small file may ask for a large page."""
    monkeypatch.setattr(meshes, "MAX_TRIANGLES", 100)
    model = MeshModel()
    mesh = model.mesh(model.quad())
    for _ in range(50):
        model.node(mesh=mesh)
    assert scene_of(model, tmp_path).n_triangles == 100
    model.node(mesh=mesh)
    monkeypatch.setattr(meshes._Reader, "_triangles", None)
    with pytest.raises(UserError, match="at most 100 triangles in its scene, found 102"):
        scene_of(model, tmp_path)


def test_a_deep_tree(tmp_path):
    """5000 nodes below one another: no recursion ends."""
    model = MeshModel()
    mesh = model.mesh(model.quad())
    for index in range(5000):
        model.node(index == 0, children=[index + 1], translation=[0, 0, 1])
    model.node(False, mesh=mesh)
    assert scene_of(model, tmp_path).parts[0].triangles.positions[:, 2].tolist() == [5000] * 4
