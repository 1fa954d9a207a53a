"""Why a file is refused that its own pixels do not condemn, and what a person can do."""

from collections.abc import Mapping

from hcs_daemon.intake.validation import Refusal
from hcs_daemon.vocabulary import Reason


def unknown_name(problem: str) -> Refusal:
    """The name fits no grammar."""
    return Refusal(
        Reason.UNKNOWN_NAME,
        problem,
        "if it is an image, set watch.instrument or watch.pattern; if not, keep it out of the watched folder",
    )


def unknown_channel(channel_id: str, expected: Mapping[str, str]) -> Refusal:
    """The channel is in neither list of the settings. expected: name -> channel id."""
    known = ", ".join(f'{name} = "{id_}"' for name, id_ in expected.items())
    return Refusal(
        Reason.UNKNOWN_CHANNEL,
        f"channel {channel_id} is in neither list (expect.channels: {known})",
        f'if it is not to be analysed, add "{channel_id}" to expect.ignore_channels',
    )


def one_of_a_series(problem: str) -> Refusal:
    """Another image of a channel whose first one is the plane."""
    return Refusal(
        Reason.DUPLICATE_CHANNEL,
        problem,
        "one image a channel and site is analysed, the first of the series; acquire one, or export one",
    )


def not_openable(detail: str) -> Refusal:
    """The file is there and cannot be read."""
    return Refusal(
        Reason.UNREADABLE,
        f"cannot be opened: {detail}",
        "let the daemon's user read it, or close it in the program that holds it; it is tried again",
        may_grow=True,
    )


def unexpected(failure: BaseException) -> Refusal:
    """Reading failed in a way that nobody thought of."""
    return Refusal(
        Reason.UNREADABLE,
        f"reading it failed: {failure!r}",
        "write the file again; if it stays so, report it with the file",
        may_grow=True,
    )


def wrong_shape(shape: tuple[int, int], expected: tuple[int, int]) -> Refusal:
    """Not the plate's size. Both (height, width)."""
    return Refusal(
        Reason.WRONG_SHAPE,
        f"is {shape[1]} x {shape[0]} pixels, the plate's planes are {expected[1]} x {expected[0]}",
        "one plate, one camera setting: image this well again with the plate's binning and crop",
    )


def duplicate(path: str) -> Refusal:
    """The same bytes as another file at the same address."""
    return Refusal(
        Reason.DUPLICATE_PLANE,
        f"the same bytes at the same address as {path}",
        "the first one counts: remove the copy, but if the first is gone from the disk, write this one again instead",
    )
