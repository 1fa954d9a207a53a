"""The real program beside an instrument that writes, and killed in the middle."""

import time
from pathlib import Path

import numpy as np
import pytest

from hcs_daemon.simulate.instrument import simulate_plate
from hcs_daemon.simulate.replay import parse_wells, replay
from hcs_daemon.simulate.spoil import eight_bit_scaled, truncated
from processes import (
    REAL_CHANNELS,
    SIMULATED_CHANNELS,
    Place,
    everything_accounted_for,
    make_place,
    run_program,
    running,
    stop,
    wait_until,
)

REAL_IDS = {"2", "3", "4", "5", "6"}
SCALED, CUT = "r02c03f03p01-ch4sk1fk1fl1.tiff", "r04c05f03p01-ch6sk1fk1fl1.tiff"
"""One plane of B03 and one of D05."""


def real_place(folder: Path) -> Place:
    """Nothing is explained: of sites as large as these that takes so long that wells are published before it."""
    return make_place(
        folder,
        REAL_CHANNELS,
        expect='ignore_channels = ["1"]\npixel_size_um = 0.598\nsites_per_well = 1',
        explain="none",
    )


def spoiled(path: Path, data: bytes) -> bytes:
    if path.name == SCALED:
        return eight_bit_scaled(data)
    return truncated(data) if path.name == CUT else data


def write_24_wells(source: Path, place: Place, speed: float) -> None:
    """The real site over 24 wells, in mixed order, files growing; two of its planes spoiled."""
    replay(
        source / "opera-phenix-6ch",
        place.watched,
        sleep=time.sleep,
        speed=speed,
        rename=parse_wells("24"),
        seed=4,
        alter=spoiled,
    )


def check_24_wells(place: Place) -> None:
    wells = place.wells
    complete = {well for well, result in wells.items() if result["status"] == "complete"}
    assert len(wells) == 24
    assert set(wells) - complete == {"B03", "D05"}
    for well in ("B03", "D05"):
        assert wells[well]["status"] == "rejected"
        assert wells[well]["prediction"] is None
    assert {line["path"].rpartition("/")[2]: line["reason"] for line in place.rejections} == {
        SCALED: "bit_depth",
        CUT: "truncated",
    }
    # the same pixels everywhere: the same verdict everywhere
    shares = np.array([list(wells[well]["prediction"]["probabilities"].values()) for well in sorted(complete)])
    np.testing.assert_allclose(shares, np.broadcast_to(shares[0], shares.shape), atol=1e-5)
    everything_accounted_for(place, REAL_IDS)


def has_all_pictures(place: Place) -> bool:
    return len(list(place.results.glob("*/*/wells/*.png"))) == 24


@pytest.mark.slow
def test_an_instrument_writes_a_real_site_over_24_wells(shared_data: Path, tmp_path: Path) -> None:
    place = real_place(tmp_path)
    with running(place) as daemon:
        write_24_wells(shared_data, place, speed=6.0)
        wait_until(lambda: len(place.well_files) == 24 and has_all_pictures(place), 240.0)
        metrics = place.metrics()
        assert stop(daemon) == 0
    check_24_wells(place)
    assert metrics['hcs_wells_total{status="complete"}'] == 22
    assert metrics['hcs_wells_total{status="rejected"}'] == 2
    assert metrics['hcs_wells_total{status="partial"}'] == 0
    assert metrics['hcs_planes_total{outcome="accepted"}'] == 24 * 5 - 2
    assert metrics['hcs_planes_total{outcome="rejected"}'] == 2
    assert metrics['hcs_planes_total{outcome="ignored"}'] == 24
    assert metrics['hcs_rejections_total{reason="bit_depth"}'] == 1
    assert metrics['hcs_rejections_total{reason="truncated"}'] == 1
    assert metrics['hcs_sites_total{outcome="predicted"}'] == 22
    assert metrics["hcs_ledger_entries_total"] == len(place.ledger) == 24
    assert metrics["hcs_planes_pending"] == 0
    assert run_program("ledger", "verify", place.results).returncode == 0


@pytest.mark.slow
def test_a_daemon_killed_in_the_middle_goes_on_where_it_stopped(shared_data: Path, tmp_path: Path) -> None:
    place = real_place(tmp_path)
    with running(place) as daemon:
        write_24_wells(shared_data, place, speed=0.0)
        wait_until(lambda: len(place.well_files) >= 5, 120.0)
        daemon.kill()
        daemon.wait()
    before = {path: path.read_bytes() for path in place.well_files}
    assert 5 <= len(before) < 24
    with running(place) as daemon:
        wait_until(lambda: len(place.well_files) == 24 and has_all_pictures(place), 240.0)
        assert stop(daemon) == 0
    check_24_wells(place)
    assert all(path.read_bytes() == data for path, data in before.items())
    assert [line["revision"] for line in place.ledger] == [1] * 24
    assert len({line["path"] for line in place.ledger}) == 24
    assert run_program("ledger", "verify", place.results).returncode == 0


def test_a_small_plate_is_followed_live_and_a_stop_is_clean(tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    with running(place) as daemon:
        simulate_plate(place.watched, sleep=time.sleep, wells=6, size_px=270, seed=3)
        wait_until(lambda: len(list(place.results.glob("*/*/wells/*.png"))) == 6, 60.0)
        wait_until(lambda: '"finished"' in next(place.results.glob("*/*/plate.json")).read_text("utf-8"), 60.0)
        assert place.metrics()['hcs_wells_total{status="complete"}'] == 6
        assert stop(daemon) == 0
    assert {result["status"] for result in place.wells.values()} == {"complete"}
    everything_accounted_for(place, {"1", "2", "3", "4", "5"})


def test_a_second_daemon_on_the_same_results_is_turned_away(tmp_path: Path) -> None:
    place = make_place(tmp_path, SIMULATED_CHANNELS)
    with running(place) as daemon:
        second = run_program("run", "-c", place.config)
        assert second.returncode == 5
        assert str(daemon.pid) in second.stderr
        assert stop(daemon) == 0
