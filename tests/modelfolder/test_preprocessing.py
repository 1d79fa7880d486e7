import pytest
from pydantic import ValidationError

from scanlore.modelfolder.preprocessing import Preprocessing


def test_defaults_are_3dinos_and_survive_a_dump():
    preprocessing = Preprocessing(ndim=3, input_size=96)
    assert (preprocessing.scaling, preprocessing.crop) == ("percentile-0.05-99.95", "foreground")
    assert Preprocessing.model_validate(preprocessing.model_dump(mode="json")) == preprocessing


@pytest.mark.parametrize("values", [{"ndim": 4}, {"input_size": 0}, {"embedding": "max"}])
def test_what_cannot_be_is_refused(values):
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"ndim": 3, "input_size": 96} | values)


def test_colours_are_normalised_one_by_one():
    facts = {"ndim": 2, "input_size": 8, "in_channels": 3, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    assert Preprocessing(**facts).std == (0.2,) * 3
    for change, says in (
        ({"std": None}, "need 3 numbers each"),
        ({"mean": (0.5,)}, "need 3 numbers each"),
        ({"std": (0.2, 0.2, 0.0)}, "greater than 0"),
        ({"scaling": "zscore"}, "which zscore is not"),
    ):
        with pytest.raises(ValidationError, match=says):
            Preprocessing.model_validate(facts | change)
