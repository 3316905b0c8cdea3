"""The sample material in data/test: an old brick wall with iron fixings, all seven maps.

Heights come first: bricks, mortar, moss and metal parts make one height field. Normals and ambient occlusion are
derived from it; colour, roughness, metalness and specular are laid on in layers (`Surface.cover`), each layer through
one mask, so that the maps agree with each other the way scanned maps do.

Colours are blended as sRGB values, the way they are picked, and stored as such.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.canvas import TILE, Canvas, gradient, normals, occlusion, ramp

BRICKS_IN_COURSE = (4, 4, 4, 8, 4, 4, 4, 4, 4, 8, 4, 4)  # English garden wall bond: 8 is a course of headers
COURSE, JOINT = TILE / len(BRICKS_IN_COURSE), 11.0  # height of a course; thickness of the mortar between bricks
HEIGHT_RANGE = (-16.0, 24.0)  # tile units; displacement 0 and 1
PLATE = (712.0, 300.0, 158.0, 104.0)  # centre x, y, half width, half height
BOSS = (236.0, 716.0, 96.0)  # centre x, y, radius of the cast-iron tie plate
PIPE = (446.0, 13.0)  # centre x, radius


class Surface:
    """The maps under construction: height in tile units, albedo sRGB 0..1, the others 0..1."""

    def __init__(self, height: np.ndarray) -> None:
        self.height = height
        self.albedo = np.zeros((*height.shape, 3), np.float32)
        self.roughness, self.metallic, self.specular = (np.zeros_like(height) for _ in range(3))

    def cover(self, mask: np.ndarray, albedo, roughness, metallic=0.0, specular=0.5) -> None:
        """Lay one material over the rest: `mask` 0..1 is its coverage; the others are numbers, colours or maps."""
        self.albedo += mask[..., None] * (albedo - self.albedo)
        for image, value in ((self.roughness, roughness), (self.metallic, metallic), (self.specular, specular)):
            image += mask * (value - image)

    def tint(self, mask: np.ndarray, factor) -> None:
        """Multiply the albedo by `factor` (number or colour) where `mask` (0..1) is 1: thin stains."""
        self.albedo *= 1 + mask[..., None] * (np.asarray(factor, np.float32) - 1)


def rounded_box(x: np.ndarray, y: np.ndarray, half_x, half_y, corner: float) -> np.ndarray:
    """Distance to a box with rounded corners, tile units, positive inside."""
    qx, qy = np.abs(x) - half_x + corner, np.abs(y) - half_y + corner
    return corner - np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) - np.minimum(np.maximum(qx, qy), 0)


def lay_bricks(canvas: Canvas) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Place every brick with its own size, turn and shift.

    Returns: distance inside the brick's outline (tile units, negative in the joint), the position x and y within
    the brick (-1..1), brick number (int).
    """
    counts = np.array(BRICKS_IN_COURSE)
    rng, total = canvas.rng("bricks"), counts.sum()
    row = np.floor(canvas.y / COURSE).astype(int)
    pitch = (TILE / counts)[row]
    stagger = np.where(counts == 8, TILE / 16, np.arange(len(counts)) % 2 * (TILE / 8))  # no joint above a joint
    stagger = stagger + rng.uniform(-9, 9, len(counts))
    x = (canvas.x + stagger[row]) % TILE
    column = np.floor(x / pitch).astype(int)
    brick = (np.cumsum(counts) - counts)[row] + column
    shift_x, shift_y, turn = rng.uniform(-2.5, 2.5, total), rng.uniform(-1.8, 1.8, total), rng.normal(0, 0.008, total)
    local_x = x - (column + 0.5) * pitch - shift_x[brick]
    local_y = canvas.y - (row + 0.5) * COURSE - shift_y[brick] + local_x * turn[brick]
    half_x, half_y = ((room - JOINT) / 2 - rng.uniform(0, cut, total)[brick] for room, cut in ((pitch, 4), (COURSE, 2)))
    # The outline is bent after it is placed: bending the grid itself would cut bricks at the middle of the joint.
    inside = rounded_box(local_x + canvas.noise("outline x", 8, 100, 1.0),
                         local_y + canvas.noise("outline y", 8, 100, 1.0), half_x, half_y, 4.0)
    return tuple(np.asarray(a, np.float32) for a in (inside, local_x / half_x, local_y / half_y)) + (brick,)


