"""Sessions kept at hand: alive ones, few of them, none after the end."""

import socket
from collections.abc import Iterator

import pytest

from continuum.journal.postgres.names import Names
from continuum.journal.postgres.sessions import KEPT, Kept, Lent


class Connection:
    closed = 0

    def __init__(self) -> None:
        self.here, self.server = socket.socketpair()

    def fileno(self) -> int:
        return self.here.fileno()


class Fairy:
    """What SQLAlchemy's pool lends."""

    def __init__(self) -> None:
        self.dbapi_connection = Connection()
        self.info: dict[str, object] = {}
        self.said: list[str] = []

    def invalidate(self) -> None:
        self.said.append("invalidate")

    def close(self) -> None:
        self.said.append("close")


@pytest.fixture
def fairies() -> Iterator[list[Fairy]]:
    made = [Fairy() for _ in range(KEPT + 1)]
    yield made
    for one in made:
        one.dbapi_connection.here.close()
        one.dbapi_connection.server.close()


def lent(fairy: Fairy) -> Lent:
    return Lent(fairy, Names("public"))


def test_the_last_one_used_is_taken_first(fairies: list[Fairy]) -> None:
    kept = Kept()
    sessions = [lent(fairy) for fairy in fairies[:2]]
    for session in sessions:
        kept.put(session)
    assert [kept.take(), kept.take(), kept.take()] == [*reversed(sessions), None]


def test_one_too_many_goes_back_to_the_pool(fairies: list[Fairy]) -> None:
    kept = Kept()
    for fairy in fairies:
        kept.put(lent(fairy))
    assert [fairy.said for fairy in fairies] == [[]] * KEPT + [["close"]]


@pytest.mark.parametrize("ending", ["said farewell", "hung up", "closed here"])
def test_a_dead_one_is_not_lent_but_dropped(fairies: list[Fairy], ending: str) -> None:
    kept = Kept()
    alive, dead = fairies[:2]
    for fairy in (alive, dead):
        kept.put(lent(fairy))
    if ending == "said farewell":
        dead.dbapi_connection.server.send(b"E")
    elif ending == "hung up":
        dead.dbapi_connection.server.close()
    else:
        dead.dbapi_connection.closed = 1
    found = kept.take()
    assert found is not None
    assert found.fairy is alive
    assert dead.said == ["invalidate", "close"]
    assert alive.said == []


def test_a_closed_one_is_not_kept(fairies: list[Fairy]) -> None:
    kept = Kept()
    fairies[0].dbapi_connection.closed = 1
    kept.put(lent(fairies[0]))
    assert fairies[0].said == ["close"]
    assert kept.take() is None


def test_after_the_end_all_go_back(fairies: list[Fairy]) -> None:
    kept = Kept()
    first, second = (lent(fairy) for fairy in fairies[:2])
    kept.put(first)
    kept.close()
    kept.put(second)  # it was lent meanwhile
    assert [fairy.said for fairy in fairies[:2]] == [["close"], ["close"]]
    assert kept.take() is None


def test_it_remembers_what_was_prepared_on_the_connection(fairies: list[Fairy]) -> None:
    lent(fairies[0]).prepared.add("start")
    assert lent(fairies[0]).prepared == {"start"}
