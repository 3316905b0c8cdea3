"""Fields of a configuration with help, unit and range, and the flags and checks that follow from them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from common.errors import UserError, brief

AUTO = "auto"  # given for a value that the program chooses
FEW_NAMES = 8  # as many as an error lists
MOST_INT = 2**53  # largest number accepted; Python refuses to print numbers of thousands of digits


def knob(default: Any, help: str, *, unit: str = "", low: float | None = None, high: float | None = None, choices=(),
         refused: Mapping[str, str] | None = None, words=(), bare: Any = None, section: str = "",
         auto: bool = False) -> Any:  # fmt: skip
    """A dataclass field with what the command line, the validation and the documentation need to know about it.

    Args:
        low, high: the range of a number, both included; None: without a limit.
        choices: the values that it can have.
        refused: values that a user may well expect among the choices, and the reason why they are not, for the error.
        words: values that it can have instead of a mapping; the command line takes only these.
        bare: the value of the flag when it is given without one; None: a value is required.
        section: heading in --help of this field and of those after it.
        auto: whether "auto" may be given for None, a value that the program chooses.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": tuple(choices),
                "refused": dict(refused or {}), "words": tuple(words), "bare": bare, "section": section,
                "auto": auto}  # fmt: skip
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


# --- command line --------------------------------------------------------------------------------------------------


def parse_bool(text: str) -> bool:
    """True, 1, yes, on and False, 0, no, off in any case."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return words[text.strip().lower()]


class HomeParser(argparse.ArgumentParser):
    """argparse, with the user's home for a leading `~`, which a shell leaves alone in --data-dir=~/x."""

    def parse_known_args(self, args=None, namespace=None):
        found, rest = super().parse_known_args(args, namespace)
        for name, value in vars(found).items():
            if isinstance(value, (str, os.PathLike)) and str(value).startswith("~"):
                setattr(found, name, type(value)(os.path.expanduser(value)))
        return found, rest


