"""THE SPINE: how the stages are joined; the first file a newcomer reads.

arrival -> stability -> identity -> decode -> validation -> assembly -> batching -> inference -> attribution -> publish
"""

from collections.abc import Sequence
from typing import Protocol

from hcs_daemon.records import ExplainTask, ModelFacts, Prediction, Site, SiteReturned


class Device(Protocol):
    """What the spine knows of the network. Owned by the device thread; never touches the disk."""

    @property
    def facts(self) -> ModelFacts:
        """The model in use, and on what."""

    def predict(self, sites: Sequence[Site]) -> list[Prediction]:
        """One prediction a site, in order."""

    def explain(self, task: ExplainTask) -> SiteReturned:
        """Why the model prefers `task.wanted.explain_target` for this site."""
