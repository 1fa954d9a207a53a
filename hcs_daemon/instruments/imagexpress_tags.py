"""The MetaSeries text that MetaXpress writes into each plane's ImageDescription.

`<MetaData>` with a `<prop id type value/>` for each fact; one of them, `Description`, holds lines such as
`Exposure: 15 ms` and `Gain: 16-bit (low noise)`. It is asked for with every plane, so it is searched, not parsed.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import replace

from hcs_daemon.instruments.facts import pixel_size, positive
from hcs_daemon.instruments.own_record import OwnAddress, OwnDepth, OwnForm, OwnRecord, conditions_of
from hcs_daemon.plate import WellPosition
from hcs_daemon.records import ChannelFacts

_PROP = re.compile(r'<(?:custom-)?prop id="([^"<>]*)" type="[^"<>]*" value="([^"<]*)"')
_EXPOSURE = re.compile(r"Exposure: ([0-9.]+) ?(ms|msec|s|sec|us|usec)\b")
_GAIN = re.compile(r"Gain: (\d{1,2})-bit")
_LABEL = re.compile(r"([A-Z]{1,2}\d{1,2}) : Site (\d{1,5})", re.ASCII)
_TIME = re.compile(r"\bTimepoint: (\d{1,6})\b", re.ASCII)
_MILLISECONDS = {"ms": 1.0, "msec": 1.0, "s": 1000.0, "sec": 1000.0, "us": 0.001, "usec": 0.001}
_MICROMETRES = {"um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers"}
_NOT_A_NAME = "HTSThumbHTS"
"""What a thumbnail is called."""
_HEAD_CHARACTERS = 200
_SAME_SIDES = 0.02


def read_description(description: str, channel_id: str) -> ChannelFacts | None:
    """What a plane's description says of its channel; None where it says nothing or is none of MetaSeries."""
    if "<MetaData>" not in description[:_HEAD_CHARACTERS]:
        return None
    props = dict(_PROP.findall(description))
    lines = props.get("Description", "")
    gain = _GAIN.search(lines)
    facts = ChannelFacts(
        name=_name(props),
        emission_nm=positive(props.get("wavelength")),
        exposure_ms=_exposure_ms(lines),
        pixel_size_um=_pixel_size_um(props),
        objective=_objective(props),
        projection=_text(props.get("Z Projection Method")),
        bit_depth=_bits(float(gain[1]) if gain else positive(props.get("Camera Bit Depth"))),
    )
    return None if facts == ChannelFacts() else replace(facts, id=channel_id)


def read_own_record(description: str, channel_id: str) -> OwnRecord | None:
    """What a plane's description says of the plane itself; None where it says nothing or is none of MetaSeries.

    `bits-per-pixel` is the container's; how many the camera gave stands in the words on its gain. The wave's name is no
    address, but the same for all planes of a channel. `_Temperature_` is not said to be the stage's, and is left.
    """
    if "<MetaData>" not in description[:_HEAD_CHARACTERS]:
        return None
    props = dict(_PROP.findall(description))
    name = _text(props.get("image-name"))
    if name == _NOT_A_NAME:
        return None
    return OwnRecord(
        address=_address(props),
        depth=_depth(props),
        form=_form(props),
        constant={f"the name of channel {channel_id}": name} if name and channel_id else {},
        conditions=conditions_of(_text(props.get("acquisition-time-local"))),
    ).or_none


def _address(props: Mapping[str, str]) -> OwnAddress | None:
    """The well and the site in the stage's label, such as `E07 : Site 1`; the time point where its words say one."""
    label = _LABEL.fullmatch(_text(props.get("stage-label")))
    if label is None:
        return None
    try:
        position = WellPosition.parse(label[1])
    except ValueError:
        return None
    time = _TIME.search(props.get("Description", ""))
    return OwnAddress(
        "its description (stage-label) says",
        row=position.row,
        column=position.column,
        site=int(label[2]),
        time=int(time[1]) if time else None,
    )


def _depth(props: Mapping[str, str]) -> OwnDepth | None:
    gain = _GAIN.search(props.get("Description", ""))
    bits = _bits(float(gain[1]) if gain else positive(props.get("Camera Bit Depth")))
    words = f"its description ({'Gain' if gain else 'Camera Bit Depth'}) says"
    return None if bits is None else OwnDepth(words, bits, is_mode=True)


def _form(props: Mapping[str, str]) -> OwnForm | None:
    width, height, bits = (
        int(value) if value.isdecimal() and len(value) < 7 else None
        for value in (props.get(name, "") for name in ("pixel-size-x", "pixel-size-y", "bits-per-pixel"))
    )
    if width is height is bits is None:
        return None
    return OwnForm("its description says", width, height, bits if bits in {8, 16} else None)


def _name(props: Mapping[str, str]) -> str:
    """The wave's own name; several waves may share one illumination setting."""
    name = _text(props.get("image-name"))
    return name if name and name != _NOT_A_NAME else _text(props.get("_IllumSetting_"))


def _pixel_size_um(props: Mapping[str, str]) -> float | None:
    """In the unit it is said in, if the calibration is on and both sides agree."""
    if props.get("spatial-calibration-state", "").lower() != "on":
        return None
    if props.get("spatial-calibration-units", "").lower() not in _MICROMETRES:
        return None
    across, down = positive(props.get("spatial-calibration-x")), positive(props.get("spatial-calibration-y"))
    if across is not None and down is not None and abs(across - down) > _SAME_SIDES * across:
        return None
    return pixel_size(across)


def _exposure_ms(lines: str) -> float | None:
    match = _EXPOSURE.search(lines)
    if match is None:
        return None
    exposure = positive(match[1])
    return None if exposure is None else exposure * _MILLISECONDS[match[2]]


def _objective(props: Mapping[str, str]) -> str:
    objective, aperture = _text(props.get("_MagSetting_")), positive(props.get("_MagNA_"))
    return f"{objective}, NA {aperture:g}" if objective and aperture else objective


def _bits(bits: float | None) -> int | None:
    return int(bits) if bits is not None and bits in {8, 10, 12, 14, 16} else None


def _text(value: str | None) -> str:
    return html.unescape(value or "").strip()
