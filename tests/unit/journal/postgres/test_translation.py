"""Driver errors become ours once, by SQLSTATE; no other code knows one."""

import pickle

import psycopg
import psycopg2
import psycopg2.errors
import pytest
from sqlalchemy import exc

from continuum.errors import ConfigError, JournalBusy, JournalError, JournalUnavailable, SchemaOutdated
from continuum.journal.postgres.database import as_configured, translate

UNAVAILABLE = ["08006", "57P01", "57P02", "57P03", "25006", "28P01", "28000", "3D000"]
BUSY = ["40001", "40P01", "55P03", "53100", "53300", "57014"]
OUTDATED = ["42P01", "42703", "3F000"]
REFUSED = ["22P02", "23505", "21000", "54000", "42601", "XX000"]


class Coded(psycopg2.Error):
    """psycopg2 sets ``pgcode`` in C."""

    def __init__(self, code: str) -> None:
        super().__init__(f"ERROR with {code}\nDETAIL: more")
        self.code = code

    @property
    def pgcode(self) -> str:  # type: ignore[override]
        return self.code


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, JournalUnavailable) for code in UNAVAILABLE),
        *((code, JournalBusy) for code in BUSY),
        *((code, SchemaOutdated) for code in OUTDATED),
        *((code, JournalError) for code in REFUSED),
    ],
)
def test_each_code_has_its_error(code: str, kind: type[JournalError]) -> None:
    error = translate(Coded(code))
    assert type(error) is kind
    assert error.fields["sqlstate"] == code
    assert "DETAIL" not in error.message
    assert type(pickle.loads(pickle.dumps(error))) is kind


def test_a_connection_that_broke_has_no_code() -> None:
    assert type(translate(psycopg2.OperationalError("server closed the connection"))) is JournalUnavailable
    assert type(translate(psycopg2.InterfaceError("connection already closed"))) is JournalUnavailable


PREFIX = 'connection to server at "db" (10.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (f'{PREFIX}FATAL:  password authentication failed for user "me"', "28P01"),
        (f"{PREFIX}Connection refused\n{PREFIX}fe_sendauth: no password supplied", "28P01"),
        (f'{PREFIX}FATAL:  role "me" does not exist', "28000"),
        (f'{PREFIX}FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "me"', "28000"),
        (f'{PREFIX}FATAL:  database "shop" does not exist', "3D000"),
        (f"{PREFIX}FATAL:  the database system is starting up", None),
        (f"{PREFIX}FATAL:  sorry, too many clients already", None),
        (f"{PREFIX}Connection refused", None),
    ],
)
def test_a_refused_login_is_a_mistake_at_the_first_use_and_an_outage_later(said: str, code: str | None) -> None:
    error = translate(psycopg2.OperationalError(said))
    assert type(error) is JournalUnavailable
    assert error.fields["sqlstate"] == code
    assert type(as_configured(error, "db:5432/shop")) is (JournalUnavailable if code is None else ConfigError)


def test_errors_wrapped_by_sqlalchemy_are_looked_into() -> None:
    assert type(translate(exc.DBAPIError("select 1", {}, Coded("40P01")))) is JournalBusy


def test_errors_of_a_callers_psycopg_3_are_understood() -> None:
    assert type(translate(psycopg.errors.DeadlockDetected("deadlock"))) is JournalBusy
    assert type(translate(psycopg.OperationalError("gone"))) is JournalUnavailable


def test_an_exhausted_pool_is_busy() -> None:
    assert type(translate(exc.TimeoutError("QueuePool limit"))) is JournalBusy


def test_missing_tables_are_answered_with_the_command_to_run() -> None:
    assert "continuum migrate" in translate(Coded("42P01")).message
