"""Here lives the codec of one value: with a hint (`TypedCodec`) and without (`encode`, `decode`).

There are two forms. The *tagged* form (`tags`) describes itself and needs no hint. The *typed* form is plain JSON
read back by a type hint; it survives a class that is renamed or moved, and is used only where the hint brings back the
very same value (`hints`). A reader takes both.

What does not fit its hint is delivered as it was passed, not converted: ``f(3)`` for ``f(amount: float)`` receives
the int 3. Plain JSON from somebody who knew no hint (a webhook, a client that starts a workflow by name) is converted
to the hint if that works.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from continuum.errors import CodecError
from continuum.model import hints
from continuum.model.readers import untag
from continuum.model.tags import TAG, encode_json, encode_tagged, is_plain

__all__ = ["ANY", "UNENCODABLE", "UNREADABLE", "TypedCodec", "codec_for", "decode", "encode", "parse", "read"]

T = TypeVar("T")

parse: Final = msgspec.json.Decoder().decode

# What the JSON encoder raises for what its callers did not look for, and `encode_tagged` then names with its path:
# lone surrogates, integers of thousands of digits, nesting beyond the interpreter's stack.
UNENCODABLE: Final = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)

# What reading a payload can raise that was not written by this codec, or was written for other classes. Constructors
# of users' classes run here, so anything may come; it must not end the dispatcher.
UNREADABLE: Final = (Exception,)


def encode(value: Any, *, where: str = "value") -> str:
    """Return the payload of a value, in the form that needs no hint.

    :param where: the name under which messages speak of the value, such as ``result``.
    :raises CodecError: with the path of the part that cannot be recorded.
    """
    try:
        if is_plain(value):
            text = encode_json(value).decode()
            if TAG not in text:
                return text
    except UNENCODABLE:
        pass
    return encode_tagged(value, where).decode()


def decode(payload: str) -> Any:
    """Return the value of a payload that `encode` wrote.

    :raises CodecError: if it is no JSON, or holds a class that is not loaded or a tag that is not known.
    """
    try:
        if TAG not in payload:
            return parse(payload)
    except UNREADABLE:
        pass  # `read` says what is wrong
    return read(payload, _untag_text)


def _untag_text(payload: str, *, classes: bool = True) -> Any:
    return untag(parse(payload), classes=classes)


def read(payload: str, reader: Callable[[str], T]) -> T:
    """Call the reader; whatever it raises becomes a `CodecError`."""
    try:
        return reader(payload)
    except CodecError:
        raise
    except UNREADABLE as error:
        raise CodecError(f"the payload cannot be read: {str(error) or type(error).__name__}", path="payload") from error


class TypedCodec:
    """The codec of one hint. Get it from `codec_for`; it looks at the hint when it is first used.

    (At declaration time a forward reference may name a class that does not exist yet.)
    """

    __slots__ = ("_load", "closed", "fits", "hint")

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        self.closed = False  # whether the hint names a type
        self.fits: hints.Check = self._first_fits  # whether a value is written as the JSON encoder writes it
        self._load: Callable[[str], Any] = self._first_load

    def __repr__(self) -> str:
        return f"TypedCodec({self.hint!r})"

    def encode(self, value: Any, *, where: str = "value") -> str:
        """Return the payload of a value. Arguments and errors as in the function `encode`."""
        try:
            if self.fits(value):
                text = encode_json(value).decode()
                if TAG not in text:
                    return text
        except UNENCODABLE:
            pass
        return self._encode_with_care(value, where)

    def decode(self, payload: str) -> Any:
        """Return the value of a payload, whichever form it has. Errors as in the function `decode`."""
        if TAG not in payload:
            try:
                return self._load(payload)
            except UNREADABLE:
                if not self.closed:
                    return decode(payload)  # which raises
        return self._decode_with_care(payload)

    def from_plain(self, payload: str, *, what: str) -> Any:
        """Return the value of JSON that a person wrote, where `decode` would deliver what does not fit as it is.

        :param what: how the message calls the value, such as ``parameter 'amount'``.
        :raises TypeError: naming the hint, if the hint is a type and the value cannot be one of it.
        """
        self.prepare()
        if not self.closed or TAG in payload:
            return self.decode(payload)
        try:
            return self._load(payload)
        except UNREADABLE as error:
            wanted = self.hint.__name__ if isinstance(self.hint, type) else str(self.hint)
            raise TypeError(f"{what} must be {wanted}, and {payload[:100]} is not: {error}") from None

    def prepare(self) -> None:
        """Look at the hint, unless that has been done."""
        if self._load == self._first_load:
            try:
                check = hints.check_for(self.hint)
                load = msgspec.json.Decoder(self.hint, dec_hook=hints.revive).decode
                self.closed = True
            except Exception:  # noqa: BLE001 - whatever a hint may be, values can carry tags instead
                check, load = is_plain, parse
            self.fits = check or _never
            self._load = load

    def _first_fits(self, value: Any) -> bool:
        self.prepare()
        return self.fits(value)

    def _first_load(self, payload: str) -> Any:
        self.prepare()
        return self._load(payload)

    def _encode_with_care(self, value: Any, where: str) -> str:
        if not self.closed:
            return encode_tagged(value, where).decode()
        # Refuses what must be refused, and says what has to come back.
        meant = encode_tagged(value, where, portable=False)
        try:
            text = encode_json(hints.natural(value)).decode()
        except UNENCODABLE:
            text = TAG
        if TAG not in text and self._brings_back(text, meant):
            return text
        text = encode_tagged(value, where).decode()
        return text if self._brings_back(text, meant) else f'{{"$value":{text}}}'

    def _brings_back(self, text: str, meant: bytes) -> bool:
        try:
            return encode_tagged(self.decode(text), "value", portable=False) == meant
        except UNREADABLE:
            return False

    def _decode_with_care(self, payload: str) -> Any:
        self.prepare()
        try:
            value = decode(payload)
        except CodecError:
            # The class may have moved; the hint knows where it is now.
            if not self.closed or TAG not in payload:
                raise
            try:
                return self._convert(_untag_text(payload, classes=False))
            except UNREADABLE:
                pass
            raise
        if self.closed and type(value) in (dict, list) and not payload.startswith('{"$value"'):
            try:
                return self._convert(value)
            except UNREADABLE:
                pass
        return value

    def _convert(self, value: Any) -> Any:
        return msgspec.convert(value, self.hint, dec_hook=hints.revive)


def _never(_value: Any) -> bool:
    return False


ANY: Final = TypedCodec(Any)
"""The codec that knows no hint."""

_codecs: Final[dict[Any, TypedCodec]] = {Any: ANY, inspect.Parameter.empty: ANY}


def codec_for(hint: Any) -> TypedCodec:
    """Return the codec of a hint; one and the same for equal hints. Never fails: a hint it cannot use is ignored."""
    try:
        codec = _codecs.get(hint)
        if codec is None:
            codec = _codecs[hint] = TypedCodec(hint)
    except TypeError:  # unhashable, such as Annotated[int, []]
        codec = TypedCodec(hint)
    return codec
