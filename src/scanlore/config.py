"""Settings: their base class, recipes, dotted overrides, and errors that name the right key.

Nothing here imports torch, so a mistyped key is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from scanlore.errors import ConfigError, nearest

RECIPES = Path(__file__).parent / "recipes"
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings class: unknown keys are refused, values cannot change once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def recipe_names(kind: str) -> list[str]:
    """Return the names of the recipes that ship with Scanlore, sorted.

    Args:
        kind: `"pretrain"` or `"adapt"`.
    """
    return sorted(path.stem for path in (RECIPES / kind).glob("*.yaml"))


def load_recipe(name: str, kind: str) -> dict[str, Any]:
    """Read a shipped recipe by name, or any recipe by path.

    Args:
        name: Name of a shipped recipe, or the path of a YAML file.
        kind: `"pretrain"` or `"adapt"`.

    Raises:
        ConfigError: There is no such recipe, or it is not a YAML mapping.
    """
    path = RECIPES / kind / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
        if not path.is_file():
            names = recipe_names(kind)
            fix = f"recipes: {', '.join(names)}; or the path of a YAML file{nearest(name, names)}"
            raise ConfigError(f"no recipe {name!r}", fix=fix)
    return read_yaml(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or holds something else.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot be read as YAML: {reason}", where=path) from None
    if not isinstance(data, dict):
        raise ConfigError("holds no settings", where=path, fix="write one `key: value` a line")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `data` with dotted overrides such as `optim.lr=1e-3` applied; values are read as YAML.

    Raises:
        ConfigError: An override is not of the form `key.path=value`, or leads through a value that is no mapping.
    """
    result = _deep_copy(data)
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ConfigError(f"{override!r} is not KEY=VALUE", where="--set", fix="e.g. --set optim.lr=1e-3")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"{text!r} is not a YAML value", where=f"--set {key}") from None
        _set_at(result, path, value, override)
    return result


def _deep_copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _deep_copy(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _set_at(tree: dict[str, Any], path: Sequence[str], value: Any, override: str) -> None:
    for name in path[:-1]:
        if tree.get(name) is None:  # also a key without a value
            tree[name] = {}
        tree = tree[name]
        if not isinstance(tree, dict):
            raise ConfigError(f"{name!r} is a single value and has no keys below it", where=f"--set {override}")
    tree[path[-1]] = value


def validate(cls: type[S], data: Mapping[str, Any], where: str) -> S:
    """Build settings from plain data; all errors are reported together.

    Args:
        cls: The settings class.
        data: Nested plain values, as read from YAML.
        where: What to call the source in the message, e.g. the recipe's name.

    Raises:
        ConfigError: One line per wrong key or value, each with its full dotted path.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        lines = list(dict.fromkeys(_explain(cls, detail) for detail in error.errors()))
        raise ConfigError("; ".join(lines), where=where) from None


def _explain(cls: type[BaseModel], detail: ErrorDetails) -> str:
    path = [str(part) for part in detail["loc"]]
    dotted = ".".join(path)
    if detail["type"] == "extra_forbidden":
        known = _keys_at(cls, path[:-1])
        prefix = ".".join(path[:-1])
        deeper = [key for key in _all_keys(cls) if key.split(".")[-1] == path[-1]]
        hint = nearest(path[-1], known)
        if hint and prefix:
            hint = hint.replace("'", f"'{prefix}.", 1)
        elif deeper:
            hint = f"; did you mean {deeper[0]!r}?"
        return f"unknown setting {dotted!r}{hint or '; known here: ' + ', '.join(known)}"
    if detail["type"] == "missing":
        return f"setting {dotted!r} is missing"
    if detail["type"] in ("model_type", "dict_type"):
        return f"{dotted} is a group of settings and has no value of its own, got {_short(detail['input'])}"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if isinstance(detail["input"], Mapping):  # a rule about several settings names them itself
        return f"{dotted}: {message}" if dotted else message
    return f"{dotted}: {message}, got {_short(detail['input'])}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _all_keys(cls: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in cls.model_fields.items():
        inner = _model_in(field.annotation)
        keys += _all_keys(inner, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return keys


def _keys_at(cls: type[BaseModel], path: Sequence[str]) -> list[str]:
    for name in path:
        field = cls.model_fields.get(name)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        cls = inner
    return list(cls.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        return next((model for arg in get_args(annotation) if (model := _model_in(arg))), None)
    return None


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{dotted}.")
        else:
            flat[dotted] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Describe the keys whose values differ, one `key: old -> new` each."""
    before, after = flatten(old), flatten(new)
    keys = sorted(before.keys() | after.keys())
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys if before.get(key) != after.get(key)]
