"""prepare.py: cameras, the sphere, meshes and their ray casters, and the files that come out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deferred.dataset.frames import FrameSet, list_ids
from deferred.meshes import Mesh, TextureAlbedo, load_mesh, torus
from deferred.prepare import main, make_options, prepare
from deferred.raycast import MeshGeometry, intersect
from deferred.scene import Camera, Light, Sphere, camera_positions, render_view, sample_albedo, turn_upright
from tests.support.deferred_views import sphere_folder

CAMERA = Camera(np.array([1.2, 1.5, 2.3]), math.radians(40), 21, 32)


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


def test_camera_looks_at_the_origin_and_is_upright():
    axes = CAMERA.axes
    assert np.allclose(axes @ axes.T, np.eye(3)) and np.linalg.det(axes) == pytest.approx(1)
    assert axes[1, 1] > 0 and axes[0, 1] == pytest.approx(0)
    rays = CAMERA.rays()
    assert np.allclose(rays[10, 15] + rays[10, 16], 2 * rays[10, 15:17].mean(axis=0))
    middle = rays[10, 15:17].mean(axis=0)
    assert np.allclose(middle / np.linalg.norm(middle), -unit(*CAMERA.position))
    assert (rays[0, 0] @ axes[1]) > 0 > (rays[20, 0] @ axes[1]) and (rays[0, 31] @ axes[0]) > 0  # row 0 is the top
    top = Camera(np.array([0.0, 3.0, 0.0]), 0.5, 4, 4).axes  # straight from above: any right will do, but a unit one
    assert np.allclose(top @ top.T, np.eye(3))


def test_another_way_up(wall):
    """--up z: elevations are above the plane of x and y, and directions stay those of the mesh's own axes."""
    given = {"mesh": str(wall / "wall.obj"), "texture": str(wall / "wall.png"), "frames": 4, "out": "x"}
    turned = {"path": "orbit", "up": "0,0,1", "elevation": "30, 30"}
    prepare(make_options({**given, **turned}), wall / "views", lambda _: None)
    away = np.array([np.load(wall / "views" / "extrinsics" / f"{number:04d}.npy") for number in range(4)])
    assert np.allclose(away[:, 2], 0.5, atol=1e-6) and np.allclose(away.sum(axis=0)[:2], 0, atol=1e-6)
    for up in ((0.6, 0.0, 0.8), (0.0, -1.0, 0.0), (0.0, 1.0, 0.0)):
        turn = turn_upright(np.array(up))
        assert np.allclose(turn @ turn.T, np.eye(3)) and np.allclose(turn @ (0, 1, 0), up) and np.linalg.det(turn) > 0
        axes = Camera(turn @ CAMERA.position, 1.0, 4, 4, up).axes
        assert np.allclose(axes, CAMERA.axes @ turn.T)  # the same view, turned with its object


def test_a_mesh_without_a_texture_gives_views_to_render(wall, refused):
    given = {"mesh": str(wall / "wall.obj"), "texture": "none", "frames": 2, "out": "x"}
    prepare(make_options(given), wall / "views", lambda _: None)
    frames = FrameSet(wall / "views", [0, 1], with_images=False)
    assert frames.load(0).image is None and frames.load(0).mask.any() and not (wall / "views" / "frame").exists()
    with refused("--out", "without frames"):
        prepare(make_options(given), sphere_folder(), lambda _: None)


def test_sphere_is_where_its_formula_says():
    hits = Sphere().trace(CAMERA)
    mask = np.isfinite(hits.uv[..., 0])
    assert mask[10, 15] and not mask[0, 0]
    points, uv = hits.points[mask], hits.uv[mask]
    assert np.allclose(np.linalg.norm(points, axis=1), 1) and np.array_equal(hits.normals[mask], points)
    back = np.stack([np.sin(2 * np.pi * uv[:, 0]) * np.sin(np.pi * uv[:, 1]), np.cos(np.pi * uv[:, 1]),
                     np.cos(2 * np.pi * uv[:, 0]) * np.sin(np.pi * uv[:, 1])], axis=1)  # fmt: skip
    assert np.allclose(back, points) and ((uv >= 0) & (uv <= 1)).all()
    assert ((CAMERA.position - points) * points).sum(axis=1).min() > 0  # the near side


