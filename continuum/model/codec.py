"""Here lives the codec: values in, payloads (JSON text) out, and back, always the same value of the same types.

Every value that enters a history passes through here, also while it is live, so that workflow code sees on replay
exactly what it saw the first time. Single values: `encode`, `decode`, and `codec_for` where a hint is known. Calls:
`ArgumentsCodec`, which also makes ``charge("o", amount=3)`` and ``charge("o", 3)`` the same payload.

# Invariant: a value has one text, in every process and whatever PYTHONHASHSEED is; digests and drift checks compare
text.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from continuum.errors import CodecError
from continuum.model.hints import revive
from continuum.model.readers import neutral
from continuum.model.tags import TAG, encode_json, is_plain
from continuum.model.typed import ANY, UNENCODABLE, UNREADABLE, TypedCodec, codec_for, decode, encode, parse, read
from continuum.model.wrappers import BytesWrapper, PayloadWrapper

__all__ = [
    "ANY",
    "CODEC_VERSION",
    "ArgumentsCodec",
    "BytesWrapper",
    "PayloadWrapper",
    "TypedCodec",
    "check_size",
    "codec_for",
    "decode",
    "decode_arguments",
    "encode",
    "encode_arguments",
    "same_payload",
]

CODEC_VERSION: Final = 1
"""Recorded with every run; raise it when a release writes what an older one cannot read."""


class _Call(msgspec.Struct):
    args: list[msgspec.Raw]
    kwargs: dict[str, msgspec.Raw]


_parse_args: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_parse_call: Final = msgspec.json.Decoder(_Call).decode


def encode_arguments(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    codecs: Sequence[TypedCodec] | None = None,
    kw_codecs: Mapping[str, TypedCodec] | None = None,
    where: str = "arguments",
) -> str:
    """Return the payload of a call: a JSON array, or ``{"args": [...], "kwargs": {...}}`` if there are keywords.

    Arguments without a codec carry tags. Errors as in `encode`, with paths such as ``arguments[0].owner``.
    """
    known = len(codecs) if codecs else 0
    if not kwargs:
        # All of them in one go, if all are written as the encoder writes them.
        try:
            for index, value in enumerate(args):
                if index < known and codecs:
                    if not codecs[index].fits(value):
                        break
                elif type(value) is not str and not is_plain(value):
                    break
            else:
                text = encode_json(args).decode()
                if TAG not in text:
                    return text
        except UNENCODABLE:
            pass
    parts = [
        (codecs[index] if index < known and codecs else ANY).encode(value, where=f"{where}[{index}]")
        for index, value in enumerate(args)
    ]
    positional = f"[{','.join(parts)}]"
    if not kwargs:
        return positional
    named = []
    for name, value in kwargs.items():
        codec = ANY if kw_codecs is None else kw_codecs.get(name, ANY)
        named.append(f"{encode(name)}:{codec.encode(value, where=f'{where}[{encode(name)}]')}")
    return f'{{"args":{positional},"kwargs":{{{",".join(named)}}}}}'


def decode_arguments(
    payload: str,
    codecs: Sequence[TypedCodec] | None = None,
    kw_codecs: Mapping[str, TypedCodec] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments of a call that `encode_arguments` wrote.

    :raises CodecError: as `decode`.
    """
    named: dict[str, msgspec.Raw] = {}
    if payload.startswith("["):
        if not codecs and TAG not in payload:
            return tuple(read(payload, parse)), {}
        parts = read(payload, _parse_args)
    else:
        call = read(payload, _parse_call)
        parts, named = call.args, call.kwargs
    known = len(codecs) if codecs else 0
    args = tuple(
        (codecs[index] if index < known and codecs else ANY).decode(str(part, "utf-8"))
        for index, part in enumerate(parts)
    )
    by_name = kw_codecs or {}
    return args, {name: by_name.get(name, ANY).decode(str(part, "utf-8")) for name, part in named.items()}


_Loader = Callable[[str], tuple[Any, ...]]