class OneLineParser(HomeParser):
    """HomeParser, with errors as one line and without abbreviated flags."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str):
        raise UserError(f"{message} (see --help)")


def help_text(field: dataclasses.Field) -> str:
    """The help of a field with its choices or range, unit and default."""
    facts = field.metadata
    default = field.default if field.default is not dataclasses.MISSING else None
    parts = []
    if facts["choices"]:
        parts.append("one of " + ", ".join(str(choice) for choice in facts["choices"] if choice != ""))
    elif facts["words"]:
        parts.append(f"one of {', '.join(facts['words'])}; default {facts['words'][0]}")
    elif facts["low"] is not None:
        parts.append(f"{facts['low']:g} to {facts['high']:g}" if facts["high"] is not None else f">= {facts['low']:g}")
    if facts["unit"]:
        parts.append(facts["unit"])
    if facts["auto"]:
        parts.append(f"or {AUTO}; default {AUTO if default is None else default}")
    elif default is not None and default != "":
        parts.append(f"default {default}")
    text = facts["help"] + (f" [{'; '.join(parts)}]" if parts else "")
    return text.replace("%", "%%")


def add_flags(parser: argparse.ArgumentParser, fields: Mapping[str, dataclasses.Field]) -> None:
    """A flag for each field that one argument can hold, in the groups of --help that `section` names."""
    group: Any = parser
    for name, field in fields.items():
        if field.metadata["section"]:
            group = parser.add_argument_group(field.metadata["section"])
        if field.default is not dataclasses.MISSING or field.metadata["words"]:
            add_flag(group, name, field)


def add_flag(parser: Any, name: str, field: dataclasses.Field, **changes: Any) -> None:
    """Add --name for a field. A flag that is not given stays out of the namespace; a bare boolean flag means True.

    Args:
        parser: an ArgumentParser or a group of one.
        changes: arguments of add_argument that replace those made here.
    """
    kind, bare = str if field.default is dataclasses.MISSING else _kind(field), field.metadata["bare"]
    metavar = field.metadata["unit"] if kind is str and field.metadata["unit"] else kind.__name__
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help_text(field), "metavar": metavar.upper()}
    if kind is bool:
        options.update(type=parse_bool, nargs="?", const=True, metavar="BOOL")
    else:
        options.update(type=_or_auto(kind) if field.metadata["auto"] else kind)
        options.update({} if bare is None else {"nargs": "?", "const": bare})
    parser.add_argument(f"--{name}", **{**options, **changes})


def _or_auto(kind: type) -> Callable[[str], Any]:
    """A parser of a number, or of the word that leaves it to the program."""

    def parse(text: str) -> Any:
        return AUTO if text == AUTO else kind(text)

    parse.__name__ = kind.__name__  # in argparse's errors
    return parse


def suggest(name: Any, known: Mapping) -> str:
    """The end of an error about an unknown name: the known ones that look most like it, or all if they are few."""
    word = brief(name).strip("'")
    close = difflib.get_close_matches(word, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    if len(known) <= FEW_NAMES:
        return f"; known fields are {', '.join(known)}"
    nearest = difflib.get_close_matches(word, list(known), n=3, cutoff=0.0)
    return f"; the nearest known fields are {', '.join(nearest)} (see --help)"


def check_values(fields: Mapping[str, dataclasses.Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """check_value of each of `values`, by the names of their flags. Raises: UserError."""
    return {name: check_value(f"--{name}", fields[name], value) for name, value in values.items()}


def check_value(flag: str, field: dataclasses.Field, value: Any) -> Any:
    """`value` as the field's type, inside its range. Raises: UserError that names `flag`."""
    facts = field.metadata
    kind = _kind(field)
    if (field.default is None and value is None) or (facts["auto"] and value == AUTO):
        return None
    if isinstance(value, str) and facts["words"]:
        if value not in facts["words"]:
            words = ", ".join(facts["words"])
            raise UserError(f"{flag}: expected {words}, or {_kind_name(kind)} in a config file, got {brief(value)}")
        return value
    if isinstance(value, tuple):
        value = list(value)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):  # YAML reads 1e-3 as text
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if kind is bool and value in (0, 1):
        value = bool(value)
    if type(value) is not kind:
        word = f" or {AUTO}" if facts["auto"] else ""
        raise UserError(f"{flag}: expected {_kind_name(kind)}{word}, got {brief(value)}")
    if kind is str and "\0" in value:
        raise UserError(f"{flag}: expected text without null characters, got {brief(value)}")
    if facts["unit"] == "path":  # in a config file; HomeParser has done it for flags
        value = os.path.expanduser(value)
    if kind is float and not math.isfinite(value):
        raise UserError(f"{flag}: expected a finite number, got {value}")
    if facts["choices"] and value not in facts["choices"]:
        names = ", ".join(str(choice) for choice in facts["choices"] if choice != "")
        reason = facts["refused"].get(value.lower(), "") if isinstance(value, str) else ""
        raise UserError(f"{flag}: expected one of {names}, got {_given(value)}{reason and f'; {reason}'}")
    if kind is int and abs(value) > MOST_INT:
        raise UserError(f"{flag}: expected a number of at most {MOST_INT}, got {brief(value)}")
    low, high = facts["low"], facts["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"{low:g} to {high:g}" if high is not None else f"{low:g} or more"
        raise UserError(f"{flag}: expected {limits}{' ' + facts['unit'] if facts['unit'] else ''}, got {_given(value)}")
    return value


def _kind(field: dataclasses.Field) -> type:
    """The type of a field's values."""
    if field.default is dataclasses.MISSING:
        return type(field.default_factory())
    if field.default is None:
        return int if "int" in str(field.type) else float
    return type(field.default)


def _given(value: Any) -> str:
    """A value for an error message, cut where it is long."""
    return value[:80] if isinstance(value, str) else brief(value)


def _kind_name(kind: type) -> str:
    return {bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list",
            dict: "a mapping"}[kind]  # fmt: skip
