"""What an experimenter put into the wells, from the files that laboratories keep, and concentrations in micromolar.

Two shapes are read, both as CSV of any delimiter, as spreadsheets export them. Long: a row a well, under the headers
that the cytomining tools and plate-map packages use (docs/results.md lists and cites them). Grid: a plate drawn as a
table, columns numbered above and rows lettered at the left; several below each other each say one thing. Nothing is
guessed: what could mean two things is refused, with its line and what to do.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from hcs_daemon.errors import LayoutError
from hcs_daemon.plate import PlateLayout, WellContent, WellPosition

# ---- concentrations

_POWERS = {"m": 6, "mm": 3, "um": 0, "nm": -3, "pm": -6, "fm": -9}
"""Unit, folded -> the power of ten that makes it micromolar."""
_LITRE = re.compile(r"(.?)mol(?:es?)?(?:/l|[ .·]?l(?:\^?-1|⁻¹))", re.IGNORECASE)
_AMOUNT = re.compile(r"([+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][+-]?\d+)?)\s*(\D.*)?", re.DOTALL)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+")
_NOT_SAID = {"", "-", "\u2013", "\u2014", "na", "n/a", "n.a.", "nan", "none", "null", "#n/a"}
KNOWN_UNITS = "M, mM, µM, uM, nM, pM"


def concentration_um(text: str, unit: str = "", *, decimal_comma: bool = False) -> float | None:
    """A concentration in micromolar from what a cell says (`10`, `10 µM`, `1e-5 M`), None where it says none.

    unit: of the cell's column, empty where that has none; a unit of the cell's own must be the same. Zero needs none.
    decimal_comma: whether a comma is sure to be a decimal sign; else `1,000` may be a thousand, and is refused.
    Raises ValueError, in words, for what is no amount, for a unit that is not molar, and where no unit is said.
    """
    text = text.strip()
    if _is_blank(text):
        return None
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a concentration such as 10 µM")
    amount = _number(match[1], decimal_comma=decimal_comma)
    power = _common_power(text, (match[2] or "").strip(), unit.strip())
    if power is None:
        if amount:
            raise ValueError(f"{text!r} has no unit, and nothing beside it says one")
        return 0.0
    return float(amount.scaleb(power))


def unit_power(unit: str) -> int:
    """The power of ten that makes a unit micromolar: 3 for mM. Upper and lower case are one, save a lone `m`.

    Raises ValueError, in words, for what is no molar unit.
    """
    plain = unit.strip().replace("µ", "u").replace("μ", "u")
    folded = _LITRE.sub(r"\1m", plain).casefold()
    if plain == "m" or folded not in _POWERS:
        raise ValueError(f"{unit.strip()!r} is not a unit of concentration known here ({KNOWN_UNITS})")
    return _POWERS[folded]


def _is_blank(text: str) -> bool:
    return text.casefold() in _NOT_SAID


def _common_power(text: str, own: str, column: str) -> int | None:
    powers = {unit_power(unit) for unit in (own, column) if unit}
    if len(powers) > 1:
        raise ValueError(f"{text!r} is in another unit than the {column} beside it")
    return powers.pop() if powers else None


def _number(text: str, *, decimal_comma: bool) -> Decimal:
    if text.startswith("-"):
        raise ValueError(f"{text!r} is less than nothing")
    if not decimal_comma and _THOUSANDS.fullmatch(text):
        raise ValueError(f"{text!r} may be a thousand or a decimal fraction")
    if text.count(",") > 1 or ("," in text and "." in text):
        raise ValueError(f"{text!r} has more than one decimal sign")
    try:
        amount = Decimal(text.replace(",", "."))
        finite = float(amount.scaleb(6)) < float("inf")
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is not a number") from error
    if not finite:
        raise ValueError(f"{text!r} is beyond all numbers")
    return amount


# ---- layouts

LARGEST_BYTES = 64 << 20
"""No file of a layout is larger; it is read in one go."""
MOST_ABOVE = 100
"""The headers, or the first grid, are among so many first lines."""
MOST_NAMED = 12
"""Wells or plates that a message names; the others are counted."""

_HEADERS: Mapping[str, tuple[str, ...]] = {
    "plate": ("plate", "platename", "plateid", "platebarcode", "assayplatebarcode", "barcode"),
    "well": ("well", "wells", "wellposition", "wellname", "wellid", "position"),
    "row": ("row", "wellrow", "platerow"),
    "column": ("column", "col", "wellcolumn", "wellcol", "platecolumn"),
    "compound": (
        "compound",
        "compoundname",
        "compoundid",
        "cpd",
        "cpdname",
        "cmpd",
        "treatment",
        "treatmentname",
        "drug",
        "drugname",
        "substance",
        "perturbation",
        "pertiname",
        "pertname",
        "broadsample",
        "jcp2022",
    ),
    "concentration": (
        "concentration",
        "conc",
        "finalconcentration",
        "finalconc",
        "compoundconcentration",
        "compoundconc",
        "cpdconc",
        "drugconcentration",
        "treatmentconcentration",
        "pertconc",
        "dose",
        "pertdose",
    ),
    "unit": (
        "unit",
        "units",
        "concentrationunit",
        "concentrationunits",
        "concunit",
        "concunits",
        "doseunit",
        "doseunits",
    ),
    "role": ("role", "wellrole", "assaywellrole", "welltype", "sampletype", "perttype", "controltype"),
}
"""What a column is -> its names, folded, the one that counts first before the others."""
_MISNAMED = "mmolesperliter"
"""Under this name the platemap of JUMP-Target holds stocks in millimolar, LINCS Cell Painting doses in micromolar."""
_AMOUNTS = ("conc", "dose")
"""A column with one of these in its name is not passed over."""
_ROLES = {"control", "reference", "treatment"}
_SHAPES = (
    "it needs a row of headers with well (or row and column) and compound, concentration or role, "
    "or a plate drawn as a table with the columns' numbers above and the rows' letters at the left; see docs/results.md"
)
_AFTER_COMPOUND = re.compile(r"(.*\S)\s*[;|@\n]\s*(\S.*)", re.DOTALL)
_GRID_KINDS = ("compound", "concentration", "unit", "role")
_NO_TITLE = {"", "row", "rows", "well", "wells", "<>", "plate"}
"""What stands in the corner of a grid without being its title."""


def read_layout(path: Path, plate: str) -> PlateLayout:
    """What the file at `path` says of a plate's wells; of a folder, its `<plate>.csv`.

    A well of which nothing is said is left out. Raises LayoutError, naming the line, for a file that cannot be read or
    leaves a doubt.
    """
    file = layout_file(path, plate)
    return parse_layout(file, read_bytes(file), plate)


def parse_layout(file: Path, data: bytes, plate: str) -> PlateLayout:
    """The same from a file's bytes. Raises LayoutError."""
    text = _decoded(file, data)
    torn: LayoutError | None = None
    for delimiter in _delimiters(text):
        try:
            rows = tuple(_rows(file, text, delimiter))
        except LayoutError as error:  # quotes fit the right delimiter only
            torn = error
            continue
        said = _read_sheet(_Sheet(file, rows, decimal_comma=delimiter == ";"), plate)
        if said is not None:
            return PlateLayout(str(file), hashlib.sha256(data).hexdigest(), said)
    raise torn or LayoutError(f"{file} is in no shape of a plate layout", _SHAPES)


