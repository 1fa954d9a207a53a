"""Plates to learn from, read as the daemon reads them: what it refuses is not learned from either."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch

from hcs_daemon import __version__
from hcs_daemon.config import Settings
from hcs_daemon.device.manifest import ChannelEntry, Manifest, Normalisation
from hcs_daemon.device.tiling import Tiler
from hcs_daemon.errors import FolderError, SettingsError
from hcs_daemon.instruments import instrument_for
from hcs_daemon.instruments.naming import FileKind, name_of_root
from hcs_daemon.intake.arrival import scan_once
from hcs_daemon.intake.intake import Intake
from hcs_daemon.plate import WellPosition
from hcs_daemon.records import Pixels, PlateNews, Rejection, Restored, Site
from hcs_daemon.telemetry import Telemetry

COARSEST_UM = 1.3
"""Pictures are made coarser by whole pixels as long as theirs stay below: of a cell some twenty pixels are left."""
MOST_FOLDED = 4
SMALLEST_PX = 64
"""Smaller pictures hold too little of a cell to learn from."""
LARGEST_TILE_PX = 135
READS_AT_ONCE = 4
REASONS_NAMED = 3

WellName = tuple[str, WellPosition]
"""A plate's name, and a well of it: what stands together in every split, however often it was imaged."""


@dataclass(frozen=True, slots=True)
class StoredSite:
    """One field of view of a labelled well.

    key: of the bytes that it was made of (`Site.key`). picture: SHA-256 of its pixels, whatever file they came in.
    """

    acquisition: str
    well: WellName
    time: int
    site: int
    key: tuple[str, ...]
    picture: str


