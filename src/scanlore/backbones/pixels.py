"""Raw pixels as a backbone: the floor that every learned representation has to clear."""

from __future__ import annotations

from torch import Tensor, nn

from scanlore.backbones.features import Features


class Pixels(nn.Module):
    """Gives back the view itself, from [-1, 1] to [0, 1].

    Args:
        size: Edge of the view.
        ndim: Spatial axes.
    """

    def __init__(self, size: int, ndim: int) -> None:
        super().__init__()
        self.ndim, self.in_channels, self.patch_size, self.min_size = ndim, 1, 1, 1
        self.embed_dim, self.num_layers = size**ndim, 1
        self.map_dims: tuple[int, ...] = (1,)
        self.map_strides: tuple[int, ...] = (1,)

    def forward_features(self, x: Tensor, layers: list[int] | int | None = None) -> Features:
        """Return the flattened view `(B, voxels)` and the view as its map."""
        # Views lie in [-1, 1]; background at zero keeps it from dominating the cosine between two scans
        grey = (x + 1) / 2
        return Features([grey.flatten(1)], [grey], norm="none")
