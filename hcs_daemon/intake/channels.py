"""Which of the settings' channels a plane is of: by the instrument's id, or by its name for it."""

from collections.abc import Mapping

from hcs_daemon.config import Expect, canonical_channel
from hcs_daemon.instruments.naming import PlaneAddress
from hcs_daemon.records import ChannelFacts


class ChannelNames:
    """The settings' channels beside an instrument's. Owned by the intake thread; one for each plate.

    has_words: whether any of them is meant by a name.

    A name counts before an id: where the metadata calls channel 2 `5`, that is what `5` means.
    """

    def __init__(self, expect: Expect) -> None:
        self._wanted = {canonical_channel(text): name for name, text in expect.channels.items()}
        self._ignored = {canonical_channel(text) for text in expect.ignore_channels}
        self.has_words = any(not text.isdecimal() for text in (*self._wanted, *self._ignored))
        self._instruments: dict[str, str] = {}

    def learn(self, channels: Mapping[str, ChannelFacts]) -> bool:
        """What the metadata calls the channels (id -> facts); whether that is news."""
        before = self._instruments
        self._instruments = {canonical_channel(id_): facts.name for id_, facts in channels.items() if facts.name}
        return self._instruments != before

    def name_of(self, address: PlaneAddress) -> str | None:
        """The settings' name of a plane's channel, None where they have none."""
        return next((self._wanted[key] for key in self._keys(address) if key in self._wanted), None)

    def name_of_id(self, channel_id: str) -> str | None:
        """The settings' name of a channel by its id alone, or by what the metadata calls it."""
        keys = self._spellings(channel_id, "")
        return next((self._wanted[key] for key in keys if key in self._wanted), None)

    def is_ignored(self, address: PlaneAddress) -> bool:
        """Whether the settings say that it is not analysed."""
        return self.name_of(address) is None and any(key in self._ignored for key in self._keys(address))

    def may_be_named(self, address: PlaneAddress) -> bool:
        """Whether metadata that is not there yet could tell what this plane is of."""
        return self.has_words and not self._instruments and not address.channel_name

    def _keys(self, address: PlaneAddress) -> list[str]:
        return self._spellings(address.channel, address.channel_name)

    def _spellings(self, channel_id: str, name: str) -> list[str]:
        id_ = canonical_channel(channel_id)
        names = [name, self._instruments.get(id_, "")]
        return [*(canonical_channel(each) for each in names if each), id_]
