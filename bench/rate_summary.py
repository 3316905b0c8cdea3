"""What the rows of bench.rate amount to: gains at matched rates, mean curves, tables of text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import one_line
from training.rates import ROWS
from transcode.codecs import ASTC_BLOCKS, BLOCK_CODECS, IMAGE_CODECS, interpolate_at_rate

Entry = Mapping[str, Any]
PLAIN = ("packed", "learned")  # --latents and --decoder of the form that a --bpp alone has
# Of ours as labels say it, see `form_of`; "" is the plain one.
FORMS = tuple("" if (latents, decoder) == PLAIN else f"{latents} {decoder}" for decoder, latents in ROWS)
ASTC = tuple(f"astc{n}x{n}" for n in ASTC_BLOCKS)
TITLES = {f"ours {form}".strip(): f"this toolkit{form and f', {form}'}" for form in FORMS}
TITLES |= {"astc": "ASTC", "avif": "AVIF", "jxl": "JPEG XL", "bc1": "BC1", "bc7": "BC7",
           "bc7+bc5+bc4": "BC7 + BC5 + BC4", **{name: f"ASTC {name[4:]}" for name in ASTC}}  # fmt: skip
RIVALS = ("nearest", "astc", *IMAGE_CODECS)  # whom each of our rates is compared with
RIVAL_TITLES = {"nearest": "nearest block codec", **TITLES}
CURVE_POINTS = 24  # of a mean curve of an image codec


def form_of(entry: Entry) -> str:
    """'bc1 learned': latents and decoder of one of ours; '' for PLAIN, which is all that earlier results have."""
    form = entry.get("latents", PLAIN[0]), entry.get("decoder", PLAIN[1])
    return "" if form == PLAIN else " ".join(form)


def line_of(entry: Entry) -> str:
    """The curve that it lies on: 'ours', 'ours bc1 learned', or its codec."""
    return f"ours {form_of(entry)}".strip() if entry["codec"] == "ours" else entry["codec"]


def forms_of(entries: Sequence[Entry]) -> list[str]:
    """The forms of ours in the order of their first entries."""
    return list(dict.fromkeys(form_of(entry) for entry in entries if entry["codec"] == "ours"))


def label_of(entry: Entry) -> str:
    """A name within its material: 'ours 2.5 bpp', 'ours bc1 learned 2.5 bpp', 'bc7', 'avif q40'."""
    if entry["codec"] == "ours":
        return f"{line_of(entry)} {entry['target_bpp']:g} bpp"
    return entry["codec"] if entry.get("quality") is None else f"{entry['codec']} q{entry['quality']}"


def materials_of(entries: Sequence[Entry]) -> list[str]:
    """Names in the order of their first entries."""
    return list(dict.fromkeys(entry["material"] for entry in entries))


def curve(entries: Sequence[Entry], lines: str | Sequence[str]) -> list[tuple[float, float]]:
    """(bpp, PSNR over all channels) of what lies on some lines, see `line_of`, ascending in rate."""
    wanted = (lines,) if isinstance(lines, str) else lines
    return sorted((entry["bpp"], entry["psnr"]["all"]) for entry in entries if line_of(entry) in wanted)


# --- gains ---------------------------------------------------------------------------------------------------------


def gains(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Ours minus each rival, dB over all channels, for each of our forms and rates.

    `nearest` is the block codec whose rate is nearest to ours in the logarithm; the others are interpolated at exactly
    our rate. One that ends below our rate counts with its best result, which it has for fewer bits; one that starts
    above it is left out for that material.

    Returns: per form, rate and rival {"form", "target_bpp", "rival", "rows": [{"material", "codec", "gain", "bpp",
        "rival_bpp"}], "mean", "mean_without_best", "wins"}. The second mean leaves out the material that gains most;
        None where no material is left.
    """
    found = []
    for form, rate in points_of(entries):
        for rival in RIVALS:
            rows = []
            for material in materials_of(entries):
                group = [entry for entry in entries if entry["material"] == material]
                ours = next((entry for entry in group if _is_point(entry, form, rate)), None)
                if ours and (row := _against(ours, group, rival)):
                    rows.append({"material": material, **row})
            values = [row["gain"] for row in rows]
            if rows:
                mean, rest = _with_and_without_best(values)
                found.append({
                    "form": form, "target_bpp": rate, "rival": rival, "rows": rows, "mean": mean,
                    "mean_without_best": rest, "wins": sum(value > 0 for value in values),
                })  # fmt: skip
    return found


