"""A file is written whole or not at all; a line is appended whole or not at all; what failed once is not trusted."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hcs_daemon.publish.files import LineFile, cut_file, make_folder, remove_leftovers, write_atomic

LIMITED = pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """As a disk that is full: no file may grow beyond this."""
    import resource  # noqa: PLC0415 (not on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_written_into_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "plate" / "wells" / "B03.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [found.name for found in path.parent.iterdir()] == ["B03.json"]


@LIMITED
def test_a_full_disk_leaves_the_old_file_and_nothing_half(tmp_path: Path) -> None:
    path = tmp_path / "B03.json"
    write_atomic(path, b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large"):
        write_atomic(path, b"x" * 2000)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["B03.json"]


def test_what_cannot_be_replaced_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "B03.json").mkdir()
    with pytest.raises(OSError, match="irectory"):
        write_atomic(tmp_path / "B03.json", b"data")
    assert [found.name for found in tmp_path.iterdir()] == ["B03.json"]


def test_a_file_where_a_folder_must_be_is_an_error_of_the_world(tmp_path: Path) -> None:
    (tmp_path / "plate").write_bytes(b"")
    with pytest.raises(OSError, match="plate"):
        make_folder(tmp_path / "plate" / "wells")


def test_leftovers_of_a_crash_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".B03.json.0a1b2c3d.tmp", "B03.json", ".hcs-daemon.lock", "notes.tmp"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "not there")
    assert sorted(found.name for found in tmp_path.iterdir()) == [".hcs-daemon.lock", "B03.json", "notes.tmp"]


def test_lines_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rejected.jsonl"
    file = LineFile(path)
    file.append(b"one")
    file.append(b"two")
    LineFile(path).append(b"three")
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_torn_line_is_ended_so_that_it_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    path.write_bytes(b'one\n{"torn')
    LineFile(path).append(b"two")
    assert path.read_bytes() == b'one\n{"torn\ntwo\n'


@LIMITED
def test_a_line_that_does_not_fit_is_taken_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    file = LineFile(path)
    file.append(b"x" * 900)
    before = path.read_bytes()
    with files_of_at_most(1000), pytest.raises(OSError, match="No space left"):
        file.append(b"y" * 300)
    assert path.read_bytes() == before
    file.append(b"y" * 300)
    assert path.read_bytes() == before + b"y" * 300 + b"\n"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a file whose fsync fails: /dev/null")
def test_after_a_failed_fsync_the_lines_go_into_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.symlink_to("/dev/null")
    file = LineFile(path)
    with pytest.raises(OSError, match="Invalid argument"):
        file.append(b"one")
    assert path.is_symlink()
    file.append(b"one")
    assert not path.is_symlink()
    file.append(b"two")
    assert path.read_bytes() == b"one\ntwo\n"


def test_the_new_file_holds_what_was_sound_and_not_what_was_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    file = LineFile(path)
    file.append(b"one")
    file._sound_bytes = path.stat().st_size
    path.write_bytes(b"one\ndoubtf")
    inode = path.stat().st_ino
    file.append(b"two")
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_ino != inode or os.name == "nt"
    file.append(b"three")
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_file_is_cut_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"one\ntor")
    cut_file(path, 4)
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize(("number", "written"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_share_that_cannot_sync_a_folder_is_used_and_a_disk_that_fails_to_is_not(
    number: int,
    written: bool,  # noqa: FBT001 (a table)
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if written or os.name == "nt":
        write_atomic(tmp_path / "B03.json", b"data")
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            write_atomic(tmp_path / "B03.json", b"data")
    assert [found.name for found in tmp_path.iterdir()] == ["B03.json"]
