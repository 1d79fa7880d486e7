import os

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile

from factories import affine_of, write_dicom_series, write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.scans.find import find_sources
from scanlore.scans.read import read_scan


def names(sources, root):
    return [source.name.removeprefix(f"{root.as_posix()}/") for source in sources]


def test_sources_and_skips_are_sorted(tmp_path):
    write_png(tmp_path / "b" / "x.PNG")
    write_nifti_file(tmp_path / "c.nii.gz")
    write_nifti_file(tmp_path / "a.nii")
    write_dicom_series(tmp_path / "b" / "ct", (3, 4, 4))
    write_png(tmp_path / ".hidden" / "y.png")
    for name in ("notes.txt", ".DS_Store", "README", "b/table.csv", "DOE.JANE"):
        (tmp_path / name).write_text("words")
    sources, skipped = find_sources([tmp_path])
    assert names(sources, tmp_path) == ["a.nii", "b/ct", "b/x.PNG", "c.nii.gz"]
    assert [source.kind for source in sources] == ["nifti", "dicom", "image2d", "nifti"]
    assert skipped == [
        (tmp_path / "DOE.JANE", "not a scan: unknown extension"),
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


VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def found_in(folder):
    sources, skipped = find_sources([folder])
    listed = [(source.kind, [file.name for file in source.files], source.number) for source in sources]
    return listed, [(path.name, reason) for path, reason in skipped]


def test_files_that_belong_together(tmp_path):
    nib.save(nib.Nifti1Pair(VOXELS, affine_of()), tmp_path / "a.hdr")
    nib.save(nib.AnalyzeImage(VOXELS, np.eye(4)), tmp_path / "B.hdr")
    (tmp_path / "B.img").rename(tmp_path / "b.IMG")
    for name in ("c.mhd", "d.nhdr"):
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / name), useCompression=name[0] == "c")
    (tmp_path / "lone.img").write_bytes(bytes(99))
    (tmp_path / "lone.hdr").write_bytes(bytes(348))
    (tmp_path / "no.raw").write_bytes(bytes(99))
    listed, skipped = found_in(tmp_path)
    assert listed == [
        ("analyze", ["B.hdr", "b.IMG"], 1),
        ("nifti", ["a.hdr", "a.img"], 1),
        ("itk", ["c.mhd", "c.zraw"], 1),
        ("itk", ["d.nhdr", "d.raw"], 1),
    ]
    assert skipped == [
        ("lone.hdr", "not a scan: no NIfTI or Analyze header"),
        ("lone.img", "not a scan: no NIfTI or Analyze header"),
        ("no.raw", "not a scan: .raw"),
    ]


def test_a_header_without_its_voxels_is_listed(tmp_path):
    nib.save(nib.Nifti1Pair(VOXELS, affine_of()), tmp_path / "a.hdr")
    (tmp_path / "a.img").rename(tmp_path / "b.img")
    assert found_in(tmp_path) == (
        [],
        [
            ("a.hdr", "missing data file: the .img that belongs to the .hdr"),
            ("b.img", "not a scan: .img without its .hdr"),
        ],
    )


def test_headers_that_name_each_other_are_both_accounted_for(tmp_path):
    text = b"ObjectType = Image\nNDims = 3\nElementDataFile = "
    (tmp_path / "a.mhd").write_bytes(text + b"b.mhd\n")
    (tmp_path / "b.mhd").write_bytes(text + b"a.mhd\n")
    assert found_in(tmp_path)[0] == [("itk", ["a.mhd"], 1), ("itk", ["b.mhd"], 1)]


def test_pages_are_numbered(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOXELS, photometric="minisblack")
    sources, _ = find_sources([tmp_path])
    assert names(sources, tmp_path) == ["a.tif", "a.tif#2", "a.tif#3"]


def test_dicom_is_known_by_its_content(tmp_path):
    folder = write_dicom_series(tmp_path, (3, 4, 4))
    for path, ending in zip(sorted(folder.iterdir()), (".img", ".MR_JANE", ""), strict=True):
        path.rename(path.with_suffix(ending))
    assert [len(source.files) for source in find_sources([folder])[0]] == [3]


def test_pipes_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "a.nii")
    write_nifti_file(tmp_path / "b.nii")
    os.mkfifo(tmp_path / "b.json")
    for paths in ([tmp_path], [tmp_path / "a.nii", tmp_path / "b.nii"]):
        sources, skipped = find_sources(paths)
        assert names(sources, tmp_path) == ["b.nii"]
        assert skipped[0] == (tmp_path / "a.nii", "not a file: a pipe, socket or device")
    assert read_scan(sources[0]).shape == (12, 14, 10)


def test_the_root_is_the_outermost_path(tmp_path):
    inner = write_nifti_file(tmp_path / "a" / "b.nii")
    for paths in ([inner], [inner.parent, inner], [inner, tmp_path, inner.parent]):
        (source,), _ = find_sources(paths)
        assert source.root == min(paths, key=lambda path: len(path.parts))


def test_real_folders_come_before_links_to_them(tmp_path):
    write_nifti_file(tmp_path / "real" / "a.nii")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert names(find_sources([tmp_path])[0], tmp_path) == ["real/a.nii"]


def test_deep_folders_do_not_matter(tmp_path):
    folder = tmp_path
    for _ in range(600):
        folder = folder / "d"
    folder.mkdir(parents=True)
    write_nifti_file(folder / "a.nii")
    assert len(find_sources([tmp_path])[0]) == 1


def test_a_dicomdir_stands_for_its_files(tmp_path):
    from pydicom.fileset import FileSet

    listed = FileSet()
    for path in sorted(write_dicom_series(tmp_path / "in", (3, 4, 4)).iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesNumber, dataset.StudyID = "1.2.3", 1, "1"
        dataset.StudyDate, dataset.StudyTime = "20200101", "1200"
        listed.add(dataset)
    listed.write(tmp_path / "disc")
    (source,), skipped = find_sources([tmp_path / "disc" / "DICOMDIR"])
    assert (len(source.files), skipped, source.root) == (3, [], tmp_path / "disc")
    source.files[0].unlink()
    (source,), ((_, reason),) = find_sources([tmp_path / "disc" / "DICOMDIR"])
    assert (len(source.files), reason) == (2, "missing: listed in the DICOMDIR")
    _, ((path, reason),) = find_sources([tmp_path / "disc"])
    assert path.name == "DICOMDIR"
    assert reason.startswith("DICOMDIR")
