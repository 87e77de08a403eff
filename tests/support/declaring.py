"""A registry that forgets what a test declared."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from continuum.declare import checks
from continuum.declare.registry import REGISTRY


@contextmanager
def forgetting() -> Iterator[None]:
    """Forget at the end what the block declared: dispatchers of later tests would find it, and read its code.

    Modules that the block imported and that declare something are forgotten too: whoever imports them next declares
    it again.
    """
    activities = dict(REGISTRY._activities)
    workflows = {name: dict(versions) for name, versions in REGISTRY._workflows.items()}
    unfinished = set(checks._unfinished)
    modules = set(sys.modules)
    yield
    known = {id(activity) for activity in activities.values()}
    known |= {id(flow) for versions in workflows.values() for flow in versions.values()}
    for declared in [*REGISTRY.activities(), *REGISTRY.workflows()]:
        module = declared.place.partition(":")[0]
        if id(declared) not in known and module not in modules:
            sys.modules.pop(module, None)
    with REGISTRY._lock:
        REGISTRY._activities = activities
        REGISTRY._workflows = workflows
    for check in set(checks._unfinished) - unfinished:
        checks._unfinished.discard(check)
