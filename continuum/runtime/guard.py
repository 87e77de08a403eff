"""Here lives what the tripwire is told of replay: where workflow code begins, and where nothing is forbidden."""

from typing import Final

from continuum.declare.registry import Registry
from continuum.determinism.tripwire import Stage, install
from continuum.model.failures import describe_exception
from continuum.replay.effects.values import side_effect
from continuum.replay.eviction import evict_loop
from continuum.replay.execution import Execution
from continuum.replay.loop import ENTERED, DeterministicLoop, guarded_loop
from continuum.replay.texts import spell

__all__ = ["guard_workflows"]

_STAGE: Final = Stage(
    entered=ENTERED,
    current=guarded_loop,
    stops=(
        DeterministicLoop.drain.__code__,
        Execution.replay.__code__,
        Execution.deliver.__code__,
        Execution.terminate.__code__,
        evict_loop.__code__,
    ),
    # The predicates of wait_until() and a handler of errors may be library functions, called by nobody else.
    steppers=(DeterministicLoop.check.__code__, DeterministicLoop.call_exception_handler.__code__),
    # What comes of these is recorded, or reaches no history at all.
    shields=(side_effect.__code__, spell.__code__, describe_exception.__code__),
)


def guard_workflows(registry: Registry) -> None:
    """Stretch the tripwire in this process, for the runs whose executions are guarded. Cheap when done before."""
    modules = {flow.entry.function.__module__ for flow in registry.workflows()}
    install(_STAGE, packages={module.partition(".")[0] for module in modules} - {"continuum"})
