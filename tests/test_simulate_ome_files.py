"""The simulated OME-TIFF: each file promises the whole plate, where that is small enough."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

from fakes import no_sleep
from hcs_daemon.instruments.ome import OmeTiff
from hcs_daemon.plate import WellPosition, plate_wells
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.measurement import Measurement
from hcs_daemon.simulate.ome_files import description
from hcs_daemon.tiff import TiffTags, decode_page, first_tags

PLATE = Measurement(
    "A & <B>", 384, 1, 64, 1.196, UUID(int=5), z_steps=2, time_points=3, positions=tuple(plate_wells(384))
)


def test_the_first_file_promises_every_plane_of_the_plate(tmp_path: Path) -> None:
    plate = simulate_plate(
        tmp_path, sleep=no_sleep, plate="P", wells=6, sites=2, size_px=32, z_steps=2, time_points=2, instrument="ome"
    )
    first = min(plate.folder.iterdir())
    promised = OmeTiff().promise_of_bundle(first_tags(first))
    assert promised is not None
    assert set(promised.planes) == set(plate_wells(6))
    assert promised.planes[WellPosition(2, 3)] == {
        (site, time, channel): frozenset({1, 2})
        for site in (1, 2)
        for time in (1, 2)
        for channel in ("DNA", "ER", "RNA", "AGP", "Mito")
    }


def test_every_file_of_a_set_has_an_identifier_of_its_own() -> None:
    documents = [description(PLATE, position, 1, ()) for position in PLATE.positions[:3]]
    assert len(set(documents)) == 3
    assert [document.count("<Image ") for document in documents] == [384] * 3


def test_a_file_of_a_large_plate_describes_itself() -> None:
    large = replace(PLATE, sites=2)
    text = description(large, WellPosition(2, 3), 2, ())
    assert text.count("<Image ") == text.count("<Well ") == 1
    promised = OmeTiff().promise_of_bundle(TiffTags(text))
    assert promised is not None
    assert promised.planes == {}
    assert (promised.pixel_size_um, promised.plate_id) == (1.196, "A & <B>")


def test_pages_are_single_planes_with_nothing_between_them(tmp_path: Path) -> None:
    plate = simulate_plate(
        tmp_path, sleep=no_sleep, wells=6, size_px=32, instrument="ome", positions=[WellPosition(1, 1)], z_steps=2
    )
    (path,) = plate.folder.iterdir()
    pages = [decode_page(path, page).pixels for page in range(10)]
    assert {page.shape for page in pages} == {(32, 32)}
    assert len({page.tobytes() for page in pages}) == 10
