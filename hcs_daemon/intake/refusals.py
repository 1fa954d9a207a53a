"""Why a file is refused that its own pixels do not condemn, and what a person can do."""

from collections.abc import Mapping

from hcs_daemon.intake.validation import Refusal
from hcs_daemon.records import PlaneEvidence
from hcs_daemon.vocabulary import Reason


def unknown_name(problem: str) -> Refusal:
    """The name fits no grammar."""
    return Refusal(
        Reason.UNKNOWN_NAME,
        problem,
        "if it is an image, set watch.instrument or watch.pattern; if not, keep it out of the watched folder",
    )


def unaddressed_bundle(problem: str) -> Refusal:
    """A file of several planes that does not say of which wells they are."""
    return Refusal(
        Reason.UNKNOWN_NAME,
        problem,
        "export with the plate's metadata, or one plane a file and watch.pattern; then write the file again",
    )


def unknown_channel(channel_id: str, expected: Mapping[str, str], name: str = "") -> Refusal:
    """The channel is in neither list of the settings.

    expected: name -> channel id. name: what its file name calls it.
    """
    known = ", ".join(f'{name} = "{id_}"' for name, id_ in expected.items())
    called = f" ({name})" if name and name != channel_id else ""
    return Refusal(
        Reason.UNKNOWN_CHANNEL,
        f"channel {channel_id}{called} is in neither list (expect.channels: {known})",
        f'if it is not to be analysed, add "{channel_id}" to expect.ignore_channels',
    )


def one_of_a_series(problem: str) -> Refusal:
    """Another image of a channel whose first one is the plane."""
    return Refusal(
        Reason.DUPLICATE_CHANNEL,
        problem,
        "one image a channel and site is analysed, the first of the series; acquire one, or export one",
    )


def two_channels(path: str, there: str, here: str) -> Refusal:
    """Two channels that the instrument numbers alike, as in two reading steps of one protocol."""
    return Refusal(
        Reason.DUPLICATE_CHANNEL,
        f"is {here}, and {path} at the same well, site and channel number is {there}",
        "export each reading step into a folder of its own, or give the channels by name in expect.channels",
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


def other_pixel_size(said_um: float, known_um: float) -> Refusal:
    """The plane's own tags contradict what is known of the plate. Both in micrometres."""
    return Refusal(
        Reason.METADATA_MISMATCH,
        f"its tags say {said_um:g} µm a pixel, and the plate's is {known_um:g} µm",
        "find out which is right: correct expect.pixel_size_um, or image with one objective and binning a plate",
    )


def contradiction(problem: str) -> Refusal:
    """A metadata file says of the whole plate what the settings deny."""
    return Refusal(
        Reason.METADATA_MISMATCH,
        problem,
        "no well of the plate is analysed until it is corrected; a finished plate is then done by `hcs-daemon process`",
    )


def contradicted_channel(channel: str, declared: int, why: str, evidence: PlaneEvidence) -> Refusal:
    """The planes of a channel together contradict the declared bit depth. why: in words."""
    return Refusal(
        Reason.BIT_DEPTH,
        f"{channel} is not of {declared} bits as declared: {why}",
        "set expect.bit_depth to what the camera gives, or export the raw images; it is read again if later planes"
        " show otherwise",
        evidence=evidence,
    )


def duplicate(path: str) -> Refusal:
    """The same bytes as another file at the same address."""
    return Refusal(
        Reason.DUPLICATE_PLANE,
        f"the same bytes at the same address as {path}",
        "the first one counts: remove the copy, but if the first is gone from the disk, write this one again instead",
    )
