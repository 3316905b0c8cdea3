"""The words by which file names say what an image holds: maps, packings, other layers, and what means nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from maps.channels import MAPS

# Keywords that count anywhere in a name. An underscore separates two words of the name.
KEYWORDS = {
    "diffuse": ("diffuse", "albedo", "color", "colour", "diff", "basecolor", "base_color", "col"),
    "normal": ("normal", "nor_gl", "nor_dx", "normalgl", "normaldx"),
    "roughness": ("roughness", "rough"),
    "occlusion": ("occlusion", "ao", "ambient", "ambientocclusion"),
    "metallic": ("metallic", "metalness", "metal"),
    "specular": ("specular", "specular_color", "spec"),
    "displacement": ("displacement", "disp", "height"),
}
_MORE = {  # other spellings of the same
    "diffuse": ("basecolour", "base_colour", "diffusecolor", "diffuse_color", "albedocolor", "albedo_color"),
    "normal": ("normals", "normalmap", "tangent_normal"),
    "occlusion": ("ambient_occlusion", "mixed_ao"),
    "metallic": ("metalic", "metallness", "metalicness", "metallicness"),
    "specular": ("specularcolor", "specularlevel", "specular_level", "reflectivity", "spec_color", "spec_col"),
    "displacement": ("heightmap", "displace"),
}
SHORT = {  # these count as the last word of a name, and beside another scalar map: rock_n, Stone_001_OCC, ao_met_rough
    "diffuse": ("bc", "d", "dif", "alb", "albd", "basecol", "base"),
    "normal": ("n", "nm", "nor", "nrm", "norm", "nrml", "nml"),
    "roughness": ("r", "rgh", "rou", "rgn", "roug"),
    "occlusion": ("occ", "occl", "ambocc", "amb"),
    "metallic": ("m", "met", "mtl", "metl", "mtal"),
    "specular": ("spc", "refl"),
    "displacement": ("h", "hgt", "ht", "dsp", "displ", "hght"),
}
GLOSS = ("gloss", "glossiness", "smoothness", "smooth")  # 1 - roughness
SHORT_GLOSS = ("g", "gls", "smth")
ALPHA = ("alpha", "opacity", "transparency", "transparent", "opac")  # behind a colour: what its alpha channel holds
SHORT_ALPHA = ("a",)
COLOUR_LETTERS = ("a", "b", "c")  # albedo, base colour, colour; but also alpha, bump, cavity
# Maps that the channels have no place for: without them rough_plaster_bump would be a roughness.
OTHER = (
    *("bump", "cavity", "curvature", "mask", "thickness", "emission", "emissive", "emit", "glow", "anisotropy"),
    *("preview", "thumbnail", "thumb", "render", "sphere", "emission_color", "emissive_color", "vertex_color", "id"),
    *("position", "flow", "ior", "idmap", "id_map", "material_id", "id_color", "specular_tint"),
    *(f"{space}_{word}" for word in ("normal", "normals")
      for space in ("world", "object", "world_space", "object_space", "ws", "os", "bent")),
    *(f"{word}_{space}" for word in ("normal", "normals") for space in ("world", "object", "ws", "os")),
)  # fmt: skip
# A second layer of the material: what follows such a word is not a map of the base.
LAYERS = (
    *("coat", "clearcoat", "clear_coat", "coating", "sheen", "subsurface", "sss", "scattering", "scatter"),
    *("transmission", "translucency", "translucent", "iridescence", "anisotropic", "refraction", "backface"),
    *("fuzz", "flake", "flakes", "topcoat", "secondary", "detail", "micro", "macro"),
)
# Words that are as common in the names of materials as in those of maps: they count where no other does.
WEAK = frozenset(
    {"metal", "smooth", "glow", "render", "sphere", "coating", "base", "position", "detail", "flow", "micro", "macro"}
)
# Not searched for inside other words: too short, or parts of common ones (Protocol, Spectacle, Metallica, Chaos).
WHOLE_WORDS_ONLY = frozenset(
    {
        *("col", "spec", "metal", "ao", "emit", "glow", "render", "thumb", "coat", "ior", "sss", "id", "mask", "flow"),
        *("fuzz", "scatter", "smooth", "detail", "sheen", "opac"),
    }
)
CONVENTION = frozenset({"gl", "dx", "ogl", "opengl", "directx", "open", "direct", "x"})  # of normal maps
NOISE = CONVENTION | frozenset(
    [
        *("map", "maps", "tex", "texture", "textures", "img", "image", "bitmap", "final", "baked", "bake", "copy", "k"),
        *("png", "jpg", "jpeg", "tif", "tiff", "exr", "tga", "bmp", "webp", "bit", "bits", "px", "hd", "uhd", "sd"),
        *("srgb", "linear", "lin", "raw", "nc", "acescg", "udim", "v", "lod", "mip", "low", "high", "hires", "lowres"),
        *("u", "var", "variant", "ue", "ue4", "ue5", "unity", "unreal", "blender", "mobile", "pc", "new", "old"),
        *("and", "with"),
    ]
)


class Part(NamedTuple):
    """One map of a file."""

    map: str
    channels: str = "RGB"  # RGB: the file's colour, or its grey; else one of R, G, B, A
    inverted: bool = False  # 1 - value: gloss and smoothness


GLTF = (Part("occlusion", "R"), Part("roughness", "G"), Part("metallic", "B"))  # glTF 2.0, 5.22: R is not its own
MASK_MAP = (Part("metallic", "R"), Part("occlusion", "G"), Part("roughness", "A", True))  # Unity HDRP's MaskMap
METALLIC_SMOOTHNESS = (Part("metallic", "R"), Part("roughness", "A", True))  # Unity's Standard shader
MASK_MAPS = ("maskmap", "mask_map", "hdrp_mask", "hdrpmask")


def in_order(maps: tuple[str, ...]) -> tuple[Part, ...]:
    """Maps packed in R, G, B and A, in this order."""
    return tuple(Part(name, channel) for name, channel in zip(maps, "RGBA"))


def _initials() -> Iterator[tuple[str, tuple[Part, ...]]]:
    """'orm', 'arm', 'mrao', 'o_r_m', ...: occlusion, roughness and metallic in any order, with or without height."""
    letters = {"o": "occlusion", "a": "occlusion", "ao": "occlusion", "r": "roughness", "m": "metallic",
               "h": "displacement"}  # fmt: skip
    english = {"arom", "harm", "roam", "mar", "ram", "mor", "rom", "mora", "roma"}
    for occlusion in ("o", "a", "ao"):
        for kinds in ((occlusion, "r", "m"), (occlusion, "r", "m", "h")):
            for order in _orders(kinds):
                parts = in_order(tuple(letters[letter] for letter in order))
                yield "_".join(order), parts
                if "".join(order) not in english:
                    yield "".join(order), parts


def _with_smoothness() -> Iterator[tuple[str, tuple[Part, ...]]]:
    """'mas', 'mos', 'mods', 'mra', 'srm', ...: metallic and occlusion with smoothness, metallic and roughness with
    specular; a letter of Unity's detail mask, of emission or of height as the third."""
    maps = {"m": "metallic", **dict.fromkeys(("o", "a", "ao"), "occlusion"), "r": "roughness", "h": "displacement"}
    kinds = [("m", occlusion, gloss) for occlusion in ("o", "a", "ao") for gloss in "sg"]
    english = {"sam", "gem", "mag", "gam", "ago", "mog", "gom", "mags", "maos", "goam"}
    orders = [order for kind in kinds for order in _orders(kind)]
    orders += [(*kind[:2], third, kind[2]) for kind in kinds for third in "deh"]
    for order in orders + list(_orders(("m", "r", "s"))):
        last = ("specular", False) if "r" in order else ("roughness", True)
        said = {**{letter: (name, False) for letter, name in maps.items()}, "s": last, "g": last}
        parts = [Part(said[letter][0], channel, said[letter][1])
                 for letter, channel in zip(order, "RGBA") if letter in said]  # fmt: skip
        if "".join(order) not in english:
            yield "".join(order), tuple(parts)