def read_column(path: Path, plate: str, header: str) -> dict[WellPosition, str]:
    """What a column of one's own says of a plate's wells, by its header; wells of which it says nothing are left out.

    path: as for `read_layout`; the file has a row a well. Raises LayoutError, naming the columns that are there.
    """
    file = layout_file(path, plate)
    text = _decoded(file, read_bytes(file))
    for delimiter in _delimiters(text):
        try:
            sheet = _Sheet(file, tuple(_rows(file, text, delimiter)), decimal_comma=delimiter == ";")
            table = _long_table(sheet)
        except LayoutError:
            continue  # quotes fit the right delimiter only; what is wrong under that `read_layout` says
        if table is not None:
            return table.column(plate, header)
    raise LayoutError(f"{file} has no column {header!r}", _SHAPES)


def layout_file(path: Path, plate: str) -> Path:
    """The file that speaks of a plate: `path` itself, or in a folder `<plate>.csv`."""
    try:
        is_folder = path.is_dir()
    except OSError:  # whoever reads it is told why
        is_folder = False
    return path / Path(f"{plate}.csv").name if is_folder else path


def check_fits(layout: PlateLayout, rows: int, columns: int) -> None:
    """Raise LayoutError with the wells that a plate of so many rows and columns lacks, if there are any."""
    beyond = sorted(well for well in layout.wells if well.row > rows or well.column > columns)
    if beyond:
        raise LayoutError(
            f"{layout.source} names wells that a plate of {rows} x {columns} lacks: "
            f"{_listed([well.name for well in beyond])}",
            "give the layout of this plate, or take those wells out of it",
        )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


