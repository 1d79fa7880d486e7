"""Tiny corpora for the tests of several rooms."""

from scanlore.corpus.build import BuildPlan, build
from scanlore.corpus.index import Corpus
from scanlore.corpus.prepare import Origin, given
from scanlore.corpus.settings import Curation
from scanlore.scans.find import find_sources

SALT = bytes(range(16))
SMALL = {"slices_above": 4, "highres_above": 11}
"""Rules under which volumes of a few voxels are kept."""


def given_of(folder, **known):
    """Return the scans of a folder on their way into a corpus."""
    return [given(source, Origin(SALT, **known)) for source in find_sources([folder])[0]]


def build_tiny(folder, out, workers=0, rules=None, skipped=(), **known):
    """Build a corpus in this process, or in `workers` others."""
    plan = BuildPlan(Curation.model_validate(SMALL if rules is None else rules), workers)
    return build(given_of(folder, **known), out, plan, skipped)


def rows_by_name(out, folder):
    """Return the rows of the index by the name of their file or folder, and channel."""
    names = {one.key: one.source.name.removeprefix(one.source.path.parent.as_posix() + "/") for one in given_of(folder)}
    return {(names[row["source"]], row["channel"]): row for row in Corpus(out).frame().to_dicts()}
