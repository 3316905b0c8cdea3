"""The report of python -m bench.rate: one HTML file that needs nothing else, pictures included."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import features

from bench.rate_plot import curves_of, subjects, svg
from bench.rate_summary import (
    Entry,
    form_of,
    form_rows,
    forms_of,
    gain_rows,
    label_of,
    line_of,
    materials_of,
    table_rows,
    verdicts,
)
from maps.images import encode_png
from transcode.codecs import ASTC_QUALITY, AVIF_SPEED, BC7_PROFILE, BLOCK_CODECS, IMAGE_CODECS, JPEG_XL_EFFORT

TEMPLATE = Path(__file__).with_name("rate_report.html")
Pictures = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]  # material -> label -> map -> (h, w, C) uint8


def render(result: Mapping[str, Any], found: Sequence[Mapping[str, Any]], pictures: Pictures) -> str:
    """The page.

    Args:
        result: what bench.common.save wrote: machine, settings, entries.
        found: bench.rate_summary.gains of the entries.
        pictures: the same crop of every variant of a material, "source" among them.
    """
    entries, machine, settings = result["entries"], result["machine"], result["settings"]
    viewer = {"materials": [viewer_material(entries, name, pictures[name]) for name in materials_of(entries)]}
    payload = json.dumps(viewer, allow_nan=False, separators=(",", ":"))
    slots = {
        "facts": facts(machine, settings, entries),
        "verdicts": "".join(f"<li>{html.escape(line)}</li>" for line in verdicts(found)),
        "plots": plots(entries),
        "gains": table(gain_rows(found), "gains") if found else "<p>There was nothing to compare with.</p>",
        "forms": forms(entries),
        "tables": "".join(details(entries, name) for name in materials_of(entries)),
        "settings": codec_settings(),
        "size": f"{len(payload) / 2**20:.1f} MiB",
        "data": payload.replace("<", "\\u003c"),  # nothing in it may end the script element
    }
    page = TEMPLATE.read_text(encoding="utf-8")
    parts = page.split("<!--slot:")  # filled in one pass: no value is searched for slots
    return parts[0] + "".join(slots[name] + rest for name, _, rest in (part.partition("-->") for part in parts[1:]))


# --- words and tables ----------------------------------------------------------------------------------------------


def facts(machine: Mapping[str, Any], settings: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """Machine, date and settings as a definition list."""
    ours = settings.get("forms", ())
    maps = {entry["material"]: f"{entry['width']}×{entry['height']}, {len(entry['maps'])} maps" for entry in entries}
    rows = {
        "Machine": f"{machine['processor']}, {machine['cores']} cores" + (
            f", {machine['cuda']}" if machine["cuda"] else ""),
        "Software": f"{machine['system']}, Python {machine['python']}, PyTorch {machine['torch']}",
        "Commit, date": f"{machine['commit'] or 'unknown'}, {machine['date']}",
        "Our runs": f"preset {settings['preset']}, at {', '.join(f'{rate:g}' for rate in settings['rates'])} "
                    "bits per texel" + (f"; {', '.join(ours)}" if len(ours) > 1 else ""),
        "Materials": "; ".join(f"{name} ({text})" for name, text in maps.items()),
    }  # fmt: skip
    return "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in rows.items())


def codec_settings() -> str:
    return html.escape(
        f"BC1, BC4, BC5, BC7: ISPC Texture Compressor, BC7 profile {BC7_PROFILE}, one thread. ASTC: astcenc, quality "
        f"{ASTC_QUALITY} (medium), LDR. AVIF: libavif at speed {AVIF_SPEED}, 4:4:4, scalars as grey pictures. JPEG XL: "
        f"libjxl at effort {JPEG_XL_EFFORT}, scalars as grey pictures."
    )


def forms(entries: Sequence[Entry]) -> str:
    """Our forms beside each other; nothing where there is one."""
    if len(forms_of(entries)) < 2:
        return ""
    text = ("Latents and decoder of each run, mean over the materials. <em>filtered</em> is the PSNR of one decode at "
            "random positions and LODs against the source as a sampler filters it; <em>over ASTC</em> is at equal "
            "rate, or at the lowest rate of ASTC where that is above ours, and <em>without best</em> the same without "
            "the material that gains most. Fetches and multiply-adds are those of one pixel at a whole LOD; a sample "
            "that the hardware filters counts as one fetch.")  # fmt: skip
    return f"<h3>Our forms</h3>{table(form_rows(entries), 'all')}<p>{text}</p>"


def table(rows: Sequence[Sequence[str]], kind: str, highlight: str = "\0") -> str:
    """An HTML table of a heading and rows; rows whose first cell starts with `highlight` stand out."""
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in rows[0])
    body = []
    for row in rows[1:]:
        cells = "".join(f"<td{_tone(text)}>{html.escape(text)}</td>" for text in row[1:])
        mark = ' class="ours"' if row[0].startswith(highlight) else ""
        body.append(f'<tr{mark}><th scope="row">{html.escape(row[0])}</th>{cells}</tr>')
    return (f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>")  # fmt: skip


def _tone(text: str) -> str:
    """Signed figures are coloured: gains and losses."""
    return {"+": ' class="gain"', "-": ' class="loss"'}.get(text[:1], "") if text[1:2].isdigit() else ""


def details(entries: Sequence[Entry], material: str) -> str:
    group = [entry for entry in entries if entry["material"] == material]
    lods = [entry for entry in group if entry.get("lods")]
    text = "".join(
        f"<tr><th scope='row'>{html.escape(label_of(entry))}</th>"
        + "".join(f"<td>{value:.2f}</td>" for value in entry["lods"]) + "</tr>"
        for entry in lods
    )  # fmt: skip
    count = max((len(entry["lods"]) for entry in lods), default=0)
    numbers = "".join(f'<th scope="col">LOD {lod}</th>' for lod in range(count))
    by_lod = (f'<details><summary>{html.escape(material)}: our PSNR per LOD, dB</summary><div class="scroll"><table>'
              f'<thead><tr><th scope="col">rate</th>{numbers}</tr></thead><tbody>{text}</tbody></table></div></details>'
              if lods else "")  # fmt: skip
    return (f"<details open><summary>{html.escape(material)}: every measurement</summary>"
            f"{table(table_rows(group), 'all', 'ours')}</details>{by_lod}")  # fmt: skip


def plots(entries: Sequence[Entry]) -> str:
    """The rate-distortion plots as SVG; a line of text without matplotlib."""
    figures = []
    for number, (material, title) in enumerate(subjects(entries)):
        try:
            picture = svg(curves_of(entries, material), title, f"p{number}")
        except ImportError:
            return "<p>The plots need matplotlib: pip install matplotlib, then run the benchmark again.</p>"
        figures.append(f"<figure aria-label=\"{html.escape(title, quote=True)}\">{picture}</figure>")
    return "".join(figures)


# --- viewer --------------------------------------------------------------------------------------------------------


def viewer_material(entries: Sequence[Entry], material: str, crops: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """What the viewer knows of a material: {"name", "maps", "size", "variants", "pairs"}; images as data URIs."""
    group = [entry for entry in entries if entry["material"] == material]
    chosen, pairs = shown(group)
    first = next(iter(crops["source"].values()))
    variants = [{"label": "source", "text": "source", "psnr": {}, "images": _uris(crops["source"])}]
    for entry in sorted(chosen, key=lambda e: (e["codec"] != "ours", form_of(e), e["bpp"])):
        label = label_of(entry)
        text = f"{line_of(entry) if entry['codec'] == 'ours' else label} · {entry['bpp']:.2f} bpp"
        psnr = {name: round(value, 2) for name, value in entry["psnr"].items()}
        variants.append({"label": label, "text": text, "psnr": psnr, "images": _uris(crops[label])})
    size = [first.shape[1], first.shape[0]]
    return {"name": material, "maps": group[0]["maps"], "size": size, "variants": variants, "pairs": pairs}


def shown(group: Sequence[Entry]) -> tuple[list[Entry], list[dict[str, Any]]]:
    """The entries of one material that the viewer holds: ours, and for each of our rates the nearest of each kind.

    Returns: (entries, [{"rate", "ours": label, "rival": label of the nearest block codec, or of any}]).
    """
    ours = sorted((entry for entry in group if entry["codec"] == "ours"), key=lambda e: (form_of(e), e["bpp"]))
    chosen, pairs = {label_of(entry): entry for entry in ours}, []
    for entry in ours:
        rivals = []
        for codecs in (BLOCK_CODECS, *((codec,) for codec in IMAGE_CODECS)):
            candidates = [other for other in group if other["codec"] in codecs]
            if candidates:
                # as near in rate as there is, and of equals the better
                rivals.append(min(candidates, key=lambda e, bpp=entry["bpp"]: (
                    round(abs(math.log(e["bpp"] / bpp)), 6), -e["psnr"]["all"])))  # fmt: skip
        chosen.update((label_of(rival), rival) for rival in rivals)
        rival = label_of(rivals[0]) if rivals else "source"
        rate = f"{form_of(entry)} {entry['target_bpp']:g}".strip()
        pairs.append({"rate": rate, "ours": label_of(entry), "rival": rival})
    return list(chosen.values()), pairs


def _uris(maps: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: data_uri(pixels) for name, pixels in maps.items()}


def data_uri(pixels: np.ndarray) -> str:
    """(h, w, 1 or 3) uint8 as a data URI, without loss: lossless WebP, PNG where Pillow has no WebP."""
    if not features.check("webp"):
        return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"
    stream = io.BytesIO()
    rgb = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    PillowImage.fromarray(rgb).save(stream, "WEBP", lossless=True, quality=70, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
