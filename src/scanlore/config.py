"""Settings: their base class, recipes, dotted overrides, and errors that name the right key.

Nothing here imports torch, so a mistyped key is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError
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


def by_key(key: str, default: str) -> Discriminator:
    """Return the discriminator of a union of settings whose members are tagged with the values of one key.

    Args:
        key: That names the member, such as `name` or `policy`.
        default: Its value where it is not given.
    """

    def tag(value: Any) -> Any:
        return value.get(key, default) if isinstance(value, Mapping) else getattr(value, key, default)

    return Discriminator(tag)


def _explain(cls: type[BaseModel], detail: ErrorDetails) -> str:
    path, holder = _locate(cls, detail["loc"])
    dotted = ".".join(path)
    if detail["type"] == "extra_forbidden":
        return f"unknown setting {dotted!r}{_hint(cls, path, list(holder.model_fields) if holder else [])}"
    if detail["type"] == "missing":
        return f"setting {dotted!r} is missing"
    if detail["type"] in ("model_type", "dict_type"):
        return f"{dotted} is a group of settings and has no value of its own, got {_short(detail['input'])}"
    if detail["type"] == "union_tag_invalid":
        return _explain_tag(holder, path, detail["ctx"])
    message = detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if isinstance(detail["input"], Mapping):  # a rule about several settings names them itself
        return f"{dotted}: {message}" if dotted else message
    return f"{dotted}: {message}, got {_short(detail['input'])}"


def _hint(cls: type[BaseModel], path: Sequence[str], known: list[str]) -> str:
    """Return the right name for a key that is not known, or all known beside it."""
    name, prefix = path[-1], ".".join(path[:-1])
    elsewhere = [key for key in _all_keys(cls) if key.split(".")[-1] == name and key != ".".join(path)]
    hint = nearest(name, known)
    if hint and prefix:
        return hint.replace("'", f"'{prefix}.", 1)
    if hint:
        return hint
    return f"; did you mean {elsewhere[0]!r}?" if elsewhere else f"; known here: {', '.join(known)}"


def _explain_tag(holder: type[BaseModel] | None, path: Sequence[str], context: Mapping[str, Any]) -> str:
    """Describe a union none of whose members has the tag that was given."""
    members = _models_in(holder.model_fields[path[-1]].annotation) if holder else {}
    key = [
        name
        for label, model in members.items()
        for name, field in model.model_fields.items()
        if label in get_args(field.annotation)
    ][:1]
    hint = nearest(str(context["tag"]), list(members))
    return f"{'.'.join([*path, *key])}: should be one of {', '.join(members)}{hint}, got {context['tag']!r}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _all_keys(cls: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in cls.model_fields.items():
        inner = [key for model in _models_in(field.annotation).values() for key in _all_keys(model, f"{prefix}{name}.")]
        keys += inner or [f"{prefix}{name}"]
    return keys


def _locate(cls: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[str], type[BaseModel] | None]:
    """Return the keys that lead to a place, without the labels of unions, and the class that knows its last key."""
    path: list[str] = []
    inside: dict[str, type[BaseModel]] = {"": cls}
    holder: type[BaseModel] | None = None
    for part in loc:
        if isinstance(part, int):  # an item of a list, of the kind that all its items are
            path.append(str(part))
            continue
        if len(inside) > 1 and part in inside:
            inside = {"": inside[str(part)]}
            continue
        holder = next(iter(inside.values())) if len(inside) == 1 else None
        if holder is None and path:
            continue  # which of the kinds of a single value was tried
        path.append(str(part))
        field = holder.model_fields.get(str(part)) if holder else None
        inside = _models_in(field.annotation) if field else {}
    return path, holder


def _models_in(annotation: Any, label: str | None = None) -> dict[str, type[BaseModel]]:
    """Return the settings classes a field may hold, by the label that pydantic gives each of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {label or annotation.__name__: annotation}
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        return _models_in(inner, next((note.tag for note in notes if isinstance(note, Tag)), None))
    if get_origin(annotation) in (tuple, list):
        return _models_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {key: model for arg in get_args(annotation) for key, model in _models_in(arg).items()}
    return {}


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
