"""What the simulated CellVoyager writes beside the planes: the growing record, failures, correction images."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fakes import no_sleep
from hcs_daemon.instruments.cellvoyager import CellVoyager
from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import FileKind
from hcs_daemon.plate import WellPosition, plate_wells
from hcs_daemon.simulate.camera import OFFSET_COUNTS
from hcs_daemon.simulate.instrument import SimulatedPlate, simulate_plate
from hcs_daemon.simulate.measurement import PlaneInfo
from hcs_daemon.tiff import decode_plane

A01, A02 = WellPosition(1, 1), WellPosition(1, 2)


def read(path: Path) -> Manifest:
    said = CellVoyager().read_metadata(path)
    assert said is not None
    return said


def simulate(folder: Path, failing: tuple[WellPosition, str, int] | None = None, **arguments: Any) -> SimulatedPlate:
    def fails(plane: PlaneInfo) -> bool:
        return (plane.position, plane.channel, plane.z) == failing

    return simulate_plate(
        folder,
        sleep=no_sleep,
        plate="P",
        wells=6,
        size_px=64,
        instrument="cellvoyager",
        not_taken=fails,
        **arguments,
    )


def test_the_record_grows_with_the_plate_and_never_shrinks_or_breaks(tmp_path: Path) -> None:
    states: list[tuple[int, WellPosition | None]] = []
    record = tmp_path / "P__2024-01-01T00_00_00-Measurement 1" / "MeasurementData.mlf"

    def look(_seconds: float) -> None:
        if record.exists():
            said = CellVoyager().read_metadata(record)
            planes = sum(len(images) for images in said.planes.values()) if said else 0
            state = planes, said.last[0] if said and said.last else None
            states.extend([state] if state not in states else [])

    simulate_plate(tmp_path, sleep=look, plate="P", wells=6, size_px=32, speed=100.0, instrument="cellvoyager")
    look(0.0)
    assert [planes for planes, _ in states] == sorted({planes for planes, _ in states})
    assert len(states) >= 4
    assert states[-1] == (30, WellPosition(2, 1))


def test_at_the_end_the_record_names_every_plane(tmp_path: Path) -> None:
    plate = simulate(tmp_path, z_steps=2)
    said = read(plate.folder / "MeasurementData.mlf")
    assert said.may_grow
    assert set(said.planes) == set(plate_wells(6))
    assert said.planes[A01] == {(1, 1, f"C0{channel}"): frozenset({1, 2}) for channel in range(1, 6)}


def test_a_failed_plane_is_recorded_as_one_that_will_never_come(tmp_path: Path) -> None:
    plate = simulate(tmp_path, failing=(A02, "RNA", 2), z_steps=2)
    said = read(plate.folder / "MeasurementData.mlf")
    assert said.never == {A02: {(1, 1, "C03"): frozenset({2})}}
    assert said.planes[A02][1, 1, "C03"] == frozenset({1, 2})
    assert plate.planes == 6 * 5 * 2 - 1
    assert len(list(plate.folder.glob("P_A02_*Z02C03.tif"))) == 0
    assert len(list(plate.folder.glob("P_A02_*.tif"))) == 9


def test_detail_and_protocol_tell_how_each_channel_is_taken(tmp_path: Path) -> None:
    folder = simulate(tmp_path).folder
    detail, protocol = read(folder / "MeasurementDetail.mrf"), read(folder / "simulated.mes")
    assert (detail.rows, detail.columns, detail.pixel_size_um, detail.plate_id) == (2, 3, 1.196, "P")
    assert {facts.bit_depth for facts in detail.channels.values()} == {16}
    assert [facts.name for facts in protocol.channels.values()] == ["DNA", "ER", "RNA", "AGP", "Mito"]
    dna = protocol.channels["C01"]
    assert (dna.excitation_nm, dna.emission_nm, dna.exposure_ms, dna.objective) == (375.0, 456.0, 100.0, "10x")
    assert (read(folder / "P.wpi").plate_id, read(folder / "simulated.wpp").rows) == ("P", 2)


def test_correction_images_are_no_data_and_named_by_the_detail(tmp_path: Path) -> None:
    folder = simulate(tmp_path).folder
    corrections = sorted(path for path in folder.glob("*.tif") if path.name.startswith(("SC_", "DC_")))
    assert len(corrections) == 6
    for path in corrections:
        within = PurePosixPath(path.relative_to(tmp_path).as_posix())
        assert CellVoyager().read_name("in", within).kind is FileKind.NO_DATA
    assert set(read(folder / "MeasurementDetail.mrf").flatfields) == {f"C0{channel}" for channel in range(1, 6)}
    dark, shading = (decode_plane(path.read_bytes()).pixels.astype(float) for path in corrections[:2])
    assert abs(dark.mean() - OFFSET_COUNTS) < 1
    assert np.all(shading > 1000)
