import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from corpora import SALT
from factories import write_dicom_series, write_mask, write_nifti_file
from scanlore.corpus.index import Corpus
from scanlore.corpus.store import shard_path
from scanlore.errors import ConfigError, DataError
from scanlore.verbs.corpus_build import build_corpus, curate_corpus, preview_corpus
from scanlore.verbs.corpus_change import export_corpus, join_table, verify_corpus
from scanlore.verbs.corpus_sources import parse_spacing, split_name
from scanlore.verbs.corpus_split import parse_fractions, split_corpus

RULES = ["slices_above=4"]


@pytest.fixture
def scans(tmp_path):
    """Three patients: two scans of the first, a copy of the second's, a label map."""
    (tmp_path / "scanlore.salt").write_text(SALT.hex())
    folder = tmp_path / "scans"
    for number, name in enumerate(["sub-01_T1w", "sub-01_T2w", "sub-02_T1w", "sub-03_FLAIR"]):
        write_nifti_file(folder / f"{name}.nii.gz", seed=number)
    shutil.copy(folder / "sub-02_T1w.nii.gz", folder / "copy.nii.gz")
    write_mask(folder / "labels" / "sub-01_seg.nii.gz")
    return folder


@pytest.fixture
def corpus(scans, tmp_path):
    build_corpus(scans, tmp_path / "C", RULES, workers=1)
    return tmp_path / "C"


def column(corpus, name):
    return Corpus(corpus).frame([name])[name].to_list()


