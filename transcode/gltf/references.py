"""What a document refers to, wherever that stands: in extensions that nobody here knows, too.

A number under a key that is called like one kind of entry may be a reference to it. One too many keeps a texture in
the file that nothing shows; one too few would break the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

EXTRAS = "extras"  # belongs to applications; not searched


@dataclass
class References:
    """Indices of textures, images and buffer views that a document refers to.

    Not counted are the images of textures, and the buffer views of images: those are entries that can be freed.
    """

    textures: set[int] = field(default_factory=set)
    images: set[int] = field(default_factory=set)
    views: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, document: dict[str, Any]) -> References:
        """Those in a document of strict JSON."""
        found = cls()
        for key, value in document.items():
            if key == "images":
                entries = [{k: v for k, v in image.items() if k != "bufferView"} for image in value]
                found._look_through(entries)
            elif key != EXTRAS:
                found._look_through(value if isinstance(value, list) else {key: value})
        return found

    def _look_through(self, value: Any) -> None:
        todo = [value]
        while todo:
            value = todo.pop()
            if isinstance(value, list):
                todo += [item for item in value if isinstance(item, (dict, list))]
            elif isinstance(value, dict):
                for key, item in value.items():
                    if key == EXTRAS:
                        continue
                    if key == "extensions" and isinstance(item, dict):
                        todo += item.values()  # their names say nothing of what is in them
                        continue
                    self._note(key.lower(), item)
                    if isinstance(item, (dict, list)):
                        todo.append(item)

    def _note(self, key: str, value: Any) -> None:
        """Count the numbers that stand under a key."""
        if key == "index":
            self.textures.update(_numbers(value))
        elif "bufferview" in key:
            self.views.update(_numbers(value))
        elif "image" in key:
            self.images.update(_numbers(value))
        elif "texture" in key and not (isinstance(value, dict) and "index" in value):
            self.textures.update(_numbers(value))


def _numbers(value: Any) -> list[int]:
    """The whole numbers in a value, in its lists, and directly in an object (VRM: textureProperties)."""
    found, todo = [], list(value.values()) if isinstance(value, dict) else [value]
    while todo:
        item = todo.pop()
        if type(item) is int:
            found.append(item)
        elif isinstance(item, list):
            todo += item
    return found


def extensions_in(document: Any) -> set[str]:
    """The names of the extensions that are used somewhere in a document."""
    return {name for holder in _objects(document) if isinstance(holder.get("extensions"), dict)
            for name in holder["extensions"]}  # fmt: skip


def strings_under(key: str, document: Any) -> list[str]:
    """The texts that stand under a key, each once, sorted."""
    found = [holder.get(key) for holder in _objects(document)]
    return sorted({text for text in found if isinstance(text, str)})


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """All objects in a document, but for those in extras."""
    todo = [document]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield value
            todo += [item for key, item in value.items() if key != EXTRAS and isinstance(item, (dict, list))]
        elif isinstance(value, list):
            todo += [item for item in value if isinstance(item, (dict, list))]
