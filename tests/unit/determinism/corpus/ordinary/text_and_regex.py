import re
import string
import textwrap
import unicodedata
from base64 import b64decode, b64encode
from hashlib import sha256

from continuum import workflow

from .support import notify

WORD = re.compile(r"\b(?P<first>\w)(?P<rest>\w*)\b")


def initials(text: str) -> str:
    return "".join(match["first"].upper() for match in WORD.finditer(text))


def slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


@workflow(name="ordinary.text")
async def text(title: str) -> str:
    template = string.Template("$name: $slug")
    body = textwrap.dedent(template.substitute(name=initials(title), slug=slug(title)))
    await notify(textwrap.shorten(body, 40))
    digest = sha256(body.encode("utf-8")).hexdigest()[:8]
    return "{} {:>10} {!r} %s".format(digest, title, b64decode(b64encode(b"x"))) % "end"
