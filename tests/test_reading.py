"""One file, read once: every way it can go wrong is an answer."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hcs_daemon.intake.reading import (
    Brought,
    Changed,
    Decoded,
    Gone,
    Layer,
    NotYet,
    Refused,
    Unread,
    bring_together,
    confirm,
    look,
    look_for_first,
    read_plane,
)
from hcs_daemon.intake.validation import Expected
from hcs_daemon.plate import AcquisitionId, PlaneId, SiteId, WellId, WellPosition
from hcs_daemon.records import ChannelImage, PlaneMeasures, PlaneRecord, Sighting, SourceFile, StableFile
from hcs_daemon.tiff import MAX_PLANE_BYTES
from hcs_daemon.vocabulary import Reason
from hostile_tiffs import cut, plane, tiff

SIXTEEN = Expected(16, "uint16")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stable(path: Path) -> StableFile:
    seen = look(path)
    return StableFile(path, seen.size_bytes, seen.mtime_ns)


def refused(path: Path) -> Refused:
    found = read_plane(stable(path), SIXTEEN)
    assert isinstance(found, Refused), found
    return found


def layer(*paths: Path, projection: str = "") -> Layer:
    """A channel that is read from these files."""
    return Layer(ChannelImage(tuple(map(record, paths)), projection), paths, held=None)


def record(path: Path) -> PlaneRecord:
    data = path.read_bytes()
    return PlaneRecord(
        id=PlaneId(SiteId(WellId(AcquisitionId("P", "1"), WellPosition(1, 1)), 1), path.stem),
        channel=path.stem,
        source=SourceFile(path.name, len(data), 0, hashlib.sha256(data).hexdigest()),
        shape=(64, 96),
        container="uint16",
        measures=PlaneMeasures(0, 1, 1, 0.0, 0.0),
        seen_at=NOW,
    )


def test_a_good_plane_comes_with_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff(plane(seed=3)))
    found = read_plane(stable(path), SIXTEEN)
    assert isinstance(found, Decoded)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(found.pixels, plane(seed=3))
    assert (found.measures.minimum, found.measures.maximum) == (plane(seed=3).min(), plane(seed=3).max())


def test_a_file_that_was_read_and_is_wrong_is_refused_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(cut(tiff(), 8))
    found = refused(path)
    assert found.refusal.reason is Reason.TRUNCATED
    assert found.refusal.may_grow
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_pixels_that_prove_to_be_wrong_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff(plane() // np.uint16(16) * np.uint16(16)))
    assert refused(path).refusal.reason is Reason.BIT_DEPTH


def test_a_file_that_changed_since_it_settled_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff())
    seen = stable(path)
    path.write_bytes(tiff(plane(height=32)))
    assert read_plane(seen, SIXTEEN) == Changed(look(path))


def test_a_file_that_is_not_there_any_more_is_gone(tmp_path: Path) -> None:
    assert read_plane(StableFile(tmp_path / "a.tiff", 1, 1), SIXTEEN) == Gone()
    assert confirm(StableFile(tmp_path / "none" / "a.tiff", 1, 1)) == Gone()


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a right to make links")
def test_a_file_that_the_system_does_not_open_is_not_refused_yet(tmp_path: Path) -> None:
    circle = tmp_path / "a.tiff"
    circle.symlink_to(circle)
    found = read_plane(StableFile(circle, 1, 1), SIXTEEN)
    assert isinstance(found, NotYet)
    assert "symbolic links" in found.detail


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything, Windows locks otherwise")
def test_a_file_without_permission_is_not_refused_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff())
    seen = stable(path)
    path.chmod(0)
    assert isinstance(read_plane(seen, SIXTEEN), NotYet)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may enter everything, Windows locks otherwise")
def test_a_file_in_a_folder_that_cannot_be_entered_is_not_refused_yet(tmp_path: Path) -> None:
    folder = tmp_path / "P"
    folder.mkdir()
    path = folder / "a.tiff"
    path.write_bytes(tiff())
    seen = stable(path)
    folder.chmod(0)
    try:
        assert isinstance(read_plane(seen, SIXTEEN), NotYet)
    finally:
        folder.chmod(0o700)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_regular_file_is_refused_unopened(tmp_path: Path) -> None:
    fifo, nowhere, folder = tmp_path / "a.tiff", tmp_path / "b.tiff", tmp_path / "c.tiff"
    os.mkfifo(fifo)
    nowhere.symlink_to(tmp_path / "none")
    folder.mkdir()
    for path in (fifo, nowhere, folder):
        found = refused(path)
        assert (found.refusal.reason, found.sha256) == (Reason.NOT_AN_IMAGE, None)
        assert found.refusal.detail == "is no regular file"


def test_a_file_far_too_large_for_a_plane_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    with path.open("wb") as stream:
        stream.truncate(2 * MAX_PLANE_BYTES + 1)
    found = refused(path)
    assert (found.refusal.reason, found.sha256) == (Reason.TOO_LARGE, None)


def test_a_file_that_is_only_confirmed_is_there_changed_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "notes.docx"
    path.write_bytes(b"1")
    seen = stable(path)
    assert confirm(seen) is None
    path.write_bytes(b"22")
    assert confirm(seen) == Changed(look(path))


def test_a_link_to_nowhere_is_looked_at_itself(tmp_path: Path) -> None:
    link = tmp_path / "a.tiff"
    link.symlink_to(tmp_path / "none")
    assert look(link) == Sighting(link, link.lstat().st_size, link.lstat().st_mtime_ns)


def test_a_first_file_is_gone_only_where_its_twin_is_there(tmp_path: Path) -> None:
    first, twin = tmp_path / "a.tiff", tmp_path / "a.tif"
    for path in (first, twin):
        path.write_bytes(tiff(plane()))
    about = record(twin)

    def gone() -> bool:
        return look_for_first(about, twin, "a.tiff", first).gone

    assert not gone()
    first.unlink()
    assert gone()
    twin.unlink()
    assert not gone(), "the share is away"


@pytest.mark.skipif(os.name == "nt", reason="Windows takes both names for one")
def test_a_name_that_only_its_capital_letters_set_apart_is_the_same_file(tmp_path: Path) -> None:
    """Two links to one file look like a renamed file on a disk where capital letters do not matter."""
    first, twin = tmp_path / "a.tiff", tmp_path / "A.TIFF"
    first.write_bytes(tiff(plane()))
    twin.hardlink_to(first)
    assert look_for_first(record(first), twin, "a.tiff", first).gone
    twin.unlink()
    twin.write_bytes(tiff(plane()))
    assert not look_for_first(record(first), twin, "a.tiff", first).gone


def test_a_site_is_read_again_but_for_what_is_held(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.tiff" for name in "abc"]
    for seed, path in enumerate(paths):
        path.write_bytes(tiff(plane(seed=seed)))
    layers = [layer(path) for path in paths]
    layers[1] = replace(layers[1], held=plane(seed=1))
    paths[1].unlink()
    found = bring_together(layers)
    assert isinstance(found, Brought)
    assert found.pixels.dtype == np.uint16
    assert np.array_equal(found.pixels, np.stack([plane(seed=seed) for seed in range(3)]))


def test_a_plane_that_is_not_what_it_was_is_named_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff(plane(seed=1)))
    before = layer(path)
    path.write_bytes(tiff(plane(seed=2)))
    changed = Unread(before.image.planes[0], "a.tiff has changed since it was checked")
    assert bring_together([before]) == changed
    path.unlink()
    gone = bring_together([before])
    assert isinstance(gone, Unread)
    assert gone.problem.startswith("a.tiff cannot be read again")


@pytest.mark.parametrize(("projection", "made"), [("max", np.max), ("mean", np.mean)])
def test_a_stack_that_is_read_again_is_projected_plane_by_plane(
    tmp_path: Path, projection: str, made: Callable[..., NDArray[np.float64]]
) -> None:
    paths = [tmp_path / f"{seed}.tiff" for seed in range(4)]
    for seed, path in enumerate(paths):
        path.write_bytes(tiff(plane(seed=seed)))
    found = bring_together([layer(*paths, projection=projection)])
    assert isinstance(found, Brought)
    assert np.array_equal(found.pixels[0], np.rint(made(np.stack([plane(seed=seed) for seed in range(4)]), axis=0)))
