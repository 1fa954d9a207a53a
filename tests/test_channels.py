"""Which of the settings' channels a plane is of."""

import pytest

from hcs_daemon.config import Expect
from hcs_daemon.instruments.naming import PlaneAddress
from hcs_daemon.intake.channels import ChannelNames
from hcs_daemon.plate import AcquisitionId, WellPosition
from hcs_daemon.records import ChannelFacts


def names(channels: dict[str, str], ignored: tuple[str, ...] = ()) -> ChannelNames:
    return ChannelNames(Expect(bit_depth=16, channels=channels, ignore_channels=list(ignored)))


def plane(channel: str, name: str = "") -> PlaneAddress:
    return PlaneAddress(AcquisitionId("P", "1"), WellPosition(1, 1), 1, channel, channel_name=name)


@pytest.mark.parametrize("written", ["5", "w5", "C05", "ch5", "05"])
def test_an_id_may_be_written_as_any_instrument_writes_it(written: str) -> None:
    assert names({"DNA": written}).name_of(plane("5")) == "DNA"


@pytest.mark.parametrize("written", ["HOECHST 33342", "hoechst 33342"])
def test_the_instruments_name_counts_once_its_metadata_tells_it(written: str) -> None:
    found = names({"DNA": written})
    assert found.name_of(plane("5")) is None
    assert found.may_be_named(plane("5"))
    assert found.learn({"5": ChannelFacts(name="HOECHST 33342")})
    assert found.name_of(plane("5")) == "DNA"
    assert not found.may_be_named(plane("2"))


def test_a_dye_that_ends_in_a_number_is_not_the_channel_of_that_number() -> None:
    found = names({"Mito": "Cy5"})
    assert found.name_of(plane("5")) is None
    assert found.name_of(plane("2", "Cy5")) == "Mito"
    found.learn({"5": ChannelFacts(name="Brightfield"), "2": ChannelFacts(name="Cy5")})
    assert [found.name_of(plane(id_)) for id_ in ("5", "2")] == [None, "Mito"]


def test_an_id_counts_before_a_name_whatever_the_metadata_calls_its_channels() -> None:
    found = names({"DNA": "5", "ER": "1"})
    found.learn({"1": ChannelFacts(name="5"), "5": ChannelFacts(name="1"), "2": ChannelFacts(name="w5")})
    assert [found.name_of(plane(id_)) for id_ in "152"] == ["ER", "DNA", None]


def test_a_laser_that_no_channel_is_numbered_by_is_a_name() -> None:
    found = names({"DNA": "405"})
    assert found.may_be_named(plane("C01"))
    found.learn({"C01": ChannelFacts(name="405")})
    assert found.name_of(plane("C01")) == "DNA"


def test_a_name_that_two_channels_bear_means_neither() -> None:
    found = names({"DNA": "DAPI", "ER": "3"})
    found.learn({"1": ChannelFacts(name="DAPI"), "2": ChannelFacts(name="DAPI"), "3": ChannelFacts(name="DAPI")})
    assert [found.name_of(plane(id_)) for id_ in "123"] == [None, None, "ER"]


def test_of_two_channels_that_file_names_call_alike_only_the_first_is_it() -> None:
    found = names({"DNA": "DAPI"})
    assert found.name_of(plane("1", "DAPI")) == "DNA"
    assert found.name_of(plane("2", "DAPI")) is None
    assert found.name_of(plane("1", "DAPI")) == "DNA"


def test_what_is_ignored_may_be_meant_by_its_name_too() -> None:
    found = names({"DNA": "5"}, ("Brightfield",))
    assert not found.is_ignored(plane("1"))
    found.learn({"1": ChannelFacts(name="Brightfield")})
    assert found.is_ignored(plane("1"))
    assert not found.is_ignored(plane("5"))


def test_where_all_are_meant_by_ids_no_metadata_is_waited_for() -> None:
    assert not names({"DNA": "5"}, ("1",)).may_be_named(plane("9"))
