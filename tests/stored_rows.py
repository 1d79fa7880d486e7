"""Indexes and stores written row by row, without reading a scan."""

import hashlib
import json

import numpy as np

from scanlore.corpus.index import FORMAT_VERSION, index_frame, write_index
from scanlore.corpus.levels import build_levels, level_factors
from scanlore.corpus.store import ShardWriter, encode


def row(number, shape=(40, 50, 30), **known):
    """Return a kept row of an index; `known` says what else it holds, or holds differently."""
    usual = {
        "source": hashlib.blake2b(bytes([number % 256, number // 256]), digest_size=8).hexdigest(),
        "format": "nifti",
        "bytes": 1000 * (number + 1),
        "status": "kept",
        "role": "image",
        "id": f"{number:032x}",
        "channel": 0,
        "num_channels": 1,
        "ndim": len(shape),
        "scan_shape": list(shape),
        "highres": False,
    }
    return usual | known


def dropped(number, rule="slices_above: 24", value="20 slices", **known):
    """Return a row that a rule dropped."""
    reason = f"{value} ({rule})"
    return row(number, status="dropped", rule=rule.partition(":")[0], value=value, reason=reason, **known)


def failed(number, reason="missing slices: 2 of 40", **known):
    """Return a row of a source that could not be read."""
    lost = dict.fromkeys(("role", "id", "channel", "num_channels", "ndim", "scan_shape", "highres"))
    return row(number, **lost | {"status": "failed", "rule": reason.partition(": ")[0], "reason": reason} | known)


def stored(root, rows, voxels=None):
    """Return an index of rows with the same voxels stored for each that was read, and write it as a corpus."""
    writer = ShardWriter(root)
    known = []
    for one in rows:
        pixels = voxels if voxels is not None else _ramp(one["scan_shape"] or (2, 2))
        factors = level_factors(pixels.shape, 2 if pixels.ndim == 3 else None)
        offsets = writer.append([encode(level) for level in build_levels(pixels, factors)])
        flat = [factor for level in factors for factor in level]
        places = {"shape": list(pixels.shape), "shard": writer.shard, "level_factors": flat, "level_offsets": offsets}
        known.append(one if one["status"] == "failed" else one | places)
    writer.close()
    frame = index_frame(known)
    write_index(root, frame)
    (root / "corpus.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "salt": "", "rules": {}}))
    return frame


def _ramp(shape):
    return np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
