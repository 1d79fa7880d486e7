"""A picture of what a masked autoencoder rebuilds: input, what it was shown, its output, the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.methods.masked import Reconstruction

MAX_ROWS = 4
HIDDEN = "#c9b27c"
TITLES = ("input", "shown", "output", "difference")


def draw_reconstruction(seen: Reconstruction, path: Path, step: int) -> None:
    """Write a PNG with a row per view, the middle slice across the last axis of volumes; first channel.

    Args:
        seen: On any device.
        path: Where to; its folder is made.
        step: For the title.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grey = colormaps["gray"].with_extremes(bad=HIDDEN)

    rows = [_panels(seen, row) for row in range(min(MAX_ROWS, len(seen.views)))]
    figure = Figure(figsize=(2.2 * len(TITLES), 2.2 * len(rows) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(rows), len(TITLES), squeeze=False)
    for line, panels in zip(axes, rows, strict=True):
        low, high = np.percentile(panels[0], [1, 99])
        for axis, title, panel in zip(line, TITLES, panels, strict=True):
            is_difference = title == "difference"
            bounds = (
                {"vmin": -(high - low) / 2, "vmax": (high - low) / 2} if is_difference else {"vmin": low, "vmax": high}
            )
            axis.imshow(panel.T, origin="lower", cmap="coolwarm" if is_difference else grey, **bounds)
            axis.set_axis_off()
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=9)
    figure.suptitle(f"step {step}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _panels(seen: Reconstruction, row: int) -> tuple[npt.NDArray[np.floating], ...]:
    view, hidden, output = (
        tensor[row, 0].detach().float().cpu().numpy() for tensor in (seen.views, seen.hidden, seen.output)
    )
    if view.ndim == 3:
        view, hidden, output = (volume[..., volume.shape[-1] // 2] for volume in (view, hidden, output))
    # What was visible is no achievement of the network, and S3D's loss leaves it free
    rebuilt = np.where(hidden > 0, output, view)
    return view, np.where(hidden > 0, np.nan, view), rebuilt, np.where(hidden > 0, output - view, 0)
