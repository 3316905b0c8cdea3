"""report.json: bytes and quality of each stored form of a day, beside its files, block compression and baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from lightmap.baselines import Pca, simple_baselines
from lightmap.block_frames import ADVICE, block_forms, block_scores, missing_codec
from lightmap.compressor import CHUNK, Compressor
from lightmap.data import HOURS, Day, HalfHours
from lightmap.evaluation import LightError, Sample, draw_sample, score, stored
from lightmap.forms import Form, decode, decoded_stack, forms_of
from metrics.scores import psnr_of, ssim_per_channel

REPORT = "report.json"
MOST_TEXELS = {"quick": 1 << 14, "full": 1 << 17}  # that forms are compared on
KEPT_LATENTS = 1 << 26  # numbers of all texels' latents that a full report keeps from frame to frame

Tick = Callable[[], Any]


def evaluation_sample(day: Day, kind: str) -> Sample:
    """The texels that a report, quick or full, compares forms on."""
    return draw_sample(day, MOST_TEXELS[kind])


class Report:
    """Builds the report of a day.

    Args:
        sample: of evaluation_sample.
        half: ground truth at half-hours, of the sample's texels, if there is any.
        day_facts: of checkpoints.describe_day.
        whole: measure the model on all texels and with SSIM too.
    """

    def __init__(self, model: Compressor, sample: Sample, half: HalfHours | None, day_facts: Mapping[str, Any],
                 whole: bool):  # fmt: skip
        self.model, self.sample, self.half, self.whole = model, sample, half, whole
        self.day, self.day_facts = sample.day, day_facts
        self.forms = forms_of(model, day_facts, whole)
        self.blocks = block_forms(self.day)
        self.pca = Pca.of(self.day)
        self.no_codec = missing_codec()

    @property
    def ticks(self) -> int:
        """How often `build` calls its `tick`."""
        each = self.day.n_frames * (1 if self.half is None else 2)
        builds = len({form.build for form in self.forms.values()})
        blocks = 0 if self.no_codec else len(self.blocks) * self.day.n_frames
        bright = builds * self.day.n_frames if len(self.sample.bright) else 0
        return builds * each + bright + blocks + self.pca.ticks + (each if self.whole else 0)

    def build(self, facts: Mapping[str, Any], tick: Tick = lambda: None) -> dict[str, Any]:
        """The report, JSON-ready. facts: further entries, about the run."""
        day = self.day
        forms, blocks = self._form_rows(tick), self._block_rows(tick)
        budgets = sorted({row["bytes"] for row in (*forms.values(), *blocks.values())})
        best = self.pca.best_at(budgets, self.sample, self.half, tick)
        for row in (*forms.values(), *blocks.values()):
            row["pca_at_equal_bytes"] = best[row["bytes"]]
        baselines = simple_baselines(self.sample, self.half)
        rivals = {**blocks, **self._pca_rows(best), "files": self._files_row(baselines)}
        rows = {**forms, **rivals}
        for row in rows.values():
            row["bits_per_pixel_and_frame"] = 8 * row["bytes"] / (day.texels * day.n_frames)
            on_disk = row["bytes"] if row["file_bytes"] is None else row["file_bytes"]
            row["of_files"] = on_disk / day.file_bytes if day.file_bytes else None
        limit = blocks[self.blocks[0].name]["memory_bytes"]
        own, rival = winner({name: row for name, row in forms.items() if row["files"]}, limit), winner(rivals, limit)
        if rival and own and _quality(rivals[rival]) <= _quality(forms[own]):
            rival = None
        return {
            **facts,
            "size": [day.width, day.height], "frames": day.n_frames, "hours_between_frames": HOURS / day.n_frames,
            "values": values_of(day), "day": dict(self.day_facts),
            "files": {"kind": day.file_kind, "bytes": day.file_bytes}, "raw_bytes": raw_bytes(day),
            "texels_compared": len(self.sample.texels),
            **self._headline(forms, tick),
            "forms": forms, "rivals": rivals, "baselines": baselines,
            "ranking": ranked(rows), "front": front(rows), "winner": own, "better_rival": rival,
            "block_compressed": self.blocks[0].name, "no_block_codec": self.no_codec and f"{self.no_codec}; {ADVICE}",
        }  # fmt: skip

    def _form_rows(self, tick: Tick) -> dict[str, dict[str, Any]]:
        """Forms that decode alike are decoded once."""
        scores, rows = {}, {}
        for name, form in self.forms.items():
            if form.build not in scores:
                scores[form.build] = self._scores_of(form, tick)
            rows[name] = {
                "title": form.title, "bytes": form.bytes, "file_bytes": form.file_bytes,
                "memory_bytes": form.memory_bytes, "runtime": form.runtime, "files": list(form.files),
                **scores[form.build],
            }  # fmt: skip
        return rows

    def _scores_of(self, form: Form, tick: Tick) -> dict[str, Any]:
        sample, half = self.sample, self.half
        hours = decoded_stack(form, self.day, sample.texels, 0, tick)
        between = None if half is None else decoded_stack(form, self.day, sample.texels, 0.5, tick)
        bright = decoded_stack(form, self.day, sample.bright, 0, tick) if len(sample.bright) else None
        return score(hours, between, bright, sample, half)

    def _block_rows(self, tick: Tick) -> dict[str, dict[str, Any]]:
        """Without an encoder only bytes are known."""
        unknown = {"psnr_hours": None, "psnr_half_hours": None}
        rows = {}
        for form in self.blocks:
            size = form.bytes_of(self.day)
            scores = unknown if self.no_codec else block_scores(form, self.sample, self.half, tick)
            rows[form.name] = _row(f"{self.day.n_frames} {form.title}", size, size, True, **scores)
        return rows

    def _pca_rows(self, best: Mapping[int, dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
        rows = {}
        for found in best.values():
            if found:
                rank, scale = found["rank"], found["scale"]
                scores = {key: value for key, value in found.items() if key not in ("rank", "scale", "bytes")}
                size = f", 1/{scale} size" if scale > 1 else ""
                rows[f"pca_{rank}_{scale}"] = _row(f"PCA of rank {rank}{size}", found["bytes"], found["bytes"], True,
                                                   **scores)  # fmt: skip
        return rows

    def _files_row(self, baselines: Mapping[str, Any]) -> dict[str, Any]:
        """The frames' own files: exact at the hours, blended between them, held as RGBA pixels by a renderer."""
        day = self.day
        memory = day.texels * day.n_frames * 4 * (1 if day.bits == 8 else 2)  # float16 above 8 bits
        between = baselines["linear_blend"]["psnr_half_hours"]
        return _row(f"{day.n_frames} files, {day.file_kind}", day.file_bytes, memory, False, psnr_hours=None,
                    psnr_half_hours=between, exact=True)  # fmt: skip

    # --- the model itself --------------------------------------------------------------------------------------------

    def _headline(self, forms: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
        """psnr_hours, psnr_half_hours, ssim_..., and light of HDR days, of the first form, which is the model itself:
        on all texels in a full report, else on the sample."""
        plain = next(iter(forms.values()))
        scores = {"psnr_hours": plain["psnr_hours"], "ssim_hours": None, "psnr_half_hours": plain["psnr_half_hours"],
                  "ssim_half_hours": None, **({"light": plain["light"]} if "light" in plain else {})}  # fmt: skip
        if not self.whole:
            return scores
        latents = self._latents_of_all()
        hours = self._whole_frames(latents, self.day.image, 0, tick)
        scores.update(psnr_hours=hours["psnr"], ssim_hours=hours["ssim"])
        if "light" in hours:
            scores["light"] = {**hours["light"], "brightest": plain["light"]["brightest"]}
        if self.half is not None:
            halves = self._whole_frames(latents, self.half.image, 0.5, tick)
            scores.update(psnr_half_hours=halves["psnr"], ssim_half_hours=halves["ssim"])
        return scores

    def _latents_of_all(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """texels -> latents, kept in memory unless that takes too much of it."""
        parts = torch.arange(self.day.texels).split(CHUNK)
        with torch.no_grad():
            if self.day.texels * self.model.shape.latent_dim > KEPT_LATENTS:
                return self.model.latents
            kept = {int(part[0]): self.model.latents(part) for part in parts}
        return lambda part: kept[int(part[0])]

    @torch.no_grad()
    def _whole_frames(self, latents: Callable, image_of: Callable[[int], np.ndarray], shift: float, tick: Tick
                      ) -> dict[str, Any]:  # fmt: skip
        """PSNR over the texels in the mask, mean SSIM of whole frames, where texels outside it count as equal, and of
        HDR days errors of light."""
        day, squares, similarity, light = self.day, 0.0, [], LightError(self.day)
        texels = day.mask.nonzero()[:, 0]
        for frame, hour in enumerate(day.times(shift)):
            parts = torch.arange(day.texels).split(CHUNK)
            image = stored(torch.cat([decode(self.model, latents(part), hour) for part in parts]), day.bits)
            source = torch.from_numpy(image_of(frame)).view(-1, 3)
            squares += float((image[texels] - source[texels]).double().square().sum())
            if day.encoding.hdr:
                light.add(image[texels], source[texels], texels, frame)
            image[~day.mask] = source[~day.mask]
            similarity.append(
                ssim_per_channel(*(value.view(day.height, day.width, 3).numpy() for value in (image, source)))
            )
            tick()
        known = [np.mean(value) for value in similarity if value is not None]
        psnr = psnr_of(squares / (day.n_frames * 3 * len(texels)))
        found = {"psnr": psnr, "ssim": float(np.mean(known)) if known else None}
        return {**found, "light": light.result()} if day.encoding.hdr else found


def build_report(
    model: Compressor, sample: Sample, half: HalfHours | None, day_facts: Mapping[str, Any], facts: Mapping[str, Any],
    whole: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The report of a day in one call; see Report."""
    return Report(model, sample, half, day_facts, whole).build(facts)


def _row(title: str, size: int, memory: int, runtime: bool, **scores: Any) -> dict[str, Any]:
    """A form that is none of this run's."""
    return {"title": title, "bytes": size, "file_bytes": size, "memory_bytes": memory, "runtime": runtime, "files": [],
            **scores}  # fmt: skip


def raw_bytes(day: Day) -> int:
    """Bytes of all frames without compression, in the depth of the files."""
    return day.texels * day.n_frames * 3 * day.bits // 8


def values_of(day: Day) -> str:
    """What PSNR is measured on."""
    if not day.encoding.hdr:
        return "values as the frames store them, 0 to 1"
    scale, peak = day.encoding.scale, day.encoding.peak
    return f"log encoding of light, log1p(x / {scale:.4g}) / log1p({peak:.4g} / {scale:.4g})"


# --- ranking ---------------------------------------------------------------------------------------------------------


def _quality(row: Mapping[str, Any]) -> float:
    """PSNR at the hours; the files are exact; what is unknown ranks last."""
    if row.get("exact"):
        return math.inf
    return -math.inf if row["psnr_hours"] is None else row["psnr_hours"]


def ranked(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names from the best PSNR at the hours to the worst; of equal ones the smaller first."""
    return sorted(rows, key=lambda name: (-_quality(rows[name]), rows[name]["bytes"]))


def front(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the forms that no other equals or beats in fewer bytes."""
    found, least = [], math.inf
    for name in ranked(rows):
        if rows[name]["bytes"] < least and _quality(rows[name]) > -math.inf:
            found.append(name)
            least = rows[name]["bytes"]
    return found


def winner(rows: Mapping[str, Mapping[str, Any]], limit: int) -> str | None:
    """The best at the hours of the forms that a shader reads, and that take less memory than `limit`; None: there is
    none."""
    fitting = (name for name in ranked(rows) if rows[name]["runtime"] and rows[name]["memory_bytes"] < limit)
    return next((name for name in fitting if _quality(rows[name]) > -math.inf), None)