def test_light():
    light = Light(unit(0, 1, 0), ambient=0.2, diffuse=0.5, specular=0.25, exponent=2)
    albedo = np.array([[0.4, 0.2, 0.6]])
    up, side, down = unit(0, 1, 0)[None], unit(1, 0, 0)[None], unit(0, -1, 0)[None]
    assert light.shade(albedo, up, up) == pytest.approx(albedo * 0.7 + 0.25)  # the mirrored light meets the camera
    assert light.shade(albedo, up, unit(1, 1, 0)[None]) == pytest.approx(albedo * 0.7 + 0.25 * 0.5)
    assert light.shade(albedo, side, side) == pytest.approx(albedo * 0.2)
    assert light.shade(albedo, down, down) == pytest.approx(albedo * 0.2)


def nearest_by_hand(mesh: Mesh, camera: Camera) -> np.ndarray:
    """Every ray against every triangle."""
    rays = camera.rays().reshape(-1, 3)
    corners = mesh.vertices[mesh.triangles]
    found = np.full(len(rays), -1)
    for index, ray in enumerate(rays):
        distance, weights = intersect(corners, camera.position, np.broadcast_to(ray, (len(corners), 3)))
        hit = (weights >= -1e-9).all(axis=1) & (distance > 0)
        if hit.any():
            found[index] = np.argmin(np.where(hit, distance, np.inf))
    return found.reshape(camera.height, camera.width)


def test_own_ray_caster_finds_the_nearest_triangle(monkeypatch):
    mesh = torus(12, 8)
    expected = nearest_by_hand(mesh, CAMERA)
    assert 0.2 < (expected >= 0).mean() < 0.9
    for candidates in (1 << 20, 300):  # at once, and in many parts
        monkeypatch.setattr("deferred.raycast.CANDIDATES", candidates)
        from deferred.raycast import first_triangles

        found = first_triangles(mesh, CAMERA.position, CAMERA.rays().reshape(-1, 3))
        assert np.array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("place", [(0.65, 0, 0), (0.5, 0.1, 0.3), (0, 0.02, 0), (0.01, 0.8, 0.0)])
def test_casters_find_what_is_all_around(place):
    """From inside the tube, through the hole, and above it, in every direction, and without a ray here and there."""
    mesh, random = torus(12, 8), np.random.default_rng(3)
    rays = random.normal(size=(700, 3))
    rays[::50] = np.nan
    corners, expected = mesh.vertices[mesh.triangles], []
    for ray in rays:
        distance, weights = intersect(corners, np.array(place), np.broadcast_to(ray, (len(corners), 3)))
        hit = (weights >= -1e-9).all(axis=1) & (distance > 0)
        expected.append(np.argmin(np.where(hit, distance, np.inf)) if hit.any() else -1)
    assert np.mean(np.array(expected) >= 0) > 0.15
    for caster in ("own", "auto"):
        found = MeshGeometry(mesh, caster).cast(np.array(place), rays)
        assert (found.triangles == expected).mean() > (0.999 if caster == "own" else 0.99)
        assert np.isnan(found.distance[::50]).all() and (found.triangles[::50] == -1).all()


