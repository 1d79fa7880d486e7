import nibabel as nib
import numpy as np
from PIL import Image

from factories import write_nifti_file, write_png
from scanlore.inference.lattice import lattice_of
from scanlore.reports import explain_files
from scanlore.reports.explain_files import write_seen
from scanlore.reports.explain_panel import Seen
from scanlore.reports.pca import Basis
from scanlore.scans.read import read_scan
from scanlore.views.view import box_map

BASIS = Basis(np.zeros(4), np.eye(4), np.full(4, 0.25), 0.0, True, np.zeros(3), np.ones(3))


def seen(scan, heads=2):
    shape, rng = (8,) * scan.ndim, np.random.default_rng(0)
    lattice = lattice_of([box_map([0] * scan.ndim, scan.shape, shape)], shape, (4,) * scan.ndim)
    scores = rng.standard_normal((4, *lattice.grid)).astype(np.float32)
    attention = rng.random((heads, *lattice.grid)).astype(np.float32) if heads else None
    return Seen("m", scores, BASIS, attention, lattice)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_volume_gets_volumes(tmp_path):
    scan = read_scan(write_nifti_file(tmp_path / "a.nii", (8, 12, 10), axcodes="LSP"))
    (tmp_path / "out").mkdir()
    write_seen(tmp_path / "out", scan, seen(scan))
    assert names(tmp_path / "out") == ["m_attention.nii.gz", "m_maps.npz", "m_pca.nii.gz"]
    assert nib.load(tmp_path / "out" / "m_attention.nii.gz").shape == (8, 12, 10, 2)
    with np.load(tmp_path / "out" / "m_maps.npz") as file:
        assert sorted(file) == ["attention", "centres_0", "centres_1", "centres_2", "scores"]


def test_an_image_gets_pictures(tmp_path):
    scan = read_scan(write_png(tmp_path / "a.png", (16, 20)))
    (tmp_path / "out").mkdir()
    write_seen(tmp_path / "out", scan, seen(scan))
    assert names(tmp_path / "out") == ["m_attention_01.png", "m_attention_02.png", "m_maps.npz", "m_pca.png"]
    with Image.open(tmp_path / "out" / "m_pca.png") as picture:
        assert (picture.size, picture.mode) == ((20, 16), "RGB")
    with Image.open(tmp_path / "out" / "m_attention_02.png") as picture:
        assert picture.getextrema()[1] == 255


def test_a_network_without_attention_gets_colours_alone(tmp_path):
    scan = read_scan(write_nifti_file(tmp_path / "a.nii", (8, 12, 10)))
    (tmp_path / "out").mkdir()
    write_seen(tmp_path / "out", scan, seen(scan, heads=0))
    assert names(tmp_path / "out") == ["m_maps.npz", "m_pca.nii.gz"]


def test_slabs_make_no_difference(tmp_path, monkeypatch):
    scan = read_scan(write_nifti_file(tmp_path / "a.nii", (8, 12, 10)))
    whole = explain_files._colours(seen(scan), scan, 0)
    monkeypatch.setattr(explain_files, "SLAB_VOXELS", 250)
    np.testing.assert_array_equal(explain_files._colours(seen(scan), scan, 0), whole)