def _orders(items: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not items:
        yield ()
    for index, item in enumerate(items):
        for rest in _orders(items[:index] + items[index + 1 :]):
            yield (item, *rest)


MEGASCANS = in_order(("occlusion", "roughness", "displacement"))  # ORDp
INITIALS = dict(_with_smoothness()) | dict(_initials()) | {"mr": GLTF, "rm": GLTF}
INITIALS |= {"ordp": MEGASCANS, "or_dp": MEGASCANS}
for _letter, _map in (("r", "roughness"), ("o", "occlusion"), ("m", "metallic"), ("h", "displacement")):
    INITIALS[f"bc{_letter}"] = (Part("diffuse"), Part(_map, "A"))
for _letter, _map in (("r", "roughness"), ("m", "metallic")):  # MAO, AOR: two maps, in this order
    INITIALS[f"{_letter}ao"] = in_order((_map, "occlusion"))
    INITIALS[f"ao{_letter}"] = in_order(("occlusion", _map))
for _map in ("occlusion", "ao"):
    INITIALS[f"metallic_{_map}_detail_smoothness"] = MASK_MAP
INITIALS["bca"] = (Part("diffuse"),)
INITIALS["ort"] = in_order(("occlusion", "roughness"))  # and translucency, of Fab's Megascans
INITIALS["dp_ra"] = in_order(("displacement", "roughness", "occlusion"))
INITIALS["ddna"] = (Part("normal"), Part("roughness", "A", True))  # CryEngine
SHORT_INITIALS = frozenset(dict(_with_smoothness())) | {"rao", "aor", "mao", "aom"}
SHORT_INITIALS |= {word for word in INITIALS if len(word) == 2 or word[:2] == "bc"}
INITIALS |= dict.fromkeys(MASK_MAPS, MASK_MAP) | {"dp_r": in_order(("displacement", "roughness"))}


class Term(NamedTuple):
    """What a word of a file name means."""

    kind: str  # map, gloss, alpha, other, layer, packed
    map: str = ""  # of kind map and gloss
    short: bool = False  # counts as the last word, or beside another scalar map
    weak: bool = False  # counts where no other term does


def _terms() -> dict[str, Term]:
    terms = {}
    for kind, words in (("other", OTHER), ("layer", LAYERS), ("alpha", ALPHA)):
        terms.update({word: Term(kind, weak=word in WEAK) for word in words})
    terms.update({word: Term("gloss", "roughness", weak=word in WEAK) for word in GLOSS})
    terms.update({word: Term("gloss", "roughness", True) for word in SHORT_GLOSS})
    terms.update({word: Term("alpha", short=True) for word in SHORT_ALPHA})
    for name in MAPS:
        terms.update({word: Term("map", name, True, word in WEAK) for word in SHORT[name]})
        terms.update({word: Term("map", name, weak=word in WEAK) for word in KEYWORDS[name] + _MORE.get(name, ())})
    terms.update({word: Term("packed", short=word in SHORT_INITIALS) for word in INITIALS})
    return terms


TERMS = _terms()
LONGEST_PHRASE = max(word.count("_") + 1 for word in TERMS)


def get_texture_config() -> dict[str, tuple[int, tuple[str, ...]]]:
    """Map name -> (channels, keywords that name it in a file name), in canonical order."""
    return {name: (channels, KEYWORDS[name]) for name, channels in MAPS.items()}
