"""What a DICOM header says about a scan, in closed vocabularies and salted hashes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from scanlore.scans.dicom_tags import number, words
from scanlore.scans.metadata import Metadata, hashed
from scanlore.scans.vocabulary import (
    age_band,
    age_of,
    body_part_of,
    contrast_of,
    field_strength_of,
    modality_of,
    scout_of,
    sequence_of,
    sex_of,
    vendor_of,
)

DAYS_PER_YEAR = 365.25

_NO_AGENT = ("no", "none", "n", "n/a", "na", "0", "without", "no contrast", "ohne", "null", "unknown")


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a scan before any salt.

    Attributes:
        facts: From closed vocabularies.
        site: Institution, as the header names it; kept in memory alone, as the following ones.
        patient: Patient id.
        study: Unique identifier of the study.
        series: Unique identifier of the series.
    """

    facts: Metadata
    site: str = field(repr=False)
    patient: str = field(repr=False)
    study: str = field(repr=False)
    series: str = field(repr=False)

    def hashed(self, salt: bytes | None) -> Metadata:
        """Return the metadata with the salted hashes of the identities."""
        return replace(
            self.facts,
            site=hashed(salt, self.site),
            patient=hashed(salt, self.patient),
            study=hashed(salt, self.study),
            series=hashed(salt, self.series),
        )


def identity_of(dataset: Any) -> Identity:
    """Return what the header of one file says about its scan.

    Args:
        dataset: With at least `HEADER_TAGS`.
    """

    def said(keyword: str) -> str:
        return words(dataset, keyword)

    return Identity(
        facts=_facts(dataset),
        site=said("InstitutionName"),
        patient=said("PatientID").removeprefix("sub-"),
        study=said("StudyInstanceUID"),
        series=said("SeriesInstanceUID"),
    )


def sequence_of_times(
    kinds: str, repetition: float | None, echo: float | None, inversion: float | None, b_value: float | None
) -> str | None:
    """Return the MR sequence that the timing of clinical protocols at 1.5 and 3 tesla points to.

    Args:
        kinds: Scanning sequence: `SE`, `IR`, `GR`, `EP`, parted by backslashes.
        repetition: Repetition time in ms.
        echo: Echo time in ms.
        inversion: Inversion time in ms.
        b_value: Diffusion weighting in s/mm².
    """
    parts = set(kinds.upper().split("\\"))
    if b_value is not None and "EP" in parts:
        return "DWI"
    if not repetition or not echo or "EP" in parts:
        return None
    if "IR" in parts and inversion:
        return _inversion_sequence("GR" in parts, echo, inversion)
    if "GR" in parts:
        return "T2star" if echo > 15 else "T1" if echo < 10 else None
    if "SE" in parts:
        return _spin_echo_sequence(repetition, echo)
    return None


def _inversion_sequence(is_gradient: bool, echo: float, inversion: float) -> str | None:
    if is_gradient:
        return "T1" if echo < 10 else None
    if inversion < 300:
        return "STIR"
    if inversion >= 1500:
        return "T2-FLAIR" if echo > 60 else None
    return "T1-FLAIR" if echo < 40 else None


def _spin_echo_sequence(repetition: float, echo: float) -> str | None:
    if repetition < 1000:
        return "T1" if echo < 40 else None
    if repetition >= 1800:
        return "T2" if echo >= 60 else "PD" if echo < 40 else None
    return None


def _facts(dataset: Any) -> Metadata:
    series = [words(dataset, keyword) for keyword in ("SeriesDescription", "ProtocolName")]
    modality = modality_of(words(dataset, "Modality"))
    places = (
        "BodyPartExamined",
        "SeriesDescription",
        "ProtocolName",
        "StudyDescription",
        "RequestedProcedureDescription",
    )
    return Metadata(
        modality=modality,
        sequence=_sequence(dataset, series) if modality == "MR" else None,
        body_part=body_part_of(*(words(dataset, keyword) for keyword in places)),
        contrast=_contrast(words(dataset, "ContrastBolusAgent"), series),
        scout=_scout(words(dataset, "ImageType"), series),
        vendor=vendor_of(words(dataset, "Manufacturer")),
        field_strength=field_strength_of(words(dataset, "MagneticFieldStrength")) if modality == "MR" else None,
        sex=sex_of(words(dataset, "PatientSex")),
        age_band=age_band(_age(dataset)),
    )


def _sequence(dataset: Any, series: list[str]) -> str | None:
    said = sequence_of(*series, words(dataset, "SequenceName"), words(dataset, "PulseSequenceName"))
    if said:
        return said
    times = []
    for keyword in ("RepetitionTime", "EchoTime", "InversionTime", "DiffusionBValue"):
        try:
            times.append(number(dataset, keyword))
        except ValueError:
            times.append(None)
    return sequence_of_times(words(dataset, "ScanningSequence"), *times)


def _contrast(agent: str, series: list[str]) -> bool | None:
    if agent:
        return agent.lower() not in _NO_AGENT
    return contrast_of(*series)


def _scout(image_type: str, series: list[str]) -> bool | None:
    found = scout_of(image_type, *series)
    return False if found is None and image_type else found


def _age(dataset: Any) -> float | None:
    age = age_of(words(dataset, "PatientAge"))
    if age is not None:
        return age
    born = _date(words(dataset, "PatientBirthDate"))
    days = (_date(words(dataset, keyword)) for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"))
    day = next(filter(None, days), None)
    return (day - born).days / DAYS_PER_YEAR if born and day else None


def _date(text: str) -> date | None:
    digits = text.replace(".", "").replace("-", "")[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
