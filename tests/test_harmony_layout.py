"""Harmony's assay layout: what the experimenter wrote into the wells."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from hcs_daemon.instruments.harmony import Harmony
from hcs_daemon.instruments.harmony_layout import read_assay_layout
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.plate import PlateLayout, WellContent, WellPosition

V5 = "http://www.perkinelmer.com/PEHH/HarmonyV5"


def layer(name: str, values: Mapping[str, str], kind: str = "string") -> str:
    wells = ""
    for well, value in values.items():
        place = WellPosition.parse(well)
        wells += f"<Well><Row>{place.row}</Row><Col>{place.column}</Col><Value>{value}</Value><Color>1</Color></Well>"
    return f"<Layer><Name>{name}</Name><ValueType>{kind}</ValueType>{wells}</Layer>"


def written(folder: Path, *layers: str, shape: str = "<PlateCols>12</PlateCols><PlateRows>8</PlateRows>") -> Path:
    path = folder / "Assaylayout" / "Screen.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'<AssayLayout xmlns="{V5}">{shape}{"".join(layers)}</AssayLayout>', "utf-8")
    return path


def wells_of(path: Path) -> dict[str, WellContent]:
    manifest = read_assay_layout(path)
    assert manifest is not None
    return {well.name: content for well, content in manifest.layout.wells.items()} if manifest.layout else {}


def test_the_real_layout_says_the_plates_shape_and_nothing_of_its_wells(shared_data: Path) -> None:
    path = shared_data / "operetta-index" / "Assaylayout" / "Unnamed.xml"
    assert Harmony().read_metadata(path) == Manifest(rows=16, columns=24)


def test_compound_concentration_and_role_are_joined_a_well(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        layer("Compound", {"A01": "DMSO", "B02": "Nocodazole", "C03": " Taxol "}),
        layer("Concentration [nM]", {"A01": "0", "B02": "250", "C03": "1e3"}, "double"),
        layer("Role", {"A01": "Control", "B02": "treatment", "C03": "sentinel"}),
        layer("Cell type", {"A01": "U2OS", "D04": "U2OS"}),
    )
    assert read_assay_layout(path) == Manifest(
        rows=8,
        columns=12,
        layout=PlateLayout(
            "Assaylayout/Screen.xml",
            hashlib.sha256(path.read_bytes()).hexdigest(),
            {
                WellPosition(1, 1): WellContent("DMSO", 0.0, "control"),
                WellPosition(2, 2): WellContent("Nocodazole", 0.25, "treatment"),
                WellPosition(3, 3): WellContent("Taxol", 1.0, "sentinel"),
            },
        ),
    )


@pytest.mark.parametrize(
    ("name", "value", "concentration_um"),
    [
        ("Concentration", "10 µM", 10.0),
        ("Concentration", "10 uM", 10.0),
        ("concentration (mM)", "0.5", 500.0),
        ("Concentration_µM", "5", 5.0),
        ("Conc. [µM]", "5", 5.0),
        ("Conc in nM", "5", 0.005),
        ("Concentration/pM", "5", 0.000005),
        ("Compound Concentration [M]", "1e-5", 10.0),
        ("Concentration", "10", None),
        ("Concentration [%]", "10", None),
        ("ConcentrationEC", "10 µM", None),
        ("Concentration [µM]", "high", None),
        ("Concentration [µM]", "10 nM", None),
    ],
)
def test_a_concentration_is_read_with_its_unit_and_never_without_one(
    tmp_path: Path, name: str, value: str, concentration_um: float | None
) -> None:
    wells = wells_of(written(tmp_path, layer("Compound", {"A01": "Taxol"}), layer(name, {"A01": value})))
    assert wells == {"A01": WellContent("Taxol", concentration_um)}


@pytest.mark.parametrize("name", ["Sample Type", "Well_Type", "ROLE", "Control"])
def test_a_role_goes_by_several_names(tmp_path: Path, name: str) -> None:
    assert wells_of(written(tmp_path, layer(name, {"B03": "Reference"}))) == {"B03": WellContent(role="reference")}


def test_of_two_layers_that_say_the_same_thing_the_first_counts(tmp_path: Path) -> None:
    path = written(tmp_path, layer("Compound", {"A01": "Taxol"}), layer("Drug", {"A01": "T-17", "A02": "T-18"}))
    assert wells_of(path) == {"A01": WellContent("Taxol")}


def test_a_number_that_harmony_filled_in_is_no_content(tmp_path: Path) -> None:
    path = written(tmp_path, layer("Concentration [µM]", {"A01": "0", "A02": "3"}, "double"))
    assert wells_of(path) == {"A02": WellContent(concentration_um=3.0)}


@pytest.mark.parametrize(
    "wrapped",
    [
        "<AssayLayoutEntry><AssayLayout>{}</AssayLayout></AssayLayoutEntry>",
        "{}",
    ],
)
def test_layers_are_found_at_any_depth(tmp_path: Path, wrapped: str) -> None:
    path = written(tmp_path, wrapped.format(layer("Compound", {"A01": "Taxol"})), shape="")
    assert wells_of(path) == {"A01": WellContent("Taxol")}


@pytest.mark.parametrize("place", ["<Row>0</Row><Col>1</Col>", "<Row>x</Row><Col>1</Col>", "<Row>1</Row>", ""])
def test_a_well_without_a_place_is_left_out(tmp_path: Path, place: str) -> None:
    odd = f"<Layer><Name>Compound</Name><Well>{place}<Value>Taxol</Value></Well></Layer>"
    assert wells_of(written(tmp_path, odd)) == {}


@pytest.mark.parametrize(
    "text",
    ["", "<AssayLayout/>", "<AssayLayout><Layer>", "no xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "<a>" * 3000],
)
def test_an_empty_cut_or_hostile_layout_says_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Unnamed.xml"
    path.write_text(text, "utf-8")
    assert read_assay_layout(path) is None


def test_a_layout_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_assay_layout(tmp_path / "Unnamed.xml")
