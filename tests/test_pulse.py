"""Who works uses the processor: on a fake clock, and of a real thread."""

import sys
import threading
import time

import pytest

from hcs_daemon.pulse import WORK_S, Pulse, own_processor


def test_whoever_uses_the_processor_is_not_still() -> None:
    used = [5.0]
    pulse = Pulse(100.0, lambda: used[0])
    assert pulse.still_s(130.0) == 30.0
    used[0] += WORK_S
    assert pulse.still_s(140.0) == 0.0
    assert pulse.still_s(145.0) == 5.0


def test_little_by_little_counts_when_it_has_come_together() -> None:
    used = [0.0]
    pulse = Pulse(0.0, lambda: used[0])
    still = []
    for now in range(1, 9):
        used[0] += WORK_S / 4
        still.append(pulse.still_s(float(now)))
    assert still == [1, 2, 3, 0, 1, 2, 3, 0]


def test_a_thread_that_has_ended_works_no_more() -> None:
    told = iter([3.0])

    def processor_s() -> float:
        for used_s in told:
            return used_s
        raise OSError

    assert Pulse(0.0, processor_s).still_s(7.0) == 7.0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_another_threads_work_is_seen_and_its_waiting_is_none() -> None:
    made, end, busy = threading.Event(), threading.Event(), threading.Event()
    told = []

    def work() -> None:
        told.append(own_processor())
        made.set()
        busy.wait()
        while not end.is_set():
            sum(range(1000))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    made.wait()
    waiting = told[0]()
    busy.set()
    deadline = time.monotonic() + 60
    while told[0]() < waiting + 0.05:
        assert time.monotonic() < deadline
    assert waiting < 0.05
    end.set()
    thread.join()
