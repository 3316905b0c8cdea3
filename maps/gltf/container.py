"""A .glb or .gltf file with its buffers and images: pygltflib takes it apart, and everything that it says is checked.

Nothing outside of the model's folder is opened, nothing is fetched. Only what materials need is looked at: pygltflib
takes a tenth of a millisecond for an entry, and large scenes have a hundred thousand nodes and accessors.

Source: Khronos, "glTF 2.0 Specification", sections 3.6, 3.8, 3.9, 4.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import struct
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from common.errors import UserError, brief, quote, what_is_wrong
from common.files import leads_out, open_regular, parse_json
from maps.pixels import ImageData

SUFFIXES = (".glb", ".gltf")
NEEDED = ("asset", "materials", "textures", "images", "samplers", "bufferViews", "buffers", "extensionsRequired")
MAX_BYTES = 2 << 30  # of a file; the length in the header of a .glb has 32 bits
MAX_ENTRIES = 8192  # materials, textures, images, samplers, buffers; a second's work each
MAX_JSON, MAX_VALUES = 256 << 20, 8_000_000  # characters, and values, of a document; its objects take gigabytes
MAX_CHUNKS = 16  # of a .glb: two are usual
MAX_NAME = 80  # characters of a name that is shown or kept
UNREAD = {  # required extensions without which the images are not where the rest of the file says
    "KHR_texture_video": "its textures are films",
}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DATA = re.compile(r"data:[^,]{0,200};base64,")
ADVICE = "export the model again"
State = Optional[tuple[int, int, int]]  # of a file: bytes, and times in ns
AGAIN = f"copy it again, or {ADVICE}"


def is_model(path: str | os.PathLike) -> bool:
    """Whether a path is a file with the name of a model."""
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


class Model:
    """What materials need of one model.

    Args:
        path: the .glb or .gltf file.
    Raises: UserError for what is not glTF 2.0. What is wrong with an entry is said where the entry is asked for.
    """

    def __init__(self, path: Path):
        self.path = path
        self._files: dict[str, tuple[Path, State]] = {}  # what was read, by the entry that names it
        self._document = _document_of(self, self._read(path, "the model"))
        self._buffers: dict[int, bytes] = {}
        self._images: dict[int, ImageData] = {}

    def entries(self, kind: str) -> list[Any]:
        """materials, textures, images, samplers, bufferViews or buffers, as pygltflib has them."""
        return getattr(self._document, kind) or []

    def entry(self, kind: str, index: Any, where: str) -> Any:
        """One of `entries`; `where` says what refers to it."""
        found = self.entries(kind)
        index = self.number(index, f"{where}: index into {kind}", 0, len(found) - 1)
        if found[index] is None:
            raise self.refusal(f"{kind}[{index}]: expected an object, found none")
        return found[index]

    def number(self, value: Any, where: str, low: int = 0, high: int = MAX_BYTES) -> int:
        """`value` as a whole number of this range."""
        if type(value) is not int or not low <= value <= high:
            limits = f"a whole number from {low} to {high}" if high >= low else "no reference, as there are none"
            raise self.refusal(f"{where}: expected {limits}, found {brief(value)}")
        return value

    def refusal(self, reason: str, advice: str = ADVICE) -> UserError:
        """The error for a model of which `reason` is true."""
        return UserError(f"{quote(self.path)}: {reason}; {advice}")

    def document(self) -> dict[str, Any]:
        """The whole JSON, read once more: what materials do not need is not kept.

        Raises: UserError for a file that has changed meanwhile.
        """
        try:
            payload = _bytes_of(self.path, self.path)
            document = parse_json(json_text(payload))
            if self.is_stale or not isinstance(document, dict):
                raise ValueError("it has changed")
        except (ValueError, struct.error) as error:
            reason = f"expected the model that was read before, found another file ({what_is_wrong(error)})"
            raise self.refusal(reason, "start again when nothing writes to it") from error
        return document

    def buffer(self, index: Any, where: str) -> bytes:
        """The bytes of a buffer; `where` says what refers to it."""
        buffer = self.entry("buffers", index, where)
        if index not in self._buffers:
            where = f"buffers[{index}]"
            if buffer.uri is not None:
                payload = self._uri(buffer.uri, where)
            elif index == 0 and self._document.binary_blob() is not None:
                payload = bytes(self._document.binary_blob())
            else:
                raise self.refusal(f"{where}: expected a uri or the binary part of a .glb, found neither")
            length = self.number(buffer.byteLength, f"{where}: byteLength", 1)
            if length > len(payload):
                reason = f"{where}: expected the {length} bytes of byteLength, found {len(payload)}"
                raise self.refusal(reason, AGAIN)
            self._buffers[index] = payload[:length]
        return self._buffers[index]

    def image(self, index: int) -> ImageData:
        """One image, undecoded; the same object each time, so that what several textures share is decoded once."""
        if index not in self._images:
            image = self.entry("images", index, "a texture")
            where = f"images[{index}]"
            stored = image.uri is None
            payload = self._view(image.bufferView, where) if stored else self._uri(image.uri, where)
            name = self.image_name(index)
            place = f"{quote(self.path)}: image {index} ({name})"
            self._images[index] = ImageData(name, place, payload)
        return self._images[index]

    def files_of(self, images: Sequence[int]) -> list[Path]:
        """The files behind these images, which were read before, and the model itself."""
        entries = ["the model", *(f"images[{index}]" for index in images)]
        views = [self.entries("images")[index].bufferView for index in images]
        entries += [f"buffers[{self.entries('bufferViews')[view].buffer}]" for view in views if view is not None]
        return sorted({self._files[entry][0] for entry in entries if entry in self._files})

    @property
    def files_read(self) -> list[Path]:
        """The model and those of its files that were read so far."""
        return sorted({path for path, _ in self._files.values()})

    def check_unchanged(self) -> None:
        """Raise UserError where one of the files that were read has changed since."""
        if self.is_stale:
            raise self.refusal("changed while it was read", "wait for what writes it, and start again")

    @property
    def is_stale(self) -> bool:
        """Whether one of the files that were read has changed since."""
        return any(state_of(path) != state for path, state in self._files.values())

    def image_name(self, index: int) -> str:
        """What records call an image: its file, its name, or image_<n>; no two images of a model are called alike."""
        names = [_short(image, number) for number, image in enumerate(self.entries("images"))]
        return names[index] if names.count(names[index]) == 1 else f"{names[index]}#{index}"

    def other_chunks(self) -> bytes:
        """The chunks of a .glb behind that of its JSON and its buffer."""
        payload = _bytes_of(self.path, self.path)
        self.check_unchanged()
        others = _chunks(payload)[1:] if payload[:4] == b"glTF" else []
        kept = others[1:] if others and others[0][0] == b"BIN\0" else others
        return b"".join(payload[start - 8 : end] for _, start, end in kept)

    def view_range(self, view: tuple[Any, Any], size: int, where: str) -> tuple[int, int]:
        """The first byte of a view, and the one behind its last, in a buffer of `size` bytes.

        view: its byteOffset and byteLength, None where it says nothing.
        """
        offset, length = view
        offset = self.number(0 if offset is None else offset, f"{where}: byteOffset")
        length = self.number(length, f"{where}: byteLength", 1)
        if offset + length > size:
            end = f"bytes {offset} to {offset + length} of a buffer of {size}"
            raise self.refusal(f"{where}: expected bytes inside of its buffer, found {end}", AGAIN)
        return offset, offset + length

    def _view(self, index: Any, where: str) -> bytes:
        view = self.entry("bufferViews", index, where)
        where = f"bufferViews[{index}]"
        payload = self.buffer(view.buffer, where)
        return payload[slice(*self.view_range((view.byteOffset, view.byteLength), len(payload), where))]

    def _uri(self, uri: Any, where: str) -> bytes:
        """The bytes that a uri stands for: base64 in itself, or a file below the model's folder."""
        if not isinstance(uri, str):
            raise self.refusal(f"{where}: uri: expected text, found {brief(uri)}")
        data = _DATA.match(uri)
        if data:
            try:
                return base64.b64decode(uri[data.end() :], validate=True)
            except ValueError as error:
                raise self.refusal(f"{where}: expected base64 in its uri, found {what_is_wrong(error)}") from error
        if uri.startswith("data:"):
            raise self.refusal(f"{where}: expected a data uri of base64, found {brief(uri)}")
        folder, shown = self.path.parent, brief(uri)
        text = urllib.parse.unquote(uri)
        parts = text.replace("\\", "/").split("/")
        if _SCHEME.match(text) or "\0" in text or not all(parts) or ".." in parts:
            reason = f"{where}: expected a file below the folder of the model, found the uri {shown}"
            raise self.refusal(reason, "nothing else is opened or fetched; put the file there and name it so")
        path = folder / text
        try:
            outside = leads_out(path, folder)
        except (OSError, ValueError) as error:  # links in a circle, or what no file can be called
            raise self.refusal(f"{where}: expected the name of a file, found the uri {shown}") from error
        if outside:
            raise self.refusal(f"{where}: uri {shown}: a link to outside of the model's folder", "copy the file there")
        return self._read(path, where)

    def _read(self, path: Path, entry: str) -> bytes:
        """The bytes of a file; `entry` says what asks for it."""
        self._files[entry] = path, state_of(path)
        return _bytes_of(path, self.path, "" if path == self.path else f"{entry}: ")


