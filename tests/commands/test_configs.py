"""configs.py: every flag of the contract, what it accepts and refuses, config files, and that every knob is read."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import json
import pickle
import re

import pytest

from common.errors import UserError
from common.knobs import help_text, parse_bool
from configs import (
    FIELDS,
    Config,
    HashGridConfig,
    build_parser,
    describe,
    make_config,
    parse_args,
    to_dict,
)
from formats.options import EXPORT_FIELDS
from maps.channels import MAPS
from tests.support.paths import ROOT
from training.plan import kept_defaults, plan

SCALARS = [name for name, field in FIELDS.items() if field.default is not dataclasses.MISSING]
BOOLEANS = [name for name in SCALARS if isinstance(FIELDS[name].default, bool)]
NUMBERS = [name for name in SCALARS if type(FIELDS[name].default) in (int, float)]
DEFAULTS = {  # issue 2, point 2; None: the default is ours to choose
    "data_dir": "data/test", "save_dir": "outputs", "mode": None, "load_dir": None, "load_iter": -1, "quantize": True,
    "quantize_bits": None, "save_bits": None, "noise_std": 1.0, "noise_anneal_fraction": 0.8, "max_iter": None,
    "batch_size": None, "learning_rate": None, "lr_scheduler": None, "eval_interval": None, "save_interval": None,
    "early_stop": True, "early_stop_interval": 5000, "early_stop_psnr_threshold": 0.01, "wrap_boundary": True,
    "wrap_strength": None, "wrap_interval": None, "wrap_levels": None, "linear_color": False, "seed": None,
    "device": "auto", "engine": "auto", "groups_batching": False, "groups_batch_dir": "data_batch",
    "groups_save_dir": "save_batch", "groups_max_workers": 1, "groups_verbose": False,
}  # fmt: skip


def from_yaml(tmp_path, text, *flags, name="my.yaml") -> Config:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return make_config(parse_args(["--config", str(path), *flags]))


# --- flags ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEFAULTS)
def test_flag_exists_with_its_default(name):
    default = getattr(make_config(parse_args([])), name)
    assert DEFAULTS[name] is None or (default == DEFAULTS[name] and type(default) is type(DEFAULTS[name]))
    other = {bool: str(not default), str: FIELDS[name].metadata["choices"][-1:] or ("./x",)}.get(type(default))
    other = other if isinstance(other, str) else other[0] if other else str(default)
    assert list(parse_args([f"--{name}", other])) == [name]


def test_choices_of_the_contract():
    choices = {name: set(FIELDS[name].metadata["choices"]) for name in FIELDS}
    assert choices["mode"] == {"train", "infer"}
    assert choices["quantize_bits"] == {1, 2, 4, 8, 16}
    assert choices["save_bits"] == {8, 16, 32, 64}
    assert choices["lr_scheduler"] == {"plateau", "cosine", "steplr", "poly"}
    assert {"auto", "torch"} <= choices["engine"]
    assert tuple(MAPS) == tuple(Config().texture_loss_weights)


def test_lines_of_the_contract_parse():
    line = "--mode train --data_dir ./data/test --save_dir ./outputs --quantize True --quantize_bits 4 --save_bits 32"
    config = make_config(parse_args(line.split()))
    assert (config.data_dir, config.quantize, config.quantize_bits, config.save_bits) == ("./data/test", True, 4, 32)
    config = make_config(parse_args([*line.split(), "--load_iter", "2000", "--load_dir", "outputs/x"]))
    assert (config.load_iter, config.load_dir) == (2000, "outputs/x")
    assert make_config(parse_args([*line.split(), "--load_iter", "-1", "--load_dir", "outputs/x"])).load_iter == -1
    line = "--groups_batching --groups_batch_dir ./data_batch --groups_save_dir ./outputs_batch"
    assert make_config(parse_args(line.split())).groups_batching is True


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize(
    "words, value",
    [(["True"], True), (["False"], False), (["1"], True), (["0"], False), (["yes"], True), (["no"], False),
     (["TRUE"], True), (["nO"], False), ([], True)],
    ids=str,
)  # fmt: skip
def test_boolean_words(name, words, value):
    given = parse_args([f"--{name}", *words, "--seed", "3"])  # another flag behind it is not taken for its value
    assert given == {name: value, "seed": 3}
    assert parse_args(["--seed", "3", f"--{name}", *words])[name] is value
    assert parse_args([f"--{name}={words[0]}"] if words else [f"--{name}"])[name] is value


@pytest.mark.parametrize("word", ["maybe", "2", "", "truee", "None", "-1"])
def test_other_boolean_words_are_refused(word, refused):
    with refused("--quantize"):
        parse_args([f"--quantize={word}"])
    with pytest.raises(argparse.ArgumentTypeError):
        parse_bool(word)


@pytest.mark.parametrize(
    "flags",
    [["--max_iters", "5"], ["--max_it", "5"], ["--quant"], ["--max_iter"], ["--data_dir"], ["stray"], ["--max_iter="],
     ["--max_iter", "1e3"], ["--max_iter", "ten"], ["--learning_rate", "fast"], ["--max_iter", "5", "6"],
     ["--hash_grid_configs", "[]"], ["--quantize", "outputs"]],
    ids=" ".join,
)  # fmt: skip
def test_unknown_abbreviated_and_incomplete_flags(flags, refused):
    with refused(flags[0].split("=")[0] if len(flags) < 3 else "6"):
        make_config(parse_args(flags))


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_outside_their_range(name, refused):
    facts = FIELDS[name].metadata
    assert facts["choices"] or facts["low"] is not None, "a number has choices or a range"
    tries = [facts["low"] - 1] if facts["low"] is not None else [7]
    tries += [facts["high"] * 2 + 1] if facts["high"] is not None else []
    for value in tries:
        with refused(f"--{name}", str(value)):
            make_config({name: value})
    if type(FIELDS[name].default) is float:
        for text in ("nan", "inf", "-inf"):
            with refused(f"--{name}"):
                make_config(parse_args([f"--{name}={text}"]))


@pytest.mark.parametrize("name", [name for name in SCALARS if FIELDS[name].metadata["choices"]])
def test_other_choices_are_refused(name, refused):
    with refused(f"--{name}", *map(str, FIELDS[name].metadata["choices"])):
        make_config({name: "neither" if isinstance(FIELDS[name].default, str) else 5})


@pytest.mark.parametrize("word", [word for word in FIELDS["network"].metadata["choices"] if word])
def test_network_is_a_word_for_layers_and_neurons(word):
    layers, neurons = map(int, word.split("x"))
    long = make_config(parse_args(["--n_hidden_layers", str(layers), "--n_neurons", str(neurons)]))
    short = make_config(parse_args(["--network", word]))
    assert short == long and short.chosen == long.chosen and to_dict(short) == to_dict(long)
    assert (short.n_hidden_layers, short.n_neurons) == (layers, neurons)
    assert make_config({**to_dict(short), "seed": 1}) == dataclasses.replace(short, seed=1)  # as checkpoints are read
    assert make_config({"network": word, "n_neurons": neurons}) == long  # it says the same


@pytest.mark.parametrize("preset, bpp", [("preview", 1.25), ("best", 2.5), ("balanced", 10)])
def test_network_wins_over_what_a_plan_chooses(preset, bpp):
    planned = plan(make_config({"network": "1x32", "preset": preset, "bpp": bpp}), 256, 256)
    assert (planned.n_hidden_layers, planned.n_neurons) == (1, 32)
    assert "n_neurons" in kept_defaults(make_config({"network": "2x64", "preset": preset}))


def test_network_and_what_contradicts_it(tmp_path, refused):
    with refused("--network 1x16", "--n_neurons 16", "found 32"):
        make_config(parse_args(["--network", "1x16", "--n_neurons", "32"]))
    with refused("--network 1x16", "--n_hidden_layers 1", "found 2"):
        from_yaml(tmp_path, "n_hidden_layers: 2", "--network=1x16")
    with refused("--network 2x32", "2x64", "--decoder tsnc"):
        make_config({"network": "2x32", "decoder": "tsnc", "latents": "bc1"})
    assert make_config({"network": "2x64", "decoder": "tsnc", "latents": "bc1"}).n_neurons == 64


def test_shader_precision_is_a_word_for_bits(refused):
    short, long = make_config({"shader_precision": 8}), make_config({"activation_bits": 8, "weight_bits": 8})
    assert short == long and short.chosen == long.chosen and to_dict(short) == to_dict(long)
    assert (short.activation_bits, short.weight_bits) == (8, 8) and make_config({"activation_bits": 8}) == long
    assert make_config({"shader_precision": 16}) == make_config({})
    with refused("--shader_precision 8", "--activation_bits 8", "found 32"):
        make_config({"shader_precision": 8, "activation_bits": 32})
    with refused("--activation_bits 8", "weight_bits", "found 16"):
        make_config({"shader_precision": 8, "weight_bits": 16})


def test_a_value_with_a_line_break_stays_on_one_line(refused):
    with refused("--mode"):
        make_config(parse_args(["--mode", "tr\nain"]))


@pytest.mark.parametrize(
    "flags, word",
    [("--quantize_bits 16 --save_bits 8", "save_bits"), ("--mode infer", "load_dir"), ("--load_iter 20", "load_dir"),
     ("--n_neurons 20", "16"), ("--groups_batching --load_dir x", "load_dir"), ("--groups_gpus 1", "groups_backend"),
     ("--groups_batching --mode infer --load_dir x", "load_dir"), ("--ray_address auto", "groups_backend")],
)  # fmt: skip
def test_combinations_that_make_no_sense(flags, word, refused):
    with refused(word):
        make_config(parse_args(flags.split()))


# --- config files --------------------------------------------------------------------------------------------------


def test_config_file(tmp_path):
    config = from_yaml(
        tmp_path,
        "max_iter: 50\nlearning_rate: 1e-3\nquantize: no\nnoise_std: 2\nlr_scheduler: steplr\n"
        "hash_grid_configs:\n"
        "  - {max_resolution: 64, n_levels: 3, quantize_bits: 8, save_bits: 64, learning_rate: 0.5,"
        " interpolation: learned}\n"
        "  - {}\n"
        "  - {max_resolution: 7}\n"
        "texture_loss_weights: {diffuse: 2, normal: 0.5}\n",
    )
    assert (config.max_iter, config.learning_rate, config.quantize, config.noise_std) == (50, 1e-3, False, 2.0)
    assert config.lr_scheduler == "steplr"
    assert config.hash_grid_configs == [
        HashGridConfig(64, 3, 8, 64, 0.5, "learned"), HashGridConfig(), HashGridConfig(max_resolution=7),
    ]  # fmt: skip
    assert config.texture_loss_weights == {**dict.fromkeys(MAPS, 1.0), "diffuse": 2.0, "normal": 0.5}


def test_a_grid_of_width_and_height(tmp_path):
    """A square pair is a number; config.json, where it is a list, reads back."""
    config = from_yaml(tmp_path, "hash_grid_configs: [{max_resolution: [64, 8]}, {max_resolution: [8, 8]}]")
    assert config.hash_grid_configs == [HashGridConfig(max_resolution=(64, 8)), HashGridConfig(max_resolution=8)]
    stored = json.loads(json.dumps(to_dict(config)))
    assert [grid["max_resolution"] for grid in stored["hash_grid_configs"]] == [[64, 8], 8]
    assert make_config(stored) == config


def test_what_a_grid_leaves_out_comes_from_the_flags(tmp_path):
    from shape import resolve_grids

    grids = "{max_resolution: 32, quantize_bits: 2}, {save_bits: 16, learning_rate: 0.5}, {n_levels: 1}"
    text = f"hash_grid_configs: [{grids}]"
    flags = ["--quantize_bits", "8", "--save_bits", "64", "--grid_learning_rate", "0.125"]
    first, second, third = resolve_grids(from_yaml(tmp_path, text, *flags), 64, 32)
    assert (first.quantize_bits, first.save_bits, first.learning_rate, first.n_levels) == (2, 64, 0.125, 6)
    assert (second.quantize_bits, second.save_bits, second.learning_rate) == (8, 16, 0.5)
    assert (third.n_levels, third.quantize_bits, third.save_bits) == (1, 8, 64)
    half, eighth = resolve_grids(make_config({}), 1024, 512)  # the default: two grids at 1/2 and 1/8 of the longer side
    assert (half.max_resolution, eighth.max_resolution) == (512, 128)


def test_flags_override_the_file(tmp_path):
    config = from_yaml(tmp_path, "max_iter: 50\nseed: 4\nquantize: false\n", "--max_iter", "60", "--quantize")
    assert (config.max_iter, config.seed, config.quantize) == (60, 4, True)


def test_what_the_user_chose_is_known_but_no_part_of_the_values(tmp_path):
    config = from_yaml(tmp_path, "max_iter: 10000\n", "--seed", "0")
    assert config.chosen == {"max_iter", "seed"} and config == Config() and Config().chosen == frozenset()
    assert "chosen" not in to_dict(config) and "chosen" not in FIELDS
    assert pickle.loads(pickle.dumps(config)).chosen == config.chosen  # groups send it to other processes and hosts


def test_json_empty_and_comments_are_yaml_too(tmp_path):
    assert from_yaml(tmp_path, json.dumps({"max_iter": 50, "noise_std": 1}), name="my.json").max_iter == 50
    assert from_yaml(tmp_path, "") == from_yaml(tmp_path, "# nothing\n") == make_config({})


@pytest.mark.parametrize(
    "text, words",
    [("max_iters: 5", ("max_iters", "did you mean 'max_iter'")),
     ("zebra: 5", ("zebra", "known fields")),
     ("1: 2", ("unknown field 1",)),
     ("- max_iter", ("list",)),
     ("max_iter", ("str",)),
     ("max_iter: [", ("not valid YAML",)),
     ("max_iter: 5\n\tseed: 3", ("not valid YAML",)),
     (b"max_iter: \xff\xfe", ("UTF-8",)),
     (b"\x00\x01\x02", ("not valid YAML",)),
     ("{? [1, 2] : 3}", ("not valid YAML",)),
     ("[" * 1000, ("not valid YAML",)),
     ("max_iter: fast", ("--max_iter", "whole number")),
     ("max_iter: 5.5", ("--max_iter", "whole number")),
     ("max_iter: yes", ("--max_iter", "whole number")),
     ("max_iter: ", ("--max_iter", "whole number")),
     ("max_iter: 2026-01-01", ("--max_iter",)),
     ("quantize: 'False'", ("--quantize", "True or False")),
     ("quantize: 2", ("--quantize", "True or False")),
     ("learning_rate: .nan", ("--learning_rate", "finite")),
     ("learning_rate: 1" + "0" * 400, ("--learning_rate",)),
     ("data_dir: 5", ("--data_dir", "text")),
     ("hash_grid_configs: 5", ("hash_grid_configs", "list")),
     ("hash_grid_configs: {}", ("hash_grid_configs", "list")),
     ("hash_grid_configs: [5]", ("hash_grid_configs[0]",)),
     ("hash_grid_configs: [{}, {max_res: 5}]", ("hash_grid_configs[1]", "max_resolution")),
     ("hash_grid_configs: [{quantize_bits: 3}]", ("hash_grid_configs[0].quantize_bits", "1, 2, 4, 8, 16")),
     ("hash_grid_configs: [{max_resolution: 0}]", ("hash_grid_configs[0].max_resolution",)),
     ("hash_grid_configs: [{max_resolution: 16.0}]", ("hash_grid_configs[0].max_resolution",)),
     ("hash_grid_configs: [{max_resolution: [8]}]", ("hash_grid_configs[0].max_resolution", "[width, height]")),
     ("hash_grid_configs: [{max_resolution: [8, 4, 2]}]", ("hash_grid_configs[0].max_resolution", "[8, 4, 2]")),
     ("hash_grid_configs: [{max_resolution: [8, 0]}]", ("hash_grid_configs[0].max_resolution", "1 to 16384")),
     ("hash_grid_configs: [{max_resolution: [8, 16385]}]", ("hash_grid_configs[0].max_resolution", "16385")),
     ("hash_grid_configs: [{max_resolution: [8, 4.0]}]", ("hash_grid_configs[0].max_resolution", "whole")),
     ("hash_grid_configs: [{max_resolution: [8, true]}]", ("hash_grid_configs[0].max_resolution", "whole")),
     ("hash_grid_configs: [{max_resolution: 8x4}]", ("hash_grid_configs[0].max_resolution", "[width, height]")),
     ("hash_grid_configs: [{learning_rate: -1}]", ("hash_grid_configs[0].learning_rate",)),
     ("hash_grid_configs: [{interpolation: cubic}]", ("hash_grid_configs[0].interpolation", "learned")),
     ("texture_loss_weights: 5", ("texture_loss_weights", "mapping")),
     ("texture_loss_weights: {difuse: 1}", ("texture_loss_weights", "did you mean 'diffuse'")),
     ("texture_loss_weights: {diffuse: -1}", ("texture_loss_weights.diffuse",)),
     ("texture_loss_weights: {diffuse: .inf}", ("texture_loss_weights.diffuse",)),
     ("texture_loss_weights: {diffuse: heavy}", ("texture_loss_weights.diffuse",)),
     ("texture_loss_weights: {diffuse: 1" + "0" * 400 + "}", ("texture_loss_weights.diffuse",)),
     ("texture_loss_weights: {" + ", ".join(f"{name}: 0" for name in MAPS) + "}", ("texture_loss_weights", "0"))],
    ids=lambda value: repr(value)[:50] if isinstance(value, (str, bytes)) else "",
)  # fmt: skip
def test_bad_config_files(text, words, tmp_path, refused):
    with refused(*words):
        from_yaml(tmp_path, text)


@pytest.mark.parametrize("weight", ["1e-1", "1.0e-1", "0.1"])
def test_loss_weights_take_every_notation_that_other_numbers_take(weight, tmp_path):
    assert from_yaml(tmp_path, f"learning_rate: {weight}").learning_rate == 0.1
    assert from_yaml(tmp_path, f"texture_loss_weights: {{diffuse: {weight}}}").texture_loss_weights["diffuse"] == 0.1


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch {}']", "!!python/object/new:os.system ['touch {}']",
            "!!python/name:os.system", "!!python/module:os", "!custom 5"]
)  # fmt: skip
def test_yaml_tags_run_nothing(tag, tmp_path, refused):
    with refused("not valid YAML"):
        from_yaml(tmp_path, f"data_dir: {tag.format(tmp_path / 'made')}\n")
    assert not (tmp_path / "made").exists()


def test_missing_config_file(tmp_path, refused):
    with refused("--config", "No such file"):
        parse_args(["--config", str(tmp_path / "none.yaml")])
    with refused("--config"):
        parse_args(["--config", str(tmp_path)])


# --- grids that cannot be built ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry, flags, words",
    [({"max_resolution": 24, "n_levels": 5}, {}, ("24", "n_levels")),
     ({"quantize_bits": 16, "save_bits": 8}, {}, ("16", "8")),
     ({"quantize_bits": 16}, {"save_bits": 8}, ("16", "8")),
     ({"save_bits": 8}, {"quantize_bits": 16}, ("16", "8"))],
    ids=str,
)  # fmt: skip
def test_grids_that_cannot_be_built(entry, flags, words, refused):
    from shape import resolve_grids

    with refused("hash_grid_configs[1]", *words):
        resolve_grids(make_config({"hash_grid_configs": [{}, entry], **flags}), 64, 64)


# --- documentation and round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIELDS)
def test_help_has_text_unit_and_range(name):
    field = FIELDS[name]
    facts, text = field.metadata, help_text(field)
    assert len(facts["help"]) > 10
    if type(field.default) in (int, float):
        limits = [*facts["choices"], *(limit for limit in (facts["low"], facts["high"]) if limit is not None)]
        assert limits and all(f"{limit:g}" in text for limit in limits)
    if type(field.default) is str and name not in ("device",):  # its values are in the text
        assert facts["choices"] or facts["unit"]
    if facts["unit"]:
        assert facts["unit"] in text
    if field.default not in (dataclasses.MISSING, ""):
        assert f"default {field.default}" in text


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_args(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for name in [*SCALARS, "config"]:
        assert re.search(rf"--{name}\b", shown), name
    assert "%%" not in shown


def test_help_shows_ten_flags_before_the_others(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--help"])
    options, first, *others = re.split(r"\n(?=[a-z ,]+:\n)", capsys.readouterr().out)[1:]
    assert first.startswith("most used:") and len(others) == 6
    used = re.findall(r"^  --(\w+)", options + first, re.MULTILINE)
    assert len(used) == 10 and {"config", "data_dir", "save_dir", "bpp", "target_psnr", "preset", "load_dir"} <= {*used}
    assert sorted(used + re.findall(r"^  --(\w+)", "".join(others), re.MULTILINE)) == sorted(
        ["config", "texture_loss_weights", *SCALARS]
    )


def test_every_field_of_a_grid_is_documented():
    for field in dataclasses.fields(HashGridConfig):
        facts = field.metadata
        assert len(facts["help"]) > 10 and (facts["choices"] or facts["low"] is not None), field.name


ALL_CHANGED = {
    "mode": "infer", "load_dir": "x", "load_iter": 7, "quantize": False, "lr_scheduler": "plateau", "engine": "torch",
    "hash_grid_configs": [{"max_resolution": 64}, {"interpolation": "learned", "learning_rate": 0.5}],
    "texture_loss_weights": {"diffuse": 0.25}, "quantize_bits": 8, "save_bits": 64, "n_neurons": 32,
}  # fmt: skip


@pytest.mark.parametrize("values", [{}, ALL_CHANGED], ids=["defaults", "changed"])
def test_round_trip(values):
    config = make_config(values)
    as_json = json.loads(json.dumps(to_dict(config), allow_nan=False))
    assert make_config(as_json) == config
    assert list(as_json) == list(FIELDS)


def test_to_dict_of_a_default_config_can_be_trained_again():
    """What a checkpoint keeps is what a resumed run starts from: load_dir '' and load_iter -1 among it."""
    values = {**to_dict(make_config({})), "mode": "train", "load_dir": "", "load_iter": -1}
    assert make_config(values) == Config()


def test_describe_names_what_is_not_at_its_default_once():
    assert describe(make_config({})) == ""
    changed = describe(make_config({"seed": 0, "n_neurons": 32, "max_iter": 7}))
    assert changed.split() == ["max_iter", "7", "n_neurons", "32"]
    config = make_config(ALL_CHANGED)
    lines = describe(config).splitlines()
    assert [line.split()[0] for line in lines] == [name for name in FIELDS if name in ALL_CHANGED]
    assert re.search(r"^ +n_neurons +32$", describe(config), re.MULTILINE)
    assert '"diffuse": 0.25' in describe(config)


def test_config_is_immutable_and_defaults_are_not_shared():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3
    Config().texture_loss_weights["diffuse"] = 9.0
    Config().hash_grid_configs.append(1)
    assert Config() == make_config({})


def test_make_config_names_unknown_fields_too():
    with pytest.raises((UserError, KeyError), match="zebra"):
        make_config({"zebra": 1})


# --- an unread knob is a failing test ------------------------------------------------------------------------------


OTHERS = {"bench", "tests", "data", "lightmap", "deferred", "neuropbr"}


def read_fields(text: str, *owners: str) -> set[str]:
    """Attributes that the code reads of something with one of these names: `config.x`, `self.config.x`."""
    reads = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)]
    return {
        node.attr for node in reads
        if isinstance(node.ctx, ast.Load)
        and (node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", None)) in owners
    }  # fmt: skip


@functools.cache
def fields_read_by_the_rooms(*owners: str) -> set[str]:
    paths = [path for path in ROOT.rglob("*.py") if path != ROOT / "configs.py"]
    parts = [(path, path.relative_to(ROOT).parts[0]) for path in paths]
    texts = [path.read_text(encoding="utf-8") for path, room in parts if room not in OTHERS and room[0] != "."]
    return set().union(*(read_fields(text, *owners) for text in texts))


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"network", "shader_precision"}))  # words: make_config
def test_every_knob_is_read(name):
    assert name in fields_read_by_the_rooms("config", "_config"), f"no module reads config.{name}"


@pytest.mark.parametrize("name", EXPORT_FIELDS)
def test_every_knob_of_export_is_read(name):
    text = (ROOT / "export.py").read_text(encoding="utf-8")
    assert re.search(rf"\boptions\.{name}\b", text) and len(help_text(EXPORT_FIELDS[name])) > 10


@pytest.mark.parametrize("field", dataclasses.fields(HashGridConfig), ids=lambda field: field.name)
def test_every_field_of_a_grid_is_read(field):
    assert field.name in fields_read_by_the_rooms("entry", "grid")


def test_a_knob_that_is_only_mentioned_is_not_read():
    text = '"""config.a"""\nx = "config.b"  # config.c\nconfig.d = other.e\nself.config.f + config.g.h\n'
    assert read_fields(text, "config") == {"f", "g"}


def test_every_flag_is_a_field_and_every_field_of_a_scalar_or_a_word_a_flag():
    flags = {option[2:] for action in build_parser()._actions for option in action.option_strings if option[1] == "-"}
    assert flags == {*SCALARS, "texture_loss_weights", "config", "help"}


def test_homes_in_config_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: ~/maps\n")
    config = make_config(parse_args(["--config=~/config.yaml"]))
    assert config.data_dir == str(tmp_path / "maps")
