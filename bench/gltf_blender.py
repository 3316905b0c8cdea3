"""Cycles' picture of a model from each camera: what bench/gltf_work.py starts with a Python that has bpy.

    PYTHON bench/gltf_blender.py VIEW.json        what render() takes
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

MASK_SAMPLES = 4


def render(view: dict[str, Any]) -> None:
    """Write <prefix><camera>_<seed>.png for the models of `view`, and mask_<camera>.png, opaque where the first one is.

    Args:
        view: models (path -> [prefix, seeds]), mask (a prefix); cameras ([x, y, z, distance in radii] in glTF's axes),
            degrees, sun, size, samples, threads (0: all), seconds of animations.
    """
    import bpy

    around, first = None, True
    for path, (prefix, seeds) in view["models"].items():
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.ops.import_scene.gltf(filepath=path)
        scene = bpy.context.scene
        scene.frame_set(round(view["seconds"] * scene.render.fps))
        for other in [each for each in scene.objects if each.type in ("CAMERA", "LIGHT")]:
            bpy.data.objects.remove(other)
        around = around or sphere_of(scene)  # of the first, so that all are seen from the same places
        centre, radius = around
        ground = light(scene, view, centre, radius)
        settings(scene, view)
        for number, (*direction, away) in enumerate(view["cameras"]):
            back = blender_axes(direction).normalized()
            eye = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
            eye.data.angle, eye.data.clip_start = math.radians(view["degrees"]), 0.01 * radius
            eye.data.clip_end = 10 * radius
            eye.location, eye.rotation_euler = centre + back * away * radius, back.to_track_quat("Z", "Y").to_euler()
            scene.collection.objects.link(eye)
            scene.camera = eye
            for seed in seeds:
                scene.cycles.seed = seed
                picture(scene, f"{prefix}{number}_{seed}.png")
            if first:
                ground.hide_render = scene.render.film_transparent = True
                scene.cycles.samples = MASK_SAMPLES
                picture(scene, f"{view['mask']}{number}.png", "RGBA")
                ground.hide_render = scene.render.film_transparent = False
                scene.cycles.samples = view["samples"]
        first = False


def picture(scene: Any, path: str, channels: str = "RGB") -> None:
    """Render a PNG file."""
    import bpy

    scene.render.filepath, scene.render.image_settings.color_mode = path, channels
    bpy.ops.render.render(write_still=True)


def blender_axes(direction: list[float]) -> Any:
    """A direction of glTF (y up) in Blender (z up)."""
    from mathutils import Vector

    x, y, z = direction
    return Vector((x, -z, y))


def sphere_of(scene: Any) -> tuple[Any, float]:
    """(centre, radius) of the sphere around the box of all meshes."""
    from mathutils import Vector

    corners = [each.matrix_world @ Vector(corner) for each in scene.objects if each.type == "MESH"
               for corner in each.bound_box]  # fmt: skip
    low, high = (Vector([pick(corner[axis] for corner in corners) for axis in range(3)]) for pick in (min, max))
    return (low + high) / 2, (high - low).length / 2


def light(scene: Any, view: dict[str, Any], centre: Any, radius: float) -> Any:
    """A sun, a grey sky, and a ground below the model, which is returned."""
    import bpy
    from mathutils import Vector

    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.data.angle = 3.0, 0.01
    sun.rotation_euler = blender_axes(view["sun"]).to_track_quat("Z", "Y").to_euler()
    scene.collection.objects.link(sun)
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.4, 0.45, 0.5, 1.0)
    scene.world = world
    bottom = min((each.matrix_world @ Vector(corner)).z for each in scene.objects if each.type == "MESH"
                 for corner in each.bound_box)  # fmt: skip
    bpy.ops.mesh.primitive_circle_add(
        radius=1.5 * radius, fill_type="NGON", location=(centre.x, centre.y, bottom - 0.01 * radius)
    )
    return bpy.context.object


def settings(scene: Any, view: dict[str, Any]) -> None:
    """Cycles on the CPU, as many samples everywhere, nothing smoothed, nothing dithered, plain sRGB."""
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples = "CPU", view["samples"]
    scene.cycles.use_denoising = scene.cycles.use_adaptive_sampling = False
    scene.render.resolution_x = scene.render.resolution_y = view["size"]
    scene.render.resolution_percentage = 100
    scene.render.dither_intensity = 0.0
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "PNG"
    if view["threads"]:
        scene.render.threads_mode, scene.render.threads = "FIXED", view["threads"]


def main() -> int:
    """The command; see --help. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Render models with Cycles.")
    parser.add_argument("view", help="JSON file that says what to render")
    render(json.loads(Path(parser.parse_args().view).read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
