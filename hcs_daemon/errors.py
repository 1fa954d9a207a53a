"""The error tree. Each error says what happened, to what, and (in its hint) what to do next.

An error is a broken world: a folder that cannot be written, settings that contradict each other.
Bad data is not an error but a value, `records.Rejection`.
"""

from typing import ClassVar


class HcsError(Exception):
    """An expected failure: one line that says what is wrong, one that says what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(HcsError):
    """The settings or the arguments are refused."""

    exit_code = 2


class NewerResultsError(HcsError):
    """A newer version of the program wrote the results that the settings or the arguments name."""

    exit_code = 2


class LayoutError(HcsError):
    """A file that says what is in the wells is refused."""

    exit_code = 2


class PackageError(HcsError):
    """A model package is refused."""

    exit_code = 3


class FolderError(HcsError):
    """A folder cannot be used: not there, not readable, not writable, full."""

    exit_code = 4


class ResultsHeldError(HcsError):
    """Another daemon holds the results folder."""

    exit_code = 5


class NotRunningError(HcsError):
    """Nothing answers where the daemon should be."""

    exit_code = 6
