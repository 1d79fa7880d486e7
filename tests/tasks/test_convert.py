import json

import numpy as np
import pytest

from factories import write_dicom_series, write_nifti_file, write_png
from scanlore.errors import ConfigError, DataError
from scanlore.tasks.catalogue import dataset
from scanlore.tasks.classification import load_classification_task
from scanlore.tasks.datasets.convert import convert_task
from scanlore.tasks.segmentation import load_segmentation_task

MASK = np.zeros((12, 14, 10), np.uint8)
MASK[4:8, 4:8, 4:8] = 1


def write_case(folder, stem, images, mask, values=(1,)):
    for number, end in enumerate(images):
        write_nifti_file(folder / f"{stem}{end}", seed=number)
    voxels = MASK.copy()
    for index, value in enumerate(values):
        voxels[4 + index, 4, 4] = value
    voxels[voxels == 1] = values[0]
    write_nifti_file(folder / f"{stem}{mask}", voxels=voxels, dtype="uint8")


def test_brats_becomes_a_task_of_four_channels(tmp_path):
    folder, layout = tmp_path / "BraTS", dataset("brats-2021").layout
    for name in ("BraTS2021_00000", "BraTS2021_00002"):
        write_case(folder / name, name, layout.images.values(), layout.mask, (1, 2, 4))
    write_nifti_file(folder / "BraTS2021_00009" / "BraTS2021_00009_seg.nii.gz", voxels=MASK)
    made = convert_task(dataset("brats-2021"), folder, tmp_path / "out")
    task = load_segmentation_task(made.tasks[0])
    assert task.channels == ("t1", "t1ce", "t2", "flair")
    assert task.classes == ("necrotic tumor core", "edema", "enhancing tumor")
    assert len(task.cases) == made.num_cases == 2
    assert len({case.patient for case in task.cases}) == 2
    assert "1 cases left out" in made.notes[0]
    assert "BraTS2021_00009" in made.notes[0]


def test_images_in_another_branch_of_the_tree_are_found(tmp_path):
    case = "sub-strokecase0001_ses-0001"
    for end in ("_dwi.nii.gz", "_adc.nii.gz"):
        write_nifti_file(tmp_path / "in" / "sub-strokecase0001" / "ses-0001" / "dwi" / f"{case}{end}")
    write_nifti_file(tmp_path / "in" / "derivatives" / f"{case}_msk.nii.gz", voxels=MASK)
    made = convert_task(dataset("isles-2022"), tmp_path / "in", tmp_path / "out")
    assert [len(case.images) for case in load_segmentation_task(made.tasks[0]).cases] == [2]


def test_cases_whose_files_are_called_the_same_stay_apart(tmp_path):
    for patient in ("1", "2"):
        write_nifti_file(tmp_path / "in" / patient / f"{patient}-Flair.nii")
        write_nifti_file(tmp_path / "in" / patient / f"{patient}-LesionSeg-Flair.nii", voxels=MASK)
    made = convert_task(dataset("ms-flair"), tmp_path / "in", tmp_path / "out")
    cases = load_segmentation_task(made.tasks[0]).cases
    assert all(case.images[0].parent == case.mask.parent for case in cases)
    assert {case.patient for case in cases} == {"patient-00000", "patient-00001"}


def test_the_two_lungs_become_one_mask(tmp_path):
    left, right = np.zeros((20, 24), np.uint8), np.zeros((20, 24), np.uint8)
    left[5:15, 2:10], right[5:15, 14:22] = 255, 255
    for name in ("MCUCXR_0001_0.png", "MCUCXR_0002_0.png"):
        write_png(tmp_path / "in" / "CXR_png" / name)
        write_png(tmp_path / "in" / "ManualMask" / "leftMask" / name, pixels=left)
        write_png(tmp_path / "in" / "ManualMask" / "rightMask" / name, pixels=right)
    made = convert_task(dataset("montgomery"), tmp_path / "in", tmp_path / "out")
    task = load_segmentation_task(made.tasks[0])
    assert task.classes == ("left lung", "right lung")
    assert len(task.cases) == 2
    assert task.cases[0].mask.is_relative_to(tmp_path / "out")