# ---- from bytes to rows


def read_bytes(file: Path) -> bytes:
    """All of a layout's file. Raises LayoutError."""
    try:
        size = file.stat().st_size
        if size > LARGEST_BYTES:
            raise LayoutError(
                f"{file} has {size} bytes, too many for a layout", "give a CSV file of wells and what is in them"
            )
        return file.read_bytes()
    except FileNotFoundError as error:
        raise LayoutError(f"{file} is not there", "put the plate's layout there, or change expect.layout") from error
    except OSError as error:
        raise LayoutError(
            f"{file} cannot be read: {error.strerror or error}", "give the daemon's user the right to read it"
        ) from error


def _decoded(file: Path, data: bytes) -> str:
    """The text, by its byte order mark, else UTF-8, else Windows' western code page."""
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise LayoutError(f"{file} is a workbook, not CSV", "save the sheet as CSV (UTF-8) in the spreadsheet program")
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeError:
            continue
        if "\0" not in text:
            return text
    raise LayoutError(f"{file} is not text", "save the sheet as CSV (UTF-8) in the spreadsheet program")


def _delimiters(text: str) -> tuple[str, ...]:
    """Those that the file may have; a first line `sep=;`, as Excel reads and writes it, decides."""
    match = re.match(r"sep=([;,\t])\s*?$", text, re.IGNORECASE | re.MULTILINE)
    return (match[1],) if match else ("\t", ";", ",")


@dataclass(frozen=True, slots=True)
class _Row:
    """line: where it begins, from 1. cells: stripped, without empty ones at the end."""

    line: int
    cells: tuple[str, ...]

    def cell(self, index: int | None) -> str:
        """The cell's text, empty where there is none."""
        return self.cells[index] if index is not None and index < len(self.cells) else ""


@dataclass(frozen=True, slots=True)
class _Sheet:
    """All rows. decimal_comma: commas are decimal signs, for semicolons separate."""

    file: Path
    rows: tuple[_Row, ...]
    decimal_comma: bool

    def refuse(self, line: int, problem: str, hint: str) -> LayoutError:
        """The error to raise for a line."""
        return LayoutError(f"{self.file}, line {line}: {problem}", hint)


