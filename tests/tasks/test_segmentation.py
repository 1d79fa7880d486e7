import json

import numpy as np
import polars as pl
import pytest

from factories import write_mask, write_msd_task, write_nifti_file, write_nnunet_task, write_png
from scanlore.errors import ConfigError, DataError
from scanlore.tasks.segmentation import is_segmentation_task, load_segmentation_task, with_fold


def write_table(folder, rows, columns="image,mask", name="cases.csv", labels=None):
    for row in rows:
        for cell in row.split(","):
            if cell.endswith(".png"):
                write_png(folder / cell) if "m" not in cell else write_mask(folder / cell, (20, 24))
    (folder / name).write_text("\n".join([columns, *rows]) + "\n")
    if labels:
        (folder / "labels.json").write_text(json.dumps(labels))
    return folder / name


def test_msd(tmp_path):
    task = load_segmentation_task(write_msd_task(tmp_path / "Task09_Spleen", 3))
    assert (task.name, task.names) == ("Task09_Spleen", ("case_000", "case_001", "case_002"))
    assert (task.labels, task.classes) == ({0: "background", 1: "body", 2: "blob"}, ("body", "blob"))
    assert (task.channels, task.ignore, task.folds) == (("MRI",), None, None)
    case = task.cases[1]
    assert (len(case.images), case.mask.name, case.patient, case.split) == (1, "case_001.nii.gz", None, None)


def test_dataset_json_stands_for_its_folder(tmp_path):
    write_msd_task(tmp_path, 2)
    assert load_segmentation_task(tmp_path / "dataset.json") == load_segmentation_task(tmp_path)


def test_nnunet(tmp_path):
    labels = {"background": 0, "body": 1, "blob": 2, "ignore": 3}
    task = load_segmentation_task(write_nnunet_task(tmp_path, 3, channels=("T1", "T2"), labels=labels))
    assert (task.channels, task.ignore, task.classes) == (("T1", "T2"), 3, ("body", "blob"))
    assert [path.name for path in task.cases[2].images] == ["case_002_0000.nii.gz", "case_002_0001.nii.gz"]
    assert {case.split for case in task.cases} == {None}


def test_labelled_test_images_are_the_test_set(tmp_path):
    task = load_segmentation_task(write_nnunet_task(tmp_path, 2, num_test=2))
    assert [case.split for case in task.cases] == ["train", "train", "test", "test"]


def test_test_images_without_masks_are_no_cases(tmp_path):
    write_nifti_file(write_nnunet_task(tmp_path, 2) / "imagesTs" / "a_0000.nii.gz")
    assert load_segmentation_task(tmp_path).names == ("case_000", "case_001")


def test_hidden_files_are_no_cases(tmp_path):
    root = write_nnunet_task(tmp_path, 2)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder / "._case_000_0000.nii.gz").touch()
    assert len(load_segmentation_task(root).cases) == 2


def test_colour_images_are_one_file(tmp_path):
    root = write_nnunet_task(tmp_path, 2, shape=(20, 24), channel_names={"0": "R", "1": "G", "2": "B"})
    assert [len(case.images) for case in load_segmentation_task(root).cases] == [1, 1]


def test_a_fold_tests_on_what_nnunet_validates_on(tmp_path):
    root = write_nnunet_task(tmp_path, 4, num_test=1)
    folds = [{"train": ["case_001", "case_002"], "val": ["case_000"]}]
    (root / "splits_final.json").write_text(json.dumps(folds))
    task = with_fold(load_segmentation_task(root), 0)
    assert {case.name: case.split for case in task.cases} == {
        "case_000": "test", "case_001": "train", "case_002": "train",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"no fold 1 \(folds are 0 to 0\)"):
        with_fold(task, 1)


