import pytest

from factories import write_nifti_file, write_png
from scanlore.errors import DataError, ModelError
from scanlore.inference import open_model as module
from scanlore.inference.open_model import open_model
from scanlore.modelfolder.reference import load_model


@pytest.fixture
def paths(tmp_path):
    """A file that is no scan, an image and a volume."""
    (tmp_path / "0.png").write_bytes(b"broken")
    return [tmp_path / "0.png", write_png(tmp_path / "1.png"), write_nifti_file(tmp_path / "2.nii.gz", (6, 7, 8))]


@pytest.fixture
def stored(monkeypatch):
    """Any reference is a model of volumes, whatever the data."""
    monkeypatch.setattr(module, "load_model", lambda reference, device, ndim: load_model("pixels:4", ndim=3))


def test_the_first_readable_scan_says_the_dimension(paths):
    assert open_model("pixels:4", paths, "cpu")[0].preprocessing.ndim == 2
    assert open_model("pixels:4", paths[::2], "cpu")[0].preprocessing.ndim == 3


@pytest.mark.usefixtures("stored")
def test_a_stray_image_does_not_refuse_a_model_of_volumes(paths):
    assert open_model("M", paths, "cpu")[0].preprocessing.ndim == 3


@pytest.mark.usefixtures("stored")
def test_a_model_that_fits_no_scan_is_refused_with_their_names(paths):
    with pytest.raises(DataError, match=r"2 of 2 scans cannot be used: .*0\.png.*1\.png: the model takes volumes"):
        open_model("M", paths[:2], "cpu")


def test_a_wrong_reference_is_no_matter_of_scans(paths):
    with pytest.raises(ModelError, match="no such model"):
        open_model("nowhere", paths, "cpu")
