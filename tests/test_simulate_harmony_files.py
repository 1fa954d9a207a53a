"""What Harmony writes beside the pixels."""

import json
from dataclasses import replace
from uuid import UUID

import numpy as np
from defusedxml.ElementTree import fromstring

from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.harmony_files import index_xml, plane_path, statistics_json, tag_xml
from hcs_daemon.simulate.measurement import Measurement, PlaneInfo, site_centre_um

MEASUREMENT = Measurement("A & <B>", 96, 4, 1080, 1.196, UUID(int=5))
PLANE = PlaneInfo(WellPosition(2, 11), site=3, channel_id=5, channel="Mito", number=7)


def test_a_file_is_named_by_its_address() -> None:
    assert plane_path(PLANE, MEASUREMENT).name == "r02c11f03p01-ch5sk1fk1fl1.tiff"
    far = PlaneInfo(WellPosition(32, 48), 12, 1, "DNA", 0, z=3, time=11)
    assert plane_path(far, MEASUREMENT).name == "r32c48f12p03-ch1sk11fk1fl1.tiff"


def test_planes_are_taken_one_after_the_other() -> None:
    assert PLANE.taken_at.isoformat() == "2024-01-01T00:00:01.400000+00:00"


def test_the_tag_is_the_planes_own_address() -> None:
    image = fromstring(tag_xml(PLANE, MEASUREMENT)).find("{*}Image")
    assert image is not None
    assert {tag: image.findtext(f"{{*}}{tag}") for tag in ("Row", "Col", "FieldID", "PlaneID", "RecordID")} == {
        "Row": "2",
        "Col": "11",
        "FieldID": "3",
        "PlaneID": "1",
        "RecordID": "5",
    }


def test_statistics_are_those_of_the_pixels_with_the_samples_deviation() -> None:
    pixels = np.array([[1, 2], [3, 10]], np.uint16)
    found = json.loads(statistics_json(pixels))
    assert found == {"mean": 4.0, "stddev": np.std([1, 2, 3, 10], ddof=1), "min": 1, "max": 10}


def test_the_index_lists_every_plane_and_survives_any_plate_name() -> None:
    other = PlaneInfo(WellPosition(1, 1), 1, 1, "DNA", 0)
    root = fromstring(index_xml(MEASUREMENT, [other, PLANE]))
    assert root.findtext(".//{*}PlateID") == "A & <B>"
    assert [root.findtext(f".//{{*}}Plate{name}") for name in ("Rows", "Columns")] == ["8", "12"]
    images = root.findall("{*}Images/{*}Image")
    assert [image.findtext("{*}URL") for image in images] == [
        plane_path(plane, MEASUREMENT).name for plane in (other, PLANE)
    ]
    assert [image.findtext("{*}ChannelName") for image in images] == ["DNA", "Mito"]
    assert float(images[0].findtext("{*}ImageResolutionX") or 0) == 1.196e-6
    wells = root.findall("{*}Wells/{*}Well")
    assert [(well.findtext("{*}Row"), well.findtext("{*}Col")) for well in wells] == [("1", "1"), ("2", "11")]


def test_sites_lie_in_a_block_around_the_wells_centre() -> None:
    centres = [site_centre_um(site, 4, 100.0) for site in (1, 2, 3, 4)]
    assert centres == [(50.0, -50.0), (50.0, 50.0), (-50.0, -50.0), (-50.0, 50.0)]
    assert site_centre_um(1, 1, 100.0) == (0.0, 0.0)


def test_tag_and_index_say_z_step_and_time_point() -> None:
    measurement = replace(MEASUREMENT, z_steps=3, time_points=4)
    plane = replace(PLANE, z=3, time=4)
    for root in (fromstring(tag_xml(plane, measurement)), fromstring(index_xml(measurement, [plane]))):
        assert [root.findtext(f".//{{*}}{tag}") for tag in ("PlaneID", "TimepointID")] == ["3", "4"]
    assert fromstring(index_xml(measurement, [plane])).findtext(".//{*}PositionZ") == "0.0000040"
