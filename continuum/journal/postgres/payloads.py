"""Here lives the boundary at which payloads take the form in which they are stored, and come back."""

import json
from collections.abc import Sequence

from continuum.model.codec import PayloadWrapper

__all__ = ["Payloads"]


class Payloads:
    """Wraps what is written and unwraps what is read; without a wrapper both are nothing at all."""

    __slots__ = ("_wrapper",)

    def __init__(self, wrapper: PayloadWrapper | None) -> None:
        self._wrapper = wrapper

    def wrap(self, payload: str | None) -> str | None:
        """Return what to store."""
        if self._wrapper is None or payload is None:
            return payload
        return self._wrapper.wrap(payload)

    def wrap_all(self, payloads: Sequence[str | None]) -> Sequence[str | None]:
        """Return what to store for a column."""
        if self._wrapper is None:
            return payloads
        return [self.wrap(payload) for payload in payloads]

    def read(self, stored: str | None) -> tuple[str | None, str | None]:
        """Return the payload, and None or why it cannot be had: one lost key must not hide what else was read."""
        if self._wrapper is None or stored is None:
            return stored, None
        try:
            return self._wrapper.unwrap(stored), None
        except Exception as error:  # noqa: BLE001 - a wrapper is the user's
            return None, f"a stored payload cannot be unwrapped: {type(error).__name__}: {error}"

    def read_or_mark(self, stored: str | None) -> str | None:
        """Return the payload, or one that fails to decode and says why."""
        payload, reason = self.read(stored)
        return payload if reason is None else json.dumps({"$unreadable": reason})

    def unwrap(self, stored: str | None) -> str | None:
        """Return the payload of what was stored."""
        if self._wrapper is None or stored is None:
            return stored
        return self._wrapper.unwrap(stored)
