from typing import Annotated, Literal

import pytest
from pydantic import Field, Tag, ValidationError

from scanlore.config import (
    Settings,
    apply_overrides,
    by_key,
    differences,
    flatten,
    load_recipe,
    read_yaml,
    recipe_names,
    validate,
)
from scanlore.errors import ConfigError


class Optim(Settings):
    lr: float = 1e-4
    weight_decay: float = Field(0.04, ge=0)
    steps: int = 10


class Outer(Settings):
    name: str
    optim: Optim = Optim()
    maybe: Optim | None = None
    window: tuple[float, float] | None = None


class Deep(Settings):
    depth: int = 1
    optim: Optim = Optim()


class Circle(Settings):
    kind: Literal["circle"] = "circle"
    radius: float = 1.0


class Box(Settings):
    kind: Literal["box"] = "box"
    width: float = 1.0
    inner: Deep = Deep()


Shape = Annotated[Annotated[Circle, Tag("circle")] | Annotated[Box, Tag("box")], by_key("kind", "circle")]


class Drawing(Settings):
    shape: Shape = Circle()
    other: Shape | None = None


def refused(data, cls=Outer):
    with pytest.raises(ConfigError) as error:
        validate(cls, data, where="recipe")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("key", ["optim", "maybe"])
def test_unknown_key_has_its_full_path_and_the_nearest_name(key):
    message = refused({"name": "a", key: {"weight_decy": 0.1}})
    assert message == f"recipe: unknown setting '{key}.weight_decy'; did you mean '{key}.weight_decay'?"


def test_unknown_key_at_the_top():
    assert "unknown setting 'optm'; did you mean 'optim'?" in refused({"name": "a", "optm": {}})


def test_unknown_key_without_a_neighbour_lists_what_is_known():
    assert "unknown setting 'optim.zzz'; known here: lr, weight_decay, steps" in refused(
        {"name": "a", "optim": {"zzz": 1}}
    )


def test_all_errors_come_together():
    message = refused({"nam": "a", "optim": {"lr": "fast", "weight_decay": -1, "stps": 3}})
    for part in ("'name' is missing", "'nam'", "optim.lr:", "got 'fast'", "optim.weight_decay:", "'optim.stps'"):
        assert part in message


def test_long_values_are_cut():
    assert len(refused({"name": "a", "optim": {"lr": "x" * 500}})) < 200


def test_a_value_where_keys_belong():
    assert "optim is a group of settings" in refused({"name": "a", "optim": 3})


def test_settings_cannot_change():
    with pytest.raises(ValidationError):
        Outer(name="a").name = "b"


def test_numbers_that_yaml_reads_as_text_become_numbers(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: a\noptim:\n  lr: 1e-3\n")
    data = read_yaml(path)
    assert data["optim"]["lr"] == "1e-3"
    assert validate(Outer, data, where="r").optim.lr == 0.001


def test_overrides():
    data = {"name": "a", "optim": {"lr": 1, "steps": 2}}
    result = apply_overrides(data, ["optim.lr=1e-3", "window=[-1, 2]", "maybe.steps=7", "name=b=c", "optim.steps=null"])
    assert result == {
        "name": "b=c",
        "optim": {"lr": "1e-3", "steps": None},
        "window": [-1, 2],
        "maybe": {"steps": 7},
    }
    assert data == {"name": "a", "optim": {"lr": 1, "steps": 2}}


def test_overrides_reach_below_an_empty_key(tmp_path):
    (tmp_path / "r.yaml").write_text("name: a\noptim:\n")
    result = apply_overrides(read_yaml(tmp_path / "r.yaml"), ["optim.lr=2"])
    assert validate(Outer, result, where="r").optim.lr == 2


@pytest.mark.parametrize("override", ["lr", "=3", " =3", "name.x=3", "optim=[1", "optim..lr=3", "optim.=3"])
def test_wrong_overrides_are_one_line(override):
    with pytest.raises(ConfigError) as error:
        apply_overrides({"name": "a", "optim": {}}, [override])
    assert "--set" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "", "just words", "a: b: c"])
def test_what_is_no_mapping_is_one_line(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"r\.yaml") as error:
        read_yaml(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.yaml", ""])
def test_unreadable_yaml(tmp_path, name):
    with pytest.raises(ConfigError):
        read_yaml(tmp_path / name)


def test_binary_file_is_no_yaml(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        read_yaml(tmp_path / "r.yaml")


@pytest.mark.parametrize("kind", ["pretrain", "adapt"])
def test_shipped_recipes_are_read_by_name(kind):
    names = recipe_names(kind)
    assert names == sorted(names) != []
    assert all(load_recipe(name, kind) for name in names)


def test_recipe_by_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: 1")
    assert load_recipe(str(tmp_path / "mine.yaml"), "pretrain") == {"a": 1}


def test_unknown_recipe_names_the_nearest():
    wanted = recipe_names("pretrain")[0]
    with pytest.raises(ConfigError, match=f"no recipe '{wanted}x'.*did you mean '{wanted}'"):
        load_recipe(f"{wanted}x", "pretrain")


def test_flatten():
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": [3]}}}) == {"a": 1, "b.c": 2, "b.d.e": [3]}


def test_differences():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}, "e": 5}
    assert differences(old, new) == ["b.c: 2 -> 4", "b.d: 3 -> None", "e: None -> 5"]
    assert differences(old, old) == []


def test_a_union_is_chosen_by_its_key():
    drawing = validate(Drawing, {"shape": {"kind": "box", "width": 2}, "other": {"radius": 3}}, "here")
    assert (drawing.shape, drawing.other) == (Box(width=2), Circle(radius=3))
    assert Drawing(shape=drawing.shape).shape == drawing.shape
    assert validate(Drawing, drawing.model_dump(), "here") == drawing


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"shape": {"kind": "box", "widht": 2}}, "unknown setting 'shape.widht'; did you mean 'shape.width'?"),
        ({"other": {"kind": "box", "zzz": 2}}, "unknown setting 'other.zzz'; known here: kind, width, inner"),
        ({"shape": {"radius": "a"}}, "shape.radius: should be a valid number"),
        ({"shape": {"kind": "box", "inner": {"optim": {"lrr": 2}}}}, "did you mean 'shape.inner.optim.lr'?"),
        ({"shape": {"kind": "boxx"}}, "shape.kind: should be one of circle, box; did you mean 'box'?, got 'boxx'"),
        ({"other": {"kind": 3}}, "other.kind: should be one of circle, box, got"),
        ({"shape": 3}, "shape is a group of settings"),
        ({"shape": {"width": 3}}, "unknown setting 'shape.width'; did you mean 'other.width'?"),
        ({"width": 3}, "unknown setting 'width'; did you mean 'shape.width'?"),
    ],
)
def test_errors_in_a_union_have_the_path_of_the_key(data, says):
    assert says in refused(data, Drawing)


def test_a_wrong_key_in_a_list_of_settings_is_named_with_the_right_ones():
    class Item(Settings):
        share: float = 1.0

    class Whole(Settings):
        items: tuple[Item, ...] = ()

    with pytest.raises(ConfigError, match=r"unknown setting 'items\.0\.shar'; did you mean 'items\.0\.share'"):
        validate(Whole, {"items": [{"shar": 1}]}, where="here")
