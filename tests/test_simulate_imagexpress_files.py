"""What the simulated ImageXpress writes beside the planes: the HTD, thumbnails, projections, the description."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from fakes import no_sleep
from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.naming import FileKind, PlaneAddress
from hcs_daemon.plate import PROJECTION_Z, WellPosition, plate_wells
from hcs_daemon.simulate.imagexpress_files import htd_text
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.tiff import decode_plane

Z_MIX_WELLS = (WellPosition.parse("E07"), WellPosition.parse("E08"))


def simulate(folder: Path, **arguments: Any) -> Path:
    positions = [WellPosition.parse("B02")]
    made = simulate_plate(
        folder,
        sleep=no_sleep,
        plate="P",
        wells=6,
        size_px=200,
        instrument="imagexpress",
        positions=positions,
        **arguments,
    )
    return made.folder


def addresses(folder: Path) -> dict[PlaneAddress, Path]:
    found = {}
    for path in sorted(folder.rglob("*.tif")):
        reading = ImageXpress().read_name("in", PurePosixPath(path.relative_to(folder.parent).as_posix()))
        if reading.address is not None:
            found[reading.address] = path
    return found


def test_folders_are_those_of_time_points_and_of_z_steps_where_there_are_several(tmp_path: Path) -> None:
    flat = {path.parent.name for path in addresses(simulate(tmp_path / "flat")).values()}
    deep = simulate(tmp_path / "deep", z_steps=2, time_points=2)
    assert flat == {"TimePoint_1"}
    assert {path.parent.relative_to(deep).as_posix() for path in addresses(deep).values()} == {
        f"TimePoint_{time}{step}" for time in (1, 2) for step in ("", "/ZStep_1", "/ZStep_2")
    }


def test_a_plane_has_a_guid_of_its_own_and_a_small_thumbnail_beside(tmp_path: Path) -> None:
    folder = simulate(tmp_path)
    planes = set(addresses(folder).values())
    thumbnails = set(folder.rglob("*_thumb*.tif"))
    assert len(planes) == len(thumbnails) == 5
    assert len({path.stem[-36:] for path in planes | thumbnails}) == 10
    for path in thumbnails:
        within = PurePosixPath(path.relative_to(tmp_path).as_posix())
        assert ImageXpress().read_name("in", within).kind is FileKind.NO_DATA
        assert max(decode_plane(path.read_bytes()).pixels.shape) <= 100


def test_the_projection_beside_a_stack_is_its_maximum(tmp_path: Path) -> None:
    found = addresses(simulate(tmp_path, z_steps=3))
    for channel in ("w1", "w5"):
        pixels = {at.z: decode_plane(path.read_bytes()).pixels for at, path in found.items() if at.channel == channel}
        assert set(pixels) == {PROJECTION_Z, 1, 2, 3}
        assert np.array_equal(pixels[PROJECTION_Z], np.max([pixels[z] for z in (1, 2, 3)], axis=0))


def test_the_description_tells_how_a_channel_was_taken(tmp_path: Path) -> None:
    for at, path in addresses(simulate(tmp_path)).items():
        facts = ImageXpress().read_tags(PurePosixPath(path.name), decode_plane(path.read_bytes()).tags)
        assert facts is not None
        assert facts.id == at.channel
        assert facts.name == {"w1": "DNA", "w2": "ER", "w3": "RNA", "w4": "AGP", "w5": "Mito"}[at.channel]
        assert (facts.pixel_size_um, facts.exposure_ms, facts.bit_depth) == (1.196, 100.0, 16)


def test_the_htd_is_there_before_any_plane(tmp_path: Path) -> None:
    first: list[str] = []

    def look(_seconds: float) -> None:
        first.extend([] if first else [path.name for path in tmp_path.rglob("*") if path.is_file()])

    simulate_plate(tmp_path, sleep=look, plate="P", wells=6, size_px=32, speed=100.0, instrument="imagexpress")
    assert first == ["P.HTD"]


@pytest.mark.parametrize("sites", [1, 2, 3, 9])
def test_an_htd_promises_what_was_asked_for(tmp_path: Path, sites: int) -> None:
    path = tmp_path / "Plate.HTD"
    wells = plate_wells(96)[3:20]
    text = htd_text(rows=8, columns=12, wells=wells, sites=sites, waves=["DAPI", "FITC"], time_points=2)
    path.write_bytes(text.encode("latin-1"))
    promised = ImageXpress().read_metadata(path)
    assert promised is not None
    assert set(promised.planes) == set(wells)
    assert promised.planes[wells[0]] == {
        (site, time, wave): frozenset({PROJECTION_Z})
        for site in range(1, sites + 1)
        for time in (1, 2)
        for wave in ("w1", "w2")
    }
    assert [promised.channels[wave].name for wave in ("w1", "w2")] == ["DAPI", "FITC"]


def test_an_htd_for_a_real_stack_promises_each_of_its_planes_at_least(tmp_path: Path, shared_data: Path) -> None:
    """A wave that is taken at some steps only cannot be said in an HTD: the steps are an upper bound."""
    text = htd_text(
        rows=8,
        columns=12,
        wells=Z_MIX_WELLS,
        sites=2,
        waves=["FITC_05", "FITC_25", "FITC_50", "FITC_75"],
        z_steps=10,
        projection=True,
    )
    path = tmp_path / "Projection-Mix.HTD"
    path.write_bytes(text.encode("latin-1"))
    promised = ImageXpress().read_metadata(path)
    assert promised is not None
    assert not promised.exact_z
    found = addresses(shared_data / "imagexpress-z-mix" / "2023-02-21")
    assert {at.position for at in found} == set(promised.planes) == set(Z_MIX_WELLS)
    for at in found:
        assert at.z in promised.planes[at.position][at.site, at.time, at.channel]
