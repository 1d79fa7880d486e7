"""Closed vocabularies, and the only way from what a header, a name or a table says to a value that is kept.

Every function returns `None` for what it does not know, so that no word of its input is ever passed on.
"""

from __future__ import annotations

import math
import re

MODALITIES = (
    *("MR", "CT", "PT", "NM", "US", "DX", "CR", "MG", "XA", "RF", "IO", "PX", "RG"),
    *("ES", "XC", "OP", "OPT", "DMS", "GM", "SM", "IVUS", "IVOCT", "BMD", "OT"),
)
"""DICOM's codes of what makes images."""

SEQUENCES = (
    *("T1", "T1-FLAIR", "T2", "T2-FLAIR", "T2star", "PD", "STIR", "DWI", "ADC", "FA", "SWI", "MRA", "BOLD"),
    *("ASL", "perfusion", "fieldmap", "MRCP", "T1map", "T2map"),
)
"""MR sequences; with S3D's `T1`, `T2`, `T1-FLAIR` and `T2-FLAIR` among them."""

VENDORS = (
    *("siemens", "ge", "philips", "canon", "toshiba", "hitachi", "fujifilm", "united-imaging", "hologic", "agfa"),
    *("carestream", "konica-minolta", "samsung", "mindray", "bruker", "esaote", "neusoft", "shimadzu", "varian"),
    *("elekta", "accuray", "hyperfine", "other"),
)

BODY_PARTS = (
    *("brain", "head", "neck", "head-neck", "eye", "ear", "jaw", "thyroid", "spine", "breast", "heart", "lung"),
    *("chest", "liver", "kidney", "pancreas", "colon", "abdomen", "torso", "prostate", "uterus", "bladder"),
    *("pelvis", "hip", "shoulder", "arm", "elbow", "wrist", "hand", "leg", "knee", "ankle", "foot"),
    *("skin", "whole-body"),
)

SEXES = ("F", "M", "O")

LONGEST_TEXT = 200
"""Characters that are looked at."""

OLDEST_BAND = 90
BAND_YEARS = 5
OLDEST_AGE = 130
"""Years beyond this are a mistake."""

GAUSS_ABOVE = 100
"""No scanner has as many tesla, so a larger field strength is in gauss."""

STRONGEST_FIELD = 25

_PLANES = r"(?:ax|axial|tra|sag|cor|inplane|uni|fs|2d|3d|w)?"

_SEQUENCE_WORDS = (
    ("ADC", r"\badc\w*|apparent diffusion"),
    ("FA", r"\b(?:col)?fa\b|fractional anisotropy"),
    ("ASL", r"\bp?c?asl\w*|arterial spin|\bcasl\b"),
    ("perfusion", r"\bperf|\b(?:pwi|dsc|dce|r?cbf|r?cbv|mtt|ttp|tmax)\b"),
    ("BOLD", r"bold\b|\w*fmri|\bfunc\b|resting ?state|\brest(?:ing)? ?state\b"),
    ("DWI", r"dwi\b|\bdti\w*|\bdiff(?:usion)?\b|\w*trace[wi]?\w*|\bhardi\b|\bdsi\b|\bb ?\d{3,4}s?\b|\bdw\b"),
    ("SWI", r"\bswi\w*|\bswan\b|\bqsm\b|\bsusceptib\w*"),
    ("MRCP", r"\bmrcp\w*"),
    ("MRA", r"\bmr[av]\b|\btof\w*|time of flight|\bangio\w*"),
    ("fieldmap", r"field ?map\w*|\bb[01] ?map\w*|\bphasediff\b"),
    ("T1map", r"\bt1 ?map\w*|\bmolli\w*"),
    ("T2map", r"\bt2 ?(?:star|\*)? ?map\w*"),
    ("T1-FLAIR", rf"\b{_PLANES}t1(?!\d).*flair|flair.*\bt1(?!\d)"),
    ("T2-FLAIR", r"flair|dark ?fluid"),
    ("STIR", r"\bstir\b|\btirm\b"),
    ("T2star", rf"\b{_PLANES}t2 ?(?:star|\*)\w*|\bt2s\b|\bhemo\b|\bmedic\b"),
)
"""Tried in this order: what is more particular comes first."""

_WEIGHTINGS = (
    (
        "T1",
        rf"\b{_PLANES}t1(?!\d)\w*|\bmp2?rage\w*|\bi?r?f?spgr\w*|\bbravo\b|\bmdeft\b|\btfl\w*"
        r"|\bvibe\w*|\blava\w*|\be?thrive\w*",
    ),
    ("T2", rf"\b{_PLANES}t2(?!\d)\w*|\bhaste\w*|\bssfse\b|\bciss\b|\bfiesta\w*"),
    ("PD", r"\bpd\w*|proton ?dens\w*"),
)

