"""When a file is complete."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hcs_daemon.intake.stability import Settling
from hcs_daemon.records import Sighting, StableFile

PLANE, OTHER = Path("a.tiff"), Path("b.tiff")


def test_a_file_that_grows_is_not_ready() -> None:
    settling = Settling(settle_s=2.0)
    settling.see(Sighting(PLANE, size_bytes=10, mtime_ns=1), now=0.0)
    settling.see(Sighting(PLANE, size_bytes=20, mtime_ns=2), now=1.5)
    assert settling.ready(now=2.5) == []
    assert settling.ready(now=3.5) == [StableFile(PLANE, 20, 2)]


def test_a_file_that_never_rests_may_be_wanted_all_the_same() -> None:
    settling = Settling(settle_s=2.0)
    for second in range(12):
        settling.see(Sighting(PLANE, second, second), now=second, at_most_s=10.0)
        ready = settling.ready(now=second)
        assert ready == ([StableFile(PLANE, 10, 10)] if second == 10 else [])


def test_a_file_is_ready_once() -> None:
    settling = Settling(settle_s=2.0)
    settling.see(Sighting(PLANE, 10, 1), now=0.0)
    assert settling.ready(now=2.0) == [StableFile(PLANE, 10, 1)]
    assert settling.ready(now=9.0) == []
    assert len(settling) == 0


def test_the_same_look_again_does_not_start_the_wait_again() -> None:
    settling = Settling(settle_s=2.0)
    settling.see(Sighting(PLANE, 10, 1), now=0.0)
    settling.see(Sighting(PLANE, 10, 1), now=1.9)
    assert settling.ready(now=2.0) == [StableFile(PLANE, 10, 1)]


def test_a_new_time_with_the_same_size_starts_the_wait_again() -> None:
    settling = Settling(settle_s=2.0)
    settling.see(Sighting(PLANE, 10, 1), now=0.0)
    settling.see(Sighting(PLANE, 10, 2), now=1.9)
    assert settling.ready(now=2.0) == []
    assert settling.ready(now=3.9) == [StableFile(PLANE, 10, 2)]


def test_a_file_that_shrinks_back_to_an_earlier_look_waits_from_then_on() -> None:
    settling = Settling(settle_s=2.0)
    settling.see(Sighting(PLANE, 10, 1), now=0.0)
    settling.see(Sighting(PLANE, 20, 2), now=1.0)
    settling.see(Sighting(PLANE, 10, 1), now=1.5)
    assert settling.ready(now=3.0) == []
    assert settling.ready(now=3.5) == [StableFile(PLANE, 10, 1)]


def test_the_files_own_time_is_compared_and_not_believed() -> None:
    settling = Settling(settle_s=2.0)
    settling.see(Sighting(PLANE, 10, mtime_ns=0), now=0.0)
    settling.see(Sighting(OTHER, 10, mtime_ns=10**18), now=0.5)
    assert settling.ready(now=2.6) == [StableFile(PLANE, 10, 0), StableFile(OTHER, 10, 10**18)]


def test_a_file_may_be_told_to_wait_longer() -> None:
    settling = Settling(settle_s=2.0)
    settling.see(Sighting(PLANE, 10, 1), now=0.0, extra_s=5.0)
    assert settling.ready(now=6.9) == []
    assert settling.ready(now=7.0) == [StableFile(PLANE, 10, 1)]


def test_it_says_when_the_next_file_may_be_ready() -> None:
    settling = Settling(settle_s=2.0)
    assert settling.due_s == float("inf")
    settling.see(Sighting(PLANE, 10, 1), now=7.0)
    assert settling.due_s == 9.0


def test_without_settling_a_file_is_ready_at_once() -> None:
    settling = Settling(settle_s=0.0)
    settling.see(Sighting(PLANE, 10, 1), now=7.0)
    assert settling.ready(now=7.0) == [StableFile(PLANE, 10, 1)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 3)), max_size=30))
def test_whatever_is_seen_each_file_comes_out_as_last_seen_and_settled(looks: list[tuple[int, int, float]]) -> None:
    settling, now = Settling(settle_s=2.0), 0.0
    last: dict[Path, tuple[int, float]] = {}
    waiting: set[Path] = set()
    for number, size, pause in looks:
        now += pause
        for stable in settling.ready(now):
            size_then, since = last[stable.path]
            assert stable.size_bytes == size_then
            assert now - since >= 2.0 - 1e-9
            waiting.remove(stable.path)
        path = Path(f"{number}.tiff")
        if path not in waiting or last[path][0] != size:
            last[path] = (size, now)
        waiting.add(path)
        settling.see(Sighting(path, size, 0), now)
    assert {stable.path for stable in settling.ready(now + 2.0)} == waiting
