"""Here lives the small HTTP server that says whether a process is ready and alive, for orchestrators and balancers."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from continuum.errors import ConfigError

__all__ = ["StatusServer", "parse_address"]

_OK = 200
_NOT_FOUND = 404
_UNAVAILABLE = 503
_HIGHEST_PORT = 65_535


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``[::1]:PORT`` or ``:PORT`` (loopback). Raises ``ConfigError``."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > _HIGHEST_PORT:
        message = f"--http {text!r} is not valid: write HOST:PORT, for example 127.0.0.1:9090."
        raise ConfigError(message)
    return host.strip("[]") or "127.0.0.1", int(port)


class StatusServer:
    """Serves ``/ready`` and ``/live`` (200 or 503) and ``/status`` (JSON) on a thread of its own."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        ready: Callable[[], bool],
        live: Callable[[], bool],
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/ready":
                        self._say(_OK if ready() else _UNAVAILABLE, {"ready": ready()})
                    case "/live":
                        self._say(_OK if live() else _UNAVAILABLE, {"live": live()})
                    case "/status":
                        self._say(_OK, status())
                    case _:
                        self._say(_NOT_FOUND, {"paths": ["/ready", "/live", "/status"]})

            def _say(self, code: int, document: Mapping[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server passes
                """A probe every second is no news."""

        host, port = address
        try:
            self._server = ThreadingHTTPServer(address, Handler)
        except OSError as error:
            message = f"--http {host}:{port} cannot be served: {error.strerror or error}. Choose another port."
            raise ConfigError(message) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="continuum-http", daemon=True)

    @property
    def port(self) -> int:
        """The port in use; it was chosen by the system if 0 was asked for."""
        return self._server.server_port

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
