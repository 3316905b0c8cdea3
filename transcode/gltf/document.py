"""A model that is changed and written as one .glb: its JSON, and its buffers with payloads taken out and put in.

What is not asked for stays as it is, to the byte, and under its index: unknown extensions may refer to it. Textures,
images and buffer views that nothing uses any more are used again, or left without bytes of their own.

Source: Khronos, "glTF 2.0 Specification", sections 3.6, 3.8.3, 4.4; EXT_meshopt_compression.
"""

from __future__ import annotations

import json
import mimetypes
import struct
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from common.errors import brief
from maps.folder import listing
from maps.gltf.container import Model
from maps.ktx2 import KTX2_MAGIC
from transcode.gltf.cuts import ALIGNMENT, cuts_of, shifted, without
from transcode.gltf.references import References, extensions_in, strings_under

SHOWN = 8  # names in a note
MAX_GLB = 2**32 - 1  # bytes: the header has 32 bits
MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", KTX2_MAGIC: "image/ktx2"}


class Region(NamedTuple):
    """A part of a buffer that the document names: a buffer view, or an extension of one."""

    holder: dict[str, Any]
    buffer: int
    start: int
    end: int

    def move(self, start: int) -> None:
        """Say that it starts elsewhere."""
        if start or "byteOffset" in self.holder:
            self.holder["byteOffset"] = start


