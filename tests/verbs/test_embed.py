import numpy as np
import polars as pl
import pytest

from factories import write_nifti_file, write_png
from scanlore.errors import ConfigError, DataError
from scanlore.modelfolder.reference import load_model
from scanlore.verbs.embed import embed


@pytest.fixture
def scans(tmp_path):
    return [write_nifti_file(tmp_path / "scans" / f"{index}.nii.gz", (6, 7, 8), seed=index) for index in range(3)]


def run(scans, out, model="pixels:4", **options):
    return embed(model, scans, out, device="cpu", **options)


def test_a_row_for_every_scan(scans, tmp_path):
    (tmp_path / "scans" / "notes.txt").touch()
    result = run(tmp_path / "scans", tmp_path / "new" / "e.parquet", batch_size=2)
    table = pl.read_parquet(result.out)
    assert (result.num_scans, result.dim, result.problems, result.dense) == (3, 64, (), None)
    assert [path.name for path, _ in result.skipped] == ["notes.txt"]
    assert table["source"].to_list() == [path.as_posix() for path in scans]
    np.testing.assert_allclose(np.stack(table["embedding"].to_list()), load_model("pixels:4").embed(scans), rtol=1e-6)
    assert table.schema["embedding"] == pl.Array(pl.Float32, 64)


def test_the_same_call_again_changes_nothing(scans, tmp_path):
    first = run(scans, tmp_path / "e.parquet")
    again = run(scans, tmp_path / "e.parquet")
    assert (first.already_done, again.already_done, again.num_scans) == (False, True, 3)


@pytest.mark.parametrize("change", [{"model": "pixels:2"}, {"dense": True}, {"scans": slice(2)}])
def test_other_content_is_never_overwritten(scans, tmp_path, change):
    run(scans, tmp_path / "e.parquet")
    content = (tmp_path / "e.parquet").read_bytes()
    options = {"scans": scans} | change
    if isinstance(options["scans"], slice):
        options["scans"] = scans[options["scans"]]
    with pytest.raises(ConfigError, match="holds other embeddings"):
        run(out=tmp_path / "e.parquet", **options)
    assert (tmp_path / "e.parquet").read_bytes() == content


def test_a_changed_scan_is_noticed(scans, tmp_path):
    run(scans, tmp_path / "e.parquet")
    write_nifti_file(scans[0], (6, 7, 8), seed=9)
    with pytest.raises(ConfigError, match="modified_ns"):
        run(scans, tmp_path / "e.parquet")


def test_a_foreign_file_is_never_overwritten(scans, tmp_path):
    (tmp_path / "e.parquet").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="no table of embeddings"):
        run(scans, tmp_path / "e.parquet")


def test_dense(scans, tmp_path):
    result = run(scans, tmp_path / "e.parquet", dense=True)
    files = pl.read_parquet(result.out)["dense"].to_list()
    assert sorted(path.name for path in result.dense.iterdir()) == files
    with np.load(result.dense / files[0]) as file:
        assert (file["features"].shape, file["affine"].shape) == ((1, 4, 4, 4), (4, 4))


def test_slices_of_a_volume_have_an_affine_each(scans, tmp_path):
    write_png(tmp_path / "0.png", (8, 8))
    result = run([tmp_path / "0.png", scans[0]], tmp_path / "e.parquet", dense=True)
    table = pl.read_parquet(result.out)
    assert table["num_views"][0] == 1
    with np.load(result.dense / table["dense"][1]) as file:
        assert file["features"].shape == (table["num_views"][1], 1, 4, 4)
        assert file["affine"].shape == (table["num_views"][1], 4, 3)


def test_a_broken_scan_keeps_its_row(scans, tmp_path):
    scans[1].write_bytes(b"broken")
    result = run(scans, tmp_path / "e.parquet")
    table = pl.read_parquet(result.out)
    assert [name for name, _ in result.problems] == [scans[1].as_posix()]
    assert table["embedding"].is_null().to_list() == [False, True, False]
    assert result.num_scans == 2


def test_refused_calls_write_nothing(scans, tmp_path):
    with pytest.raises(ConfigError, match=r"e\.parquet"):
        run(scans, tmp_path / "e.csv")
    with pytest.raises(ConfigError, match="batch_size"):
        run(scans, tmp_path / "e.parquet", batch_size=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no scans \(NIfTI"):
        run(tmp_path / "empty", tmp_path / "e.parquet")
    with pytest.raises(ConfigError, match="no device"):
        embed("pixels:4", scans, tmp_path / "e.parquet", device="tpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "scans"]


def test_bad_scans_never_refuse_the_others(scans, tmp_path):
    for path in scans[:2]:
        path.write_bytes(b"broken")
    result = run(scans, tmp_path / "e.parquet")
    assert (result.num_scans, [name for name, _ in result.problems]) == (1, [path.as_posix() for path in scans[:2]])
    scans[2].write_bytes(b"broken")
    with pytest.raises(DataError, match=r"3 of 3 scans cannot be used: .*0\.nii\.gz"):
        run(scans, tmp_path / "f.parquet")
