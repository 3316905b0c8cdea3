"""batch.html: the state of a batch as one HTML file with sortable columns and thumbnails."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from common.errors import one_line
from common.events import readable_bytes
from groups.journal import BATCH_CSV, BATCH_JSON
from maps.channels import canonical
from training.run_folder import THUMBNAIL

REFRESH_S = 30  # the browser reloads the page while the batch is running
MAX_THUMBNAIL_BYTES = 1 << 16

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
table { border-collapse: collapse } td, th { padding: 4px 10px; border-bottom: 1px solid #ddd; text-align: left }
th { position: sticky; top: 0; background: #f4f4f4; cursor: pointer; white-space: nowrap }
th[aria-sort=ascending]::after { content: " \\25b2" } th[aria-sort=descending]::after { content: " \\25bc" }
td.number { text-align: right; font-variant-numeric: tabular-nums } td.text { max-width: 40em; overflow-wrap: anywhere }
img { display: block; image-rendering: auto } .failed { color: #b00020 } .done { color: #1b6e2c }
.running, .waiting { color: #8a5a00 } .skipped { color: #777 }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd } th { background: #2a2a2a } td, th { border-color: #3a3a3a }
  a { color: #8ab4f8 } .failed { color: #ff8a80 } .done { color: #81c995 } .running, .waiting { color: #fdd663 }
}
"""

SCRIPT = """
const body = document.querySelector("tbody"), heads = [...document.querySelectorAll("th")];
heads.forEach((head, column) => head.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent;
  const numeric = head.dataset.kind === "number";
  const compare = (a, b) => {
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");  // empty cells stay below
    return (numeric ? key(a) - key(b) : key(a).localeCompare(key(b))) * (down ? -1 : 1);
  };
  body.append(...[...body.rows].sort(compare));
}));
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def batch_html(save_dir: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of batch.html. Texts from file names and messages are escaped.

    Args:
        save_dir: folder of the page and of the runs; links are relative to it.
        head, rows: content of batch.json.
    """
    maps = canonical({name for row in rows for name in row["psnr"]} - {"all"})
    titles = [("decoded | source | error × 8", ""), ("material", ""), ("status", ""), ("reason", ""),
              ("PSNR, dB", "number"), *((name, "number") for name in maps), ("bpp", "number"), ("size", "number"),
              ("seconds", "number"), ("run", "")]  # fmt: skip
    counts = {status: sum(row["status"] == status for row in rows)
              for status in ("done", "running", "waiting", "failed", "skipped")}  # fmt: skip
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    ended = f"ended {head['ended']}" if head["ended"] else "still at work"
    refresh = "" if head["ended"] else f'<meta http-equiv="refresh" content="{REFRESH_S}">'
    columns = "".join(f'<th data-kind="{kind}">{_text(title)}</th>' for title, kind in titles)
    lines = "\n".join(_row(save_dir, row, maps) for row in rows)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">{refresh}
<title>{_text(head["batch_dir"])}: {told}</title><style>{STYLE}</style></head><body>
<h1>{_text(head["batch_dir"])}</h1>
<p>{told}; started {_text(head["process"]["started"])}, {_text(ended)}. The same as data:
<a href="{BATCH_JSON}">{BATCH_JSON}</a>, <a href="{BATCH_CSV}">{BATCH_CSV}</a>. A click on a title sorts.</p>
<table><thead><tr>{columns}</tr></thead><tbody>
{lines}
</tbody></table><script>{SCRIPT}</script></body></html>
"""


def _row(save_dir: Path, row: Mapping[str, Any], maps: Sequence[str]) -> str:
    psnr, run, status = row["psnr"], row["run"], row["status"]
    link = "" if run is None else f'<a href="{_address(run)}/">{_text(run.rpartition("/")[2])}</a>'
    cells = [
        f"<td>{_thumbnail(save_dir, row)}</td>",
        f'<td class="text">{_text(row["name"])}</td>',
        f'<td class="{_text(status)}">{_text(status)}</td>',
        f'<td class="text">{_text(row["reason"])}</td>',
        *(_number(psnr.get(name), "{:.2f}") for name in ("all", *maps)),
        _number(row["bpp"], "{:.2f}"),
        f'<td class="number" data-key="{"" if row["bytes"] is None else int(row["bytes"])}">'
        f'{"" if row["bytes"] is None else readable_bytes(row["bytes"])}</td>',
        _number(row["seconds"], "{:.1f}"),
        f"<td>{link}</td>",
    ]
    return "<tr>" + "".join(cells) + "</tr>"


def _text(value: Any) -> str:
    """Text for HTML, also inside quotes; characters that no page can hold are escaped as in messages."""
    return html.escape(one_line(str(value)), quote=True)


def _number(value: float | None, form: str) -> str:
    if value is None:
        return '<td class="number" data-key=""></td>'
    return f'<td class="number" data-key="{float(value)!r}">{form.format(value)}</td>'


def _address(path: str) -> str:
    """A relative URL of a file name in any encoding."""
    return "./" + quote(os.fsencode(path))


def _thumbnail(save_dir: Path, row: Mapping[str, Any]) -> str:
    """An <img> that holds the picture itself; empty where there is none."""
    if row["status"] != "done" or row["run"] is None:
        return ""
    path = save_dir / row["run"] / "media" / THUMBNAIL
    try:
        if path.stat().st_size > MAX_THUMBNAIL_BYTES:
            return ""
        data = path.read_bytes()
    except OSError:
        return ""
    coded = base64.b64encode(data).decode("ascii")
    return f'<img loading="lazy" alt="{_text(row["name"])}" src="data:image/jpeg;base64,{coded}">'