class Document:
    """A model that is being changed.

    Args:
        model: whose file has not changed since it was opened.
    Fields:
        json: the document; may be edited, but for the lists of textures, images, buffer views and buffers.
        notes: what is not as it was, a line each; complete after `encode`.
    """

    def __init__(self, model: Model):
        self.model, self.notes = model, []
        self.json, self._chunks = model.document(), model.other_chunks()
        self._extensions = extensions_in(self.json)
        self._old_images = len(self._list("images"))
        self._free: dict[str, list[int]] = {"textures": [], "images": [], "bufferViews": []}  # ascending
        self._embedded: set[int] = set()  # images that have been given bytes
        self._payloads: dict[int, bytes] = {}  # by buffer view
        self._gone: list[Region] = []  # what was in buffer views that are free

    def _list(self, kind: str) -> list[Any]:
        return self.json.get(kind, [])

    # --- taking out ------------------------------------------------------------------------------------------------

    def release(self, textures: Sequence[int]) -> None:
        """Free those of these textures that the document no longer refers to, with what only they use. Once."""
        references = References.of(self.json)
        free = sorted(set(textures) - references.textures)
        taken = set(free)
        sources = {index: set(_sources(texture)) for index, texture in enumerate(self._list("textures"))}
        used = references.images.union(*(found for index, found in sources.items() if index not in taken))
        images = sorted(set().union(*(sources[index] for index in free)) - used)
        holds = {index: _number(image, "bufferView") for index, image in enumerate(self._list("images"))}
        views = {holds.get(index) for index in images}
        views -= references.views.union(view for index, view in holds.items() if index not in images)
        images = [index for index in images if index in holds]
        views = [index for index in range(len(self._list("bufferViews"))) if index in views]
        self._free = {"textures": free, "images": images, "bufferViews": views}
        self._gone = [region for view in self._free["bufferViews"] for region in self._regions(view)]

    # --- putting in ------------------------------------------------------------------------------------------------

    def add_view(self, payload: bytes) -> int:
        """The index of a buffer view of these bytes."""
        index = self._place("bufferViews", None)
        self.json["bufferViews"][index] = {"buffer": 0, "byteLength": len(payload)}
        self._payloads[index] = payload
        return index

    def add_image(self, payload: bytes, mime: str, name: str, instead_of: int | None) -> int:
        """The index of an image of these bytes: that of `instead_of`, whose name and extras it keeps, where that is
        free."""
        index = self._place("images", instead_of)
        image = self.json["images"][index]
        image.pop("uri", None)
        image.setdefault("name", name)
        image.update(bufferView=self.add_view(payload), mimeType=mime)
        self._embedded.add(index)
        return index

    def add_texture(self, image: int, instead_of: int) -> int:
        """The index of a texture with an image of PNG or JPEG, and the sampler of `instead_of`: its index where that is
        free."""
        old = self.json["textures"][instead_of]
        index = self._place("textures", instead_of)
        texture = self.json["textures"][index]
        if index == instead_of:
            _forget_sources(texture)
        elif "sampler" in old:
            texture["sampler"] = old["sampler"]
        texture["source"] = image
        return index

    def source_of(self, texture: int) -> int | None:
        """The image that a texture has, or the first of those that its extensions name."""
        return next(iter(_sources(self.json["textures"][texture])), None)

    def _place(self, kind: str, wanted: int | None) -> int:
        """The index of an entry to fill: `wanted` where it is free, any free buffer view, else a new one."""
        free = self._free[kind]
        if kind == "bufferViews" and free:
            return free.pop(0)
        if wanted in free:
            free.remove(wanted)
            return wanted
        entries = self.json.setdefault(kind, [])
        entries.append({})
        return len(entries) - 1

    # --- writing ---------------------------------------------------------------------------------------------------

    def encode(self) -> list[bytes]:
        """The parts of the .glb file. Once. Raises: UserError for bytes that lie nowhere, or too many of them."""
        self._embed_images()
        self._empty_what_is_free()
        binary = self._pack()
        self._tell_extensions()
        others = {key: value for key, value in self.json.items() if key not in ("images", "buffers")}
        files = [uri for uri in strings_under("uri", others) if not uri.startswith("data:")]
        if files:
            self.notes.append(f"note: not in it, to be copied beside it: {listing(files, SHOWN)}")
        self.model.check_unchanged()
        text = json.dumps(self.json, allow_nan=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        parts = [struct.pack("<I4s", len(text), b"JSON"), text]
        if binary:
            parts += [struct.pack("<I4s", sum(map(len, binary)), b"BIN\0"), *binary]
        parts.append(self._chunks)
        length = 12 + sum(map(len, parts))
        if length > MAX_GLB:
            raise self.model.refusal(f"expected at most {MAX_GLB} bytes, found {length} to write", "split the model")
        return [struct.pack("<4sII", b"glTF", 2, length), *parts]

    def _embed_images(self) -> None:
        """Put images that are files or data URIs into the buffer."""
        views: dict[bytes, int] = {}
        for index, image in enumerate(self._list("images")[: self._old_images]):
            if "uri" not in image or index in self._embedded or index in self._free["images"]:
                continue
            payload, uri = self.model.image(index).payload, image.pop("uri")
            image.setdefault("mimeType", _mime(payload, uri))
            if not uri.startswith("data:"):
                image.setdefault("name", PurePosixPath(self.model.image(index).name).stem)
            if payload not in views:
                views[payload] = self.add_view(payload)
            image["bufferView"] = views[payload]

    def _empty_what_is_free(self) -> None:
        """Entries at the end of a list go; others stay for those behind them, without bytes of their own."""
        for kind, free in self._free.items():
            entries = self._list(kind)
            while free and free[-1] == len(entries) - 1:
                entries.pop()
                free.pop()
            if not entries:
                self.json.pop(kind, None)
        for index in self._free["textures"]:
            _forget_sources(self.json["textures"][index])
        others = [image for index, image in enumerate(self._list("images")) if index not in self._free["images"]]
        for index in self._free["images"]:  # there are others: one behind it
            image = self.json["images"][index]
            image.pop("uri", None)
            image.update({key: others[-1][key] for key in ("bufferView", "mimeType") if key in others[-1]})

    def _tell_extensions(self) -> None:
        """Let extensionsUsed say all that is used, and neither it nor extensionsRequired what has gone."""
        now = extensions_in(self.json)
        gone = self._extensions - now
        for key in ("extensionsUsed", "extensionsRequired"):
            listed = self._list(key)
            listed = listed if isinstance(listed, list) else []
            names = [name for name in listed if not (isinstance(name, str) and name in gone)]
            if key == "extensionsUsed":
                names += sorted(name for name in now if name not in names)
            self.json[key] = names
            if not names:
                del self.json[key]  # glTF has no empty lists

    # --- buffers ---------------------------------------------------------------------------------------------------

    def _pack(self) -> list[bytes]:
        """One buffer of all, at index 0, without what has gone. Buffers that only say how large they would be, for
        readers without EXT_meshopt_compression, stay behind it."""
        stored = [index for index, buffer in enumerate(self._list("buffers")) if not _is_fallback(buffer)]
        new = {*self._payloads, *self._free["bufferViews"]}
        old = [index for index in range(len(self._list("bufferViews"))) if index not in new]
        regions = [region for index in old for region in self._regions(index)]
        parts, size = [], 0
        for index in stored:
            payload = self.model.buffer(index, "the model")
            live = [(region.start, region.end) for region in regions if region.buffer == index]
            gone = [(region.start, region.end) for region in self._gone if region.buffer == index]
            cuts = cuts_of(payload, gone, live)
            for region in (region for region in regions if region.buffer == index):
                region.move(size + shifted(region.start, cuts))
            size += _append(parts, without(payload, cuts))
        for index, payload in sorted(self._payloads.items()):
            self.json["bufferViews"][index]["byteOffset"] = size
            size += _append(parts, [payload])
        self._join_buffers(stored, size)
        for index in self._free["bufferViews"]:  # for those behind them; they have the bytes of another
            self.json["bufferViews"][index] = dict(self.json["bufferViews"][min(self._payloads)])
        return parts

    def _regions(self, index: int) -> list[Region]:
        """The parts of buffers that a buffer view names, itself and in its extensions."""
        view, where = self.json["bufferViews"][index], f"bufferViews[{index}]"
        regions = []
        for holder in _buffer_holders(view):
            buffers = self._list("buffers")
            buffer = self.model.number(holder.get("buffer"), f"{where}: buffer", 0, len(buffers) - 1)
            if not _is_fallback(buffers[buffer]):
                size = len(self.model.buffer(buffer, where))
                extent = self.model.view_range((holder.get("byteOffset"), holder.get("byteLength")), size, where)
                regions.append(Region(holder, buffer, *extent))
        return regions

    def _join_buffers(self, stored: Sequence[int], size: int) -> None:
        """Let the document have one buffer of `size` bytes for those in `stored`."""
        buffers = self._list("buffers")
        others = [index for index in range(len(buffers)) if index not in stored]
        places = {**dict.fromkeys(stored, 0), **{index: place for place, index in enumerate(others, 1)}}
        for index, view in enumerate(self._list("bufferViews")):
            if index not in self._payloads:
                for holder in _buffer_holders(view):
                    holder["buffer"] = places[holder["buffer"]]
        first = dict(buffers[stored[0]]) if stored else {}
        first.pop("uri", None)
        for index in stored[1:]:
            more = sorted(set(buffers[index]) - {"uri", "byteLength", "name"})
            if more:
                lost = ", ".join(map(brief, more))
                self.notes.append(f"note: buffers[{index}]: without its {lost}, as a .glb has one buffer")
        self.json["buffers"] = [{**first, "byteLength": size}, *(buffers[index] for index in others)]


def _append(parts: list[bytes], pieces: Sequence[bytes]) -> int:
    """Add pieces, filled up to ALIGNMENT. Returns: the bytes added."""
    length = sum(map(len, pieces))
    parts += [*pieces, bytes(-length % ALIGNMENT)]
    return length + -length % ALIGNMENT


def _extensions_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """What is in the extensions of an entry."""
    extensions = entry.get("extensions")
    return [each for each in extensions.values() if isinstance(each, dict)] if isinstance(extensions, dict) else []


def _number(entry: dict[str, Any], key: str) -> int | None:
    """A whole number of an entry; None where it has none."""
    return entry[key] if type(entry.get(key)) is int else None


def _buffer_holders(view: dict[str, Any]) -> list[dict[str, Any]]:
    """A buffer view, and those of its extensions that name a part of a buffer too."""
    return [view, *(each for each in _extensions_of(view) if "buffer" in each)]


def _is_fallback(buffer: dict[str, Any]) -> bool:
    """Whether a buffer has no bytes: it says what readers without an extension for compression would need."""
    return "uri" not in buffer and any(each.get("fallback") is True for each in _extensions_of(buffer))


def _sources(texture: dict[str, Any]) -> list[int]:
    """The images of a texture, and of its extensions (EXT_texture_webp, KHR_texture_basisu)."""
    found = [_number(holder, "source") for holder in (texture, *_extensions_of(texture))]
    return [index for index in found if index is not None]


def _forget_sources(texture: dict[str, Any]) -> None:
    texture.pop("source", None)
    for each in _extensions_of(texture):
        if "source" in each:
            each.clear()
    extensions = texture.pop("extensions", None)
    if isinstance(extensions, dict) and any(each != {} for each in extensions.values()):
        texture["extensions"] = {name: each for name, each in extensions.items() if each != {}}


def _mime(payload: bytes, uri: str) -> str:
    """The type of an image: what its first bytes say, or its name."""
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return "image/webp"
    known = next((mime for magic, mime in MAGIC.items() if payload.startswith(magic)), None)
    return known or mimetypes.guess_type(uri[:1000])[0] or "application/octet-stream"