_MODALITY_WORDS = (
    ("PT", r"\bpet\b|\bpt\b|\bf?18f?dg\b|\bfdg\b"),
    ("CT", r"\b(?:ct|cta|ncct|cect|hrct|cbct|ldct|qct)\b|computed tomography"),
    ("MR", r"\b(?:mri?|fmri|mra|mrcp|mrv|kspace)\b|magnetic resonance"),
    ("MG", r"\bmammo\w*|\bmg\b|\bdbt\b"),
    ("DX", r"\bx ?rays?\b|\bcxr\b|\bradiogra\w*|\bdx\b|\bröntgen\w*|\broentgen\w*"),
    ("CR", r"\bcr\b|computed radiography"),
    ("NM", r"\bspect\b|\bscintigra\w*|\bnm\b"),
    ("US", r"\bultraso\w*|\bsonogra\w*|\bus\b|\becho(?:cardio\w*)?\b"),
    ("XA", r"\bdsa\b|\bxa\b|x ?ray angio\w*"),
    ("RF", r"\bfluoro\w*|\brf\b"),
    ("OPT", r"\boct\b|\bopt\b|coherence tomography"),
    ("OP", r"\bfundus\w*|\bop\b|\bophthalm\w*|\bretina\w*"),
    ("DMS", r"\bdermo?s?[ac]?t?o?\w*scop\w*|\bdms\b"),
    ("ES", r"\bendoscop\w*|\bcolonoscop\w*|\bes\b"),
    ("SM", r"\bhistolog\w*|\bpatholog\w*|\bsm\b|\bslide\b"),
    ("GM", r"\bmicroscop\w*|\bgm\b"),
)

_AGENT = r"(?:contrast|gad\w*|gd|km|ce)"
_BOTH_CONTRASTS = r"\b(?:without|wo|ohne|pre|before) (?:and |und |\+ )?(?:with|w|mit|post|after)\b"
_WITHOUT_CONTRAST = (
    rf"\bpre ?{_AGENT}?\b|\b(?:without|wo|ohne|sans|no|non?) ?(?:iv )?{_AGENT}\w*|\bwo\b"
    r"|\bnon ?enhanced\w*|\bunenhanced\b|\bplain\b|\bnativ\w*|\bncct\b|\bnect\b|\bt1n\b"
)
_WITH_CONTRAST = (
    r"\bpost(?! ?op)(?!erior)\w*|\bgd\b|\bgad[ao]?\w*|\bcontrast\w*|\+ ?(?:c|gd|km|ce|contrast)\b|\bc\+"
    r"|\b(?:t1|mp2?rage|vibe|bravo)\w*? ?(?:ce|gd|km)\b|\bt1c\b|\bkm\b|\bce\b|\bcemra\b|\bcect\b|\benhanced\b"
    r"|\bdotarem\b|\bmagnevist\b|\bprimovist\b|\bmultihance\b|\bomniscan\b|\bprohance\b|\bclariscan\b|\beovist\b"
    r"|\bomnipaque\b|\biso?vue\b|\bvisipaque\b|\bultravist\b|\bb?io?meron\b|\bimeron\b|\biohexol\b|\biopamid\w*"
    r"|\bportal ?venous\b|\barterial(?! spin)\b|\bvenous\b|\bnephrogra\w*|\bcta\b"
)