def _with_and_without_best(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean, and that of all but the largest; None of nothing."""
    means = [statistics.fmean(part) if part else None for part in (values, sorted(values)[:-1])]
    return means[0], means[1]


def gains_over_astc(entries: Sequence[Entry], form: str, rate: float) -> tuple[float | None, float | None]:
    """Mean gain of one form and rate over ASTC, and that without the material that gains most.

    As `gains`, but where ASTC starts above our rate, it counts with the lowest rate that it has.
    """
    values = []
    for material in materials_of(entries):
        group = [entry for entry in entries if entry["material"] == material]
        for ours in (entry for entry in group if _is_point(entry, form, rate)):
            row = _against(ours, group, "astc")
            if row:
                values.append(row["gain"])
            elif points := curve(group, ASTC):
                values.append(ours["psnr"]["all"] - points[0][1])
    return _with_and_without_best(values)


def points_of(entries: Sequence[Entry]) -> list[tuple[str, float]]:
    """(form, rate asked for) of ours: form by form, rates ascending."""
    forms = forms_of(entries)
    points = {(form_of(entry), entry["target_bpp"]) for entry in entries if entry["codec"] == "ours"}
    return sorted(points, key=lambda point: (forms.index(point[0]), point[1]))


def _is_point(entry: Entry, form: str, rate: float) -> bool:
    return entry["codec"] == "ours" and form_of(entry) == form and entry["target_bpp"] == rate


def _against(ours: Entry, group: Sequence[Entry], rival: str) -> dict[str, Any] | None:
    """The row of one material, or None where the rival has nothing at this rate."""
    psnr, bpp = ours["psnr"]["all"], ours["bpp"]
    if rival == "nearest":
        blocks = [entry for entry in group if entry["codec"] in BLOCK_CODECS]
        if not blocks:
            return None
        # of equally near ones the better: bc1 and astc10x10 may cost the same
        best = min(blocks, key=lambda e: (round(abs(np.log(e["bpp"] / bpp)), 6), -e["psnr"]["all"]))
        return {"codec": best["codec"], "gain": psnr - best["psnr"]["all"], "bpp": bpp, "rival_bpp": best["bpp"]}
    points = curve(group, ASTC if rival == "astc" else rival)
    if not points or points[0][0] > bpp:
        return None
    if points[-1][0] < bpp:
        rate, best = max(points, key=lambda point: (point[1], -point[0]))
        return {"codec": rival, "gain": psnr - best, "bpp": bpp, "rival_bpp": rate}
    value = interpolate_at_rate([rate for rate, _ in points], [value for _, value in points], bpp)
    return {"codec": rival, "gain": psnr - value, "bpp": bpp, "rival_bpp": bpp}


def verdicts(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence per form and rival, wins and losses alike."""
    lines = []
    for form in dict.fromkeys(gain["form"] for gain in found):
        for rival in RIVALS:
            group = [gain for gain in found if (gain["form"], gain["rival"]) == (form, rival)]
            for better, text in ((True, "ahead of"), (False, "behind")):
                rates = [gain for gain in group if (gain["mean"] > 0) == better]
                if rates:
                    figures, which = ", ".join(_figure(gain) for gain in rates), f" ({form})" if form else ""
                    lines.append(f"This toolkit{which} is {text} {_article(rival)} on average: {figures}.")
    return lines


def _figure(gain: Mapping[str, Any]) -> str:
    """'at 2.5 bpp by 0.6 dB (better on 1 of 3)'; with the rival's rate where it is another one."""
    rate = mean_rate_ratio(gain)
    other = "" if abs(rate - 1) < 0.005 else f", theirs at {rate:.2f} times our rate"
    return (f"at {gain['target_bpp']:g} bpp by {abs(gain['mean']):.1f} dB "
            f"(better on {gain['wins']} of {len(gain['rows'])}{other})")  # fmt: skip


def mean_rate_ratio(gain: Mapping[str, Any]) -> float:
    """The rival's rate over ours, mean over materials."""
    return statistics.fmean(row["rival_bpp"] / row["bpp"] for row in gain["rows"])


def _article(rival: str) -> str:
    return "the nearest block codec" if rival == "nearest" else RIVAL_TITLES[rival]



# --- means ---------------------------------------------------------------------------------------------------------


def mean_entries(entries: Sequence[Entry]) -> dict[str, list[tuple[float, float]]]:
    """Curves of the mean over materials: line -> [(bpp, PSNR)], ours by form and rate, block codecs each as one point
    of `astc` or by name, image codecs interpolated at the rates that all materials reach.
    """
    materials = materials_of(entries)
    groups = [[entry for entry in entries if entry["material"] == material] for material in materials]
    curves: dict[str, list[tuple[float, float]]] = {}

    def mean_of(select: Callable[[Entry], bool]) -> list[tuple[float, float]]:
        chosen = [next((entry for entry in group if select(entry)), None) for group in groups]
        if any(entry is None for entry in chosen):
            return []
        return [tuple(statistics.fmean(values) for values in zip(*((e["bpp"], e["psnr"]["all"]) for e in chosen)))]

    for form, rate in points_of(entries):
        point = mean_of(lambda e, form=form, rate=rate: _is_point(e, form, rate))
        curves.setdefault(f"ours {form}".strip(), []).extend(point)
    for codec in BLOCK_CODECS:
        line = "astc" if codec in ASTC else codec
        curves.setdefault(line, []).extend(mean_of(lambda e, codec=codec: e["codec"] == codec))
    for codec in IMAGE_CODECS:
        lines = [curve(group, codec) for group in groups]
        if all(lines):
            low, high = max(line[0][0] for line in lines), min(line[-1][0] for line in lines)
            rates = np.geomspace(low, high, CURVE_POINTS)[1:-1].tolist() if low < high else []
            for rate in (low, *rates, high) if low <= high else ():
                values = [interpolate_at_rate(*zip(*line), rate) for line in lines]
                curves.setdefault(codec, []).append((rate, statistics.fmean(values)))
    return {name: sorted(points) for name, points in curves.items() if points}


# --- text ----------------------------------------------------------------------------------------------------------


def table_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """Heading and one row per entry of one material, ascending in rate."""
    maps = entries[0]["maps"]
    opacity = ["covered", "wrong side"] if any("opacity_wrong" in entry for entry in entries) else []
    rows = [["codec", "bpp", "PSNR dB", "filtered", *maps, *opacity, "FLIP", "SSIM", "seconds"]]
    for entry in sorted(entries, key=lambda e: e["bpp"]):
        psnr = [entry["psnr"]["all"], entry.get("psnr_filtered"), *(entry["psnr"][name] for name in maps)]
        rows.append([
            label_of(entry), f"{entry['bpp']:.2f}", *(cell(value, 2) for value in psnr),
            *([cell(entry["psnr_covered"], 2), f"{entry['opacity_wrong']:.3%}"] if opacity else []),
            cell(entry["flip"], 4), cell(entry["ssim"]["all"], 4), cell(entry["seconds"], 1),
        ])  # fmt: skip
    return rows


def cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def material_table(entries: Sequence[Entry]) -> str:
    """The rows of one material, aligned, and below them what PSNR compares of light above 1."""
    first = entries[0]
    spaces = "".join(f"\n{name}: of {text}" for name, text in first.get("spaces", {}).items())
    return f"{one_line(first['material'])}, {first['width']}x{first['height']}\n{aligned(table_rows(entries))}{spaces}"


def gain_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Heading and one row per form, rate and rival."""
    rows = [["our bpp", "against", "rate", "gain dB", "without best", "wins"]]
    for gain in found:
        rows.append([
            f"{gain['form']} {gain['target_bpp']:g}".strip(), RIVAL_TITLES[gain["rival"]],
            f"x {mean_rate_ratio(gain):.2f}", signed(gain["mean"]), signed(gain["mean_without_best"]),
            f"{gain['wins']} of {len(gain['rows'])}",
        ])  # fmt: skip
    return rows


def gains_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Gains at matched rates, aligned, with the verdicts below."""
    if not found:
        return "no gains: nothing to compare with"
    title = "ours minus theirs, PSNR over all channels, mean over materials; rate: theirs over ours"
    return "\n".join([title, aligned(gain_rows(found)), *verdicts(found)])


def form_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """Heading and one row per form and rate: quality in the mean over materials, and what a pixel costs a shader."""
    rows = [["form", "bpp", "PSNR dB", "filtered", "over ASTC", "without best", "fetches", "multiply-adds", "seconds"]]
    for form, rate in points_of(entries):
        group = [entry for entry in entries if _is_point(entry, form, rate)]
        rows.append([
            form or " ".join(PLAIN), f"{rate:g}", cell(_mean(e["psnr"]["all"] for e in group), 2),
            cell(_mean(e.get("psnr_filtered") for e in group), 2), *map(signed, gains_over_astc(entries, form, rate)),
            _range(e.get("texture_fetches") for e in group),
            _range(e.get("multiply_adds") for e in group), cell(_mean(e["seconds"] for e in group), 1),
        ])  # fmt: skip
    return rows


def _mean(values: Iterable[float | None]) -> float | None:
    """None where a value is missing."""
    known = list(values)
    return None if None in known else statistics.fmean(known)


def _range(values: Iterable[int | None]) -> str:
    """'12', or '8 to 12': materials of other sizes and proportions may have other grids."""
    known = sorted(set(values) - {None})
    return " to ".join(map(str, dict.fromkeys((known[0], known[-1])))) if known else "-"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def forms_table(entries: Sequence[Entry]) -> str:
    """`form_rows`, aligned, with a title."""
    title = ("our forms, mean over materials; ASTC at our rate, or at its lowest where that is above; fetches and "
             "multiply-adds of one pixel at a whole LOD, a filtered sample counts as one fetch")  # fmt: skip
    return f"{title}\n{aligned(form_rows(entries))}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) if column == 0 else text.rjust(width)
                  for column, (text, width) in enumerate(zip(row, widths)))
        for row in rows
    )  # fmt: skip