@dataclass(frozen=True, slots=True)
class PlateDigest:
    """What was read of a plate. sha256: of the digests of all files that its sites were made of."""

    plate: str
    sites: int
    wells: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """The sites of all labelled wells, by plate, well and number.

    pixels: (channels, height, width) raw counts of each, at pixel_size_um. labels: each well's. refused: files by
    reason, of all wells. lacking: labelled wells of which no site could be read.
    """

    sites: tuple[StoredSite, ...]
    pixels: Sequence[Pixels]
    pixel_size_um: float
    labels: Mapping[WellName, str]
    refused: Mapping[str, int]
    lacking: tuple[WellName, ...]

    @property
    def plates(self) -> tuple[PlateDigest, ...]:
        """What was read of each plate, by name."""
        found = []
        for plate in sorted({site.well[0] for site in self.sites}):
            own = [site for site in self.sites if site.well[0] == plate]
            digest = hashlib.sha256("\n".join(part for site in own for part in site.key).encode()).hexdigest()
            found.append(PlateDigest(plate, len(own), len({site.well for site in own}), digest))
        return tuple(found)

    @property
    def twins(self) -> tuple[tuple[WellName, ...], ...]:
        """Wells that have a picture in common, each group of them by name: a plate that was copied has its own."""
        showing: dict[str, set[WellName]] = {}
        for site in self.sites:
            showing.setdefault(site.picture, set()).add(site.well)
        groups: list[set[WellName]] = []
        for wells in (wells for wells in showing.values() if len(wells) > 1):
            joined = wells.union(*(group for group in groups if group & wells))
            groups = [group for group in groups if not group & wells] + [joined]
        return tuple(sorted(tuple(sorted(group)) for group in groups))

    @property
    def tile_px(self) -> int:
        """The edge of the square that a network sees: a picture's, or a part of it of which whole ones cover it."""
        edge: int = min(self.pixels[0].shape[1:])
        return edge if edge <= LARGEST_TILE_PX else -(-edge // -(-edge // LARGEST_TILE_PX))


def gather(
    roots: Sequence[Path],
    settings: Settings,
    *,
    labels_of: Callable[[str], Mapping[WellPosition, str]],
    judge: Callable[[Mapping[WellName, str]], None],
    scratch: Path,
    readers: Executor,
    progress: Callable[[int, int], None],
) -> Gathered:
    """Read every site of every labelled well below the folders; the rest is judged too and left.

    labels_of: the label of each well of a plate, by its name. judge: shown all labels before a plane is opened, where
    files' names say of which plates they are; raises where nothing can come of them. scratch: a file for the pixels,
    written anew, which the answer refers to. progress: told (planes decided, planes in all) of the present folder.
    Raises FolderError for a folder that is not there or gives nothing, SettingsError where sites do not fit together,
    and what labels_of and judge raise.
    """
    for root in roots:
        if not root.is_dir():
            raise FolderError(f"{root} is not a folder", "give a plate's folder, or a tree of them")
    named = [plates_by_name(root, settings) for root in roots]
    plates = sorted(set().union(*(found for found in named if found)))
    if all(named):
        judge({(plate, well): label for plate in plates for well, label in labels_of(plate).items()})
    with scratch.open("wb") as stream:
        shelf = _Shelf(stream, settings, labels_of)
        for root in dict.fromkeys(root.resolve() for root in roots):
            _read(root, settings, shelf, readers, progress)
    return shelf.gathered(scratch)


def plates_by_name(root: Path, settings: Settings) -> set[str]:
    """The plates below a folder, by the names of its files; none where a name does not say all that is in a file."""
    instrument, name = instrument_for(settings.watch), name_of_root(root)
    paths = [PurePosixPath(seen.path.relative_to(root).as_posix()) for seen in scan_once(root).sightings]
    for path in paths:  # so that it knows whose files they are when they are asked again
        instrument.read_name(name, path)
    plates = set()
    for path in paths:
        reading = instrument.read_name(name, path)
        if reading.address is not None:
            plates.add(reading.address.acquisition.plate)
        elif reading.kind is FileKind.BUNDLE or (
            reading.kind is FileKind.UNKNOWN and path.suffix.lower() in {".tif", ".tiff"}
        ):
            return set()
    return plates


def draft(settings: Settings, pixel_size_um: float, tile_px: int, normalisation: Sequence[Normalisation]) -> Manifest:
    """A manifest of what goes into the network; what comes out is not known yet."""
    return Manifest.model_validate(
        {
            "name": "draft",
            "version": "0",
            "channels": tuple(ChannelEntry(name=name) for name in settings.expect.channels),
            "container": settings.expect.dtype,
            "bit_depth": settings.expect.bit_depth,
            "tile_px": tile_px,
            "pixel_size_um": pixel_size_um,
            "normalisation": tuple(normalisation),
            "classes": ("control", "other"),
            "control_class": "control",
            "references": {"control": ("none",)},
            "flatfield": settings.expect.flatfield,
            "weights_sha256": "0" * 64,
        }
    )


@dataclass(slots=True)
class _Shelf:
    """Takes sites as they come, in any order. Owned by `gather`."""

    stream: BinaryIO
    settings: Settings
    labels_of: Callable[[str], Mapping[WellPosition, str]]
    sites: list[StoredSite] = field(default_factory=list)
    labels: dict[WellName, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    asked: dict[str, Mapping[WellPosition, str]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    dtype: str = ""
    pixel_size_um: float = 0.0
    given_um: float = 0.0
    tiler: Tiler | None = None

    def meet(self, plate: str) -> Mapping[WellPosition, str]:
        """The labels of a plate, read when first asked for."""
        if plate not in self.asked:
            self.asked[plate] = self.labels_of(plate)
            self.labels |= {(plate, position): label for position, label in self.asked[plate].items()}
        return self.asked[plate]

    def take(self, site: Site) -> None:
        """Keep a site at the model's pixel size, if its well has a label."""
        well = site.id.well
        if well.position not in self.meet(well.acquisition.plate):
            return
        pixels = self._resampled(site)
        if not self.shape:
            self.shape, self.dtype = pixels.shape, pixels.dtype.name
        elif pixels.shape != self.shape:
            raise SettingsError(
                f"{well.acquisition.plate} {well.position.name}: pictures are {pixels.shape[2]} x {pixels.shape[1]}"
                f" pixels of {self.pixel_size_um:g} µm, those before {self.shape[2]} x {self.shape[1]}",
                "train on plates that were imaged alike",
            )
        held = np.ascontiguousarray(pixels).tobytes()
        self.stream.write(held)
        self.sites.append(
            StoredSite(
                acquisition=well.acquisition.acquisition,
                well=(well.acquisition.plate, well.position),
                time=well.time,
                site=site.id.site,
                key=site.key,
                picture=hashlib.sha256(held).hexdigest(),
            )
        )

    def _resampled(self, site: Site) -> Pixels:
        if self.tiler is None:
            folded = max(n for n in range(1, MOST_FOLDED + 1) if n == 1 or n * site.pixel_size_um <= COARSEST_UM)
            self.given_um, self.pixel_size_um = site.pixel_size_um, folded * site.pixel_size_um
            plain = Normalisation(kind="linear", offset=0.0, scale=1.0)
            made = draft(self.settings, self.pixel_size_um, 8, [plain] * len(site.pixels))
            self.tiler = Tiler(made, torch.device("cpu"))
        if self.pixel_size_um == site.pixel_size_um:
            return site.pixels
        problem = self.tiler.problem(site.pixels.shape, site.pixel_size_um)
        if problem is not None:
            raise SettingsError(f"{site.id.well.acquisition.plate}: {problem}", "train on plates of one magnification")
        means = self.tiler.resampled(site.pixels, site.pixel_size_um)
        return means.round().numpy().astype(site.pixels.dtype)  # type: ignore[return-value]  # numpy widens the type

    def gathered(self, scratch: Path) -> Gathered:
        """All of it, sorted. Raises FolderError when nothing can be learned from it."""
        if not self.sites:
            raise FolderError(self._nothing(), "`hcs-daemon validate -c FILE` says how the files are read")
        if min(self.shape[1:]) < SMALLEST_PX:
            raise SettingsError(
                f"pictures are {self.shape[2]} x {self.shape[1]} pixels of {self.pixel_size_um:g} µm, and"
                f" {SMALLEST_PX} are needed along each side",
                "give whole pictures, at a magnification that shows cells",
            )
        order = sorted(range(len(self.sites)), key=lambda row: _place(self.sites[row]))
        stored = np.memmap(scratch, self.dtype, "c", shape=(len(self.sites), *self.shape))
        sites = tuple(self.sites[row] for row in order)
        there = {site.well for site in sites}
        return Gathered(
            sites=sites,
            pixels=[stored[row] for row in order],
            pixel_size_um=self.pixel_size_um,
            labels={well: label for well, label in self.labels.items() if well in there},
            refused=self.refused,
            lacking=tuple(sorted(well for well in self.labels if well not in there)),
        )

    def _nothing(self) -> str:
        said = [f"{plate}: {problem}" for plate, problem in self.problems.items()]
        said += [f"{count} files {reason}" for reason, count in self.refused.most_common(REASONS_NAMED)]
        return "no labelled well could be read" + (f" ({'; '.join(said)})" if said else "")


def _place(site: StoredSite) -> tuple[str, WellPosition, str, int, int]:
    plate, position = site.well
    return plate, position, site.acquisition, site.time, site.site


def _read(
    root: Path, settings: Settings, shelf: _Shelf, readers: Executor, progress: Callable[[int, int], None]
) -> None:
    """One folder through intake, as one that is complete."""
    bell = threading.Event()
    intake = Intake(
        root=root,
        instrument=instrument_for(settings.watch),
        settings=settings,
        channels=tuple(settings.expect.channels),
        telemetry=Telemetry(__version__),
        readers=readers,
        reads_at_once=READS_AT_ONCE,
        wake=bell.set,
        restored=Restored(),
        now_utc=lambda: datetime.now(UTC),
        finite=True,
    )
    intake.report(scan_once(root), time.monotonic())
    while True:
        bell.clear()
        worked = intake.step(time.monotonic(), room=True)
        while intake.to_device:
            item = intake.to_device.popleft()
            assert isinstance(item, Site)  # nothing asks for explanations here
            shelf.take(item)
        while intake.to_publish:
            _note(intake.to_publish.popleft(), shelf)
        progress(intake.awaited - intake.pending, intake.awaited)
        if intake.idle:
            return
        if not worked:
            bell.wait(intake.wait_s())


def _note(message: object, shelf: _Shelf) -> None:
    if isinstance(message, Rejection):
        shelf.refused[message.reason.value] += -1 if message.withdrawn else 1
    elif isinstance(message, PlateNews):
        shelf.meet(message.acquisition.plate)
        if message.problem:
            shelf.problems[message.acquisition.plate] = message.problem
        for channel, depth in message.bit_depth.items():
            with suppress(KeyError):
                del shelf.problems[f"{message.acquisition.plate} {channel}"]
            if depth.verdict == "contradicted":
                shelf.problems[f"{message.acquisition.plate} {channel}"] = depth.evidence