def _rows(file: Path, text: str, delimiter: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            while stripped and not stripped[-1]:
                stripped.pop()
            first = line == 1 and stripped and stripped[0].lower().startswith("sep=")
            yield _Row(line, () if first else tuple(stripped))
            line = reader.line_num + 1
    except csv.Error as error:
        raise LayoutError(
            f"{file}, line {line}: not CSV: {error}", "save it as CSV once more in the spreadsheet program"
        ) from error


def _read_sheet(sheet: _Sheet, plate: str) -> dict[WellPosition, WellContent] | None:
    """What the sheet says; None where it has no shape that is known."""
    if _grid_comes_first(sheet):
        return _read_grids(sheet)
    table = _long_table(sheet)
    return table.read(plate) if table is not None else None


def _grid_comes_first(sheet: _Sheet) -> bool:
    for row in sheet.rows[:MOST_ABOVE]:
        if _grid_width(row):
            return True
        if _columns(sheet, row) is not None:
            return False
    return False


def _long_table(sheet: _Sheet) -> "_LongTable | None":
    """The rows under the first row of headers; None where there is none, or a grid above it."""
    for number, row in enumerate(sheet.rows[:MOST_ABOVE]):
        if _grid_width(row):
            return None
        columns = _columns(sheet, row)
        if columns is not None:
            return _LongTable(sheet, number, columns)
    return None


# ---- headers


@dataclass(frozen=True, slots=True)
class _Column:
    """index: from 0. unit: that its name carries, empty for none."""

    index: int
    unit: str = ""


def _named(header: str) -> tuple[str, str]:
    """A header folded to letters and digits, and the unit that it ends in or holds in brackets."""
    bracket = re.fullmatch(r"(.*?)[(\[](.*)[)\]]\W*", header, re.DOTALL)
    name, unit = (bracket[1], bracket[2].strip()) if bracket else (header, "")
    words = re.findall(r"[^\W_]+", name)
    while len(words) > 1 and words[0].casefold() in {"metadata", "image"}:
        words = words[1:]
    if not unit and len(words) > 1 and _is_unit(words[-1]):
        unit = words.pop()
        if len(words) > 1 and words[-1].casefold() == "in":
            words.pop()
    return "".join(words).casefold(), unit


def _is_unit(word: str) -> bool:
    try:
        unit_power(word)
    except ValueError:
        return False
    return True


def _columns(sheet: _Sheet, row: _Row) -> dict[str, _Column] | None:
    """What each column is, by a row of headers; None where it is none."""
    names = [_named(cell) for cell in row.cells]
    found: dict[str, _Column] = {}
    for kind, synonyms in _HEADERS.items():
        index = _first(sheet, row, [name for name, _ in names], synonyms)
        if index is not None:
            found[kind] = _Column(index, names[index][1])
    if not ("well" in found or {"row", "column"} <= found.keys()):
        return None
    if not {"compound", "concentration", "role"} & found.keys():
        raise sheet.refuse(row.line, "no column says what is in the wells", _SHAPES)
    if "concentration" not in found:
        _refuse_unread(sheet, row.line, row.cells)
    return found


def _first(sheet: _Sheet, row: _Row, names: Sequence[str], synonyms: Sequence[str]) -> int | None:
    for synonym in synonyms:
        places = [index for index, name in enumerate(names) if name == synonym]
        if len(places) > 1:
            both = " and ".join(repr(row.cells[index]) for index in places[:2])
            raise sheet.refuse(row.line, f"two columns say the same: {both}", "take one of them out")
        if places:
            return places[0]
    return None


def _refuse_unread(sheet: _Sheet, line: int, headers: Sequence[str]) -> None:
    """Refuse a column or grid that seems to hold amounts and is called as none that is known."""
    for header in headers:
        name, _ = _named(header)
        if name.endswith(_MISNAMED):
            raise sheet.refuse(
                line,
                f"{header!r} holds micromolar in some published sets, and stocks in millimolar in others",
                "call it concentration_um or concentration_mM, as it is, or take it out",
            )
        if any(part in name for part in _AMOUNTS):
            raise sheet.refuse(
                line,
                f"{header!r} is not understood",
                f"call it concentration, with its unit in the name (concentration_um) or a column unit ({KNOWN_UNITS})",
            )


# ---- a row a well


class _LongTable:
    """Reads the rows under a row of headers. Owned by the call that made it."""

    def __init__(self, sheet: _Sheet, header: int, columns: Mapping[str, _Column]) -> None:
        self._sheet = sheet
        self._headers = sheet.rows[header].cells
        self._rows = [row for row in sheet.rows[header + 1 :] if row.cells]
        self._columns = columns
        self._amounts = _Amounts(sheet)

    def read(self, plate: str) -> dict[WellPosition, WellContent]:
        """The wells of a plate; of all rows where no column says of which plate they are."""
        found = {position: self._content(row) for position, row in self._wells(plate).items()}
        return {position: content for position, content in found.items() if content != WellContent()}

    def column(self, plate: str, header: str) -> dict[WellPosition, str]:
        """What the column of this header says of the wells of a plate, upper and lower case being one."""
        places = [place for place, name in enumerate(self._headers) if name.casefold() == header.casefold()]
        if len(places) != 1:
            raise LayoutError(
                f"{self._sheet.file} has {len(places) or 'no'} columns {header!r}; its columns:"
                f" {', '.join(self._headers)}",
                "name one of them",
            )
        cells = {position: row.cell(places[0]) for position, row in self._wells(plate).items()}
        return {position: cell for position, cell in cells.items() if not _is_blank(cell)}

    def _wells(self, plate: str) -> dict[WellPosition, _Row]:
        """Each well's row; one that cannot be meant is refused."""
        found: dict[WellPosition, _Row] = {}
        for row in self._of(plate):
            if len(row.cells) > len(self._headers):
                raise self._sheet.refuse(
                    row.line,
                    f"{len(row.cells)} cells under {len(self._headers)} headers",
                    "quote cells that hold the delimiter, such as a decimal comma in a file separated by commas",
                )
            position = self._position(row)
            if position in found:
                raise self._sheet.refuse(
                    row.line,
                    f"{position.name} stands in line {found[position].line} already",
                    "give each well one row (a mixture one name), or a column plate",
                )
            found[position] = row
        return found

    def _of(self, plate: str) -> list[_Row]:
        if "plate" not in self._columns:
            return self._rows
        index = self._columns["plate"].index
        unnamed = next((row for row in self._rows if not row.cell(index)), None)
        if unnamed is not None:
            raise self._sheet.refuse(unnamed.line, "no plate", "name the plate in every row")
        rows = [row for row in self._rows if row.cell(index).casefold() == plate.casefold()]
        if not rows:
            plates = sorted({row.cell(index) for row in self._rows})
            raise LayoutError(
                f"{self._sheet.file} says nothing of plate {plate}; its plates: {_listed(plates) or 'none'}",
                "add the plate's rows, under the name that its results have",
            )
        return rows

    def _cell(self, row: _Row, kind: str) -> str:
        column = self._columns.get(kind)
        return row.cell(column.index) if column else ""

    def _position(self, row: _Row) -> WellPosition:
        try:
            if "well" in self._columns:
                return WellPosition.parse(self._cell(row, "well"))
            return _position(self._cell(row, "row"), self._cell(row, "column"))
        except ValueError as error:
            hint = "name the well as in B03 (rows A to AF, columns 1 to 48)"
            raise self._sheet.refuse(row.line, str(error), hint) from error

    def _content(self, row: _Row) -> WellContent:
        amount, unit = self._cell(row, "concentration"), self._cell(row, "unit")
        column = self._columns.get("concentration")
        return WellContent(
            compound=_said(self._cell(row, "compound")),
            concentration_um=self._amounts.read(row.line, amount, column.unit if column else "", unit),
            role=_role(self._cell(row, "role")),
        )


def _position(row: str, column: str) -> WellPosition:
    if re.fullmatch(r"[A-Za-z]{1,2}", row) and re.fullmatch(r"\d+(\.0)?", column):
        return WellPosition.parse(f"{row}{int(float(column))}")
    if re.fullmatch(r"\d+(\.0)?", row) and re.fullmatch(r"\d+(\.0)?", column):
        return WellPosition(int(float(row)), int(float(column)))
    raise ValueError(f"row {row!r}, column {column!r} is not a well such as row B, column 3")


def _said(text: str) -> str:
    return "" if _is_blank(text) else text


def _role(text: str) -> str:
    """The experimenter's word; the three that are known here in lower case."""
    folded = text.casefold()
    return folded if folded in _ROLES else _said(text)


@dataclass(slots=True)
class _Amounts:
    """Reads a sheet's concentrations. Owned by the call that made it. signs: decimal sign -> the line of its first."""

    sheet: _Sheet
    signs: dict[str, int] = field(default_factory=dict)

    def read(self, line: int, text: str, named: str = "", beside: str = "") -> float | None:
        """In micromolar. named: the unit in the column's name; beside: the unit in the row. Raises LayoutError."""
        try:
            amount = self._amount(text, [unit for unit in (named, beside) if unit] or [""])
        except ValueError as error:
            raise self.sheet.refuse(
                line, str(error), f"write it as in 10 µM, or call the column concentration_um (units: {KNOWN_UNITS})"
            ) from error
        if amount is not None:
            self._note_sign(line, text)
        return amount

    def _amount(self, text: str, units: Sequence[str]) -> float | None:
        amounts = [concentration_um(text, unit, decimal_comma=self.sheet.decimal_comma) for unit in units]
        if amounts.count(amounts[0]) < len(amounts):
            raise ValueError(f"{text!r} is said to be in {' and in '.join(units)}")
        return amounts[0]

    def _note_sign(self, line: int, text: str) -> None:
        """A file that writes both 0,5 and 1.000 may mean a thousand by one of them."""
        sign = next((sign for sign in ".," if sign in text), None)
        if sign is None:
            return
        self.signs.setdefault(sign, line)
        if len(self.signs) > 1:
            first = min(self.signs.values())
            raise self.sheet.refuse(
                line, f"another decimal sign than in line {first}", "write all concentrations with one decimal sign"
            )


# ---- a plate drawn as a table


@dataclass(frozen=True, slots=True)
class _Grid:
    """One table. title: its words, empty for none. rows: those under the columns' numbers."""

    line: int
    title: str
    width: int
    rows: tuple[_Row, ...]


def _grid_width(row: _Row) -> int:
    """How many columns a row numbers, from 1 on without a gap; 0 where it is no head of a grid."""
    numbers = row.cells[1:]
    if len(numbers) < 3 or not all(re.fullmatch(r"0*\d+(\.0)?", cell) for cell in numbers):
        return 0
    return len(numbers) if [int(float(cell)) for cell in numbers] == list(range(1, len(numbers) + 1)) else 0


def _is_row_of_grid(row: _Row) -> bool:
    return row.cells != () and re.fullmatch(r"[A-Za-z]|[Aa][A-Fa-f]", row.cells[0]) is not None


def _grids(sheet: _Sheet) -> Iterator[_Grid]:
    """Every grid, with the title in its corner or in the line above.

    Remarks may stand around the grids; a row right below one is a part of it, and LayoutError is raised when it is not
    lettered.
    """
    rows, number, above = sheet.rows, 0, ""
    while number < len(rows):
        row, number = rows[number], number + 1
        words = [cell for cell in row.cells if cell]
        width = _grid_width(row)
        if not width:
            above = words[0] if len(words) == 1 else "" if words else above
            continue
        first = number
        while number < len(rows) and _is_row_of_grid(rows[number]):
            number += 1
        if number < len(rows) and len(rows[number].cells) > 1 and not _grid_width(rows[number]):
            raise sheet.refuse(rows[number].line, "this row of a grid has no letter", "put A, B, … into its first cell")
        yield _Grid(row.line, _title(row.cells[0]) or _title(above), width, rows[first:number])
        above = ""


def _title(words: str) -> str:
    return "" if words.casefold().rstrip(":") in _NO_TITLE else words


def _read_grids(sheet: _Sheet) -> dict[WellPosition, WellContent]:
    grids = list(_grids(sheet))
    by_kind: dict[str, tuple[_Grid, str]] = {}
    for grid in grids:
        kind, unit = _grid_kind(sheet, grid, alone=len(grids) == 1)
        if kind in by_kind:
            raise sheet.refuse(
                grid.line,
                f"a second grid of the {kind} (the first is in line {by_kind[kind][0].line})",
                "give one plate a file, and each of its grids a title: Compound, Concentration (µM), Role",
            )
        if kind:
            by_kind[kind] = (grid, unit)
    if not by_kind.keys() & {"compound", "concentration", "role"}:
        raise sheet.refuse(grids[0].line, "no grid says what is in the wells", _titles())
    cells = {kind: _grid_cells(sheet, grid) for kind, (grid, _) in by_kind.items()}
    unit = by_kind["concentration"][1] if "concentration" in by_kind else ""
    return _joined(sheet, cells, unit)


def _grid_kind(sheet: _Sheet, grid: _Grid, *, alone: bool) -> tuple[str, str]:
    """What a grid holds, and the unit in its title; an empty kind for what is not wanted here."""
    if not grid.title:
        if alone:
            return "compound", ""
        raise sheet.refuse(grid.line, "a grid without a title among several", _titles())
    name, unit = _named(grid.title)
    kind = next((kind for kind in _GRID_KINDS if name in _HEADERS[kind]), "")
    if not kind:
        _refuse_unread(sheet, grid.line, [grid.title])
    return kind, unit


def _titles() -> str:
    return "put a title above each grid or in its corner: Compound, Concentration (µM), Unit or Role"


def _grid_cells(sheet: _Sheet, grid: _Grid) -> dict[WellPosition, tuple[int, str]]:
    """Well -> (line, what its cell says), of cells that say something."""
    found: dict[WellPosition, tuple[int, str]] = {}
    seen: dict[int, int] = {}
    for row in grid.rows:
        number = WellPosition.parse(f"{row.cells[0]}1").row
        if number in seen:
            raise sheet.refuse(row.line, f"row {row.cells[0]} stands in line {seen[number]} already", "take one out")
        seen[number] = row.line
        if len(row.cells) > grid.width + 1:
            raise sheet.refuse(
                row.line,
                f"{len(row.cells) - 1} cells under {grid.width} columns",
                "quote cells that hold the delimiter, and put remarks outside the grid",
            )
        for column, cell in enumerate(row.cells[1:], 1):
            if _is_blank(cell):
                continue
            try:
                found[WellPosition(number, column)] = (row.line, cell)
            except ValueError as error:
                raise sheet.refuse(row.line, str(error), "a plate has at most 48 columns") from error
    return found


def _joined(
    sheet: _Sheet, cells: Mapping[str, Mapping[WellPosition, tuple[int, str]]], unit: str
) -> dict[WellPosition, WellContent]:
    amounts = _Amounts(sheet)
    found: dict[WellPosition, WellContent] = {}
    for position in sorted({well for kind in ("compound", "concentration", "role") for well in cells.get(kind, {})}):
        said = {kind: cells.get(kind, {}).get(position, (0, "")) for kind in _GRID_KINDS}
        line, amount = said["concentration"]
        concentration = amounts.read(line, amount, unit, said["unit"][1])
        line, compound = said["compound"]
        compound, own = _compound_and_amount(compound)
        if own:
            within = amounts.read(line, own)
            if concentration is not None and within != concentration:
                raise sheet.refuse(line, f"{position.name} has two concentrations", "say it once")
            concentration = within
        found[position] = WellContent(compound, concentration, _role(said["role"][1]))
    return found


def _compound_and_amount(cell: str) -> tuple[str, str]:
    """`Taxol; 10 µM` in two; a name that ends otherwise stays whole."""
    match = _AFTER_COMPOUND.fullmatch(cell)
    if match is None:
        return cell, ""
    amount = _AMOUNT.fullmatch(match[2])
    return (match[1], match[2]) if amount and amount[2] and _is_unit(amount[2]) else (cell, "")
