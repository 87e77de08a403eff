"""Here live the effects that tell the outside how a run is doing: attributes to search by, and published values."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from continuum.errors import CodecError
from continuum.model.attributes import attributes_text
from continuum.model.codec import check_size, encode
from continuum.model.events import EventType
from continuum.model.names import MAX_NAME, check_effect_name
from continuum.replay.effects.base import current_loop

__all__ = ["MAX_PUBLISHED", "publish", "set_attributes"]

# Bytes. Progress is asked for often, and every value stays in the history.
MAX_PUBLISHED: Final = 64 * 1024

_SET: Final = EventType.ATTRIBUTES_SET
_PUBLISHED: Final = EventType.VALUE_PUBLISHED
_parse: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def set_attributes(attributes: Mapping[str, Any]) -> None:
    """Set some of the run's attributes, key by key, with the commit of this turn; others stay as they are.

    Children started from now on inherit them. They cannot be read in workflow code: clients may set them, too. Raises
    ``CodecError`` with the path of what is not JSON, or for more than 64 KiB, ``NotInWorkflow``.
    """
    loop = current_loop("set_attributes()")
    text = attributes_text(attributes)
    if text is None:
        message = "attributes must be a dict such as {'customer': 7}, not NoneType"
        raise CodecError(message, path="attributes")
    # Sorted: a search knows no order of keys, and code that collects them in a set must not drift by it.
    text = msgspec.json.encode(msgspec.json.decode(text), order="deterministic").decode()
    ledger = loop.ledger
    if ledger.issue(_SET, None, text) >= ledger.recorded_count:
        ledger.attributes.update(_parse(text))


def publish(name: str, value: Any) -> None:
    """Publish a value under a name, for ``progress()`` of clients: the last one counts. It passes through the codec.

    Raises ``CodecError`` for what cannot be stored, or takes more than 64 KiB; ``TypeError`` or ``ValueError`` for what
    cannot be a name (a text of 1 to 200 characters); ``NotInWorkflow``.
    """
    loop = current_loop("publish()")
    check_effect_name(name, "the name of what is published,", limit=MAX_NAME)
    payload = encode(value, where=f"published {name}")
    check_size(payload, MAX_PUBLISHED, f"published {name}")
    loop.ledger.issue(_PUBLISHED, name, payload)
