"""Here lives what makes a statement of ours a statement of one schema: qualified names, prepared names, channels."""

import hashlib
import re
import shlex
from typing import Final, NamedTuple

from continuum.errors import ConfigError
from continuum.journal.postgres import tables

__all__ = ["Names", "Statement", "quoted"]

_TABLES: Final = sorted((*tables.metadata.tables, "continuum_events_default"), key=len, reverse=True)
_TABLE: Final = re.compile(rf"\b(?:{'|'.join(_TABLES)})\b")
_LONGEST_NAME: Final = 63  # bytes, NAMEDATALEN - 1


class Statement(NamedTuple):
    """A statement with numbered parameters, each cast where it stands: ``$1::uuid``. Tables are not qualified."""

    name: str
    sql: str

    def call(self, *arguments: str) -> str:
        """Return the text that executes it where it has been prepared; arguments are literals."""
        given = f"({', '.join(arguments)})" if arguments else ""
        return f"execute continuum_{self.name}{given}"


class Names:
    """How one schema is spelled in SQL."""

    def __init__(self, schema: str) -> None:
        if not schema or "\0" in schema or len(schema.encode(errors="replace")) > _LONGEST_NAME:
            raise ConfigError(f"schema={schema!r} is not valid: write the name of a Postgres schema, such as 'public'.")
        self.schema = schema
        self.quoted = quoted(schema)
        self.work_channel = _channel(schema, "work")
        self.done_channel = _channel(schema, "done")

    @property
    def migrate_advice(self) -> str:
        """What to do if the tables of this schema are missing or too old."""
        if self.schema == "public":
            return (
                "run `continuum migrate`; or, if your app keeps them in another schema, name the app (`-A yourapp`) or"
                " the schema (`--schema NAME`)"
            )
        return f"run `continuum migrate --schema {shlex.quote(self.schema)}`"

    def qualify(self, sql: str, schema: str | None = None) -> str:
        """Return the statement with every table of ours qualified, by the schema as it must be written here."""
        return _TABLE.sub(lambda found: f"{schema or self.quoted}.{found[0]}", sql)

    def prepare(self, statement: Statement) -> str:
        """Return the text that prepares a statement."""
        return f"prepare continuum_{statement.name} as {self.qualify(statement.sql)}"


def quoted(identifier: str) -> str:
    """Return an identifier as it is written in SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def _channel(schema: str, kind: str) -> str:
    name = f"continuum_{schema}_{kind}"
    if len(name.encode()) > _LONGEST_NAME:
        name = f"continuum_{hashlib.sha256(schema.encode()).hexdigest()[:32]}_{kind}"
    return name