_BODY_WORDS = (
    ("whole-body", r"whole ?body|ganzk(?:ö|oe)rper|\bwb\b"),
    ("head-neck", r"head ?(?:and )?neck|hals ?kopf|kopf ?hals"),
    ("torso", r"\btorso\b|\btrunk\b|\b[ct]ap\b|(?:chest|thorax).*abd\w*|abd\w*.*(?:chest|thorax)"),
    (
        "brain",
        r"brain|\bcerebr\w*|\bgehirn\b|\bhirn\w*|\bneuro\w*|\bhippocamp\w*|\bpituitary\b|\bsella\b|\bhypophys\w*",
    ),
    ("eye", r"\beyes?\b|\borbit\w*|\bretina\w*|\bfundus\b"),
    ("ear", r"\bears?\b|\biac\b|\btemporal ?bone\b|\binner ?ear\b|\bfelsenbein\w*"),
    ("jaw", r"\bjaw\w*|\bmandib\w*|\bmaxill\w*|\btmj\b|\bteeth\b|\bdental\w*"),
    ("thyroid", r"\bthyroid\w*|\bschilddr\w*"),
    ("spine", r"spine\w*|\bspinal\b|\bvertebra\w*|\blumbar\b|\bcervical spine\b|\bsacrum\b|\b[hbl]ws\b|\bwirbel\w*"),
    ("breast", r"breast\w*|\bmamm\w*"),
    ("heart", r"\bheart\b|\bcardi\w*|\bherz\w*|\bcoronary\b|\bmyocard\w*|\bcmr\b|\bventric(?:le|les|ular)\b"),
    ("lung", r"\blungs?\b|\bpulmon\w*|\blunge\w*"),
    ("liver", r"\bliver\b|\bhepat\w*|\bleber\w*"),
    ("kidney", r"\bkidneys?\b|\brenal\b|\bniere\w*"),
    ("pancreas", r"\bpancrea\w*|\bpankrea\w*"),
    ("colon", r"\bcolon\w*|\bbowel\b|\brectum\b|\bdarm\b"),
    ("prostate", r"\bprostat\w*"),
    ("uterus", r"\buter\w*|\bcervix\b|\bovar\w*"),
    ("bladder", r"\b(?:urinary ?)?bladder\b|\bharnblase\w*"),
    ("chest", r"\bchest\w*|\bthora\w*|\bcxr\b|\bribs?\b|\bmediastin\w*"),
    ("abdomen", r"\babd(?:o|omen|ominal|omenpelvis)?\b|\bspleen\b|\boberbauch\b|\bbauch\b|\badrenal\w*"),
    ("pelvis", r"\bpelvi\w*|\bbecken\w*"),
    ("hip", r"\bhips?\b|\bh(?:ü|ue)fte?\w*"),
    ("shoulder", r"\bshoulders?\b|\bschulter\w*|\bclavicle\w*|\bscapula\w*"),
    ("elbow", r"\belbows?\b|\bell(?:en)?bogen\w*"),
    ("wrist", r"\bwrists?\b|\bhandgelenk\w*"),
    ("hand", r"\bhands?\b|\bfingers?\b|\bthumb\b"),
    ("knee", r"\bknees?\b|\bknie\w*|\bmenisc\w*|\bpatella\w*"),
    ("ankle", r"\bankles?\b|\bsprunggelenk\w*"),
    ("foot", r"\bfoot\b|\bfeet\b|\btoes?\b|\bfuss\w*|\bfuß\w*|\bcalcaneus\b"),
    ("leg", r"\blegs?\b|\bfemur\b|\bthighs?\b|\btibia\b|\bfibula\b|\bcal(?:f|ves)\b|\blower ?(?:extremity|limb)\w*"),
    ("arm", r"\barms?\b|\bhumerus\b|\bforearm\b|\bradius\b|\bulna\b|\bupper ?(?:extremity|limb)\w*"),
    ("skin", r"\bskin\b|\bderm\w*"),
    ("neck", r"\bneck\b|\bcarotid\w*|\blarynx\b|\bpharynx\b|\bhals\w*"),
    ("head", r"\bheads?\b|\bskull\b|\bcrani\w*|\bkopf\w*|\bsch(?:ä|ae)del\w*|\bsinus\w*|\bface\b|\bfacial\b"),
)
"""Tried in this order: an organ before the region it lies in."""

_SCOUT_WORDS = r"locali[sz]\w*|\bloc\b|\bscouts?\w*|\btopogram\w*|\bsurv(?:iew|ey)\w*|\bscano\w*|\b3 ?(?:pl|plane)\w*"

_VENDOR_WORDS = (
    ("siemens", r"siemens"),
    ("ge", r"\bge\b|\bgems\b|\bgehc\b|general electric"),
    ("philips", r"philips|\bphillips\b|picker|marconi"),
    ("toshiba", r"toshiba"),
    ("canon", r"\bcanon\b"),
    ("hitachi", r"hitachi"),
    ("fujifilm", r"fuji"),
    ("united-imaging", r"united ?imaging|\buih\b"),
    ("hologic", r"hologic|lorad"),
    ("agfa", r"agfa"),
    ("carestream", r"carestream|kodak"),
    ("konica-minolta", r"konica|minolta"),
    ("samsung", r"samsung|medison"),
    ("mindray", r"mindray"),
    ("bruker", r"bruker"),
    ("esaote", r"esaote"),
    ("neusoft", r"neusoft"),
    ("shimadzu", r"shimadzu"),
    ("varian", r"varian"),
    ("elekta", r"elekta"),
    ("accuray", r"accuray"),
    ("hyperfine", r"hyperfine"),
)

_SEX_WORDS = {
    "F": ("f", "female", "w", "woman", "weiblich", "girl"),
    "M": ("m", "male", "man", "männlich", "maennlich", "boy"),
    "O": ("o", "other", "d", "divers", "x"),
}

_YEARS_OF_UNIT = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}


