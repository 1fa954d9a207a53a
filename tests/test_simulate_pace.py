"""How fast an instrument writes, and how its files grow."""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from fakes import no_sleep
from hcs_daemon.errors import FolderError, SettingsError
from hcs_daemon.simulate.pace import FileToWrite, check_speed, write_files


def files(folder: Path, count: int, size: int = 1003) -> list[FileToWrite]:
    return [FileToWrite(folder / f"{number}", lambda number=number: bytes([number]) * size) for number in range(count)]  # type: ignore[misc]


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_as_fast_as_possible_nothing_waits(tmp_path: Path) -> None:
    assert write_files(files(tmp_path, 7), speed=0.0, sleep=no_sleep) == 7
    assert set(sizes(tmp_path).values()) == {1003}


@pytest.mark.parametrize("count", [1, 2, 3, 10])
@pytest.mark.parametrize("size", [0, 1, 3, 1003])
def test_growing_files_end_whole(tmp_path: Path, count: int, size: int) -> None:
    assert write_files(files(tmp_path, count, size), speed=1.0, sleep=lambda _: None) == count
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        str(number): bytes([number]) * size for number in range(count)
    }


@pytest.mark.parametrize("speed", [0.5, 1.0, 20.0])
def test_so_many_files_a_second_are_finished(tmp_path: Path, speed: float) -> None:
    waited: list[float] = []
    write_files(files(tmp_path, 40), speed=speed, sleep=waited.append)
    assert sum(waited) == pytest.approx(40 / (5.0 * speed))


def test_files_grow_under_their_final_names_a_few_at_a_time(tmp_path: Path) -> None:
    looks: list[dict[str, int]] = []
    write_files(files(tmp_path, 6), speed=1.0, sleep=lambda _: looks.append(sizes(tmp_path)))
    seen = Counter(name for look in looks for name, size in look.items() if 0 < size < 1003)
    assert set(seen) == {"0", "1", "2", "3", "4", "5"}
    assert max(sum(size < 1003 for size in look.values()) for look in looks) == 3
    for earlier, later in itertools.pairwise(looks):
        assert all(size <= later[name] for name, size in earlier.items())


def test_a_files_bytes_are_fetched_only_when_its_turn_comes(tmp_path: Path) -> None:
    fetched: list[str] = []

    def file(name: str) -> FileToWrite:
        def read() -> bytes:
            fetched.append(name)
            return b"1234"

        return FileToWrite(tmp_path / name, read)

    looks: list[int] = []
    write_files(map(file, "abcdefgh"), speed=1.0, sleep=lambda _: looks.append(len(fetched)))
    assert looks[0] == 1
    assert fetched == list("abcdefgh")


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_a_destination_that_cannot_be_written_is_said(tmp_path: Path, speed: float) -> None:
    with pytest.raises(FolderError, match="cannot be written"):
        write_files(files(tmp_path / "missing", 1), speed=speed, sleep=lambda _: None)


@pytest.mark.parametrize("speed", [-0.1, float("inf"), float("nan")])
def test_what_is_no_factor_is_refused(speed: float) -> None:
    with pytest.raises(SettingsError):
        check_speed(speed)


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_a_whole_file_is_written_over_in_one_piece_and_never_seen_empty_or_cut(tmp_path: Path, speed: float) -> None:
    states = [b"a" * 100, b"b" * 400, b"c" * 50]
    seen: list[bytes] = []

    def look(_seconds: float) -> None:
        seen.append((tmp_path / "record").read_bytes())

    for data in states:
        written = write_files(
            [FileToWrite(tmp_path / "record", lambda data=data: data, whole=True)],  # type: ignore[misc]
            speed=speed,
            sleep=look,
        )
        assert written == 1
        look(0.0)
    assert list(dict.fromkeys(seen)) == states
