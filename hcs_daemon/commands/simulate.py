"""`hcs-daemon simulate` and `hcs-daemon replay`: instruments that are none."""

import time
from contextlib import nullcontext
from pathlib import Path

from hcs_daemon.config import canonical_channel
from hcs_daemon.errors import SettingsError
from hcs_daemon.plate import WellPosition
from hcs_daemon.simulate.compounds import CHANNELS
from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.measurement import Manner
from hcs_daemon.simulate.replay import parse_wells, replay
from hcs_daemon.simulate.site import PIXEL_SIZE_UM
from hcs_daemon.simulate.vendors import vendor_called
from hcs_daemon.simulate.workers import workers
from hcs_daemon.terminal import counted, say


def simulate_screen(
    directory: Path,
    *,
    plate: str,
    wells: int,
    sites: int,
    size_px: int,
    seed: int,
    speed: float,
    instrument: str,
    z_steps: int,
    time_points: int,
    scene: str | None,
    layout: Path | None,
    truth: Path | None,
) -> int:
    """Write a plate and say what was written. Raises SettingsError or FolderError."""
    manner = vendor_called(instrument).manner
    with workers(wells * sites * z_steps * time_points) if speed == 0 else nullcontext() as executor:
        made = simulate_plate(
            directory,
            sleep=time.sleep,
            plate=plate,
            wells=wells,
            sites=sites,
            size_px=size_px,
            seed=seed,
            speed=speed,
            instrument=instrument,
            z_steps=z_steps,
            time_points=time_points,
            scene=scene,
            layout=layout,
            truth=truth,
            executor=executor,
        )
    say(f"{counted(made.planes, 'plane')} of {counted(len(made.wells), 'well')} in {made.folder}")
    for line in _for_the_settings(manner):
        say(line)
    if layout is not None:
        say(f"what is in each well: {layout}")
    if truth is not None:
        say(f"what was planted: {truth}, and where: {made.masks}")
    return 0


def _for_the_settings(manner: Manner) -> list[str]:
    """What the settings must say of such files beyond what they say of an Opera Phenix's."""
    lines = []
    if [canonical_channel(id_) for id_ in manner.channels] != [str(number) for number in range(1, len(CHANNELS) + 1)]:
        named = ", ".join(f'{name} = "{id_}"' for name, id_ in zip(CHANNELS, manner.channels, strict=True))
        lines.append(f"in the settings: expect.channels = {{ {named} }}")
    if not manner.pixel_size:
        lines.append(f"in the settings: expect.pixel_size_um = {PIXEL_SIZE_UM:g}, which these files do not tell")
    return lines


def replay_folder(source: Path, destination: Path, *, speed: float, rename: str | None, seed: int | None) -> int:
    """Write a recorded folder again and say what was written. Raises SettingsError or FolderError."""
    if seed is not None and seed < 0:
        raise SettingsError(f"seed {seed} is negative", "choose 0 or any larger whole number")
    wells = parse_wells(rename) if rename is not None else None
    report = replay(source, destination, sleep=time.sleep, speed=speed, rename=wells, seed=seed)
    others = f" and {counted(report.others, 'other file')}" if report.others else ""
    say(f"{counted(report.planes, 'plane')}{_of_wells(report.wells)}{others} in {report.folder}")
    return 0


def _of_wells(wells: tuple[WellPosition, ...]) -> str:
    return f" of {counted(len(wells), 'well')}" if wells else ""
