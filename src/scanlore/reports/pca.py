"""Pictures of dense features: principal components as colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def pca_rgb(features: Floats, foreground: Mask | None = None) -> Floats:
    """Colour a feature map by its principal components.

    The recipe of the 3DINO paper (Fig. 1c; methods, "Principal component analysis"): the first component of all
    features parts background, drawn white, from foreground; the next three are red, green and blue. Where the
    foreground is known it takes the place of the first component: the components are those of the foreground's
    features, and the first three are drawn.

    Args:
        features: `(D, *grid)`, 2D or 3D grid.
        foreground: `(*grid)`, or `None` to find it.

    Returns:
        `(*grid, 3)` in [0, 1], each channel spanning that range over the foreground.
    """
    return pca_rgb_joint([features], None if foreground is None else [foreground])[0]


def pca_rgb_joint(features: Sequence[Floats], foregrounds: Sequence[Mask] | None = None) -> list[Floats]:
    """Colour several feature maps by common principal components: equal colours are equal features.

    Args:
        features: Maps `(D, *grid_i)`, all of one width.
        foregrounds: For each map `(*grid_i)`, or `None` to find them; see `pca_rgb`.

    Returns:
        For each map `(*grid_i, 3)` in [0, 1].
    """
    grids = [one.shape[1:] for one in features]
    tokens = np.concatenate([one.reshape(len(one), -1).T for one in features])
    if foregrounds is None:
        components = principal_components(tokens, 4)[0]
        inside = _foreground(components[:, 0], np.concatenate([_border(grid) for grid in grids]))
        colours = components[:, 1:]
    else:
        inside = np.concatenate([one.ravel() for one in foregrounds])
        colours = np.zeros((len(tokens), 3))
        colours[inside] = principal_components(tokens[inside], 3)[0] if inside.any() else 0
    rgb = np.ones((len(tokens), 3))
    rgb[inside] = _stretch(colours[inside])
    parts = np.split(rgb, np.cumsum([np.prod(grid, dtype=int) for grid in grids])[:-1])
    return [part.reshape(*grid, 3) for part, grid in zip(parts, grids, strict=True)]


def principal_components(matrix: Floats, num_components: int) -> tuple[Floats, Floats]:
    """Project rows on their principal components.

    Args:
        matrix: `(N, D)`.
        num_components: How many; those that `matrix` does not have are zeros.

    Returns:
        `(N, num_components)`, with signs fixed by making each axis's largest loading positive, and the share of the
        variance that each explains.
    """
    num_found = min(num_components, *matrix.shape)
    pca = PCA(num_found, svd_solver="full")
    # Constant rows, as a collapsed network gives, have no variance to share out.
    with np.errstate(invalid="ignore"):
        found = pca.fit_transform(matrix.astype(np.float64))
    largest = np.abs(pca.components_).argmax(1)
    found *= np.sign(pca.components_[np.arange(num_found), largest])
    missing = num_components - num_found
    return np.pad(found, ((0, 0), (0, missing))), np.pad(np.nan_to_num(pca.explained_variance_ratio_), (0, missing))


def _border(grid: tuple[int, ...]) -> Mask:
    """Which cells of a grid, flattened, lie on its outside."""
    inner = np.zeros(grid, dtype=bool)
    inner[tuple(slice(1, -1) for _ in grid)] = True
    return ~inner.ravel()


def _foreground(component: Floats, border: Mask) -> Mask:
    """Cut a component in the middle of its range; the side that most of the border is on is background."""
    above: Mask = component > np.percentile(component, [2, 98]).mean()
    return ~above if above[border].mean() > 0.5 else above


def _stretch(colours: Floats) -> Floats:
    """Map each column to [0, 1]; a constant one to 0."""
    if not len(colours):
        return colours
    low, high = colours.min(0), colours.max(0)
    stretched: Floats = (colours - low) / np.where(high > low, high - low, 1)
    return stretched