class ArgumentsCodec:
    """How the calls of one function are checked, normalised and recorded. Get it from `for_signature`."""

    __slots__ = (
        "_codecs",
        "_extra",
        "_extra_named",
        "_fillable",
        "_least",
        "_load",
        "_loaders",
        "_most",
        "_named",
        "_names",
        "_needs_names",
        "_signature",
        "name",
    )

    def __init__(self, signature: inspect.Signature, hints: Mapping[str, Any], *, name: str) -> None:
        self.name = name
        self._signature = signature
        self._codecs: list[TypedCodec] = []  # of the positional parameters
        self._names: list[str] = []
        self._fillable = 0  # index of the first that may be given by name
        self._least, self._most = 0, 0.0  # how many positional arguments a call may have
        self._named: dict[str, TypedCodec] = {}  # whatever may be given by name
        self._needs_names = False  # a keyword-only parameter has no default
        self._extra: TypedCodec | None = None  # *args
        self._extra_named: TypedCodec | None = None  # **kwargs
        for parameter in signature.parameters.values():
            codec = codec_for(hints.get(parameter.name, Any))
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    self._extra = codec
                    self._most = math.inf
                case inspect.Parameter.VAR_KEYWORD:
                    self._extra_named = codec
                case inspect.Parameter.KEYWORD_ONLY:
                    self._named[parameter.name] = codec
                    self._needs_names |= parameter.default is inspect.Parameter.empty
                case kind:
                    self._codecs.append(codec)
                    self._names.append(parameter.name)
                    self._most += 1
                    self._least += parameter.default is inspect.Parameter.empty
                    if kind is inspect.Parameter.POSITIONAL_ONLY:
                        self._fillable += 1
                    else:
                        self._named[parameter.name] = codec
        self._loaders: dict[int, _Loader | None] = {}  # by number of arguments
        self._load: _Loader | None = None

    @classmethod
    def for_signature(cls, signature: inspect.Signature, hints: Mapping[str, Any], *, name: str = "function") -> Self:
        """Return the codec of a function's calls.

        :param hints: what ``typing.get_type_hints`` returns for the function; names it lacks have no hint.
        :param name: how messages call the function.
        """
        return cls(signature, hints, name=name)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call with as many as possible in their position. Defaults are not filled in.

        Keywords that remain stand in the order of the signature, extra ones (``**kwargs``) after them as given.

        :raises TypeError: as the call would.
        """
        if not kwargs:
            if self._least <= len(args) <= self._most and not self._needs_names:
                return args, {}
            return self._check(args, {})
        rest = dict(kwargs)
        placed = args
        if len(args) >= self._fillable:
            moved = []
            for name in self._names[len(args) :]:
                if name not in rest:
                    break
                moved.append(rest.pop(name))
            placed = (*args, *moved)
        if not rest:
            if self._least <= len(placed) <= self._most and not self._needs_names:
                return placed, {}
            return self._check(args, kwargs, placed)
        ordered = {name: rest.pop(name) for name in self._named if name in rest}
        return self._check(args, kwargs, placed, {**ordered, **rest})

    def _check(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        placed: tuple[Any, ...] | None = None,
        named: dict[str, Any] | None = None,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Let inspect judge the call as it was made, and return it as it is recorded."""
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        if len(args) < min(self._least, self._fillable):
            # Python 3.13.0 lets **kwargs swallow a positional-only parameter's name, and misses nothing then.
            raise TypeError(f"{self.name}() missing a required argument: {self._names[len(args)]!r}")
        return (args if placed is None else placed), named or {}

    def record(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], str]:
        """Bind a call, and return its arguments as they are recorded and its payload. Raises as `bind` and `encode`."""
        if not kwargs and self._least <= len(args) <= len(self._codecs) and not self._needs_names:
            # What nearly every call is. `encode` would come to the same, in three times the time.
            try:
                for codec, value in zip(self._codecs, args, strict=False):
                    if not codec.fits(value):
                        break
                else:
                    text = encode_json(args).decode()
                    if TAG not in text:
                        return args, kwargs, text
            except UNENCODABLE:
                pass
        bound, named = self.bind(args, kwargs)
        return bound, named, self.encode(bound, named)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, where: str = "arguments") -> str:
        """Return the payload of a call; bind it first. Errors as in `encode_arguments`."""
        return encode_arguments(
            args, kwargs, codecs=self._positional(len(args)), kw_codecs=self._by_name(kwargs), where=where
        )

    def decode(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a recorded call. Errors as in `decode`."""
        load = self._load
        if load is not None and TAG not in payload:
            try:
                return load(payload), {}
            except UNREADABLE:
                pass  # another number of arguments, keywords, or JSON that does not fit the hints
        args, kwargs = self._decode_each(payload)
        if not kwargs and TAG not in payload:
            # A function is mostly called in one way; the next call has probably as many arguments.
            count = len(args)
            if count not in self._loaders:
                self._loaders[count] = self._loader(count)
            self._load = self._loaders[count]
        return args, kwargs

    def from_plain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return plain JSON arguments as the hints want them. Raises ``TypeError`` naming a parameter."""
        placed, named = self.bind(args, kwargs)
        names = [*self._names, *(f"*{index}" for index in range(len(self._names), len(placed)))]
        codecs, by_name = self._positional(len(placed)), self._by_name(named)
        return (
            tuple(_from_plain(codec, value, name) for codec, value, name in zip(codecs, placed, names, strict=False)),
            {name: _from_plain(by_name[name], value, name) for name, value in named.items()},
        )

    def _decode_each(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if payload.startswith("["):
            count = len(read(payload, _parse_args)) if self._extra else 0
            return decode_arguments(payload, self._positional(count))
        call = read(payload, _parse_call)
        return decode_arguments(payload, self._positional(len(call.args)), self._by_name(call.kwargs))

    def _positional(self, count: int) -> Sequence[TypedCodec]:
        extra = count - len(self._codecs)
        return self._codecs if extra <= 0 or self._extra is None else [*self._codecs, *[self._extra] * extra]

    def _by_name(self, names: Mapping[str, Any]) -> Mapping[str, TypedCodec]:
        if self._extra_named is None:
            return self._named
        return {name: self._named.get(name, self._extra_named) for name in names}

    def _loader(self, count: int) -> _Loader | None:
        codecs = self._positional(count)[:count]
        for codec in codecs:
            codec.prepare()
        if not codecs or len(codecs) < count:
            return None
        # Built at run time from the hints, so no type checker can follow it.
        shape: Any = tuple
        shape = shape[tuple(codec.hint if codec.closed else Any for codec in codecs)]
        loader: _Loader = msgspec.json.Decoder(shape, dec_hook=revive).decode
        return loader

    def same(self, recorded: str, fresh: str) -> bool:
        """Say whether two payloads are the same call, also where hints, classes or defaults of fields have changed."""
        if same_payload(recorded, fresh):
            return True
        try:
            return same_payload(self.encode(*self.bind(*self.decode(recorded))), fresh)
        except UNREADABLE:
            return False


def _from_plain(codec: TypedCodec, value: Any, name: str) -> Any:
    return codec.from_plain(encode_json(value).decode(), what=f"parameter {name!r}")


def same_payload(recorded: str, fresh: str) -> bool:
    """Say whether two payloads record one value, whichever form, formatting or release they were written in.

    Tags are not compared: a hint that was added and a class that has moved are no drift. (So a Decimal and a str of
    the same text, or a tuple and a list of the same items, count as the same.) Never raises.
    """
    if recorded == fresh:
        return True
    try:
        before, now = read(recorded, parse), read(fresh, parse)
        if encode(neutral(before)) == encode(neutral(now)):
            return True
        return encode(decode(recorded)) == encode(decode(fresh))
    except UNREADABLE:
        return False


def check_size(payload: str, limit: int, where: str) -> None:
    """Refuse a payload that is too large for the journal.

    :param limit: in bytes of UTF-8.
    :raises CodecError: naming the size and the limit.
    """
    if len(payload) * 4 <= limit:  # no character takes more
        return
    size = len(payload) if payload.isascii() else len(payload.encode())
    if size > limit:
        raise CodecError(
            f"{where} takes {size:,} bytes as JSON, more than the limit of {limit:,}; "
            "store it elsewhere (a table, an object store) and pass a reference",
            path=where,
        )
