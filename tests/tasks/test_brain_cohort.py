import csv
import sys

import nibabel as nib
import numpy as np
import pytest

from scanlore.errors import ConfigError, DataError, MissingDependencyError
from scanlore.tasks.brain_cohort import GROUPS, RADIUS_MM, VENTRICLES_MM, expansion, make_cohort, make_scan

COARSE_MM = 8.0


def distance_to_ventricles(points):
    return np.min([np.linalg.norm(points - np.array(middle)[:, None], axis=0) for middle in VENTRICLES_MM], axis=0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), num_scans=12, size_mm=COARSE_MM, num_workers=1).parent


def rows_of(cohort):
    with (cohort / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_table_names_every_scan(cohort):
    assert {row["image"] for row in rows_of(cohort)} == {
        path.relative_to(cohort).as_posix() for path in cohort.glob("scans/*/*.nii.gz")
    }


def test_split_is_stratified_and_by_patient(cohort):
    rows = rows_of(cohort)
    counts = {(row["label"], row["split"]): 0 for row in rows}
    for row in rows:
        counts[row["label"], row["split"]] += 1
    assert counts == {
        ("control", "train"): 4,
        ("control", "test"): 2,
        ("enlarged", "train"): 4,
        ("enlarged", "test"): 2,
    }
    assert len({row["patient"] for row in rows}) == 12


def test_files_are_valid_scans(cohort):
    for row in rows_of(cohort):
        image = nib.load(cohort / row["image"])
        assert image.get_data_dtype() == np.int16
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_slice_thickness_varies(cohort):
    ratios = [max(zooms) / min(zooms) for zooms in (nib.load(p).header.get_zooms() for p in cohort.glob("scans/*/*"))]
    assert min(ratios) == pytest.approx(1, abs=1e-3)
    assert max(ratios) == pytest.approx(2, abs=1e-3)


def test_bytes_do_not_depend_on_workers(cohort, tmp_path):
    make_cohort(tmp_path, num_scans=6, size_mm=COARSE_MM, num_workers=2)
    paths = sorted(tmp_path.glob("scans/*/*.nii.gz"))
    assert len(paths) == 6
    assert all(path.read_bytes() == (cohort / path.relative_to(tmp_path)).read_bytes() for path in paths)


def test_seed_decides(cohort, tmp_path):
    first = make_cohort(tmp_path, num_scans=6, seed=1, size_mm=COARSE_MM, num_workers=1).parent
    image = rows_of(first)[0]["image"]
    assert (first / image).read_bytes() != (cohort / image).read_bytes()


def test_groups_differ_only_around_the_ventricles():
    (control, affine), (enlarged, _) = (make_scan(group, np.random.default_rng(3), 4.0) for group in GROUPS)
    changed = affine[:3, :3] @ np.argwhere(control != enlarged).T + affine[:3, 3:]
    assert changed.shape[1] > 100
    # The person's own shape moves the ventricles by a few millimetres.
    assert distance_to_ventricles(changed).max() < RADIUS_MM + 15


def test_expansion_pulls_towards_the_middle_and_ends_at_its_radius():
    start = np.array(VENTRICLES_MM[3], np.float32)[:, None]
    steps = np.array([[0, 0, 0], [4, 0, 0], [RADIUS_MM + 1, 0, 0]], np.float32).T
    moved = expansion(start + steps, 0.4)
    assert moved[0, 1] == pytest.approx(0.4 * 4 * (1 - 16 / RADIUS_MM**2) ** 2, rel=1e-4)
    np.testing.assert_array_equal(moved[:, [0, 2]], 0)


def test_expansion_does_not_fold():
    grid = np.stack(np.meshgrid(*[np.arange(-60, 61, 2, dtype=np.float32)] * 3, indexing="ij"))
    read = grid - expansion(grid, 0.6)
    jacobian = np.stack([np.stack(np.gradient(axis, 2.0)) for axis in read])
    assert np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))).min() > 0


@pytest.mark.parametrize("wrong", [{"num_scans": 5}, {"size_mm": 0.2}])
def test_refuses_before_writing(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_cohort(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_refuses_a_folder_with_other_scans(tmp_path):
    other = tmp_path / "scans" / "control" / "mine.nii.gz"
    other.parent.mkdir(parents=True)
    other.touch()
    with pytest.raises(DataError, match=r"mine\.nii\.gz"):
        make_cohort(tmp_path)


def test_missing_nilearn_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'scanlore\[demo\]'"):
        make_cohort(tmp_path / "new")
    assert not (tmp_path / "new").exists()