def test_a_fold_of_a_task_without_any(tmp_path):
    with pytest.raises(ConfigError, match=r"no splits_final\.json"):
        with_fold(load_segmentation_task(write_msd_task(tmp_path, 2)), 0)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "is no list of folds"),
        ('[{"train": ["case_000"], "val": []}]', "is no list of folds"),
        ('[{"train": ["case_000"], "val": ["case_000"]}]', "fold 0 has cases in train and in val: case_000"),
        ('[{"train": ["case_000"], "val": ["x"]}]', "names 1 cases that are not here: x"),
    ],
)
def test_damaged_folds(tmp_path, folds, message):
    (write_nnunet_task(tmp_path, 2) / "splits_final.json").write_text(folds)
    with pytest.raises(DataError, match=message):
        load_segmentation_task(tmp_path)


def test_table(tmp_path):
    rows = ["i/1.png,m/1.png,Jane,train", "i/2.png,m/2.png,Joe,test", "i/3.png,,Jane,train"]
    task = load_segmentation_task(write_table(tmp_path, rows, "image,mask,patient,split"))
    assert (task.names, task.channels) == (("1", "2", "3"), ("image",))
    assert task.labels == {0: "background", 1: "label 1", 2: "label 2"}
    assert [case.patient for case in task.cases] == ["patient-00000", "patient-00001", "patient-00000"]
    assert [case.split for case in task.cases] == ["train", "test", "train"]
    assert task.cases[2].mask is None


def test_a_file_beside_the_table_names_the_labels(tmp_path):
    labels = {"0": "background", "1": "body", "255": "blob"}
    task = load_segmentation_task(write_table(tmp_path, ["1.png,m.png"], labels=labels))
    assert task.classes == ("body", "blob")
    assert task.class_of_value == {0: 0, 1: 1, 255: 2}


def test_a_column_for_each_channel(tmp_path):
    path = write_table(tmp_path, ["a_0000.png,a_0001.png,m.png"], "image_T1,image_FLAIR,mask")
    task = load_segmentation_task(path)
    assert (task.channels, task.names) == (("T1", "FLAIR"), ("a",))
    assert [image.name for image in task.cases[0].images] == ["a_0000.png", "a_0001.png"]


def test_channels_of_a_single_file(tmp_path):
    write_png(tmp_path / "colour.png", rgb=True)
    write_mask(tmp_path / "m.png", (20, 24))
    (tmp_path / "cases.csv").write_text("image,mask\ncolour.png,m.png\n")
    assert load_segmentation_task(tmp_path / "cases.csv").channels == ("channel 0", "channel 1", "channel 2")


def test_equal_stems_are_told_apart_by_folder(tmp_path):
    path = write_table(tmp_path, ["p1/t1.png,p1/m.png", "p2/t1.png,p2/m.png", "t1.png,m.png", "p2/t2.png,p2/m2.png"])
    assert load_segmentation_task(path).names == ("p1_t1", "p2_t1", "t1", "t2")


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_other_tables_equal_csv(tmp_path, suffix):
    csv = write_table(tmp_path, ["1.png,m1.png", "2.png,m2.png"])
    frame, other = pl.read_csv(csv), tmp_path / f"cases.{suffix}"
    frame.write_parquet(other) if suffix == "parquet" else frame.write_csv(other, separator="\t")
    assert load_segmentation_task(other) == load_segmentation_task(csv)
    assert is_segmentation_task(other)


def test_what_looks_like_a_segmentation_task(tmp_path):
    write_msd_task(tmp_path / "msd", 1)
    (tmp_path / "damaged" / "imagesTr").mkdir(parents=True)
    table = write_table(tmp_path, ["1.png,m.png"])
    (tmp_path / "labels.csv").write_text("image;label\n1.png;a\n")
    (tmp_path / "bad.parquet").write_text("x")
    yes = [tmp_path / "msd", tmp_path / "msd" / "dataset.json", tmp_path / "damaged", table]
    no = [tmp_path, tmp_path / "labels.csv", tmp_path / "bad.parquet", tmp_path / "1.png", tmp_path / "absent.csv"]
    assert [is_segmentation_task(path) for path in yes + no] == [True] * 4 + [False] * 5


