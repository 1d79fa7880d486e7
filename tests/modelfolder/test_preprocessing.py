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
