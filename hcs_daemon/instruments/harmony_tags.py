"""What Harmony writes into a plane's tags: its own address, and the figures of its pixels as the instrument saw them.

Tag 65500 holds an XML whose `<Image>` is the plane's own; older ones describe the whole plate beside it, other wells'
`<Row>` included. Behind it stands how it was at the stage. RecordID is the name's `ch`, for ChannelID may be 1 in all
channels. The time is the SlowKineticID, or the TimepointID of newer software.
"""

import re

from hcs_daemon.instruments.own_record import (
    OwnAddress,
    OwnRecord,
    conditions_of,
    figures_of_json,
    figures_of_tags,
    range_of,
)
from hcs_daemon.records import PlaneConditions
from hcs_daemon.tiff import TiffTags

_IMAGE = re.compile(r"<Image(?:\s[^>]*)?>(.*?)</Image>", re.DOTALL)
_FIELD = re.compile(r"<(Row|Col|FieldID|PlaneID|SlowKineticID|TimepointID|RecordID)>\s*(\d{1,6})\s*</\1>", re.ASCII)
_TAKEN_AT = re.compile(r"<AbsTime>\s*([^<\s]{1,40})\s*</AbsTime>")
_TEMPERATURE = re.compile(r'<CurrentTemperature Unit="C">\s*([^<\s]{1,40})\s*</CurrentTemperature>')
_ADDRESS_TAG, _FIGURES_TAG = "its tag 65500 says", "its tag 65520 says"


def read_own_record(tags: TiffTags) -> OwnRecord | None:
    """What a plane's tags say of it; None where they say nothing."""
    figures = (figures_of_tags(tags), figures_of_json(_FIGURES_TAG, tags.statistics))
    return OwnRecord(
        address=_address(tags.harmony),
        figures=tuple(each for each in figures if each is not None),
        range=range_of(tags),
        conditions=_conditions(tags.harmony),
    ).or_none


def _conditions(xml: str) -> PlaneConditions | None:
    taken_at, temperature = ((found.findall(xml) or [""]) for found in (_TAKEN_AT, _TEMPERATURE))
    # of two nobody knows which is the plane's
    return conditions_of(*(said[0] if len(said) == 1 else "" for said in (taken_at, temperature)))


def _address(xml: str) -> OwnAddress | None:
    """Inside the only `<Image>`: of two nobody knows which is the plane's."""
    images = _IMAGE.findall(xml)
    if len(images) != 1:
        return None
    said = {name: int(number) for name, number in _FIELD.findall(images[0])}
    if not said:
        return None
    return OwnAddress(
        _ADDRESS_TAG,
        row=said.get("Row"),
        column=said.get("Col"),
        site=said.get("FieldID"),
        z=said.get("PlaneID"),
        time=said.get("SlowKineticID", said.get("TimepointID")),
        channel=str(said["RecordID"]) if "RecordID" in said else None,
    )
