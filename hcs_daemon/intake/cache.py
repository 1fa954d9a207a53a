"""Pixels between decode and device, within a budget of bytes."""

from collections import OrderedDict

from hcs_daemon.plate import PlaneId
from hcs_daemon.records import Pixels


class PixelCache:
    """Decoded planes by address. Owned by the intake thread.

    What has been sent to the device goes first when space is short, then the oldest. Nothing is lost by eviction:
    the files are on disk and are read again.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._needed: OrderedDict[PlaneId, tuple[str, Pixels]] = OrderedDict()
        self._spent: OrderedDict[PlaneId, tuple[str, Pixels]] = OrderedDict()
        self.held_bytes = 0

    def put(self, plane: PlaneId, sha256: str, pixels: Pixels) -> None:
        """Keep (height, width) pixels of a file with this digest, as far as the budget allows."""
        self._remove(plane)
        self._needed[plane] = (sha256, pixels)
        self.held_bytes += pixels.nbytes
        self._fit()

    def get(self, plane: PlaneId, sha256: str) -> Pixels | None:
        """The pixels, if they are still here and from a file with this digest."""
        for shelf in (self._needed, self._spent):
            found = shelf.get(plane)
            if found is not None and found[0] == sha256:
                return found[1]
        return None

    def release(self, plane: PlaneId) -> None:
        """The plane's site has been sent; its pixels may be wanted once more, to explain it."""
        found = self._needed.pop(plane, None)
        if found is not None:
            self._spent[plane] = found

    def drop(self, plane: PlaneId, sha256: str) -> None:
        """The pixels of a file with this digest are not wanted any more."""
        if self.get(plane, sha256) is not None:
            self._remove(plane)

    def _remove(self, plane: PlaneId) -> None:
        for shelf in (self._needed, self._spent):
            found = shelf.pop(plane, None)
            if found is not None:
                self.held_bytes -= found[1].nbytes

    def _fit(self) -> None:
        while self.held_bytes > self._budget_bytes and (self._spent or self._needed):
            shelf = self._spent or self._needed
            _, (_, pixels) = shelf.popitem(last=False)
            self.held_bytes -= pixels.nbytes
