"""Harmony's index: what is to come of a plate, how its channels are taken, and what evens their light."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from fakes import no_sleep
from hcs_daemon.instruments.flatfield import PolynomialProfile
from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.harmony_index import read_index, read_profiles
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind
from hcs_daemon.plate import WellPosition
from hcs_daemon.records import ChannelFacts
from hcs_daemon.simulate.instrument import simulate_plate

V5, V6 = "http://www.perkinelmer.com/PEHH/HarmonyV5", "http://www.perkinelmer.com/PEHH/HarmonyV6"
V7 = "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"
ONE = frozenset({1})
B02, C03 = WellPosition(2, 2), WellPosition(3, 3)
FACTS = (
    "<ChannelName>HOECHST 33342</ChannelName><ImageResolutionX Unit='m'>2.96688132474701E-07</ImageResolutionX>"
    "<MaxIntensity>65535</MaxIntensity><MainExcitationWavelength Unit='nm'>375</MainExcitationWavelength>"
    "<MainEmissionWavelength Unit='nm'>456</MainEmissionWavelength><ObjectiveMagnification Unit=''>40"
    "</ObjectiveMagnification><ObjectiveNA Unit=''>1.1</ObjectiveNA><ExposureTime Unit='s'>0.1</ExposureTime>"
)
HOECHST = ChannelFacts(
    id="1",
    name="HOECHST 33342",
    excitation_nm=375.0,
    emission_nm=456.0,
    exposure_ms=100.0,
    pixel_size_um=0.296688,
    objective="40x, NA 1.1",
    bit_depth=16,
)
PROFILE = (
    "{Background: {Character: NonFlat, Mean: 150.1, Profile: {Coefficients: [[1.0]], Dims: [4, 4], Origin: [1.5, 1.5], "
    "Scale: [0.25, 0.25], Type: Polynomial}, Quality: 1.0}, Channel: 1, ChannelName: Alexa 488, Foreground: "
    "{Character: NonFlat, Profile: {Coefficients: [[1.1], [-0.02, 0.03], [-0.8, -0.07, -0.29]], Dims: [4, 4], "
    "Origin: [1.5, 1.5], Scale: [0.25, 0.25], Type: Polynomial}, Quality: 1.0}, Version: Acapella:2013}"
)


def document(*images: str, head: str = "", entries: str = "", namespace: str = V7) -> str:
    maps = f"<Maps><Map>{entries}</Map></Maps>" if entries else ""
    return (
        '\ufeff<?xml version="1.0" encoding="utf-8"?>\n'
        f'<EvaluationInputData Version="1" xmlns="{namespace}">{head}{maps}<Images>{"".join(images)}</Images>'
        "</EvaluationInputData>"
    )


def image(well: WellPosition = B02, site: int = 1, url: str | None = None, more: str = "", **numbers: object) -> str:
    """An entry with its own numbers, and where `url` is given that. numbers: tag=value, `None` leaves a tag out."""
    said = {"Row": well.row, "Col": well.column, "FieldID": site, "PlaneID": 1, "TimepointID": 1, "ChannelID": 1}
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in (said | numbers).items() if value is not None)
    named = "" if url is None else f"<URL>{url}</URL>"
    return f'<Image Version="1"><id>0202K1F1P1R1</id><State>Ok</State>{named}{tags}{more}</Image>'


def said_by(folder: Path, text: str) -> Manifest:
    path = folder / "Index.xml"
    path.write_text(text, "utf-8")
    manifest = read_index(path)
    assert manifest is not None
    return manifest


def test_the_real_index_of_an_operetta_says_all_of_its_plate(shared_data: Path) -> None:
    images = shared_data / "operetta-index" / "Images"
    manifest = Harmony().read_metadata(images / "Index.idx.xml")
    assert manifest is not None
    assert manifest == Manifest(
        planes={C03: {(1, 1, "1"): ONE, (2, 1, "1"): ONE}},
        may_grow=True,
        last=(C03, 1),
        rows=16,
        columns=24,
        channels={
            "1": ChannelFacts(
                id="1",
                name="Fluorescein (FITC)",
                excitation_nm=475.0,
                emission_nm=525.0,
                exposure_ms=6.0,
                pixel_size_um=1.195952,
                objective="10x, NA 0.3",
                bit_depth=16,
            )
        },
        pixel_size_um=1.195952,
        flatfields=manifest.flatfields,
        plate_id="Test_Sample_BALL",
        measurement_id="6f2adb32-6c4b-4583-b792-9aefb0aa3cf0",
    )
    assert manifest.flatfields == {
        "1": PolynomialProfile(
            coefficients=(
                (1.0698,),
                (-0.0261, -0.1196),
                (0.2485, -0.071, 0.2161),
                (-0.4354, 0.3363, -0.3593, 0.3248),
                (-2.9046, 0.2895, -5.3735, -0.7993, -2.7913),
            ),
            dims=(1080, 1080),
            origin=(539.5, 539.5),
            scale=(0.00092592593, 0.00092592593),
        )
    }


def test_the_real_index_promises_the_files_that_are_there_under_their_names(shared_data: Path) -> None:
    folder = shared_data / "operetta-index"
    manifest = read_index(folder / "Images" / "Index.idx.xml")
    assert manifest is not None
    on_disk: dict[WellPosition, dict[tuple[int, int, str], frozenset[int]]] = {}
    for path in folder.rglob("*.tiff"):
        address = Harmony().read_name("in", PurePosixPath("operetta-index/Images", path.name)).address
        assert address is not None
        on_disk.setdefault(address.position, {})[address.site, address.time, address.channel] = frozenset({address.z})
    assert manifest.planes == on_disk


def test_everything_in_the_real_folder_is_known(shared_data: Path) -> None:
    folder = shared_data / "operetta-index"
    kinds = {
        path.relative_to(folder).as_posix(): Harmony().read_name("in", PurePosixPath(path.relative_to(folder))).kind
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert kinds == {
        "Assaylayout/Unnamed.xml": FileKind.METADATA,
        "Images/Index.idx.xml": FileKind.METADATA,
        "Images/r03c03f01p01-ch1sk1fk1fl1.tiff": FileKind.PLANE,
        "Images/r03c03f02p01-ch1sk1fk1fl1.tiff": FileKind.PLANE,
    }


def test_the_simulated_index_promises_exactly_the_planes_beside_it(tmp_path: Path) -> None:
    plate = simulate_plate(tmp_path, plate="P", wells=6, sites=2, size_px=48, sleep=no_sleep)
    manifest = read_index(plate.folder / "Images" / "Index.xml")
    assert manifest is not None
    promised = {
        (position, *key, z) for position, well in manifest.planes.items() for key, steps in well.items() for z in steps
    }
    readings = [
        Harmony().read_name("in", PurePosixPath("P/Images", path.name)).address for path in plate.folder.rglob("*.tiff")
    ]
    assert promised == {(each.position, each.site, each.time, each.channel, each.z) for each in readings if each}
    assert (manifest.rows, manifest.columns, manifest.plate_id) == (2, 3, "P")
    assert {id_: facts.name for id_, facts in manifest.channels.items()} == {
        "1": "DNA",
        "2": "ER",
        "3": "RNA",
        "4": "AGP",
        "5": "Mito",
    }
    assert manifest.never == {}


@pytest.mark.parametrize("namespace", [V5, V6, V7])
def test_z_steps_time_points_and_channels_are_those_of_the_file_names(tmp_path: Path, namespace: str) -> None:
    names = [
        f"r02c02f0{site}p0{z}-ch{channel}sk{time}fk1fl1.tiff"
        for site in (1, 2)
        for channel, steps in ((1, (1, 2, 3)), (4, (2,)))
        for z in steps
        for time in (1, 2)
    ]
    manifest = said_by(tmp_path, document(*(image(url=name) for name in names), namespace=namespace))
    assert manifest.planes == {
        B02: {
            (site, time, channel): steps
            for site in (1, 2)
            for time in (1, 2)
            for channel, steps in (("1", frozenset({1, 2, 3})), ("4", frozenset({2})))
        }
    }
    assert manifest.exact_z


@pytest.mark.parametrize(
    "url",
    [
        "r02c02f01p01-ch5sk1fk1fl1.tiff",
        "R02C02F01P01-CH05SK1FK1FL1.TIF",
        "..\\Images\\r02c02f01p01-ch5sk1fk1fl1.tiff",
        "http://server/share/r02c02f01p01-ch5sk1fk1fl1.tiff",
    ],
)
def test_the_name_in_the_url_counts_and_not_the_numbers_beside_it(tmp_path: Path, url: str) -> None:
    manifest = said_by(tmp_path, document(image(C03, 9, url, TimepointID=0)))
    assert manifest.planes == {B02: {(1, 1, "5"): ONE}}


def test_without_a_name_the_record_is_the_channel_and_time_point_0_is_called_1(tmp_path: Path) -> None:
    manifest = said_by(
        tmp_path,
        document(
            image(url="http://server/images/0815", TimepointID=0, RecordID=6),
            image(TimepointID=1, ChannelID=2),
            image(C03, 3, PlaneID=None, TimepointID=2),
        ),
    )
    assert manifest.planes == {B02: {(1, 1, "6"): ONE, (1, 2, "2"): ONE}, C03: {(3, 3, "1"): ONE}}
    assert manifest.last == (C03, 3)


def test_without_a_name_time_points_that_count_from_1_stay(tmp_path: Path) -> None:
    manifest = said_by(tmp_path, document(image(TimepointID=1), image(TimepointID=2)))
    assert manifest.planes == {B02: {(1, 1, "1"): ONE, (1, 2, "1"): ONE}}


def test_an_entry_without_a_name_is_moved_in_time_as_those_with_one_are(tmp_path: Path) -> None:
    manifest = said_by(
        tmp_path,
        document(
            image(url="r02c02f01p01-ch1sk3fk1fl1.tiff", TimepointID=1), image(url="http://server/1", TimepointID=2)
        ),
    )
    assert manifest.planes == {B02: {(1, 3, "1"): ONE, (1, 4, "1"): ONE}}
    assert manifest.never == {}


def test_further_exposures_and_flim_images_are_no_planes_of_their_own(tmp_path: Path) -> None:
    manifest = said_by(
        tmp_path,
        document(
            image(url="r02c02f01p01-ch1sk1fk1fl1.tiff"),
            image(url="r02c02f02p01-ch1sk1fk2fl1.tiff"),
            image(url="r02c02f03p01-ch1sk1fk1fl2.tiff"),
            image(site=4, ExposureID=2),
            image(site=5, FlimID=2),
            image(site=6, ExposureID=1, FlimID=1),
        ),
    )
    assert manifest.planes == {B02: {(1, 1, "1"): ONE, (6, 1, "1"): ONE}}


def test_an_image_without_a_file_beside_others_that_have_one_was_not_taken(tmp_path: Path) -> None:
    """Such entries stand in the index of a published Operetta plate (idr0034)."""
    manifest = said_by(tmp_path, document(image(url="r02c02f01p01-ch1sk1fk1fl1.tiff"), image(site=2, url="")))
    assert manifest.planes == {B02: {(1, 1, "1"): ONE, (2, 1, "1"): ONE}}
    assert manifest.never == {B02: {(2, 1, "1"): ONE}}


def test_an_index_in_which_no_image_has_a_file_promises_them_all(tmp_path: Path) -> None:
    manifest = said_by(tmp_path, document(image(url=""), image(site=2, url="")))
    assert set(manifest.planes[B02]) == {(1, 1, "1"), (2, 1, "1")}
    assert manifest.never == {}


def test_an_image_of_another_state_was_not_taken_unless_it_has_a_file(tmp_path: Path) -> None:
    failed = image(site=2).replace("<State>Ok", "<State>Failed")
    failed_with_file = image(url="r02c02f03p01-ch1sk1fk1fl1.tiff").replace("<State>Ok", "<State>Failed")
    manifest = said_by(tmp_path, document(image(), failed, failed_with_file))
    assert set(manifest.planes[B02]) == {(1, 1, "1"), (2, 1, "1"), (3, 1, "1")}
    assert manifest.never == {B02: {(2, 1, "1"): ONE}}


def test_an_image_that_failed_and_was_taken_again_is_taken(tmp_path: Path) -> None:
    failed = image(url="").replace("<State>Ok", "<State>Failed")
    manifest = said_by(tmp_path, document(failed, image(url="r02c02f01p01-ch1sk1fk1fl1.tiff"), failed))
    assert manifest.planes == {B02: {(1, 1, "1"): ONE}}
    assert manifest.never == {}


@pytest.mark.parametrize(
    "entry",
    [
        image(Col="x"),
        image(Row=99),
        image(FieldID=0),
        image(FieldID=None),
        image(ChannelID=None),
        image(ChannelID="\u0663"),
        image(FieldID="9" * 30),
        "<Image><FieldID>1</FieldID></Image>",
        image(url="r99c01f01p01-ch1sk1fk1fl1.tiff", Row=99),
    ],
)
def test_an_entry_without_an_address_promises_nothing(tmp_path: Path, entry: str) -> None:
    manifest = said_by(tmp_path, document(image(C03, 2), entry))
    assert manifest.planes == {C03: {(2, 1, "1"): ONE}}
    assert manifest.last == (C03, 1)


def test_an_index_that_grows_tells_its_end(tmp_path: Path) -> None:
    head = (
        "<Plates><Plate><PlateID>BR1</PlateID><PlateRows>8</PlateRows><PlateColumns>12</PlateColumns></Plate></Plates>"
    )
    first = image(url="r02c02f01p01-ch1sk1fk1fl1.tiff")
    empty = said_by(tmp_path, document(head=head))
    begun = said_by(tmp_path, document(first, head=head))
    grown = said_by(tmp_path, document(first, image(url="r03c03f01p01-ch1sk2fk1fl1.tiff"), head=head))
    assert empty == Manifest(may_grow=True, rows=8, columns=12, plate_id="BR1")
    assert begun == replace(empty, planes={B02: {(1, 1, "1"): ONE}}, last=(B02, 1))
    assert grown == replace(begun, planes={**begun.planes, C03: {(1, 2, "1"): ONE}}, last=(C03, 2))


def test_channel_facts_stand_in_the_images_of_v5_and_in_the_maps_of_later_schemas(tmp_path: Path) -> None:
    name = "r02c02f01p01-ch1sk1fk1fl1.tiff"
    within = said_by(tmp_path, document(image(url=name, more=FACTS), namespace=V5))
    beside = said_by(tmp_path, document(image(url=name), entries=f"<Entry ChannelID='1'>{FACTS}</Entry>"))
    assert within.channels == beside.channels == {"1": HOECHST}
    assert within.pixel_size_um == beside.pixel_size_um == 0.296688


def test_facts_in_several_maps_are_one_and_the_image_itself_counts_first(tmp_path: Path) -> None:
    entries = (
        "<Entry ChannelID='1'><FlatfieldProfile>{}</FlatfieldProfile></Entry></Map><Map>"
        f"<Entry ChannelID='1'>{FACTS}</Entry>"
    )
    named = image(url="r02c02f01p01-ch1sk1fk1fl1.tiff", more="<ChannelName>DNA</ChannelName>")
    assert said_by(tmp_path, document(named, entries=entries)).channels == {"1": replace(HOECHST, name="DNA")}


def test_an_entry_is_of_the_channel_whose_images_have_its_id(tmp_path: Path) -> None:
    """The ids of entries and those in the names may differ."""
    entries = f"<Entry ChannelID='2'>{FACTS}<FlatfieldProfile>{PROFILE}</FlatfieldProfile></Entry>"
    manifest = said_by(tmp_path, document(image(url="r02c02f01p01-ch7sk1fk1fl1.tiff", ChannelID=2), entries=entries))
    assert manifest.channels == {"7": replace(HOECHST, id="7")}
    assert set(manifest.flatfields) == {"7"}


def test_an_entry_that_may_be_of_several_channels_is_of_none(tmp_path: Path) -> None:
    entries = f"<Entry ChannelID='1'>{FACTS}<FlatfieldProfile>{PROFILE}</FlatfieldProfile></Entry>"
    two = [image(url=f"r02c02f01p01-ch{channel}sk1fk1fl1.tiff") for channel in (1, 2)]
    manifest = said_by(tmp_path, document(*two, entries=entries))
    assert (manifest.channels, manifest.flatfields) == ({}, {})


@pytest.mark.parametrize(
    ("tag", "lacking"),
    [
        ("<ImageResolutionX Unit='m'>nonsense</ImageResolutionX>", "pixel_size_um"),
        ("<ImageResolutionX Unit='m'>-1</ImageResolutionX>", "pixel_size_um"),
        ("<ImageResolutionX Unit='m'>nan</ImageResolutionX>", "pixel_size_um"),
        ("<ImageResolutionX Unit='m'>inf</ImageResolutionX>", "pixel_size_um"),
        ("<ImageResolutionX Unit='m'>1</ImageResolutionX>", "pixel_size_um"),
        ("<ImageResolutionX Unit='px'>2E-07</ImageResolutionX>", "pixel_size_um"),
        ("<MainEmissionWavelength Unit='nm'>0</MainEmissionWavelength>", "emission_nm"),
        ("<ExposureTime Unit='ms'>5</ExposureTime>", "exposure_ms"),
        ("<MaxIntensity>65534</MaxIntensity>", "bit_depth"),
        ("<MaxIntensity>-1</MaxIntensity>", "bit_depth"),
    ],
)
def test_a_fact_that_cannot_be_or_is_in_another_unit_is_none(tmp_path: Path, tag: str, lacking: str) -> None:
    manifest = said_by(tmp_path, document(image(more=tag + "<ChannelName>DNA</ChannelName>")))
    assert manifest.channels == {"1": ChannelFacts(id="1", name="DNA")}
    assert getattr(manifest.channels["1"], lacking) is None


@pytest.mark.parametrize(("largest", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14), (65535, 16)])
def test_the_largest_value_tells_the_bits(tmp_path: Path, largest: int, bits: int) -> None:
    manifest = said_by(tmp_path, document(image(more=f"<MaxIntensity>{largest}</MaxIntensity>")))
    assert manifest.channels["1"].bit_depth == bits


@pytest.mark.parametrize(("second", "common"), [("5.98E-07", 0.598), ("6.09E-07", 0.598), ("6.2E-07", None)])
def test_the_pixel_size_is_one_where_all_channels_agree_to_two_per_cent(
    tmp_path: Path, second: str, common: float | None
) -> None:
    sizes = ("5.98E-07", second)
    manifest = said_by(
        tmp_path,
        document(
            *(
                image(more=f"<ImageResolutionX Unit='m'>{size}</ImageResolutionX>", ChannelID=id_)
                for id_, size in enumerate(sizes, 1)
            )
        ),
    )
    assert manifest.pixel_size_um == common
    assert [facts.pixel_size_um for facts in manifest.channels.values()] == [
        round(float(size) * 1e6, 6) for size in sizes
    ]


@pytest.mark.parametrize("rows", ["0", "33", "x", "-8", ""])
def test_a_plate_that_cannot_be_has_no_shape(tmp_path: Path, rows: str) -> None:
    head = f"<Plates><Plate><PlateID>BR1</PlateID><PlateRows>{rows}</PlateRows></Plate></Plates>"
    manifest = said_by(tmp_path, document(image(), head=head))
    assert (manifest.rows, manifest.columns, manifest.plate_id) == (None, None, "BR1")


@pytest.mark.parametrize("profile", ["", "Identity", "{Foreground: {Profile: {Type: Identity}}}"])
def test_a_channel_whose_profile_is_not_understood_has_no_correction(tmp_path: Path, profile: str) -> None:
    entries = "".join(
        f"<Entry ChannelID='{id_}'><FlatfieldProfile>{text}</FlatfieldProfile></Entry>"
        for id_, text in ((1, PROFILE), (2, profile))
    )
    manifest = said_by(tmp_path, document(image(), image(ChannelID=2), entries=entries))
    assert set(manifest.flatfields) == {"1"}


def test_a_file_of_profiles_alone_names_channels_as_the_files_do(tmp_path: Path) -> None:
    """As Harmony exports it beside the images, with the associated files of a measurement."""
    path = tmp_path / "FFC_Profile" / "FFC_Profile_Measurement 1.xml"
    path.parent.mkdir()
    entries = "".join(
        f'<Entry ChannelID="{id_}"><FlatfieldProfile>{text}</FlatfieldProfile></Entry>'
        for id_, text in ((1, "{Background: {}}"), (3, PROFILE))
    )
    path.write_text(f'<Results xmlns="{V5}"><Version>2</Version><Map>{entries}</Map></Results>', "utf-8")
    profile = PolynomialProfile.parse(PROFILE)
    assert profile is not None
    assert Harmony().read_metadata(path) == Manifest(flatfields={"3": profile})


@pytest.mark.parametrize("text", ["", "<Results/>", "<Results><Map></Results>"])
def test_a_file_without_profiles_says_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.xml"
    path.write_text(text, "utf-8")
    assert read_profiles(path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        document(),
        "<a/>",
        document(image())[:-30],
        document(image())[:200],
        "no xml at all",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>',
        '<?xml version="1.0" encoding="utf-7"?><a/>',
        '<?xml version="1.0" encoding="made-up"?><a/>',
        "<a>" * 100_000,
    ],
)
def test_an_empty_cut_or_hostile_index_promises_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Index.xml"
    path.write_text(text, "utf-8")
    assert read_index(path) is None


def test_a_time_point_of_many_digits_is_none(tmp_path: Path) -> None:
    manifest = said_by(tmp_path, document(image(url="r02c02f01p01-ch1sk1fk1fl1.tiff", TimepointID="1" * 5000)))
    assert manifest.planes == {B02: {(1, 1, "1"): ONE}}


def test_an_endless_text_is_cut(tmp_path: Path) -> None:
    manifest = said_by(tmp_path, document(image(), head=f"<PlateID>{'x' * 1_000_000}</PlateID>"))
    assert manifest.plate_id is not None
    assert len(manifest.plate_id) < 100_000


def test_wells_that_are_alike_share_what_is_said_of_them(tmp_path: Path) -> None:
    """A plate of 1536 wells has 69 120 images, and 45 different ones."""
    manifest = said_by(
        tmp_path,
        document(*(image(well, site, PlaneID=z) for well in (B02, C03) for site in (1, 2) for z in (1, 2))),
    )
    keys = [key for well in manifest.planes.values() for key in well]
    steps = [steps for well in manifest.planes.values() for steps in well.values()]
    assert len({id(key) for key in keys}) == 2
    assert len({id(each) for each in steps}) == 1
    assert steps[0] == {1, 2}
