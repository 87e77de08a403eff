"""Here lives what callers hold: the instance, its calls, handles on runs, and waiting for results."""

from continuum.client.handles import AsyncRunHandle, RunHandle
from continuum.client.instance import Continuum

__all__ = ["AsyncRunHandle", "Continuum", "RunHandle"]
