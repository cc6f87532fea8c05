"""The health of the agent and its engine over HTTP, for probes."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from logging import getLogger

log = getLogger(__name__)


@contextmanager
def serving_health(port: int, checks: Mapping[str, Callable[[], bool]]) -> Iterator[int]:
    """Answer each path with 200 or 503, in a thread, for as long as the context lasts. Port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            check = checks.get(self.path.partition("?")[0])
            status = 404 if check is None else 200 if check() else 503
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
            pass  # probes are not news

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True).start()
    log.info("health server listens", extra={"port": server.server_port})
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
