"""Here lives the form in which payloads are stored, if that is not their own: compressed, encrypted, serialized."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from continuum.errors import CodecError
from continuum.model.tags import encode_json
from continuum.model.typed import read

__all__ = ["BytesWrapper", "PayloadWrapper"]


class PayloadWrapper(Protocol):
    """What happens to payloads on their way into the journal and out of it: compression, encryption, a serializer.

    Digests are taken before wrapping. Both directions return valid JSON.
    """

    @property
    def name(self) -> str:
        """Recorded with each payload, so that a reader knows what it needs."""

    def wrap(self, payload: str) -> str:
        """Return what is stored for a payload."""

    def unwrap(self, payload: str) -> str:
        """Return the payload for what is stored, and a payload that was stored without a wrapper as it is."""


@dataclass(frozen=True, slots=True)
class BytesWrapper:
    """A wrapper made of two functions over bytes; stored as ``{"$wrapped": ["name", "base64"]}``.

    Example: ``BytesWrapper("zlib", zlib.compress, zlib.decompress)``.
    """

    name: str
    forward: Callable[[bytes], bytes]
    backward: Callable[[bytes], bytes]

    def wrap(self, payload: str) -> str:
        """Return the stored form."""
        stored = base64.b64encode(self.forward(payload.encode())).decode()
        return encode_json({"$wrapped": [self.name, stored]}).decode()

    def unwrap(self, payload: str) -> str:
        """Return the payload; one that is not wrapped comes back as it is, so switching a wrapper on is safe.

        :raises CodecError: if another wrapper wrote it, or if the function over bytes fails.
        """
        # A value can never begin like this: a dict with such a key is written as $dict.
        if not payload.startswith('{"$wrapped"'):
            return payload
        name, stored = read(payload, _parse_wrapped).wrapped
        if name != self.name:
            raise CodecError(
                f"the payload was wrapped by {name!r}, and this process has {self.name!r}; "
                f"configure a codec that knows both until the last payload of {name!r} is gone",
                path="payload",
            )
        return read(stored, lambda text: self.backward(base64.b64decode(text)).decode())


class _Wrapped(msgspec.Struct, rename={"wrapped": "$wrapped"}):
    wrapped: tuple[str, str]


_parse_wrapped: Final = msgspec.json.Decoder(_Wrapped).decode
