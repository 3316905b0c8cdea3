"""What `python -m tests.fuzz` feeds to the readers: valid files, and ways to break them.

Every choice comes from a `random.Random`, so that a seed, a reader and a number name an input.
"""

from __future__ import annotations

import copy
import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

EXTREMES = (
    0,
    1,
    2,
    3,
    4,
    7,
    15,
    16,
    17,
    64,
    127,
    128,
    255,
    256,
    1023,
    4096,
    16384,
    16385,
    32767,
    32768,
    65535,
    65536,
    2**20,
    2**24,
    2**28,
    2**30,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**48,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
NAMES = (
    "../x",
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a b",
    "it's",
    'say "x"',
    "two\nlines",
    "tab\tand\x1b[31mred",
    "größe",
    "日本語",
    "\u202eright to left",
    "\ud800",
    "nul\0l",
    "x" * 300,
    "$x^{$",
    "<script>alert(1)</script>",
    "-rf",
    "%s%n",
    "{0}",
    "C:\\x",
    "a\\b",
    "s3:bucket",
    "~",
    "&amp;",
    "emoji 🧱",
)
ABSURD = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    8,
    16,
    2.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    10**30,
    -(10**30),
    2**31,
    2**63,
    2**64,
    16384,
    65536,
    "",
    "x",
    [],
    {},
    [[]],
    [1],
    {"x": 1},
    "linear",
    "learned",
    "srgb",
    "9" * 50,
)


# --- bytes -----------------------------------------------------------------------------------------------------------


def mutate_bytes(payload: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """A damaged copy: some of bit flips, cuts, splices, repeated parts, and integers at their extremes."""
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 9))):
        rng.choice(_OPERATIONS)(data, rng, others)
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Where to strike: half of the time near the front, where headers are, sometimes near the end."""
    if not data:
        return 0
    kind = rng.random()
    if kind < 0.5:
        return rng.randrange(min(len(data), 160))
    if kind < 0.65:
        return len(data) - 1 - rng.randrange(min(len(data), 120))
    return rng.randrange(len(data))


def _part(data: bytearray, rng: random.Random) -> slice:
    start = _place(data, rng)
    return slice(start, start + rng.choice((1, 2, 4, 8, 16, 64, 300)))


def _flip(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def _integer(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    size = rng.choice((1, 2, 4, 4, 4, 8))
    place = _place(data, rng)
    if rng.random() < 0.7:
        place -= place % min(size, 4)
    value = rng.choice(EXTREMES) % (1 << 8 * size)
    data[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _cut(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    del data[_part(data, rng)]


def _repeat(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    part = _part(data, rng)
    data[part.start : part.start] = data[part] * rng.choice((1, 2, 50))


def _noise(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    part = _part(data, rng)
    data[part] = rng.randbytes(len(data[part]))


def _fill(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    part = _part(data, rng)
    data[part] = bytes([rng.choice((0, 255))]) * len(data[part])


def _splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = bytearray(rng.choice(others)) if others else data
    source, target = _part(other, rng), _part(data, rng)
    data[target] = other[source]


def _graft(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    """The front of this file with the end of another."""
    if others:
        other = rng.choice(others)
        place = _place(data, rng)
        data[place:] = other[place:]


def _append(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    data += rng.randbytes(rng.choice((1, 4, 100)))


_OPERATIONS: tuple[Callable, ...] = (
    *(_flip, _flip, _flip, _set, _set, _integer, _integer, _integer, _cut, _remove, _repeat, _noise, _fill, _splice),
    *(_graft, _append),
)


# --- zip files -------------------------------------------------------------------------------------------------------


def zip_members(payload: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def zipped(members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that are there twice
        for name, payload in members:
            archive.writestr(zipfile.ZipInfo(name), payload, method)
    return stream.getvalue()


def mutate_zip(payload: bytes, rng: random.Random) -> bytes:
    """Half of the time the file itself, else one of its members, with checksums that are right."""
    if rng.random() < 0.4:
        return mutate_bytes(payload, rng)
    members = zip_members(payload)
    index = rng.randrange(len(members))
    kind = rng.random()
    if kind < 0.8:
        members[index] = (members[index][0], mutate_bytes(members[index][1], rng, [m for _, m in members]))
    elif kind < 0.9:
        members[index] = (rng.choice(NAMES).replace("\ud800", "?") or "x", members[index][1])
    else:
        members = rng.choice((members[:-1], members + members[:1], members[::-1], []))
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    result = zipped(members, method)
    return mutate_bytes(result, rng) if rng.random() < 0.1 else result


# --- trees -----------------------------------------------------------------------------------------------------------


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Every place in nested dictionaries and lists."""
    found = [path] if path else []
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


