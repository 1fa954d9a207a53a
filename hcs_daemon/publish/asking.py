"""Which explanations are asked for, and when: few at a time, and those that no well waits for last of all."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from hcs_daemon.records import SiteWanted

AT_ONCE = 4
"""Explanations that a well waits for and that are under way at once: each holds a site's pixels in memory."""


class Asking:
    """The explanations that are wanted. Owned by the publish thread."""

    def __init__(self) -> None:
        self._waited_for: deque[SiteWanted] = deque()
        self._owed: deque[SiteWanted] = deque()
        self._under_way: set[SiteWanted] = set()

    def want(self, wanted: Iterable[SiteWanted]) -> None:
        """A well waits for these."""
        self._waited_for += wanted

    def put_off(self, wanted: Iterable[SiteWanted]) -> set[SiteWanted]:
        """No well waits for these any more; as what they will be answered. Those under way come as they are."""
        late = {each: each if each in self._under_way else replace(each, urgent=False) for each in wanted}
        self._owed += [later for each, later in late.items() if later is not each]
        return set(late.values())

    def answered(self, wanted: SiteWanted) -> None:
        """It is not under way any more."""
        self._under_way.discard(wanted)

    def due(self, stands: Callable[[SiteWanted], bool]) -> list[SiteWanted]:
        """What is to be asked for now. stands: whether somebody still wants it."""
        found: list[SiteWanted] = []
        while self._waited_for and len(self._under_way) < AT_ONCE:
            self._ask(self._waited_for.popleft(), stands, found)
        while self._owed and not self._under_way:
            self._ask(self._owed.popleft(), stands, found)
        return found

    def _ask(self, wanted: SiteWanted, stands: Callable[[SiteWanted], bool], found: list[SiteWanted]) -> None:
        if stands(wanted):
            self._under_way.add(wanted)
            found.append(wanted)
