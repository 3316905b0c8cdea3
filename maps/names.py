"""What image files hold, judged by their names: one map, several in its channels, or none (design.md, section 3)."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maps.channels import MAPS, map_size
from maps.keywords import (
    COLOUR_LETTERS,
    GLTF,
    INITIALS,
    LONGEST_PHRASE,
    METALLIC_SMOOTHNESS,
    NOISE,
    TERMS,
    WHOLE_WORDS_ONLY,
    Part,
    Term,
    in_order,
)

PICTURE_OF_ALL = "a picture of the whole material, by its name"
NO_CHANNEL = (f"no map of the {len(MAPS)}", "a map of another layer")
LETTER_OF_COLOUR = "a letter that may stand for its colour or for another map"
CHANNEL_LABEL = re.compile(r"\([RGBA]\)|(?<![^\W_])[RGBA]-(?=[^\W_]{2})", re.IGNORECASE)  # AO(R)_Rough(G), R-AO_G-Rough
CHANNEL_OF_A_FILE = re.compile(r"@channels=([RGBA]+)$")  # as Sketchfab and others cut the files of a glTF
WORKFLOWS = frozenset({"metalness", "metallic", "specular", "roughness", "gloss", "glossiness"})


@dataclass(frozen=True)
class Reading:
    """What a file's name says.

    Fields:
        parts: the maps that the file holds and where; empty for none.
        because: the words that decided, or why the file holds no map, for the user.
        grey: the map of the whole file where its content is grey, so that the name cannot mean a packing; '' if it can.
        unclear: the name has two maps, and no convention says which channels hold which, unless alpha varies.
        letter: the single letter at the end, or before the last word, that may say a map or something else: 'R'.
    """

    parts: tuple[Part, ...] = ()
    because: str = ""
    grey: str = ""
    unclear: bool = False
    letter: str = ""


@dataclass(frozen=True)
class _Word:
    text: str  # lower case
    joined: bool  # to the word before it: NormalHeight, and not normal_height


@dataclass(frozen=True)
class _Found:
    """A term of the vocabulary in a name."""

    term: Term
    text: str
    place: int  # counted in words that say something
    joined: bool


def recognise(file_name: str) -> Reading:
    """What a file holds, judged by its own name alone; `recognise_all` knows more."""
    return _read(words_of(file_name))


def recognise_all(file_names: Sequence[str]) -> dict[str, Reading]:
    """What each image file of a folder holds, judged by the names of all.

    Words that all files share name the material or the workflow, and are left out; so is a map's word at the end of
    several names that have another one before it: COL_2K_METALNESS is a colour. A file whose name has nothing else is a
    picture of the whole.
    """
    channels = {name: CHANNEL_OF_A_FILE.search(Path(name).stem) for name in file_names}
    words = {name: words_of(name) for name in file_names}
    telling = [name for name in file_names if _names_a_map(words[name])]
    shared = _shared([words[name] for name in telling]) if telling else Counter()
    if any(_loses_its_map(words[name], _without(words[name], shared)) for name in telling):
        shared = Counter({word: count for word, count in shared.items() if word not in TERMS})
    if len(telling) == 1:  # rock_n.png beside rock.png: its words but for the map's
        shared = Counter({word: count for word, count in shared.items() if word not in TERMS})
    own = {name: _without(words[name], shared) for name in file_names}
    workflow = _workflow(own.values())
    for name, left in own.items():
        found, rest = _terms_of(left), _without_last_term(left)
        if found and found[-1].text in workflow and _read(rest).parts:
            own[name] = rest
    readings = {name: _read(left) for name, left in own.items()}
    if not any(reading.parts for reading in readings.values()):
        return {name: _read(words[name]) for name in file_names}
    for name, left in own.items():
        if not readings[name].parts and not _says_something(left) and _says_something(words[name]):
            whole = _read(words[name])
            named = [found for found in _terms_of(words[name]) if not found.term.weak and not found.term.short]
            # wall_diffuse.png beside wall_diffuse_normal.png; but Rough_Metal.png is no roughness, robot_arm.png no ARM
            strong = named and (named[-1].term.map == "diffuse" or named[-1].text in WORKFLOWS)
            readings[name] = whole if strong else Reading(because=PICTURE_OF_ALL)
    return {name: _cut_out(reading, channels[name][1]) if channels[name] else reading
            for name, reading in readings.items()}  # fmt: skip


def _cut_out(reading: Reading, channels: str) -> Reading:
    """The reading of a file that holds only one of the channels, or only the colour, of what the name says."""
    parts = [part for part in reading.parts if part.channels in (channels, channels[:3])]
    if len(reading.parts) == 1 and map_size(reading.parts[0].map) == 1:
        parts = [reading.parts[0]]
    because = f"{reading.because}, its channel {channels}"
    return Reading(tuple(part._replace(channels="RGB") for part in parts[:1]), because)


def normal_convention(file_name: str) -> str:
    """'gl' (green up), 'dx' (green down) or 'unknown'."""
    text = "_".join(word.text for word in words_of(file_name))
    gl, dx = (re.search(rf"(^|_|nor|normal)({kind})(_|$)", text) for kind in ("(open_?|o)?gl", "dx|direct_?x"))
    return "gl" if gl else "dx" if dx else "unknown"


# --- words ---------------------------------------------------------------------------------------------------------


def words_of(file_name: str) -> tuple[_Word, ...]:
    """The words of a name without folder and ending: they end at non-letters, digits and camelCase humps.

    A word of several keywords is cut into them: metallicroughness is metallic and roughness, joined.
    """
    stem = CHANNEL_OF_A_FILE.sub("", Path(file_name).stem)
    labels = "".join(re.sub(r"[()-]", "", label) for label in CHANNEL_LABEL.findall(stem))
    if len(labels) > 1 and "RGBA".startswith(labels.upper()):
        stem = CHANNEL_LABEL.sub(" ", stem)
    stem = unicodedata.normalize("NFC", stem)  # macOS decomposes accents, which would split words
    result, end = [], -1
    for match in re.finditer(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", stem):
        joined = match.start() == end
        for text in _cut(match[0].lower()):
            result.append(_Word(text, joined))
            joined = True
        end = match.end()
    return tuple(result)


@functools.lru_cache(maxsize=1024)
def _cut(text: str) -> tuple[str, ...]:
    """`text` as the fewest keywords that it consists of; itself where it does not."""
    if text in TERMS or text in NOISE or len(text) > 40:
        return (text,)
    pieces = [word for word, term in TERMS.items() if len(word) > 3 and "_" not in word and not term.short]
    pieces += ["ao", "met", "occ", "map", "gl", "dx"]
    best: list[tuple[str, ...] | None] = [()] + [None] * len(text)
    for end in range(1, len(text) + 1):
        for piece in pieces:
            before = best[end - len(piece)] if end >= len(piece) and text.endswith(piece, 0, end) else None
            if before is not None and (best[end] is None or len(before) + 1 < len(best[end])):
                best[end] = (*before, piece)
    return best[-1] or (text,)


def _says_something(words: Iterable[_Word]) -> bool:
    return any(word.text not in NOISE and not word.text.isdecimal() for word in words)


def _shared(names: Sequence[Sequence[_Word]]) -> Counter:
    """The words that all names have, as often as all have them."""
    return functools.reduce(lambda a, b: a & b, (Counter(word.text for word in words) for words in names))


def _without(words: Sequence[_Word], shared: Counter) -> tuple[_Word, ...]:
    """A name without the words that all share: every one of the material's, of a keyword as many as all have.

    An exporter joins names: in mat_Metallic-mat_Roughness both `mat` go. In METALNESS_2K_METALNESS, where all names
    end with METALNESS, the last goes.
    """
    left, count = [], Counter(shared)
    for word in reversed(words):
        if count[word.text] and word.text in TERMS:
            count[word.text] -= 1
        elif not shared[word.text] or word.text in TERMS or word.text in NOISE:
            left.append(word)
    return tuple(reversed(left))


def _loses_its_map(words: Sequence[_Word], left: Sequence[_Word]) -> bool:
    """Whether nothing but a letter is left of a name without its shared words: BaseColor_L beside BaseColor_R."""
    found = _terms_of(words)
    letter = len(left) == 1 and len(left[0].text) == 1 and not _terms_of(left) and words[-1] == left[0]
    return letter and bool(found) and _is_colour(found[-1]) and not found[-1].term.weak


def _workflow(names: Iterable[Sequence[_Word]]) -> frozenset[str]:
    """The words at the end of two or more names, each behind another map, that say how the material was made."""
    ends = Counter()
    for words in names:
        found, left = _terms_of(words), _without_last_term(words)
        apart = left and found[-1].text in WORKFLOWS and not found[-1].joined and not _is_packing(found)
        if apart and _read(left).parts:
            ends[found[-1].text] += 1
    return frozenset(text for text, count in ends.items() if count > 1)


def _without_last_term(words: Sequence[_Word]) -> tuple[_Word, ...]:
    found = _terms_of(words)
    places = [index for index, word in enumerate(words) if found and word.text == found[-1].text]
    return tuple(words[: places[-1]]) + tuple(words[places[-1] + 1 :]) if places else ()


# --- terms ---------------------------------------------------------------------------------------------------------


def _terms_of(words: Sequence[_Word]) -> list[_Found]:
    """The terms of the vocabulary in a name, the longest phrase first; short ones where they can count."""
    found, index, place = [], 0, 0
    while index < len(words):
        for length in range(min(LONGEST_PHRASE, len(words) - index), 0, -1):
            text = "_".join(word.text for word in words[index : index + length])
            if text in TERMS and (length > 1 or text not in NOISE):
                found.append(_Found(TERMS[text], text, place, words[index].joined))
                break
        else:
            length = 1
        if _says_something(words[index : index + length]) or text in TERMS:
            place += 1
        index += length
    last = place - 1
    return [entry for i, entry in enumerate(found) if not entry.term.short or _short_counts(found, i, last)]


def _short_counts(found: Sequence[_Found], index: int, last: int) -> bool:
    """A short word is a term at the end of a name, or, of two letters and more, beside another scalar map."""
    entry, before = found[index], found[index - 1] if index else None
    if entry.term.kind == "alpha":
        return entry.place == last and bool(before) and before.term.map == "diffuse" and before.place == last - 1
    if entry.place == last and not (entry.joined and len(entry.text) < 2):
        return True
    beside = [found[i] for i in (index - 1, index + 1) if 0 <= i < len(found)]
    after = found[index + 1] if index + 1 < len(found) else None
    if after and after.place == last == entry.place + 1 and not entry.joined:  # R_AO, BC_A, N_H
        colour = _is_colour(entry) and (after.term.kind == "alpha" or _is_scalar(after)) and len(after.text) == 1
        if colour or (len(entry.text) == 1 and _is_scalar(entry) and _is_scalar(after)):
            return True
    return len(entry.text) > 1 and _is_scalar(entry) and any(
        abs(other.place - entry.place) == 1 and _is_scalar(other) for other in beside
    )  # fmt: skip


def _names_a_map(words: Sequence[_Word]) -> bool:
    return any(found.term.kind in ("map", "packed", "gloss") for found in _terms_of(words)) or bool(_read_inside(words))


def _is_scalar(entry: _Found) -> bool:
    return entry.term.kind in ("map", "gloss") and MAPS[entry.term.map] == 1


def _is_colour(entry: _Found) -> bool:
    return entry.term.kind == "map" and MAPS[entry.term.map] == 3


def _is_packing(found: Sequence[_Found]) -> bool:
    """Whether a name ends with two scalar maps side by side."""
    if len(found) < 2 or not all(map(_is_scalar, found[-2:])) or found[-1].term.map == found[-2].term.map:
        return False
    return found[-1].place - found[-2].place == 1


# --- readings ------------------------------------------------------------------------------------------------------


def _read(words: Sequence[_Word]) -> Reading:
    """The maps that these words say. The last term counts, because the type of a map is a suffix."""
    found = _terms_of(words)
    strong = [entry for entry in found if not entry.term.weak]
    if not strong:
        return _read_weak(words, found)
    packed = next((entry for entry in reversed(found) if entry.term.kind == "packed"), None)
    if packed and [word.text for word in words][-2:] in ([packed.text, letter] for letter in "rgb"):
        return _read_channel(packed, words[-1].text.upper())
    last = _last_of_run(found, strong[-1])
    run = _run(found, last)
    before = found[found.index(run[0]) - 1] if found.index(run[0]) else None
    if before and before.term.kind == "layer" and run[0].place - before.place == 1:
        return Reading(because=f"{before.text}: {NO_CHANNEL[1]}")
    if last.term.kind == "packed":
        parts = INITIALS[last.text]
        grey = "occlusion" if len(last.text) == 3 and len(parts) == 2 and "ao" in last.text else ""  # MAO, brickao
        return Reading(parts, f"{last.text.upper()}: packed", grey=grey)
    unity = len(run) == 2 and run[0].term.map in ("metallic", "diffuse", "specular")
    if len(last.text) == 1 and len(run) > 1 and (last.term.kind == "map" or (last.term.kind == "gloss" and not unity)):
        return _read_letter(run)
    if last.term.kind == "map" or (last.term.kind == "gloss" and len(run) > 1 and not unity):
        return _read_maps(run)
    return _read_qualified(found, last)


def _last_of_run(found: Sequence[_Found], strong: _Found) -> _Found:
    """The weak word behind `strong` that belongs to a packing, else `strong`: OcclusionRoughMetal, metallic_smooth."""
    index = found.index(strong)
    after = found[index + 1] if index + 1 < len(found) and found[index + 1].place - strong.place == 1 else None
    if after is None or strong.term.kind not in ("map", "gloss"):
        return strong
    if after.term.kind == "gloss":
        return after if strong.term.map in ("metallic", "diffuse", "specular") else strong
    packing = _is_scalar(after) and _is_scalar(strong) and (after.joined or len(_run(found, strong)) > 1)
    return after if packing else strong


def _run(found: Sequence[_Found], last: _Found) -> list[_Found]:
    """The maps side by side that end with `last`: scalar ones, of any kind where joined, or a colour and a scalar."""
    run = [last]
    for entry in reversed(found[: found.index(last)]):
        beside = run[0].place - entry.place == 1 and {entry.term.kind, last.term.kind} <= {"map", "gloss"}
        beside = beside and (run[0].joined or not (entry.term.kind == "gloss" and entry.term.weak))
        scalars = _is_scalar(entry) and all(map(_is_scalar, run))
        pair = _is_colour(entry) and len(run) == 1 and _is_scalar(last)
        if not beside or not (run[0].joined or scalars or pair):
            break
        run.insert(0, entry)
    maps = [entry.term.map for entry in run]
    while len(set(maps)) < len(maps):  # a map named twice: Rough_Roughness
        run, maps = run[1:], maps[1:]
    return run


def _read_maps(run: Sequence[_Found]) -> Reading:
    """One map, or several side by side."""
    maps = tuple(entry.term.map for entry in run)
    words, last = " and ".join(entry.text for entry in run), maps[-1]
    if len(maps) == 1:
        return Reading((Part(last),), words)
    letter = next((entry.text.upper() for entry in run if len(entry.text) == 1), "")
    colours = [name for name in maps if MAPS[name] == 3]
    gloss = {entry.term.map for entry in run if entry.term.kind == "gloss"}
    if not colours and set(maps) == {"roughness", "metallic"} and not gloss:
        return Reading(GLTF, f"{words}: packed as in glTF", grey=_strongest(run), letter=letter)
    if not colours:
        parts = tuple(part._replace(inverted=part.map in gloss) for part in in_order(maps[:4]))
        grey = "" if _strongest(run) in gloss else _strongest(run)
        return Reading(parts, f"{words}: packed in this order", grey=grey, letter=letter)
    if len(colours) == 1 and len(maps) == 2:
        other = next(name for name in maps if name not in colours)
        parts = (Part(colours[0]), Part(other, "A", other in gloss))
        return Reading(parts, f"{words}: colour and alpha", grey=last, unclear=True)
    return Reading(tuple(Part(name) for name in maps), words, grey=last, unclear=True)


def _read_letter(run: Sequence[_Found]) -> Reading:
    """A keyword with one letter behind it: AO_R and BaseColor_R may be packed, or of the right door."""
    reading, letter = _read_maps(run), run[-1].text.upper()
    keyword = next((entry for entry in reversed(run[:-1]) if not entry.term.weak), None)
    if keyword is None:
        return reading
    grey = keyword.term.map if _is_scalar(keyword) else reading.grey
    return replace(reading, grey=grey, letter=letter)


def _read_channel(packed: _Found, letter: str) -> Reading:
    """ORM_R: one channel of a packing where the file is grey, else a packing of the right door."""
    part = next((part for part in INITIALS[packed.text] if part.channels == letter and not part.inverted), None)
    return Reading(INITIALS[packed.text], f"{packed.text.upper()}: packed", part.map if part else "", letter=letter)


def _strongest(run: Sequence[_Found]) -> str:
    """The map of a grey file with these words: the last of them that names no material as often."""
    return next((entry.term.map for entry in reversed(run) if not entry.term.weak), run[-1].term.map)


def _read_qualified(found: Sequence[_Found], last: _Found) -> Reading:
    """A name that ends with gloss, alpha, another map or a layer: with what stands before it, or alone."""
    index = found.index(last)
    before = found[index - 1] if index and last.place - found[index - 1].place == 1 else None
    if last.term.kind == "gloss":
        if before and before.term.map == "metallic":
            return Reading(METALLIC_SMOOTHNESS, f"{before.text} and {last.text}: packed as in Unity", grey="metallic")
        if before and before.term.map in ("diffuse", "specular"):
            parts = (Part(before.term.map), Part("roughness", "A", True))
            return Reading(parts, f"{before.text} and {last.text}: colour and alpha")
        letter = last.text.upper() if len(last.text) == 1 else ""  # G: gloss, or glow
        if letter and before and before.term.map == "roughness":
            return Reading((Part("roughness"),), before.text, grey="roughness", letter=letter)
        return Reading((Part("roughness", inverted=True),), f"{last.text}: 1 - roughness", letter=letter)
    if last.term.kind == "alpha" and before and before.term.map == "diffuse":
        return Reading((Part("diffuse"),), f"{before.text}, with {last.text} in alpha")
    return Reading(because=f"{last.text}: {NO_CHANNEL[0]}")


def _read_weak(words: Sequence[_Word], found: Sequence[_Found]) -> Reading:
    """A name without a word that counts: keywords inside words, then words that are as common in materials' names."""
    inside = _read_inside(words)
    if inside:
        return Reading((Part(inside),), f"a word of {inside} inside the name")
    if found and found[-1].term.kind == "map":
        return Reading((Part(found[-1].term.map),), found[-1].text)
    if found and found[-1].term.kind == "gloss":
        return Reading((Part("roughness", inverted=True),), f"{found[-1].text}: 1 - roughness")
    named = [word.text for word in words if word.text not in NOISE and not word.text.isdecimal()]
    colour = named and named[-1] in COLOUR_LETTERS and not any(entry.term.kind != "map" for entry in found)
    return Reading(because=LETTER_OF_COLOUR if colour else "no keyword of a map in the name")


def _read_inside(words: Sequence[_Word]) -> str:
    """The map whose keyword is the last inside a word: brickalbedo is diffuse, brickao occlusion, chaos nothing."""
    for word in reversed(words):
        hits = [
            (word.text.rindex(keyword) + len(keyword), len(keyword), keyword)
            for keyword, term in TERMS.items()
            if len(keyword) > 3 and "_" not in keyword and keyword not in WHOLE_WORDS_ONLY and not term.short
            and not term.weak and term.kind != "packed" and keyword in word.text
        ]  # fmt: skip
        hits += [(len(word.text), 2, "ao")] if word.text.endswith("ao") else []
        if hits:
            term = TERMS[max(hits)[2]]
            return term.map if term.kind == "map" else ""
    return ""
