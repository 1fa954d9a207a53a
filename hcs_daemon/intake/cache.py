"""Pixels between decode and device, within a budget of bytes."""

from collections import OrderedDict

from hcs_daemon.intake.projection import FOLDED, Fold
from hcs_daemon.plate import SiteId
from hcs_daemon.records import Pixels

ImageId = tuple[SiteId, str]
"""A channel of a site, by the settings' name."""


class PixelCache:
    """One image a channel of a site. Owned by the intake thread.

    What has been sent to the device goes first when space is short, then the oldest. Nothing is lost by eviction:
    the files are on disk and are read again.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._needed: OrderedDict[ImageId, Fold] = OrderedDict()
        self._spent: OrderedDict[ImageId, Fold] = OrderedDict()
        self.held_bytes = 0

    def resize(self, budget_bytes: int) -> None:
        """Keep to another budget from now on."""
        self._budget_bytes = budget_bytes
        self._fit()

    def put(self, image: ImageId, part: str, pixels: Pixels, fold: str = "") -> None:
        """Keep (height, width) pixels of a file with this digest, as far as the budget allows.

        fold: `max` or `mean` joins them with what is there of the image, anything else takes its place.
        """
        held = self._needed.get(image) or self._spent.get(image)
        if held is not None and held.shape != pixels.shape and fold in FOLDED:
            return  # one of the two is refused; what is lacking then is read again
        self._remove(image)
        if held is None or fold not in FOLDED or held.projection != fold:
            held = Fold(fold, part, pixels)
        elif part not in held.members:
            held.add(part, pixels)
        self._needed[image] = held
        self.held_bytes += held.nbytes
        self._fit()

    def get(self, image: ImageId, members: frozenset[str]) -> Pixels | None:
        """(height, width) pixels, if they are here and made of just the files with these digests."""
        held = self._needed.get(image) or self._spent.get(image)
        return held.finished() if held is not None and held.members == members else None

    def release(self, image: ImageId) -> None:
        """The site has been sent; its pixels may be wanted once more, to explain it."""
        found = self._needed.pop(image, None)
        if found is not None:
            self._spent[image] = found

    def drop(self, image: ImageId, part: str) -> None:
        """The pixels of a file with this digest are not wanted any more."""
        held = self._needed.get(image) or self._spent.get(image)
        if held is not None and part in held.members:
            self._remove(image)

    def _remove(self, image: ImageId) -> None:
        for shelf in (self._needed, self._spent):
            found = shelf.pop(image, None)
            if found is not None:
                self.held_bytes -= found.nbytes

    def _fit(self) -> None:
        while self.held_bytes > self._budget_bytes and (self._spent or self._needed):
            shelf = self._spent or self._needed
            _, held = shelf.popitem(last=False)
            self.held_bytes -= held.nbytes
