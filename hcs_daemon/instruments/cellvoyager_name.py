"""The names of CellVoyager's image files, which its records repeat."""

from hcs_daemon.instruments.naming import Grammar

EXAMPLE = "Plate_A01_T0001F001L01A01Z01C01.tif"
_PARTS = (
    ("plate name", r".+_"),
    ("well", r"([A-Z]\d{1,2}|A[A-F]\d{1,2})_"),
    ("time point", r"T(\d{4,6})"),
    ("site", r"F(\d{3,6})"),
    ("time line", r"L\d{2,4}"),
    ("action", r"A\d{2,4}"),
    ("z", r"Z(\d{2,4})"),
    ("channel", r"C(\d{2,3})"),
    ("ending .tif", r"\.tiff?"),
)
NAME = Grammar("a CellVoyager", _PARTS, EXAMPLE)
"""Groups: well, time point, site, z, channel."""


def channel_id(number: int) -> str:
    """As the file names write it: `C01`."""
    return f"C{number:02d}"
