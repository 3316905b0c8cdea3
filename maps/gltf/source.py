"""One material of a model as a source of maps, in place of a folder of images."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from common.errors import UserError, counted, quote
from common.knobs import suggest
from maps.channels import canonical
from maps.extras import AUTO, Extras
from maps.folder import Found, Look, Source, listing
from maps.gltf.container import Model
from maps.gltf.materials import Plan, Slot, labels_of, plan_of
from maps.record import Origin

NO_TEXTURES = "no textures that are trained; passed through"


def open_model(path: Path) -> Model:
    """The model in a file; one that has not changed since the last call is not read again."""
    path = Path(os.path.abspath(path))
    if _open(path).is_stale:
        _open.cache_clear()
    return _open(path)


_open = functools.lru_cache(maxsize=1)(Model)  # one: models can be large


class ModelSource:
    """A material of a model, see source.MaterialSource.

    Args:
        material: its label, see `labels_of`; '': the only one with textures.
    Raises: UserError for a model that cannot be read, or a material that it does not have.
    """

    def __init__(self, path: Path, material: str = ""):
        self.model = open_model(path)
        labels = labels_of(self.model)
        self.index = labels.index(material) if material in labels else self._choose(labels, material)
        self.name = labels[self.index]
        self.origin = Origin(self.model.path.name, self.name, self.index)

    def _choose(self, labels: list[str], material: str) -> int:
        """The material that is meant, where its label does not say it."""
        path = quote(self.model.path)
        if not labels:
            raise UserError(f"{path}: expected a material with textures, found none at all; give another model")
        if material:
            hint = suggest(material, dict.fromkeys(labels)).replace("known fields", "its materials")
            raise UserError(f"--material {material:.80}: expected a material of {path}{hint or '; leave it out'}")
        textured = [index for index in range(len(labels)) if plan_of(self.model, index).slots]
        if len(textured) == 1:
            return textured[0]
        if not textured:
            found = counted(len(labels), "material")
            raise UserError(f"{path}: expected a material with textures, found {found} without; give another model")
        names = listing((labels[index] for index in textured), 8)
        raise UserError(f"{path}: expected one material, found {len(textured)}: {names}; choose with --material NAME")

    @functools.cached_property
    def plan(self) -> Plan:
        """What is trained of it. Raises: UserError for a material that is not as glTF has them."""
        return plan_of(self.model, self.index)

    def check(self, extras: Extras = AUTO) -> None:
        """Raise UserError for a material without textures, or one that says what glTF does not allow."""
        self.find(None, extras)

    def find(self, look: Look | None = None, extras: Extras = AUTO) -> Found:
        """The maps of the material; see folder.find_maps. Notes begin with its label where they are about it."""
        notes = [f"{self.name}: {note}" for note in self.plan.notes]
        sources, because = {}, {}
        for slot in self.plan.slots:
            image = self.model.image(slot.image)
            because[image.name] = ", ".join(filter(None, (because.get(image.name), slot.name)))
            for part, adjustment in zip(slot.parts, slot.adjustments):
                if self._is_wanted(part.map, slot, look, extras):
                    sources[part.map] = Source(image, part, adjustment)
        if not sources:
            raise UserError(f"{quote(self.model.path)}: material {self.name}: {NO_TEXTURES}; choose another --material")
        sources = {name: sources[name] for name in canonical(sources)}
        return Found(sources, "gl" if "normal" in sources else "unknown", notes, because)

    def _is_wanted(self, name: str, slot: Slot, look: Look | None, extras: Extras) -> bool:
        """Whether an extra map is asked for, and an opacity there: an image without alpha has none."""
        if name not in ("opacity", "emissive"):
            return True
        if name not in extras.names:
            return False
        if name == "emissive" or look is None:
            return True
        image = look(self.model.image(slot.image))
        top = 255 if image.pixels.dtype.itemsize == 1 else 65535
        return image.alpha is not None or (image.flat_alpha is not None and image.flat_alpha < top)

    def files(self, extras: Extras = AUTO) -> dict[str, tuple[list[Path], functools.partial[str]]]:
        """See source.MaterialSource: the model and its files as one, whose hash is that of the material alone."""
        found = self.find(None, extras)
        paths = self.model.files_of([slot.image for slot in self.plan.slots])
        return {self.model.path.name: (paths, functools.partial(_digest, found))}


def _digest(found: Found) -> str:
    """A hash of the images of a material, and of what is done with them."""
    digest = hashlib.sha256()
    for name, source in found.sources.items():
        payload = hashlib.sha256(source.path.payload).hexdigest()
        digest.update(f"{name} {source.part} {source.adjustment} {payload}\n".encode())
    return digest.hexdigest()
