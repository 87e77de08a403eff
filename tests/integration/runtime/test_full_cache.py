"""A full cache gives runs back for what a claim has brought, not for what it might have."""

from continuum import Continuum
from continuum.journal.protocol import Journal
from continuum.journal.requests import ReleaseRequest, Request
from continuum.model.runs import RunState
from tests.integration.runtime import flows
from tests.integration.runtime.test_disasters import SETTINGS
from tests.support.eventually import eventually
from tests.support.watched import WatchedJournal

WAIT = 20
CACHED = 20


def test_a_full_cache_gives_back_only_as_many_runs_as_came_in(journal: Journal) -> None:
    watched = WatchedJournal(journal)
    released: list[int] = []

    def note(request: Request) -> None:
        if isinstance(request, ReleaseRequest):
            released.append(len(request.grants))

    watched.veto = note
    with Continuum(journal=watched, **SETTINGS) as instance, instance.running(cached_runs=CACHED) as dispatcher:
        parked = [instance.start(flows.wait_for_approval, 86_400) for _ in range(CACHED)]
        eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in parked), WAIT)
        assert dispatcher.status()["runs_in_memory"] == CACHED
        # Hints and polls make it claim again and again; there is nothing to be found.
        before = watched.sent["ClaimRequest"]
        dispatcher._turns.mailed()
        eventually(lambda: watched.sent["ClaimRequest"] > before, WAIT)
        assert sum(released) == 0
        more = [instance.start(flows.wait_for_approval, 86_400) for _ in range(3)]
        eventually(lambda: all(handle.refresh().state == RunState.SUSPENDED for handle in more), WAIT)
        eventually(lambda: sum(released) == 3, WAIT)
        assert dispatcher.status()["runs_in_memory"] == CACHED
        for handle in (*parked, *more):
            handle.signal("approval", "yes")
        assert [handle.result(timeout=WAIT) for handle in (*parked, *more)] == ["yes"] * (CACHED + 3)
