"""A simulated plate of each instrument: its own module reads every file, its metadata promises just these planes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
import pytest

from fakes import no_sleep
from hcs_daemon.config import Watch, canonical_channel
from hcs_daemon.errors import SettingsError
from hcs_daemon.instruments.arrayscan import ArrayScan
from hcs_daemon.instruments.cellvoyager import CellVoyager
from hcs_daemon.instruments.cytation import Cytation
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.incell import InCell
from hcs_daemon.instruments.manifest import Manifest, merged
from hcs_daemon.instruments.naming import FileKind, Instrument, PlaneAddress, Reading
from hcs_daemon.instruments.ome import OmeTiff
from hcs_daemon.instruments.scanr import ScanR
from hcs_daemon.plate import PROJECTION_Z, AcquisitionId, WellPosition, plate_wells
from hcs_daemon.records import ChannelFacts, Pixels
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.instrument import SimulatedPlate, simulate_plate
from hcs_daemon.simulate.measurement import MEASUREMENT, PlaneInfo
from hcs_daemon.simulate.site import render_stack
from hcs_daemon.simulate.vendors import VENDORS
from hcs_daemon.tiff import decode_page, first_tags

READERS: dict[str, Instrument] = {
    each.name: each
    for each in (
        Harmony(),
        ImageXpress(),
        CellVoyager(),
        InCell(),
        Cytation(),
        ArrayScan(),
        ScanR(),
        OmeTiff(),
    )
}
DEEP = ["harmony", "imagexpress", "cellvoyager", "incell", "cytation", "scanr", "ome"]
LISTED = ["harmony", "imagexpress", "cellvoyager", "incell", "scanr", "ome"]
"""Those whose metadata names planes."""
TELLING = ["harmony", "imagexpress", "cellvoyager", "incell", "cytation", "scanr", "ome"]
"""Those whose metadata or tags tell the pixel size."""
Images = dict[tuple[int, int, str], set[int]]


@dataclass(frozen=True)
class Plane:
    """A plane on the disk and where it is in its file."""

    address: PlaneAddress
    path: Path
    page: int = 0

    @property
    def pixels(self) -> Pixels:
        return decode_page(self.path, self.page).pixels


def simulate(folder: Path, instrument: str, **arguments: Any) -> SimulatedPlate:
    arguments = {"plate": "P-1", "wells": 6, "size_px": 64, "sleep": no_sleep, **arguments}
    return simulate_plate(folder, instrument=instrument, **arguments)


def files(folder: Path, instrument: str) -> Iterator[tuple[Path, Reading]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, READERS[instrument].read_name("in", PurePosixPath(path.relative_to(folder).as_posix()))


def planes(folder: Path, instrument: str) -> list[Plane]:
    found = []
    for path, reading in files(folder, instrument):
        if reading.kind is FileKind.PLANE:
            assert reading.address is not None
            found.append(Plane(reading.address, path))
        elif reading.kind is FileKind.BUNDLE:
            within = PurePosixPath(path.relative_to(folder).as_posix())
            pages = READERS[instrument].read_bundle("in", within, first_tags(path))
            found += [Plane(page, path, number) for number, page in enumerate(pages) if page is not None]
    return found


def promised(folder: Path, instrument: str) -> Manifest:
    reader, said = READERS[instrument], []
    for path, reading in files(folder, instrument):
        if reading.kind is FileKind.METADATA:
            said.append(reader.read_metadata(path))
        elif reading.kind is FileKind.BUNDLE:
            said.append(reader.promise_of_bundle(first_tags(path)))
    return merged(each for each in said if each is not None)


def by_well(found: list[Plane]) -> dict[WellPosition, Images]:
    wells: dict[WellPosition, Images] = {}
    for plane in found:
        at = plane.address
        wells.setdefault(at.position, {}).setdefault((at.site, at.time, at.channel), set()).add(at.z)
    return wells


def facts(folder: Path, instrument: str, plane: Plane) -> ChannelFacts:
    within = PurePosixPath(plane.path.relative_to(folder).as_posix())
    return READERS[instrument].read_tags(within, first_tags(plane.path)) or ChannelFacts()


def test_every_instrument_of_the_settings_can_be_simulated() -> None:
    names = set(get_args(Watch.model_fields["instrument"].annotation)) - {"auto", "pattern"}
    assert set(VENDORS) == names == set(READERS)


@pytest.mark.parametrize("instrument", VENDORS)
def test_its_own_instrument_reads_every_file(tmp_path: Path, instrument: str) -> None:
    plate = simulate(tmp_path, instrument)
    kinds = {path: reading.kind for path, reading in files(tmp_path, instrument)}
    assert FileKind.UNKNOWN not in kinds.values()
    assert plate.folder == tmp_path / f"P-1__{MEASUREMENT}"
    assert all(path.is_relative_to(plate.folder) for path in kinds)
    found = planes(tmp_path, instrument)
    assert len(found) == plate.planes == 30
    assert {plane.address.acquisition for plane in found} == {AcquisitionId("P-1", MEASUREMENT)}
    assert {plane.address.position for plane in found} == set(plate_wells(6))
    assert {plane.address.channel for plane in found} == set(VENDORS[instrument].manner.channels)


@pytest.mark.parametrize("instrument", VENDORS)
def test_one_mapping_of_channels_serves_all_that_count_them(instrument: str) -> None:
    ids = [canonical_channel(id_) for id_ in VENDORS[instrument].manner.channels]
    assert ids in (["1", "2", "3", "4", "5"], [name.casefold() for name in CHANNELS])


@pytest.mark.parametrize("instrument", VENDORS)
def test_whose_files_they_are_makes_no_difference_to_the_pixels(tmp_path: Path, instrument: str) -> None:
    where = {"positions": [WellPosition.parse("B02")], "sites": 2, "seed": 5}
    simulate(tmp_path / "harmony", "harmony", **where)
    simulate(tmp_path / "other", instrument, **where)
    expected, found = planes(tmp_path / "harmony", "harmony"), planes(tmp_path / "other", instrument)
    names = VENDORS[instrument].manner.channels
    pixels = {(plane.address.site, plane.address.channel): plane.pixels for plane in found}
    assert len(expected) == len(found) == 10
    for plane in expected:
        name = names[int(plane.address.channel) - 1]
        assert np.array_equal(pixels[plane.address.site, name], plane.pixels)


@pytest.mark.parametrize("instrument", LISTED)
@pytest.mark.parametrize("size", [{}, {"sites": 3, "z_steps": 2, "time_points": 2}], ids=["plain", "deep"])
def test_the_metadata_promises_the_planes_that_are_written_and_no_other(
    tmp_path: Path, instrument: str, size: dict[str, int]
) -> None:
    simulate(tmp_path, instrument, positions=plate_wells(6)[1:5], **size)
    promise = promised(tmp_path, instrument)
    assert promise.planes == by_well(planes(tmp_path, instrument))
    assert promise.never == {}
    assert (promise.rows, promise.columns) == (2, 3)
    names = dict(zip(VENDORS[instrument].manner.channels, CHANNELS, strict=True))
    assert {id_: channel.name for id_, channel in promise.channels.items()} == names


@pytest.mark.parametrize("instrument", TELLING)
def test_the_pixel_size_is_told(tmp_path: Path, instrument: str) -> None:
    simulate(tmp_path, instrument, positions=[WellPosition(1, 1)])
    told = (
        promised(tmp_path, instrument).pixel_size_um
        or facts(tmp_path, instrument, planes(tmp_path, instrument)[0]).pixel_size_um
    )
    assert told == pytest.approx(1.196, abs=1e-6)
    assert VENDORS[instrument].manner.pixel_size


@pytest.mark.parametrize("instrument", DEEP)
def test_every_step_and_time_point_is_where_its_name_says(tmp_path: Path, instrument: str) -> None:
    plate = simulate(tmp_path, instrument, positions=[WellPosition(1, 1)], z_steps=3, time_points=2)
    ids = VENDORS[instrument].manner.channels
    stacks = {
        time: render_stack(plate.plans[0], 1, plate="P-1", seed=0, size_px=64, z_steps=3, time=time).pixels
        for time in (1, 2)
    }
    found = [plane for plane in planes(tmp_path, instrument) if plane.address.z != PROJECTION_Z]
    assert len(found) == plate.planes == 2 * 3 * 5
    for plane in found:
        at = plane.address
        assert np.array_equal(plane.pixels, stacks[at.time][ids.index(at.channel), at.z - 1])


@pytest.mark.parametrize("depth", [{"z_steps": 2}, {"time_points": 2}], ids=str)
def test_names_of_arrayscan_have_neither_z_nor_time(tmp_path: Path, depth: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="of arrayscan have no"):
        simulate(tmp_path / "in", "arrayscan", **depth)
    assert not (tmp_path / "in").exists()


def test_an_instrument_that_nobody_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no simulated instrument is called 'leica'") as caught:
        simulate(tmp_path, "leica")
    assert caught.value.hint == f"choose one of {', '.join(VENDORS)}"


@pytest.mark.parametrize("instrument", VENDORS)
def test_a_plane_that_fails_has_no_file(tmp_path: Path, instrument: str) -> None:
    def fails(plane: PlaneInfo) -> bool:
        return (plane.position, plane.channel) == (WellPosition(1, 1), "RNA")

    plate = simulate(tmp_path, instrument, positions=plate_wells(6)[:2], not_taken=fails)
    found = planes(tmp_path, instrument)
    assert plate.planes == len(found) == 9
    rna = VENDORS[instrument].manner.channels[2]
    assert [plane.address.position for plane in found if plane.address.channel == rna] == [WellPosition(1, 2)]
