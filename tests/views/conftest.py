import numpy as np
import pytest

from corpora import build_tiny
from factories import write_nifti_file, write_png
from scanlore.corpus.index import Corpus, Entry
from scanlore.corpus.levels import build_levels, level_factors
from scanlore.corpus.store import Pyramid
from scanlore.scans.intensity import IntensityStats

STATS = IntensityStats(0, 1000, 300, 200, 0, 10, 900, 990)


@pytest.fixture(scope="session")
def pyramid_of():
    """The levels of an int16 array in memory."""

    def make(voxels, through_axis=2):
        factors = level_factors(voxels.shape, through_axis if voxels.ndim == 3 else None)
        levels = tuple(build_levels(np.ascontiguousarray(voxels, np.int16), factors))
        return Pyramid(tuple(factors), levels, 1.0, 0.0)

    return make


@pytest.fixture(scope="session")
def entry_of():
    """What a policy knows of a scan."""

    def make(shape, through_axis=2, name="a"):
        return Entry(name, shape, shape, through_axis if len(shape) == 3 else None, None, STATS)

    return make


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """Five volumes and two images in a store."""
    root = tmp_path_factory.mktemp("views")
    for seed, shape in enumerate([(12, 14, 10), (20, 18, 9), (12, 14, 11), (30, 28, 7), (12, 12, 12)]):
        write_nifti_file(root / "in" / f"{seed}.nii", shape, seed=seed)
    for seed in (7, 8):
        write_png(root / "in" / f"{seed}.png", (20, 24), seed=seed)
    build_tiny(root / "in", root / "C")
    return Corpus(root / "C")
