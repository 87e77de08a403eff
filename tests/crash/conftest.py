"""Here live the fixtures of the crash tests: a client of the application that is killed, and its ledger."""

from collections.abc import Iterator

import psycopg2
import pytest

from continuum import Continuum
from tests.support.crash_app import LEDGER


@pytest.fixture
def continuum(database_url: str) -> Iterator[Continuum]:
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(LEDGER)
    connection.close()
    with Continuum(database_url, modules=["tests.support.crash_app"]) as instance:
        yield instance
