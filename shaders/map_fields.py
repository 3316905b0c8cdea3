"""What the fields of NtMaterial are: extra maps, and values that mean something else than 0 to 1 in their files.

shaders/export.py writes this into a decoder. A material without extra maps whose files hold 0 to 1 gets nothing of it.
"""

from __future__ import annotations

import numpy as np

from maps.channels import MAPS, NAMED_CHANNEL
from maps.ranges import has_units
from maps.record import MapRecord, MaterialRecord
from shaders.languages import Language, number_text


def field_name(entry: MapRecord) -> str:
    """The field of NtMaterial that a map is in: its name, and `extra` for the one of --extra_map."""
    return "extra" if entry.channels.start == NAMED_CHANNEL else entry.name


def _unit_function(entry: MapRecord) -> str:
    """The function that turns what is decoded of a map into the units of its file; only _scaled_maps have one."""
    return f"ntFile{field_name(entry).capitalize()}"


def _kind(entry: MapRecord) -> str:
    return "float" if len(entry.channels) == 1 else f"float{len(entry.channels)}"


def _scaled_maps(material: MaterialRecord) -> list[MapRecord]:
    """The maps whose 0 and 1 mean something else in their files."""
    return [entry for entry in material.maps if has_units(entry.name, entry.value_range)]


def _statements(entry: MapRecord, language: Language) -> list[str]:
    """Statements that return what t means in the file's units, ranges.to_units: outside of [0, 1] it saturates."""
    low, high = entry.value_range
    kind, count = language.type(_kind(entry)), len(entry.channels)
    ends = [end if count == 1 else f"{kind}({', '.join([end] * count)})" for end in ("0.0", "1.0")]
    inside = f"clamp(t, {', '.join(ends)})"
    if entry.log_scale is None:
        named, result = {"low": low, "size": high - low}, f"low + {inside} * size"
    else:
        octaves = np.log2(1 + high / entry.log_scale)
        named, result = {"scale": entry.log_scale, "octaves": octaves}, f"scale * exp2({inside} * octaves) - scale"
    lines = [language.variable("float", name, number_text(np.float32(value))) for name, value in named.items()]
    return [*lines, f"return {result};"]


def unit_functions(material: MaterialRecord, language: Language) -> list[str]:
    """The text of the functions of _scaled_maps."""
    lines = []
    for entry in _scaled_maps(material):
        kind = _kind(entry)
        lines += language.function(kind, _unit_function(entry), [(kind, "t")], _statements(entry, language))
    return lines


def names_of_units(material: MaterialRecord) -> dict[str, str]:
    """Name of a map -> the function of its units, of those that have one."""
    return {entry.name: _unit_function(entry) for entry in _scaled_maps(material)}


def extra_notes(material: MaterialRecord) -> list[str]:
    """What the header says of extra maps."""
    notes = []
    for entry in material.maps:
        if entry.name == "opacity":
            notes.append("Opacity: 1 covers, 0 is a hole. Test it (0.5), or blend with colours multiplied by it.")
        elif entry.name == "emissive" and entry.color_space == "srgb":
            notes.append("Emissive is sRGB: ntSrgbToLinear makes light of it.")
        elif field_name(entry) == "extra":
            notes.append(f"The field extra is {entry.name}.")
    return notes


def unit_lines(material: MaterialRecord, language: Language) -> list[str]:
    """What the header says of the functions of _scaled_maps."""
    lines = []
    for entry in _scaled_maps(material):
        lines.append("  " + language.signature(_kind(entry), _unit_function(entry), [(_kind(entry), "t")]))
        where, (low, high) = f"material.{field_name(entry)}", entry.value_range
        units = f"in the units of its file, {low:g} to {high:g}"
        lines.append(f"      {entry.name.capitalize()} {units}, of t = {where}; t is clamped to [0, 1].")
    return lines


def example_variables(material: MaterialRecord) -> list[tuple[str, str, str]]:
    """The variables that the header's example has of extra maps, as Language.example takes them."""
    scaled, found = _scaled_maps(material), []
    for entry in material.maps:
        if entry.name in MAPS:
            continue
        value = f"material.{field_name(entry)}"
        if entry in scaled:
            value = f"{{nt}}{_unit_function(entry)}({value})"
        elif entry.color_space == "srgb":
            value = f"{{nt}}ntSrgbToLinear({value})"
        found.append((_kind(entry), field_name(entry), value))
    return found