def build_wall(canvas: Canvas) -> tuple[Surface, dict[str, np.ndarray]]:
    """Bricks and mortar.

    Returns: the surface; for later layers "inside", the distance within a brick (tile units, negative on mortar),
    "worn", damage 0..1, and the noises "fine" and "sand" (deviation 1), so that what lies on a brick follows it.
    """
    inside, local_x, local_y, brick = lay_bricks(canvas)
    rng, total = canvas.rng("brick looks"), brick.max() + 1

    def per_brick(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, total).astype(np.float32)[brick]

    fine, broad = canvas.noise("rough", 20, 260, 0.9), canvas.noise("broad", 3, 40, 1.3)
    grain, sand = canvas.noise("grain", 120, 480, 0.2), canvas.noise("sand", 60, 420, 0.25)
    # Chips eat into the outline where a coarse noise is high, more so on worn bricks.
    chip = 16 * ramp(1.1, 2.4, canvas.noise("chips", 9, 80, 1.2) + per_brick(-0.5, 0.6))
    edge = inside - chip - 1.6 * ramp(0.2, 1.8, fine)
    spall = ramp(1.55, 1.75, canvas.noise("spall", 5, 130, 1.2) + per_brick(-1.2, 0.75)) * ramp(0, 5, edge)
    f1, _, hole = canvas.cells("pores", 72, 2.0)
    pores = ramp(0.2, 1.6, 18 * (hole - 0.74) - f1) * (1 - spall)
    f1, f2, _ = canvas.cells("cracks", 9, 9.0)
    crack = ramp(1.7, 0.4, f2 - f1) * (per_brick(0, 1) > 0.72) * ramp(-0.3, 0.4, broad)
    face = per_brick(-1.6, 1.6) + per_brick(-1.3, 1.3) * local_x + per_brick(-0.8, 0.8) * local_y
    drag = canvas.noise("drag marks", 24, 200, 0.6, tall=0.22)  # the wire that cut the clay leaves lines along it
    face = face + 0.5 * broad + 0.42 * fine + 0.08 * grain + 0.16 * drag - spall * (3.6 + 0.8 * fine)
    brick_height = face - 7.5 * np.clip(1 - edge / 7, 0, 4) ** 1.7 - 1.5 * pores - 2.6 * crack

    f1, _, stone = canvas.cells("aggregate", 150, 0.6)
    stones = ramp(0, 2.2, 3.6 * stone - f1)
    smear = ramp(0.7, 2.4, canvas.noise("smear", 4, 60, 1.1))
    mortar_height = 1.5 * canvas.noise("mortar", 5, 60, 1.0) + 7.4 * smear - 8.2
    mortar_height += 0.6 * fine + 0.16 * grain + 0.8 * stones
    is_brick = ramp(-0.35, 0.35, brick_height - mortar_height)
    wall = Surface(np.maximum(brick_height, mortar_height))
    tone = 0.45 + 0.13 * broad + 0.1 * sand + 0.1 * smear + 0.36 * stones * (stone - 0.55)
    wall.cover(np.ones_like(tone), gradient(("5d554b", "8d8476", "aea392", "cdc4b2"), tone), 0.9 + 0.03 * sand, 0, 0.4)
    fire = canvas.noise("kiln flash", 2, 30, 1.4)  # uneven firing: dark, purplish zones across a brick
    tone = per_brick(0.08, 0.92) + 0.10 * fire + 0.05 * fine + 0.035 * sand
    body = gradient(("4f2b26", "74382b", "8f4a35", "a45c40", "b5774f", "c0946b"), tone)
    speck = canvas.cells("specks", 190, 0.8)[2]
    body *= (per_brick(0.95, 1.05) + 0.035 * sand - 0.28 * (speck > 0.955) + 0.16 * (speck < 0.03))[..., None]
    gloss = per_brick(-1, 1)  # the harder a brick was fired, the smoother it is
    wall.cover(is_brick, body, 0.8 - 0.05 * gloss + 0.03 * fine + 0.02 * sand, 0, 0.49 + 0.03 * gloss)
    fresh = is_brick * np.maximum(spall, ramp(7, 1, edge) * ramp(0.5, 3, chip)) * 0.75
    wall.cover(fresh, gradient(("9c5136", "b9704c", "cd9169"), 0.5 + 0.2 * sand + 0.15 * fine), 0.92, 0, 0.42)
    wall.tint(is_brick * np.clip(0.6 * pores + crack, 0, 1), 0.55)
    return wall, {"inside": edge, "worn": np.clip(spall + crack + 0.4 * pores, 0, 1), "fine": fine, "sand": sand}


