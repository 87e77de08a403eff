"""Here lives the patch effect: new code for new runs, old code for those that passed the place before."""

from asyncio import events as _events

from continuum.replay.loop import DeterministicLoop

__all__ = ["patched"]


def patched(patch: str) -> bool:
    """Whether this run takes the changed code.

    Write ``if patched("id"): new code, else: old code``. True in a run that reaches the place for the first time (that
    is recorded), and ever after in that run; False in a run whose history went on from here without it. One answer per
    id and run. Outside of workflows False.
    """
    loop = _events._get_running_loop()  # noqa: SLF001 - the public one raises where none runs
    if type(loop) is not DeterministicLoop:
        return False
    if not isinstance(patch, str) or not patch:
        message = f"patched() takes a text that names the change, not {patch!r}"
        raise TypeError(message)
    return loop.ledger.patched(patch)
