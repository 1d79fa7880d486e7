import pytest

from scanlore.errors import ModelError
from scanlore.registry import BACKBONES
from scanlore.verbs.listing import list_models, show_model


def test_every_network_is_listed_with_the_same_columns():
    rows = list_models()
    assert [row["name"] for row in rows] == list(BACKBONES)
    assert len({tuple(row) for row in rows}) == 1
    assert next(row for row in rows if row["name"] == "resenc-l")["depth"] == 6


def test_a_network_is_shown_without_what_it_lacks():
    shown = show_model("resenc-l")
    assert shown["features"] == (32, 64, 128, 256, 320, 320)
    assert "num_heads" not in shown
    assert "features" not in show_model("vit-tiny")


def test_a_name_that_is_no_model():
    with pytest.raises(ModelError, match="did you mean 'resenc-l'"):
        show_model("resenc-xl")


def test_an_untrained_network_is_shown_as_its_reference():
    assert show_model("random:resenc-tiny") == show_model("resenc-tiny")
