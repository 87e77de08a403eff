import json
import re

import msgspec
import jinja2

from .helpers import price


async def bad_untrusted(text):
    return jinja2.Template(text)  # !CT401


async def good_trusted(text, items):
    return json.loads(text), re.sub("a", "b", text), msgspec.json.decode(text), price(items), len(items)
