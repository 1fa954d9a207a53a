"""`auto`: whose a file is, by its name and by what lies beside it, and no guess where two could have written it."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from threading import Barrier, Thread

import pytest

from hcs_daemon.instruments import INSTRUMENTS
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind, PlaneAddress, Reading
from hcs_daemon.instruments.recognition import SURE, Auto, afresh, instrument_name, recognise, why
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.tiff import TiffTags

PLANES = {
    "harmony": "P__M/Images/r01c01f01p01-ch1sk1fk1fl1.tiff",
    "imagexpress": "P__M/TimePoint_1/ZStep_1/P_A01_s1_w1.tif",
    "cellvoyager": "P__M/P_A01_T0001F001L01A01Z01C01.tif",
    "arrayscan": "P__M/P_A01f00d0.tif",
    "cytation": "P__M/A1_02_1_1_DAPI_001.tif",
    "scanr": "P__M/data/A1--W00001--P00001--Z00000--T00000--DAPI.tif",
    "incell": "P__M/A - 01(fld 1 wv DAPI - DAPI).tif",
    "ome": "P__M/P_A01_s1.ome.tif",
}
HARMONY = [f"P__M/Images/r01c{column:02d}f01p01-ch1sk1fk1fl1.tiff" for column in range(1, 25)]
STRAYS = [f"P__M/Images/overview_A{column:02d}.tif" for column in range(1, 5)]
"""What somebody exported into a Harmony folder; ImageXpress would call planes so."""


def auto() -> Auto:
    return Auto(INSTRUMENTS)


def read(asked: Auto, names: Sequence[str]) -> list[Reading]:
    return [asked.read_name("root", PurePosixPath(name)) for name in names]


def kinds(readings: Sequence[Reading]) -> list[FileKind]:
    return [reading.kind for reading in readings]


class Copycat(Harmony):
    """Claims all that Harmony writes, and says the same of it."""

    name = "copycat"


class Notes(Harmony):
    """Has the same metadata, and no planes that are called so."""

    name = "notes"

    def read_name(self, root_name: str, path: PurePosixPath) -> Reading:
        reading = super().read_name(root_name, path)
        return reading if reading.kind is FileKind.METADATA else Reading(FileKind.UNKNOWN, problem="no plane")


# ---- one name


@pytest.mark.parametrize(("instrument", "name"), PLANES.items(), ids=PLANES)
def test_a_plane_is_of_the_one_instrument_that_has_such_names(instrument: str, name: str) -> None:
    reading = auto().read_name("root", PurePosixPath(name))
    assert reading.kind in {FileKind.PLANE, FileKind.BUNDLE}
    assert reading.instrument == instrument


def test_a_name_that_two_claim_is_not_guessed() -> None:
    asked = Auto((Harmony(), ImageXpress(), Copycat()))
    reading = asked.read_name("root", PurePosixPath(HARMONY[0]))
    assert reading.kind is FileKind.UNKNOWN
    for words in ("harmony and copycat", "set watch.instrument"):
        assert words in reading.problem


def test_a_number_that_is_out_of_range_is_refused_by_whoever_has_such_names() -> None:
    (bad,) = read(auto(), ["P__M/Images/r99c01f01p01-ch1sk1fk1fl1.tiff"])
    assert bad.kind is FileKind.UNKNOWN
    assert "row 99" in bad.problem


def test_a_first_name_out_of_range_does_not_hide_those_that_follow() -> None:
    asked = auto()
    read(asked, ["P__M/Images/r99c01f01p01-ch1sk1fk1fl1.tiff"])
    assert kinds(read(asked, HARMONY)) == [FileKind.PLANE] * len(HARMONY)


def test_guids_do_not_make_names_differ() -> None:
    guids = ["11F777E5-3795-4B08-BB89-F854F3414F88", "DEADBEEF-0000-4B08-BB89-00000000000A"]
    readings = read(auto(), [f"2023-02-21/1334/P_E08_s1_w{channel}{guid}.tif" for guid in guids for channel in (1, 2)])
    assert kinds(readings) == [FileKind.PLANE] * 4
    assert {reading.address.acquisition.plate for reading in readings if reading.address} == {"P"}


def test_a_name_that_fits_nowhere_is_refused_by_the_nearest_grammar() -> None:
    (reading,) = read(auto(), ["P__M/Images/r01c01f01p01-ch1sk1fk1.tiff"])
    assert reading.kind is FileKind.UNKNOWN
    assert "a Harmony plane" in reading.problem
    assert "FLIM" in reading.problem


def test_in_a_folder_that_is_known_it_is_refused_by_that_instruments_grammar() -> None:
    *_, reading = read(auto(), [*HARMONY, "P__M/Images/P_A01_T0001F001L01A01Z01.tif"])
    assert reading.kind is FileKind.UNKNOWN
    assert "a Harmony plane" in reading.problem


def test_a_name_that_fits_nowhere_at_all_is_refused_by_all() -> None:
    (reading,) = read(auto(), ["P/%%%.bmp"])
    assert reading.kind is FileKind.UNKNOWN
    for instrument in INSTRUMENTS:
        assert instrument.name in reading.problem


# ---- two instruments in one folder


def test_planes_of_two_instruments_in_a_folder_are_refused_as_soon_as_both_are_seen() -> None:
    first, stranger, later = read(auto(), [HARMONY[0], STRAYS[0], HARMONY[1]])
    assert first.kind is FileKind.PLANE
    assert kinds([stranger, later]) == [FileKind.UNKNOWN] * 2
    for reading in (stranger, later):
        for words in ("harmony", "imagexpress", "set watch.instrument"):
            assert words in reading.problem
    assert "overview_A01.tif" in later.problem


def test_who_looks_ahead_refuses_all_of_them_in_any_order() -> None:
    for names in ([*HARMONY[:4], *STRAYS], [*STRAYS, *HARMONY[:4]]):
        asked = auto()
        asked.look_ahead(map(PurePosixPath, names))
        assert kinds(read(asked, names)) == [FileKind.UNKNOWN] * 8


def test_a_stray_picture_does_not_cost_a_plate() -> None:
    names = [STRAYS[0], *HARMONY]
    assert len(HARMONY) >= SURE
    asked = auto()
    asked.look_ahead(map(PurePosixPath, names))
    stray, *rest = read(asked, names)
    assert kinds(rest) == [FileKind.PLANE] * len(HARMONY)
    assert stray.kind is FileKind.UNKNOWN
    assert "in a folder with planes of harmony" in stray.problem


def test_two_instruments_in_two_folders_are_no_mixture() -> None:
    names = list(PLANES.values())
    apart = [name.replace("P__M", f"P{number}__M") for number, name in enumerate(names)]
    assert [reading.instrument for reading in read(auto(), apart)] == list(PLANES)


def test_planes_in_different_folders_of_one_measurement_are_a_mixture() -> None:
    *_, last = read(auto(), [PLANES["harmony"], PLANES["imagexpress"]])
    assert last.kind is FileKind.UNKNOWN
    assert "harmony" in last.problem


def test_who_reads_the_same_names_twice_knows_from_the_start_what_it_found() -> None:
    names = [STRAYS[0], *HARMONY]
    asked = auto()
    assert FileKind.UNKNOWN in kinds(read(asked, names))[1:]
    assert asked.is_shared
    asked.start_over()
    assert kinds(read(asked, names)) == [FileKind.UNKNOWN, *[FileKind.PLANE] * len(HARMONY)]


def test_what_is_known_of_one_watched_folder_is_nothing_to_another() -> None:
    asked = auto()
    read(asked, [HARMONY[0]])
    other = afresh(asked)
    assert other.read_name("root", PurePosixPath(STRAYS[0])).kind is FileKind.PLANE
    harmony = Harmony()
    assert afresh(harmony) is harmony


# ---- metadata and the rest


def test_metadata_may_come_before_any_plane() -> None:
    (reading,) = read(auto(), ["P__M/MeasurementData.mlf"])
    assert (reading.kind, reading.instrument) == (FileKind.METADATA, "cellvoyager")


def test_metadata_of_another_instrument_than_the_folders_planes_is_passed_over() -> None:
    *_, reading = read(auto(), [PLANES["cellvoyager"], "P__M/P.HTD"])
    assert reading.kind is FileKind.NO_DATA


def test_metadata_that_two_claim_follows_the_planes_of_its_folder() -> None:
    asked = Auto((Harmony(), Notes(), ImageXpress()))
    before, plane, after = read(asked, ["P__M/Images/Index.idx.xml", HARMONY[0], "P__M/Images/Index.xml"])
    assert (before.kind, before.instrument) == (FileKind.METADATA, "")
    assert plane.instrument == "harmony"
    assert (after.kind, after.instrument) == (FileKind.METADATA, "harmony")


def test_metadata_is_read_by_whoever_claims_it(shared_data: Path) -> None:
    promised = auto().read_metadata(shared_data / "operetta-index" / "Images" / "Index.idx.xml")
    assert promised is not None
    assert promised.plate_id == "Test_Sample_BALL"
    contents = auto().read_metadata(shared_data / "operetta-index" / "Assaylayout" / "Unnamed.xml")
    assert contents is None or isinstance(contents, Manifest)


def test_metadata_that_two_read_promises_nothing(shared_data: Path) -> None:
    asked = Auto((Harmony(), Copycat()))
    assert asked.read_metadata(shared_data / "operetta-index" / "Images" / "Index.idx.xml") is None


def test_a_watched_folder_below_a_hidden_one_does_not_hide_its_metadata(tmp_path: Path) -> None:
    folder = tmp_path / ".data"
    folder.mkdir()
    path = folder / "Index.xml"
    path.write_text("<a/>", "utf-8")
    assert [each.name for each in auto()._claimants_of_metadata(path)] == ["harmony"]


def test_what_no_grammar_claims_belongs_with_the_planes_of_its_folder() -> None:
    asked = auto()
    thumb, note = PurePosixPath("2023-02-21/1334/ZStep_1/P_A01_s1_w1_thumb.tif"), PurePosixPath("2023-02-21/1334/a.png")
    assert asked.measurement_folder(thumb) == PurePosixPath("2023-02-21/1334")
    assert asked.acquisition_of("root", note) == AcquisitionId("1334", "2023-02-21")
    read(asked, ["2023-02-21/1334/ZStep_1/P_A01_s1_w1.tif"])
    assert asked.measurement_folder(thumb) == PurePosixPath("2023-02-21/1334")
    assert instrument_name(asked, thumb) == "imagexpress"
    assert instrument_name(asked, PurePosixPath("elsewhere/a.png")) == "auto"


def test_a_folder_and_an_acquisition_are_told_before_the_name_is_read() -> None:
    asked = auto()
    path = PurePosixPath(PLANES["scanr"])
    assert asked.measurement_folder(path) == PurePosixPath("P__M")
    assert asked.acquisition_of("root", path) == AcquisitionId("P", "M")


def test_a_page_of_a_bundle_belongs_where_the_bundle_does() -> None:
    asked = auto()
    page = PurePosixPath(f"{PLANES['ome']}#3")
    assert asked.acquisition_of("root", page) == AcquisitionId("P", "M")
    assert instrument_name(asked, page) == "ome"


def test_bundles_and_tags_are_read_by_whose_they_are() -> None:
    asked, tags = auto(), TiffTags(description="<OME/>")
    with pytest.raises(ValueError, match="OME-XML"):
        asked.read_bundle("root", PurePosixPath(PLANES["ome"]), tags)
    with pytest.raises(ValueError, match="no instrument"):
        asked.read_bundle("root", PurePosixPath("P/a.png"), tags)
    assert asked.read_tags(PurePosixPath("P/a.png"), tags) is None
    assert asked.promise_of_bundle(TiffTags()) is None


def test_auto_reads_and_does_not_write() -> None:
    with pytest.raises(ValueError, match="auto"):
        auto().plane_path(PlaneAddress(AcquisitionId("P", "M"), WellPosition(1, 1), 1, "1"))


def test_several_threads_may_ask_one() -> None:
    asked, ready = auto(), Barrier(4)
    found: list[list[Reading]] = []

    def ask() -> None:
        ready.wait(10)
        found.append(read(asked, HARMONY))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [kinds(readings) for readings in found] == [[FileKind.PLANE] * len(HARMONY)] * 4
    assert asked.mixtures == []


# ---- in words


def test_the_log_is_told_why() -> None:
    assert why(auto(), PurePosixPath(HARMONY[0])) == (
        "of 8 instruments only harmony has names like r01c01f01p01-ch1sk1fk1fl1.tiff"
    )
    assert why(Harmony(), PurePosixPath(HARMONY[0])) == 'watch.instrument = "harmony"'


def test_a_folder_is_recognised_from_a_few_files_and_why_is_said() -> None:
    names = ["Images/Index.idx.xml", *(name.removeprefix("P__M/") for name in HARMONY[:3]), "Images/notes.tiff"]
    found = recognise("P__M", [PurePosixPath(name) for name in names], INSTRUMENTS)
    assert found.instruments == ("harmony",)
    assert found.why == "as harmony: 4 of 5 names fit, with Images/Index.idx.xml"
    assert found.refusal == ""


def test_a_folder_of_two_is_refused_with_both_names() -> None:
    found = recognise("root", [PurePosixPath(name) for name in (*HARMONY[:2], STRAYS[0])], INSTRUMENTS)
    assert found.refusal.startswith("P__M/Images holds planes of harmony (2, such as r01c01")
    assert "imagexpress (1, such as overview_A01.tif)" in found.refusal
    assert found.refusal.count("holds planes") == 1


def test_a_folder_without_planes_is_nobodys() -> None:
    nothing = recognise("root", [], INSTRUMENTS)
    assert (nothing.instruments, nothing.why, nothing.refusal) == ((), "no image yet", "")
    early = recognise("root", [PurePosixPath("P/P.HTD")], INSTRUMENTS)
    assert early.why == "no plane yet, and P/P.HTD"
    strange = recognise("root", [PurePosixPath("P/x.tif")], INSTRUMENTS)
    assert strange.why.startswith("no name fits; P/x.tif: ")


@pytest.mark.parametrize("guid", ["28BCE555-1111-4222-8333-444455556666", "D5F8F51A-3E85-4358-AE51-A465AF87386F"])
def test_a_guid_after_a_number_does_not_hide_whose_the_name_is(guid: str) -> None:
    auto = Auto(INSTRUMENTS)
    path = PurePosixPath(f"P1__1/TimePoint_1/P1_A03_s2_w2{guid}.tif")
    assert auto.read_name("in", path).instrument == "imagexpress"
    assert "only imagexpress" in auto.why(path)
