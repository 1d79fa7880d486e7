import os

import pytest

from factories import write_dicom_series, write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.scans.find import find_sources


def names(sources, root):
    return [source.name.removeprefix(f"{root.as_posix()}/") for source in sources]


def test_sources_and_skips_are_sorted(tmp_path):
    write_png(tmp_path / "b" / "x.PNG")
    write_nifti_file(tmp_path / "c.nii.gz")
    write_nifti_file(tmp_path / "a.nii")
    write_dicom_series(tmp_path / "b" / "ct", (3, 4, 4))
    write_png(tmp_path / ".hidden" / "y.png")
    for name in ("notes.txt", ".DS_Store", "README", "b/table.csv"):
        (tmp_path / name).write_text("words")
    sources, skipped = find_sources([tmp_path])
    assert names(sources, tmp_path) == ["a.nii", "b/ct", "b/x.PNG", "c.nii.gz"]
    assert [source.kind for source in sources] == ["nifti", "dicom", "image2d", "nifti"]
    assert skipped == [
        (tmp_path / "README", "not a scan: no known extension"),
        (tmp_path / "b" / "table.csv", "not a scan: .csv"),
        (tmp_path / "notes.txt", "not a scan: .txt"),
    ]


def test_order_and_repetition_of_the_paths_do_not_matter(tmp_path):
    paths = [write_nifti_file(tmp_path / "b.nii"), write_png(tmp_path / "a.png"), tmp_path]
    assert find_sources(paths) == find_sources([*reversed(paths), paths[0]])
    assert len(find_sources(paths)[0]) == 2


def test_series_of_one_folder_are_numbered(tmp_path):
    for series in range(3):
        for path in write_dicom_series(tmp_path / str(series), (2 + series, 4, 4), seed=series).iterdir():
            path.rename(tmp_path / f"{series}-{path.stem}")  # without extension
    write_dicom_series(tmp_path, (1, 4, 4), seed=9)
    sources, skipped = find_sources([tmp_path])
    folder = tmp_path.as_posix()
    assert [source.name for source in sources] == [folder, f"{folder}#2", f"{folder}#3", f"{folder}/im0000.dcm"]
    assert [len(source.files) for source in sources] == [2, 3, 4, 1]
    assert skipped == []


def test_dicom_files_named_by_uid_are_found(tmp_path):
    folder = write_dicom_series(tmp_path, (2, 4, 4))
    for path in folder.iterdir():
        path.rename(folder / f"MR.1.2.840.{path.stem[2:]}")
    assert len(find_sources([folder])[0][0].files) == 2


def test_missing_path_names_the_nearest(tmp_path):
    write_nifti_file(tmp_path / "brain.nii.gz")
    with pytest.raises(DataError, match=r"no such file or folder; did you mean 'brain\.nii\.gz'"):
        find_sources([tmp_path / "brian.nii.gz"])


def test_links(tmp_path):
    write_nifti_file(tmp_path / "real" / "a.nii")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.nii").symlink_to(tmp_path / "nothing")
    sources, skipped = find_sources([tmp_path])
    assert names(sources, tmp_path) == ["real/a.nii"]
    assert skipped == [(tmp_path / "gone.nii", "a link to nothing")]


def test_size_and_mtime_cover_all_files(tmp_path):
    (source,), _ = find_sources([write_dicom_series(tmp_path, (3, 4, 4))])
    os.utime(source.files[1], ns=(5, 2**62))
    assert source.size_and_mtime() == (sum(file.stat().st_size for file in source.files), 2**62)


def test_names_that_are_not_utf8_are_skipped_and_escaped(tmp_path):
    write_nifti_file(tmp_path / "good.nii")
    write_nifti_file(tmp_path / "plain.nii", seed=1).rename(tmp_path / "caf\udce9.nii")
    write_dicom_series(tmp_path / "ct", (3, 4, 4)).rename(tmp_path / "s\udce9rie")
    (tmp_path / "link.nii").symlink_to(tmp_path / "caf\udce9.nii")
    sources, skipped = find_sources([tmp_path])
    assert names(sources, tmp_path) == ["good.nii"]
    assert skipped == [
        (tmp_path / "caf\\xe9.nii", "file name is not UTF-8: rename it"),
        (tmp_path / "link.nii", "file name is not UTF-8: rename it"),
        (tmp_path / "s\\xe9rie", "folder name is not UTF-8: rename it"),
    ]


def test_a_link_to_itself_is_not_suggested(tmp_path):
    (tmp_path / "self.nii").symlink_to(tmp_path / "self.nii")
    with pytest.raises(DataError) as error:
        find_sources([tmp_path / "self.nii"])
    assert error.value.what == "a link to nothing, or to itself"
    assert find_sources([tmp_path]) == ([], [(tmp_path / "self.nii", "a link to nothing")])
