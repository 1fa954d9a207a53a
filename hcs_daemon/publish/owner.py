"""Whose the results folder is: what root makes in another user's folder, that user cannot write again."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from hcs_daemon.errors import FolderError


def other_owner(results: Path) -> str | None:
    """Where this is root and the folder another user's: that user, as `sudo -u` takes it; else None."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    try:
        number = results.stat().st_uid
    except OSError:  # not there yet, or a matter for whoever writes
        return None
    if number == 0:
        return None
    with suppress(KeyError):  # a user without a name here, as of a container
        return results.owner()
    return f"'#{number}'"


def check_owner(results: Path) -> None:
    """Raise FolderError where root is about to write into another user's results."""
    owner = other_owner(results)
    if owner is not None:
        raise FolderError(
            f"results.directory {results} is of {owner}, who could not write what root makes there",
            f"run it as that user, `sudo -u {owner} hcs-daemon …`; stop the service before, and start it after",
        )
