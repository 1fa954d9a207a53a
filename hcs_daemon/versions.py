"""Versions of file formats: `hcs-daemon/well-result/1`. A new field keeps the number, a changed one raises it."""

import json


def newer(data: bytes, own: str) -> str | None:
    """What a file says it is, where that is a newer version of `own`; None where it is not."""
    try:
        said = json.loads(data)["schema"]
    except (ValueError, TypeError, KeyError):
        return None
    name, _, number = own.rpartition("/")
    if not isinstance(said, str):
        return None
    named, _, later = said.rpartition("/")
    return said if named == name and later.isdecimal() and int(later) > int(number) else None


def refusal(said: str, own: str) -> str:
    """Why such a file is not read, in words."""
    return f"is {said}, which a newer hcs-daemon wrote; this one reads {own}"


UPGRADE = "upgrade hcs-daemon, or go back as docs/upgrade.md says; what the newer one wrote is left as it is"
