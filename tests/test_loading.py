"""Sites on their way: what waits for them decides which is brought together first, and what is said when none is."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hcs_daemon.records import SiteWanted
from watched_plates import Watched


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """Two wells that were predicted."""
    watched = Watched(tmp_path)
    watched.well("A01")
    watched.well("A02")
    watched.run(5)
    return watched


def test_what_only_a_picture_waits_for_is_brought_last(watched: Watched) -> None:
    first, second = watched.sites[:2]
    watched.intake.want(SiteWanted(first.id, first.key, "a", "b", urgent=False))
    watched.intake.want(SiteWanted(second.id, second.key, "a", "b"))
    watched.work()
    assert [task.site.id for task in watched.tasks] == [second.id, first.id]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [({"explain_target": "a", "explain_against": "b"}, "to be explained: "), ({"urgent": False}, "to be drawn: ")],
)
def test_a_site_that_is_not_brought_is_said_with_what_it_was_for(
    wanted: dict[str, Any], said: str, watched: Watched
) -> None:
    with capture_logs() as lines:
        watched.intake.want(SiteWanted(watched.sites[0].id, ("another", "key"), **wanted))
        watched.work()
    (line,) = (line for line in lines if line["event"] == "site.failed")
    assert line["detail"] == said + "its planes were replaced since"
    assert "done again by itself" not in line["hint"]