def cut(corpus):
    shard = shard_path(corpus, 0)
    os.truncate(shard, shard.stat().st_size // 2)


def test_bids_names_and_catalogue_give_metadata(corpus):
    assert set(column(corpus, "sequence")) == {"T1", "T2", "T2-FLAIR", None}
    assert len(set(column(corpus, "patient")) - {None}) == 3


def test_names_of_datasets():
    assert split_name("ours=some/where")[0] == "ours"
    assert split_name("some/where=else")[0] is None
    assert [parse_spacing(text) for text in (None, "header", "1,1,3")] == [None, "header", (1, 1, 3)]


@pytest.mark.parametrize("text", ["1,1", "0,1,1", "a", "1,1,-3", "nan,1,1"])
def test_what_is_no_spacing_is_refused(text):
    with pytest.raises(ConfigError, match="is no spacing"):
        parse_spacing(text)


def test_a_named_path_names_its_dataset(scans, tmp_path):
    build_corpus([f"ours={scans}"], tmp_path / "C", RULES, workers=1, licence="CC-BY-4.0")
    assert set(column(tmp_path / "C", "dataset")) == {"ours"}
    assert set(column(tmp_path / "C", "licence")) == {"CC-BY-4.0"}


def test_curate_reads_no_scan(corpus, scans):
    shutil.rmtree(scans)
    before = column(corpus, "status")
    dry = curate_corpus(corpus, None, ["slices_above=10"], dry_run=True)
    assert (dry.counts["kept"], column(corpus, "status")) == (0, before)
    assert curate_corpus(corpus, None, ["drop_duplicates=false"]).counts["kept"] == 5
    assert curate_corpus(corpus, None, ["drop_duplicates=true"]).changed == 1
    assert column(corpus, "status") == before


def test_curate_with_the_rules_of_a_paper(corpus):
    result = curate_corpus(corpus, "s3d")
    assert result.counts["kept"] == 0
    assert any("min_field_of_view_mm: 50" in rule for rule in result.rules)


@pytest.mark.parametrize(
    ("rules", "overrides", "said"),
    [("3dina", [], "no rules '3dina'.*3dino"), (None, ["slices_abov=1"], "slices_above"), (None, ["seed=x"], "seed")],
)
def test_wrong_rules_change_nothing(corpus, rules, overrides, said):
    before = (corpus / "index.parquet").read_bytes()
    with pytest.raises(ConfigError, match=said):
        curate_corpus(corpus, rules, overrides)
    assert (corpus / "index.parquet").read_bytes() == before


def test_preview_reads_headers_and_writes_nothing(scans, tmp_path):
    result = preview_corpus(scans, tmp_path / "new", ["slices_above=4"])
    assert (result.counts["kept"], result.from_headers) == (6, 6)
    assert not (tmp_path / "new").exists()
    assert preview_corpus(scans, tmp_path / "new", ["slices_above=10"]).counts["kept"] == 0


def test_preview_takes_known_scans_from_the_index(corpus, scans):
    result = preview_corpus(scans, corpus, RULES)
    assert (result.counts, result.from_headers) == ({"kept": 4, "dropped": 2, "failed": 0}, 0)


def test_join_by_patient_and_rules_follow(corpus, tmp_path):
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tsex\tage\nsub-01\tF\t47\nsub-02\tM\t91\n")
    report = join_table(corpus, table)
    assert report.on == "patient"
    assert set(column(corpus, "age_band")) == {"45-49", "90+", None}
    kept = curate_corpus(corpus, None, ["keep.sex=[F]"]).counts["kept"]
    assert kept == 2


def test_what_is_wrong_with_a_table_names_it(corpus, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("name,sex\nnobody,F\n")
    with pytest.raises(DataError, match=r"t\.csv: "):
        join_table(corpus, table, "name")
    with pytest.raises(ConfigError, match="--key: is needed"):
        join_table(corpus, table)


def test_a_split_by_patient_keeps_copies_and_patients_together(corpus):
    report = split_corpus(corpus, fractions={"train": 0.67, "test": 0.33})
    assert (sum(report.num_rows.values()), report.num_divided) == (4, 0)
    rows = Corpus(corpus).frame(["id", "split", "patient"]).drop_nulls().rows()
    assert len({(name, split) for name, split, _ in rows}) == len({name for name, _, _ in rows})
    assert len({(patient, split) for _, split, patient in rows}) == len({patient for _, _, patient in rows})


def test_a_table_of_parts_reaches_copies_and_says_what_it_divides(corpus, tmp_path):
    table = tmp_path / "parts.csv"
    table.write_text("path,fold\ncopy.nii.gz,test\nsub-01_T1w.nii.gz,train\nsub-01_T2w.nii.gz,test\n")
    report = split_corpus(corpus, table=table, key="path", column="fold")
    assert report.num_divided == 1  # the first patient
    twins = {(row["id"], row["split"]) for row in Corpus(corpus).frame(["id", "split"]).to_dicts()}
    assert len([name for name, split in twins if split == "test"]) == 2
    assert report.num_unassigned == 1


@pytest.mark.parametrize("arguments", [{"by": "patients"}, {"how": "randomly"}, {"how": "table"}])
def test_wrong_ways_to_split_are_refused(corpus, arguments):
    with pytest.raises(ConfigError):
        split_corpus(corpus, **arguments)


def test_fractions():
    assert parse_fractions("train=0.8, test=0.2") == {"train": 0.8, "test": 0.2}
    with pytest.raises(ConfigError, match="is no share: train"):
        parse_fractions("train")


def test_damage_is_found_and_mended_from_the_scans(corpus, scans):
    assert (verify_corpus(corpus).checked, verify_corpus(corpus).damaged) == (6, 0)
    cut(corpus)
    assert verify_corpus(corpus).damaged > 0
    with pytest.raises(DataError, match="corpus verify"):
        build_corpus(scans, corpus, workers=1)
    result = verify_corpus(corpus, [scans], workers=1)
    assert (result.mended > 0, result.lost, verify_corpus(corpus).damaged) == (True, 0, 0)
    assert column(corpus, "status").count("kept") == 4


def test_what_was_lost_can_be_mended_later(corpus, scans):
    cut(corpus)
    other = scans.parent / "elsewhere"
    write_nifti_file(other / "a.nii", seed=9)
    lost = verify_corpus(corpus, [other], workers=1)
    assert lost.lost > 0
    assert column(corpus, "rule").count("damaged in the store") >= lost.lost
    again = verify_corpus(corpus, [scans], workers=1)
    assert (again.mended, again.lost, verify_corpus(corpus).damaged) == (lost.lost, 0, 0)
    assert column(corpus, "status").count("kept") == 4


def test_mending_that_was_stopped_is_gone_on_with(corpus, scans, monkeypatch):
    cut(corpus)
    with monkeypatch.context() as patched:
        patched.setattr("scanlore.corpus.flags.write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            verify_corpus(corpus, [scans], workers=1)
    with pytest.raises(DataError, match="unfinished"):
        verify_corpus(corpus, [scans])
    build_corpus(scans, corpus, workers=1)
    verify_corpus(corpus, [scans], workers=1)
    assert verify_corpus(corpus).damaged == 0


def test_export_of_some_scans_and_their_masks_fit_each_other(corpus, tmp_path, scans):
    result = export_corpus(corpus, tmp_path / "E", ["sequence=T2"])
    assert result.num_files == 1
    export_corpus(corpus, tmp_path / "L", ["role=label", "status=dropped"])
    written = [nib.load(next((tmp_path / name).glob("*.nii.gz"))) for name in "EL"]
    originals = [nib.load(scans / "sub-01_T2w.nii.gz"), nib.load(scans / "labels" / "sub-01_seg.nii.gz")]
    for one, original in zip(written, originals, strict=True):
        np.testing.assert_array_equal(one.get_fdata(), nib.as_closest_canonical(original).get_fdata())


@pytest.mark.parametrize("where", ["modality", "modalty=MR", "spacing=1"])
def test_wrong_conditions_are_refused(corpus, tmp_path, where):
    with pytest.raises(ConfigError, match="is no condition"):
        export_corpus(corpus, tmp_path / "E", [where])
    assert not (tmp_path / "E").exists()


def test_a_corpus_below_the_scans_is_passed_over(scans):
    build_corpus(scans, scans / "C", RULES, workers=1)
    again = build_corpus(scans, scans / "C", workers=1)
    assert (again.num_new, again.skipped[0][1]) == (0, "a corpus, not scans")


def test_read_only_and_damaged_corpora_are_one_line(corpus):
    (corpus / "corpus.json").write_text(json.dumps({"format_version": 2, "salt": "a", "rules": {"foo": 1}}))
    with pytest.raises(ConfigError, match="foo"):
        curate_corpus(corpus)


def test_a_scheduler_that_is_not_there_leaves_nothing(scans, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match="no Dask scheduler answers"):
        build_corpus(scans, tmp_path / "D", RULES, scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "D").exists()


def test_a_sheared_scan_is_taken_when_told_so(tmp_path):
    path = write_nifti_file(tmp_path / "in" / "a.nii")
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 1] += 0.5
    nib.save(nib.Nifti1Image(np.array(image.dataobj), affine), path)  # not the mapped file itself
    write_dicom_series(tmp_path / "in" / "s")
    first = build_corpus(tmp_path / "in", tmp_path / "C", RULES, workers=1)
    assert first.counts == {"kept": 1, "dropped": 0, "failed": 1}
    second = build_corpus(tmp_path / "in", tmp_path / "C", workers=1, assume_spacing="header")
    assert (second.num_new, second.counts["kept"]) == (1, 2)
    assert any("assumed" in (problem or "") for problem in column(tmp_path / "C", "problems"))
