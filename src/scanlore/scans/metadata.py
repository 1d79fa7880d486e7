"""What is kept of a scan's header: values of closed vocabularies and salted hashes, never the header's own words."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

HASH_DIGITS = 16


@dataclass(frozen=True)
class Metadata:
    """Facts of a scan that name nobody.

    Every text comes from a closed vocabulary of `scanlore.scans.vocabulary`; identities are salted hashes, and `None`
    where no salt was given.

    Attributes:
        modality: DICOM code: `MR`, `CT`, `PT`, `US`, `DX` ...
        sequence: MR sequence, one of `vocabulary.SEQUENCES`.
        body_part: One of `vocabulary.BODY_PARTS`.
        contrast: Whether contrast medium was given.
        scout: Whether it is a localiser.
        vendor: One of `vocabulary.VENDORS`, or `other`.
        field_strength: Of an MR scanner, in tesla, rounded to a tenth.
        sex: `F`, `M` or `O`.
        age_band: Five years, such as `45-49`; `90+` from 90 on.
        site: Hash of the institution.
        patient: Hash of the patient id.
        study: Hash of the study.
        series: Hash of the series.
    """

    modality: str | None = None
    sequence: str | None = None
    body_part: str | None = None
    contrast: bool | None = None
    scout: bool | None = None
    vendor: str | None = None
    field_strength: float | None = None
    sex: str | None = None
    age_band: str | None = None
    site: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None


def hashed(salt: bytes | None, identity: object) -> str | None:
    """Return the salted hash of an identity as 16 hexadecimal digits; `None` without a salt or an identity.

    Args:
        salt: Secret of the project.
        identity: Such as a patient id; surrounding blanks do not count.
    """
    text = "" if identity is None else str(identity).strip()
    if salt is None or not text:
        return None
    return hashlib.blake2b(salt + text.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_DIGITS]


def stem(name: str) -> str:
    """Return a file name without its extension, `.nii.gz` being one."""
    return re.sub(r"(\.nii)?\.[^.]+$", "", name)
