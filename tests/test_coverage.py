"""A channel that some wells of a plate lack, and one that only some have."""

from pathlib import Path

from watched_plates import P1, Watched, name, picture

SETTINGS = {"expect": {"ignore_channels": ["7"]}}


def told(watched: Watched, well: str) -> list[str]:
    """What is said of channels in a well's result."""
    return [
        words for words in watched.closed[well].warnings if "lack it" in words or " was taken in this well" in words
    ]


def test_a_well_that_lacks_a_channel_says_so_and_the_plate_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for number, well in enumerate(("B02", "B03", "B04")):
        watched.well(well, seed=100 * number)
    watched.path(name("B03", 2)).unlink()
    watched.run(20)
    watched.clock.advance(watched.settings.expect.well_timeout_s)
    watched.run(60)
    assert told(watched, "B03") == ["no plane of ER was taken in this well, and 2 other wells have it"]
    assert told(watched, "B02") == told(watched, "B04") == []
    assert watched.news[P1].warnings == ("channel ER was imaged in 2 of 3 wells, not in B03",)


def test_a_channel_that_came_and_was_refused_is_not_missing(tmp_path: Path) -> None:
    watched = Watched(tmp_path, finite=True)
    for number, well in enumerate(("B02", "B03")):
        watched.well(well, seed=100 * number)
    watched.write(name("B03", 2), b"no image")
    watched.process()
    assert watched.reasons
    assert told(watched, "B03") == []
    assert watched.news[P1].warnings == ()


def test_an_ignored_channel_in_one_well_alone_is_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=SETTINGS, finite=True)
    for number, well in enumerate(("B02", "B03")):
        watched.well(well, seed=100 * number)
    watched.write(name("B03", 7), picture(5))
    watched.process()
    assert told(watched, "B02") == []
    assert told(watched, "B03") == ["channel 7, which is not analysed, was taken here; wells that lack it: 1"]
    assert watched.news[P1].warnings == ("channel 7 was imaged in 1 of 2 wells, only in B03",)


def test_an_unknown_channel_in_one_well_is_refused_and_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, finite=True)
    for number, well in enumerate(("B02", "B03")):
        watched.well(well, seed=100 * number)
    watched.write(name("B02", 9), picture(5))
    watched.process()
    assert watched.reasons == {name("B02", 9): "unknown_channel"}
    assert watched.news[P1].warnings == ("channel 9 was imaged in 1 of 2 wells, only in B02",)


def test_a_channel_that_every_well_has_is_not_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, overrides=SETTINGS, finite=True)
    for number, well in enumerate(("B02", "B03")):
        watched.well(well, seed=100 * number)
        watched.write(name(well, 7), picture(5 + number))
    watched.process()
    assert watched.news[P1].warnings == ()
    assert told(watched, "B02") == told(watched, "B03") == []


def test_the_plates_word_is_the_same_after_a_restart(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for number, well in enumerate(("B02", "B03", "B04")):
        watched.well(well, seed=100 * number)
    watched.path(name("B03", 2)).unlink()
    watched.run(20)
    watched.clock.advance(watched.settings.expect.well_timeout_s)
    watched.run(60)
    second = watched.restarted()
    second.run(20)
    second.clock.advance(second.settings.expect.well_timeout_s)
    second.run(60)
    assert second.news[P1].warnings == ("channel ER was imaged in 2 of 3 wells, not in B03",)
