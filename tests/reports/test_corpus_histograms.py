import numpy as np
import pytest

from scanlore.corpus.index import index_frame
from scanlore.reports.corpus_counts import described
from scanlore.reports.corpus_histograms import ages, bin_edges, geometry_panels
from stored_rows import row

PALETTE = {"MR": "c0", "CT": "c1", "unknown": "unknown"}
SEXES = {"F": "c0", "M": "c1", "unknown": "unknown"}


def panels_of(*rows):
    return geometry_panels(described(index_frame(rows)), PALETTE)


def counts(histogram):
    return [column.count for column in histogram.columns if column.count]


def test_every_axis_of_every_quantity():
    panels = panels_of(row(0, spacing=[1.0, 1.0, 5.0]), row(1, shape=(9, 8)))
    assert [(panel.title, len(panel.histograms)) for panel in panels] == [
        ("Spacing of volumes (mm)", 3),
        ("Shape of volumes (voxels)", 3),
        ("Field of view of volumes (mm)", 3),
        ("Spacing of images (mm)", 2),
        ("Shape of images (pixels)", 2),
        ("Field of view of images (mm)", 2),
    ]


def test_columns_are_stacked_by_modality():
    rows = [row(n, modality=name) for n, name in enumerate(("MR", "CT", "CT", None))]
    (column,) = [one for one in panels_of(*rows)[1].histograms[0].columns if one.count]
    assert [(part.label, part.count) for part in column.parts] == [("MR", 1), ("CT", 2), ("unknown", 1)]
    assert column.share == 1.0


def test_unknown_spacing_is_counted():
    spacing, shape, view = (panel.histograms[2] for panel in panels_of(row(0, spacing=[1.0, 1.0, 2.0]), row(1)))
    assert (spacing.num_unknown, shape.num_unknown, view.num_unknown) == (1, 0, 1)
    assert spacing.note == "2 throughout"
    assert view.note == "60 throughout"


def test_spacing_unknown_throughout_draws_nothing():
    histogram = panels_of(row(0))[0].histograms[0]
    assert (histogram.columns, histogram.num_unknown) == ((), 1)


def test_no_value_is_lost_beyond_the_end_columns():
    sizes = [*range(40, 60)] * 20 + [5, 900]
    histogram = panels_of(*(row(n, shape=(size, 50, 50)) for n, size in enumerate(sizes)))[1].histograms[0]
    assert sum(counts(histogram)) == len(sizes)
    assert histogram.note == "median 49.5, from 5 to 900"
    assert histogram.columns[-1].label.endswith("and more")
    assert histogram.columns[0].label.startswith("under")


@pytest.mark.parametrize("values", [[1.0], [0.2, 0.2], [0.0], [40, 512], [0.3, 0.5, 6.0], [1, 1000], [0.0, 900.0]])
def test_edges_hold_all_values(values):
    edges = bin_edges(np.array(values, dtype=float))
    assert (np.diff(edges) > 0).all()
    assert edges[0] <= min(values)
    assert edges[-1] >= max(values) * (1 - 1e-9)
    assert 3 <= len(edges) <= 30


def test_wide_ranges_have_equal_factors():
    edges = bin_edges(np.array([0.1, 10.0]))
    assert np.allclose(edges[1:] / edges[:-1], edges[1] / edges[0])
    assert bin_edges(np.array([np.nan])).size == 0


@pytest.mark.parametrize("shapes", [(30, 40), (10, 5000)])
def test_ticks_lie_where_their_numbers_are(shapes):
    histogram = panels_of(*(row(n, shape=(size, 50, 50)) for n, size in enumerate(shapes)))[1].histograms[0]
    marks = [float(text.replace(",", "")) for _, text in histogram.ticks]
    assert 2 <= len(marks) <= 8
    assert marks == sorted(marks)
    assert all(0 <= place <= 1 for place, _ in histogram.ticks)


def test_ages_by_sex_with_empty_bands_between():
    known = [("40-44", "F"), ("40-44", "M"), ("50-54", None), (None, "F"), ("90+", "F")]
    frame = described(index_frame([row(n, age_band=band, sex=sex) for n, (band, sex) in enumerate(known)]))
    histogram = ages(frame, SEXES)
    assert [column.count for column in histogram.columns] == [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (histogram.columns[0].label, histogram.columns[-1].label) == ("age 40-44", "age 90+")
    assert histogram.num_unknown == 1


def test_ages_that_nobody_knows():
    histogram = ages(described(index_frame([row(0)])), SEXES)
    assert (histogram.columns, histogram.ticks, histogram.num_unknown) == ((), (), 1)