def weather_wall(canvas: Canvas, wall: Surface, masks: dict[str, np.ndarray]) -> None:
    """Remains of limewash, salt bloom, soot and moss, in the order in which they came to the wall."""
    fine, sand, broad = masks["fine"], masks["sand"], canvas.noise("weather", 2, 24, 1.2)
    relief = np.clip(wall.height - canvas.blur(wall.height, 10), -8, 4)  # proud parts lose paint first, hollows keep it

    wash = broad + 0.42 * canvas.noise("paint flakes", 14, 220, 0.9) - 0.10 * relief - 1.5 * masks["worn"]
    wash = ramp(0.78, 0.9, wash + 0.2 * (masks["inside"] > 8))  # it holds better on flat faces than at the arris
    clean = np.clip(0.55 + 0.2 * canvas.noise("paint dirt", 4, 200, 0.9) + 0.08 * sand, 0, 1)
    wall.cover(0.93 * wash, gradient(("9d9583", "c9c1ac", "dfd9c8"), clean), 0.7 - 0.1 * clean, 0, 0.5 + 0.06 * clean)
    wall.height += 0.9 * wash * (1 + 0.12 * fine)

    salt = ramp(1.0, 2.4, canvas.noise("salt", 3, 60, 1.2) + 0.5 * sand + 0.4 * fine) * (1 - wash)
    wall.cover(0.5 * salt, gradient(("bdb5a8", "d5cfc4"), 0.5 + 0.2 * fine), 0.95, 0, 0.45)
    wall.tint(ramp(0.4, 3.0, canvas.noise("soot", 2, 120, 1.1, tall=3.0) - 0.4 * broad), (0.62, 0.60, 0.59))

    damp = 0.62 * canvas.noise("damp", 2, 9, 1.0) + 0.175 * np.clip(-relief, 0, 7.2)  # water stays in the hollows
    moss = ramp(0.95, 1.5, damp + 0.28 * fine)
    f1, _, tuft = canvas.cells("moss tufts", 110, 2.0)
    cushion = np.clip(1 - f1 / 9, 0, 1)
    wall.height += moss * (1.0 + 2.6 * cushion + 0.25 * canvas.noise("moss fuzz", 150, 480, 0.1))
    tone = 0.12 + 0.45 * cushion + 0.25 * tuft + 0.09 * sand
    wall.cover(moss, gradient(("2c3216", "4c5424", "737a38", "8f9150"), tone), 0.96, 0, 0.3)
    masks["moss"] = moss


