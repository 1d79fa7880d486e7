from scanlore.corpus.draws import draw

DRAWN = 0.37205882116253264


def test_draws_never_change():
    assert draw(0, "nlst", "p1") == DRAWN
    assert draw(1, "nlst", "p1") != DRAWN != draw(0, "nlst", "p2")


def test_draws_are_uniform():
    numbers = sorted(draw(0, unit) for unit in range(2000))
    assert all(abs(number - place / 2000) < 0.05 for place, number in enumerate(numbers))
    assert 0 <= numbers[0] <= numbers[-1] < 1
