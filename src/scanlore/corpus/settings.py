"""Settings of a corpus; torch-free."""

from __future__ import annotations

from pydantic import Field

from scanlore.config import Settings


class Curation(Settings):
    """Which scans are kept.

    Attributes:
        slices_above: Volumes are kept with more slices than this along every axis (3DINO: 24).
        highres_above: Volumes with more slices than this are marked for the high-resolution stage (3DINO: 48).
        drop_constant: Drop scans that are empty, constant, or constant between the percentiles 0.05 and 99.95.
        drop_duplicates: Keep one of scans with equal voxels.
    """

    slices_above: int = Field(24, ge=0)
    highres_above: int = Field(48, ge=0)
    drop_constant: bool = True
    drop_duplicates: bool = True


class CorpusSettings(Settings):
    """Settings of `scanlore corpus build`.

    Attributes:
        curation: Which scans are kept.
    """

    curation: Curation = Curation()
