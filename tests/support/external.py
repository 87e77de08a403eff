"""Here lives an instance whose activities go to an executor that the test owns."""

from typing import Any

from continuum import Continuum
from continuum.runtime.instance import Dispatcher
from continuum.runtime.transport import Transport

__all__ = ["External"]


class External(Continuum):
    """A Continuum whose dispatchers publish through ``transports``, by executor's name."""

    transports: dict[str, Transport | None]

    def dispatcher(self, *, activities: bool = True, **overrides: Any) -> Dispatcher:
        made = super().dispatcher(activities=activities, **overrides)
        return Dispatcher(
            made._settings,
            self.journal,
            self.registry,
            activities=activities,
            transports=lambda name: self.transports[name],
        )
