"""bench/rate.py: what is measured is what the files decode to, gains are the right differences, the report is whole."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from bench import rate, rate_plot, rate_report, rate_summary, rate_work
from bench.rate_summary import (
    form_rows,
    forms_table,
    gains,
    gains_table,
    label_of,
    material_table,
    mean_entries,
    verdicts,
)
from common.errors import UserError, run_command
from configs import make_config
from dataset import Material, load_material
from maps.channels import map_slice
from metrics.scores import evaluate_lod, psnr_db
from tests.support.runs import offline, refusal_line, save_maps
from training.plan import plan
from transcode.codecs import missing_packages

CODECS = "bc1,astc12x12,avif"
AVIF = (20, 60, 90)  # qualities
TINY = {"batch_size": 64, "n_neurons": 16, "n_frequencies": 4, "max_iter": 20, "engine": "torch"}


@pytest.fixture
def _codecs():
    missing = sorted({name for codec in CODECS.split(",") for name in missing_packages(codec)})
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (pip install -r requirements/codecs.txt)")


def tiny_settings(run, preset):
    """Grids that grow with the rate, in runs of an instant."""
    bpp, latents, decoder = run
    interpolation = {"interpolation": "learned"} if decoder == "learned" else {}
    fine, coarse = {"max_resolution": 8 if bpp < 4 else 16}, {"max_resolution": 4}
    grids = [{**fine, **interpolation, "storage": latents}, {**coarse, "storage": latents}]
    if latents == "packed":
        grids[0]["quantize_bits"], grids[0]["save_bits"] = 2, 8
    return {**TINY, "hash_grid_configs": grids}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(output folder, lines of stdout) of a whole run of the command with two materials and two rates."""
    missing = sorted({name for codec in CODECS.split(",") for name in missing_packages(codec)})
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (pip install -r requirements/codecs.txt)")
    pytest.importorskip("matplotlib")
    base = tmp_path_factory.mktemp("rate")
    folders = [save_maps(base / "one", 40, 24), save_maps(base / "two <b>", 16, 16, ("diffuse", "metallic"), seed=1)]
    out, stdout = base / "out", io.StringIO()
    flags = ["--rates", "2,8", "--preset", "fast", "--codecs", CODECS, "--crop", "20", "--out", str(out)]
    with offline(), pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stdout):
        torch.set_num_threads(1)
        patch.setattr(rate_work, "run_settings", tiny_settings)
        patch.setitem(rate.ALL_CODECS, "avif", AVIF)
        assert rate.main([*map(str, folders), *flags]) == 0
    return out, stdout.getvalue().splitlines(), folders


