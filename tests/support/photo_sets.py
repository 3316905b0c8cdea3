"""Photographs of a painted box by cameras with distortion, made without anything of deferred/photos.

OpenCV projects, a formula finds the box, and COLMAP's and NeRF's files are written by hand. The colours of a photograph
are uv coordinates.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage

HALF = np.array([1.0, 0.6, 0.8])  # half the box's sides
PLACE = np.array([30.0, -20.0, 7.0])  # of its middle in the world
MARGIN = 0.06  # of a face's cell of the texture
CELLS = np.array([3, 2])


def _turn() -> np.ndarray:
    matrix, _ = np.linalg.qr(np.array([[2.0, 1, 0], [-1, 3, 1], [0.5, -1, 2]]))
    return matrix * np.sign(np.linalg.det(matrix))


TURN = _turn()  # from the box's axes to the world's


@dataclass(frozen=True)
class Shot:
    """A camera. model: OPENCV or OPENCV_FISHEYE; terms: its distortion in OpenCV's order."""

    name: str
    width: int
    height: int
    focal: tuple[float, float]
    centre: tuple[float, float]
    terms: tuple[float, float, float, float]
    position: np.ndarray
    model: str = "OPENCV"

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3): columns are the camera's right, down and forward in the world; it looks a little past the box."""
        forward = PLACE + (0.1, -0.05, 0.08) - self.position
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.1, 0.2, 1.0))
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward], axis=1)

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) pixels of (N, 3) points of the world, by OpenCV."""
        turn = self.rotation.T
        matrix = np.array([[self.focal[0], 0, self.centre[0]], [0, self.focal[1], self.centre[1]], [0, 0, 1]])
        turned = cv2.Rodrigues(turn)[0], turn @ -self.position
        if self.model == "OPENCV_FISHEYE":
            found = cv2.fisheye.projectPoints(points[:, None], *turned, matrix, np.array(self.terms))[0]
        else:
            found = cv2.projectPoints(points[:, None], *turned, matrix, np.array(self.terms))[0]
        return found[:, 0]

    def rays(self) -> np.ndarray:
        """(H * W, 3) directions in the world through the pixel centres: what `project` takes back to them."""
        y, x = np.mgrid[: self.height, : self.width] + 0.5
        target = np.stack([x, y], axis=2).reshape(-1, 2)
        plane = (target - self.centre) / self.focal
        for _ in range(20):
            directions = np.concatenate([plane, np.ones((len(plane), 1))], axis=1) @ self.rotation.T
            plane = plane - (self.project(self.position + directions) - target) / self.focal
        return directions

    @functools.cached_property
    def uv(self) -> np.ndarray:
        """(H, W, 2): the box's uv coordinates, v down, NaN beside it."""
        rays, origin = self.rays() @ TURN, (self.position - PLACE) @ TURN
        with np.errstate(divide="ignore"):
            sides = np.stack([(sign * HALF - origin) / rays for sign in (-1, 1)])
        enter, leave = sides.min(axis=0), sides.max(axis=0)
        distance = enter.max(axis=1)
        hit = (distance < leave.min(axis=1)) & (distance > 0)
        axis = enter.argmax(axis=1)
        points = origin + distance[:, None] * rays
        uv = np.full((len(rays), 2), np.nan)
        for face in range(6):
            normal, across, up = _face(face)
            mine = hit & (axis == face % 3) & (np.sign(points @ normal) > 0)
            axes = np.stack([across, up], axis=1)
            uv[mine] = face_uv(face, 0.5 + 0.5 * (points[mine] @ axes) / (HALF @ np.abs(axes)))
        return uv.reshape(self.height, self.width, 2)


