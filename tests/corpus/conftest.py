from pathlib import Path

import pytest

from corpora import build_tiny
from factories import write_nifti_file


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with three small volumes."""
    for seed in range(3):
        write_nifti_file(tmp_path / "scans" / f"scan{seed}.nii.gz", (12, 14, 10), seed=seed)
    return tmp_path / "scans"


@pytest.fixture
def build_corpus():
    """Build with small limits: more than 4 slices are kept, more than 11 are high-resolution."""
    return build_tiny


@pytest.fixture
def voxel_files():
    """The files of a corpus that hold its contents, by name."""

    def read(out):
        paths = [out / "index.parquet", *sorted((out / "shards").iterdir())]
        return {path.name: path.read_bytes() for path in paths}

    return read
