"""The stages of a pretraining recipe: one, or several in which each starts from the one before; torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scanlore.config import apply_overrides, load_recipe, validate
from scanlore.errors import ConfigError, nearest
from scanlore.training.settings import PretrainSettings

WORDS = ("description", "source")
OWN = ("recipe", "start_step")


@dataclass(frozen=True)
class Stage:
    """One run of a recipe.

    Attributes:
        name: As under `stages:`; empty where the recipe has none.
        settings: Of this stage.
        start_step: Step of the stage before that this one starts from; `None` for its end.
    """

    name: str
    settings: PretrainSettings
    start_step: int | None = None


def read_stages(recipe: str, overrides: Sequence[str] = (), weights: str | None = None) -> list[Stage]:
    """Read a recipe.

    A recipe with `stages:` maps names to stages, in order. A stage is another recipe by name (`recipe:`), settings that
    differ from it, or both, and may say at which step of the stage before it starts (`start_step:`). Settings beside
    `stages:` hold for every stage.

    Args:
        recipe: Name of a shipped recipe, or the path of a YAML file.
        overrides: Dotted settings; `stages.NAME.` before one makes it that of a single stage.
        weights: The model that the first stage continues, in place of its `start.weights`.

    Raises:
        ConfigError: There is no such recipe, or a setting is wrong.
    """
    stages = _read(recipe, load_recipe(recipe, "pretrain"), overrides)
    if weights is not None:
        settings = stages[0].settings
        start = settings.start.model_copy(update={"weights": weights})
        stages[0] = replace(stages[0], settings=settings.model_copy(update={"start": start}))
    return stages


def _read(recipe: str, data: Mapping[str, Any], overrides: Sequence[str]) -> list[Stage]:
    if "stages" not in data:
        return [Stage("", validate(PretrainSettings, apply_overrides(data, overrides), where=recipe))]
    stages = _mapping(data["stages"], recipe)
    common = {key: value for key, value in data.items() if key not in ("stages", *WORDS)}
    own, shared = _sorted_overrides(overrides, list(stages))
    stages = {name: apply_overrides(stage, own[name]) for name, stage in stages.items()}
    starts = [_start_step(stage, f"{recipe}, stage {name}") for name, stage in stages.items()]
    exports = [*starts[1:], None]
    read = []
    for (name, stage), start, export in zip(stages.items(), starts, exports, strict=True):
        where = f"{recipe}, stage {name}"
        # What is for one stage alone counts more than what is for all, wherever it is written
        merged = apply_overrides(_merge(_merge(_base(stage, where), common), stage), [*shared, *own[name]])
        plain = {key: value for key, value in merged.items() if key not in OWN}
        read.append(Stage(name, _exporting(validate(PretrainSettings, plain, where=where), export, where), start))
    if starts[0] is not None:
        raise ConfigError(
            "start_step is of the stage before, and there is none", where=f"{recipe}, stage {read[0].name}"
        )
    return read


def _mapping(stages: Any, recipe: str) -> dict[str, dict[str, Any]]:
    if not isinstance(stages, Mapping) or not stages or not all(isinstance(one, Mapping) for one in stages.values()):
        raise ConfigError("stages needs one `name: {recipe: NAME}` for every stage", where=recipe)
    for name in stages:
        if not str(name).replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"stage {name!r} needs a name of letters, digits, - and _", where=recipe)
    return {str(name): dict(stage) for name, stage in stages.items()}


def _base(stage: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "recipe" not in stage:
        return {}
    base = load_recipe(str(stage["recipe"]), "pretrain")
    if "stages" in base:
        raise ConfigError(f"recipe {stage['recipe']!r} has stages of its own", where=where)
    return base


def _start_step(stage: Mapping[str, Any], where: str) -> int | None:
    step = stage.get("start_step")
    if step is not None and (not isinstance(step, int) or step < 1):
        raise ConfigError(f"start_step must be a step of the stage before, got {step!r}", where=where)
    return step


def _exporting(settings: PretrainSettings, step: int | None, where: str) -> PretrainSettings:
    """Return settings that also keep the model of the step from which the next stage starts."""
    training = settings.training
    if step is None or step in training.export_at:
        return settings
    if step > training.steps:
        what = f"start_step {step} of the next stage lies behind the last step {training.steps}"
        raise ConfigError(what, where=where)
    steps = tuple(sorted({*training.export_at, step}))
    return settings.model_copy(update={"training": training.model_copy(update={"export_at": steps})})


def _sorted_overrides(overrides: Sequence[str], names: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the overrides of each stage, and those of all."""
    own: dict[str, list[str]] = {name: [] for name in names}
    shared = []
    for override in overrides:
        if not override.startswith("stages."):
            shared.append(override)
            continue
        name, _, rest = override.removeprefix("stages.").partition(".")
        if "=" in name:
            raise ConfigError("a stage has no value of its own", where=f"--set {override}", fix="stages.NAME.KEY=VALUE")
        if name not in own:
            fix = f"stages: {', '.join(names)}{nearest(name, names)}"
            raise ConfigError(f"there is no stage {name!r}", where=f"--set {override}", fix=fix)
        own[name].append(rest)
    return own, shared


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` put in place, group by group."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