def _face(face: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outward normal of a face of the box, and the directions of its u, and of up in the texture."""
    axes, sign = np.eye(3), 1.0 if face < 3 else -1.0
    return sign * axes[face % 3], axes[(face + 1) % 3], sign * axes[(face + 2) % 3]


def face_uv(face: int, place: np.ndarray) -> np.ndarray:
    """uv, v down, of (N, 2) places of a face, 0 to 1 along its u and upwards."""
    up = (np.array([face % 3, face // 3]) + MARGIN + (1 - 2 * MARGIN) * place) / CELLS
    return np.stack([up[:, 0], 1 - up[:, 1]], axis=1)


def surface(uv: np.ndarray) -> np.ndarray:
    """(N, 3) points of the world from (N, 2) uv, v down: the inverse of the unwrapping."""
    up = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1) * CELLS
    cell = np.floor(up).clip(0, CELLS - 1).astype(int)
    place = 2 * ((up - cell) - MARGIN) / (1 - 2 * MARGIN) - 1
    points = np.empty((len(uv), 3))
    for face in range(6):
        normal, across, up_way = _face(face)
        mine = (cell[:, 0] == face % 3) & (cell[:, 1] == face // 3)
        points[mine] = normal + place[mine, :1] * across + place[mine, 1:] * up_way
    return points * HALF @ TURN.T + PLACE


# --- files ---------------------------------------------------------------------------------------------------------


def corners() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The box as vertices (24, 3) in the world, uv (24, 2) with v up, and triangles (12, 3) wound outwards."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    uv = np.concatenate([face_uv(face, square) for face in range(6)])
    triangles = [[4 * face + k for k in part] for face in range(6) for part in ((0, 1, 2), (0, 2, 3))]
    return surface(uv), np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1), np.array(triangles)


def write_obj(path: Path) -> Path:
    vertices, uv, triangles = corners()
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices] + [f"vt {u:.9g} {v:.9g}" for u, v in uv]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in triangle) for triangle in triangles]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_ply(path: Path, wedges: bool) -> Path:
    """wedges: uv for each corner of each face, as MeshLab writes them, else s and t of vertices."""
    vertices, uv, triangles = corners()
    head = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}", *(f"property float {c}" for c in "xyz")]
    head += [] if wedges else ["property float s", "property float t"]
    head += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    head += ["property list uchar float texcoord"] if wedges else []
    lines = [" ".join(f"{v:.9g}" for v in (*p, *([] if wedges else t))) for p, t in zip(vertices, uv)]
    for triangle in triangles:
        more = f" 6 {' '.join(f'{v:.9g}' for v in uv[triangle].ravel())}" if wedges else ""
        lines.append(f"3 {' '.join(map(str, triangle))}{more}")
    path.write_text("\n".join([*head, "end_header", *lines]) + "\n")
    return path


def write_glb(path: Path) -> Path:
    import trimesh

    vertices, uv, triangles = corners()
    visual = trimesh.visual.TextureVisuals(uv=uv)
    path.write_bytes(trimesh.Trimesh(vertices, triangles, visual=visual, process=False).export(file_type="glb"))
    return path


def shots(count: int = 8, width: int = 64, height: int = 40) -> list[Shot]:
    """Cameras around the box; every third is a fisheye, and all have a principal point that is not in the middle."""
    random = np.random.default_rng(5)
    found = []
    for index in range(count):
        away = random.normal(size=3)
        position = PLACE + (2.6 + 0.8 * random.random()) * away / np.linalg.norm(away)
        fisheye = index % 3 == 2
        focal = (0.62 * width, 0.6 * width) if fisheye else (0.9 * width, 0.88 * width)
        terms = (0.05, -0.02, 0.003, 0.0) if fisheye else (-0.18, 0.05, 0.004, -0.003)
        name = f"day{index // 4}/img_{index:02d}.png"
        found.append(Shot(name, width, height, focal, (0.47 * width, 0.54 * height), terms, position,
                          "OPENCV_FISHEYE" if fisheye else "OPENCV"))  # fmt: skip
    return found


def write_photos(folder: Path, taken: list[Shot]) -> Path:
    """A 16-bit PNG of each: red is u, green is v, blue 1 beside the box."""
    for shot in taken:
        uv = shot.uv
        colours = np.concatenate([np.nan_to_num(uv), np.isnan(uv[..., :1])], axis=2)
        path = folder / shot.name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.round(colours[..., ::-1] * 65535).astype(np.uint16))
    return folder


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """(w, x, y, z) of a rotation, from the eigenvector of its Davenport matrix (Bar-Itzhack 2000)."""
    m = matrix
    k = np.array([
        [m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
        [0, m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
        [0, 0, m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
        [0, 0, 0, m.trace()],
    ])  # fmt: skip
    x, y, z, w = np.linalg.eigh((k + np.triu(k, 1).T) / 3)[1][:, 3]
    return np.array([w, x, y, z])


def write_colmap_text(folder: Path, taken: list[Shot]) -> Path:
    """cameras.txt, images.txt and points3D.txt after COLMAP's documentation, by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras, images = ["# Camera list"], ["# Image list"]
    for number, shot in enumerate(taken, 1):
        params = " ".join(f"{v!r}" for v in map(float, (*shot.focal, *shot.centre, *shot.terms)))
        cameras.append(f"{number} {shot.model} {shot.width} {shot.height} {params}")
        turn = shot.rotation.T
        pose = " ".join(f"{v!r}" for v in map(float, (*quaternion(turn), *(turn @ -shot.position))))
        images += [f"{number} {pose} {number} {shot.name}", "10.5 12.5 -1"]
    for name, lines in (("cameras", cameras), ("images", images), ("points3D", ["# 3D point list"])):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_transforms(path: Path, taken: list[Shot], **more: object) -> Path:
    """A transforms.json with intrinsics for each frame, in nerfstudio's layout, by hand; `more`: other keys of it."""
    frames = []
    for shot in taken:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = shot.rotation * (1, -1, -1), shot.position
        keys = ("k1", "k2", "k3", "k4") if shot.model == "OPENCV_FISHEYE" else ("k1", "k2", "p1", "p2")
        frames.append({
            "file_path": f"./{shot.name}", "transform_matrix": pose.tolist(), "camera_model": shot.model,
            "w": shot.width, "h": shot.height, "fl_x": shot.focal[0], "fl_y": shot.focal[1], "cx": shot.centre[0],
            "cy": shot.centre[1], **dict(zip(keys, shot.terms)),
        })  # fmt: skip
    path.write_text(json.dumps({"frames": frames, **more}))
    return path


def write_mask(path: Path, shown: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(shown.astype(np.uint8) * 255).save(path)
