"""Names that every file system takes, and where in the results folder what is found."""

import hashlib
from pathlib import Path

from hcs_daemon.plate import AcquisitionId

LEDGER_NAME = "ledger.jsonl"
REJECTED_NAME = "rejected.jsonl"
LOCK_NAME = ".hcs-daemon.lock"
PLATE_NAME = "plate.json"
PLATE_PICTURE_NAME = "plate.png"
QUALITY_NAME = "quality.html"
SITES_NAME = "sites.parquet"
PROFILES_NAME = "profiles.parquet"
_PLAIN = frozenset(" _-+,.()=@#~^&")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_OURS = {LEDGER_NAME, REJECTED_NAME}
"""Files beside the plates' folders, which no plate may be called."""
_LONGEST = 180
"""Bytes of a name; file systems take 255, and temporary names are longer than the final ones."""


def safe_name(name: str) -> str:
    """A file name for any text: two texts never share one, and none leaves its folder.

    Letters, digits and a few signs stay; every other byte of the UTF-8 text becomes `%XX`, and so do a dot or space at
    an end and the first letter of a name that Windows (`CON`) or this folder (`ledger.jsonl`) keeps for itself. A long
    name is cut and ends in `%~` and 16 digits of its SHA-256.
    """
    escaped = "".join(char if char.isalnum() or char in _PLAIN else _escape(char) for char in name) or "%"
    if escaped[0] in ". ":
        escaped = _escape(escaped[0]) + escaped[1:]
    if escaped[-1] in ". ":
        escaped = escaped[:-1] + _escape(escaped[-1])
    if escaped.casefold() in _OURS or escaped.split(".", 1)[0].rstrip().casefold() in _DEVICES:
        escaped = _escape(escaped[0]) + escaped[1:]
    return escaped if len(escaped.encode()) <= _LONGEST else _cut(escaped)


def _escape(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _cut(escaped: str) -> str:
    kept = escaped.encode()[: _LONGEST - 18].decode("utf-8", "ignore")
    return f"{kept}%~{hashlib.sha256(escaped.encode()).hexdigest()[:16]}"


def plate_folder(results: Path, acquisition: AcquisitionId) -> Path:
    """Where one acquisition's results are."""
    return results / safe_name(acquisition.plate) / safe_name(acquisition.acquisition)
