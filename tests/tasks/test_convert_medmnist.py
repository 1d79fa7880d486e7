import numpy as np
import pytest

from scanlore.errors import ConfigError, DataError
from scanlore.scans.read import read_scan
from scanlore.tasks.catalogue import dataset
from scanlore.tasks.classification import load_classification_task
from scanlore.tasks.datasets import npz
from scanlore.tasks.datasets.convert import convert_task

SIZES = {"train": 5, "val": 2, "test": 3}


def write_npz(path, shape, labels, dtype=np.uint8, **other):
    """Write a file of MedMNIST; `labels` gives the label of the image of a number, counted over all splits."""
    rng = np.random.default_rng(0)
    arrays, start = {}, 0
    for split, size in SIZES.items():
        arrays[f"{split}_images"] = rng.integers(0, 255, (size, *shape)).astype(dtype)
        arrays[f"{split}_labels"] = np.array([labels(start + number) for number in range(size)], np.uint8)
        start += size
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **(arrays | other))
    return {key: arrays[key] for key in arrays}


def test_colour_images_keep_pixels_classes_and_official_splits(tmp_path):
    arrays = write_npz(tmp_path / "in" / "bloodmnist.npz", (28, 28, 3), lambda number: [number % 4])
    made = convert_task(dataset("medmnist-blood"), tmp_path / "in", tmp_path / "out")
    task = load_classification_task(made.tasks[0])
    assert [case.split for case in task.cases] == ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    assert [task.classes[case.label] for case in task.cases[:2]] == ["basophil", "eosinophil"]
    assert task.cases[0].patient is None
    np.testing.assert_array_equal(read_scan(task.cases[5].image).voxels, np.moveaxis(arrays["val_images"][0], -1, 0))
    assert "patients are not known" in made.notes[0]


def test_grey_images_of_a_larger_size(tmp_path):
    arrays = write_npz(tmp_path / "pneumoniamnist_64.npz", (64, 64), lambda number: [number % 2])
    made = convert_task(dataset("medmnist-pneumonia"), tmp_path / "pneumoniamnist_64.npz", tmp_path / "out")
    task = load_classification_task(made.tasks[0])
    assert task.classes == ("normal", "pneumonia")
    np.testing.assert_array_equal(read_scan(task.cases[9].image).voxels[0], arrays["test_images"][2])


def test_findings_become_a_task_each(tmp_path):
    write_npz(tmp_path / "chestmnist.npz", (28, 28), lambda number: [number % 2, *[1, 0] * 6, 1 - number % 2])
    made = convert_task(dataset("medmnist-chest"), tmp_path, tmp_path / "out")
    assert len(made.tasks) == 14
    task = load_classification_task(tmp_path / "out" / "atelectasis.csv")
    assert [task.classes[case.label] for case in task.cases] == ["no", "yes"] * 5


def test_volumes_whose_size_is_described_get_it(tmp_path):
    arrays = write_npz(tmp_path / "adrenalmnist3d.npz", (28, 28, 28), lambda number: [number % 2])
    made = convert_task(dataset("medmnist-adrenal-3d"), tmp_path, tmp_path / "out")
    scan = read_scan(load_classification_task(made.tasks[0]).cases[0].image)
    np.testing.assert_array_equal(scan.voxels[0], arrays["train_images"][0])
    np.testing.assert_allclose(scan.spacing, 64 / 28, rtol=1e-6)
    assert any("as MedMNIST describes them" in note for note in made.notes)


@pytest.mark.parametrize("name", ["medmnist-organ-3d", "medmnist-vessel-3d"])
def test_no_voxel_size_is_invented(tmp_path, name):
    entry = dataset(name)
    write_npz(tmp_path / "in" / f"{entry.layout.flag}.npz", (28, 28, 28), lambda number: [number % 2])
    with pytest.raises(ConfigError, match=r"not known, and is not invented.*--assume-spacing"):
        convert_task(entry, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = convert_task(entry, tmp_path / "in", tmp_path / "out", (1.0, 1.5, 2.0))
    assert read_scan(load_classification_task(made.tasks[0]).cases[0].image).spacing == (1.0, 1.5, 2.0)
    assert any("as given by --assume-spacing" in note for note in made.notes)


def test_what_is_known_of_the_small_volumes_is_not_taken_for_the_large_ones(tmp_path):
    write_npz(tmp_path / "in" / "nodulemnist3d_64.npz", (64, 64, 64), lambda number: [number % 2])
    with pytest.raises(ConfigError, match="not invented"):
        convert_task(dataset("medmnist-nodule-3d"), tmp_path / "in", tmp_path / "out")


def test_a_voxel_size_that_is_known_cannot_be_changed(tmp_path):
    write_npz(tmp_path / "in" / "nodulemnist3d.npz", (28, 28, 28), lambda number: [number % 2])
    with pytest.raises(ConfigError, match="1 mm"):
        convert_task(dataset("medmnist-nodule-3d"), tmp_path / "in", tmp_path / "out", (2.0, 2.0, 2.0))


def test_the_file_of_another_set_is_refused(tmp_path):
    write_npz(tmp_path / "in" / "pathmnist.npz", (28, 28, 3), lambda number: [0])
    with pytest.raises(DataError, match=r"expected: bloodmnist\.npz"):
        convert_task(dataset("medmnist-blood"), tmp_path / "in" / "pathmnist.npz", tmp_path / "out")


def test_two_sizes_in_one_folder_are_asked_about(tmp_path):
    for name in ("bloodmnist.npz", "bloodmnist_64.npz"):
        write_npz(tmp_path / "in" / name, (28, 28, 3), lambda number: [0])
    with pytest.raises(DataError, match="one size; name the file itself"):
        convert_task(dataset("medmnist-blood"), tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("label", [[8], [1, 2]])
def test_labels_that_are_no_classes_are_refused(tmp_path, label):
    write_npz(tmp_path / "in" / "bloodmnist.npz", (28, 28, 3), lambda number: label)
    with pytest.raises(DataError, match="other values"):
        convert_task(dataset("medmnist-blood"), tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_file_without_a_split_is_refused(tmp_path):
    np.savez(tmp_path / "bloodmnist.npz", train_images=np.zeros((2, 28, 28, 3), np.uint8))
    with pytest.raises(DataError, match="no array 'test_images'"):
        convert_task(dataset("medmnist-blood"), tmp_path, tmp_path / "out")


@pytest.mark.parametrize("damage", ["truncated", "no zip", "pickles"])
def test_damaged_files_end_in_one_line(tmp_path, damage):
    path = tmp_path / "in" / "bloodmnist.npz"
    images = np.array([object()] * 5) if damage == "pickles" else np.zeros((5, 28, 28, 3), np.uint8)
    write_npz(path, (28, 28, 3), lambda number: [0], train_images=images)
    if damage != "pickles":
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2] if damage == "truncated" else b"no")
    with pytest.raises(DataError, match=r"download it again|does not hold"):
        convert_task(dataset("medmnist-blood"), tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_items_are_the_same_whatever_the_size_of_a_block(tmp_path, monkeypatch):
    images = np.arange(7 * 4 * 4, dtype=np.uint8).reshape(7, 4, 4)
    np.savez_compressed(tmp_path / "a.npz", images=images)
    monkeypatch.setattr(npz, "BLOCK_BYTES", 40)
    np.testing.assert_array_equal(np.stack(list(npz.read_items(tmp_path / "a.npz", "images"))), images)
    assert npz.array_shape(tmp_path / "a.npz", "images") == (7, 4, 4)
