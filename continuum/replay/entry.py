"""Here live the two values a replay is given: the code to run, and which run it is."""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from continuum.model.ids import ChainId, RunId

__all__ = ["Entry", "RunInfo"]


class Entry(msgspec.Struct, frozen=True):
    """One loaded version of a workflow, as far as replay has to know it.

    :ivar hash: fingerprint of the code.
    :ivar decode_input: payload of the input to (args, kwargs); raises ``CodecError``.
    :ivar encode_result: what the function returned to its payload; raises ``CodecError`` with the path.
    :ivar encode_input: (args, kwargs) of a call to the payload of an input; raises ``TypeError`` as the call would, and
        ``CodecError`` with the path.
    :ivar retention_us: how long an ended run is kept, in microseconds; None for ever. Replay does not look at it.
    :ivar signals: names of the signals it may wait for; None for any.
    """

    name: str
    version: int
    hash: str
    function: Callable[..., Coroutine[Any, Any, Any]]
    decode_input: Callable[[str], tuple[tuple[Any, ...], dict[str, Any]]]
    encode_result: Callable[[Any], str]
    retention_us: int | None = None
    encode_input: Callable[[tuple[Any, ...], dict[str, Any]], str] | None = None
    signals: frozenset[str] | None = None


class RunInfo(msgspec.Struct, frozen=True):
    """Which run the code is running in; what ``run_info()`` returns.

    :ivar chain_id: id of the first run of its continue-as-new chain.
    :ivar version: the declared version the run is pinned to.
    :ivar parent_id: the run that started it as a child; None if nobody did.
    """

    run_id: RunId
    chain_id: ChainId
    namespace: str
    workflow: str
    version: int
    parent_id: RunId | None = None
