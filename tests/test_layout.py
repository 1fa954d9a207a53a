"""What is in the wells: concentrations in micromolar, and layouts in the shapes that laboratories keep them in."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from hcs_daemon.errors import LayoutError
from hcs_daemon.layout import _HEADERS, _named, check_fits, concentration_um, read_layout
from hcs_daemon.plate import PlateLayout, WellContent, WellPosition
from hcs_daemon.simulate.layout import plan_plate, write_layout

# ---- concentrations


@pytest.mark.parametrize(
    ("text", "unit", "micromolar"),
    [
        ("10", "µM", 10.0),
        ("10 µM", "", 10.0),  # the micro sign
        ("10 \u03bcM", "", 10.0),  # the Greek letter
        ("10 \u03bcM", "uM", 10.0),
        ("10uM", "", 10.0),
        ("0.1 nM", "", 1e-4),
        ("250", "pM", 2.5e-4),
        ("3 mM", "", 3000.0),
        ("1e-5 M", "", 10.0),
        ("1E-6", "M", 1.0),
        (" 10 ", " um ", 10.0),
        (".5", "NM", 5e-4),
        ("5 nmol/l", "", 5e-3),
        ("10 µmol/L", "uM", 10.0),
        ("0,5", "µM", 0.5),
        ("0,500", "µM", 0.5),
    ],
)
def test_a_concentration_is_read_with_its_unit(text: str, unit: str, micromolar: float) -> None:
    assert concentration_um(text, unit) == micromolar


@pytest.mark.parametrize("text", ["", "  ", "NA", "n/a", "nan", "-", "\u2014", "NULL"])
def test_a_cell_may_say_nothing(text: str) -> None:
    assert concentration_um(text) is None
    assert concentration_um(text, "µM") is None


@pytest.mark.parametrize("text", ["0", "0.0", "0,0", "0 nM"])
def test_zero_needs_no_unit(text: str) -> None:
    assert concentration_um(text) == 0.0


@pytest.mark.parametrize(
    ("text", "unit", "why"),
    [
        ("10", "", "no unit"),
        ("10 m", "", "not a unit"),  # milli, or molar
        ("10 mg/mL", "", "not a unit"),
        ("0.1 %", "", "not a unit"),
        ("10", "furlongs", "not a unit"),
        ("10 nM", "µM", "another unit"),
        ("-3", "µM", "less than nothing"),
        ("high", "µM", "not a concentration"),
        ("> 10 µM", "", "not a concentration"),
        ("1.2.3", "µM", "not a number"),
        ("1.000,5", "µM", "more than one decimal sign"),
        ("1,000", "µM", "a thousand or a decimal fraction"),
        ("1e999", "µM", "beyond all numbers"),
        ("1e99999999999999999999", "µM", "not a number"),
    ],
)
def test_what_is_not_sure_is_refused_and_never_guessed(text: str, unit: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        concentration_um(text, unit)


def test_where_commas_do_not_separate_they_are_decimal_signs() -> None:
    assert concentration_um("1,000", "µM", decimal_comma=True) == 1.0


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_what_is_written_in_micromolar_comes_back_to_the_last_bit(value: float) -> None:
    assert concentration_um(f"{value!r} µM") == value


# ---- a row a well


def read(folder: Path, text: str | bytes, plate: str = "P1") -> dict[str, tuple[str, float | None, str]]:
    """What a file with this text says: well -> (compound, micromolar, role)."""
    path = folder / "layout.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    wells = read_layout(path, plate).wells
    return {well.name: (said.compound, said.concentration_um, said.role) for well, said in wells.items()}


PLAIN = "well,compound,concentration,unit,role\nB03,Taxol,10,uM,treatment\nC04,DMSO,0,,control\n"
TWO_WELLS = {"B03": ("Taxol", 10.0, "treatment"), "C04": ("DMSO", 0.0, "control")}


def test_what_the_simulated_instrument_writes_is_read(tmp_path: Path) -> None:
    plans = plan_plate(96, 1, "P1")
    path = tmp_path / "layout.csv"
    write_layout(path, plans)
    found = read_layout(path, "P1")
    assert found.source == str(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.wells == {
        plan.position: WellContent(plan.compound.name, plan.concentration_um, plan.role.value) for plan in plans
    }


@pytest.mark.parametrize(
    "headers",
    [
        "well,compound,concentration,unit,role",
        "Well,Compound,Concentration,Units,Role",
        "Metadata_Well,Metadata_Compound,Metadata_Concentration,Metadata_Concentration_Unit,Metadata_Role",
        "well_position,compound_name,dose,dose_unit,well_type",
        "Image_Metadata_Well,Metadata_broad_sample,Conc.,Conc Unit,Metadata_ASSAY_WELL_ROLE",
        "Well Position,pert_iname,pert_dose,unit,pert_type",
        "Well ID,Treatment,Final conc,unit,Sample Type",
        "WellName,Metadata_JCP2022,conc,unit,control_type",
    ],
)
def test_columns_are_found_by_the_names_that_the_field_gives_them(headers: str, tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN.replace("well,compound,concentration,unit,role", headers)) == TWO_WELLS


@pytest.mark.parametrize(
    ("header", "micromolar"),
    [
        ("concentration_um", 10.0),
        ("Concentration (µM)", 10.0),
        ("Concentration (\u03bcM)", 10.0),
        ("conc [nM]", 0.01),
        ("dose_nM", 0.01),
        ("Final concentration in mM", 1e4),
        ("Metadata_Concentration (nmol/L)", 0.01),
        ("conc. (µmol/L)", 10.0),
    ],
)
def test_the_name_of_a_column_may_carry_the_unit(header: str, micromolar: float, tmp_path: Path) -> None:
    assert read(tmp_path, f"well,compound,{header}\nB03,Taxol,10\n") == {"B03": ("Taxol", micromolar, "")}


def test_every_cell_may_carry_its_own_unit(tmp_path: Path) -> None:
    found = read(tmp_path, "well,compound,dose\nB03,Taxol,10 nM\nB04,Taxol,1 mM\nB05,DMSO,0\nB06,DMSO,\n")
    assert [said[1] for said in found.values()] == [0.01, 1000.0, 0.0, None]


@pytest.mark.parametrize("place", ["B,3", "b,03", "2,3", "2.0,3.0"])
def test_a_well_may_be_a_row_and_a_column(place: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"Row,Column,Compound\n{place},Taxol\n") == {"B03": ("Taxol", None, "")}


def test_roles_are_kept_and_the_known_ones_written_alike(tmp_path: Path) -> None:
    found = read(tmp_path, "well,role\nA1,Control\nA2,TREATMENT\nA3,poscon\nA4,NA\n")
    assert {well: said[2] for well, said in found.items()} == {"A01": "control", "A02": "treatment", "A03": "poscon"}


def test_a_well_of_which_nothing_is_said_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "well,compound,concentration_um\nA1,,\nA2,NA,nan\nA3,DMSO,\n").keys() == {"A03"}


def test_lines_above_the_headers_and_other_columns_are_passed_over(tmp_path: Path) -> None:
    text = "Screen of spring,,,\n\nwell,compound,plated by,moa\nB03,Taxol,nobody,tubulin\n"
    assert read(tmp_path, text) == {"B03": ("Taxol", None, "")}


def test_headers_are_looked_for_in_the_first_hundred_lines(tmp_path: Path) -> None:
    assert read(tmp_path, "remark\n" * 99 + PLAIN) == TWO_WELLS
    with pytest.raises(LayoutError, match="in no shape"):
        read(tmp_path, "remark\n" * 100 + PLAIN)


def test_the_manual_names_every_header_that_is_read() -> None:
    words = re.findall(r"`([^`]+)`", (ROOT / "docs" / "results.md").read_text(encoding="utf-8"))
    said = {_named(word)[0] for word in words}
    said |= {f"{name}s" for name in said}
    assert {name for names in _HEADERS.values() for name in names} <= said


# ---- for several plates


MANY = "plate,well,compound\nP1,B03,Taxol\nP2,B03,DMSO\np1,B04,DMSO\n"


def test_a_file_with_a_column_plate_speaks_of_each(tmp_path: Path) -> None:
    assert {well: said[0] for well, said in read(tmp_path, MANY, "P1").items()} == {"B03": "Taxol", "B04": "DMSO"}
    assert read(tmp_path, MANY, "P2") == {"B03": ("DMSO", None, "")}


def test_without_one_it_speaks_of_every_plate(tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN, "P1") == read(tmp_path, PLAIN, "P7") == TWO_WELLS


def test_a_plate_that_the_file_does_not_name_is_refused_with_those_it_names(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="nothing of plate P7; its plates: P1, P2, p1"):
        read(tmp_path, MANY, "P7")


def test_what_is_wrong_with_another_plate_does_not_matter(tmp_path: Path) -> None:
    text = "plate,well,concentration\nP1,B03,10 uM\nP2,Z99,lots\n"
    assert read(tmp_path, text) == {"B03": ("", 10.0, "")}


def test_of_a_folder_the_file_with_the_name_of_the_plate_is_read(tmp_path: Path) -> None:
    (tmp_path / "P2.csv").write_text(PLAIN)
    assert read_layout(tmp_path, "P2").source == str(tmp_path / "P2.csv")
    with pytest.raises(LayoutError, match=r"P1\.csv is not there"):
        read_layout(tmp_path, "P1")


# ---- a plate drawn as a table


GRID = """\
Compound,1,2,3
A,Taxol,Taxol,DMSO
B,,Nocodazole,DMSO
"""
THREE_GRIDS = """\
Compound,,,
,1,2,3
A,Taxol,Taxol,DMSO
B,,Nocodazole,DMSO