def test_fingerprint_sees_masks_and_not_places(tmp_path):
    first, second = (load_segmentation_task(write_msd_task(tmp_path / name, 2)) for name in ("a", "b"))
    assert first.fingerprint() == second.fingerprint()
    write_mask(second.cases[0].mask, voxels=np.ones((12, 14, 10)))
    assert first.fingerprint() != second.fingerprint()


def test_fingerprint_sees_label_names(tmp_path):
    other = {"0": "background", "1": "body", "2": "other"}
    first = load_segmentation_task(write_msd_task(tmp_path / "a", 1))
    assert first.fingerprint() != load_segmentation_task(write_msd_task(tmp_path / "b", 1, labels=other)).fingerprint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("\x00", "cannot be read as JSON"),
        ("[]", "is no JSON object"),
        ("{}", "neither training cases .* nor a file_ending"),
        ('{"training": 3}', "training list is damaged"),
        ('{"training": [{"image": "a"}]}', "training list is damaged"),
        ('{"training": [], "labels": {"0": "background", "1": "a"}, "modality": {"0": "MRI"}}', "holds no cases"),
        ('{"training": [], "labels": {"0": "background", "1": "a"}}', "'modality' is missing or damaged"),
        ('{"channel_names": {"0": "CT"}}', "ending in None"),
        ('{"file_ending": ".nrrd"}', "ending in '.nrrd'"),
    ],
)
def test_damaged_dataset_json(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_segmentation_task(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path):
    root = write_nnunet_task(tmp_path, 4)
    (root / "labelsTr" / "case_000.nii.gz").unlink()
    (root / "imagesTr" / "case_001_0000.nii.gz").unlink()
    with pytest.raises(DataError, match=r"2 of 8 files are missing: labelsTr/case_000.nii.gz, imagesTr/case_001"):
        load_segmentation_task(root)
    (tmp_path / "imagesTr").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="has no folder imagesTr"):
        load_segmentation_task(root)


def test_missing_files_of_msd(tmp_path):
    (write_msd_task(tmp_path, 2) / "labelsTr" / "case_001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"1 of 4 files are missing: labelsTr/case_001\.nii\.gz"):
        load_segmentation_task(tmp_path)


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ("image,msk", ["1.png,m.png"], "no column 'mask' .*did you mean 'msk'"),
        ("scan,mask", ["1.png,m.png"], "no column 'image'"),
        ("image,image_T1,mask", ["1.png,1.png,m.png"], "a column 'image' and 'image_T1'"),
        ("image,mask", ["1.png,"], "holds no masks"),
        ("image,mask", [",m.png"], "row 1: the column 'image' is empty"),
        ("image,mask", ["1.png,m.png", "1.png,m2.png"], "is listed more than once"),
        ("image,mask,split", ["1.png,m.png,train", "2.png,m.png,tets"], "row 2: 'tets' is no split"),
        ("image,mask,split", ["1.png,m.png,train", "2.png,m.png,"], "1 labelled cases have no split"),
        ("image,mask,split", ["1.png,m.png,test", "2.png,m.png,test"], "has no training case"),
        ("image,mask,patient,split", ["1.png,m.png,p,train", "2.png,m.png,p,test"], "1 patients are in more than one"),
        ("image,mask", ["1.png,m.jpg"], "1 of 1 masks do not exist"),
    ],
)
def test_refused_tables(tmp_path, columns, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        load_segmentation_task(write_table(tmp_path, rows, columns))
    assert "\n" not in str(caught.value)


def test_refused_paths(tmp_path):
    (tmp_path / "a.txt").touch()
    for name, message in {"a.txt": "is no task", "b.csv": "does not exist", "": r"has no dataset\.json"}.items():
        with pytest.raises(DataError, match=message):
            load_segmentation_task(tmp_path / name)
