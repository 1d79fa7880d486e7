"""Rules which scans of a corpus are kept; torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from scanlore.config import Settings, apply_overrides, load_recipe, recipe_names, validate
from scanlore.errors import ConfigError, nearest
from scanlore.scans import vocabulary

KIND = "curation"
EVERY_DATASET = "*"
Column = Literal[
    "format", "plane", "modality", "sequence", "body_part", "contrast", "vendor", "field_strength", "sex", "age_band",
    "site", "dataset", "licence", "split",
]  # fmt: skip
COLUMNS: tuple[str, ...] = get_args(Column)
"""Columns an allow list may name."""
Allowed = list[bool | float | str | None]
_VALUES: dict[str, Sequence[str]] = {
    "plane": ("axial", "coronal", "sagittal"),
    "modality": vocabulary.MODALITIES,
    "sequence": vocabulary.SEQUENCES,
    "body_part": vocabulary.BODY_PARTS,
    "vendor": vocabulary.VENDORS,
    "sex": vocabulary.SEXES,
}
"""Columns of a closed vocabulary."""


class Curation(Settings):
    """Which scans are kept: the rules of one YAML file. What a rule needs and the index does not know passes it.

    Attributes:
        slices_above: Volumes are kept with more slices than this along every axis (3DINO, "Pretraining unlabeled
            dataset": more than 24).
        highres_above: Volumes with more slices than this are marked for the high-resolution stage (3DINO: more than
            48).
        min_field_of_view_mm: Volumes of a smaller field of view along any axis are dropped (S3D section 2: under 50).
        max_spacing_mm: Volumes of a larger spacing along any axis are dropped (S3D section 2: over 6.5).
        min_file_kb: Sources whose files are smaller together are dropped; 1 kB is 1000 bytes (S3D section 2: under
            200).
        keep: Allow lists, by column of the index: only rows with one of these values are kept. An unknown value is
            kept only where the list holds `null` (S3D section 2: the sequences T1, T2, T1-FLAIR, T2-FLAIR).
        fraction: Share of the patients of a dataset to keep, drawn at random; scans of unknown patients are drawn one
            by one (3DINO: half of fastMRI knee and of RSNA-ICH). `"*"` stands for every dataset not named, here and
            below.
        max_patients: Patients of a dataset to keep, drawn at random (3DINO: 500 of NLST).
        volumes_per_patient: Volumes to keep of each patient of a dataset, drawn at random (3DINO: 30 to 40 of 4D-Lung).
        drop_constant: Drop scans that are empty, constant, or constant between the percentiles 0.05 and 99.95.
        drop_scouts: Drop localisers (S3D section 2).
        drop_labels: Drop label maps.
        drop_duplicates: Keep one of scans with equal voxels (3DINO: deduplication).
        near_duplicates: Keep one of scans whose fingerprints differ in no more of their 512 bits than this; 60 is
            where `scanlore.corpus.fingerprint` takes two scans for copies. `null` keeps all.
        seed: Of the random draws.
    """

    slices_above: int = Field(24, ge=0)
    highres_above: int = Field(48, ge=0)
    min_field_of_view_mm: float | None = Field(None, gt=0)
    max_spacing_mm: float | None = Field(None, gt=0)
    min_file_kb: float | None = Field(None, gt=0)
    keep: dict[Column, Allowed] = Field(default_factory=dict)
    fraction: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    max_patients: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    volumes_per_patient: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    drop_constant: bool = True
    drop_scouts: bool = True
    drop_labels: bool = True
    drop_duplicates: bool = True
    near_duplicates: int | None = Field(None, ge=0)
    seed: int = 0

    @field_validator("keep")
    @classmethod
    def _known_values(cls, keep: dict[Column, Allowed]) -> dict[Column, Allowed]:
        """Refuse a value that no scan can have: its list would drop everything."""
        for column, allowed in keep.items():
            known = list(_VALUES.get(column, ()))
            for value in allowed:
                if value is not None and known and value not in known:
                    raise ValueError(f"{column} has no value {value!r}{nearest(str(value), known)}")
            if not allowed:
                raise ValueError(f"{column} is an empty list, which would drop every scan")
        return keep


def load_rules(name: str, overrides: Sequence[str] = ()) -> Curation:
    """Return shipped rules by name (`default`, `3dino`, `s3d`), or those of a YAML file by its path.

    Args:
        name: Name or path.
        overrides: Such as `slices_above=16` or `keep.modality=[MR]`.

    Raises:
        ConfigError: There are no such rules, or a key or value is wrong.
    """
    names = recipe_names(KIND)
    if name not in names and not Path(name).is_file():
        fix = f"{', '.join(names)}, or the path of a YAML file{nearest(name, names)}"
        raise ConfigError(f"no rules {name!r}", fix=fix)
    return validate(Curation, apply_overrides(load_recipe(name, KIND), overrides), where=f"rules {name}")