Concentration (nM),,,
,1,2,3
A,10,100,0
B,,1000,

Role,,,
,1,2,3
A,treatment,treatment,control
B,,reference,control
"""
SAID = {
    "A01": ("Taxol", 0.01, "treatment"),
    "A02": ("Taxol", 0.1, "treatment"),
    "A03": ("DMSO", 0.0, "control"),
    "B02": ("Nocodazole", 1.0, "reference"),
    "B03": ("DMSO", None, "control"),
}


@pytest.mark.parametrize("corner", ["Compound", "", "Well", "<>", "Treatment"])
def test_a_grid_alone_is_of_compounds(corner: str, tmp_path: Path) -> None:
    found = read(tmp_path, GRID.replace("Compound", corner))
    assert found == {well: (said[0], None, "") for well, said in SAID.items()}


def test_several_grids_below_each_other_are_joined(tmp_path: Path) -> None:
    assert read(tmp_path, THREE_GRIDS) == SAID


def test_a_title_may_stand_in_the_corner(tmp_path: Path) -> None:
    text = THREE_GRIDS
    for title in ("Compound", "Concentration (nM)", "Role"):
        text = text.replace(f"{title},,,\n,1", f"{title},1")
    assert "Role,1,2,3" in text
    assert read(tmp_path, text) == SAID


def test_a_cell_may_hold_compound_and_concentration(tmp_path: Path) -> None:
    text = ',1,2,3\nA,Taxol; 10 µM,Taxol @ 5nM,"Taxol\n1 mM"\nB,A;B mix,Cisplatin | 0 uM,a;b;1 uM\n'
    assert {well: said[:2] for well, said in read(tmp_path, text).items()} == {
        "A01": ("Taxol", 10.0),
        "A02": ("Taxol", 0.005),
        "A03": ("Taxol", 1000.0),
        "B01": ("A;B mix", None),
        "B02": ("Cisplatin", 0.0),
        "B03": ("a;b", 1.0),
    }


def test_units_may_have_a_grid_of_their_own(tmp_path: Path) -> None:
    text = "Compound,1,2,3\nA,x,y,z\n\nConcentration,1,2,3\nA,1,2,3\n\nUnit,1,2,3\nA,nM,uM,mM\n"
    assert [said[1] for said in read(tmp_path, text).values()] == [0.001, 2.0, 3000.0]


def test_a_grid_of_something_else_and_remarks_are_passed_over(tmp_path: Path) -> None:
    text = f"Screen,of spring\n\n{GRID}\nCell line\n,1,2,3\nA,U2OS,U2OS,A549\n\nDMSO,is the vehicle\n"
    assert read(tmp_path, text).keys() == SAID.keys()


def test_a_plate_of_1536_wells_has_rows_of_two_letters(tmp_path: Path) -> None:
    numbers = ",".join(map(str, range(1, 49)))
    assert read(tmp_path, f",{numbers}\nZ,first\nAA,second\nAF{',' * 48}last\n") == {
        "Z01": ("first", None, ""),
        "AA01": ("second", None, ""),
        "AF48": ("last", None, ""),
    }


# ---- as spreadsheets save it


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: text.encode("cp1252"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", "\t").encode("utf-16"),
        lambda text: ("sep=;\n" + text.replace(",", ";")).encode(),
        lambda text: text.replace("\n", ",,,\n").encode() + b",,,,,,\n" * 20,
        lambda text: (
            "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.split("\n"))
        ).encode(),
    ],
    ids=["BOM", "UTF-16", "UTF-16 BE", "cp1252", "CRLF", "CR", "semicolon", "tab", "sep=", "empty cells", "quoted"],
)
@pytest.mark.parametrize("shape", ["long", "grid"])
def test_every_way_in_which_spreadsheets_save_is_read(encode: Any, shape: str, tmp_path: Path) -> None:
    if shape == "long":
        text = PLAIN.replace("uM", "µM").replace("Taxol", "Naïve Taxol")
        assert read(tmp_path, encode(text)) == {**TWO_WELLS, "B03": ("Naïve Taxol", 10.0, "treatment")}
    else:
        assert read(tmp_path, encode(THREE_GRIDS.replace("nM", "µM"))) == {
            well: (said[0], None if said[1] is None else pytest.approx(said[1] * 1000), said[2])
            for well, said in SAID.items()
        }


def test_a_decimal_comma_is_read_where_semicolons_separate_or_quotes_hold_it(tmp_path: Path) -> None:
    assert read(tmp_path, "well;conc_uM\nB03;0,5\nB04;1,000\n") == {"B03": ("", 0.5, ""), "B04": ("", 1.0, "")}
    assert read(tmp_path, 'well,conc_uM\nB03,"0,5"\n') == {"B03": ("", 0.5, "")}


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "why", "what_to_do"),
    [
        ("well,compound\nB03,x\nB04,x\nb3,y\n", "line 4: B03 stands in line 2 already", "one row"),
        ("well,compound\nB03,x\nZ99,y\n", "line 3: .*column 99 is on no plate", "name the well as in B03"),
        ("well,compound\nBO3,x\n", "line 2: 'BO3' is not a well", "name the well as in B03"),
        ("well,compound\n,x\n", "line 2: '' is not a well", "name the well as in B03"),
        ("row,column,compound\nB,x,y\n", "line 2: row 'B', column 'x' is not a well", "name the well"),
        ("well,conc\nB03,10\n", "line 2: '10' has no unit", "concentration_um"),
        ("well,conc_um\n\n\nB03,much\n", "line 4: 'much' is not a concentration", "as in 10 µM"),
        ('well,conc_um,compound\nB03,1,"two\nlines"\nB04,much,x\n', "line 4: 'much'", "as in 10 µM"),
        ("well,conc,unit\nB03,10,mg/mL\n", "line 2: 'mg/mL' is not a unit", "units: M, mM"),
        ("well,conc_nM,unit\nB03,10,uM\n", "line 2: '10' is said to be in nM and in uM", "as in 10 µM"),
        ("well,conc (mg/mL)\nB03,10\n", "line 2: 'mg/mL' is not a unit", "units: M, mM"),
        ("well,compound,mmoles_per_liter\nB03,x,10\n", "line 1: .* micromolar in some published sets", "as it is"),
        ("well,compound,log_dose\nB03,x,10\n", "line 1: 'log_dose' is not understood", "call it concentration"),
        ("well,compound,Compound\nB03,x,y\n", "line 1: two columns say the same: 'compound' and 'Compound'", "take"),
        ("well,plated by\nB03,nobody\n", "line 1: no column says what is in the wells", "compound"),
        ("well,compound,conc_um\nB03,x,0,5\n", "line 2: 4 cells under 3 headers", "decimal comma"),
        ("well;conc_um\nB03;0,5\nB04;1.000\n", "line 3: another decimal sign than in line 2", "one decimal sign"),
        ("plate,well,compound\nP1,B03,x\n,B04,x\n", "line 3: no plate", "name the plate"),
        (",1,2,3\nA,x,y,z,w\n", "line 2: 4 cells under 3 columns", "outside the grid"),
        (",1,2,3\nA,x,y,z\nA,x,y,z\n", "line 3: row A stands in line 2 already", "take one out"),
        (",1,2,3\nA,x,y,z\n,x,y,z\n", "line 3: this row of a grid has no letter", "first cell"),
        (",1,2,3\nA,x\n\n,1,2,3\nA,y\n", "line 1: a grid without a title among several", "title"),
        ("Drug,1,2,3\nA,x\n\nCompound,1,2,3\nA,y\n", "line 4: a second grid of the compound", "one plate a file"),
        ("Cell line,1,2,3\nA,x\n", "line 1: no grid says what is in the wells", "title"),
        ("Log conc,1,2,3\nA,x\n", "line 1: 'Log conc' is not understood", "call it concentration"),
        ("Dose,1,2,3\nA,5\n", "line 2: '5' has no unit", "concentration_um"),
        ("Drug,1,2,3\nA,x;5 uM\n\nDose (uM),1,2,3\nA,6\n", "line 2: A01 has two concentrations", "once"),
        ("AA,1,2,3\nB,2,3,4\n", "line 1: no grid says", "title"),
        ("hello\n", "is in no shape of a plate layout", "headers"),
        ("", "is in no shape of a plate layout", "headers"),
        ('well,compound\nB03,"x\nB04,y\n', "line 2: not CSV", "save it as CSV"),
        (b"PK\x03\x04rest", "is a workbook", "save the sheet as CSV"),
        (b"well,compound\nB03,\x00\n", "is not text", "save the sheet as CSV"),
        (b"well,compound\nB03,\x81\xff\n", "is not text", "save the sheet as CSV"),
    ],
)
def test_what_leaves_a_doubt_is_refused_with_its_line_and_what_to_do(
    text: str | bytes, why: str, what_to_do: str, tmp_path: Path
) -> None:
    with pytest.raises(LayoutError, match=why) as refused:
        read(tmp_path, text)
    assert "layout.csv" in refused.value.message
    assert what_to_do in refused.value.hint
    assert refused.value.exit_code == 2


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="is not there"):
        read_layout(tmp_path / "none.csv", "P1")


def test_a_file_too_large_for_a_layout_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "layout.csv"
    with path.open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(LayoutError, match="too many for a layout"):
        read_layout(path, "P1")


# ---- whether it fits


def layout_of(*names: str) -> PlateLayout:
    return PlateLayout("layout.csv", "0" * 64, {WellPosition.parse(name): WellContent("x") for name in names})


def test_a_layout_whose_wells_the_plate_has_fits() -> None:
    check_fits(layout_of("A01", "H12"), 8, 12)
    check_fits(layout_of(), 8, 12)


def test_wells_that_the_plate_lacks_are_listed() -> None:
    with pytest.raises(LayoutError, match=r"a plate of 8 x 12 lacks: A13, I01$"):
        check_fits(layout_of("I01", "A01", "A13"), 8, 12)


def test_of_many_such_wells_twelve_are_named_and_the_rest_counted() -> None:
    with pytest.raises(LayoutError, match=r"lacks: A13, (\w\d\d, ){10}A24 and 1 more$"):
        check_fits(layout_of(*(f"A{column}" for column in range(1, 25)), "B13"), 8, 12)