def test_embree_is_exact_far_from_the_origin():
    """Georeferenced meshes lie millions of metres away, where float32 has steps of half a metre."""
    far = np.array([4_000_000.0, 500_000.0, 100.0])
    near = torus(24, 12)
    there = Mesh(near.vertices + far, near.normals, near.uv, near.triangles)
    rays = CAMERA.rays().reshape(-1, 3)
    expected = MeshGeometry(near).cast(CAMERA.position, rays)
    found = MeshGeometry(there).cast(CAMERA.position + far, rays)
    assert (expected.triangles == found.triangles).mean() > 0.99
    both = (expected.triangles == found.triangles) & (found.triangles >= 0)
    assert np.abs(expected.distance - found.distance)[both].max() < 1e-6


def test_embree_finds_the_same():
    pytest.importorskip("embreex", reason="embreex is not installed")
    own, embree = (MeshGeometry(torus(), caster).trace(CAMERA) for caster in ("own", "embree"))
    same = np.isfinite(own.uv[..., 0]) == np.isfinite(embree.uv[..., 0])
    assert same.mean() > 0.99  # a ray along the outline may go either way in float32
    both = np.isfinite(own.uv[..., 0]) & np.isfinite(embree.uv[..., 0])
    assert np.quantile(np.abs(own.points - embree.points)[both], 0.98) < 1e-5


def test_mesh_surface_is_interpolated():
    """A fine torus: points lie on the formula's surface, uv gives the point back, normals point away from the tube."""
    hits = MeshGeometry(torus(192, 96), "own").trace(CAMERA)
    mask = np.isfinite(hits.uv[..., 0])
    points, uv, normals = hits.points[mask], hits.uv[mask], hits.normals[mask]
    around, tube = 2 * np.pi * uv.T
    radius = 0.65 + 0.35 * np.cos(tube)
    expected = np.stack([radius * np.sin(around), 0.35 * np.sin(tube), radius * np.cos(around)], axis=1)
    assert np.abs(points - expected).max() < 2e-3
    centre = np.stack([0.65 * np.sin(around), 0 * tube, 0.65 * np.cos(around)], axis=1)
    assert np.abs(normals - (points - centre) / 0.35).max() < 2e-2
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)


def test_texture_lookups_repeat():
    pixels = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [255, 255, 0]]], np.uint8)
    albedo = TextureAlbedo(pixels)
    uv = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.0, 0.25], [1.25, -0.25]])
    expected = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.5, 0, 0], [0, 1, 0]]
    assert np.allclose(albedo(uv), expected)


OBJ = """v 0 0 0\nv 4 0 0\nv 4 2 0\nv 0 2 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"""


@pytest.fixture
def wall(tmp_path):
    """A wall of 4 x 2 in an .obj file, and a picture for it with a red top and a blue bottom."""
    pytest.importorskip("trimesh", reason="trimesh is not installed")
    from PIL import Image as PillowImage

    (tmp_path / "wall.obj").write_text(OBJ)
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :, 0] = pixels[4:, :, 2] = 200
    PillowImage.fromarray(pixels).save(tmp_path / "wall.png")
    return tmp_path


def test_mesh_file_is_loaded_upright(wall):
    mesh, texture = load_mesh(wall / "wall.obj")
    assert texture is None and len(mesh.triangles) == 2
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < 1e-6  # all are corners: on the unit sphere
    given = ["--mesh", str(wall / "wall.obj"), "--texture", str(wall / "wall.png"), "--out", str(wall / "views")]
    more = [
        "--frames",
        "3",
        "--width",
        "40",
        "--height",
        "24",
        "--elevation",
        "0,0",
        "--path",
        "orbit",
        "--light",
        "0,0,1",
    ]
    assert main([*given, *more]) == 0
    frame = FrameSet(wall / "views", [0]).load(0)
    rows = np.flatnonzero(frame.mask.any(axis=1))
    top, bottom = (frame.image[row][frame.mask[row]].mean(axis=0) for row in (rows[1], rows[-2]))
    assert top[0] > 2 * top[2] and bottom[2] > 2 * bottom[0]
    assert frame.uv[rows[0]][frame.mask[rows[0]]][:, 1].max() < 0.2  # v counts down from the top
    left = frame.uv[rows[3]][frame.mask[rows[3]]][:, 0]
    assert (np.diff(left) > 0).all()  # seen from the front u goes to the right


