"""The closed lists: reasons, statuses, stages. Whatever labels a metric or fills an enum field is here."""

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a file was rejected."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not_an_image"
    UNKNOWN_NAME = "unknown_name"
    UNKNOWN_CHANNEL = "unknown_channel"
    WRONG_SHAPE = "wrong_shape"
    WRONG_CONTAINER = "wrong_container"
    BIT_DEPTH = "bit_depth"
    BLANK = "blank"
    DUPLICATE_CHANNEL = "duplicate_channel"
    DUPLICATE_PLANE = "duplicate_plane"
    METADATA_MISMATCH = "metadata_mismatch"
    TOO_LARGE = "too_large"
    POISONED = "poisoned"


UNLIKE: Final = "unlike"
"""The label of a well that is unlike all that the model has seen; no class may have this name."""


class WellStatus(StrEnum):
    """How much of a well was analysed."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    REJECTED = "rejected"


PLATE_STATUSES: Final = (WellStatus.COMPLETE, WellStatus.PARTIAL)
"""How a finished plate may be: every expected well is complete, or not."""


class PlateState(StrEnum):
    """Whether a plate may still grow."""

    ACQUIRING = "acquiring"
    FINISHED = "finished"


class Used(StrEnum):
    """What became of an accepted plane."""

    ANALYSED = "analysed"
    OTHER_Z = "other_z"
    INCOMPLETE_SITE = "incomplete_site"
    SUPERSEDED = "superseded"


class Verdict(StrEnum):
    """What a channel's planes say about its declared bit depth."""

    CONSISTENT = "consistent"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


class PlaneOutcome(StrEnum):
    """What intake decided about a plane file."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


class SiteOutcome(StrEnum):
    """What the device made of a site."""

    PREDICTED = "predicted"
    REJECTED = "rejected"
    POISONED = "poisoned"


class ExplanationResult(StrEnum):
    """How an explanation ended."""

    PASSED = "passed"
    FAILED = "failed"
    SHED = "shed"


class ReloadResult(StrEnum):
    """What became of settings that were read anew."""

    APPLIED = "applied"
    REFUSED = "refused"
    FAILED = "failed"


class CommandResult(StrEnum):
    """How the command for a finished plate ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Stage(StrEnum):
    """The stages whose progress is watched."""

    SCAN = "scan"
    DECODE = "decode"
    ASSEMBLE = "assemble"
    INFER = "infer"
    EXPLAIN = "explain"
    PUBLISH = "publish"


FAR_BELOW: Final = "far below all other planes of the channel"
"""In a warning of intake's that makes a well another result, when it comes or goes."""
