import base64
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from scanlore.corpus.index import index_frame
from scanlore.corpus.store import Pyramid, shard_path
from scanlore.reports.corpus_gallery import GAP, HEIGHT, MAX_BYTES, WIDTH, cards, choose, coarse_level, thumbnail
from stored_rows import dropped, failed, row, stored


def in_memory(voxels):
    return Pyramid(((1,) * voxels.ndim,), (voxels,), 1.0, 0.0)


def lit(image):
    """Return width and height of what is not black."""
    left, top, right, bottom = image.convert("L").point(lambda value: 255 * (value > 9)).getbbox()
    return right - left, bottom - top


def test_choice_is_even_over_datasets_and_statuses():
    rows = [row(n, dataset="large", shard=0) for n in range(50)]
    rows += [dropped(60 + n, dataset="large", shard=0) for n in range(20)]
    rows += [row(90 + n, dataset="small", shard=0) for n in range(6)] + [row(100, shard=0), failed(101)]
    chosen = choose(index_frame(rows), 13)
    assert Counter(chosen["dataset"]) == {"large": 6, "small": 6, None: 1}
    assert Counter(chosen.filter(dataset="large")["status"]) == {"kept": 3, "dropped": 3}


def test_choice_does_not_depend_on_the_order_of_rows():
    frame = index_frame([row(n, dataset="a", shard=0) for n in range(30)])
    assert choose(frame.reverse(), 5)["source"].to_list() == choose(frame, 5)["source"].to_list()


def test_all_are_chosen_when_they_are_few_and_stored():
    assert choose(index_frame([row(0, shard=0), dropped(1), failed(2)])).height == 1


def test_proportions_follow_the_spacing():
    image = thumbnail(in_memory(np.full((20, 20), 7) + np.eye(20)), (20.0, 40.0), is_label=False)
    assert image.size == (WIDTH, HEIGHT)
    width, height = lit(thumbnail(in_memory(np.eye(20)[::-1] + 1), (20.0, 40.0), is_label=False))
    assert width == pytest.approx(2 * height, abs=20)


def test_three_planes_share_one_scale():
    voxels = np.random.default_rng(0).integers(50, 99, (10, 20, 30))
    pixels = np.asarray(thumbnail(in_memory(voxels), (10.0, 20.0, 30.0), is_label=False))
    columns = np.flatnonzero((pixels > 0).any(0))
    gaps = np.flatnonzero(np.diff(columns) > 1)
    assert [len(part) for part in np.split(columns, gaps + 1)] == pytest.approx(
        [HEIGHT * w / 30 for w in (20, 10, 10)], abs=3
    )
    assert np.diff(columns).max() <= GAP + 3


def test_superior_is_up_and_the_patients_right_is_on_the_left():
    voxels = np.zeros((10, 10, 10))
    voxels[:5, :, 5:] = 1  # left half of the grid is the patient's left in RAS+, superior
    pixels = np.asarray(thumbnail(in_memory(voxels), (1.0, 1.0, 1.0), is_label=False))
    middle = pixels[:, WIDTH // 2 - 70 : WIDTH // 2 + 70]  # the coronal plane
    top, bottom = np.vsplit(middle, 2)
    assert top[:, 80:].mean() > 200
    assert top[:, :60].mean() < 20
    assert bottom.mean() < 20


def test_labels_have_colours():
    image = thumbnail(in_memory(np.repeat(np.arange(4), 4).reshape(4, 4).astype(np.uint8)), (4.0, 4.0), is_label=True)
    assert len(image.getcolors()) == 4


def test_a_constant_image_is_drawn():
    assert thumbnail(in_memory(np.zeros((5, 5))), (5.0, 5.0), is_label=False).getextrema() == (0, 0)


def test_level_is_coarse_but_fine_enough():
    sizes = (400, 200, 100, 50)
    levels = tuple(np.zeros((size, size), np.int16) for size in sizes)
    assert coarse_level(Pyramid(((1, 1),) * 4, levels, 1.0, 0.0)) == 2
    assert coarse_level(in_memory(np.zeros((9, 9)))) == 0


def test_cards_say_what_is_known(tmp_path):
    known = {"dataset": "OASIS", "modality": "MR", "sequence": "T1", "body_part": "brain", "spacing": [1.0, 1.0, 2.5]}
    frame = stored(tmp_path, [row(0, **known), dropped(1, channel=1, num_channels=2)])
    full, bare = cards(tmp_path, frame)
    assert full.facts == ("MR", "T1", "brain", "nifti")
    assert (full.shape, full.spacing, full.voxels, full.thickest) == ("40 x 50 x 30", "1 x 1 x 2.5 mm", 60000, 2.5)
    assert (full.thinnest, full.view, full.rule) == (30, 40.0, "")
    assert (bare.spacing, bare.thickest, bare.view) == ("spacing unknown", -1.0, -1.0)
    assert bare.name == f"{frame['source'][1][:10]} channel 2 of 2"
    assert bare.rule == "20 slices (slices_above: 24)"
    assert "slices_above" in bare.words


def test_pictures_are_small_jpegs(tmp_path):
    (card,) = cards(tmp_path, stored(tmp_path, [row(0)]))
    head, _, data = card.picture.partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (WIDTH, HEIGHT)


def test_noise_makes_no_large_pictures(tmp_path):
    noise = np.random.default_rng(0).integers(0, 999, (120, 180, 160)).astype(np.int16)
    (card,) = cards(tmp_path, stored(tmp_path, [row(0, noise.shape)], noise))
    assert len(card.picture) < 4 / 3 * MAX_BYTES + 30


def test_damage_leaves_a_card_without_a_picture(tmp_path):
    frame = stored(tmp_path, [row(0)])
    shard_path(tmp_path, 0).write_bytes(b"\0" * 100)
    assert cards(tmp_path, frame)[0].picture == ""
