import json

import polars as pl
import pytest

from scanlore.corpus.tables import read_table
from scanlore.errors import DataError


def test_ids_stay_text(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffid;age\n007;45,5\n".encode())
    (tmp_path / "a.tsv").write_bytes("id\tage\n007\tn/a\n".encode("utf-16"))
    pl.DataFrame({"id": ["007"], "age": [45], "more": [[1]]}).write_parquet(tmp_path / "a.parquet")
    rows = [read_table(tmp_path / f"a.{suffix}").rows(named=True) for suffix in ("csv", "tsv", "parquet")]
    assert rows == [[{"id": "007", "age": "45,5"}], [{"id": "007", "age": "n/a"}], [{"id": "007", "age": "45"}]]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", "id,sex\nMüller,w\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b"id,sex\n", "no rows"),
        ("a.csv", b"id,sex\n1\n", "row 1 has 1 cells"),
        ("a.parquet", b"PAR1", "cannot be read as a table"),
        ("a.xlsx", b"", "is no table"),
        ("dataset.json", b"{", "cannot be read as a dataset.json"),
        ("dataset.json", b"[]", "cannot be read as a dataset.json"),
        ("dataset.json", b'{"name": "x"}', "lists no images"),
    ],
)
def test_no_table(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_missing_table(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "a.csv")


def write_json(folder, **facts):
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder / "dataset.json"


def test_decathlon_json_has_a_row_per_file_and_channel(tmp_path):
    path = write_json(
        tmp_path,
        **{"name": "BRATS", "licence": "CC-BY-SA 4.0", "modality": {"0": "FLAIR", "1": "T1w"}},
        **{
            "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
            "test": ["./imagesTs/b.nii.gz"],
        },
    )
    assert read_table(path).rows() == [
        (f"images{folder}/{case}.nii.gz", case, channel, modality, "BRATS", "CC-BY-SA 4.0", split)
        for folder, case, split in (("Tr", "a", "train"), ("Ts", "b", "test"))
        for channel, modality in (("0", "FLAIR"), ("1", "T1w"))
    ]


def test_nnunet_json_has_a_row_per_channel_file(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "other.txt"):
        (tmp_path / "imagesTr" / name).touch()
    path = write_json(tmp_path, channel_names={"0": "T1", "1": "T2"}, labels={"background": 0}, numTraining=1)
    assert read_table(path).select("image", "case", "channel", "modality", "split").rows() == [
        ("imagesTr/a_0000.nii.gz", "a", None, "T1", "train"),
        ("imagesTr/a_0001.nii.gz", "a", None, "T2", "train"),
    ]