class Page(HTMLParser):
    """Elements with their attributes, the text of scripts, and tags that nobody closed."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.scripts, self.open, self.text = [], {}, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "input", "br", "link", "img"):
            self.open.append(tag)
            if tag == "script":
                self.scripts[dict(attributes).get("id")] = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.scripts[list(self.scripts)[-1]] += text
        elif text.strip():
            self.text.append(text)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_json_has_every_measurement(measured):
    out, _, _ = measured
    result = json.loads((out / "rate.json").read_text(), parse_constant=pytest.fail)
    assert result["benchmark"] == "rate" and result["machine"]["processor"]
    assert result["settings"]["rates"] == [2, 8] and result["settings"]["preset"] == "fast"
    entries = result["entries"]
    labels = ["ours 2 bpp", "ours 8 bpp", "bc1", "astc12x12", *(f"avif q{q}" for q in AVIF)]
    for name, maps in (("one", ["diffuse", "normal", "roughness"]), ("two <b>", ["diffuse", "metallic"])):
        group = [entry for entry in entries if entry["material"] == name]
        assert [label_of(entry) for entry in group] == labels
        for entry in group:
            assert entry["maps"] == maps and list(entry["psnr"]) == ["all", *maps] == list(entry["ssim"])
            assert entry["bpp"] > 0 and entry["bytes"] > 0 and entry["seconds"] > 0 and 0 < entry["flip"] < 1
    ours = [entry for entry in entries if entry["codec"] == "ours"]
    for entry in ours:
        assert len(entry["lods"]) == max(entry["width"], entry["height"]).bit_length()
        assert entry["lods"][0] == pytest.approx(entry["psnr"]["all"], abs=1e-6)  # the run said the same
        assert entry["settings"]["iterations"] == 20 and entry["settings"]["positions"] == "centres"
        assert (entry["latents"], entry["decoder"]) == ("packed", "learned")
        assert (entry["texture_fetches"], entry["filtered_fetches"]) == (8, 0)
    assert ours[0]["bpp"] < ours[1]["bpp"]


def test_tables_files_and_sizes_are_told(measured):
    out, lines, _ = measured
    assert f"{out / 'rate.json'}" in lines
    for name in ("mean", "of_one", "of_two_b_"):
        picture = out / f"rate_{name}.png"
        assert str(picture) in lines
        assert min(PillowImage.open(picture).size) > 300
    assert any(line.startswith(str(out / "rate.html")) and line.endswith("MiB)") for line in lines)
    assert any(line.startswith("ours 2 bpp ") for line in lines) and any("without best" in line for line in lines)
    plotted = rate_plot.plot(out / "rate.json")
    assert [line for line in lines if line.endswith(".png")] == plotted


def test_the_report_holds_everything(measured):
    out, _, folders = measured
    page = Page((out / "rate.html").read_text(encoding="utf-8"))
    assert not page.open, page.open
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert sum(tag == "svg" for tag, _ in page.elements) == 3
    assert "preset fast, at 2, 8 bits per texel" in page.text and "Our forms" not in page.text  # there is one
    assert "slot:" not in (out / "rate.html").read_text(encoding="utf-8")
    assert any("two <b>" in text for text in page.text) and not any(tag == "b" for tag, _ in page.elements)
    data = json.loads(page.scripts["data"], parse_constant=pytest.fail)
    assert [material["name"] for material in data["materials"]] == ["one", "two <b>"]
    for folder, material in zip(folders, data["materials"]):
        source = load_material(folder)
        labels = [variant["label"] for variant in material["variants"]]
        assert labels[:3] == ["source", "ours 2 bpp", "ours 8 bpp"] and len(labels) == len(set(labels))
        assert [pair["rate"] for pair in material["pairs"]] == ["2", "8"]
        assert all({pair["ours"], pair["rival"]} <= set(labels) for pair in material["pairs"])
        rows, columns = rate_work.middle(source, 20)
        for variant in material["variants"]:
            assert list(variant["images"]) == list(source.present)
            for name, uri in variant["images"].items():
                pixels = image_of(uri)
                assert pixels.shape[1::-1] == tuple(material["size"])
                expected = source.stored(0, name)[rows, columns]
                if variant["label"] == "source":
                    assert np.array_equal(pixels, np.broadcast_to(expected, pixels.shape))
                else:
                    squares = ((pixels / 255 - expected / 255) ** 2).mean(axis=(0, 1))
                    # of the crop, against that of the map: they need not be the same, but not strangers either
                    assert abs(psnr_db([squares.mean()]) - variant["psnr"][name]) < 4


def image_of(uri: str) -> np.ndarray:
    head, _, payload = uri.partition(",")
    assert head in ("data:image/webp;base64", "data:image/png;base64")
    return np.asarray(PillowImage.open(io.BytesIO(base64.b64decode(payload))).convert("RGB"))


@pytest.mark.usefixtures("_codecs")
def test_quick_ends_with_a_line_of_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rate_work, "run_settings", tiny_settings)
    monkeypatch.setattr(rate, "QUICK_CODECS", {"astc12x12": (None,), "avif": (40, 70)})
    folders = [str(save_maps(tmp_path / name, 24, 24, ("diffuse",))) for name in ("first", "second")]
    with offline():
        torch.set_num_threads(1)
        assert rate.main([*folders, "--quick", "--out", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert [entry["target_bpp"] for entry in found["entries"]] == [2.5, 5]
    for entry in found["entries"]:
        assert entry["material"] == "first"
        scores = ("bpp", "psnr", "psnr_filtered", "seconds", "ssim", "flip")
        assert all(math.isfinite(entry[key]) and entry[key] > 0 for key in scores)
    assert [entry["codec"] for entry in found["codecs"]] == ["astc12x12", "avif", "avif"]
    assert (tmp_path / "out" / "rate_quick.json").is_file() and (tmp_path / "out" / "rate_quick.html").is_file()


def test_our_run_scores_the_exported_files(tmp_path, monkeypatch):
    monkeypatch.setattr(rate_work, "run_settings", tiny_settings)
    folder = save_maps(tmp_path / "made", 24, 16, deep=("roughness",))
    PillowImage.fromarray(np.full((16, 24), 12345, np.uint16)).save(folder / "made_displacement.png")
    with offline():
        torch.set_num_threads(1)
        entry = rate_work.our_run(str(folder), (2.0, "packed", "learned"), "fast", str(tmp_path / "runs"))
    material, decoded = load_material(folder), entry.pop("decoded")
    scores = evaluate_lod(decoded, material.texels(0), material.present, exact=[10], with_lpips=False)
    assert entry["psnr"]["displacement"] == 100, "a constant is not rounded to 8 bits"
    assert entry["psnr"] == pytest.approx(scores["psnr"], abs=1e-6)
    assert entry["flip"] == pytest.approx(scores["flip"]["diffuse"], abs=1e-6)
    json.dumps(entry, allow_nan=False)
    crops = rate_work.crops_of(decoded, material.present, rate_work.middle(material, 8))
    assert crops["diffuse"].shape == (8, 8, 3) and crops["roughness"].shape == (8, 8, 1)
    inside = decoded[4:12, 8:16, map_slice("diffuse")].clamp(0, 1).numpy()
    assert np.abs(crops["diffuse"] / 255 - inside).max() <= 0.501 / 255


def test_opacity_is_scored_as_what_it_covers():
    """A codec that errs where nothing is seen errs little; one that moves the edge is on the wrong side there."""
    covered = (np.mgrid[:32, :32][1] < 16)[..., None]
    colour = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    material = Material.from_arrays("leaf", {"diffuse": colour, "opacity": covered.astype(np.uint8) * 255})
    decoded = material.texels(0).clone()
    decoded[:, 16:, :3] = 1 - decoded[:, 16:, :3]
    decoded[:, 15, map_slice("opacity")] = 0.25
    scores = rate_work.opacity_scores(decoded, material)
    assert scores["psnr_covered"] > 60 and scores["opacity_wrong"] == 1 / 32
    decoded[:, :16, :3] = 0
    assert rate_work.opacity_scores(decoded, material)["psnr_covered"] < 10
    entries = [{"material": "leaf", "codec": "bc7", "quality": None, "bpp": bpp, "seconds": 1.0, "flip": None,
                "maps": ["diffuse"], "psnr": {"all": 30.0, "diffuse": 30.0}, "ssim": {"all": 0.9}, **scores}
               for bpp in (8, 4)]  # fmt: skip
    heading, *rows = rate_summary.table_rows(entries)
    assert heading[5:7] == ["covered", "wrong side"] and {len(row) for row in rows} == {len(heading)}
    assert rows[0][6] == "3.125%"
    bare = Material.from_arrays("wall", {"diffuse": colour})
    assert rate_work.opacity_scores(bare.texels(0), bare) == {}


def test_the_space_of_light_is_told():
    light = np.random.default_rng(0).integers(0, 65536, (16, 16, 3), dtype=np.uint16)
    units = {"value_range": {"emissive": (0.0, 50.0)}, "log_scale": {"emissive": 0.25}}
    lamp = Material.from_arrays("lamp", {"emissive": light}, color_space={"emissive": "linear"}, **units)
    scores = evaluate_lod(lamp.texels(0), lamp.texels(0), lamp.present, with_lpips=False)
    entry = rate_work.entry_of(lamp, "bc7", scores, 8.0, 1.0)
    assert entry["spaces"] == {"emissive": "log2(1 + x / 0.25), x up to 50"}
    assert material_table([entry]).splitlines()[-1] == "emissive: of log2(1 + x / 0.25), x up to 50"
    wall = Material.from_arrays("wall", {"diffuse": light})
    assert "spaces" not in rate_work.entry_of(wall, "bc7", scores, 8.0, 1.0)


@pytest.mark.parametrize("preset", ["preview", "fast", "balanced", "best"])
def test_settings_are_a_configuration(preset):
    plain = make_config(rate_work.run_settings((2.5, "packed", "learned"), preset))
    assert (plain.bpp, plain.preset, plain.chosen) == (2.5, preset, {"bpp", "preset"})
    for run in ((2.5, "bc1", "linear"), (5.0, "packed", "reference"), (10.0, "bc1", "tsnc")):
        config = make_config(rate_work.run_settings(run, preset))
        assert (config.bpp, config.latents, config.decoder) == run


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "words"), [
    (["--rates", "2,x"], ["--rates", "2,x"]),
    (["--rates", "0"], ["--rates", "0"]),
    (["--rates", "nan"], ["--rates", "nan"]),
    (["--codecs", "bc1,bc9"], ["--codecs", "bc9"]),
    (["--preset", "slow"], ["--preset", "slow"]),
    (["--crop", "3"], ["--crop", "3"]),
    (["--num_threads", "-1"], ["--num_threads", "-1"]),
    (["--latents", "packed,bc7"], ["--latents", "packed,bc7"]),
    (["--decoders", "cubic"], ["--decoders", "cubic", "reference"]),
    (["--decoders", "tsnc"], ["--decoders tsnc", "--latents bc1", "packed"]),
])  # fmt: skip
def test_flags_are_checked(flags, words, tmp_path, capsys):
    folder = save_maps(tmp_path / "made", 8, 8)
    line = refusal_line(run_command(lambda: rate.main([str(folder), *flags])), capsys.readouterr().err)
    assert all(word in line for word in words)


def test_folders_are_checked_before_anything_is_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rate_work, "our_run", lambda *arguments, **options: pytest.fail("trained"))
    good = save_maps(tmp_path / "made", 8, 8)
    for folder, word in ((tmp_path / "absent", "absent"), (good, "made")):  # missing, and the same name twice
        line = refusal_line(run_command(lambda f=folder: rate.main([str(good), str(f)])), capsys.readouterr().err)
        assert word in line
    missing = tmp_path / "nothing.json"
    assert str(missing) in refusal_line(run_command(lambda: rate_plot.main([str(missing)])), capsys.readouterr().err)


def test_a_codec_without_its_package_is_left_out(capsys, monkeypatch):
    monkeypatch.setattr(rate, "missing_packages", lambda codec: ["nowhere"] if codec == "bc1" else [])
    arguments = rate.build_parser().parse_args(["x", "--codecs", "bc1,avif"])
    assert list(rate.chosen_codecs(arguments)) == ["avif"]
    assert "note: bc1 is left out, nowhere" in capsys.readouterr().out


# --- forms -----------------------------------------------------------------------------------------------------------

FORMS = [("packed", "learned"), ("packed", "linear"), ("bc1", "learned"), ("bc1", "linear")]


@pytest.mark.parametrize(("latents", "decoder"), FORMS)
def test_each_form_is_asked_for_by_name(latents, decoder):
    """Blocks without --decoder are linear, so only the plain form may leave it out."""
    flags = rate_work.run_settings((2.5, latents, decoder), "balanced")
    fine = plan(make_config(flags), 256, 256).hash_grid_configs[0]
    assert (fine.storage, fine.interpolation) == (latents, decoder)


def test_forms_stand_beside_each_other(tmp_path, monkeypatch, capsys):
    """One material, two rates, four forms: entries with what a pixel costs, tables, curves and the report."""
    for package in [*missing_packages("astc12x12"), "matplotlib"]:
        pytest.importorskip(package)
    monkeypatch.setattr(rate_work, "run_settings", tiny_settings)
    folder = save_maps(tmp_path / "made", 24, 24, ("diffuse",))
    flags = ["--rates", "2,8", "--codecs", "astc12x12", "--out", str(tmp_path / "out"), "--crop", "16"]
    with offline():
        torch.set_num_threads(1)
        command = [str(folder), *flags, "--latents", "packed,bc1", "--decoders", "learned,linear"]
        assert rate.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads((tmp_path / "out" / "rate.json").read_text(), parse_constant=pytest.fail)
    ours = [entry for entry in result["entries"] if entry["codec"] == "ours"]
    assert [(e["target_bpp"], e["latents"], e["decoder"]) for e in ours] == [(r, *f) for r in (2, 8) for f in FORMS]
    # a fine grid of 4 features of 2 bits, or of 3 channels; a coarse one of 8 features of 4 bits, or of 3 channels
    reads = {FORMS[0]: (8, 0), FORMS[1]: (8, 0), FORMS[2]: (4 + 1, 1), FORMS[3]: (2, 2)}
    inputs = {FORMS[0]: (8 + 16 + 8 + 1, 6), FORMS[1]: (8 + 4 + 8 + 1, 0), FORMS[2]: (8 + 12 + 3 + 1, 6),
              FORMS[3]: (8 + 3 + 3 + 1, 0)}  # fmt: skip
    for entry in ours:
        form = entry["latents"], entry["decoder"]
        assert (entry["texture_fetches"], entry["filtered_fetches"]) == reads[form]
        padded = sum(-(-count // 16) * 16 for count in inputs[form])
        assert entry["multiply_adds"] == 16 * (padded + 16 + 16)
        assert 0 < entry["psnr_filtered"] < 100
    assert len({entry["psnr"]["all"] for entry in ours}) == len(ours)
    start = next(i for i, line in enumerate(lines) if line.startswith("our forms"))
    assert [line.split()[:3] for line in lines[start + 2 : start + 10]] == [
        [*form, rate] for form in FORMS for rate in ("2", "8")
    ]
    text = (tmp_path / "out" / "rate.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "preset balanced, at 2, 8 bits per texel; " + ", ".join(" ".join(form) for form in FORMS) in page.text
    assert not page.open and "Our forms" in page.text and "slot:" not in text
    (material,) = json.loads(page.scripts["data"])["materials"]
    assert {f"ours {latents} {decoder} 8 bpp" for latents, decoder in FORMS[1:]} < {
        variant["label"] for variant in material["variants"]
    }
    assert [pair["rate"] for pair in material["pairs"]][:4] == ["2", "8", "bc1 learned 2", "bc1 learned 8"]
    assert {f"ours {form}".strip() for form in rate_summary.FORMS} <= set(rate_plot.STYLES)
    labels = {line.get_label() for line in rate_plot.draw(rate_plot.curves_of(ours, "made"), "").axes[0].lines}
    assert labels == {"neural texture (this toolkit)", *(f"this toolkit, {' '.join(form)}" for form in FORMS[1:])}


def test_a_form_that_cannot_have_a_rate_is_left_out(capsys):
    """The network of 64 neurons is too large for 256 x 256 at 1.25 bpp where nothing else is allowed."""
    runs = rate_work.planned_runs((256, 256), [("packed", "learned"), ("bc1", "tsnc")], [1.25, 10.0], "fast")
    assert runs == [(1.25, "packed", "learned"), (10.0, "packed", "learned"), (10.0, "bc1", "tsnc")]
    note = capsys.readouterr().out
    assert note.count("\n") == 1 and "bc1 tsnc is left out" in note and "--bpp 1.25" in note
    with pytest.raises(UserError, match=r"--bpp 1\.25"):
        rate_work.planned_runs((256, 256), [("bc1", "tsnc")], [1.25, 10.0], "fast")


def of_form(material, rate, psnr, latents="packed", decoder="learned", **cost):
    entry = made(material, "ours", rate, psnr, target=rate)
    return {**entry, "latents": latents, "decoder": decoder, "psnr_filtered": psnr - 4, **cost}


def test_gains_and_costs_of_each_form():
    bc1 = [of_form("a", 2.0, 33.0, "bc1", "linear", texture_fetches=4, multiply_adds=6144),
           of_form("b", 2.0, 32.0, "bc1", "linear", texture_fetches=6, multiply_adds=6144)]  # fmt: skip
    entries = [*ENTRIES, *bc1]
    found = gains(entries)
    assert [gain for gain in found if not gain["form"]] == gains(ENTRIES)  # the others are what they were
    (astc,) = [gain for gain in found if gain["form"] and gain["rival"] == "astc"]
    assert astc["form"] == "bc1 linear" and astc["mean"] == pytest.approx(0.5)  # 33 and 32 against 32 and 32 dB
    assert astc["mean_without_best"] == pytest.approx(0)
    assert mean_entries(entries)["ours bc1 linear"] == [(2.0, 32.5)]
    assert mean_entries(entries)["ours"] == mean_entries(ENTRIES)["ours"]
    assert label_of(bc1[0]) == "ours bc1 linear 2 bpp"
    rows = form_rows(entries)[1:]
    assert rows[0] == ["packed learned", "2", "34.50", "-", "+2.50", "+1.00", "-", "-", "1.0"]  # of an earlier version
    assert rows[2] == ["bc1 linear", "2", "32.50", "28.50", "+0.50", "+0.00", "4 to 6", "6144", "1.0"]
    assert len({len(line) for line in forms_table(entries).splitlines()[1:]}) == 1
    assert any(line.startswith("This toolkit (bc1 linear) is ahead of ASTC") for line in verdicts(found))
    rows = [line.split() for line in gains_table(found).splitlines()]
    assert ["bc1", "linear", "2", "ASTC", "x", "1.00", "+0.50", "+0.00", "1", "of", "2"] in rows
    low = of_form("a", 0.5, 31.5, "bc1", "linear", texture_fetches=4, multiply_adds=6144)
    assert gains([*ENTRIES, low])[-1]["rival"] == "nearest", "nothing is interpolated below the lowest rate of ASTC"
    assert form_rows([*ENTRIES, low])[-1][4:8] == ["+1.50", "-", "4", "6144"]  # 30 dB at 1 bpp
    assert form_rows([low])[1][4:6] == ["-", "-"]


# --- gains and means -------------------------------------------------------------------------------------------------


def made(material, codec, bpp, psnr, quality=None, target=None):
    scores = {"all": psnr, "diffuse": psnr}
    return {"material": material, "width": 8, "height": 8, "maps": ["diffuse"], "codec": codec, "quality": quality,
            "bpp": bpp, "seconds": 1.0, "psnr": scores, "ssim": {"all": None, "diffuse": None}, "flip": None,
            "target_bpp": target}  # fmt: skip


ENTRIES = [
    made("a", "ours", 2.0, 36.0, target=2), made("a", "ours", 8.0, 41.0, target=8),
    made("a", "astc12x12", 1.0, 30.0), made("a", "astc8x8", 4.0, 34.0), made("a", "bc1", 8.5, 42.0),
    made("a", "avif", 1.0, 35.0, 20), made("a", "avif", 4.0, 39.0, 60),
    made("b", "ours", 2.0, 33.0, target=2), made("b", "ours", 8.0, 35.0, target=8),
    made("b", "astc12x12", 1.0, 31.0), made("b", "astc8x8", 4.0, 33.0), made("b", "bc1", 8.5, 34.0),
    made("b", "avif", 2.0, 35.0, 20), made("b", "avif", 8.0, 37.0, 60),
]  # fmt: skip


def test_gains_at_matched_rates():
    found = {(gain["target_bpp"], gain["rival"]): gain for gain in gains(ENTRIES)}
    assert set(found) == {(2, "nearest"), (2, "astc"), (2, "avif"), (8, "nearest"), (8, "astc"), (8, "avif")}
    nearest = found[2, "nearest"]["rows"]  # 1 and 4 bpp are as far from 2: the better one counts
    assert [(row["codec"], row["gain"]) for row in nearest] == [("astc8x8", 2.0), ("astc8x8", 0.0)]
    assert [row["codec"] for row in found[8, "nearest"]["rows"]] == ["bc1", "bc1"]
    assert [row["gain"] for row in found[8, "nearest"]["rows"]] == [-1, 1]
    astc = found[2, "astc"]
    assert [row["gain"] for row in astc["rows"]] == pytest.approx([4, 1])  # 32 and 32 dB half-way
    assert astc["mean"] == pytest.approx(2.5) and astc["mean_without_best"] == pytest.approx(1) and astc["wins"] == 2
    avif = found[2, "avif"]
    assert [row["gain"] for row in avif["rows"]] == pytest.approx([-1, -2])
    assert avif["mean_without_best"] == pytest.approx(-2) and avif["wins"] == 0
    # what ends at 4 bpp has its best result for half of our bits
    assert [(row["gain"], row["rival_bpp"]) for row in found[8, "avif"]["rows"]] == [(2, 4), (-2, 8)]
    assert [(row["gain"], row["rival_bpp"]) for row in found[8, "astc"]["rows"]] == [(7, 4), (2, 4)]
    dear = [made("a", "avif", 3.0, 35.0, 20), made("a", "avif", 4.0, 39.0, 60)]  # starts above 2 bpp
    assert {(gain["target_bpp"], gain["rival"]) for gain in gains(ENTRIES[:2] + dear)} == {(8, "avif")}
    (alone,) = gains(ENTRIES[:2] + dear)
    assert alone["mean"] == 2 and alone["mean_without_best"] is None


def test_losses_are_said_as_plainly_as_gains():
    lines = verdicts(gains(ENTRIES))
    assert any("ahead of ASTC" in line and "2 bpp by 2.5 dB (better on 2 of 2)" in line for line in lines)
    assert any("behind AVIF" in line and "2 bpp by 1.5 dB (better on 0 of 2)" in line for line in lines)
    assert not any("ahead of AVIF" in line for line in lines)
    assert "theirs at 1.06 times our rate" in next(line for line in lines if "nearest" in line and "8 bpp" in line)
    text = gains_table(gains(ENTRIES))
    assert "-1.50" in text and "+2.50" in text
    assert gains_table([]) and gains_table(gains(ENTRIES[:2]))


def test_mean_curves():
    curves = mean_entries(ENTRIES)
    assert curves["ours"] == [(2.0, 34.5), (8.0, 38.0)]
    assert curves["astc"] == [(1.0, 30.5), (4.0, 33.5)] and curves["bc1"] == [(8.5, 38.0)]
    (low, first), *_, (high, last) = curves["avif"]  # the rates that both reach: 2 to 4 bpp
    assert (low, high) == (2, 4) and first == pytest.approx(36) and last == pytest.approx((39 + 36) / 2)
    assert "bc7" not in curves
    assert mean_entries(ENTRIES[:7])["ours"] == [(2.0, 36.0), (8.0, 41.0)]


def test_the_viewer_holds_the_nearest_of_each_kind():
    chosen, pairs = rate_report.shown([entry for entry in ENTRIES if entry["material"] == "a"])
    assert {label_of(entry) for entry in chosen} == {"ours 2 bpp", "ours 8 bpp", "astc8x8", "bc1", "avif q60"}
    assert [(pair["rate"], pair["rival"]) for pair in pairs] == [("2", "astc8x8"), ("8", "bc1")]
    alone, pairs = rate_report.shown(ENTRIES[:1])
    assert len(alone) == 1 and pairs[0]["rival"] == "source"


def test_table_lines_are_aligned():
    lines = material_table(ENTRIES[:7]).splitlines()
    assert lines[0] == "a, 8x8" and len({len(line) for line in lines[1:]}) == 1
    assert [line.split()[0] for line in lines[2:]] == ["astc12x12", "avif", "ours", "astc8x8", "avif", "ours", "bc1"]


def test_pictures_survive_the_data_uri():
    random = np.random.default_rng(0)
    for shape in ((5, 7, 3), (5, 7, 1), (1, 1, 1)):
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(image_of(rate_report.data_uri(pixels)), np.broadcast_to(pixels, (*shape[:2], 3)))
