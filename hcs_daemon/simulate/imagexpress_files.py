"""What MetaXpress writes on an ImageXpress: planes with a MetaSeries description, thumbnails, projections, the HTD.

The keys of the HTD and of the description are those of real files; values that say nothing here are left out.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from hcs_daemon.instruments.imagexpress import ImageXpress
from hcs_daemon.plate import PROJECTION_Z, WellPosition
from hcs_daemon.simulate.measurement import (
    EXPOSURE_MS,
    FILTERS,
    Image,
    Manner,
    Measurement,
    PlaneInfo,
    Written,
    block_edge,
    site_centre_um,
)
from hcs_daemon.tiff import encode_pages

_THUMBNAIL_PX = 80
_SOFTWARE = "MetaSeries"


class ImageXpressFiles:
    """Deflated planes with a GUID in their names; the HTD comes first, and a stack's projection after its steps."""

    manner = Manner("imagexpress", ("w1", "w2", "w3", "w4", "w5"))

    def image_files(self, measurement: Measurement, images: Sequence[Image]) -> list[Written]:
        """A file a plane and a thumbnail beside each; of a stack also the projection."""
        files: list[Written] = []
        for plane, pixels in _with_projections(measurement, images):
            path = plane_path(plane, measurement)
            thumbnail = pixels[:: max(1, len(pixels) // _THUMBNAIL_PX), :: max(1, len(pixels) // _THUMBNAIL_PX)]
            for marked, content, words in (
                (path, pixels, description(plane, measurement, pixels)),
                (_marked(path, "_thumb"), thumbnail, thumbnail_description(plane, measurement, pixels, thumbnail)),
            ):
                data = encode_pages([content], description=words, compression="deflate", software=_SOFTWARE)
                files.append(Written(_marked(marked, measurement.guid(marked)), data))
        return files

    def metadata_files(self, measurement: Measurement, planes: Sequence[PlaneInfo], done: int) -> Iterator[Written]:
        """The HTD, before anything is taken."""
        if done == 0:
            text = htd_text(
                rows=measurement.rows,
                columns=measurement.columns,
                wells=measurement.positions,
                sites=measurement.sites,
                waves=list(dict.fromkeys(plane.channel for plane in planes)),
                z_steps=measurement.z_steps,
                projection=measurement.z_steps > 1,
                time_points=measurement.time_points,
            )
            yield Written(measurement.folder / f"{measurement.plate}.HTD", text.encode("latin-1", "replace"))


def plane_path(plane: PlaneInfo, measurement: Measurement) -> PurePosixPath:
    """Where a plane lies, its name still without a GUID: in a `ZStep_<n>` only where there are several."""
    step = plane.z if measurement.z_steps > 1 else PROJECTION_Z
    return ImageXpress().plane_path(measurement.address(plane, f"w{plane.channel_id}", z=step))


def htd_text(
    *,
    rows: int,
    columns: int,
    wells: Collection[WellPosition],
    sites: int,
    waves: Sequence[str],
    z_steps: int = 1,
    projection: bool = False,
    time_points: int = 1,
) -> str:
    """The HTD file of a plate, in lines that end as on Windows; it is stored as Latin-1.

    rows, columns: of the plate. wells: those imaged. sites: how many of a well, in a square block. waves: the name of
    each wavelength, w1 first. z_steps: 1 for no stack. projection: whether the instrument makes one. The file cannot
    say that a wavelength is taken at some steps or time points only.
    """
    edge = block_edge(sites)
    lines = [
        '"HTSInfoFile", Version 1.0',
        '"Description", "simulated"',
        f'"TimePoints", {time_points}',
        f'"ZSeries", {_truth(z_steps > 1)}',
        f'"ZSteps", {z_steps}',
        f'"ZProjection", {_truth(projection)}',
        f'"XWells", {columns}',
        f'"YWells", {rows}',
    ]
    for row in range(1, rows + 1):
        chosen = (WellPosition(row, column) in wells for column in range(1, columns + 1))
        lines.append(f'"WellsSelection{row}", {_truths(chosen)}')
    lines += ['"Sites", TRUE', f'"XSites", {edge}', f'"YSites", {-(-sites // edge)}']
    for row in range(-(-sites // edge)):
        lines.append(f'"SiteSelection{row + 1}", {_truths(row * edge + column < sites for column in range(edge))}')
    lines += ['"Waves", TRUE', f'"NWavelengths", {len(waves)}']
    lines += [f'"WaveName{number}", "{name}"' for number, name in enumerate(waves, start=1)]
    lines += [f'"WaveCollect{number}", 1' for number in range(1, len(waves) + 1)]
    return "\r\n".join([*lines, '"EndFile"', ""])


def description(plane: PlaneInfo, measurement: Measurement, pixels: NDArray[np.uint16]) -> str:
    """The MetaSeries XML of a plane."""
    words = "&#13;&#10;".join(
        [
            f"Plate Name: {measurement.plate}",
            f"Exposure: {EXPOSURE_MS:g} ms",
            "Binning: 2 x 2",
            "Acquired from AndorSdk3 Camera",
            "Subtract: Off",
            "Shading: Off",
            "Gain: 16-bit (low noise & high well capacity)",
            "Software Version: simulated",
        ]
    )
    return _metaseries(plane, measurement, pixels, measurement.pixel_size_um, name=plane.channel, words=words)


def thumbnail_description(
    plane: PlaneInfo, measurement: Measurement, pixels: NDArray[np.uint16], thumbnail: NDArray[np.uint16]
) -> str:
    """The MetaSeries XML of a thumbnail: its pixels are larger."""
    size_um = measurement.pixel_size_um * len(pixels) / len(thumbnail)
    return _metaseries(plane, measurement, thumbnail, size_um, name="HTSThumbHTS", words="thumbnail image")


def _with_projections(measurement: Measurement, images: Sequence[Image]) -> Iterator[Image]:
    """The planes as they are taken; after each channel's stack its maximum."""
    if measurement.z_steps == 1:
        yield from images
        return
    for _, group in groupby(images, lambda image: (image[0].channel_id, image[0].time)):
        stack = list(group)
        yield from stack
        projected: NDArray[np.uint16] = np.max([pixels for _, pixels in stack], axis=0)
        yield replace(stack[-1][0], z=PROJECTION_Z), projected


def _marked(path: PurePosixPath, mark: str) -> PurePosixPath:
    """The path with something more at the end of its stem."""
    return path.with_name(f"{path.name.removesuffix(path.suffix)}{mark}{path.suffix}")


def _truth(value: bool) -> str:  # noqa: FBT001 (it formats one)
    return "TRUE" if value else "FALSE"


def _truths(values: Iterable[bool]) -> str:
    return ", ".join(map(_truth, values))


def _metaseries(
    plane: PlaneInfo, measurement: Measurement, pixels: NDArray[np.uint16], size_um: float, *, name: str, words: str
) -> str:
    x, y = site_centre_um(plane.site, measurement.sites, measurement.field_um)[::-1]
    taken = plane.taken_at.strftime("%Y%m%d %H:%M:%S.%f")[:-3]
    props: list[tuple[str, str, object]] = [
        ("plane-type", "string", "plane"),
        ("pixel-size-x", "int", pixels.shape[1]),
        ("pixel-size-y", "int", pixels.shape[0]),
        ("bits-per-pixel", "int", 16),
        ("spatial-calibration-state", "bool", "on"),
        ("spatial-calibration-x", "float", f"{size_um:.6g}"),
        ("spatial-calibration-y", "float", f"{size_um:.6g}"),
        ("spatial-calibration-units", "string", "um"),
        ("image-name", "string", name),
        ("acquisition-time-local", "time", taken),
        ("stage-position-x", "float", f"{x:g}"),
        ("stage-position-y", "float", f"{y:g}"),
        ("stage-label", "string", f"{plane.position.name} : Site {plane.site}"),
        ("z-position", "float", f"{9000 + measurement.height_um(plane):g}"),
        ("wavelength", "float", FILTERS[plane.channel][1]),
        ("camera-binning-x", "int", 2),
        ("camera-binning-y", "int", 2),
        ("_IllumSetting_", "string", plane.channel),
        ("_MagNA_", "float", 0.3),
        ("_MagSetting_", "string", "10X Plan Fluor"),
    ]
    custom: list[tuple[str, str, object]] = [
        ("Camera Bit Depth", "float", 16),
        ("Exposure Time", "string", f"{EXPOSURE_MS:g} ms"),
    ]
    if plane.z != PROJECTION_Z and measurement.z_steps > 1:
        custom.append(("Z Step", "float", plane.z))
    return "\n".join(
        [
            "<MetaData>",
            f'<prop id="Description" type="string" value={_quoted(words)}/>',
            '<prop id="MetaDataVersion" type="float" value="1"/>',
            '<prop id="ApplicationName" type="string" value="MetaMorph"/>',
            '<prop id="ApplicationVersion" type="string" value="simulated"/>',
            "<PlaneInfo>",
            *(f'<prop id="{key}" type="{kind}" value={quoteattr(str(value))}/>' for key, kind, value in props),
            *(f'<custom-prop id="{key}" type="{kind}" value="{value}"/>' for key, kind, value in custom),
            "</PlaneInfo>",
            "</MetaData>",
        ]
    )


def _quoted(words: str) -> str:
    """An attribute's value; its line ends are written as MetaXpress writes them."""
    return quoteattr(words.replace("&#13;&#10;", "\r\n"), {"\r": "&#13;", "\n": "&#10;"})
