"""Which of the settings' channels a plane is of: by the instrument's id, or by its name for it."""

from collections.abc import Mapping

from hcs_daemon.config import Expect, canonical_channel
from hcs_daemon.instruments.naming import PlaneAddress
from hcs_daemon.records import ChannelFacts


class ChannelNames:
    """The settings' channels beside an instrument's. Owned by the intake thread; one for each plate.

    has_words: whether any of them is meant by a name.

    An id counts before a name: `5` is channel 5 where there is one, whatever the metadata calls 5. No two channels are
    ever one: a name that several bear means none of them. met: the settings' name -> id of the channels seen so far.
    """

    def __init__(self, expect: Expect) -> None:
        self._wanted = {canonical_channel(text): name for name, text in expect.channels.items()}
        self._ignored = {canonical_channel(text) for text in expect.ignore_channels}
        # an instrument may call a channel by its laser, 405, and has no hundred channels
        self.has_words = any(not text.isdecimal() or int(text) >= 100 for text in (*self._wanted, *self._ignored))
        self._instruments: dict[str, str] = {}
        self._known: dict[tuple[str, str], tuple[str | None, bool]] = {}
        self.met: dict[str, str] = {}

    def learn(self, channels: Mapping[str, ChannelFacts]) -> bool:
        """What the metadata calls the channels (id -> facts); whether that is news."""
        before = self._instruments
        self._instruments = {canonical_channel(id_): facts.name for id_, facts in channels.items() if facts.name}
        self._known.clear()
        self.met.clear()
        return self._instruments != before

    def name_of(self, address: PlaneAddress) -> str | None:
        """The settings' name of a plane's channel, None where they have none."""
        return self._look_up(address.channel, address.channel_name)[0]

    def name_of_id(self, channel_id: str) -> str | None:
        """The settings' name of a channel by its id alone, or by what the metadata calls it."""
        return self._look_up(channel_id, "")[0]

    def is_ignored(self, address: PlaneAddress) -> bool:
        """Whether the settings say that it is not analysed."""
        return self._look_up(address.channel, address.channel_name)[1]

    def may_be_named(self, address: PlaneAddress) -> bool:
        """Whether metadata that is not there yet could tell what this plane is of."""
        return self.has_words and not self._instruments and not address.channel_name

    def _look_up(self, channel_id: str, name: str) -> tuple[str | None, bool]:
        """The settings' name of a channel, and whether they ignore it; looked up once for each."""
        found = self._known.get((channel_id, name))
        if found is None:
            keys = self._spellings(channel_id, name)
            wanted = next((self._wanted[key] for key in keys if key in self._wanted), None)
            if wanted is not None and self.met.setdefault(wanted, channel_id) != channel_id:
                wanted = None
            found = self._known[channel_id, name] = wanted, wanted is None and any(key in self._ignored for key in keys)
        return found

    def _spellings(self, channel_id: str, name: str) -> list[str]:
        """How a channel may be meant: by its id, and by its names where they are no other channel's name or id."""
        id_ = canonical_channel(channel_id)
        instruments = [canonical_channel(each) for each in self._instruments.values()]
        said = [canonical_channel(each) for each in (name, self._instruments.get(id_, "")) if each]
        return [id_, *(each for each in said if instruments.count(each) <= 1 and each not in self._instruments)]
