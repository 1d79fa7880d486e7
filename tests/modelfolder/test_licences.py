import pytest

from scanlore.modelfolder.licences import DINOV2, OF_A_FILE, OF_A_PAGE, THREE_DINO, may_export


@pytest.mark.parametrize("licence", [THREE_DINO, "cc-by-nc-nd-4.0", "cc-by-nd-4.0", "No Derivatives", "no-derivatives"])
def test_a_licence_without_derivatives_forbids_export(licence):
    assert licence in may_export({"licence": licence})


@pytest.mark.parametrize("licence", [DINOV2, OF_A_FILE, OF_A_PAGE, "CC0", "cc-by-nc-4.0", "Rand and Sand", None])
def test_others_do_not(licence):
    assert may_export({"licence": licence}) is None
    assert may_export({}) is None
