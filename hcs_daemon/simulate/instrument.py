"""The simulated instrument: a plate of made-up cells, written as an Opera Phenix writes, or as another machine does.

`DIR/<plate>__2024-01-01T00_00_00-Measurement 1/Images/r02c03f01p01-ch1sk1fk1fl1.tiff`, LZW, well after well along the
rows, forth and back; `Index.xml` comes last. `vendors.py` lists the others.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hcs_daemon.errors import SettingsError
from hcs_daemon.plate import PLATE_SHAPES, WellId, WellPosition
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.layout import WellPlan, plan_plate, write_layout, write_truth
from hcs_daemon.simulate.measurement import Measurement, PlaneInfo, Vendor, Written
from hcs_daemon.simulate.pace import FileToWrite, check_speed, write_files, writing
from hcs_daemon.simulate.scenes import plan_scene
from hcs_daemon.simulate.seeds import generator
from hcs_daemon.simulate.site import CAMERA_PX, PIXEL_SIZE_UM, render_stack
from hcs_daemon.simulate.vendors import vendor_called

_IN_FLIGHT = 8  # sites made ahead of the writing, when an executor makes them


@dataclass(frozen=True, slots=True)
class SimulatedPlate:
    """What was written.

    folder: the measurement folder. plans: what is in each well written, in row order. planes: how many were taken (an
    instrument's own projections and thumbnails are not counted). masks: the folder of the masks, None when no truth
    was asked for.
    """

    folder: Path
    plate: str
    plans: tuple[WellPlan, ...]
    planes: int
    masks: Path | None

    @property
    def wells(self) -> tuple[WellPosition, ...]:
        """The wells written, in row order."""
        return tuple(plan.position for plan in self.plans)


@dataclass(frozen=True, slots=True)
class _MadeSite:
    """files: those of a site, in order. masks: for each time point, as in `SimulatedSite`."""

    files: list[Written]
    masks: dict[int, NDArray[np.uint8]]


def simulate_plate(
    directory: Path,
    *,
    sleep: Callable[[float], None],
    plate: str = "SIM0001",
    wells: int = 96,
    sites: int = 1,
    size_px: int = 540,
    seed: int = 0,
    speed: float = 0.0,
    instrument: str = "harmony",
    z_steps: int = 1,
    time_points: int = 1,
    layout: Path | None = None,
    truth: Path | None = None,
    positions: Sequence[WellPosition] | None = None,
    plans: Sequence[WellPlan] | None = None,
    scene: str | None = None,
    not_taken: Callable[[PlaneInfo], bool] | None = None,
    executor: Executor | None = None,
) -> SimulatedPlate:
    """Write one plate. The same seed and arguments give the same bytes, whatever the executor.

    Args:
        directory: the folder that a daemon would watch; made, with its parents, when it is not there.
        sleep: waits so many seconds; called only at a speed above 0.
        plate: the plate's name; other names hold other cells in other positions.
        wells: of the plate: 6, 24, 96, 384 or 1536.
        sites: fields of view a well.
        size_px: edge of a picture in pixels of 1.196 µm, at most the camera's 1080.
        seed: varies cells, noise and positions; the compounds and what they do stay the same.
        speed: 0 writes as fast as possible; else a factor on the nominal pace of 5 planes a second, files growing.
        instrument: whose files to write, as in `watch.instrument`.
        z_steps: planes a stack; the middle one is in focus.
        time_points: how often the plate is imaged.
        layout: CSV to write (`well, compound, concentration_um, role`), outside `directory`.
        truth: CSV to write (the layout and `effect_strength, affected_channels, class`), outside `directory`. Beside it
            a folder `<stem>_masks` with `<well>_s<site>.png` (later time points: `<well>.t002_s<site>.png`): 8-bit
            pictures in which bit i is set where an effect was planted in channel i (0 DNA, 1 ER, 2 RNA, 3 AGP, 4 Mito),
            bit 5 where stray light lies, 0 where nothing is.
        positions: only these wells of the plan; the tables hold these alone.
        plans: what is in each well, in place of the plate's own plan (for training).
        scene: a hard case of `scenes.SCENES` in place of the screen; not together with plans.
        not_taken: says which planes fail: no file of theirs is written. Where an instrument records failures it does;
            else its metadata promises them all the same.
        executor: makes sites side by side; None makes one after the other.

    Raises:
        SettingsError: an argument is refused, or a file would be overwritten.
        FolderError: a folder cannot be written.
    """
    vendor = vendor_called(instrument)
    _check(plate, wells, sites, size_px, seed)
    _check_depth(vendor, z_steps, time_points)
    check_speed(speed)
    if plans is None:
        plans = plan_plate(wells, seed, plate) if scene is None else plan_scene(scene, wells, seed, plate)
    chosen = _choose(plans, positions, wells)
    measurement = Measurement(
        plate,
        wells,
        sites,
        size_px,
        PIXEL_SIZE_UM,
        _identity(seed, plate),
        seed=seed,
        z_steps=z_steps,
        time_points=time_points,
        positions=tuple(plan.position for plan in _along_the_rows(chosen)),
    )
    planes = list(_planes(measurement, vendor))
    failed = frozenset(plane.number for plane in planes if not_taken is not None and not_taken(plane))
    measurement = replace(measurement, not_taken=failed)
    folder = directory / measurement.folder
    masks = truth.with_name(f"{truth.stem}_masks") if truth is not None else None
    _check_paths(directory, folder, layout, truth, masks)
    with writing():
        folder.mkdir(parents=True)
        if layout is not None:
            write_layout(layout, chosen)
        if truth is not None:
            write_truth(truth, chosen)
        if masks is not None:
            masks.mkdir(parents=True)
    files = _files(vendor, chosen, planes, measurement, masks=masks, executor=executor)
    write_files(_placed(files, directory), speed=speed, sleep=sleep)
    return SimulatedPlate(folder, plate, tuple(chosen), len(planes) - len(failed), masks)


def _check(plate: str, wells: int, sites: int, size_px: int, seed: int) -> None:
    if wells not in PLATE_SHAPES:
        raise SettingsError(f"no plate has {wells} wells", f"choose one of {', '.join(map(str, PLATE_SHAPES))}")
    if not 1 <= sites <= 99:
        raise SettingsError(f"{sites} sites a well cannot be imaged", "choose 1 to 99")
    if not 32 <= size_px <= CAMERA_PX:
        raise SettingsError(f"a picture of {size_px} pixels cannot be taken", f"choose 32 to {CAMERA_PX}, the camera's")
    if seed < 0:
        raise SettingsError(f"seed {seed} is negative", "choose 0 or any larger whole number")
    if not plate.strip() or "__" in plate or plate.startswith(".") or set(plate) & set('/\\:*?"<>|\0\n'):
        raise SettingsError(
            f"{plate!r} cannot be a plate's name",
            "use letters, digits, spaces, - and _ ; two _ in a row separate the plate from its measurement",
        )


def _check_depth(vendor: Vendor, z_steps: int, time_points: int) -> None:
    if not 1 <= z_steps <= 99:
        raise SettingsError(f"{z_steps} z steps cannot be taken", "choose 1 to 99")
    if not 1 <= time_points <= 99:
        raise SettingsError(f"{time_points} time points cannot be taken", "choose 1 to 99")
    if z_steps > 1 and not vendor.manner.stacks:
        raise SettingsError(f"file names of {vendor.manner.name} have no z", "choose one z step, or another instrument")
    if time_points > 1 and not vendor.manner.lapses:
        raise SettingsError(
            f"file names of {vendor.manner.name} have no time point", "choose one time point, or another instrument"
        )


def _choose(plans: Sequence[WellPlan], positions: Sequence[WellPosition] | None, wells: int) -> list[WellPlan]:
    rows, columns = PLATE_SHAPES[wells]
    by_position = {plan.position: plan for plan in plans}
    wanted = sorted(set(by_position if positions is None else positions))
    for position in wanted:
        if position.row > rows or position.column > columns or position not in by_position:
            raise SettingsError(f"{position.name} is not on the plan of this plate", f"the plate has {wells} wells")
    if not wanted:
        raise SettingsError("no well is chosen", "name at least one")
    return [by_position[position] for position in wanted]


def _check_paths(directory: Path, folder: Path, layout: Path | None, truth: Path | None, masks: Path | None) -> None:
    if folder.exists():
        raise SettingsError(
            f"{folder} is there already", "give the plate another name, or remove the folder; nothing was overwritten"
        )
    for path in (layout, truth):
        if path is not None and path.resolve().is_relative_to(directory.resolve()):
            raise SettingsError(f"{path} lies in the watched folder {directory}", "name a file outside of it")
    for path in (layout, truth, masks):
        if path is not None and path.exists():
            raise SettingsError(f"{path} is there already", "name another file, or remove it; nothing was overwritten")


def _identity(seed: int, plate: str) -> UUID:
    """The measurement's own id, always the same for the same plate."""
    return UUID(bytes=generator(seed, plate, "measurement").bytes(16), version=4)


def _planes(measurement: Measurement, vendor: Vendor) -> Iterator[PlaneInfo]:
    """Every plane in the order of taking: the whole plate at one time point after another, or site after site."""
    times = range(1, measurement.time_points + 1)
    number = 0
    for rounds in [times] if vendor.manner.lapse_in_a_file else [[time] for time in times]:
        for position in measurement.positions:
            for site in range(1, measurement.sites + 1):
                for time in rounds:
                    for index, channel in enumerate(CHANNELS):
                        for z in range(1, measurement.z_steps + 1):
                            yield PlaneInfo(position, site, index + 1, channel, number, z, time)
                            number += 1


def _along_the_rows(plans: Sequence[WellPlan]) -> list[WellPlan]:
    """Odd rows from the left, even rows from the right: the stage takes the shortest way."""
    return sorted(
        plans,
        key=lambda plan: (plan.position.row, plan.position.column if plan.position.row % 2 else -plan.position.column),
    )


def _files(
    vendor: Vendor,
    plans: Sequence[WellPlan],
    planes: Sequence[PlaneInfo],
    measurement: Measurement,
    *,
    masks: Path | None,
    executor: Executor | None,
) -> Iterator[Written]:
    """The files in order, made as they are asked for; masks are written on the way."""
    by_position = {plan.position: plan for plan in plans}
    groups = [tuple(group) for _, group in groupby(planes, _in_one_go(vendor))]
    jobs = [(vendor, by_position[group[0].position], group, measurement) for group in groups]
    done = 0
    yield from vendor.metadata_files(measurement, planes, done)
    for group, made in zip(groups, _in_order(executor, jobs), strict=True):
        if masks is not None:
            for time, mask in made.masks.items():
                well = WellId(measurement.acquisition, group[0].position, time)
                Image.fromarray(mask).save(masks / f"{well.stem}_s{group[0].site}.png")
        yield from made.files
        done += len(group)
        yield from vendor.metadata_files(measurement, planes, done)


def _in_one_go(vendor: Vendor) -> Callable[[PlaneInfo], tuple[WellPosition, int, int]]:
    """What the planes that are made together have in common: well and site, and mostly the time point."""
    return lambda plane: (plane.position, plane.site, 0 if vendor.manner.lapse_in_a_file else plane.time)


def _placed(files: Iterable[Written], directory: Path) -> Iterator[FileToWrite]:
    """The files with their place on the disk; folders are made as they are needed."""
    made: set[Path] = set()
    for file in files:
        path = directory / file.path
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        yield FileToWrite(path, lambda data=file.data: data, file.whole)  # type: ignore[misc]  # mypy: default in a lambda


def _in_order(executor: Executor | None, jobs: Sequence[tuple[Any, ...]]) -> Iterator[_MadeSite]:
    """The results in the jobs' order; an executor works only a little ahead, so that few wait in memory."""
    if executor is None:
        yield from (_make_site(*job) for job in jobs)
        return
    waiting: deque[Future[_MadeSite]] = deque()
    for job in jobs:
        waiting.append(executor.submit(_make_site, *job))
        if len(waiting) >= _IN_FLIGHT:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _make_site(vendor: Vendor, plan: WellPlan, planes: Sequence[PlaneInfo], measurement: Measurement) -> _MadeSite:
    """Render and encode one site; may run in another process."""
    stacks = {
        time: render_stack(
            plan,
            planes[0].site,
            plate=measurement.plate,
            seed=measurement.seed,
            size_px=measurement.size_px,
            z_steps=measurement.z_steps,
            time=time,
        )
        for time in sorted({plane.time for plane in planes})
    }
    images = [
        (plane, stacks[plane.time].pixels[plane.channel_id - 1, plane.z - 1])
        for plane in planes
        if plane.number not in measurement.not_taken
    ]
    return _MadeSite(vendor.image_files(measurement, images), {time: made.mask for time, made in stacks.items()})
