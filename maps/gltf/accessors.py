"""The numbers in a model's buffers: what its accessors say, with every offset, stride and count checked.

Source: Khronos, "glTF 2.0 Specification", sections 3.6.2 and 5.1 to 5.5; KHR_mesh_quantization.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from common.errors import brief
from maps.gltf.container import AGAIN, Model

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
UNSIGNED = (5121, 5123, 5125)
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
MAX_COUNT = 1 << 24  # of an accessor: more vertices than a page takes
MAX_STRIDE = 252  # bytes, as glTF has it
COMPRESSED = {"EXT_meshopt_compression": "meshopt", "KHR_meshopt_compression": "meshopt"}


class Rows(NamedTuple):
    """The rows of an accessor, as they lie in the buffer."""

    values: np.ndarray  # (count, columns), not copied
    scale: float  # what a whole number is divided by; 1 for one that stands for itself
    places: np.ndarray | None = None  # ascending rows that others replace, of a sparse accessor
    others: np.ndarray | None = None  # (len(places), columns)

    @property
    def count(self) -> int:
        return len(self.values)

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """These rows as they are stored, (len(rows), columns)."""
        taken = self.values[rows]
        if self.places is not None and len(self.places):
            found = np.searchsorted(self.places, rows).clip(max=len(self.places) - 1)
            replaced = self.places[found] == rows
            taken[replaced] = self.others[found[replaced]]
        return taken

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """These rows as float64; normalised integers in -1..1."""
        numbers = self.codes(rows).astype(np.float64)
        return np.maximum(numbers / self.scale, -1) if self.scale != 1 else numbers


class Accessors:
    """The accessors of a model.

    Args:
        document: its JSON.
    Raises, wherever an accessor is read: UserError for one that points outside of its buffer, or says what glTF does
        not allow.
    """

    def __init__(self, model: Model, document: Mapping[str, Any]):
        self.model = model
        self._entries = {kind: listed(model, document, kind) for kind in ("accessors", "bufferViews")}

    def entry(self, kind: str, index: Any, where: str) -> Mapping[str, Any]:
        """One of accessors or bufferViews."""
        found = self._entries[kind]
        return found[self.model.number(index, f"{where}: index into {kind}", 0, len(found) - 1)]

    def count(self, index: Any, where: str) -> int:
        """How many rows an accessor has; nothing is read."""
        entry = self.entry("accessors", index, where)
        return self.model.number(entry.get("count"), f"accessors[{index}]: count", 1, MAX_COUNT)

    def rows(self, index: Any, where: str, kind: str) -> Rows:
        """An accessor of one of WIDTHS."""
        entry, place = self.entry("accessors", index, where), f"accessors[{index}]"
        if entry.get("type") != kind:
            raise self.model.refusal(f"{where}: expected an accessor of type {kind}, found {brief(entry.get('type'))}")
        component = entry.get("componentType")
        if type(component) is not int or component not in COMPONENTS:
            expected = f"expected {', '.join(map(str, COMPONENTS))}"
            raise self.model.refusal(f"{place}: componentType: {expected}, found {brief(component)}")
        dtype, columns, count = np.dtype(COMPONENTS[component]), WIDTHS[kind], self.count(index, where)
        scale = float(np.iinfo(dtype).max) if entry.get("normalized") is True and dtype.kind != "f" else 1.0
        if entry.get("bufferView") is None:
            values = np.broadcast_to(np.zeros(1, dtype), (count, columns))
        else:
            values = self._stored(entry, count, columns, dtype, place)
        return Rows(values, scale, *self._sparse(entry, count, columns, dtype, place))

    def indices(self, index: Any, where: str) -> np.ndarray:
        """An accessor of whole numbers, (count,) int64."""
        component = self.entry("accessors", index, where).get("componentType")
        if component not in UNSIGNED:
            found = f"found componentType {brief(component)}"
            raise self.model.refusal(f"{where}: expected unsigned whole numbers, {found}")
        rows = self.rows(index, where, "SCALAR")
        return rows.codes(np.arange(rows.count))[:, 0].astype(np.int64)

    def _sparse(
        self, entry: Mapping[str, Any], count: int, columns: int, dtype: np.dtype, place: str
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The rows that a sparse accessor replaces, and by what."""
        sparse = entry.get("sparse")
        if sparse is None:
            return None, None
        place = f"{place}.sparse"
        parts = [part if isinstance(part, Mapping) else {} for part in
                 (sparse, *(sparse.get(name) if isinstance(sparse, Mapping) else None for name in
                            ("indices", "values")))]  # fmt: skip
        number = self.model.number(parts[0].get("count"), f"{place}: count", 1, count)
        component = parts[1].get("componentType")
        if component not in UNSIGNED:
            raise self.model.refusal(f"{place}: indices: expected unsigned numbers, found {brief(component)}")
        places = self._stored(parts[1], number, 1, np.dtype(COMPONENTS[component]), f"{place}.indices")[:, 0]
        places = places.astype(np.int64)
        if places[-1] >= count or (np.diff(places) <= 0).any():
            raise self.model.refusal(f"{place}: expected indices that rise, below {count}, found others")
        return places, self._stored(parts[2], number, columns, dtype, f"{place}.values")

    def _stored(
        self, entry: Mapping[str, Any], count: int, columns: int, dtype: np.dtype, place: str
    ) -> np.ndarray:
        """(count, columns) numbers of a buffer view, not copied."""
        model, index = self.model, entry.get("bufferView")
        view, size = self.entry("bufferViews", index, place), columns * dtype.itemsize
        where = f"bufferViews[{index}]"
        extensions = view.get("extensions")
        for name in COMPRESSED if isinstance(extensions, Mapping) else ():
            if name in extensions:
                raise model.refusal(f"its meshes are compressed with {COMPRESSED[name]} ({name}), which is not read",
                                    "export the model without compression")  # fmt: skip
        payload = model.buffer(view.get("buffer"), where)
        start, stop = model.view_range((view.get("byteOffset"), view.get("byteLength")), len(payload), where)
        offset = model.number(entry.get("byteOffset", 0), f"{place}: byteOffset")
        stride = model.number(view.get("byteStride", size), f"{where}: byteStride", size, max(size, MAX_STRIDE))
        end = offset + (count - 1) * stride + size
        if end > stop - start:
            bounds = f"bytes {offset} to {end} of {stop - start}"
            raise model.refusal(f"{place}: expected numbers inside of {where}, found {bounds}", AGAIN)
        return np.ndarray((count, columns), dtype, payload, start + offset, (stride, dtype.itemsize))


def listed(model: Model, document: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """A list of a document, of objects. Raises: UserError for anything else."""
    entries = document.get(kind, [])
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise model.refusal(f"{kind}: expected a list of objects, found {brief(entries)}")
    return entries
