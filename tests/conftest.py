"""What the tests of several rooms share: tiny corpora made from real files, a tiny recipe, two joined processes."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported here, and for every process a test starts

import pytest
import torch
import yaml

from factories import write_nifti_file, write_png
from gloo_pool import GlooPool
from tiny_pretraining import RECIPE, RECIPE_2D

torch.set_num_threads(1)


def _build(root, count):
    from corpora import build_tiny

    assert build_tiny(root / "scans", root / "corpus", rules={}).counts["kept"] == count
    return root / "corpus"


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory):
    """A corpus of 8 volumes of 28x30x26 voxels; never written to."""
    root = tmp_path_factory.mktemp("volumes")
    for seed in range(8):
        write_nifti_file(root / "scans" / f"{seed}.nii", (28, 30, 26), seed=seed)
    return _build(root, 8)


@pytest.fixture(scope="session")
def tiny_corpus_2d(tmp_path_factory):
    """A corpus of 8 images of 40x44 pixels; never written to."""
    root = tmp_path_factory.mktemp("images")
    for seed in range(8):
        write_png(root / "scans" / f"{seed}.png", (40, 44), seed=seed)
    return _build(root, 8)


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory):
    """Path of a recipe of six steps on volumes."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return str(path)


@pytest.fixture(scope="session")
def tiny_recipe_2d(tmp_path_factory):
    """Path of a recipe of six steps on images and slices."""
    path = tmp_path_factory.mktemp("recipe") / "tiny-2d.yaml"
    path.write_text(yaml.safe_dump(RECIPE_2D))
    return str(path)


@pytest.fixture(scope="session")
def gloo_pool(tmp_path_factory):
    """Two processes joined by gloo, started when first asked for."""
    with GlooPool(tmp_path_factory.mktemp("gloo")) as pool:
        yield pool
