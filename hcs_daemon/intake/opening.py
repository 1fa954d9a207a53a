"""Files that say what else there is: metadata, and bundles of several planes. Runs in the reader pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeAlias

from hcs_daemon.instruments.manifest import Manifest
from hcs_daemon.instruments.naming import Instrument, PlaneAddress
from hcs_daemon.intake import refusals
from hcs_daemon.intake.reading import Gone, Outcome, Refused, Twin, confirm, not_yet, refusal_of
from hcs_daemon.records import StableFile
from hcs_daemon.tiff import TiffProblem, first_tags


@dataclass(frozen=True, slots=True)
class Bundle:
    """A file of several planes, opened: the address of each page, and what it promises of its plate."""

    pages: Sequence[PlaneAddress | None]
    manifest: Manifest | None


Answer: TypeAlias = Outcome | Twin | Manifest | Bundle | None
"""What reading a file came to. None: it is there as it was seen, and nothing more was to be known of it."""


def open_bundle(instrument: Instrument, root_name: str, path: PurePosixPath, file: StableFile) -> Answer:
    """What is in a bundle. path: of it, below the watched folder, which is called `root_name`."""
    kept_from = confirm(file)
    if kept_from is not None:
        return kept_from
    try:
        tags = first_tags(file.path)
        pages = instrument.read_bundle(root_name, path, tags)
        return confirm(file) or Bundle(pages, instrument.promise_of_bundle(tags))
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return not_yet(error)
    except TiffProblem as problem:
        return Refused(refusal_of(problem))
    except ValueError as error:
        return Refused(refusals.unaddressed_bundle(str(error)))


def read_metadata(instrument: Instrument, file: StableFile) -> Answer:
    """What a metadata file promises, as it is now: one that grows all the while says something in every state."""
    try:
        return instrument.read_metadata(file.path)
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return not_yet(error)
