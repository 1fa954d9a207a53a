"""What lies in the watched folder, in words: a line a fact, for `check`.

Each returns lines, and raises an HcsError, with a hint, for what stands in the way of an analysis.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hcs_daemon.commands.incoming import PLATES_SHOWN, ChannelSeen, Incoming, PlateSeen, called_by_instrument
from hcs_daemon.config import Expect
from hcs_daemon.errors import LayoutError, SettingsError
from hcs_daemon.layout import check_fits, read_layout
from hcs_daemon.plate import PlateLayout
from hcs_daemon.records import ExpectedPlate
from hcs_daemon.terminal import counted

NAMED = 3
"""Files that a line names; the others are counted."""


def whose(found: Incoming) -> list[str]:
    """Which instrument, and why. Raises SettingsError where two share a folder."""
    said = found.recognition
    if said.refusal:
        raise SettingsError(said.refusal, "set watch.instrument to the right one, or give each a folder of its own")
    lines = [said.why]
    lines += [
        f'{counted(names, "file")} as {other} names them: watch.instrument = "{other}" or "auto" would read them'
        for other, names in found.elsewhere.items()
    ]
    if found.unlistable:
        lines.append(f"{counted(len(found.unlistable), 'folder')} cannot be listed: {_some(found.unlistable)}")
    return lines


def plates(found: Incoming) -> list[str]:
    """What is there."""
    lines = [f"{plate.title}: {_extent(plate)}" for plate in found.shown]
    return [*lines, *_and_more(found)] or ["none yet"]


def expected(found: Incoming, expect: Expect) -> list[str]:
    """What will come, and who says so."""
    return [f"{plate.acquisition.plate}: {_promise(plate, expect)}" for plate in found.shown] or [_by_settings(expect)]


def mapping(found: Incoming, expect: Expect) -> list[str]:
    """The settings' channels beside the files'. Raises SettingsError where none of them has a file."""
    shown = [(plate, seen) for plate in found.shown for seen in plate.channels.values()]
    known: dict[str, list[tuple[PlateSeen, ChannelSeen]]] = {name: [] for name in expect.channels}
    others: dict[str, list[tuple[PlateSeen, ChannelSeen]]] = {}
    for plate, seen in shown:
        name = plate.expectation.names.name_of(seen.address)
        (others if name is None else known).setdefault(name or seen.address.channel, []).append((plate, seen))
    if shown and not any(known.values()):
        theirs = ", ".join(_channel(*each[0]) for each in others.values())
        raise SettingsError(
            f"no file is of a channel in expect.channels ({', '.join(expect.channels.values())}); there are {theirs}",
            "name the instrument's ids, or its names, in expect.channels",
        )
    lines = [f'{name} = "{expect.channels[name]}": {_files_of(each)}' for name, each in known.items()]
    return lines + [f"{_channel(*each[0])}: {_not_analysed(each)}" for each in others.values()]


def image_size(found: Incoming, scale_problem: Callable[[float], str | None]) -> list[str]:
    """Micrometres a pixel. scale_problem: why images of a size cannot be shown to the model, in words, or None.

    Raises SettingsError where two sources differ, where none says it, and where the model cannot see it.
    """
    sizes: dict[str, list[str]] = {}
    for plate in found.shown:
        title, expectation = plate.acquisition.plate, plate.expectation
        if said := expectation.contradiction():
            raise SettingsError(f"{title}: {said}", "find out which is right, and correct expect.pixel_size_um")
        if (size := expectation.pixel_size_um()) is None:
            raise SettingsError(
                f"{title}: nothing says how large a pixel is, neither expect.pixel_size_um nor a file there",
                "set expect.pixel_size_um; or copy the instrument's metadata too, if it says it and is still to come",
            )
        if (problem := scale_problem(size)) is not None:
            raise SettingsError(f"{title}: {problem}", "take a model that was made for this magnification")
        sizes.setdefault(f"{size:g} µm a pixel", []).append(title)
    if len(sizes) == 1:
        return list(sizes)
    return [f"{size}: {_some(titles)}" for size, titles in sizes.items()] or ["no image yet"]


def flat_field(found: Incoming, expect: Expect) -> list[str]:
    """What is taken out of the images. Raises SettingsError where it is asked for and not known."""
    if expect.flatfield == "off":
        there = any(plate.expectation.manifest.flatfields for plate in found.shown)
        return ["off" + (", though the instrument's own is there" if there else "")]
    for plate in found.shown:
        missing = [name for name in plate.expectation.channels if name not in plate.expectation.flatfields]
        if missing:
            raise SettingsError(
                f"{plate.acquisition.plate}: the instrument's flat field of {', '.join(missing)} is not there",
                'copy its metadata too, or set expect.flatfield = "off" with a model that was trained without',
            )
    words = dict.fromkeys(plate.expectation.flatfield_words() for plate in found.shown)
    return list(words) or ["the instrument's, once its metadata is there"]


def layouts(found: Incoming, expect: Expect) -> list[str]:
    """What is in the wells. Raises LayoutError for a file that cannot be read or does not fit."""
    lines = [f"{plate.acquisition.plate}: {_layout(plate, expect.layout)}" for plate in found.shown]
    if lines or expect.layout is None:
        return lines or ["none in the settings; an instrument's own counts"]
    if not expect.layout.exists():
        raise LayoutError(f"{expect.layout} is not there", "put the plates' layouts there, or change expect.layout")
    return [f"{expect.layout}, read when a plate comes"]


def rejected(found: Incoming) -> list[str]:
    """What would be rejected, as far as names, and one plane of each channel, tell."""
    opened = f"{counted(found.opened, 'plane')} opened, one of each channel that is analysed"
    if not found.refused:
        return [f"nothing by its name; {opened}" if found.opened else "nothing there"]
    return [
        f"{counted(each.files, 'file')} as {reason}, such as {each.example}: {each.refusal.detail}"
        for reason, each in found.refused.items()
    ] + [opened]


def _extent(plate: PlateSeen) -> str:
    most = max((len(sites) for sites in plate.sites.values()), default=0)
    parts = [counted(len(plate.sites), "well"), f"{counted(most, 'site')} a well", counted(plate.planes, "plane")]
    if plate.times - {1}:
        parts.insert(2, counted(len(plate.times), "time point"))
    if len(plate.steps) > 1:
        parts.insert(2, counted(len(plate.steps - {0}), "z step"))
    if plate.bundles:
        parts = [counted(len(plate.bundles), "file") + " of several planes", "in the first: " + parts[0], *parts[1:]]
    return ", ".join(parts)


def _promise(plate: PlateSeen, expect: Expect) -> str:
    said = plate.expectation.summary()
    if said.source != "metadata":
        facts = f"; {_some(plate.telling)} promises no planes" if plate.telling else ""
        return _by_settings(expect) + facts
    seen = "" if plate.bundles else f"; {plate.planes} are there"
    return f"{_planes_in_words(said)}, by {_some(plate.promising)}{seen}"


def _planes_in_words(said: ExpectedPlate) -> str:
    parts = [counted(said.wells or 0, "well"), f"{counted(said.sites or 0, 'site')} a well"]
    if (said.time_points or 1) > 1:
        parts.append(counted(said.time_points or 1, "time point"))
    if (said.z_steps or 1) > 1:
        parts.append(counted(said.z_steps or 1, "z step"))
    return ", ".join([*parts, f"{counted(said.planes or 0, 'plane')} to analyse"])


def _by_settings(expect: Expect) -> str:
    if expect.sites_per_well:
        return f"{counted(expect.sites_per_well, 'site')} a well, by expect.sites_per_well"
    return (
        f"nothing says how many sites a well has: learned, {expect.well_timeout_s:g} s after a well's last plane;"
        " expect.sites_per_well says it"
    )


def _files_of(each: list[tuple[PlateSeen, ChannelSeen]]) -> str:
    if not each:
        return "no file yet, and sites wait for it"
    ids = dict.fromkeys(_channel(plate, seen) for plate, seen in each)
    return f"{' or '.join(ids)}, {counted(sum(seen.planes for _, seen in each), 'plane')}"


def _not_analysed(each: list[tuple[PlateSeen, ChannelSeen]]) -> str:
    planes = counted(sum(seen.planes for _, seen in each), "plane")
    ignored = all(plate.expectation.names.is_ignored(seen.address) for plate, seen in each)
    return f"ignored, {planes}" if ignored else f"in neither list, {planes} would be rejected"


def _channel(plate: PlateSeen, seen: ChannelSeen) -> str:
    called = called_by_instrument(plate, seen)
    id_ = seen.address.channel
    return f"channel {id_}" + (f" ({called})" if called and called != id_ else "")


def _layout(plate: PlateSeen, path: Path | None) -> str:
    manifest = plate.expectation.manifest
    layout: PlateLayout | None = manifest.layout
    if path is not None:
        layout = read_layout(path, plate.acquisition.plate)
    if layout is None:
        return "nothing says what is in the wells"
    if manifest.rows and manifest.columns:
        check_fits(layout, manifest.rows, manifest.columns)
    unsaid = len(plate.sites.keys() - layout.wells.keys())
    return f"{counted(len(layout.wells), 'well')}, by {layout.source}" + (
        f"; it says nothing of {counted(unsaid, 'well')} with images" if unsaid else ""
    )


def _some(names: Iterable[object]) -> str:
    listed = [str(name) for name in names]
    more = len(listed) - NAMED
    return ", ".join(listed[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _and_more(found: Incoming) -> Iterator[str]:
    more = len(found.plates) - len(found.shown)
    if more > 0:
        planes = sum(each.planes for each in found.plates[PLATES_SHOWN:])
        yield f"and {more} more, of which the names were read: {counted(planes, 'plane')}"
