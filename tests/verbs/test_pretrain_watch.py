from scanlore.modelfolder.start_settings import StartSettings
from scanlore.verbs.pretrain_watch import Guard


def judged(accuracies, **settings):
    guard = Guard(StartSettings(**settings))
    return [guard.judge(step, accuracy) for step, accuracy in enumerate(accuracies)]


def test_the_guard_is_silent_while_it_gets_better_or_stays():
    assert judged([0.7, 0.69, 0.75, 0.7]) == [None] * 4


def test_the_guard_waits_for_its_patience_and_says_what_was_best():
    *silent, warning = judged([0.7, 0.72, 0.6, 0.59], guard_patience=2)
    assert silent == [None] * 3
    assert "0.590, below the 0.700" in warning
    assert "best was 0.720 at step 1" in warning


def test_one_good_look_resets_the_guard():
    assert judged([0.7, 0.6, 0.7, 0.6], guard_patience=2) == [None] * 4


def test_the_guard_speaks_at_every_further_bad_look():
    assert [bool(text) for text in judged([0.7, 0.5, 0.5, 0.5], guard_patience=2)] == [False, False, True, True]
