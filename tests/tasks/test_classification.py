import polars as pl
import pytest

from factories import write_dicom_series, write_png
from scanlore.errors import DataError
from scanlore.tasks.classification import load_classification_task


def write_table(folder, rows, name="labels.csv", columns="image,label,patient,split"):
    for row in rows:
        write_png(folder / row.split(",")[0])
    (folder / name).write_text("\n".join([columns, *rows]) + "\n")
    return folder / name


def test_folder_per_class(tmp_path):
    for name in ("b/1.png", "a/1.png", "a/2.png"):
        write_png(tmp_path / name)
    task = load_classification_task(tmp_path)
    assert task.classes == ("a", "b")
    assert [(name, case.label, case.split) for name, case in zip(task.names, task.cases, strict=True)] == [
        ("a/1.png", 0, None), ("a/2.png", 0, None), ("b/1.png", 1, None),
    ]  # fmt: skip


def test_split_folders(tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "test/a/2.png"):
        write_png(tmp_path / name)
    task = load_classification_task(tmp_path)
    assert sorted((case.split, case.label) for case in task.cases) == [("test", 0), ("train", 0), ("train", 1)]


def test_a_dicom_series_is_one_case(tmp_path):
    write_dicom_series(tmp_path / "a" / "s1", (4, 6, 6))
    write_png(tmp_path / "b" / "1.png")
    assert load_classification_task(tmp_path).names == ("a/s1", "b/1.png")


def test_two_series_in_a_folder_are_two_cases(tmp_path):
    write_dicom_series(tmp_path / "a" / "s", (4, 6, 6), seed=1)
    for file in write_dicom_series(tmp_path / "other", (4, 6, 6), seed=2).iterdir():
        file.rename(tmp_path / "a" / "s" / f"second_{file.name}")
    (tmp_path / "other").rmdir()
    write_png(tmp_path / "b" / "1.png")
    assert load_classification_task(tmp_path).names == ("a/s", "a/s#2", "b/1.png")


def test_table(tmp_path):
    path = write_table(tmp_path, ["i/1.png,yes,Jane,train", "i/2.png,no,Joe,train", "i/3.png,,Jim,test"])
    task = load_classification_task(path)
    assert task.classes == ("no", "yes")
    assert [(case.label, case.split) for case in task.cases] == [(1, "train"), (0, "train"), (None, "test")]
    assert task.names[0] == "i/1.png"


def test_patients_become_pseudonyms(tmp_path):
    path = write_table(tmp_path, ["1.png,yes,Jane,", "2.png,no,Joe,", "3.png,no,Jane,", "4.png,no,,"])
    patients = [case.patient for case in load_classification_task(path).cases]
    assert patients == ["patient-00000", "patient-00001", "patient-00000", None]


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_other_tables_equal_csv(tmp_path, suffix):
    csv = write_table(tmp_path, ["1.png,1,,train", "2.png,2,,train", "3.png,,,test"])
    frame = pl.read_csv(csv)
    other = tmp_path / f"labels.{suffix}"
    frame.write_parquet(other) if suffix == "parquet" else frame.write_csv(other, separator="\t")
    assert load_classification_task(other) == load_classification_task(csv)


def test_fingerprint_ignores_order_and_sees_labels(tmp_path):
    rows = ["1.png,yes,,", "2.png,no,,", "3.png,no,,"]
    first = load_classification_task(write_table(tmp_path, rows)).fingerprint()
    assert load_classification_task(write_table(tmp_path, rows[::-1])).fingerprint() == first
    assert load_classification_task(write_table(tmp_path, [*rows[:2], "3.png,yes,,"])).fingerprint() != first


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ("imag,label", ["1.png,a"], "no column 'image' .*did you mean 'imag'"),
        ("image,lable", ["1.png,a"], "no column 'label' .*did you mean 'lable'"),
        ("image,label", ["1.png,a", "2.png,a"], "one class only, 'a'"),
        ("image,label", ["1.png,", "2.png,"], "no labels"),
        ("image,label", ["1.png,a", "1.png,b"], "is listed more than once"),
        ("image,label,split", ["1.png,a,train", "2.png,b,tset"], "row 2: 'tset' is no split .*'test'"),
        ("image,label,split", ["1.png,a,train", "2.png,b,test"], "no training case of class 'b'"),
        ("image,label,split", ["1.png,a,train", "2.png,b,"], "1 labelled cases have no split"),
        ("image,label,patient,split", ["1.png,a,p,train", "2.png,b,p,test"], "1 patients are in more than one split"),
        ("image,label", [f"{i}.png,{i / 7}" for i in range(12)], r"continuous values \(12 different numbers in 12"),
        ("image,label", [f"{i}.png,{40 + i}" for i in range(6)], "6 different numbers in 6 cases"),
        ("image,label", [f"{i}.png,{i % 3 + 0.5}" for i in range(9)], "3 different numbers in 9 cases"),
        ("image,label,patient", ["1.png,a,p", "2.png,b"], "row 2 has 2 cells .*the header has 3"),
        ("image,label", ["1.png,a", "2.png,b,c"], "row 2 has 3 cells"),
    ],
)
def test_refused_tables(tmp_path, columns, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        load_classification_task(write_table(tmp_path, rows, columns=columns))
    assert "\n" not in str(caught.value)


def test_missing_images_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text("image,label\n" + "".join(f"{i}.png,a\n" for i in range(5)))
    with pytest.raises(DataError, match=r"5 of 5 images do not exist: .*0.png, .*2.png, \.\.\."):
        load_classification_task(tmp_path / "t.csv")


def test_refused_paths(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.csv").touch()
    for name, message in {
        "empty": "no class folders",
        "a.txt": "is no task",
        "a.csv": "as a table",
        "b": "exist",
    }.items():
        with pytest.raises(DataError, match=message):
            load_classification_task(tmp_path / name)


def test_a_stranger_beside_split_folders(tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "valid/a/1.png"):
        write_png(tmp_path / name)
    with pytest.raises(DataError, match=r"'valid' beside 'train' is no split .*did you mean 'val'"):
        load_classification_task(tmp_path)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_header_says_what_separates_the_cells(tmp_path, separator):
    csv = write_table(tmp_path, ["1.png,a,p,train", "2.png,b,q,train", "3.png,,,"])
    expected = load_classification_task(csv)
    csv.write_text("\ufeff" + csv.read_text().replace(",", separator) + separator * 3 + "\n", encoding="utf-8")
    assert load_classification_task(csv) == expected


def test_a_table_in_another_encoding(tmp_path):
    path = write_table(tmp_path, ["1.png,a,,", "2.png,b,,"])
    path.write_text(path.read_text().replace("b,", "b\u00f6se,"), encoding="latin-1")
    with pytest.raises(DataError, match=r"is not UTF-8 \(save it as UTF-8\)"):
        load_classification_task(path)


def test_whole_numbers_may_name_classes(tmp_path):
    path = write_table(tmp_path, [f"{i}.png,{i % 3}" for i in range(6)], columns="image,label")
    assert load_classification_task(path).classes == ("0", "1", "2")