def test_overlapping_masks_are_refused_and_nothing_is_left(tmp_path):
    both = np.full((20, 24), 255, np.uint8)
    write_png(tmp_path / "in" / "CXR_png" / "a.png")
    for side in ("leftMask", "rightMask"):
        write_png(tmp_path / "in" / "ManualMask" / side / "a.png", pixels=both)
    with pytest.raises(DataError, match="overlap"):
        convert_task(dataset("montgomery"), tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_masks_beside_images_are_no_images(tmp_path):
    for label in ("benign", "malignant"):
        for number in range(3):
            write_png(tmp_path / "in" / label / f"{label} ({number}).png", seed=number)
            write_png(tmp_path / "in" / label / f"{label} ({number})_mask.png", seed=number)
    made = convert_task(dataset("busi"), tmp_path / "in", tmp_path / "out")
    task = load_classification_task(made.tasks[0])
    assert (task.classes, len(task.cases)) == (("benign", "malignant"), 6)
    assert not any(name.endswith("_mask.png") for name in task.names)


def test_a_folder_per_class_needs_no_conversion(tmp_path):
    for label in ("COVID-19", "Normal"):
        for number in range(2):
            write_dicom_series(tmp_path / "in" / label / f"P{number}", patient=f"{label}{number}")
    made = convert_task(dataset("covid-ct-md"), tmp_path / "in", tmp_path / "out")
    assert made.tasks == (tmp_path / "in",)
    assert made.num_cases == len(load_classification_task(made.tasks[0]).cases) == 4
    assert not (tmp_path / "out").exists()


def test_the_decathlon_needs_no_conversion(tmp_path):
    write_nifti_file(tmp_path / "imagesTr" / "hippocampus_001.nii.gz")
    write_nifti_file(tmp_path / "labelsTr" / "hippocampus_001.nii.gz", voxels=MASK)
    facts = {
        "labels": {"0": "background", "1": "Anterior"},
        "modality": {"0": "MRI"},
        "training": [{"image": "./imagesTr/hippocampus_001.nii.gz", "label": "./labelsTr/hippocampus_001.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    made = convert_task(dataset("msd-hippocampus"), tmp_path, tmp_path / "out")
    assert (made.tasks, made.num_cases) == ((tmp_path,), 1)


def nih(folder):
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID"]
    for number in range(6):
        name = f"0000000{number // 2 + 1}_00{number % 2}.png"
        write_png(folder / f"images_00{number % 2 + 1}" / "images" / name, seed=number)
        rows.append(f"{name},{'Effusion|Mass' if number % 2 else 'No Finding'},{number},{number // 2}")
    rows.append("00000009_000.png,Mass,0,9")
    (folder / "Data_Entry_2017.csv").write_text("\n".join(rows))
    (folder / "train_val_list.txt").write_text("\n".join(f"0000000{n}_00{k}.png" for n in (1, 2) for k in (0, 1)))
    (folder / "test_list.txt").write_text("00000003_000.png\n00000003_001.png\n00000009_000.png")


def test_several_findings_become_a_table_each_with_the_official_split(tmp_path):
    nih(tmp_path / "in")
    made = convert_task(dataset("nih-chest-xray"), tmp_path / "in", tmp_path / "out")
    assert len(made.tasks) == 14
    assert "1 rows left out" in made.notes[0]
    task = load_classification_task(tmp_path / "out" / "Effusion.csv")
    assert task.classes == ("no", "yes")
    assert [case.split for case in task.cases] == ["train"] * 4 + ["test"] * 2
    assert [task.classes[case.label] for case in task.cases] == ["no", "yes"] * 3
    assert len({case.patient for case in task.cases}) == 3


def chexpert(folder):
    findings = dataset("chexpert").layout.findings
    for part, patients in (("train", (1, 2, 3)), ("valid", (4,))):
        lines = [",".join(["Path", "Frontal/Lateral", *findings])]
        for patient in patients:
            for view in ("Frontal", "Lateral"):
                path = f"{part}/patient{patient:05d}/study1/view1_{view.lower()}.jpg"
                write_png(folder / path, seed=patient)
                value = {1: "1.0", 2: "-1.0", 3: "", 4: "0.0"}[patient]
                lines.append(",".join([f"CheXpert-v1.0/{path}", view, *[value] * len(findings)]))
        (folder / f"{part}.csv").write_text("\n".join(lines))


def test_uncertain_findings_have_no_label_and_other_views_are_left_out(tmp_path):
    chexpert(tmp_path / "in")
    made = convert_task(dataset("chexpert"), tmp_path / "in", tmp_path / "out")
    task = load_classification_task(tmp_path / "out" / "Pleural_Effusion.csv")
    assert made.num_cases == 4
    assert [None if case.label is None else task.classes[case.label] for case in task.cases] == [
        "yes",
        None,
        "no",
        "no",
    ]
    assert [case.split for case in task.cases] == ["train"] * 3 + ["val"]
    assert all("frontal" in name for name in task.names)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "", "absent.png"])
def test_a_table_names_no_file_outside_of_its_folder(tmp_path, name):
    nih(tmp_path / "in")
    write_png(tmp_path / "secret.png")
    with (tmp_path / "in" / "Data_Entry_2017.csv").open("a") as file:
        file.write(f"\n{name or ' '},Mass,0,9")
    made = convert_task(dataset("nih-chest-xray"), tmp_path / "in", tmp_path / "out")
    assert made.num_cases == 6


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brats-2021", "CASE_seg.nii.gz"),
        ("montgomery", "CXR_png/NAME"),
        ("busi", "one folder per class"),
        ("nih-chest-xray", "Data_Entry_2017.csv"),
        ("medmnist-path", "pathmnist.npz"),
    ],
)
def test_a_wrong_layout_is_refused_with_what_was_expected_and_found(tmp_path, name, expected):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "holiday.txt").write_text("sun")
    with pytest.raises(DataError, match=r"it holds holiday\.txt") as error:
        convert_task(dataset(name), tmp_path / "in", tmp_path / "out")
    assert expected in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_layout_that_is_not_read_says_what_to_make(tmp_path):
    with pytest.raises(ConfigError, match="make a table with the columns image, label and patient"):
        convert_task(dataset("icbm"), tmp_path, tmp_path / "out")


def test_the_folder_of_the_user_is_not_written_over(tmp_path):
    nih(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="holds files already"):
        convert_task(dataset("nih-chest-xray"), tmp_path / "in", tmp_path / "out")


def test_the_same_call_again_changes_nothing_and_says_so(tmp_path):
    nih(tmp_path / "in")
    first = convert_task(dataset("nih-chest-xray"), tmp_path / "in", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = convert_task(dataset("nih-chest-xray"), tmp_path / "in", tmp_path / "out")
    assert again.already_done
    assert (again.tasks, again.num_cases, again.notes) == (first.tasks, first.num_cases, first.notes)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_the_licence_travels_with_the_task(tmp_path):
    nih(tmp_path / "in")
    convert_task(dataset("nih-chest-xray"), tmp_path / "in", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "conversion.json").read_text())["licence"] == "NIH terms"


def test_scans_with_a_voxel_size_take_no_other(tmp_path):
    with pytest.raises(ConfigError, match="say their own voxel size"):
        convert_task(dataset("brats-2021"), tmp_path, tmp_path / "out", (1.0, 1.0, 1.0))
