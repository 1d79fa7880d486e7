import numpy as np
import pytest

from scanlore.inference.extract import FeatureTable


@pytest.fixture
def make_features():
    """Make features of `(N, L, D)` [CLS] tokens and `(N, D)` mean patch tokens; the embedding is the last layer's."""

    def make(cls, patch_mean=None):
        cls = np.asarray(cls, np.float32)
        mean = np.zeros_like(cls[:, -1]) if patch_mean is None else np.asarray(patch_mean, np.float32)
        names = tuple(f"{row}" for row in range(len(cls)))
        return FeatureTable(names, tuple(cls.swapaxes(0, 1)), mean, cls[:, -1], (1,) * len(cls))

    return make