def build_bolt(canvas: Canvas, x: float, y: float, radius: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Hexagonal bolt head on a washer. Returns its height over the plate (tile units) and distance inside it."""
    dx, dy = canvas.offset(x, y)
    away, sector = np.hypot(dx, dy), (np.arctan2(dy, dx) + turn) % (np.pi / 3) - np.pi / 6
    head, washer = radius - away * np.cos(sector), 1.55 * radius - away
    dome = 5.5 + 1.6 * np.clip(1 - (away / radius) ** 2, 0, 1)
    return 1.6 * ramp(-0.7, 1.2, washer) + dome * ramp(-0.6, 2.2, head), washer


def build_metal(canvas: Canvas) -> dict[str, np.ndarray]:
    """Shapes of the metal parts: for each its height and the distance within its outline, both in tile units.

    "proud" and "clamps" are masks, 0..1: the raised parts of the tie plate, the two saddles of the conduit.
    """
    ragged = canvas.noise("metal edge", 10, 120, 1.0)
    dents, pitted = canvas.noise("dents", 3, 16, 1.2), canvas.noise("pitted", 40, 300, 0.8)
    x, y, half_x, half_y = PLATE
    plate = rounded_box(*canvas.offset(x, y), half_x, half_y, 9.0) + 0.5 * ragged
    plate_height = 8.5 - 3.0 * ramp(3.5, -0.6, plate) + 0.7 * dents
    bolts = np.full_like(plate, -99.0)
    for k, (side_x, side_y) in enumerate([(-1, -1), (1, -1), (-1, 1), (1, 1)]):
        bolt, washer = build_bolt(canvas, x + side_x * (half_x - 30), y + side_y * (half_y - 30), 12.5, 0.7 * k)
        plate_height, bolts = plate_height + bolt, np.maximum(bolts, washer)

    x, y, radius = BOSS
    dx, dy = canvas.offset(x, y)
    boss = radius - np.hypot(dx, dy) + 0.5 * ragged
    cross = np.minimum(np.abs(dx + dy), np.abs(dx - dy)) * np.sqrt(0.5)
    proud = np.maximum(ramp(9, 4, cross) * ramp(4, 12, boss), ramp(13, 9, boss))  # ribs and rim
    nut, nut_washer = build_bolt(canvas, x, y, 19.0, 0.3)
    boss_height = 6.5 + 3.2 * proud - 3.5 * ramp(3.5, -0.6, boss) + 3 * ramp(60, 69, boss) + 0.3 * pitted + nut

    x, radius = PIPE
    across = np.abs(canvas.offset(x, 0)[0] + 1.5 * np.sin(canvas.y * (2 * np.pi / TILE)))  # slightly bent
    pipe, pipe_height = radius - across, 2.0 + 0.9 * np.sqrt(np.maximum(radius**2 - across**2, 0)) + 0.1 * pitted
    saddle = 4.0 + 0.75 * np.sqrt(np.maximum((radius + 3) ** 2 - across**2, 0))
    clamps = np.zeros_like(pipe)
    for clamp_y in (126.0, 640.0):
        box = rounded_box(canvas.offset(x, clamp_y)[1], across, 13.0, 36.0, 4.0)
        clamps = np.maximum(clamps, ramp(-0.5, 1.0, box))
        screws = sum(build_bolt(canvas, x + side, clamp_y, 5.0, 0.4)[0] for side in (-26, 26))
        pipe_height = np.where(box > 0.3, np.maximum(saddle, pipe_height + 0.6 * screws), pipe_height)
    return {
        "plate": plate, "plate height": plate_height, "bolts": np.maximum(bolts, nut_washer),
        "boss": boss, "boss height": boss_height, "proud": np.maximum(proud, ramp(0, 2, nut)),
        "pipe": np.maximum(pipe, (clamps - 0.5) * 4), "pipe height": pipe_height, "clamps": clamps,
    }


def scratches(canvas: Canvas, name: str, count: int, box: Sequence[float]) -> np.ndarray:
    """Coverage 0..1 of thin scratches in a box (centre x, y, half width, half height)."""
    rng, cover, ragged = canvas.rng(name), np.zeros_like(canvas.x), canvas.noise(name, 30, 300, 0.6)
    for _ in range(count):
        dx, dy = canvas.offset(box[0] + rng.uniform(-1, 1) * box[2], box[1] + rng.uniform(-1, 1) * box[3])
        angle, length = rng.normal(0.35, 0.5), rng.gamma(1.4, 15.0)
        along = dx * np.cos(angle) + dy * np.sin(angle)
        off = dy * np.cos(angle) - dx * np.sin(angle) + 0.004 * rng.normal() * along**2
        width = rng.uniform(0.1, 0.9) * np.clip(1 - (along / length) ** 2, 0, 1)
        cover = np.maximum(cover, ramp(0.8, -0.4, np.abs(off) - width) * (width > 0) * ramp(-1.6, 0.2, ragged))
    return cover


def fix_metal(canvas: Canvas, wall: Surface, masks: dict[str, np.ndarray]) -> None:
    """Put the metal parts on the wall: bare or galvanised metal first, rust over it, paint on top, then its stains."""
    parts = build_metal(canvas)
    broad, fine = canvas.noise("rust", 4, 60, 1.1), canvas.noise("rust detail", 25, 300, 0.8)
    grit, dust = canvas.noise("rust grit", 90, 450, 0.3), canvas.noise("dust", 3, 120, 1.0)
    plate, boss, pipe, bolts = (ramp(-0.6, 0.6, parts[key]) for key in ("plate", "boss", "pipe", "bolts"))
    metal = np.maximum(np.maximum(plate, boss), pipe)

    # Old paint lets go first at edges, round the bolts and along the bottom where water stands.
    attack = (broad + 0.45 * fine + 1.5 * ramp(16, 0, parts["plate"]) + 1.2 * ramp(-18, 2, parts["bolts"])
              + 0.9 * ramp(30, PLATE[3], canvas.offset(0, PLATE[1])[1]))
    scratch = scratches(canvas, "scratches", 24, PLATE)
    paint = plate * (1 - np.maximum(ramp(1.28, 1.36, attack), scratch))
    blister = paint * ramp(0.75, 1.3, attack)
    rust_plate = plate * ramp(1.42, 1.62, attack + 0.25 * fine) * (1 - 0.8 * scratch)
    rust_boss = boss * ramp(-1.15, 0.1, 0.75 * broad + 0.5 * fine - 1.25 * parts["proud"] + 0.5)
    rust_pipe = pipe * np.maximum(ramp(1.1, 1.9, broad + 0.5 * fine), 0.9 * parts["clamps"] * ramp(-0.4, 0.7, fine))
    rust = np.maximum(np.maximum(rust_plate, rust_boss), rust_pipe)
    for part in ("plate", "boss", "pipe"):
        np.maximum(wall.height, parts[f"{part} height"], out=wall.height, where=parts[part] > -0.6)
    wall.height += 0.75 * paint + 0.9 * blister * (0.6 + 0.4 * fine) + rust * (0.35 * fine + 0.18 * grit)

    spangle = canvas.cells("zinc spangle", 74, 3.0)[2]
    wall.cover(metal, gradient(("9c978f", "c9c4bc"), 0.5 + 0.18 * dust + 0.12 * grit), 0.36 + 0.05 * fine, 1.0, 0.5)
    zinc = gradient(("8d9396", "adb2b4"), 0.2 + 0.5 * spangle + 0.2 * dust)
    dull = np.clip(0.14 + 0.1 * dust + 0.06 * fine, 0, 0.5)  # white oxide dulls the zinc
    wall.cover(pipe, zinc, 0.42 + 0.14 * spangle + 0.04 * fine + 0.3 * dull, 1 - dull, 0.5)
    tone = 0.40 + 0.16 * broad + 0.14 * fine + 0.09 * grit - 0.16 * bolts
    wall.cover(rust, gradient(("2e1a13", "55291a", "7c3f20", "9c5829", "b57842"), tone), 0.86 + 0.04 * grit,
               0.08 + 0.14 * ramp(0.6, 0.1, tone), 0.4)
    fade = 0.5 + 0.16 * dust + 0.06 * grit + 0.1 * canvas.noise("fade", 2, 8, 1.0)
    wall.cover(paint, gradient(("24565a", "34757a", "5b9694"), fade), 0.44 + 0.09 * dust + 0.03 * fine, 0, 0.58)
    wall.cover(0.65 * blister, gradient(("5e4a33", "8c5a30"), tone), 0.66, 0, 0.46)

    # Rain carries rust down from edges and bolts, in runs that follow the columns they started in.
    runs = ramp(-0.3, 1.8, canvas.noise("runs", 20, 200, 0.5, tall=14.0))
    rims = np.maximum(ramp(12, 0, np.abs(parts["plate"])), boss * ramp(20, 0, parts["boss"]))
    source = np.maximum(rust * rims, 0.8 * bolts * plate + rust_pipe * parts["clamps"])
    stain = np.clip(canvas.blur(canvas.drip(source, 60), 1.2) * (1.5 + 7.5 * runs), 0, 1)
    on_wall = stain * (1 - metal) * (1 - 0.5 * masks["moss"])
    on_paint = np.clip(canvas.drip(bolts * plate, 34) * (0.2 + 1.3 * runs), 0, 1) * paint
    wall.tint(on_wall, (0.82, 0.52, 0.33))
    wall.cover(0.75 * on_paint + 0.3 * on_wall, gradient(("6b351b", "a3602f"), tone), 0.8, 0, 0.44)


def make_maps(size: int, seed: int) -> dict[str, np.ndarray]:
    """All seven maps, 0..1 float32 by file name part: (N, N, 3) for Albedo and Normal, else (N, N)."""
    canvas = Canvas(size, seed)
    wall, masks = build_wall(canvas)
    weather_wall(canvas, wall, masks)
    fix_metal(canvas, wall, masks)
    open_sky = occlusion(canvas, wall.height)
    grime = (1 - open_sky) * np.clip(1.1 + 0.3 * canvas.noise("grime", 4, 200, 1.0), 0, 1.6)
    wall.tint(np.clip(0.75 * grime, 0, 1), (0.42, 0.38, 0.34))  # dirt gathers where rain does not reach
    wall.cover(0.5 * np.clip(grime, 0, 1), wall.albedo, 0.92, wall.metallic, 0.4)
    return {
        "Albedo": wall.albedo, "Normal": normals(canvas, wall.height) * 0.5 + 0.5,
        "Roughness": wall.roughness, "AO": open_sky, "Metallic": wall.metallic,
        "Specular": wall.specular * (0.55 + 0.45 * open_sky),  # a crevice reflects little, whatever it is made of
        "Displacement": (wall.height - HEIGHT_RANGE[0]) / np.ptp(HEIGHT_RANGE),
    }
