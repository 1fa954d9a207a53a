import numpy as np

from hcs_daemon.device.batching import Batcher
from hcs_daemon.records import Site
from model_packages import site_of


def sites(count: int) -> list[Site]:
    return [site_of(np.full((3, 4, 4), 7, np.uint16), number) for number in range(1, count + 1)]


def test_a_full_batch_leaves_at_once_in_the_order_of_arrival() -> None:
    batcher, came = Batcher(batch_sites=2, max_wait_s=1.0), sites(3)
    for site in came:
        batcher.add(site, now=0.0)
    assert batcher.full
    assert batcher.ready(now=0.0) == came[:2]
    assert not batcher.full
    assert batcher.ready(now=0.9) == []
    assert batcher.ready(now=1.0) == came[2:]
    assert len(batcher) == 0


def test_the_oldest_site_decides_when_a_part_of_a_batch_leaves() -> None:
    batcher, (first, second) = Batcher(batch_sites=8, max_wait_s=1.0), sites(2)
    batcher.add(first, now=10.0)
    batcher.add(second, now=10.8)
    assert batcher.wait_s(now=10.75) == 0.25
    assert batcher.ready(now=10.99) == []
    assert batcher.ready(now=11.0) == [first, second]


def test_without_sites_nothing_is_due() -> None:
    batcher = Batcher(batch_sites=1, max_wait_s=0.0)
    assert batcher.ready(now=5.0) == []
    assert batcher.flush() == []
    assert batcher.wait_s(now=5.0) == float("inf")


def test_a_flush_gives_a_batch_at_most() -> None:
    batcher, came = Batcher(batch_sites=2, max_wait_s=100.0), sites(3)
    for site in came:
        batcher.add(site, now=0.0)
    assert batcher.flush() == came[:2]
    assert batcher.flush() == came[2:]
