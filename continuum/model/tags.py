"""Here lives the self-describing form of values: plain JSON where JSON suffices, tags where it does not.

A tag is an object with one key that begins with ``$``::

    {"$decimal": "1.50"}    {"$tuple": [1, 2]}    {"$dict": [[1, "a"]]}    {"$class": ["shop:Order", {"id": 7}]}

Inside a tag stands what msgspec writes for that type when it knows the type from a hint, so the tagged and the typed
form of a value differ by the tags only (`neutral` removes them). A dict that could be mistaken for a tag (its first
key begins with ``$``) is written as ``$dict``. The text ``{"$`` therefore occurs in a payload if and only if the
payload holds a tag: inside a JSON string the quote would be escaped. One substring search replaces a walk.

Kept exactly: the type of every value, order of dicts, offset and instant of datetimes. Not kept: the name of a time
zone (the offset is), identity (two references to one list come back as two lists), attributes that are no fields.

# Invariant: a value has one text, in every process. Sets are sorted by their encoded elements.
# Invariant: reading never imports and never runs code that a payload chose: classes are looked up in modules that
are already loaded, and must be plain carriers of data.
"""

import base64
import dataclasses
import inspect
import io
import math
import socket as _socket
import sys
import types
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from typing import Any, NoReturn
from uuid import UUID

import msgspec

from continuum.errors import CodecError
