import pytest

from scanlore.config import validate
from scanlore.errors import ConfigError
from scanlore.modelfolder.segmentation_preprocessing import SegmentationPreprocessing

FACTS = {"ndim": 3, "patch": (8, 8, 8), "labels": {0: "background", 2: "liver"}}


def test_it_survives_json():
    facts = SegmentationPreprocessing(**FACTS, spacing=(1.0, 1.0, 3.0))
    again = SegmentationPreprocessing.model_validate_json(facts.model_dump_json())
    assert again == facts
    assert (again.num_classes, list(again.labels)) == (2, [0, 2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch": (8, 8)}, "patch must be 3 edges"),
        ({"patch": (8, 8, 0)}, "patch must be 3 edges"),
        ({"spacing": (1.0, 1.0)}, "spacing must be 3 positive sizes"),
        ({"spacing": (1.0, 1.0, 0.0)}, "spacing must be 3 positive sizes"),
        ({"channels": ("t1", "t2")}, "2 names for 1 channels"),
        ({"labels": {0: "background"}}, "at least one value"),
        ({"labels": {1: "liver", 0: "background"}}, "background 0"),
        ({"labels": {0: "background", 40000: "liver"}}, "32767"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        validate(SegmentationPreprocessing, FACTS | change, where="model.json")
