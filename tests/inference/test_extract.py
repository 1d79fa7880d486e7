from dataclasses import replace

import numpy as np
import pytest

from factories import write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.inference.extract import extract
from scanlore.scans.bad_scans import BadScans
from scanlore.scans.read import read_scan


@pytest.fixture
def paths(tmp_path):
    return [write_nifti_file(tmp_path / f"{index}.nii.gz", (5, 6, 4), seed=index) for index in range(5)]


def mean_of(path):
    return read_scan(path).voxels[:, :4, :4, :4].astype(np.float64).mean()


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_rows_are_the_scans_in_order(model, paths, batch_size):
    table = extract(model, paths, num_layers=2, batch_size=batch_size)
    means = np.array([mean_of(path) for path in paths])
    assert table.names == tuple(path.as_posix() for path in paths)
    for depth, layer in enumerate(table.cls):
        np.testing.assert_allclose(layer[:, 0], means + 1 + depth, rtol=1e-5)
    np.testing.assert_allclose(table.patch_mean[:, 0], means, rtol=1e-5)
    assert table.problems == ()


def test_channels_are_averaged(model, tmp_path):
    path = write_nifti_file(tmp_path / "a.nii.gz", (4, 4, 4), channels=3)
    table = extract(model, [path], batch_size=2)
    assert table.num_views == (3,)
    assert table.patch_mean[0, 0] == pytest.approx(mean_of(path), rel=1e-5)


def test_more_layers_than_there_are(model, paths):
    assert [layer.shape for layer in extract(model, paths[:1], num_layers=9).cls] == [(1, 2)] * 3


def test_the_embedding_follows_preprocessing(model, paths):
    table = extract(model, paths)
    assert (table.embedding == table.cls[-1]).all()
    model.preprocessing.embedding = "cls+mean"
    assert (extract(model, paths).embedding == np.concatenate([table.cls[-1], table.patch_mean], 1)).all()


def test_layers_may_differ_in_width(model, paths, monkeypatch):
    forward = model.forward_features

    def pyramid(x, layers=1):
        features = forward(x, layers)
        return replace(features, embeddings=[layer[:, : depth + 1] for depth, layer in enumerate(features.embeddings)])

    monkeypatch.setattr(model, "forward_features", pyramid)
    table = extract(model, paths, num_layers=2, batch_size=2, visit=lambda scan: None)
    assert [layer.shape for layer in table.cls] == [(5, 1), (5, 2)]
    assert [layer.shape for layer in table.take([2, 0]).cls] == [(2, 1), (2, 2)]
    np.testing.assert_allclose(table.cls[0][:, 0], [mean_of(path) + 1 for path in paths], rtol=1e-5)


def test_one_broken_scan_is_skipped_and_listed(model, paths):
    paths[2].write_bytes(b"no scan")
    table = extract(model, paths)
    assert table.names == tuple(path.as_posix() for path in (*paths[:2], *paths[3:]))
    assert [name for name, _ in table.problems] == [paths[2].as_posix()]
    assert table.take([1, 0]).names == (table.names[1], table.names[0])


def test_too_many_broken_scans(model, paths):
    for path in paths[1:4]:
        path.write_bytes(b"no scan")
    with pytest.raises(DataError, match=r"3 of 5 scans.*1\.nii\.gz.*3\.nii\.gz.*--set features\.max_bad=0\.6"):
        extract(model, paths)
    assert len(extract(model, paths, max_bad=0.6).problems) == 3


def test_the_only_scan_is_broken(model, tmp_path):
    with pytest.raises(DataError, match=r"1 of 1 scans cannot be used.*a\.png: too small"):
        extract(model, [write_png(tmp_path / "a.png", (2, 9))])


def test_no_scans(model):
    with pytest.raises(DataError, match="no scans"):
        extract(model, [])


def test_progress_counts_broken_scans_too(model, paths):
    paths[0].write_bytes(b"no scan")
    seen = []
    extract(model, paths, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]


def test_visit_sees_maps(model, paths):
    seen = []
    extract(model, paths, visit=seen.append)
    assert [scan.index for scan in seen] == [0, 1, 2, 3, 4]
    assert {scan.maps.shape for scan in seen} == {(1, 1, 2, 2, 2)}


def test_a_share_of_scans_is_counted_without_rounding_errors():
    bad = BadScans(100, 0.29)
    for number in range(29):
        bad.add(f"{number}", DataError("broken"))
    bad.check()
    bad.add("29", DataError("broken"))
    with pytest.raises(DataError, match=r"30 of 100 .*and 27 more .*max_bad=0\.3"):
        bad.check()
