"""When a plane was taken and how warm its stage was, as far as its own tags say."""

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.naming import Instrument
from hcs_daemon.records import PlaneConditions
from hcs_daemon.tiff import TiffTags, decode_plane
from watched_plates import Watched


def conditions(instrument: Instrument, tags: TiffTags) -> PlaneConditions | None:
    record = instrument.read_record(PurePosixPath("P_E07_s1_w1.tif"), tags)
    return record.conditions if record else None


@pytest.mark.parametrize(
    ("file", "instrument", "said"),
    [
        (
            "opera-phenix-6ch/Images/r03c03f03p01-ch5sk1fk1fl1.tiff",
            Harmony(),
            PlaneConditions(datetime(2024, 7, 4, 20, 5, 1, 837200, UTC), 25.16),
        ),
        (
            "operetta-index/Images/r03c03f02p01-ch1sk1fk1fl1.tiff",
            Harmony(),
            PlaneConditions(datetime(2022, 12, 19, 9, 19, 27, 156000, UTC), 26.04),
        ),
        (
            "imagexpress-timelapse/2024-04-22/1697/TimePoint_2/*_s1_w1*.tif",
            ImageXpress(),
            PlaneConditions(datetime(2024, 4, 22, 9, 57, 42, 796000)),  # noqa: DTZ001 (it says no offset)
        ),
    ],
)
def test_a_real_file_says_when_it_was_taken(
    file: str, instrument: Instrument, said: PlaneConditions, shared_data: Path
) -> None:
    path = next(each for each in sorted(shared_data.glob(file)) if "_thumb" not in each.name)
    assert conditions(instrument, decode_plane(path.read_bytes()).tags) == said


IMAGE = "<Image><Row>3</Row><AbsTime>{}</AbsTime></Image>"
STAGE = '<DiagnosticData><CurrentTemperature Unit="{}">{}</CurrentTemperature></DiagnosticData>'
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (IMAGE.format("2026-01-01T12:00:00Z"), PlaneConditions(NOON)),
        (IMAGE.format("2026-01-01T12:00:00Z") + STAGE.format("C", "36.9"), PlaneConditions(NOON, 36.9)),
        (IMAGE.format("noon") + STAGE.format("C", "36.9"), PlaneConditions(None, 36.9)),
        (IMAGE.format("2026-01-01T12:00:00Z") + STAGE.format("F", "98"), PlaneConditions(NOON)),
        (IMAGE.format("2026-01-01T12:00:00Z") + STAGE.format("C", "nan"), PlaneConditions(NOON)),
        (IMAGE.format("2026-01-01T12:00:00Z") + STAGE.format("C", "-999"), PlaneConditions(NOON)),
        (IMAGE.format("2026-01-01T12:00:00Z") + 2 * STAGE.format("C", "36.9"), PlaneConditions(NOON)),
        (IMAGE.format("") + STAGE.format("C", "warm"), None),
    ],
)
def test_what_is_not_said_clearly_is_not_said(xml: str, said: PlaneConditions | None) -> None:
    assert conditions(Harmony(), TiffTags(harmony=xml)) == said


def test_an_accepted_plane_keeps_what_its_instrument_said(tmp_path: Path, shared_data: Path) -> None:
    expect = {"channels": {"DNA": "1"}, "pixel_size_um": 0.0, "sites_per_well": 0}
    watched = Watched(tmp_path, overrides={"expect": expect}, finite=True, root=shared_data / "operetta-index")
    watched.process()
    (closed,) = watched.closed.values()
    assert [use.plane.conditions.temperature_c for use in closed.inputs if use.plane.conditions] == [26.04, 26.04]