def modality_of(text: object) -> str | None:
    """Return the DICOM code of a modality, one of `MODALITIES`.

    Args:
        text: A DICOM code, or words such as `MRI`, `T1w`, `chest X-ray`; several modalities at once are none.
    """
    code = _text(text).strip().upper()
    if code in MODALITIES:
        return code
    words = _words(text)
    found = [name for name, pattern in _MODALITY_WORDS if re.search(pattern, words)]
    if not found:
        return "MR" if sequence_of(text) else None
    return found[0] if len(found) == 1 else None


def sequence_of(*texts: object) -> str | None:
    """Return the MR sequence, one of `SEQUENCES`.

    Args:
        texts: Such as series description, protocol, BIDS suffix or the words of a file name, the most telling first:
            the first one that names a sequence decides.
    """
    return next((name for name in map(_one_sequence, texts) if name), None)


def _one_sequence(text: object) -> str | None:
    words = _words(text)
    for name, pattern in _SEQUENCE_WORDS:
        if re.search(pattern, words):
            return name
    found = [name for name, pattern in _WEIGHTINGS if re.search(pattern, words)]
    return found[0] if len(found) == 1 else None


def contrast_of(*texts: object) -> bool | None:
    """Return whether contrast medium was given.

    Args:
        texts: As in `sequence_of`; one that says both (`without and with contrast`) says nothing.
    """
    for text in texts:
        words = re.sub(_BOTH_CONTRASTS, "with without contrast", _words(text))
        rest, num_without = re.subn(_WITHOUT_CONTRAST, " ", words)
        is_with = re.search(_WITH_CONTRAST, rest) is not None
        if is_with != (num_without > 0):
            return is_with
    return None


def body_part_of(*texts: object) -> str | None:
    """Return the body part, one of `BODY_PARTS`.

    Args:
        texts: DICOM's code, descriptions, words of a file name, the most telling first.
    """
    for text in texts:
        words = _words(text)
        for name, pattern in _BODY_WORDS:
            if re.search(pattern, words):
                return name
    return None


def scout_of(*texts: object) -> bool | None:
    """Return `True` where a text says localiser, scout, topogram or survey; words never say that it is none.

    Args:
        texts: Such as series description, image type or the words of a file name.
    """
    return True if any(re.search(_SCOUT_WORDS, _words(text)) for text in texts) else None


def vendor_of(text: object) -> str | None:
    """Return the maker of a scanner, one of `VENDORS`: `other` for one that is not among them."""
    words = _words(text)
    found = (name for name, pattern in _VENDOR_WORDS if re.search(pattern, words))
    return next(found, "other" if words.strip() else None)


def sex_of(text: object) -> str | None:
    """Return `F`, `M` or `O`."""
    word = _text(text).strip().lower()
    return next((sex for sex, words in _SEX_WORDS.items() if word in words), None)


def age_band(years: float | None) -> str | None:
    """Return five years such as `45-49`, or `90+`; `None` for what is no age."""
    if years is None or not 0 <= years <= OLDEST_AGE:
        return None
    if years >= OLDEST_BAND:
        return f"{OLDEST_BAND}+"
    start = int(years) // BAND_YEARS * BAND_YEARS
    return f"{start}-{start + BAND_YEARS - 1}"


def age_of(text: object) -> float | None:
    """Return an age in years.

    Args:
        text: DICOM's form (`045Y`, `018M`, `006W`, `010D`), a number of years, a range of them (its middle), or an
            open one (`90+`, `>89`).
    """
    word = _text(text).strip().lower().replace(",", ".")
    if match := re.fullmatch(r"(\d+(?:\.\d+)?) ?([ymwd])(?:\w*)", word):
        years = float(match[1]) * _YEARS_OF_UNIT[match[2]]
    elif match := re.fullmatch(r"(\d+(?:\.\d+)?) ?- ?(\d+(?:\.\d+)?)", word):
        years = (float(match[1]) + float(match[2])) / 2
    elif match := re.fullmatch(r"(>=?|≥)? ?(\d+(?:\.\d+)?) ?\+?", word):
        years = float(match[2]) + (match[1] == ">")
    else:
        return None
    return years if years <= OLDEST_AGE else None


def field_strength_of(value: object) -> float | None:
    """Return a field strength in tesla, rounded to a tenth.

    Args:
        value: A number, or text such as `3T` or `1.5 Tesla`; more than `GAUSS_ABOVE` is in gauss.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:t|tesla|g|gauss)?", _text(value).strip().lower().replace(",", "."))
    if match is None:
        return None
    tesla = float(match[1]) / (10_000 if float(match[1]) > GAUSS_ABOVE else 1)
    return max(0.1, round(tesla, 1)) if 0 < tesla <= STRONGEST_FIELD else None


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)[:LONGEST_TEXT]


def _words(value: object) -> str:
    """Return lower-case words with one blank between them; `+` and `*` mean something and stay."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _text(value)).lower()
    return re.sub(r"(?:[^\w+*]|_)+", " ", text.replace("w/o", "wo"))