def state_of(path: Path) -> State:
    """What changes with every write to a file; None where there is none."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _short(image: Any, index: int) -> str:
    """The name of an image for people, at most MAX_NAME characters on one line."""
    uri = image.uri if image is not None and isinstance(image.uri, str) else ""
    name = urllib.parse.unquote(uri[:1000]).rpartition("/")[2] if not uri.startswith("data:") else ""
    name = name or (image.name if image is not None and isinstance(image.name, str) else "")
    name = "".join(c for c in name if c.isprintable())[:MAX_NAME].strip()
    return name or f"image_{index}"


def _bytes_of(path: Path, model: Path, where: str = "") -> bytes:
    """The bytes of a file of a model. Raises: UserError naming the model."""
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                found = f"found {size} in {quote(path.name)}"
                expected = f"expected at most {MAX_BYTES >> 30} GiB"
                raise UserError(f"{quote(model)}: {where}{expected}, {found}; split the model")
            return stream.read(size)
    except (OSError, ValueError) as error:  # ValueError: a name that the file system cannot have
        reason = getattr(error, "strerror", None) or what_is_wrong(error)
        what = "" if path == model else f" with its file {brief(str(path.name))}"
        advice = "check the path and its permissions" if path == model else "copy it beside the model"
        raise UserError(f"{quote(model)}: {where}expected a glTF model{what}, found {reason}; {advice}") from error


def _document_of(model: Model, payload: bytes) -> Any:
    """pygltflib's view of what materials need."""
    try:
        if payload[:4] == b"glTF":
            _check_chunks(payload)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about chunks of extensions
                return _reader().load_from_bytes(payload)
        return _reader().from_json(payload.decode("utf-8-sig"), infer_missing=True)
    except UserError:
        raise
    except Exception as error:  # what pygltflib and dataclasses-json raise about odd values is of any type
        kind = "a damaged file" if payload[:4] == b"glTF" else "another file"
        reason = f"expected a glTF 2.0 model (.glb, .gltf), found {kind} ({what_is_wrong(error)})"
        raise model.refusal(reason, AGAIN) from error


