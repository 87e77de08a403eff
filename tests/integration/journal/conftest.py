"""Journals on Postgres alone: what the other wing cannot show."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from continuum.journal.open import open_journal
from tests.support.journals import Desk


def unlocked(_run_id: str) -> Any:
    raise NotImplementedError("these tests lock rows by themselves")


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """Yield a desk on a Postgres journal."""
    with closing(open_journal(database_url)) as journal:
        made = Desk(journal, wing="postgres", locked=unlocked)
        yield made
        made.close()


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[..., Any]]:
    """Open plain connections to the test's database, in a transaction unless asked otherwise; all are closed."""
    opened = []

    def connect(*, autocommit: bool = False) -> Any:
        connection = psycopg2.connect(database_url)
        connection.autocommit = autocommit
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def sql(connect: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Execute one statement as an operator would, and return its rows."""

    def execute(statement: str, *values: Any) -> list[Any]:
        connection = connect(autocommit=True)
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    return execute
