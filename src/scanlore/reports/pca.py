"""Principal components of dense features as colours: fitted on some scans, drawn on any.

The recipe of the 3DINO paper (Fig. 1c; methods, "Principal component analysis"): of the components of all patch
features the first parts background from foreground by a simple threshold, the next three are red, green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
MOST_TOKENS = 20_000
"""Patches that components are fitted on."""
RANGE = (1.0, 99.0)
"""Percentiles of a component over the foreground that its colour spans: a few odd patches would pale all others."""


@dataclass(frozen=True)
class Basis:
    """Four principal components and how they become colours.

    Attributes:
        mean: `(D,)`.
        axes: `(4, D)` of length 1; zeros where the features have fewer components.
        shares: `(4,)` of the variance that each explains, in [0, 1].
        threshold: Of the first component.
        is_above: Whether the foreground is above it.
        low: `(3,)` values of the next components that are drawn as 0.
        high: `(3,)` values that are drawn as 1.
    """

    mean: Floats
    axes: Floats
    shares: Floats
    threshold: float
    is_above: bool
    low: Floats
    high: Floats

    def scores(self, features: Floats) -> Floats:
        """Project features `(D, *grid)` on the components, `(4, *grid)` float32."""
        tokens = features.reshape(len(features), -1).astype(np.float64) - self.mean[:, None]
        projected = (self.axes @ tokens).astype(np.float32)
        return projected.reshape(-1, *features.shape[1:])

    def foreground(self, scores: Floats) -> Mask:
        """Return where scores `(4, *shape)` are of the foreground, `(*shape)`."""
        inside: Mask = (scores[0] > self.threshold) == self.is_above
        return inside

    def rgb(self, scores: Floats) -> Floats:
        """Return the colours of scores `(4, *shape)`, `(*shape, 3)` in [0, 1]; background is white."""
        span = np.where(self.high > self.low, self.high - self.low, 1).astype(np.float32)
        colours = (np.moveaxis(scores[1:], 0, -1) - self.low.astype(np.float32)) / span
        inside = self.foreground(scores)[..., None]
        painted: Floats = np.where(inside, np.clip(colours, 0, 1), 1)
        return painted


def sample_tokens(features: Floats, most: int = MOST_TOKENS) -> tuple[Floats, Mask]:
    """Return patches to fit components on, the same on every call.

    Args:
        features: `(D, *grid)`.
        most: How many; all where there are no more.

    Returns:
        `(N, D)`, and which of them lie on the outside of the grid.
    """
    tokens, border = features.reshape(len(features), -1).T, _border(features.shape[1:])
    if len(tokens) <= most:
        return tokens, border
    chosen = np.sort(np.random.default_rng(0).choice(len(tokens), most, replace=False))
    return tokens[chosen], border[chosen]


def fit_basis(tokens: Floats, border: Mask) -> Basis:
    """Fit components and how they are drawn.

    The first component is cut at its mean, which is less misled by a few bright patches (a skull) than the middle of
    its range or Otsu's threshold; the side that most of the border is on is background.

    Args:
        tokens: `(N, D)`.
        border: `(N,)`, which of them lie on the outside of their scan.
    """
    mean, axes, shares = principal_axes(tokens, 4)
    components = (tokens.astype(np.float64) - mean) @ axes.T
    threshold = 0.0
    above = components[:, 0] > threshold
    is_above = not bool(above[border].mean() > 0.5)
    inside = components[above == is_above, 1:]
    low, high = np.percentile(inside, RANGE, axis=0) if len(inside) else np.zeros((2, 3))
    return Basis(mean, axes, shares, threshold, is_above, low, high)


def pca_rgb_joint(features: Sequence[Floats]) -> list[Floats]:
    """Colour several feature maps by common principal components: equal colours are equal features.

    Args:
        features: Maps `(D, *grid_i)`, all of one width.

    Returns:
        For each map `(*grid_i, 3)` in [0, 1]; background is white.
    """
    parts = [sample_tokens(one, MOST_TOKENS // len(features)) for one in features]
    basis = fit_basis(np.concatenate([tokens for tokens, _ in parts]), np.concatenate([border for _, border in parts]))
    return [basis.rgb(basis.scores(one)) for one in features]


def principal_components(matrix: Floats, num_components: int) -> tuple[Floats, Floats]:
    """Project rows on their principal components.

    Args:
        matrix: `(N, D)`.
        num_components: How many; those that `matrix` does not have are zeros.

    Returns:
        `(N, num_components)` and the share of the variance that each explains.
    """
    mean, axes, shares = principal_axes(matrix, num_components)
    return (matrix.astype(np.float64) - mean) @ axes.T, shares


def principal_axes(matrix: Floats, num_components: int) -> tuple[Floats, Floats, Floats]:
    """Return the principal components of rows.

    Args:
        matrix: `(N, D)`.
        num_components: How many; those that `matrix` does not have are zeros.

    Returns:
        The mean `(D,)`, the axes `(num_components, D)` with signs fixed by making the largest loading of each positive,
        and the share of the variance that each explains.
    """
    num_found = min(num_components, *matrix.shape)
    pca = PCA(num_found, svd_solver="full")
    # Constant rows, as a collapsed network gives, have no variance to share out.
    with np.errstate(invalid="ignore"):
        pca.fit(matrix.astype(np.float64))
    largest = np.abs(pca.components_).argmax(1)
    axes = pca.components_ * np.sign(pca.components_[np.arange(num_found), largest])[:, None]
    missing = num_components - num_found
    shares = np.pad(np.nan_to_num(pca.explained_variance_ratio_), (0, missing))
    return pca.mean_, np.pad(axes, ((0, missing), (0, 0))), shares


def _border(grid: tuple[int, ...]) -> Mask:
    """Which cells of a grid, flattened, lie on its outside."""
    inner = np.zeros(grid, dtype=bool)
    inner[tuple(slice(1, -1) for _ in grid)] = True
    return ~inner.ravel()
