"""Maps beyond the canonical ones: opacity, emission, and one that the user names (design.md, section 3).

Only files that hold no canonical map are looked at, and the alpha channel of the diffuse; so a material's canonical
maps are the same with extra maps and without.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from configs import EXTRA_MAPS, Config
from maps.channels import MAPS
from maps.keywords import ALPHA, NOISE

OPACITY = (*ALPHA, "coverage", "cutout", "opacity_mask", "alpha_mask")
EMISSIVE = ("emissive", "emission", "emit", "glow", "emissive_color", "emission_color", "emissivecolor",
            "emissioncolor", "selfillumination", "self_illumination", "emis", "emiss", "emm")  # fmt: skip
MASK = "mask"
OTHER_MASKS = frozenset(  # words before it that make it a mask of something else
    {"detail", "id", "color", "colour", "material", "blend", "dirt", "wet", "wetness", "layer", "vertex", "region"}
    | {"tint", "metal", "metallic", "roughness", "rough", "specular", "glow", "emissive", "ao", "snow", "moss"}
    | {"paint", "edge"}
)


@dataclass(frozen=True)
class Extras:
    """Which extra maps are wanted.

    Fields:
        auto: opacity and emission, where there are files of them.
        named: of --extra_map; '' for none.
    """

    auto: bool = True
    named: str = ""

    @classmethod
    def of(cls, config: Config) -> Extras:
        """Those of a configuration."""
        return cls(config.extra_maps == "auto", config.extra_map)

    @classmethod
    def among(cls, maps: Sequence[str]) -> Extras:
        """Those that a material with these maps has."""
        named = [name for name in maps if name not in MAPS and name not in EXTRA_MAPS]
        return cls(any(name in EXTRA_MAPS for name in maps), named[0] if named else "")

    @property
    def names(self) -> list[str]:
        """The maps that may be found."""
        return [*(EXTRA_MAPS if self.auto else ()), *([self.named] if self.named else [])]


AUTO = Extras()


def named_map(words: Sequence[str], name: str) -> bool:
    """Whether a file whose name has these words holds the map `name`: the last words that say something are it."""
    wanted, end = name.replace("_", ""), len(words)
    while end > 0:
        if any("".join(words[start:end]) == wanted for start in range(end)):
            return True
        last = words[end - 1]
        if last not in NOISE and not re.fullmatch(r"\d{3,}|\d+k?", last):
            return False
        end -= 1
    return False


def extra_map(words: Sequence[str], is_mask: Callable[[], bool]) -> str:
    """'opacity', 'emissive' or '': what a file that holds no canonical map is, by the last word that says it.

    Args:
        is_mask: whether its picture is grey and nearly all black and white: a file called mask may be anything.
    """
    for end in range(len(words), 0, -1):
        for length in (2, 1):
            text = "_".join(words[max(end - length, 0) : end])
            if text in OPACITY:
                return "opacity"
            if text in EMISSIVE:
                return "emissive"
            if text == MASK:
                other = end > 1 and words[end - 2] in OTHER_MASKS
                return "opacity" if not other and is_mask() else ""
        if words[end - 1] not in NOISE and not words[end - 1].isdecimal():
            return ""  # another word is the last: glow_tint, alpha_channel_id
    return ""
