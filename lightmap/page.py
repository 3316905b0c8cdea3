"""viewer.html: one HTML file with a time slider, which runs F2 in WebGL 2 on the exported textures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from common.files import atomic_write
from common.html_page import blob_script, encode_bytes, fill_template, json_for_html, one_script
from lightmap.quantised import planes
from lightmap.report_text import describe_light
from lightmap.shader import Decoder, shader_source, weight_bytes, weight_columns
from shaders.languages import WEIGHT_TEXTURE_WIDTH

OWN = Path(__file__).resolve().parent / "viewer"
SCORES = ("bytes", "psnr_hours", "psnr_half_hours")
HERE = "{{blobs}}"  # where textures and weights go
HEADLINE = ("psnr_hours", "psnr_half_hours")
OLD_TITLES = {  # of the forms in reports that had no titles
    "f1_f2": "F1 + F2, float32", "f1_f2_float16": "F1 + F2, float16", "latent_f32_f2": "latent map float32 + F2",
    "latent_q8_f2": "latent map 8 bits + F2", "latent_q8_half_f2": "the same at half size",
}  # fmt: skip


def page_parts(decoder: Decoder, report: Mapping[str, Any] | None) -> Iterator[str]:
    """The HTML of a day's page, in parts that follow one another: textures of a large day take many MB.

    report: of summary.build_report; None: no scores are shown.
    """
    (rows, columns), (height, width) = decoder.latent.latent_size, decoder.latent.size
    count, textures = len(weight_columns(decoder)), len(decoder.texture_names)
    data = {
        "lightmap": {"width": width, "height": height},
        "latent": {"width": columns, "height": rows},
        "planes": [{"name": name, "blob": index} for index, name in enumerate(decoder.texture_names)],
        "weights": {"blob": textures, "columns": count, "width": WEIGHT_TEXTURE_WIDTH,
                    "rows": -(-count // WEIGHT_TEXTURE_WIDTH)},
        "decoder": shader_source(decoder, "essl", baked=False),
        "show": (OWN / "show.frag").read_text(encoding="utf-8"),
        "network": " → ".join(map(str, decoder.f2.sizes)),
        "report": _scores(report),
    }  # fmt: skip
    text = fill_template((OWN / "page.html").read_text(encoding="utf-8"), {
        "title": f"A day of lightmaps, {width}×{height}",
        "style": (OWN / "style.css").read_text(encoding="utf-8"),
        "blobs": HERE,
        "data": json_for_html(data),
        "script": one_script([OWN / "main.js"]),
    })  # fmt: skip
    before, _, after = text.partition(HERE)
    yield before
    payloads = chain((plane.tobytes() for plane in planes(decoder.latent)), [weight_bytes(decoder)])
    for index, payload in enumerate(payloads):
        yield blob_script(index, encode_bytes(payload)) + "\n"
    yield after


def write_page(path: Path, decoder: Decoder, report: Mapping[str, Any] | None) -> None:
    """Write the page atomically."""
    with atomic_write(path) as stream:
        for part in page_parts(decoder, report):
            stream.write(part.encode("utf-8", "backslashreplace"))


def _scores(report: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The scores that the page shows; None for no report, or for a file with other content."""
    try:
        if "ranking" not in report:
            forms = [_row({"title": OLD_TITLES[name], **form}) for name, form in report["forms"].items()]
            return {**{key: report[key] for key in HEADLINE}, "values": None, "light": None, "forms": forms}
        rows = {**report["forms"], **report["rivals"]}
        forms = [{**_row(rows[name]), "front": name in report["front"]} for name in report["ranking"]]
        return {**{key: report[key] for key in HEADLINE}, "values": report["values"],
                "light": describe_light(report["light"]) if "light" in report else None, "forms": forms}  # fmt: skip
    except (LookupError, TypeError, AttributeError, ValueError):
        return None


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's table shows of a form; reports of earlier versions have the share of the PNG files."""
    light = row.get("light")
    return {
        "title": row["title"], **{key: row[key] for key in SCORES}, "of_files": row.get("of_files", row.get("of_png")),
        "exact": row.get("exact", False), "relative_rmse": light and light["relative_rmse"],
        "mean_stops": light and light["mean_stops"],
        "worst": light and light["worst_texel"] and light["worst_texel"]["relative_error"],
    }  # fmt: skip
