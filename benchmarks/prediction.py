"""Prediction of a large scan: wall time against the network alone on the same windows, and memory against the mask.

A ResEnc U-Net (random weights, three labels) labels an int16 scan by a sliding window. The limit for time is the
network's forward pass on one window, timed alone between the others all along, times the number of windows.
Memory is the highest resident size while predicting, less that with the scan in memory and the network warmed up: the
mask, the slab of logits, the windows and the network's own activations. Needs Linux for the memory. `--cores 1` counts
processor seconds in place of seconds, for a busy machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from pathlib import Path

from common import Row, cpu_name, print_table, set_threads

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
PARSER.add_argument("--spacing", type=float, default=1.0, help="mm of the network's grid; the scan has 1 mm")
PARSER.add_argument("--backbone", default="resenc-tiny")
PARSER.add_argument("--patch", type=int, default=64)
PARSER.add_argument("--overlap", type=float, default=0.5)
PARSER.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
PARSER.add_argument("--mirror", action="store_true", help="average over mirror images, too")
PARSER.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
ARGUMENTS = PARSER.parse_args()
set_threads(ARGUMENTS.cores)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from scanlore.backbones.build import build_backbone  # noqa: E402
from scanlore.backbones.device import autocast, resolve_precision  # noqa: E402
from scanlore.backbones.settings import ResEncSettings  # noqa: E402
from scanlore.inference.grid import lay_grid  # noqa: E402
from scanlore.inference.predict_scan import predict_scan  # noqa: E402
from scanlore.inference.windows import num_windows  # noqa: E402
from scanlore.modelfolder.segmentation_preprocessing import SegmentationPreprocessing  # noqa: E402
from scanlore.modelfolder.segmenter import Segmenter  # noqa: E402
from scanlore.scans.geometry import volume_scan  # noqa: E402
from scanlore.scans.scan import Scan  # noqa: E402

EVERY = 6
clock = time.process_time if ARGUMENTS.cores == 1 else time.perf_counter
LABELS = {0: "background", 1: "one", 2: "two"}


def make_scan(shape: tuple[int, ...]) -> Scan:
    """Return a scan of waves, slab by slab, so that making it leaves no trace in memory."""
    voxels = np.empty((1, *shape), np.int16, order="F")  # as NIfTI files are read
    plane = 500 * np.sin(np.arange(shape[0]) / 9)[:, None] * np.cos(np.arange(shape[1]) / 7)
    for index in range(shape[2]):
        voxels[0, :, :, index] = plane * np.cos(index / 11)
    return volume_scan(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))


def resident() -> int:
    """Return the bytes this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak(threading.Thread):
    """Watches the resident size, every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest, self._stop = 0, threading.Event()
        self.start()

    def run(self) -> None:
        """Watch until `end`."""
        while not self._stop.wait(0.005):
            self.highest = max(self.highest, resident())

    def end(self) -> int:
        """Return the highest size seen."""
        self._stop.set()
        return max(self.highest, resident())


class Alone:
    """Times the network alone after every few windows of a prediction, so that a busy machine is busy for both."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.seconds: list[float] = []
        self.views = torch.randn(1, 1, *segmenter.preprocessing.patch)

    def __call__(self, done: int = 0, total: int = 0) -> None:
        """Run the passes of one window, after the first and every `EVERY` windows."""
        if done > 1 and done % EVERY:
            return
        began, cpu = clock(), torch.device("cpu")
        with torch.inference_mode(), autocast(resolve_precision(ARGUMENTS.precision, cpu), cpu):
            for _ in range(8 if ARGUMENTS.mirror else 1):
                self.segmenter(self.views)
        self.seconds.append(clock() - began)


def main() -> None:
    shape, patch, wanted = tuple(ARGUMENTS.shape), (ARGUMENTS.patch,) * 3, (ARGUMENTS.spacing,) * 3
    network = build_backbone(ResEncSettings(name=ARGUMENTS.backbone, out_channels=len(LABELS)), seed=0)
    segmenter = Segmenter(network, SegmentationPreprocessing(ndim=3, patch=patch, spacing=wanted, labels=LABELS)).eval()
    scan = make_scan(shape)
    alone = Alone(segmenter)
    for _ in range(3):
        alone()
    alone.seconds.clear()
    base, watch, began = resident(), Peak(), clock()
    options = {"overlap": ARGUMENTS.overlap, "mirror": ARGUMENTS.mirror, "precision": ARGUMENTS.precision}
    mask = predict_scan(segmenter, scan, progress=alone, **options)
    wall, peak = clock() - began - sum(alone.seconds), watch.end() - base
    windows = num_windows(lay_grid(shape, scan.spacing, wanted).shape, patch, ARGUMENTS.overlap)
    limit = windows * statistics.mean(alone.seconds)
    what = f"{ARGUMENTS.backbone}, {windows} windows of {ARGUMENTS.patch}^3, {'x'.join(map(str, shape))} scan"
    device = cpu_name(ARGUMENTS.cores)
    times = (f"{what}: predicted / network alone", f"{wall:.1f} s", f"{limit:.1f} s", wall / limit, "<= 1.25", device)
    sizes = (f"{peak / 1e6:.0f} MB", f"{mask.nbytes / 1e6:.0f} MB", peak / mask.nbytes, "<= 3", device)
    print_table([Row(*times), Row("the same: memory beyond the scan / the mask", *sizes)])


if __name__ == "__main__":
    main()