def mutate_tree(tree: Any, rng: random.Random, absurd: Sequence[Any] = ABSURD) -> Any:
    """A copy with some of its values replaced, removed, repeated, renamed or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        found = places(tree)
        if not found:
            break
        path = rng.choice(found)
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        try:
            _mutate_entry(tree, parent, path[-1], found, rng, absurd)
        except RecursionError:  # a copy of what is nested hundreds of times already
            break
    return tree


def _mutate_entry(
    tree: Any, parent: Any, key: Any, found: Sequence[tuple], rng: random.Random, absurd: Sequence
) -> None:
    kind = rng.random()
    if kind < 0.45:
        parent[key] = copy.deepcopy(rng.choice(absurd)) if rng.random() < 0.8 else rng.choice(NAMES)
    elif kind < 0.55 and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
        parent[key] = rng.choice(
            (parent[key] + 1, parent[key] - 1, -parent[key], parent[key] * 2, str(parent[key]), rng.choice(EXTREMES))
        )
    elif kind < 0.65:
        del parent[key]
    elif kind < 0.72 and isinstance(parent, list):
        parent[key:key] = [copy.deepcopy(parent[key])] * rng.choice((1, 2, 40))
    elif kind < 0.8 and isinstance(parent, dict):
        parent[rng.choice(NAMES)] = parent.pop(key)
    elif kind < 0.9:  # another part of the tree in its place
        value = tree
        for step in rng.choice(found):
            value = value[step]
        parent[key] = copy.deepcopy(value)
    else:
        depth, value = rng.choice((3, 30, 300)), parent[key]
        for _ in range(depth):
            value = [value] if rng.random() < 0.5 else {"x": value}
        parent[key] = value


def json_bytes(tree: Any) -> bytes:
    try:
        return json.dumps(tree, indent=1).encode()
    except RecursionError:
        return b"[" * 900 + b"]" * 900


# --- YAML ------------------------------------------------------------------------------------------------------------

YAML_SEEDS = (
    "max_iter: 300\nbpp: 2.5\npreset: fast\n",
    "hash_grid_configs:\n  - {max_resolution: 512, n_levels: 10, quantize_bits: 2, save_bits: 16, learning_rate: 0.02}"
    "\n  - {max_resolution: 128, quantize_bits: 8}\ntexture_loss_weights: {diffuse: 2.0, roughness: 0.5}\n",
    '{"data_dir": "data/test", "quantize": true, "seed": 5, "learning_rate": 1e-3}',
    "texture_loss_weights: auto\nearly_stop: no\ndevice: cpu\n",
    "base: &a {max_resolution: 64}\nhash_grid_configs: [*a, *a]\n",
    "a: &a [x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a]\nseed: [*b, *b, *b, *b, *b, *b]\n",
    "x: &x {bpp: 1}\nhash_grid_configs: [{<<: [*x, *x], n_levels: 1}]\n",
)
YAML_VALUES = (
    "!!int _",
    "!!int ''",
    "!!float ''",
    "!!bool x",
    "!!timestamp x",
    "!!binary x",
    "!!set {a}",
    "!!omap [a: 1]",
    "!!null x",
    "!!python/object/apply:os.system ['true']",
    "!!python/name:os.system",
    "!x y",
    "0x" + "f" * 6000,
    "9" * 5000,
    "190:20:30",
    "1e999",
    ".nan",
    "-.inf",
    "2001-13-99",
    "2001-01-01",
    "&a [*a]",
    "*b",
    "? [1, 2]",
    "[[[[",
    "{{",
    "{a: b: c}",
    "|\n  x\n",
    ">-\n  x\n",
    "'",
    '"\\x0"',
    '"\\0"',
    "~",
    "yes",
    "0b1",
    "0o7",
    "1_000",
    "[",
    "]",
    "<<: 1",
    "@",
    "%",
    "\t",
    "\ufeff",
    "---",
    "...",
    "!!str",
    "!!map [1]",
    "!!seq {a: 1}",
    "0x_",
    "0b_",
    "-",
    "+",
    "!!float _",
    "!!int 0x",
    "!!int -",
    "!!int 1:",
    "!!merge x",
)


def yaml_bytes(rng: random.Random, fields: Sequence[str]) -> bytes:
    """A config file: a valid one damaged, or lines of fields with values that YAML reads in its own way."""
    kind = rng.random()
    if kind < 0.4:
        return mutate_bytes(rng.choice(YAML_SEEDS).encode(), rng, [seed.encode() for seed in YAML_SEEDS])
    values = [*YAML_VALUES, *(json.dumps(value) for value in ABSURD), *(json.dumps(name) for name in NAMES)]
    lines = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = rng.choice(values)
        if rng.random() < 0.3:
            value = rng.choice(
                ("[{}]", "{{a: {}}}", "[{{max_resolution: {}}}]", "{{diffuse: {}}}", "&a [{}, *a]")
            ).format(value)
        name = rng.choice(fields) if rng.random() < 0.9 else rng.choice(values)
        lines.append(f"{name}: {value}")
    text = "\n".join(lines)
    if rng.random() < 0.2:
        text = "{" + ", ".join(lines) + "}"
    return text.encode("utf-8", "surrogatepass")
