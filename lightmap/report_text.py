"""The report of a day as text for the terminal: every form in the order of its PSNR, and which one wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from common.events import readable_bytes

WIDTH = 40  # of a form's title


def describe_report(report: Mapping[str, Any]) -> str:
    """The report (summary.build_report) as text."""
    return "\n".join(_lines(report))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    width, height = report["size"]
    sizes = f"{readable_bytes(report['files']['bytes'])} as {report['files']['kind']}"
    yield (f"day      {report['frames']} frames of {width}x{height}: {sizes}, "
           f"{readable_bytes(report['raw_bytes'])} as pixels")  # fmt: skip
    yield f"quality  {_quality(report)}; of the {report['values']}"
    if "light" in report:
        yield f"light    {describe_light(report['light'])}"
    yield from _table(report)
    if "light" in report:
        yield from _light_table(report)
    if report["no_block_codec"]:
        yield f"note     no figures of block compression: {report['no_block_codec']}"
    yield from _winner_lines(report)


def _quality(report: Mapping[str, Any]) -> str:
    parts = [f"{_db(report['psnr_hours'])} dB at the hours{_ssim(report['ssim_hours'])}"]
    if report["psnr_half_hours"] is not None:
        parts.append(f"{_db(report['psnr_half_hours'])} dB at half-hours{_ssim(report['ssim_half_hours'])}")
    return ", ".join(parts)


def describe_light(light: Mapping[str, Any]) -> str:
    """Errors of light, linear and in stops."""
    parts = [f"RMSE {_share(light['relative_rmse'])} of the mean", f"mean error {_share(light['mean_relative_error'])}"]
    if light["mean_stops"] is not None:
        parts.append(f"{light['mean_stops']:.3f} stops on average, {light['worst_stops']:.2f} at worst")
    if light["worst_texel"]:
        worst = light["worst_texel"]
        parts.append(f"worst texel ({worst['x']}, {worst['y']}) at {worst['hour']:g} h: {worst['channel']} "
                     f"{worst['light']:.4g} became {worst['decoded']:.4g}")  # fmt: skip
    if "brightest" in light:
        parts.append(f"the brightest, {light['brightest']['light']:.4g}, {light['brightest']['decoded']:.4g}")
    return "; ".join(parts)


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = {**report["forms"], **report["rivals"]}
    return ((name, rows[name]) for name in report["ranking"])


def _table(report: Mapping[str, Any]) -> Iterator[str]:
    """Every form, the best at the hours first; * where nothing smaller is as good."""
    half = report["psnr_half_hours"] is not None
    yield (f"{'form, best first':<{WIDTH}}{'bytes':>12}{'of files':>10}{'bits/px/frame':>15}{'hours':>8}"
           f"{'half':>8}   PCA in as many bytes"[: None if half else -31])  # fmt: skip
    for name, row in _rows(report):
        pca = row.get("pca_at_equal_bytes")
        scores = [row["psnr_hours"]] + ([row["psnr_half_hours"]] if half else [])
        found = "".join(f"{_db(score):>8}" for score in scores)
        if row.get("exact"):
            found = f"{'exact':>8}" + found[8:]
        rival = f"{_db(pca['psnr_hours'])} dB" if pca else ""
        mark = "*" if name in report["front"] else " "
        yield (f"{mark} {row['title']:<{WIDTH - 2}}{row['bytes']:>12}{_share(row['of_files']):>10}"
               f"{row['bits_per_pixel_and_frame']:>15.3f}{found}   {rival}").rstrip()  # fmt: skip
    for name, scores in report["baselines"].items():
        exact = "exact" if scores["psnr_hours"] is None else _db(scores["psnr_hours"])
        found = f"{exact:>8}" + (f"{_db(scores['psnr_half_hours']):>8}" if half else "")
        yield f"  {name.replace('_', ' '):<{WIDTH + 35}}{found}"
    yield "* nothing smaller is as good at the hours"


def _light_table(report: Mapping[str, Any]) -> Iterator[str]:
    """The same forms in linear light."""
    floor = report["light"]["floor"]
    yield (f"{'in linear light':<{WIDTH}}{'RMSE/mean':>12}{'mean err.':>10}{'worst':>10}{'stops':>8}{'worst':>8}"
           f"   the brightest; light below {floor:.3g} counts as dark")  # fmt: skip
    for _, row in _rows(report):
        light = row.get("light")
        if light:
            worst = light["worst_texel"]["relative_error"] if light["worst_texel"] else 0.0
            stops = [("-" if light[key] is None else f"{light[key]:.3f}") for key in ("mean_stops", "worst_stops")]
            bright = light["brightest"]
            yield (f"  {row['title']:<{WIDTH - 2}}{_share(light['relative_rmse']):>12}"
                   f"{_share(light['mean_relative_error']):>10}{_share(worst):>10}{stops[0]:>8}{stops[1]:>8}"
                   f"   {bright['light']:.4g} -> {bright['decoded']:.4g}")  # fmt: skip


def _winner_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Which form of this run wins, against the usual block compression, how to get it, and what is better still."""
    forms, rivals = report["forms"], report["rivals"]
    block = rivals[report["block_compressed"]]
    against = f"{block['title']} {_in_bytes(block)}"
    if report["winner"] is None:
        basis = "basis" in forms
        advice = "give a smaller --bytes, or keep the frames" if basis else "--latent_mode basis goes by --bytes"
        yield f"wins     none of these forms is smaller in memory than {against}; {advice}"
    else:
        row = forms[report["winner"]]
        pca = row["pca_at_equal_bytes"]
        rival = f"; PCA in as many bytes {_db(pca['psnr_hours'])} dB" if pca else ""
        command = report.get("export", "python -m lightmap.export_latent")
        yield f"wins     {row['title']}: {_in_bytes(row)}; {against}{rival}"
        yield f"         {command} writes it: {', '.join(row['files'])}"
    if report["better_rival"] is not None:
        row, name = rivals[report["better_rival"]], report["better_rival"]
        advice = f"train with --bytes {row['bytes']}, which starts from it"
        yield f"better   {row['title']}: {_in_bytes(row)}; {advice if name.startswith('pca') else 'encode the frames'}"


def _in_bytes(row: Mapping[str, Any]) -> str:
    """Quality, where it is known, and memory of a form."""
    quality = "" if row["psnr_hours"] is None else f"{row['psnr_hours']:.2f} dB in "
    return f"{quality}{readable_bytes(row['memory_bytes'])} of memory"


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}" if value < 10 else f"{value:.0f} x"


def _ssim(value: float | None) -> str:
    return "" if value is None else f" (SSIM {value:.4f})"
