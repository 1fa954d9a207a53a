"""`hcs-daemon ledger verify`: whether any result was changed afterwards."""

from pathlib import Path

from hcs_daemon.errors import FolderError
from hcs_daemon.publish.ledger import verify_ledger
from hcs_daemon.publish.names import LEDGER_NAME
from hcs_daemon.terminal import counted, say


def verify_folder(results: Path) -> int:
    """0 intact, 1 not. Raises FolderError where there is no ledger to verify."""
    hint = "name the results folder, the one that holds ledger.jsonl"
    try:
        if not results.is_dir():
            raise FolderError(f"{results} is not a folder", hint)
        report = verify_ledger(results)
    except OSError as error:
        raise FolderError(f"{error.filename or results} cannot be read: {error.strerror}", hint) from error
    if report.broken is not None:
        say(f"NOT INTACT: {report.broken}")
        say("this is the first break; results named before it are as they were written")
        return 1
    if not (results / LEDGER_NAME).exists():
        raise FolderError(f"{results} has no {LEDGER_NAME} and no results", hint)
    say(f"intact: {counted(report.entries, 'line')}, every result as it was written")
    return 0