def json_text(payload: bytes) -> str:
    """The JSON in the bytes of a .glb whose chunks were checked, or of a .gltf."""
    if payload[:4] != b"glTF":
        return payload.decode("utf-8-sig")
    (size,) = struct.unpack_from("<I", payload, 12)
    return payload[20 : 20 + size].decode("utf-8")


def _check_chunks(payload: bytes) -> None:
    """Raise ValueError for a .glb that pygltflib would read past its end, or step through for minutes."""
    version, length = struct.unpack_from("<II", payload.ljust(12, b"\0"), 4)
    if version != 2 or length != len(payload):
        raise ValueError(f"version {version}, {len(payload)} bytes where its header says {length}")
    chunks = _chunks(payload)
    if not chunks or chunks[-1][2] != length or chunks[0][0] != b"JSON":
        raise ValueError("chunks that do not fit its length")


def _chunks(payload: bytes) -> list[tuple[bytes, int, int]]:
    """Kind, first byte and the one behind the last of each chunk of a .glb, of at most MAX_CHUNKS + 1."""
    place, chunks = 12, []
    while place < len(payload) and len(chunks) <= MAX_CHUNKS:
        size, kind = struct.unpack_from("<I4s", payload[place : place + 8].ljust(8, b"\0"))
        chunks.append((kind, place + 8, place + 8 + size))
        place += 8 + size
    return chunks


@functools.cache
def _reader() -> type:
    """pygltflib's reader, which keeps what materials need of strict JSON. It is imported by the first model."""
    try:
        from pygltflib import GLTF2
    except ImportError as error:
        raise UserError(
            f"a glTF model needs the package pygltflib, which is not installed ({error}); pip install pygltflib"
        ) from error

    class Reader(GLTF2):
        @classmethod
        def from_json(cls, s: str, **options: Any) -> Any:
            if len(s) > MAX_JSON or sum(map(s.count, "{[,")) > MAX_VALUES:
                raise ValueError(f"over {MAX_JSON >> 20} MiB or {MAX_VALUES} values of JSON")
            return super().from_json(json.dumps(_needed(parse_json(s))), **options)

    return Reader


def _needed(document: Any) -> dict[str, Any]:
    """The parts of a document that materials refer to. Of bufferViews those of images; the others are None.

    Raises: ValueError for another version, another form, or more entries than any model has.
    """
    if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
        raise ValueError("no asset")
    version = document["asset"].get("version")
    if not isinstance(version, str) or not re.fullmatch(r"2\.\d{1,3}", version):
        raise ValueError(f"version {brief(version)}")
    needed = {"asset": {"version": version}}
    for kind in NEEDED[1:]:
        entries = document.get(kind, [])
        if not isinstance(entries, list) or (kind != "bufferViews" and len(entries) > MAX_ENTRIES):
            found = len(entries) if isinstance(entries, list) else brief(entries)
            raise ValueError(f"{kind}: at most {MAX_ENTRIES} entries expected, not {found}")
        if kind != "extensionsRequired" and not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{kind}: an entry that is no object")
        needed[kind] = entries
    for name in needed.pop("extensionsRequired"):
        if isinstance(name, str) and name in UNREAD:
            raise ValueError(f"it requires {name}: {UNREAD[name]}")
    used = {view for image in needed["images"] if type(view := image.get("bufferView")) is int}
    needed["bufferViews"] = [view if i in used else None for i, view in enumerate(needed["bufferViews"])]
    for kind in ("materials", "textures", "images", "samplers", "buffers", "bufferViews"):
        for entry in needed[kind]:
            if isinstance(entry, Mapping):
                entry.pop("extras", None)
    return needed
