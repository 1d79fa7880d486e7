from scanlore.corpus.settings import CorpusSettings


def test_defaults_are_3dinos():
    curation = CorpusSettings().curation
    assert (curation.slices_above, curation.highres_above) == (24, 48)
