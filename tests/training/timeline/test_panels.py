"""Small multiples: places of curves, bands, decided and open stretches, by hand."""

from __future__ import annotations

from tests.support.windows import EMOTION, TRAITS, window, with_sadness
from training.timeline.panels import HEIGHT, WIDTH, panels


def test_few_windows_are_a_line_without_a_band() -> None:
    anger, sadness, neutral = panels("emotion", EMOTION, with_sadness(0.25, 0.75))
    # middles at 5 and 15 of 20 s; 0.25 and 0.75 of the height, from the top
    assert sadness.curve == f"{WIDTH / 4:.1f},{0.75 * HEIGHT:.1f} {0.75 * WIDTH:.1f},{0.25 * HEIGHT:.1f}"
    assert (sadness.windows, sadness.band, sadness.mean) == ("", "", 0.5)
    assert sadness.decided == ((WIDTH / 2, WIDTH / 2),)
    assert sadness.threshold == 0.75 * HEIGHT
    assert neutral.decided == ((0.0, WIDTH),)
    assert (anger.decided, anger.open) == ((), ())


def test_many_windows_are_smoothed_within_a_band_and_not_all_are_drawn() -> None:
    _, sadness, _ = panels("emotion", EMOTION, with_sadness(*[0.1, 0.9] * 10))
    assert len(sadness.windows.split()) == len(sadness.curve.split()) == 20
    assert len(sadness.band.split()) == 40
    inner = [float(point.split(",")[1]) / HEIGHT for point in sadness.curve.split()[3:-3]]
    assert all(0.4 < down < 0.6 for down in inner)
    _, long, _ = panels("emotion", EMOTION, with_sadness(*[0.1, 0.9] * 200))
    assert (len(long.curve.split()), long.windows) == (220, "")


def test_the_band_of_a_trait_is_its_interval() -> None:
    clips = [window(number, "traits", openness=0.5, extraversion=0.5) for number in range(2)]
    for clip in clips:
        clip["tasks"]["traits"]["intervals"] = {"openness": [0.25, 0.75]}
    openness, extraversion = panels("traits", TRAITS, clips)
    places = [float(point.split(",")[1]) / HEIGHT for point in openness.band.split()]
    assert places == [0.25, 0.25, 0.75, 0.75]
    assert extraversion.band == ""
    assert openness.threshold is None
    assert openness.decided == ()


def test_what_sets_leave_open_is_marked() -> None:
    clips = with_sadness(0.4, 0.4)
    for clip, states in zip(clips, (["absent"], ["absent", "present"]), strict=True):
        clip["tasks"]["emotion"]["label_sets"] = {"Anger": ["absent"], "Sadness": states, "Neutral": ["present"]}
    assert panels("emotion", EMOTION, clips)[1].open == ((WIDTH / 2, WIDTH / 2),)
