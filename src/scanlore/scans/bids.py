"""What names and sidecars in the manner of BIDS say of a scan, as values of closed vocabularies and hashes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scanlore.errors import DataError
from scanlore.scans.metadata import Metadata, hashed
from scanlore.scans.vocabulary import (
    age_band,
    age_of,
    body_part_of,
    contrast_of,
    field_strength_of,
    modality_of,
    sequence_of,
    sex_of,
    vendor_of,
)

LONGEST_SIDECAR = 1 << 20
_ENDINGS = re.compile(r"(\.nii|\.mgh)?\.[^.]*$")
_NO_AGENT = ("none", "no", "n/a", "na", "0")

NAMED_MODALITIES = frozenset(("MR", "CT", "PT", "DX"))
"""Codes that the name of a file is believed on: others are two letters that may be anybody's initials."""


def bids_metadata(path: Path, salt: bytes | None, read: Callable[[Path, int], bytes] | None = None) -> Metadata:
    """Return what is known of a scan from its name, those of its folders and the JSON file beside it.

    In a name such as `sub-01_ses-2_ce-gad_T1w.nii.gz`, `sub` is the patient, with `ses` the study, `ce` the contrast
    medium, and the last word the sequence. In any other name, words such as `T1`, `FLAIR`, `CT` or `liver` count.

    Args:
        path: The file, or its name in an archive.
        salt: Secret of the project; without it there are no hashes.
        read: Returns the first bytes of a file; by default from disk.
    """
    stem = _ENDINGS.sub("", path.name)
    entities = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
    for key in ("sub", "ses"):
        in_folders = (re.fullmatch(rf"{key}[-_](\w+)", folder) for folder in reversed(path.parent.parts))
        entities.setdefault(key, next((match[1] for match in in_folders if match), ""))
    words = stem.rpartition("_")[2] if "sub-" in stem else stem
    sidecar = _sidecar(path.with_name(f"{stem}.json"), read or _read_start)
    sequence = sequence_of(words)
    patient, session = entities["sub"], entities["ses"]
    return Metadata(
        modality=modality_of(sidecar.get("Modality")) or _named_modality(words, sequence),
        sequence=sequence,
        body_part=body_part_of(sidecar.get("BodyPartExamined"), words),
        contrast=_contrast(entities.get("ce"), sidecar.get("ContrastBolusIngredient"), words),
        vendor=vendor_of(sidecar.get("Manufacturer")),
        field_strength=field_strength_of(sidecar.get("MagneticFieldStrength")),
        sex=sex_of(sidecar.get("PatientSex")),
        age_band=age_band(age_of(sidecar.get("PatientAge"))),
        site=hashed(salt, sidecar.get("InstitutionName")),
        patient=hashed(salt, patient),
        study=hashed(salt, f"{patient}_ses-{session}" if patient and session else None),
    )


def _named_modality(words: str, sequence: str | None) -> str | None:
    if sequence:
        return "MR"
    named = {modality_of(word) for word in re.split(r"[\W_]+", words)} & NAMED_MODALITIES
    return named.pop() if len(named) == 1 else None


def _contrast(entity: str | None, agent: object, words: str) -> bool | None:
    for said in (entity, agent):
        if said:
            return str(said).strip().lower() not in _NO_AGENT and contrast_of(said) is not False
    return contrast_of(words)


def _sidecar(path: Path, read: Callable[[Path, int], bytes]) -> dict[str, Any]:
    """Return the texts and numbers of the JSON file; nothing where there is none or it is damaged."""
    try:
        found = json.loads(read(path, LONGEST_SIDECAR))
    except (DataError, OSError, ValueError, RecursionError):
        return {}
    values = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in values if isinstance(value, str | int | float)}


def _read_start(path: Path, num_bytes: int) -> bytes:
    if not path.is_file():  # a pipe would never answer
        return b""
    with path.open("rb") as file:
        return file.read(num_bytes)