def test_mesh_errors(wall, refused):
    with refused("--mesh", "no such file"):
        load_mesh(wall / "none.obj")
    with refused("--mesh", "--texture"):
        prepare(make_options({"mesh": str(wall / "wall.obj"), "out": "x"}), wall / "out")
    (wall / "bare.obj").write_text("\n".join(line.split("/")[0] for line in ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",)))
    with refused("--mesh", "uv"):
        load_mesh(wall / "bare.obj")
    (wall / "broken.glb").write_bytes(b"glTF nothing")
    with refused("--mesh", "broken.glb"):
        load_mesh(wall / "broken.glb")


def test_files_of_the_sphere(tmp_path):
    folder = sphere_folder()
    assert list_ids(folder) == list(range(14))
    frame = FrameSet(folder, [3]).load(3)
    assert 0.4 < frame.mask.mean() < 0.7 and not frame.image[~frame.mask].any() and frame.direction.shape == (1, 1, 3)
    per_pixel = FrameSet(sphere_folder(2, 20, 12, True), [1]).load(1)
    assert per_pixel.size == (12, 20) and per_pixel.direction.shape == (12, 20, 3)
    raw = np.load(folder / "uv" / "0003.npy")
    assert raw.dtype == np.uint16 and (raw[~frame.mask] == 65535).all() and raw[frame.mask].max() <= 65534
    prepare(
        make_options({"out": "x", "frames": 2, "width": 20, "height": 12, "per_pixel": True}), tmp_path, lambda _: None
    )
    for kind, name in (("frame", "0001.png"), ("uv", "0001.npy"), ("extrinsics", "0001.npy")):
        there = sphere_folder(2, 20, 12, True) / kind / name
        assert (tmp_path / kind / name).read_bytes() == there.read_bytes()  # the same seed, the same files


def test_positions():
    low, high = math.radians(-10), math.radians(60)
    random = np.random.default_rng(0)
    free = np.array(list(camera_positions("random", 200, 3.0, (low, high), 1, random)))
    orbit = np.array(list(camera_positions("orbit", 8, 3.0, (low, high), 1, random)))
    for positions in (free, orbit):
        assert np.allclose(np.linalg.norm(positions, axis=1), 3)
        elevation = np.arcsin(positions[:, 1] / 3)
        assert elevation.min() >= low - 1e-9 and elevation.max() <= high + 1e-9
    assert np.allclose(np.arctan2(orbit[:, 0], orbit[:, 2]) % (2 * np.pi), np.arange(8) * np.pi / 4)


@pytest.mark.parametrize(
    "given",
    [
        {"elevation": "60, 10"},
        {"elevation": "0"},
        {"light": "0,0,0"},
        {"up": "0,0,0"},
        {"mesh_transform": "[[1,0,0,0],[0,1,0,0],[0,0,1,0]]"},
        {"texture": "a.png"},
        {"width": 0},
        {"path": "line"},
    ],
)
def test_bad_options(given, refused, tmp_path):
    with refused(f"--{next(iter(given))}"):
        prepare(make_options({**given, "out": "x"}), tmp_path, lambda _: None)


def test_other_views_do_not_go_into_the_sample(refused):
    with refused("--out"):
        make_options({"exponent": 40.0})
    assert make_options({}) == make_options({"scene": "sphere"})


def test_a_view_is_black_where_nothing_is():
    image, uv, to_camera = render_view(Sphere(), sample_albedo, Light(unit(0, 1, 1)), CAMERA)
    outside = np.isnan(uv[..., 0])
    assert not image[outside].any() and np.isnan(to_camera[outside]).all() and (image[~outside] > 0).all()
    assert np.allclose(np.linalg.norm(to_camera[~outside], axis=1), 1, atol=1e-6)
