import zipfile

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile

from damaged import BOMB_BYTES, zeros_packed, zip_of
from factories import affine_of, smooth_volume, write_dicom_series, write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.scans.archive import list_members, member_size, open_member, unpacked, unpacked_headers
from scanlore.scans.find import find_sources
from scanlore.scans.read import read_header, read_scan

VOXELS = (smooth_volume((4, 5, 6)) * 1000).astype(np.int16)


def pack(archive, *paths, root):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in paths:
            file.write(path, path.relative_to(root))
    return archive


@pytest.fixture
def scans(tmp_path):
    """A folder with a scan of every format."""
    root = tmp_path / "scans"
    write_nifti_file(root / "a" / "brain_T1w.nii.gz", channels=2)
    (root / "a" / "brain_T1w.json").write_text('{"Manufacturer": "Siemens"}')
    write_png(root / "a" / "x.png")
    tifffile.imwrite(root / "pages.tif", VOXELS, photometric="minisblack")
    nib.save(nib.MGHImage(VOXELS, affine_of("LIA")), root / "s.mgz")
    nib.save(nib.Nifti1Pair(VOXELS, affine_of("LPS")), root / "p.hdr")
    for name in ("i.nrrd", "i.mhd", "j.nhdr"):
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(root / name))
    write_dicom_series(root / "ct", (3, 6, 5), modality="CT")
    write_dicom_series(root / "ct2", (1, 6, 5))
    return root


def test_everything_is_read_in_place_as_from_a_folder(scans, tmp_path):
    files = sorted(path for path in scans.rglob("*") if path.is_file())
    archive = pack(tmp_path / "all.zip", *files, root=scans)
    before = sorted(tmp_path.rglob("*"))
    plain, plain_skipped = find_sources([scans])
    packed, skipped = find_sources([archive])
    assert len(packed) == 13
    assert [source.name.replace("all.zip", "scans") for source in packed] == [source.name for source in plain]
    assert [path.relative_to(archive) for path, _ in skipped] == [path.relative_to(scans) for path, _ in plain_skipped]
    assert {(source.archive, source.root) for source in packed} == {(archive, archive)}
    for one, other in zip(plain, packed, strict=True):
        expected, scan = read_scan(one, b"salt"), read_scan(other, b"salt")
        np.testing.assert_array_equal(scan.voxels, expected.voxels)
        np.testing.assert_array_equal(scan.original.affine, expected.original.affine)
        assert (scan.metadata, scan.problems) == (expected.metadata, expected.problems)
        assert read_header(other, b"salt") == read_header(one, b"salt")
        assert one.size_and_mtime()[0] == other.size_and_mtime()[0]
        assert other.size_and_mtime()[1] == archive.stat().st_mtime_ns
    assert sorted(tmp_path.rglob("*")) == before


def test_messages_name_the_member_and_not_the_temporary_file(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:900])
    (source,), _ = find_sources([pack(tmp_path / "z.zip", path, root=tmp_path)])
    for read in (read_scan, read_header):
        with pytest.raises(DataError) as caught:
            read(source)
        assert caught.value.where == f"{tmp_path.as_posix()}/z.zip/a.nii"
        assert caught.value.what.startswith("truncated: ")


@pytest.mark.parametrize("name", ["../x.nii", "/etc/x.nii", "a/../../x.nii", "..\\x.nii"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    archive = tmp_path / "inner" / "z.zip"
    archive.parent.mkdir()
    archive.write_bytes(zip_of([(name, b"words", 5)], method=0))
    members, ((path, reason),) = list_members(archive)
    assert members == []
    assert path.is_relative_to(archive)
    assert ".." not in path.parts
    assert reason.startswith("unsafe name")


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (zip_of([("a.nii", b"words", 5)], method=0, flags=1), "encrypted"),
        (zip_of([("b.zip", b"words", 5)], method=0), "an archive within an archive"),
        (zip_of([("a.nii", b"words", 5)], method=14), "packed in another way"),
        (zip_of([("a.nii", zeros_packed(BOMB_BYTES, -15), BOMB_BYTES)]), "too large"),
        (b"words", "damaged archive"),
        (b"", "damaged archive"),
    ],
)
def test_what_cannot_be_unpacked_is_listed(tmp_path, archive, words):
    (tmp_path / "z.zip").write_bytes(archive)
    sources, ((path, reason),) = find_sources([tmp_path])
    assert sources == []
    assert path.is_relative_to(tmp_path / "z.zip")
    assert reason.startswith(words)


def test_a_series_that_is_a_bomb_together_is_not_unpacked(tmp_path):
    half = (200 << 20, zeros_packed(200 << 20, -15))
    (tmp_path / "z.zip").write_bytes(zip_of([(f"{number}.dcm", half[1], half[0]) for number in range(6)]))
    members, _ = list_members(tmp_path / "z.zip")
    assert len(members) == 6
    with pytest.raises(DataError, match="too large"), unpacked(tmp_path / "z.zip", members, [".dcm"] * 6):
        pass


def test_hidden_members_are_ignored_and_names_count_once(tmp_path):
    names = ("__MACOSX/a.nii", ".x/a.nii", "b/._a.nii", "a.nii", "a.nii")
    (tmp_path / "z.zip").write_bytes(zip_of([(name, b"words", 5) for name in names], method=0))
    members, skipped = list_members(tmp_path / "z.zip")
    assert members == [tmp_path / "z.zip" / "a.nii"]
    assert skipped == [(tmp_path / "z.zip" / "a.nii", "another member has the same name")]


def test_of_dicom_headers_no_pixel_is_unpacked(tmp_path):
    (path,) = write_dicom_series(tmp_path / "ct", (1, 300, 200)).iterdir()
    archive = pack(tmp_path / "z.zip", path, root=tmp_path)
    members, _ = list_members(archive)
    with unpacked_headers(archive, members) as (files, damaged):
        ((file, member),) = files.items()
        content = file.read_bytes()
        assert (member, damaged) == (members[0], [])
    header = path.read_bytes().index(b"\xe0\x7f\x10\x00OW") + 12
    assert content[:header] == path.read_bytes()[:header]
    assert content[header:] == bytes(300 * 200 * 2)


def test_a_changed_archive_is_opened_again(tmp_path):
    archive = tmp_path / "z.zip"
    archive.write_bytes(zip_of([("a.nii", b"words", 5)], method=0))
    assert open_member(archive, archive / "a.nii").read() == b"words"
    archive.write_bytes(zip_of([("b.nii", b"others", 6)], method=0))
    assert member_size(archive, archive / "b.nii") == 6
    with pytest.raises(DataError, match="no longer in its archive"):
        open_member(archive, archive / "a.nii")
