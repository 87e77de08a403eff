"""The status server: two probes and a document."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from continuum import ConfigError
from continuum.cli.http import StatusServer, parse_address


class Process:
    ready = True
    live = True


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def server(process: Process) -> Iterator[StatusServer]:
    made = StatusServer(
        ("127.0.0.1", 0), ready=lambda: process.ready, live=lambda: process.live, status=lambda: {"runs": 3}
    )
    made.start()
    yield made
    made.close()


def get(server: StatusServer, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_probes_answer_with_their_code(server: StatusServer, process: Process) -> None:
    assert get(server, "/ready") == (200, {"ready": True})
    assert get(server, "/live?verbose=1") == (200, {"live": True})
    process.ready = process.live = False
    assert get(server, "/ready") == (503, {"ready": False})
    assert get(server, "/live") == (503, {"live": False})


def test_status_is_a_document_and_the_rest_is_not_there(server: StatusServer) -> None:
    assert get(server, "/status") == (200, {"runs": 3})
    assert get(server, "/etc/passwd")[0] == 404


def test_a_port_in_use_is_an_error_that_names_it(server: StatusServer) -> None:
    with pytest.raises(ConfigError, match=str(server.port)):
        StatusServer(("127.0.0.1", server.port), ready=lambda: True, live=lambda: True, status=dict)


def test_closing_frees_the_port(server: StatusServer) -> None:
    port = server.port
    server.close()
    other = StatusServer(("127.0.0.1", port), ready=lambda: True, live=lambda: True, status=dict)
    other.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9090", ("127.0.0.1", 9090)),
        (":80", ("127.0.0.1", 80)),
        ("[::1]:9", ("::1", 9)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["9090", "host", "host:http", "host:70000", "host:-1", ""])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)
